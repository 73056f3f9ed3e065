"""Expanded pieces of a model: with every size known, with names relative to where they are used.

A fragment is what one call of a block comes to. It is never changed once made, so equal calls share one,
and a sweep works out again only what a changed value reaches.
A graph is a fragment laid flat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import NamedTuple

from convstat.errors import Mark
from convstat.formulas.cost import Cost, Shape
from convstat.graph import Call, Node
from convstat.layers.base import Layer
from convstat.spec import shipped
from convstat.spec.plan import Item

NOTHING: Mapping[str, int] = MappingProxyType({})


class Counts(NamedTuple):
    """What a layer or a fragment comes to; ``stored`` counts values by dtype, ``float`` being the model's own."""

    params: int = 0
    trainable_params: int = 0
    macs: int = 0
    buffers: int = 0
    layers: int = 0
    other: Mapping[str, int] = NOTHING
    stored: Mapping[str, int] = NOTHING


NO_COUNTS = Counts()


class Leaf:
    """One layer that fits its inputs, and its cost."""

    __slots__ = ("cost", "counts", "inputs", "layer", "output")

    def __init__(self, layer: Layer, inputs: tuple[Shape, ...], output: Shape) -> None:
        self.layer = layer
        self.inputs = inputs
        self.output = output
        self.cost: Cost = layer.cost(inputs, output)
        params = layer.params()
        stored = {"float": params} if params else {}
        buffers = 0
        for shape, dtype in layer.buffers().values():
            amount = prod(shape)
            buffers += amount
            stored[dtype] = stored.get(dtype, 0) + amount
        self.counts = Counts(params, params, self.cost.macs, buffers, 1, self.cost.other, stored)


class Value(NamedTuple):
    """Something that can be taken as an input.

    ``part`` is the index of the part that delivers it, or -1 - k for the k-th input;
    ``inner`` is the name of the layer inside the part's fragment, where it is not the part's own output.
    The shape is None after a mistake.
    """

    shape: Shape | None
    part: int
    inner: str = ""


@dataclass(slots=True)
class Part:
    """One layer, or one call of a block, in a fragment; ``inputs`` are indices of values.

    ``given`` holds the arguments of a call of a block.
    """

    name: str
    item: Item
    inputs: tuple[int, ...]
    content: Leaf | Fragment
    what: str = ""
    owner: int | None = None
    trainable: bool = True
    given: Mapping[str, object] | None = None


@dataclass(slots=True)
class Fragment:
    """Parts in the order in which they run, and the value that comes out."""

    values: list[Value]
    parts: list[Part] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    output: int = 0
    counts: Counts = NO_COUNTS
    calls: int = 0
    """The calls of blocks in it, those in what it calls included, also where they come to nothing."""

    def finish(self, output: int) -> Fragment:
        """Close the fragment: nothing is added any more."""
        self.output = output
        self.counts = total(self.parts)
        return self


def total(parts: list[Part]) -> Counts:
    """Sum up what parts come to; a layer that borrows its weights has none of its own."""
    params = trainable = macs = buffers = layers = 0
    other: dict[str, int] = {}
    stored: dict[str, int] = {}
    for part in parts:
        content = part.content
        counts = content.counts
        if part.owner is not None and isinstance(content, Leaf):
            counts = Counts(0, 0, counts.macs, 0, 1, counts.other)
        elif part.trainable:
            trainable += counts.trainable_params
        params += counts.params
        macs += counts.macs
        buffers += counts.buffers
        layers += counts.layers
        for name, amount in counts.other.items():
            other[name] = other.get(name, 0) + amount
        for name, amount in counts.stored.items():
            stored[name] = stored.get(name, 0) + amount
    return Counts(params, trainable, macs, buffers, layers, other, stored)


@dataclass(slots=True)
class Flat:
    """A fragment laid flat."""

    nodes: list[Node] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)


def names_of(
    fragment: Fragment,
    inputs: tuple[str, ...],
    flat: Flat,
    prefix: str = "",
    trainable: bool = True,
    caller: Mark | None = None,
) -> list[str]:
    """Add the nodes of a fragment to ``flat``; give the name of each of its values.

    ``inputs`` are the names of what comes in. ``caller`` is where the user wrote what this comes from:
    the lines of a block that ships with convstat are nobody's to change.
    """
    names: list[str] = []
    flat.groups.update((prefix + name, what) for name, what in fragment.groups.items())
    for value in fragment.values:
        if value.part < 0:
            names.append(inputs[-1 - value.part])
            continue
        part = fragment.parts[value.part]
        name = prefix + part.name
        if value.inner:
            names.append(f"{name}.{value.inner}")
            continue
        sources = tuple(names[index] for index in part.inputs)
        mine = trainable and part.trainable
        place = part.item.mark if caller is None or not shipped.holds(part.item.mark) else caller
        if isinstance(part.content, Fragment):
            if part.content.parts:
                flat.groups[name] = part.what
                flat.calls[name] = Call(part.given or NOTHING, place)
            inner = names_of(part.content, sources, flat, f"{name}.", mine, place)
            names.append(inner[part.content.output])
            continue
        owner = name
        if part.owner is not None:
            owner = names[part.owner]
            owner = flat.owners.get(owner, owner)
            flat.owners[name] = owner
        flat.nodes.append(_node(part, part.content, name, sources, owner, mine, place))
        names.append(name)
    return names


def _node(
    part: Part, leaf: Leaf, name: str, sources: tuple[str, ...], owner: str, trainable: bool, place: Mark
) -> Node:
    return Node(
        name=name,
        layer=leaf.layer,
        inputs=sources,
        input_shapes=leaf.inputs,
        output_shape=leaf.output,
        cost=leaf.cost,
        source=place,
        owner=owner,
        trainable=trainable,
        note=part.item.note,
    )


def find(fragment: Fragment, path: str) -> tuple[Shape | None, str, Leaf | None]:
    """Look a dotted path up inside a fragment: the shape, the name of the layer it ends in, and that layer.

    Raises KeyError where there is no such path.
    """
    if path in fragment.names:
        index = fragment.names[path]
        value = fragment.values[index]
        if value.part < 0:
            raise KeyError(path)
        part = fragment.parts[value.part]
        if value.inner:
            assert isinstance(part.content, Fragment)
            shape, inner, leaf = find(part.content, value.inner)
            return shape, f"{part.name}.{inner}", leaf
        if isinstance(part.content, Leaf):
            return value.shape, part.name, part.content
        content = part.content
        end = content.values[content.output]
        if end.part < 0:
            raise KeyError(path)
        last = content.parts[end.part].name + (f".{end.inner}" if end.inner else "")
        shape, inner, leaf = find(content, last)
        return shape, f"{part.name}.{inner}", leaf
    for part in fragment.parts:
        if isinstance(part.content, Fragment) and path.startswith(f"{part.name}."):
            shape, inner, leaf = find(part.content, path[len(part.name) + 1 :])
            return shape, f"{part.name}.{inner}", leaf
    raise KeyError(path)


def leaves(fragment: Fragment, prefix: str = "") -> Iterator[tuple[str, Part]]:
    """The names and parts of all layers."""
    for part in fragment.parts:
        if isinstance(part.content, Fragment):
            yield from leaves(part.content, f"{prefix}{part.name}.")
        else:
            yield prefix + part.name, part
