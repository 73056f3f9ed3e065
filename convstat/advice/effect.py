"""What a change of some layers saves: the changed calls, and all that their shapes reach, counted again.

A call whose layer and whose input shapes stay as they are costs what it did, and is not counted again. So this is the
difference of two whole counts.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

from convstat.advice.net import Call, Net
from convstat.errors import LayerError
from convstat.formulas.cost import Shape
from convstat.layers.base import Layer

SEPARABLE = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
"""The arguments of a convolution that its depthwise part takes over."""


class Setting(NamedTuple):
    """The new value of an argument, and ``how`` it follows from what is written, where it does.

    ``cin`` is the number of input channels, ``twice`` is two times the value that is written, ``multiple`` the nearest
    multiple of 8, and ``like`` the value that is written for another layer.
    """

    value: Any
    how: str = ""
    like: str = ""


class Edit(NamedTuple):
    """How the layer of one call is changed: other arguments, and then split in two; or left out."""

    call: str
    settings: Mapping[str, Setting] = {}
    split: bool = False
    drop: bool = False


class Amount(NamedTuple):
    """Params, MACs, and all other work by name."""

    params: int
    macs: int
    other: Mapping[str, int]


class Effect(NamedTuple):
    """What a change saves, and the layers that stand in the place of those of the calls that it reaches.

    ``reached`` are the calls that are changed by nothing but their input; ``moves`` says that a shape changes.
    """

    saves: Amount
    reached: frozenset[str]
    layers: Mapping[str, tuple[Layer, ...]]
    moves: bool


class NoChangeError(Exception):
    """A change after which the model would not run, or would give another shape."""


NOTHING = Amount(0, 0, {})


def effect(net: Net, edits: Iterable[Edit]) -> Effect:
    """Count what some edits save together; raises NoChangeError where they do not go together."""
    by_call: dict[str, list[Edit]] = {}
    for edit in edits:
        by_call.setdefault(edit.call, []).append(edit)
    shapes: dict[str, Shape] = {}
    params = macs = 0
    other: dict[str, int] = {}
    reached: set[str] = set()
    layers: dict[str, tuple[Layer, ...]] = {}
    known: dict[Hashable, _New] = {}
    queue: list[int] = []
    waiting: set[str] = set()

    def push(name: str) -> None:
        if name not in waiting:
            waiting.add(name)
            heappush(queue, net.order[name])

    for name in by_call:
        push(name)
    while queue:
        call = net.calls[net.names[heappop(queue)]]
        inputs = tuple(shapes.get(source, shape) for source, shape in zip(call.inputs, call.input_shapes, strict=True))
        if call.name not in by_call:
            reached.add(call.name)
        new = _changed(call, inputs, by_call.get(call.name, ()), known)
        params += new.params if call.holds else 0
        macs += new.macs * call.runs
        for entry, amount in new.other:
            other[entry] = other.get(entry, 0) + amount * call.runs
        layers[call.name] = new.layers
        if new.shape != call.output_shape:
            if call.name in net.outputs:
                raise NoChangeError(f"{call.name}: the output of the model would have another shape")
            shapes[call.name] = new.shape
            for user in net.users[call.name]:
                push(user)
    saves = Amount(params, macs, {name: amount for name, amount in sorted(other.items()) if amount})
    return Effect(saves, frozenset(reached), layers, bool(shapes))


class _New(NamedTuple):
    """What stands in the place of a call's layer: its layers, what it saves, and the shape that it gives."""

    layers: tuple[Layer, ...]
    params: int
    macs: int
    other: tuple[tuple[str, int], ...]
    shape: Shape


def _changed(call: Call, inputs: tuple[Shape, ...], edits: Sequence[Edit], known: dict[Hashable, _New]) -> _New:
    """Count the layers that stand in the place of a call's; equal layers that are changed alike are counted once."""
    layer = call.layer
    if layer is None:
        raise NoChangeError(f"{call.name} is not a layer that could be counted again")
    values = tuple(
        (tuple((name, setting.value) for name, setting in edit.settings.items()), edit.split, edit.drop)
        for edit in edits
    )
    key = (id(layer), call.input_shapes, inputs, values)
    if key in known:
        return known[key]
    old = layer.cost(call.input_shapes, call.output_shape)
    params, macs, other = layer.params(), old.macs, dict(old.other)
    made: list[Layer] = []
    shape = inputs[0]
    try:
        for kind, arguments in parts(call, inputs, edits):
            new = kind.create(arguments, inputs)
            shape = new.output_shape(inputs)
            cost = new.cost(inputs, shape)
            params, macs, inputs = params - new.params(), macs - cost.macs, (shape,)
            for entry, amount in cost.other.items():
                other[entry] = other.get(entry, 0) - amount
            made.append(new)
    except LayerError as error:
        raise NoChangeError(f"{call.name}: {error.message}") from None
    known[key] = _New(tuple(made), params, macs, tuple(other.items()), shape)
    return known[key]


def parts(call: Call, inputs: tuple[Shape, ...], edits: Iterable[Edit]) -> list[tuple[type[Layer], dict[str, Any]]]:
    """The kinds and arguments of the layers that come of a call's layer; raises NoChangeError where edits collide."""
    layer = call.layer
    assert layer is not None
    kind = type(layer)
    arguments = written(layer)
    splits = drops = False
    is_set: set[str] = set()
    for edit in edits:
        if is_set & edit.settings.keys() or (edit.split and splits) or drops or (edit.drop and (is_set or splits)):
            raise NoChangeError(f"two changes of one layer: {call.name}")
        is_set |= edit.settings.keys()
        splits, drops = splits or edit.split, edit.drop
        arguments.update((name, setting.value) for name, setting in edit.settings.items())
    if splits and "groups" in is_set:
        raise NoChangeError(f"two changes of one layer: {call.name}")
    if drops:
        return []
    if is_depthwise(layer) and "groups" not in is_set and inputs[0][1] != layer.__dict__["in_channels"]:
        # One filter for each channel, however many there are.
        arguments.update(groups=inputs[0][1], out_channels=inputs[0][1])
    if not splits:
        return [(kind, arguments)]
    channels = inputs[0][1]
    depthwise = {name: arguments[name] for name in SEPARABLE if name in arguments}
    depthwise.update(out_channels=channels, groups=channels, bias=False)
    pointwise = {"out_channels": arguments["out_channels"], "kernel_size": 1}
    if "bias" in arguments:
        pointwise["bias"] = arguments["bias"]
    return [(kind, depthwise), (kind, pointwise)]


def written(layer: Layer) -> dict[str, Any]:
    """The arguments of a layer as one would write them, without those that follow from its input."""
    kinds = layer.arguments
    values = layer.written().items()
    return {name: value for name, value in values if kinds[name].infer is None or not kinds[name].strict}


def is_depthwise(layer: Layer) -> bool:
    """Whether a layer is a convolution with one filter for each channel."""
    values = layer.__dict__
    groups = values.get("groups", 1)
    return bool(groups > 1 and groups == values.get("in_channels") == values.get("out_channels"))
