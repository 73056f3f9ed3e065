"""The per-layer table: as a tree of blocks, flat, folded, sorted, or the largest ones only.

Whatever is chosen, each layer is counted in exactly one of the numbers shown:
a block that is spread out shows no number of its own, a folded one shows the sum of its layers,
and what ``--top`` leaves out stands in one row. So the numbers always add up to the totals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from convstat.errors import UsageError, did_you_mean
from convstat.render.base import Options
from convstat.render.page import Column, Fields, Row, Table, tabulated, written
from convstat.render.views import tree
from convstat.render.views.extents import extent_fields
from convstat.results.report import NEVER_CALLED, LayerRow, Report
from convstat.text.printable import bar, counted, exact, per_pixel_scale, printable, share, show_shapes

BAR_WIDTH = 10


class LayerLine(NamedTuple):
    """One line of the table: a layer, several folded into one, or the title of a block.

    A title shows no figures; it stands for what the block did itself where that has neither parameters nor MACs.
    """

    name: str
    type: str
    shape: str
    params: int = 0
    macs: int = 0
    layers: int = 0
    indent: int = 0
    is_title: bool = False
    rows: tuple[LayerRow, ...] = ()
    """The layers that it stands for, each with its own figures."""

    @property
    def weight_bytes(self) -> int:
        """The bytes of its parameters."""
        return sum(row.weight_bytes for row in self.rows)

    @property
    def flops(self) -> int:
        """Twice the MACs."""
        return 2 * self.macs

    def made(self, name: str) -> int:
        """The elements of its outputs by one of the metrics of these."""
        return sum(getattr(row, name) for row in self.rows)


MADE: Mapping[str, str] = {
    "activations": "activations",
    "conv_activations": "conv activations",
    "output_elements": "output elements",
}
"""Metrics that have a column only where it is asked for, and what it is called."""

SORT_KEYS: Mapping[str, Callable[[LayerLine], Any]] = {
    "params": lambda line: -line.params,
    "macs": lambda line: -line.macs,
    "flops": lambda line: -line.macs,
    "name": lambda line: line.name,
    "type": lambda line: line.type,
}
"""What ``--sort`` takes; counts go from large to small, names from a to z."""


def check_options(options: Options) -> None:
    """Refuse a sort key that does not exist and a depth or number of rows that makes no sense."""
    if options.sort is not None and options.sort not in SORT_KEYS:
        raise UsageError(
            f"cannot sort by '{options.sort}'",
            help=(*did_you_mean(options.sort, SORT_KEYS), f"--sort takes {', '.join(SORT_KEYS)}"),
        )
    if options.depth is not None and options.depth < 1:
        raise UsageError(f"--depth must be at least 1, not {options.depth}")
    if options.top is not None and options.top < 1:
        raise UsageError(f"--top must be at least 1, not {options.top}")
    if options.width < 20:
        raise UsageError(f"--width must be at least 20, not {options.width}")


def layer_lines(report: Report, options: Options) -> tuple[LayerLine, ...]:
    """Choose the lines; their numbers add up to the report's totals."""
    check_options(options)
    if options.sort is None and options.top is None and not options.flat:
        return tuple(_tree(report, options.depth))
    lines = _fold(report.layers, report.groups, options.depth)
    if options.sort is None and options.top is None:
        return lines
    ordered = sorted(lines, key=SORT_KEYS[options.sort or "macs"])
    if options.top is None or options.top >= len(ordered):
        return tuple(ordered)
    rest = ordered[options.top :]
    count = sum(line.layers for line in rest)
    other = LayerLine(
        name=f"[other {counted(count, 'layer')}]",
        type="",
        shape="",
        params=sum(line.params for line in rest),
        macs=sum(line.macs for line in rest),
        layers=count,
        rows=tuple(row for line in rest for row in line.rows),
    )
    return (*ordered[: options.top], other)


def _fold(layers: Sequence[LayerRow], groups: Mapping[str, str], depth: int | None) -> tuple[LayerLine, ...]:
    """List layers by their full names, those of a block below the depth as one."""
    folded: dict[str, list[LayerRow]] = {}
    lines: dict[str, LayerLine] = {}
    paths = [tree.path_of(row) for row in layers]
    # What a block did itself belongs to it.
    blocks = {".".join(parts[:depth]) for parts in paths if depth is not None and len(parts) > depth}
    for position, (row, parts) in enumerate(zip(layers, paths, strict=True)):
        path = ".".join(parts[:depth]).partition("#")[0]
        if depth is not None and (len(parts) > depth or path in blocks):
            folded.setdefault(path, []).append(row)
            lines.setdefault(path, _line(row))
        else:
            # A layer that is called twice has two rows of one name.
            lines[f"{row.name}\0{position}"] = _line(row)
    for path, rows in folded.items():
        lines[path] = _sum(rows, path, printable(groups.get(path, "")) or f"({counted(len(rows), 'layer')})")
    return tuple(lines.values())


