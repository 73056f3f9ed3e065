"""Holds a model that was built from a graph against the graph, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from convstat.formulas.cost import Shape
from convstat.graph import Graph, Node
from convstat.trace.build import SpecModel, example_inputs


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A layer whose torch twin, really run, is not what the graph says."""

    layer: str
    what: str
    graph: object
    torch: object

    def __str__(self) -> str:
        return f"{self.layer}: {self.what} is {self.torch} in torch and {self.graph} in the graph"


def verify(graph: Graph, module: nn.Module, inputs: tuple[torch.Tensor, ...] | None = None) -> tuple[Mismatch, ...]:
    """Run the built model and list the layers whose output shape, parameters or buffers are not the graph's."""
    if not isinstance(module, SpecModel):
        raise TypeError(f"not a model that convstat built: {type(module).__name__}")
    if inputs is None:
        first = next((t for t in chain(module.parameters(), module.buffers()) if t.is_floating_point()), None)
        device = "cpu" if first is None else first.device.type
        dtype = "float32" if first is None else str(first.dtype).removeprefix("torch.")
        inputs = example_inputs(graph, device=device, dtype=dtype)
    found: list[Mismatch] = []

    def compare(layer: str, what: str, expected: object, actual: object) -> None:
        if expected != actual:
            found.append(Mismatch(layer, what, expected, actual))

    def observe(node: Node, output: torch.Tensor) -> None:
        compare(node.name, "the output shape", node.output_shape, _shape(output))

    for node in graph.nodes:
        if node.is_shared:
            continue
        twin = module.twins[node.name]
        parameters = {name: tuple(tensor.shape) for name, tensor in twin.named_parameters()}
        compare(node.name, "the parameters", dict(node.layer.parameters()), parameters)
        compare(node.name, "the number of parameters", node.layer.params(), sum(p.numel() for p in twin.parameters()))
        buffers = {name: tuple(tensor.shape) for name, tensor in twin.named_buffers()}
        compare(node.name, "the buffers", {n: shape for n, (shape, _) in node.layer.buffers().items()}, buffers)
    with torch.no_grad():
        module.run(inputs, {}, observe)
    return tuple(found)


def _shape(output: object) -> Shape | str:
    return tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
