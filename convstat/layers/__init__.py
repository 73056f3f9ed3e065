"""The vocabulary: one class per layer kind, one file per family.

``KINDS`` is the one table that the spec, the schema, ``convstat list layers``, the documentation and the tests read.
A layer kind is an attribute of this package too: ``layers.Conv2d``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from convstat.formulas.cost import Cost
from convstat.layers import (
    activation,
    attention,
    conv,
    learned,
    linear,
    merge,
    norm,
    pad,
    pool,
    recurrent,
    reshape,
    resize,
)
from convstat.layers.base import Layer

FAMILIES = (conv, linear, norm, activation, pool, resize, pad, reshape, attention, recurrent, learned, merge)
"""The families in the order in which they are listed."""


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


def __getattr__(name: str) -> Any:
    """Find a layer kind by the name of its class."""
    try:
        return KINDS[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


__all__ = ["FAMILIES", "KINDS", "NAMES", "Cost", "Layer"]
