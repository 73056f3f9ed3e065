"""The graph: what will be counted, with every size known.

A graph is a list of nodes in the order in which they run.
Each node is one call of one layer; its edges are names of earlier nodes or of inputs.
Everything here is frozen, so a graph can be cached, shared and counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from convstat.errors import Mark
from convstat.formulas.cost import Shape

if TYPE_CHECKING:
    from convstat.formulas.cost import Cost
    from convstat.layers.base import Layer


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model; ``shape`` includes the batch."""

    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Node:
    """One call of one layer.

    ``name`` is a dotted path (``stage1.0.conv1``), stable under insertions elsewhere.
    ``owner`` is the name of the node that holds the parameters: another node's where a layer is shared.
    ``trainable`` is False where the spec freezes the layer's parameters.
    ``weights`` is the width in which they are stored, where the spec sets one.
    ``runs`` is how often it runs: as often as the part of the model that it is in is called. Its cost is that of one.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    cost: Cost
    source: Mark | None = None
    owner: str = ""
    trainable: bool = True
    note: str | None = None
    weights: str | None = None
    runs: int = 1

    @property
    def is_shared(self) -> bool:
        """Whether the parameters belong to an earlier node."""
        return bool(self.owner) and self.owner != self.name


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a block: the arguments that it was given, and where it stands."""

    arguments: Mapping[str, object]
    source: Mark


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model: how often it is called, its inputs and outputs, and the part whose weights it uses."""

    name: str
    runs: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    same: str | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A model whose every shape is known.

    ``groups`` maps the path of each block to what made it (``{"stage1.0": "separable"}``),
    and ``calls`` to how it was called. ``values`` are those of the variables of the spec that it was made from.
    """

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    groups: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    calls: Mapping[str, Call] = field(default_factory=lambda: MappingProxyType({}))
    values: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    parts: tuple[Part, ...] = ()

    def shape_of(self, name: str) -> Shape:
        """The shape of what a node or an input delivers."""
        for item in self.inputs:
            if item.name == name:
                return item.shape
        for node in self.nodes:
            if node.name == name:
                return node.output_shape
        raise KeyError(name)
