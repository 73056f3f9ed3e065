"""The vocabulary: one class per layer kind, one file per family.

``KINDS`` is the one table that the spec, the schema, ``convstat list layers``, the documentation and the tests read.
A layer kind is an attribute of this package too: ``layers.Conv2d``.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Any

from convstat.errors import UsageError
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
from convstat.patches.plugins import MEND, offered

FAMILIES = (conv, linear, norm, activation, pool, resize, pad, reshape, attention, recurrent, learned, merge)
"""The families in the order in which they are listed."""

GROUP = "convstat.layers"
"""The entry point group in which other packages offer layer kinds: a subclass of :class:`Layer` under its own name."""

_names: dict[str, type[Layer]] = {}
_kinds: dict[str, type[Layer]] = {}

NAMES = MappingProxyType(_names)
"""Every name that a spec may use for a layer kind, aliases included."""

KINDS = MappingProxyType(_kinds)
"""Every layer kind by its own name."""


def add_kind(kind: type[Layer], place: str) -> None:
    """Register a layer kind; ``place`` is its location in error messages.

    Raises ValueError if a required member is missing, or if another kind has one of its names.
    """
    name = kind.kind()
    missing = [
        (not kind.family, "family: the heading that `convstat list layers` shows it under"),
        (not kind.__doc__, "docstring: its first sentence describes the kind"),
        *((method in kind.__abstractmethods__, f"{method}()") for method in ("output_shape", "cost")),
    ]
    if lacks := [what for is_missing, what in missing if is_missing]:
        raise ValueError(f"{place}: the layer kind {name} has no {'; no '.join(lacks)}")
    for word in (name, *kind.aliases):
        if word in _names:
            raise ValueError(f"{place}: two layer kinds are called {word!r}: {_names[word]} and {kind}")
    _kinds[name] = kind
    _names.update(dict.fromkeys((name, *kind.aliases), kind))


def _add_ours() -> None:
    """Add the public classes of each family, and those of its tables, in the order in which they stand there."""
    for family in FAMILIES:
        place = f"convstat/layers/{family.__name__.rpartition('.')[2]}.py"
        for value in vars(family).values():
            for kind in value if isinstance(value, tuple) else (value,):
                is_own = isinstance(kind, type) and issubclass(kind, Layer) and kind.__module__ == family.__name__
                if is_own and not kind.__name__.startswith("_"):
                    add_kind(kind, place)


_add_ours()


@cache
def load_plugins() -> None:
    """Add the layer kinds of installed packages, once: when a name is none of ours, or all kinds are listed.

    Raises UsageError for one that cannot be loaded, or is none.
    """
    for name, place, kind in offered(GROUP, Layer):  # type: ignore[type-abstract]
        try:
            if kind.kind() != name:
                raise ValueError(f"{place} is the layer kind {kind.kind()}: an entry point is named as its kind")
            add_kind(kind, place)
        except ValueError as error:
            raise UsageError(str(error), help=MEND) from error


def __getattr__(name: str) -> Any:
    """Find a layer kind by the name of its class."""
    try:
        return KINDS[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


__all__ = ["FAMILIES", "GROUP", "KINDS", "NAMES", "Cost", "Layer", "add_kind", "load_plugins"]
