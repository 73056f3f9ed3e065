"""Fuse a graph: batch norms into convolutions and linear layers, and parallel convolutions that are added into one.

All of it is exact arithmetic on the weights, because everything involved is affine:

- *Fold.* A batch norm with running statistics multiplies and shifts each channel by constants. Behind a convolution or
  a linear layer, the factor goes into the weight and the shift into the bias. In front of one, it does so too, unless
  zeros are padded in between: those are not shifted.
- *Merge.* Convolutions of the same input with the same stride, groups and dilation that are added up are one
  convolution with the sum of their kernels, each laid where its taps are. The input itself is a kernel of one tap that
  is 1, and a batch norm of it one that is the norm's factor. Branches are merged only if that costs no more MACs.

What is used elsewhere as well, or shared, has to stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from convstat.errors import LayerError
from convstat.formulas.conv import window
from convstat.graph import Graph, Node
from convstat.layers.base import Layer
from convstat.layers.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from convstat.layers.linear import Linear
from convstat.layers.merge import Add
from convstat.layers.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from convstat.layers.pad import Crop
from convstat.results.fusion import Changes, Folded, Kept, Merged

Conv: TypeAlias = Conv1d | Conv2d | Conv3d
ConvTranspose: TypeAlias = ConvTranspose1d | ConvTranspose2d | ConvTranspose3d
BatchNorm: TypeAlias = BatchNorm1d | BatchNorm2d | BatchNorm3d

OUTPUT = "the output of the model"


def fuse(graph: Graph) -> tuple[Graph, Changes]:
    """Fuse all that can be, and say what was and what was not."""
    fusing = _Fusing(graph)
    while fusing.fold() or fusing.merge():
        pass
    return fusing.graph(), fusing.changes()


class _Branch(NamedTuple):
    """A way from a source to an addition that is one kernel; ``nodes`` are those that it consists of.

    ``layer`` is None for the source itself, or a batch norm of it. ``start`` is where the first tap is in each
    dimension, relative to the output position times the stride.
    """

    source: str
    nodes: tuple[Node, ...]
    layer: Conv | None = None
    start: tuple[int, ...] = ()

    @property
    def end(self) -> tuple[int, ...]:
        """Where the last tap is."""
        if self.layer is None:
            return self.start
        extents = map(window, self.layer.kernel_size, self.layer.dilation)
        return tuple(start + extent - 1 for start, extent in zip(self.start, extents, strict=True))


class _Fusing:
    """The nodes of a graph, by name and in order, while they are fused."""

    def __init__(self, graph: Graph) -> None:
        self.before = graph
        self.nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
        self.place: dict[str, int | Fraction] = {node.name: place for place, node in enumerate(graph.nodes)}
        self.outputs = list(graph.outputs)
        self.owners = {node.owner for node in graph.nodes if node.is_shared}
        """The layers whose parameters others use too."""
        self.users: dict[str, list[str]] = {}
        """What takes an output, one entry for each time; the end of the model is one too."""
        for node in graph.nodes:
            for source in node.inputs:
                self.users.setdefault(source, []).append(node.name)
        for name in graph.outputs:
            self.users.setdefault(name, []).append(OUTPUT)
        self.folded: dict[str, str] = {}
        self.merged: dict[str, tuple[str, ...]] = {}

    def graph(self) -> Graph:
        """The graph as it is now; a group that has lost all its layers is gone."""
        nodes = sorted(self.nodes.values(), key=lambda node: self.place[node.name])
        held = {path for node in nodes for path in _around(node.name)}
        groups = {path: what for path, what in self.before.groups.items() if path in held}
        calls = {path: call for path, call in self.before.calls.items() if path in held}
        return replace(self.before, nodes=tuple(nodes), outputs=tuple(self.outputs), groups=groups, calls=calls)

    def changes(self) -> Changes:
        """What was fused; the merged layers with what they were before anything was folded."""
        kept = tuple(
            Kept(node.name, self.fold_of(node)[1]) for node in self.nodes.values() if isinstance(node.layer, BatchNorm)
        )
        folded = tuple(Folded(name, into) for name, into in self.folded.items())
        return Changes(folded, tuple(Merged(name, of) for name, of in self.merged.items()), kept)

    def is_shared(self, node: Node) -> bool:
        """Whether other calls have the same parameters."""
        return node.is_shared or node.name in self.owners

    # Folding

    def fold(self) -> bool:
        """Fold every batch norm that can be; say whether there was one."""
        found = False
        for name in [node.name for node in self.nodes.values() if isinstance(node.layer, BatchNorm)]:
            norm = self.nodes[name]
            target, _ = self.fold_of(norm)
            if target is None:
                continue
            self.put(target, _with_bias(target.layer, target.input_shapes))
            self.remove([norm])
            self.rename(name, norm.inputs[0])
            self.folded[name] = target.name
            found = True
        return found

    def fold_of(self, norm: Node) -> tuple[Node | None, str]:
        """The layer that a batch norm can be folded into; if there is none, why not."""
        layer = norm.layer
        assert isinstance(layer, BatchNorm)
        if not layer.track_running_stats:
            return None, "it has no running statistics: its factors depend on the data"
        if self.is_shared(norm):
            return None, "its parameters are shared"
        before = self.nodes.get(norm.inputs[0])
        target, reason = self._behind(norm, before)
        if target is None and (user := self._only_user(norm)) is not None:
            target, other = self._in_front(user)
            reason = other or reason
        return target, "" if target is not None else reason

    def _behind(self, norm: Node, before: Node | None) -> tuple[Node | None, str]:
        """The layer in front of a batch norm, if it can be folded into it."""
        if before is None:
            return None, "it is applied to an input of the model"
        if not isinstance(before.layer, (Conv, ConvTranspose, Linear)):
            return None, f"the layer before it is {before.layer.kind()}"
        if isinstance(before.layer, Linear) and len(before.output_shape) != 2:
            return None, f"it normalises dimension 1, and the features of {before.name} are the last"
        if self.is_shared(before):
            return None, f"the parameters of {before.name} are shared"
        if len(users := self.users[before.name]) > 1:
            return None, f"the output of {before.name} is also used by {_others(users, norm.name)}"
        return before, ""

    def _only_user(self, norm: Node) -> Node | None:
        users = self.users.get(norm.name, [])
        return self.nodes.get(users[0]) if len(users) == 1 else None

    def _in_front(self, after: Node) -> tuple[Node | None, str]:
        """The layer behind a batch norm, if it can be folded into it; a reason where only that stands against it."""
        layer = after.layer
        if isinstance(layer, Linear):
            return (after, "") if len(after.output_shape) == 2 and not self.is_shared(after) else (None, "")
        if not isinstance(layer, Conv) or self.is_shared(after):
            return None, ""
        if layer.padding_mode == "zeros" and any(map(any, layer.sides())):
            return None, f"{after.name} pads the output of the norm with zeros, which are not shifted"
        return after, ""

    # Merging

    def merge(self) -> bool:
        """Merge the branches of every addition that can be; say whether there was one."""
        found = False
        for name in [node.name for node in self.nodes.values() if isinstance(node.layer, Add)]:
            found = self._merge(self.nodes[name]) or found
        return found

    def _merge(self, node: Node) -> bool:
        if len(set(node.input_shapes)) > 1:
            return False
        branches = [self._branch(node, name) for name in node.inputs]
        for source in dict.fromkeys(branch.source for branch in branches if branch is not None):
            places = [place for place, branch in enumerate(branches) if branch is not None and branch.source == source]
            if self._merge_at(node, places, [found for place in places if (found := branches[place]) is not None]):
                return True
        return False

    def _branch(self, node: Node, name: str) -> _Branch | None:
        """What an addition takes under a name, as one kernel of its source."""
        before = self.nodes.get(name)
        if before is None or not self._is_own(before, node):
            return _Branch(name, ())
        if isinstance(before.layer, BatchNorm) and before.layer.track_running_stats:
            return _Branch(before.inputs[0], (before,))
        if not isinstance(before.layer, Conv):
            return _Branch(name, ())
        start = tuple(-first for first, _ in before.layer.sides())
        cut = self.nodes.get(before.inputs[0])
        if cut is not None and isinstance(cut.layer, Crop) and self._is_own(cut, before):
            crops = _crops(cut)
            # Where zeros are padded at the cut edge, there was a picture.
            if not any(any(crop) and any(sides) for crop, sides in zip(crops, before.layer.sides(), strict=True)):
                start = tuple(first + crop[0] for first, crop in zip(start, crops, strict=True))
                return _Branch(cut.inputs[0], (cut, before), before.layer, start)
        return _Branch(before.inputs[0], (before,), before.layer, start)

    def _is_own(self, before: Node, after: Node) -> bool:
        """Whether a node is there for another alone."""
        return self.users[before.name] == [after.name] and not self.is_shared(before)

    def _merge_at(self, node: Node, places: list[int], branches: list[_Branch]) -> bool:
        """Merge branches that have one source; say whether they were."""
        convs = [branch for branch in branches if branch.layer is not None]
        if len(branches) < 2 or not convs:
            return False
        shape = self.shape_of(branches[0].source)
        layer = _merged([branch.layer for branch in convs if branch.layer is not None], branches, shape)
        if layer is None or layer.output_shape((shape,)) != node.output_shape:
            return False
        macs = layer.cost((shape,), node.output_shape).macs
        parts = [part for branch in branches for part in branch.nodes]
        if macs > sum(part.cost.macs for part in parts):
            return False
        first = max(convs, key=lambda branch: branch.nodes[-1].layer.params()).nodes[-1]
        made = replace(
            first,
            layer=layer,
            inputs=(branches[0].source,),
            input_shapes=(shape,),
            output_shape=node.output_shape,
            cost=layer.cost((shape,), node.output_shape),
            trainable=all(part.trainable for part in parts if part.layer.params()),
        )
        before = dict.fromkeys(name for part in parts for name in (part.name, *self._folded_into(part.name)))
        self.folded = {name: into for name, into in self.folded.items() if name not in before}
        known = [name for part in parts for name in self.merged.pop(part.name, ())]
        self.merged[made.name] = tuple(dict.fromkeys([*known, *before]))
        rest = tuple(name for place, name in enumerate(node.inputs) if place not in places)
        self._replace(node, made, parts, rest)
        return True

    def _folded_into(self, name: str) -> Iterator[str]:
        return (norm for norm, target in self.folded.items() if target == name)

    def _replace(self, node: Node, made: Node, parts: list[Node], rest: tuple[str, ...]) -> None:
        """Put the merged layer where the addition is, which is gone where nothing else is added."""
        self.remove([*parts, node])
        # Before the addition, where that stays.
        self.place[made.name] = self.place[node.name] - Fraction(1, 2) if rest else self.place[node.name]
        self.add(made)
        if not rest:
            self.rename(node.name, made.name)
            return
        inputs = (made.name, *rest)
        shapes = tuple(node.output_shape for _ in inputs)
        cost = node.layer.cost(shapes, node.output_shape)
        self.add(replace(node, inputs=inputs, input_shapes=shapes, cost=cost))

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of an output or of an input of the model."""
        found = self.nodes.get(name)
        return found.output_shape if found is not None else self.before.shape_of(name)

    def put(self, node: Node, layer: Layer) -> None:
        """Give a node another layer with the same shapes."""
        cost = layer.cost(node.input_shapes, node.output_shape)
        self.nodes[node.name] = replace(node, layer=layer, cost=cost)

    def add(self, node: Node) -> None:
        """Put a node in."""
        self.nodes[node.name] = node
        for source in node.inputs:
            self.users.setdefault(source, []).append(node.name)

    def remove(self, nodes: Iterable[Node]) -> None:
        """Take nodes out."""
        for node in nodes:
            del self.nodes[node.name]
            for source in node.inputs:
                self.users[source].remove(node.name)

    def rename(self, old: str, new: str) -> None:
        """Take what one output was taken for from another."""
        users = self.users.pop(old, [])
        for name in dict.fromkeys(users):
            if (node := self.nodes.get(name)) is not None:
                inputs = tuple(new if source == old else source for source in node.inputs)
                self.nodes[name] = replace(node, inputs=inputs)
        self.users.setdefault(new, []).extend(users)
        self.outputs = [new if name == old else name for name in self.outputs]


