"""From a graph to the frozen report: convstat's own count.

Every figure is the sum of the layers' figures, so the table always closes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from convstat.count.pixels import pixels, positions_read
from convstat.errors import Mark, UsageError
from convstat.grammar.axes import plain
from convstat.grammar.widths import parse as parse_widths
from convstat.graph import Graph, Node, Part
from convstat.layers.base import Layer, made_by
from convstat.results.report import BlockCall, InputInfo, LayerRow, ModelInfo, PartRow, Place, Report
from convstat.results.sums import total

ITEM_BYTES: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of one parameter, by the dtype of the model."""


def count(
    graph: Graph,
    *,
    source: str,
    kind: str,
    batch: int = 1,
    dtype: str = "float32",
    per: str = "input",
    overrides: Mapping[str, Any] | None = None,
    weights: str | None = None,
    activations: str | None = None,
) -> Report:
    """Count a graph: one row for each call, and totals that are their sums.

    ``per`` is the basis of MACs/pixel (see :mod:`convstat.count.pixels`); ``weights`` is the width of stored weights
    (see :mod:`convstat.grammar.widths`) where a layer does not set its own.
    """
    if dtype not in ITEM_BYTES:
        raise UsageError(f"unknown dtype '{dtype}'", help=f"it is one of {', '.join(ITEM_BYTES)}")
    rows = tuple(_row(node, ITEM_BYTES[dtype], weights) for node in graph.nodes)
    first_input = graph.inputs[0].shape
    denominator, basis = pixels(per, first_input, graph.shape_of(graph.outputs[0]))
    # What is floating is of the model's dtype; indices stay what they are.
    inputs = {
        item.name: InputInfo(item.name, item.shape, dtype if item.dtype == "float32" else item.dtype)
        for item in graph.inputs
    }
    return Report(
        model=ModelInfo(
            name=graph.name,
            source=source,
            kind=kind,
            inputs=tuple(inputs.values()),
            batch=batch,
            dtype=dtype,
            overrides=dict(overrides or {}),
            weights=weights,
            activations=activations,
        ),
        totals=total(rows, denominator, basis, positions_read(per, first_input)),
        layers=rows,
        parts=tuple(_part(part, rows, inputs) for part in graph.parts),
        groups=dict(graph.groups),
        calls={
            path: BlockCall({name: plain(value) for name, value in call.arguments.items()}, _place(call.source))
            for path, call in graph.calls.items()
        },
    )


def _row(node: Node, item_bytes: int, weights: str | None) -> LayerRow:
    layer = node.layer
    # A shared layer is paid for once, by its owner; its work is done at every call.
    params = 0 if node.is_shared else layer.params()
    width = (node.weights or weights) if params else None
    made = made_by(layer, node.input_shapes, node.output_shape, node.cost.macs)
    buffers = 0 if node.is_shared else sum(prod(shape) for shape, _ in layer.buffers().values())
    return LayerRow(
        name=node.name,
        type=layer.kind(),
        input_shapes=node.input_shapes,
        output_shapes=(node.output_shape,),
        params=params,
        macs=node.runs * node.cost.macs,
        trainable_params=params if node.trainable else 0,
        buffers=buffers,
        weight_bytes=params * item_bytes if width is None else _stored(layer, width),
        other={name: node.runs * amount for name, amount in node.cost.other.items()},
        arguments=layer.written(),
        source=_place(node.source),
        shares=node.owner if node.is_shared else None,
        note=node.note,
        weights=width,
        runs=node.runs,
        activations=node.runs * made.activations,
        conv_activations=node.runs * made.conv_activations,
    )


def _part(part: Part, rows: Sequence[LayerRow], inputs: Mapping[str, InputInfo]) -> PartRow:
    own = [row for row in rows if row.name.startswith(f"{part.name}.")]
    sums = total(own, 0, "")
    return PartRow(
        part.name,
        part.runs,
        tuple(inputs[name] for name in part.inputs),
        sums.params,
        sums.macs,
        sums.trainable_params,
        sums.buffers,
        sums.weight_bytes,
        part.same,
        sums.macs // part.runs,
    )


def _stored(layer: Layer, width: str) -> int:
    widths = parse_widths(width)
    return sum(widths.size(name, shape) for name, shape in layer.parameters().items())


def _place(mark: Mark | None) -> Place | None:
    return Place(mark.file, mark.line) if mark and mark.source.is_file else None
