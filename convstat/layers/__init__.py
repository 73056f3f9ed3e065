"""The vocabulary: one class per layer kind, one file per family.

``KINDS`` is the one table that the spec, the schema, ``convstat list layers``, the documentation and the tests read.
"""

from __future__ import annotations

from types import MappingProxyType

from convstat.layers import conv
from convstat.layers.base import Cost, Layer
from convstat.layers.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

FAMILIES = (conv,)


def _table() -> dict[str, type[Layer]]:
    table: dict[str, type[Layer]] = {}
    for family in FAMILIES:
        for kind in family.LAYERS:
            for name in (kind.kind(), *kind.aliases):
                if name in table:
                    raise RuntimeError(f"two layer kinds are called {name!r}: {table[name]} and {kind}")
                table[name] = kind
    return table


NAMES = MappingProxyType(_table())
"""Every name that a spec may use for a layer kind, aliases included."""

KINDS = MappingProxyType({name: kind for name, kind in NAMES.items() if name == kind.kind()})
"""Every layer kind by its own name."""

__all__ = [
    "FAMILIES",
    "KINDS",
    "NAMES",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Cost",
    "Layer",
]