def _merged(layers: list[Conv], branches: Iterable[_Branch], shape: tuple[int, ...]) -> Conv | None:
    """The convolution that is the sum of branches; None where there is none.

    Its kernel spans all taps; in a dimension in which several have more than one tap, these have the same dilation.
    """
    first = layers[0]
    for name in ("in_channels", "out_channels", "groups", "stride"):
        if any(getattr(layer, name) != getattr(first, name) for layer in layers):
            return None
    modes = {layer.padding_mode for layer in layers if any(map(any, layer.sides()))}
    if any(type(layer) is not type(first) for layer in layers) or len(modes) > 1:
        return None
    found: dict[str, list[Any]] = {"kernel_size": [], "padding": [], "dilation": []}
    for place in range(first.spatial_dims):
        steps = {layer.dilation[place] for layer in layers if layer.kernel_size[place] > 1} or {1}
        # The tap of the source itself is where the output is.
        starts = [branch.start[place] if branch.layer is not None else 0 for branch in branches]
        ends = [branch.end[place] if branch.layer is not None else 0 for branch in branches]
        start, step = min(0, *starts), steps.pop()
        if steps or any((tap - start) % step for tap in (*starts, *ends)):
            return None
        found["kernel_size"].append((max(ends) - start) // step + 1)
        found["padding"].append(-start)
        found["dilation"].append(step)
    if any(branch.layer is None for branch in branches) and (
        first.in_channels != first.out_channels or any(step != 1 for step in first.stride)
    ):
        return None
    bias = any(layer.bias for layer in layers) or any(branch.layer is None and branch.nodes for branch in branches)
    arguments = {
        **{name: getattr(first, name) for name in ("out_channels", "stride", "groups")},
        **{name: tuple(values) for name, values in found.items()},
        "bias": bias,
        "padding_mode": modes.pop() if modes else "zeros",
    }
    try:
        made = type(first).create(arguments, (shape,))
    except LayerError:
        return None
    assert isinstance(made, Conv)
    return made


def _with_bias(layer: Layer, inputs: tuple[tuple[int, ...], ...]) -> Layer:
    values: Mapping[str, Any] = {**dict(layer.items()), "bias": True}
    return type(layer).create(values, inputs)


def _crops(node: Node) -> list[tuple[int, int]]:
    """How much a crop cuts off before and after, for each dimension behind the channels."""
    layer = node.layer
    assert isinstance(layer, Crop)
    amounts = layer.sides(node.input_shapes[0])
    pairs = [*zip(amounts[::2], amounts[1::2], strict=True)]
    missing = len(node.output_shape) - 2 - len(pairs)
    return [(0, 0)] * missing + pairs[::-1]


def _others(users: list[str], own: str) -> str:
    others = [*users]
    others.remove(own)
    return ", ".join(dict.fromkeys(others))


def _around(name: str) -> Iterator[str]:
    """The path of a layer and of what it stands in."""
    steps = name.split(".")
    return (".".join(steps[:depth]) for depth in range(1, len(steps) + 1))
