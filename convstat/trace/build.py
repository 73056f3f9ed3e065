"""From a graph to a torch model that runs it.

The peers count a real :class:`torch.nn.Module`, so every graph can be built as one:
each layer's torch twin hangs under the layer's own dotted name,
and a flat executor calls the twins in the graph's order.
What is between the layers (``stage1`` of ``stage1.0.conv1``) is an empty module that is never called,
so that module paths and layer names are the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from convstat.errors import DeviceError
from convstat.graph import Graph, Node
from convstat.patches.preserve import seeded
from convstat.patches.room import alone
from convstat.text.printable import plain

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""The dtypes that a model can be built in."""

Observer = Callable[[Node, torch.Tensor], None]


class Holder(nn.Module):
    """A step of a dotted path: it holds modules and is never called."""


class SpecModel(nn.Module):
    """A graph as a torch module.

    The inputs can be given in order or by the names that the graph gives them.
    A tensor is let go as soon as no later layer needs it, so peak memory is that of a hand-written forward.
    """

    def __init__(self, graph: Graph, twins: dict[str, nn.Module]) -> None:
        super().__init__()
        self.graph = graph
        self.input_names = tuple(item.name for item in graph.inputs)
        # In a plain dict: a module kept here is not registered, and a functional twin must not be.
        self.twins = _Unregistered(twins)
        last_use = {name: node.name for node in graph.nodes for name in node.inputs}
        keep = set(graph.outputs)
        self.done_after: dict[str, list[str]] = {}
        for name, user in last_use.items():
            if name not in keep:
                self.done_after.setdefault(user, []).append(name)
        for node in graph.nodes:
            if not node.is_shared and not node.layer.functional:
                self._attach(node.name, twins[node.name])

    def _attach(self, path: str, module: nn.Module) -> None:
        # Straight into the table: add_module refuses names that are also methods ("type", "half"), and a layer may
        # be called so.
        *parents, name = path.split(".")
        holder: nn.Module = self
        for step in parents:
            holder = cast(nn.Module, holder._modules.setdefault(step, Holder()))
        if name in holder._modules:
            raise ValueError(f"two layers are called {path!r}, or one is inside the other")
        holder._modules[name] = module

    def forward(self, /, *args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Run the layers in order; one tensor comes out, or a tuple where the graph has several outputs."""
        return self.run(args, kwargs)

    def run(
        self, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor], observe: Observer | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Run the layers in order and tell ``observe`` what each of them delivers."""
        values = self._bind(args, kwargs)
        for node in self.graph.nodes:
            twin: Any = self.twins[node.owner or node.name]
            if node.layer.functional:
                # Around Module.__call__: in torch this is an operator, and nobody who watches modules may see one.
                twin = twin.forward
            values[node.name] = node.layer.call(twin, *[values[name] for name in node.inputs])
            if observe is not None:
                observe(node, values[node.name])
            for name in self.done_after.get(node.name, ()):
                del values[name]
        outputs = tuple(values[name] for name in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _bind(self, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        values = dict(zip(self.input_names, args, strict=False))
        unknown = [name for name in kwargs if name not in self.input_names or name in values]
        values.update(kwargs)
        if unknown or len(args) > len(self.input_names) or len(values) != len(self.input_names):
            given = [*(f"#{position + 1}" for position in range(len(args))), *kwargs]
            raise TypeError(
                f"{self.graph.name} takes {', '.join(self.input_names)}, not {', '.join(given) or 'nothing'}"
            )
        return values


class _Unregistered(dict[str, nn.Module]):
    """Modules by name, hidden from nn.Module's bookkeeping."""


@alone
def build(graph: Graph, *, device: str = "cpu", dtype: str = "float32", seed: int = 0) -> nn.Module:
    """Build the torch model of a graph, in eval mode.

    ``device`` is ``cpu``, ``cuda`` or ``meta``; on ``meta`` nothing is allocated.
    The weights follow from ``seed`` alone, and torch's random state is as before.
    Raises DeviceError where this machine cannot do it.
    """
    check_device(device, dtype)
    twins: dict[str, nn.Module] = {}
    with seeded(seed, device), torch.device(device):
        for node in graph.nodes:
            if node.is_shared:
                continue
            twin = node.layer.build()
            if not node.trainable:
                twin.requires_grad_(False)
            twins[node.name] = twin
        model = SpecModel(graph, twins)
    return model.to(DTYPES[dtype]).eval()


@alone
def example_inputs(
    graph: Graph, *, device: str = "cpu", dtype: str = "float32", seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """Make inputs of the graph's shapes: random numbers; zeros, the one index that is always in range, for integers."""
    with seeded(seed, device), torch.device(device):
        return tuple(
            torch.rand(item.shape).to(DTYPES[dtype])
            if item.dtype in DTYPES
            else torch.zeros(item.shape, dtype=cast(torch.dtype, getattr(torch, item.dtype)))
            for item in graph.inputs
        )


def check_device(device: str, dtype: str) -> None:
    """Raise DeviceError where this machine cannot run a model on the device in the dtype."""
    if dtype not in DTYPES:
        raise DeviceError(f"unknown dtype '{dtype}'", help=f"it is one of {', '.join(DTYPES)}")
    if device not in ("cpu", "cuda", "meta"):
        raise DeviceError(f"unknown device '{device}'", help="it is one of auto, cpu, cuda, meta")
    if device == "cuda" and not torch.cuda.is_available():
        reason = "this torch is built without CUDA" if torch.version.cuda is None else "torch sees no CUDA device"
        raise DeviceError(f"cannot run on cuda: {reason}", help="use --device cpu, or omit --device")
    if device != "meta" and dtype != "float32":
        try:
            ones = torch.ones(1, 1, 2, 2, device=device, dtype=DTYPES[dtype])
            nn.functional.conv2d(ones, ones) @ ones[..., :1, :1]
        except RuntimeError as error:
            reason = plain(str(error).partition("\n")[0])
            raise DeviceError(
                f"{device} cannot run {dtype} here: {reason}", help="use --dtype float32, or --device meta"
            ) from None
