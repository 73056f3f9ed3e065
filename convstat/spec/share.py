"""Layers that use the weights of others: the arguments they borrow, and whether the weights fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.spec.fragment import Leaf, find
from convstat.spec.groups import UnknownError
from convstat.spec.plan import Item, LayerCall
from convstat.spec.scalars import Value

if TYPE_CHECKING:
    from convstat.spec.body import Body


def borrowed(body: Body, owner: int, item: Item, action: LayerCall) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    """The arguments of the layer whose weights are used again."""
    leaf = leaf_of(body, owner)
    if leaf is None:
        return (), ()
    if type(leaf.layer) is not action.kind:
        body.run.explain.other_kind(item.share, leaf.layer.kind(), action.kind.kind())
        raise UnknownError
    written = {name: tuple(value) if isinstance(value, list) else value for name, value in leaf.layer.written().items()}
    return tuple(written), tuple(written.values())


def leaf_of(body: Body, wire: int) -> Leaf | None:
    """The layer that delivers a wire, or None where it is an input or a block."""
    value = body.wires[wire]
    if value.part < 0 or value.shape is None:
        return None
    content = body.fragment.parts[value.part].content
    if isinstance(content, Leaf):
        return content
    return find(content, value.inner)[2] if value.inner else None


def check_owner(body: Body, item: Item, leaf: Leaf, owner: int) -> None:
    """Refuse to use weights again in a layer that they do not fit."""
    first = leaf_of(body, owner)
    assert item.share is not None
    if first is None:
        if body.wires[owner].shape is not None:
            body.run.problems.add(f"'{item.share.name}' is not a single layer", item.share.mark)
        raise UnknownError
    if type(first.layer) is not type(leaf.layer) or dict(first.layer.parameters()) != dict(leaf.layer.parameters()):
        body.run.explain.share(item.share, first, leaf)
        raise UnknownError
