"""The spec language: YAML text -> a graph with every size known.

``load`` reads marks, ``compile`` and ``items`` resolve names and expressions, ``expand`` works out sizes.
"""

from convstat.spec.spec import Measured, Spec, read

__all__ = ["Measured", "Spec", "read"]
