"""Fragments: expanded parts of a model, every size known, with names relative to where they are used.

A fragment is the expansion of one call of a block. It never changes once finished, so equal calls share one,
and a sweep expands again only what a changed value affects. A graph is a fragment laid flat.
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
from convstat.layers.base import Layer, Outputs, made_by
from convstat.spec import shipped
from convstat.spec.expressions import Value
from convstat.spec.overrides import Patch
from convstat.spec.plan import Item

NOTHING: Mapping[str, int] = MappingProxyType({})


class Counts(NamedTuple):
    """Totals of a layer or a fragment; ``stored`` counts values by dtype, ``float`` being the model's own.

    ``made`` are the elements of outputs.
    """

    params: int = 0
    trainable_params: int = 0
    macs: int = 0
    buffers: int = 0
    layers: int = 0
    other: Mapping[str, int] = NOTHING
    stored: Mapping[str, int] = NOTHING
    made: Outputs = Outputs()


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
        made = made_by(layer, inputs, output, self.cost.macs)
        self.counts = Counts(params, params, self.cost.macs, buffers, 1, self.cost.other, stored, made)


class Wire(NamedTuple):
    """A value in a fragment, which can be an input of a part.

    ``part`` is the index of the part that delivers it, or -1 - k for the k-th input;
    ``inner`` is the name of the layer inside the part's fragment, where it is not the part's own output.
    The shape is None after a mistake.
    """

    shape: Shape | None
    part: int
    inner: str = ""


class Turn(NamedTuple):
    """One turn of an item: its full name, the values of the names in it, its input wires, its overrides."""

    item: Item
    path: str
    values: Mapping[str, Value]
    sources: tuple[int, ...]
    patch: Patch


@dataclass(slots=True)
class Part:
    """One layer, or one call of a block, in a fragment; ``inputs`` are indices of wires.

    ``given`` holds the arguments of a call of a block; ``weights`` is the width of weights that the item, or a group
    around it, sets.
    """

    name: str
    item: Item
    inputs: tuple[int, ...]
    content: Leaf | Fragment
    what: str = ""
    owner: int | None = None
    trainable: bool = True
    given: Mapping[str, object] | None = None
    weights: str | None = None


@dataclass(slots=True)
class Fragment:
    """Parts in the order in which they run, the wires between them, and the output wire."""

    wires: list[Wire]
    parts: list[Part] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    output: int = 0
    counts: Counts = NO_COUNTS
    calls: int = 0
    """The number of calls of blocks in it, nested ones and empty ones included."""

    def name_of(self, wire: Wire) -> str:
        """The name of what a wire comes from; raises KeyError for an input."""
        if wire.part < 0:
            raise KeyError(wire)
        return self.parts[wire.part].name + (f".{wire.inner}" if wire.inner else "")

    def finish(self, output: int) -> Fragment:
        """Close the fragment: nothing is added afterwards."""
        self.output = output
        self.counts = total(self.parts)
        return self


def total(parts: list[Part]) -> Counts:
    """Sum the totals of parts; a layer with shared weights adds none of its own."""
    params = trainable = macs = buffers = layers = 0
    other: dict[str, int] = {}
    stored: dict[str, int] = {}
    elements = activations = convolved = 0
    for part in parts:
        content = part.content
        counts = content.counts
        if part.owner is not None and isinstance(content, Leaf):
            counts = Counts(0, 0, counts.macs, 0, 1, counts.other, made=counts.made)
        elif part.trainable:
            trainable += counts.trainable_params
        params += counts.params
        macs += counts.macs
        buffers += counts.buffers
        layers += counts.layers
        if counts.other:
            add_amounts(other, counts.other)
        if counts.stored:
            add_amounts(stored, counts.stored)
        one, two, three = counts.made
        elements += one
        activations += two
        convolved += three
    made = Outputs(elements, activations, convolved)
    return Counts(params, trainable, macs, buffers, layers, other, stored, made)


def add_amounts(sums: dict[str, int], added: Mapping[str, int]) -> None:
    """Add amounts to those of the same names."""
    for name, amount in added.items():
        sums[name] = sums.get(name, 0) + amount


class Flat:
    """Fragments laid flat: the nodes of a graph, its groups and its calls of blocks."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.groups: dict[str, str] = {}
        self.calls: dict[str, Call] = {}
        self._owners: dict[str, str] = {}

    def lay(
        self,
        fragment: Fragment,
        inputs: tuple[str, ...],
        prefix: str = "",
        trainable: bool = True,
        caller: Mark | None = None,
        weights: str | None = None,
    ) -> list[str]:
        """Add the nodes of a fragment; return the name of each of its wires.

        ``inputs`` are the names of what comes in. ``caller`` is where the user wrote what this comes from:
        the lines of a block that ships with convstat are nobody's to change.
        """
        names: list[str] = []
        self.groups.update((prefix + name, what) for name, what in fragment.groups.items())
        for wire in fragment.wires:
            if wire.part < 0:
                names.append(inputs[-1 - wire.part])
                continue
            part = fragment.parts[wire.part]
            content, name = part.content, prefix + part.name
            if wire.inner:
                names.append(f"{name}.{wire.inner}")
                continue
            sources = tuple(names[index] for index in part.inputs)
            trains = trainable and part.trainable
            width = part.weights or weights
            place = part.item.mark if caller is None or not shipped.holds(part.item.mark) else caller
            if isinstance(content, Fragment):
                if content.parts:
                    self.groups[name] = part.what
                    self.calls[name] = Call(part.given or NOTHING, place)
                names.append(self.lay(content, sources, f"{name}.", trains, place, width)[content.output])
                continue
            owner = name
            if part.owner is not None:
                owner = names[part.owner]
                owner = self._owners[name] = self._owners.get(owner, owner)
            leaf, note = content, part.item.note
            node = Node(
                name, leaf.layer, sources, leaf.inputs, leaf.output, leaf.cost, place, owner, trains, note, width
            )
            self.nodes.append(node)
            names.append(name)
        return names


def find(fragment: Fragment, path: str) -> tuple[Wire, Leaf]:
    """Look a dotted path up in a fragment: the wire that delivers it, and the layer whose output that is.

    Raises KeyError where there is no such path.
    """
    if path in fragment.names:
        wire = fragment.wires[fragment.names[path]]
        if wire.part < 0:
            raise KeyError(path)
        number, content = wire.part, fragment.parts[wire.part].content
        if isinstance(content, Leaf):
            return wire, content
        rest = wire.inner or content.name_of(content.wires[content.output])
    else:
        for index, part in enumerate(fragment.parts):
            if isinstance(part.content, Fragment) and path.startswith(f"{part.name}."):
                number, content, rest = index, part.content, path[len(part.name) + 1 :]
                break
        else:
            raise KeyError(path)
    inner, leaf = find(content, rest)
    return Wire(inner.shape, number, content.name_of(inner)), leaf


def leaves(fragment: Fragment, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers, nested ones included, each with its name."""
    for part in fragment.parts:
        if isinstance(part.content, Fragment):
            yield from leaves(part.content, f"{prefix}{part.name}.")
        else:
            yield prefix + part.name, part.content.layer
