"""Residuals and parallel paths: bodies whose ends are merged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convstat.formulas.cost import Shape
from convstat.spec.overrides import Patch
from convstat.spec.plan import Item, Parallel, Residual
from convstat.spec.scalars import Value

if TYPE_CHECKING:
    from convstat.spec.body import Body

Values = Mapping[str, Value]

NO_PATCH: Patch = {}


class UnknownError(Exception):
    """Something that a mistake already reported has left without a value."""


def residual(body: Body, item: Item, action: Residual, values: Values, path: str, wire: int, patch: Patch) -> int:
    """Expand a body and what is added to it."""
    end = body.items(action.body, values, f"{path}.", wire, patch)
    before, after = body.wires[wire].shape, body.wires[end].shape
    if before is None or after is None:
        if action.shortcut == "layers":
            body.items(action.shortcut_items, values, f"{path}.shortcut.", wire, patch.get("shortcut", NO_PATCH))
        raise UnknownError
    side = wire
    if action.shortcut == "same":
        if before != after:
            return end
    elif action.shortcut == "layers":
        side = body.items(action.shortcut_items, values, f"{path}.shortcut.", wire, patch.get("shortcut", NO_PATCH))
        body.names[f"{path}.shortcut"] = side
    elif action.shortcut == "project" and before != after:
        side = project(body, item, action, values, path, wire, after)
    if body.wires[side].shape is None:
        raise UnknownError
    if body.wires[side].shape != after:
        body.run.explain.residual(action, body.fragment, side, end)
        return end  # what follows was most likely written for what the body gives
    return body.made("Add", {}, item, f"{path}.add", (end, side), values)


def project(body: Body, item: Item, action: Residual, values: Values, path: str, wire: int, after: Shape) -> int:
    """The shortcut of a ResNet where the shape changes: 1x1 convolution without bias, then a batch norm.

    Option B of *Deep Residual Learning* (arXiv:1512.03385, section 4.1); the stride follows from the shapes.
    """
    before = body.wires[wire].shape
    assert before is not None
    rank = len(after)
    strides = tuple(
        next((step for step in (-(-a // b), a // b) if step and (a - 1) // step + 1 == b), 0)
        for a, b in zip(before[2:], after[2:], strict=False)
    )
    if len(before) != rank or rank not in (3, 4, 5) or 0 in strides:
        body.run.explain.project(action, before, after)
        raise UnknownError
    stride = strides[0] if len(set(strides)) == 1 else strides
    arguments = {"out_channels": after[1], "kernel_size": 1, "stride": stride, "bias": False}
    wire = body.made(f"Conv{rank - 2}d", arguments, item, f"{path}.shortcut.conv{rank - 2}d", (wire,), values)
    return body.made(f"BatchNorm{rank - 2}d", {}, item, f"{path}.shortcut.batchnorm{rank - 2}d", (wire,), values)


def parallel(body: Body, item: Item, action: Parallel, values: Values, path: str, wire: int, patch: Patch) -> int:
    """Expand the paths and merge their ends."""
    ends = []
    for name, items in action.paths:
        below = patch.get(name, NO_PATCH) if patch else NO_PATCH
        end = body.items(items, values, f"{path}.{name}.", wire, below if isinstance(below, dict) else NO_PATCH)
        body.names[f"{path}.{name}"] = end
        ends.append(end)
    if any(body.wires[end].shape is None for end in ends):
        raise UnknownError
    return body.made(action.merge.capitalize(), {}, item, f"{path}.{action.merge}", tuple(ends), values)
