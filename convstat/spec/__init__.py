"""The spec language: YAML text becomes a graph with every size known, and no torch is imported.

``load`` makes a tree of scalars with their places. ``compile`` reads the keys of a file and ``items`` its lists of
layers and blocks into a ``plan``, in which each value is an expression (``values``, ``expressions``).
``expand`` evaluates them, with ``overrides``, into a ``fragment`` of layers, which ``spec`` lays flat as a graph;
``parts`` does so for each part of a model in parts.
"""

from convstat.spec.parts import read
from convstat.spec.spec import Measured, Spec

__all__ = ["Measured", "Spec", "read"]