def _sum(rows: Sequence[LayerRow], name: str, type: str, indent: int = 0) -> LayerLine:
    return LayerLine(
        name=printable(name),
        type=type,
        shape=show_shapes(rows[-1].output_shapes),
        params=sum(row.params for row in rows),
        macs=sum(row.macs for row in rows),
        layers=len(rows),
        indent=indent,
        rows=tuple(rows),
    )


def _line(row: LayerRow) -> LayerLine:
    return _sum([row], row.name, _type(row))


def _type(row: LayerRow, *, again: bool = False) -> str:
    """The type of a layer, with whose parameters it uses, and whether it was used at all."""
    about = ""
    if (shared := tree.owner(row)) is not None and not again:
        about = f" (= {shared})"
    elif row.note == NEVER_CALLED:
        about = f" ({row.note})"
    return printable(row.type + about)


def _tree(report: Report, depth: int | None) -> Iterable[LayerLine]:
    in_order = report.model.kind not in ("module", "zoo", "config")
    for node, level, whole, again in tree.walk(tree.build(report.layers), depth):
        rows = node.all_rows() if whole else node.rows
        if node.children:
            kind = tree.block_type(node, report.groups, again=again)
            if whole and not kind:
                kind = f"({counted(len(rows), 'layer')})"
            if whole and all(row.note == NEVER_CALLED for row in rows):
                kind = f"{kind} ({NEVER_CALLED})"
        else:
            kind = _type(node.rows[0], again=again)
        kind = tree.multiplied(kind, node.times)
        if whole:
            shape = show_shapes(tree.output_shapes(node, report.groups, in_order=in_order))
            yield _sum(rows, node.name, kind, level)._replace(shape=shape)
        else:
            shape = show_shapes(rows[-1].output_shapes if rows else ())
            yield LayerLine(printable(node.name), kind, shape, layers=len(rows), indent=level, is_title=True)


def layer_table(report: Report, options: Options) -> Table:
    """Set the chosen lines as a table, the totals below."""
    lines = layer_lines(report, options)
    totals = report.totals
    scale = per_pixel_scale([totals.per_pixel(line.macs) for line in lines] + [totals.macs_per_pixel])

    def per_pixel(line: LayerLine) -> str:
        return scale.write(totals.per_pixel(line.macs))

    in_widths = any(row.weights for row in report.layers)

    def drawn(line: LayerLine) -> str:
        return bar(line.macs, totals.macs, BAR_WIDTH, ascii=options.ascii)

    def made(name: str) -> Callable[[LayerLine], str]:
        return lambda line: exact(line.made(name))

    asked = {name.lower() for name in options.columns}
    fields: Fields[LayerLine] = [
        (Column("layer", "left", shortens=True, comfort=24), lambda line: line.name),
        (Column("type", "left", 0 if options.sort == "type" else 2), lambda line: line.type),
        (Column("output", "left", 3), lambda line: line.shape),
        *(extent_fields() if any(row.extent for row in report.layers) else []),
        (Column("params"), lambda line: exact(line.params)),
        *([(Column("bytes", name="weight bytes"), lambda line: exact(line.weight_bytes))] if in_widths else []),
        (Column("MACs"), lambda line: exact(line.macs)),
        *((Column(title), made(name)) for name, title in MADE.items() if title in asked),
        (Column("FLOPs", priority=0 if options.sort == "flops" else 5), lambda line: exact(line.flops)),
        (Column(scale.title, priority=0 if options.per else 4), per_pixel),
        (Column("share", priority=6, name="share of MACs"), lambda line: share(line.macs, totals.macs)),
        (Column("", "left", 7, name="bar", graphic=True), drawn),
    ]
    table = tabulated(fields, lines)
    # A title has no figures.
    rows = [
        Row((*row.cells[:3], *([""] * (len(fields) - 3))), "quiet", line.indent)
        if line.is_title
        else row._replace(indent=line.indent)
        for line, row in zip(lines, table.rows, strict=True)
    ]
    total = LayerLine(
        f"total ({counted(len(report.layers), 'layer')})", "", "", totals.params, totals.macs, rows=report.layers
    )
    everything = "100%" if totals.macs else ""
    return table._replace(rows=tuple(rows), total=Row((*written(fields, total)[:-2], everything, ""), "strong"))
