"""The per-layer table: as a tree of blocks, flat, folded, sorted, or the largest ones only.

Whatever is chosen, each layer is counted in exactly one of the numbers shown:
a block that is spread out shows no number of its own, a folded one shows the sum of its layers,
and what ``--top`` leaves out stands in one row. So the numbers always add up to the totals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from convstat.errors import UsageError, did_you_mean
from convstat.render.base import Options
from convstat.render.page import Column, Row, Table
from convstat.render.text import bar, exact, per_pixel_scale, printable, share
from convstat.report import LayerRow, Report

BAR_WIDTH = 10


class LayerLine(NamedTuple):
    """One line of the table: a layer, several folded into one, or the title of a block (no ``layers``)."""

    name: str
    type: str
    shape: str
    params: int = 0
    macs: int = 0
    layers: int = 0
    indent: int = 0

    @property
    def flops(self) -> int:
        """Twice the MACs."""
        return 2 * self.macs


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
    lines = _fold(report.layers, report.groups, options.depth)
    if options.sort is None and options.top is None:
        return lines if options.flat else tuple(_tree(lines, report.groups))
    ordered = sorted(lines, key=SORT_KEYS[options.sort or "macs"])
    if options.top is None or options.top >= len(ordered):
        return tuple(ordered)
    rest = ordered[options.top :]
    count = sum(line.layers for line in rest)
    other = LayerLine(
        name=f"[other {count} layer{'s' if count > 1 else ''}]",
        type="",
        shape="",
        params=sum(line.params for line in rest),
        macs=sum(line.macs for line in rest),
        layers=count,
    )
    return (*ordered[: options.top], other)


def show_shapes(shapes: Iterable[Sequence[int]]) -> str:
    """Write shapes with their batch left out, as ``--input`` takes them.

    >>> show_shapes([(1, 64, 56, 56)]), show_shapes([(1,), (1, 10)])
    ('64x56x56', 'scalar, 10')
    """
    return ", ".join("x".join(map(str, shape[1:])) or "scalar" for shape in shapes)


def _fold(layers: Sequence[LayerRow], groups: Mapping[str, str], depth: int | None) -> tuple[LayerLine, ...]:
    folded: dict[str, list[LayerRow]] = {}
    lines: dict[str, LayerLine] = {}
    for position, row in enumerate(layers):
        parts = row.name.split(".")
        if depth is not None and len(parts) > depth:
            folded.setdefault(".".join(parts[:depth]), []).append(row)
            lines.setdefault(".".join(parts[:depth]), _line(row))
        else:
            # A layer that is called twice has two rows of one name.
            lines[f"{row.name}\0{position}"] = _line(row)
    for path, rows in folded.items():
        lines[path] = LayerLine(
            name=printable(path),
            type=printable(groups.get(path, "")) or f"({len(rows)} layer{'s' if len(rows) > 1 else ''})",
            shape=show_shapes(rows[-1].output_shapes),
            params=sum(row.params for row in rows),
            macs=sum(row.macs for row in rows),
            layers=len(rows),
        )
    return tuple(lines.values())


def _line(row: LayerRow) -> LayerLine:
    shared = f" (= {row.shares})" if row.shares else ""
    return LayerLine(
        name=printable(row.name),
        type=printable(row.type + shared),
        shape=show_shapes(row.output_shapes),
        params=row.params,
        macs=row.macs,
        layers=1,
    )


def _tree(lines: Sequence[LayerLine], groups: Mapping[str, str]) -> Iterable[LayerLine]:
    above: list[str] = []
    for line in lines:
        *blocks, last = line.name.split(".")
        common = 0
        while common < min(len(above), len(blocks)) and above[common] == blocks[common]:
            common += 1
        for level in range(common, len(blocks)):
            path = ".".join(blocks[: level + 1])
            yield LayerLine(name=blocks[level], type=printable(groups.get(path, "")), shape="", indent=level)
        above = blocks
        yield LayerLine(last, line.type, line.shape, line.params, line.macs, line.layers, indent=len(blocks))


def layer_table(report: Report, options: Options) -> Table:
    """Set the chosen lines as a table, the totals below."""
    lines = layer_lines(report, options)
    totals = report.totals
    pixels = totals.pixels

    def per_pixel(macs: int) -> Fraction | None:
        return Fraction(macs, pixels) if pixels else None

    scale = per_pixel_scale([per_pixel(line.macs) for line in lines] + [totals.macs_per_pixel])
    columns = (
        Column("layer", "left", shortens=True, comfort=24),
        Column("type", "left", 2),
        Column("output", "left", 3),
        Column("params"),
        Column("MACs"),
        Column("FLOPs", priority=5),
        Column(scale.title, priority=4),
        Column("share", priority=6, name="share of MACs"),
        Column("", "left", 7, name="bar", graphic=True),
    )

    def row(line: LayerLine) -> Row:
        if not line.layers:
            return Row((line.name, line.type, *([""] * 7)), "quiet", line.indent)
        cells = (
            line.name,
            line.type,
            line.shape,
            exact(line.params),
            exact(line.macs),
            exact(line.flops),
            scale.write(per_pixel(line.macs)),
            share(line.macs, totals.macs),
            bar(line.macs, totals.macs, BAR_WIDTH, ascii=options.ascii),
        )
        return Row(cells, indent=line.indent)

    count = len(report.layers)
    total = (
        f"total ({count} layer{'s' if count != 1 else ''})",
        "",
        "",
        exact(totals.params),
        exact(totals.macs),
        exact(totals.flops),
        scale.write(totals.macs_per_pixel),
        "100%" if totals.macs else "",
        "",
    )
    return Table(columns, tuple(row(line) for line in lines), (Row(total, "strong"),))
