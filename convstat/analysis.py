"""From a graph to the frozen report: convstat's own count.

Every figure is the sum of the layers' figures, so the table always closes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, NamedTuple

from convstat.axes import plain
from convstat.errors import Diagnostic, Mark, SourceError, UsageError
from convstat.graph import Graph, Node
from convstat.pixels import pixels
from convstat.report import BlockCall, InputInfo, LayerRow, ModelInfo, Place, Report, Totals

ITEM_BYTES: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of one parameter, by the dtype of the model."""


class Subject(NamedTuple):
    """A model that was counted, with what else is known of it: how counters run it, and its graph if it is a spec."""

    report: Report
    stages: Any
    graph: Graph | None = None


def count(
    graph: Graph,
    *,
    source: str,
    kind: str,
    batch: int = 1,
    dtype: str = "float32",
    per: str = "input",
    overrides: Mapping[str, Any] | None = None,
) -> Report:
    """Count a graph: one row for each call, and totals that are their sums.

    ``per`` is the basis of MACs/pixel (see :mod:`convstat.pixels`).
    """
    if dtype not in ITEM_BYTES:
        raise UsageError(f"unknown dtype '{dtype}'", help=f"it is one of {', '.join(ITEM_BYTES)}")
    rows = tuple(_row(node, ITEM_BYTES[dtype]) for node in graph.nodes)
    first_input = graph.inputs[0].shape
    denominator, basis = pixels(per, first_input, graph.shape_of(graph.outputs[0]))
    return Report(
        model=ModelInfo(
            name=graph.name,
            source=source,
            kind=kind,
            # What is floating is of the model's dtype; indices stay what they are.
            inputs=tuple(
                InputInfo(item.name, item.shape, dtype if item.dtype == "float32" else item.dtype)
                for item in graph.inputs
            ),
            batch=batch,
            dtype=dtype,
            overrides=dict(overrides or {}),
        ),
        totals=total(rows, denominator, basis),
        layers=rows,
        groups=dict(graph.groups),
        calls={
            path: BlockCall({name: plain(value) for name, value in call.arguments.items()}, _place(call.source))
            for path, call in graph.calls.items()
        },
    )


def total(rows: Iterable[LayerRow], denominator: int, basis: str) -> Totals:
    """Sum rows up."""
    params = trainable = buffers = macs = weight_bytes = 0
    other: dict[str, int] = {}
    for row in rows:
        params += row.params
        trainable += row.trainable_params
        buffers += row.buffers
        macs += row.macs
        weight_bytes += row.weight_bytes
        for name, amount in row.other.items():
            other[name] = other.get(name, 0) + amount
    return Totals(params, trainable, buffers, macs, weight_bytes, denominator, basis, dict(sorted(other.items())))


def check_sums(report: Report) -> None:
    """Refuse a report whose layers do not sum up to its totals, or whose causes not to a difference.

    One that was made here cannot be so; a saved one may have been changed by hand. Raises SourceError.
    """
    problems = []
    sums = total(report.layers, report.totals.pixels, report.totals.pixel_basis)
    for name in ("params", "trainable_params", "buffers", "macs", "weight_bytes"):
        said, is_sum = getattr(report.totals, name), getattr(sums, name)
        if said != is_sum:
            problems.append(Diagnostic(f"totals.{name}: {said}, and that of the layers sums up to {is_sum}"))
    for name in dict.fromkeys([*report.totals.other, *sums.other]):
        said, is_sum = report.totals.other.get(name, 0), sums.other.get(name, 0)
        if said != is_sum:
            problems.append(Diagnostic(f"totals.other: {said} of '{name}', and the layers sum up to {is_sum}"))
    for place, row in enumerate(report.counters):
        for name in ("params", "macs"):
            difference = getattr(row.difference, name)
            explained = sum(getattr(cause, name) for cause in row.causes) + (getattr(row.unexplained, name) or 0)
            if difference is not None and difference != explained:
                where = f"counters[{place}].difference.{name}"
                problems.append(Diagnostic(f"{where}: {difference}, and its causes and the rest sum up to {explained}"))
    if problems:
        raise SourceError(problems)


def _row(node: Node, item_bytes: int) -> LayerRow:
    layer = node.layer
    # A shared layer is paid for once, by its owner; its work is done at every call.
    params = 0 if node.is_shared else layer.params()
    buffers = 0 if node.is_shared else sum(prod(shape) for shape, _ in layer.buffers().values())
    return LayerRow(
        name=node.name,
        type=layer.kind(),
        input_shapes=node.input_shapes,
        output_shapes=(node.output_shape,),
        params=params,
        macs=node.cost.macs,
        trainable_params=params if node.trainable else 0,
        buffers=buffers,
        weight_bytes=params * item_bytes,
        other=dict(node.cost.other),
        arguments=layer.written(),
        source=_place(node.source),
        shares=node.owner if node.is_shared else None,
        note=node.note,
    )


def _place(mark: Mark | None) -> Place | None:
    return Place(mark.file, mark.line) if mark and mark.source.is_file else None
