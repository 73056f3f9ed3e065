"""What is still looked at after a mistake, so that one run finds every one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from convstat.errors import LayerError
from convstat.layers.base import Layer
from convstat.spec.fragment import Leaf
from convstat.spec.groups import UnknownError, Values
from convstat.spec.overrides import Patch
from convstat.spec.plan import Item, LayerCall
from convstat.spec.scalars import Value
from convstat.spec.values import types_of

if TYPE_CHECKING:
    from convstat.spec.body import Body
    from convstat.spec.expand import Run


def after_mistake(body: Body, item: Item, values: Values, prefix: str, wire: int, patch: Patch) -> int:
    """Report what else is wrong with an item: the names that it takes, and how often it is repeated."""
    with suppress(UnknownError):
        body.sources(item, prefix, wire)
    if item.share is not None:
        with suppress(UnknownError):
            body.find(item.share, prefix)
    if item.repeat is not None:
        with suppress(UnknownError):
            body.times(item, item.repeat, values, wire, patch)
    return body.unknown()


def likely(
    run: Run,
    error: LayerError,
    action: LayerCall,
    names: tuple[str, ...],
    given: tuple[Value, ...],
    shapes: tuple[Any, ...],
) -> Leaf | None:
    """The layer without the argument at fault, where its output has the same shape: what follows is looked at."""
    if error.argument not in names or error.argument not in without_shape(action.kind):
        return None
    kept = {name: value for name, value in zip(names, given, strict=True) if name != error.argument}
    kind = action.kind
    known_by = (kind.kind(), tuple(kept), tuple(kept.values()), types_of(tuple(kept.values())))
    try:
        return run.leaf(kind, known_by, tuple(kept), tuple(kept.values()), shapes)
    except LayerError:
        return None


def without_shape(kind: type[Layer]) -> tuple[str, ...]:
    """The arguments on which the shape of the output does not depend: those that follow from the input, and groups."""
    return tuple(name for name, spec in kind.arguments.items() if spec.infer is not None or name == "groups")
