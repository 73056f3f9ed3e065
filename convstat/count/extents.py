"""The receptive field, the jump and the halo of every layer, from what each layer reads."""

from __future__ import annotations

from dataclasses import replace

from convstat.formulas import reads
from convstat.formulas.reads import Extents
from convstat.graph import Graph
from convstat.results.extent import Extent, Halo
from convstat.results.report import Report

WHOLE = "the whole input"
"""The note of a layer whose outputs depend on all of it."""


def with_extents(report: Report, graph: Graph) -> Report:
    """Add the extents of a graph's layers to their rows, and that of the first output to the report."""
    axes = len(reads.start(graph.inputs[0].shape).along())
    extents = {name: extent_of(item, axes) for name, item in of_graph(graph).items()}
    rows = tuple(replace(row, extent=extents.get(row.name)) for row in report.layers)
    return replace(report, layers=rows, extent=extents.get(graph.outputs[0]))


def of_graph(graph: Graph) -> dict[str, Extents]:
    """How the output of each layer goes along the first input."""
    found = {item.name: reads.apart(item.shape) for item in graph.inputs}
    first = graph.inputs[0]
    found[first.name] = reads.start(first.shape)
    for node in graph.nodes:
        sources = [found[name] for name in node.inputs]
        taken = node.layer.reads(node.input_shapes, node.output_shape)
        found[node.name] = reads.through(taken, sources, node.input_shapes, node.output_shape)
    return found


def extent_of(extents: Extents, axes: int) -> Extent | None:
    """The figures for each of the input's spatial dimensions; None for what does not depend on the input."""
    along = extents.along()
    if not axes or not (along or extents.whole or extents.unknown):
        return None
    known = [along.get(axis) for axis in range(axes)]
    notes = [WHOLE] if extents.whole else []
    notes += [f"not known: {reason}" for reason in dict.fromkeys(extents.unknown.values())]
    if not notes and None in known:
        notes.append("not known: a dimension is gone")
    return Extent(
        tuple(None if reach is None else reach.size for reach in known),
        tuple(None if reach is None else reach.jump for reach in known),
        tuple(None if reach is None else Halo(*reach.halo) for reach in known),
        tuple(None if reach is None else reach.unit for reach in known),
        tuple(None if reach is None else reach.offset for reach in known),
        "; ".join(notes) or None,
    )
