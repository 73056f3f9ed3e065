"""Graphs put together by hand, and one sample of every layer kind."""

from __future__ import annotations

from typing import Any

from convstat.count import graphs
from convstat.formulas.cost import Shape
from convstat.graph import Graph, Input, Node
from convstat.layers import KINDS, Layer
from convstat.results.report import Report

F4 = (2, 4, 6, 6)
"""Two samples with four channels of 6x6."""

SAMPLES: dict[str, tuple[dict[str, Any], tuple[Shape, ...]]] = {
    "Conv1d": ({"out_channels": 6, "kernel_size": 3, "padding": "same"}, ((2, 4, 9),)),
    "Conv2d": ({"out_channels": 6, "kernel_size": 3, "stride": 2, "groups": 2}, (F4,)),
    "Conv3d": ({"out_channels": 3, "kernel_size": 2, "dilation": 2}, ((2, 4, 5, 5, 5),)),
    "ConvTranspose1d": ({"out_channels": 6, "kernel_size": 3, "stride": 2}, ((2, 4, 9),)),
    "ConvTranspose2d": ({"out_channels": 6, "kernel_size": 2, "stride": 2, "groups": 2}, (F4,)),
    "ConvTranspose3d": ({"out_channels": 3, "kernel_size": 2, "output_padding": 0}, ((2, 4, 3, 3, 3),)),
    "Linear": ({"out_features": 5}, ((2, 3, 7),)),
    "Bilinear": ({"out_features": 5}, ((2, 3, 4), (2, 3, 6))),
    "Embedding": ({"num_embeddings": 11, "embedding_dim": 4}, ((2, 5),)),
    "BatchNorm1d": ({}, ((2, 4, 9),)),
    "BatchNorm2d": ({"affine": False}, (F4,)),
    "BatchNorm3d": ({}, ((2, 4, 3, 3, 3),)),
    "GroupNorm": ({"num_groups": 2}, (F4,)),
    "LayerNorm": ({}, ((2, 3, 8),)),
    "InstanceNorm1d": ({}, ((2, 4, 9),)),
    "InstanceNorm2d": ({"affine": True}, (F4,)),
    "InstanceNorm3d": ({}, ((2, 4, 3, 3, 3),)),
    "RMSNorm": ({}, ((2, 3, 8),)),
    "LocalResponseNorm": ({"size": 3}, (F4,)),
    "Threshold": ({"threshold": 0.1, "value": 2}, (F4,)),
    "PixelShuffle": ({"upscale_factor": 2}, (F4,)),
    "PixelUnshuffle": ({"downscale_factor": 2}, (F4,)),
    "ChannelShuffle": ({"groups": 2}, (F4,)),
    "Upsample": ({"scale_factor": 2}, (F4,)),
    "Crop": ({"cropping": 1}, (F4,)),
    "Unflatten": ({"dim": 1, "unflattened_size": [2, 2]}, (F4,)),
    "Reshape": ({"shape": [4, 36]}, (F4,)),
    "Permute": ({"dims": [0, 2, 3, 1]}, (F4,)),
    "Select": ({"dim": 1, "index": 0}, (F4,)),
    "MultiheadAttention": ({"num_heads": 2, "batch_first": True}, ((2, 3, 8),)),
    "TransformerEncoderLayer": ({"nhead": 2, "dim_feedforward": 16, "batch_first": True}, ((2, 3, 8),)),
    "RNN": ({"hidden_size": 5, "batch_first": True}, ((2, 3, 8),)),
    "GRU": ({"hidden_size": 5, "batch_first": True, "bidirectional": True}, ((2, 3, 8),)),
    "LSTM": ({"hidden_size": 5, "batch_first": True, "num_layers": 2}, ((2, 3, 8),)),
    "ClassToken": ({}, ((2, 3, 8),)),
    "PositionalEmbedding": ({}, ((2, 3, 8),)),
    "add": ({}, (F4, F4)),
    "mul": ({}, (F4, F4)),
    "concat": ({}, (F4, F4)),
}
for _dims, _shape in {"1": (2, 4, 8), "2": (2, 4, 8, 8), "3": (2, 4, 8, 8, 8)}.items():
    for _pool in ("MaxPool", "AvgPool"):
        SAMPLES[f"{_pool}{_dims}d"] = ({"kernel_size": 3, "stride": 2, "padding": 1}, (_shape,))
    for _pool in ("AdaptiveAvgPool", "AdaptiveMaxPool"):
        SAMPLES[f"{_pool}{_dims}d"] = ({"output_size": 3}, (_shape,))
    SAMPLES[f"LPPool{_dims}d"] = ({"norm_type": 2, "kernel_size": 2}, (_shape,))
    for _pad in ("Zero", "Reflection", "Replication", "Circular"):
        SAMPLES[f"{_pad}Pad{_dims}d"] = ({"padding": 1}, (_shape,))
    SAMPLES[f"ConstantPad{_dims}d"] = ({"padding": 1, "value": 2}, (_shape,))
    SAMPLES[f"Dropout{_dims}d"] = ({}, (_shape,))


def sample(kind: str) -> tuple[dict[str, Any], tuple[Shape, ...]]:
    """Arguments and input shapes of one layer of a kind; activations and the like take what they get."""
    return SAMPLES.get(kind, ({}, (F4,)))


def layer(kind: str, inputs: tuple[Shape, ...], **written: Any) -> Layer:
    """One layer."""
    return KINDS[kind].create(written, inputs)


class Chain:
    """Puts a graph together, one layer after the other."""

    def __init__(self, *inputs: Shape, dtype: str = "float32") -> None:
        names = ["x"] if len(inputs) == 1 else [f"x{position}" for position in range(len(inputs))]
        self.inputs = tuple(Input(name, shape, dtype) for name, shape in zip(names, inputs, strict=True))
        self.shapes = dict(zip(names, inputs, strict=True))
        self.nodes: list[Node] = []
        self.last = names[0]

    def add(
        self,
        kind: str,
        name: str,
        *,
        sources: tuple[str, ...] = (),
        shared: str | None = None,
        trainable: bool = True,
        **written: Any,
    ) -> Chain:
        """Add a layer after the last one, or after ``sources``; ``shared`` names the layer that it calls again."""
        sources = sources or (self.last,)
        shapes = tuple(self.shapes[source] for source in sources)
        made = (
            next(node.layer for node in self.nodes if node.name == shared) if shared else layer(kind, shapes, **written)
        )
        output = made.output_shape(shapes)
        cost = made.cost(shapes, output)
        self.nodes.append(Node(name, made, sources, shapes, output, cost, owner=shared or name, trainable=trainable))
        self.shapes[name] = output
        self.last = name
        return self

    def graph(self, *outputs: str) -> Graph:
        """The graph; it delivers the last layer's output unless others are named."""
        return Graph("net", self.inputs, tuple(self.nodes), outputs or (self.last,))


def count(graph: Graph, *, batch: int = 1) -> Report:
    """convstat's own count of a graph."""
    return graphs.count(graph, source="test", kind="spec", batch=batch)
