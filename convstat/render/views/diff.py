"""What ``convstat diff`` says: the totals of both models, then each layer that changed, and what about it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from convstat.render.base import Options
from convstat.render.layout import has_room
from convstat.render.page import Block, Column, Heading, Item, Items, Line, Pairs, Row, Table, Tone
from convstat.render.views.report import input_fact, set_facts, show_place
from convstat.results.comparison import ratio
from convstat.text.printable import change, counted, exact, printable, signed

if TYPE_CHECKING:
    from convstat.results.diff import Diff, LayerChange, Shown, Side

SHOWN = ("params", "macs", "flops", "weight_bytes")
TITLES = {"params": "params", "macs": "MACs", "flops": "FLOPs", "weight_bytes": "weight bytes"}
MARKS = {"added": "+", "removed": "-", "changed": "~", "renamed": ">", "unchanged": "="}
"""What leads a row: what became of the layer."""


def blocks(diff: Diff, options: Options) -> Iterator[Block]:
    """What the page of a diff says."""
    yield Heading(heading(diff), 1)
    yield Pairs((("base", _side(diff.base)), ("head", _side(diff.head))))
    for note in diff.notes:
        yield Line(printable(note), "warn")
    yield totals_table(diff)
    shown = diff.shown(all=options.flat, top=options.top, by=options.sort)
    if shown.rows:
        yield Heading("layers")
        table = layer_table(diff, shown, sort=options.sort)
        if has_room(table, options.width):
            yield table
        else:
            # Why a layer changed is what a diff is read for: it goes below rather than be hidden.
            yield layer_table(diff, shown, sort=options.sort, has_reasons=False)
            yield Items(tuple(Item(printable(row.name), _reason(row)) for row in shown.rows if row.why), "left")
    yield Line(summary(diff), "quiet")


def heading(diff: Diff) -> str:
    """Name both sides."""
    if diff.state == "new":
        return f"{printable(diff.head.label)} is new"
    if diff.state == "removed":
        return f"{printable(diff.base.label)} is removed"
    return f"{printable(diff.base.label)} -> {printable(diff.head.label)}"


def _side(side: Side) -> str:
    if side.model is None:
        return f"no model at {printable(side.label)}"
    commit = f" ({side.commit[:12]})" if side.commit else ""
    made = "".join(f", {text}" for _, text in set_facts(side.model))
    layers = counted(side.layers, "layer")
    return f"{printable(side.label)}{commit}{made}, {input_fact(side.model)}, {layers}"


def totals_table(diff: Diff) -> Table:
    """Set the totals of base and head side by side."""
    columns = (Column("total", "left"), Column("base"), Column("head"), Column("change"), Column("vs base", priority=1))
    counts = [(TITLES[name], getattr(diff.base.totals, name), getattr(diff.head.totals, name)) for name in SHOWN]
    rows = []
    for title, old, new in (*counts, ("layers", diff.base.layers, diff.head.layers)):
        versus = "new" if diff.state == "new" else change(ratio(new, old))
        rows.append(Row((title, exact(old), exact(new), signed(new - old), versus)))
    return Table(columns, tuple(rows))


def _reason(row: LayerChange) -> str:
    place = f"{row.source.file}:{row.source.line}: " if row.source else ""
    return printable(f"{place}{row.why}")


def layer_table(diff: Diff, shown: Shown, *, sort: str | None = None, has_reasons: bool = True) -> Table:
    """List layers with what changed about them, all the others in one row, the totals below."""
    columns: tuple[Column, ...] = (
        Column("", "left"),
        Column("layer", "left", shortens=True),
        Column("type", "left", 0 if sort == "type" else 5),
        Column("params"),
        Column("change", name="params change"),
        Column("MACs"),
        Column("change", name="MACs change"),
        Column("what", "left", 1, shortens=True, comfort=40, prose=True),
        Column("where", "left", 2, shortens=True, comfort=20),
    )
    rows = [_row(layer) for layer in shown.rows]
    if shown.others:
        rows.append(Row(("", shown.other_name, "", *_figures(shown.other_old, shown.other_new), "", ""), "quiet"))
    names = ("params", "macs")
    old = {name: getattr(diff.base.totals, name) for name in names}
    new = {name: getattr(diff.head.totals, name) for name in names}
    total = Row(("", "total", "", *_figures(old, new), "", ""), "strong")
    if not has_reasons:
        # The last two columns are the reason and its place.
        columns, total = columns[:-2], total._replace(cells=total.cells[:-2])
        rows = [row._replace(cells=row.cells[:-2]) for row in rows]
    return Table(columns, tuple(rows), total)


def _row(layer: LayerChange) -> Row:
    tones: dict[str, Tone] = {"added": "warn", "removed": "warn", "renamed": "quiet", "unchanged": "quiet"}
    old = {name: layer.value(name, of="old") for name in ("params", "macs")}
    new = {name: layer.value(name, of="new") for name in ("params", "macs")}
    cells = (MARKS[layer.status], printable(layer.name), printable(layer.type), *_figures(old, new))
    return Row((*cells, printable(layer.why), show_place(layer.source)), tones.get(layer.status, ""))


def _figures(old: Mapping[str, int], new: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(text for name in ("params", "macs") for text in (exact(new[name]), signed(new[name] - old[name])))


def summary(diff: Diff) -> str:
    """Count what became of the layers."""
    words = [f"{diff.count(s):,} {s}" for s in ("added", "removed", "changed", "renamed", "unchanged") if diff.count(s)]
    return f"layers: {', '.join(words) or 'none'}."
