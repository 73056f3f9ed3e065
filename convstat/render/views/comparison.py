"""What ``convstat compare`` says: what is the same once above, what varies as the labels of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import ascii_uppercase
from typing import TYPE_CHECKING

from convstat.render.base import Options
from convstat.render.layout import has_room
from convstat.render.page import Block, Column, Item, Items, Line, Page, Pairs, Row, Table
from convstat.render.views.report import label, show_value
from convstat.results.comparison import ratio
from convstat.results.report import Totals
from convstat.text.printable import bar, change, exact, factor, per_pixel_scale, printable

if TYPE_CHECKING:
    from convstat.results.comparison import Comparison, ComparisonRow

MODEL = "model"

BAR_WIDTH = 8


LONGEST_PATH = 26
"""What is called by more than a path of this length is called by a letter, where its name has no room."""


def comparison_page(comparison: Comparison, options: Options) -> Page:
    """Make the page of one comparison."""
    return Page(tuple(_blocks(comparison, options)))


def _blocks(comparison: Comparison, options: Options) -> Iterator[Block]:
    if comparison.default:
        yield Line(printable(comparison.default))
    count = len(comparison.rows)
    facts = [(printable(name), printable(show_value(value))) for name, value in comparison.constants.items()]
    if peers := _peers(comparison):
        facts.append(("counters", ", ".join(peers)))
    if facts:
        yield Pairs((*facts, ("the same for", f"all {count:,}" if count > 1 else "the one row")))
    table = comparison_table(comparison, ascii=options.ascii)
    if (letters := _letters(comparison)) and not has_room(table, options.width):
        yield Items(tuple(Item(letter, name) for name, letter in letters.items()), "left")
        table = comparison_table(comparison, letters, ascii=options.ascii)
    yield table
    if footnotes := reasons(comparison):
        yield Items(tuple(Item(f"[{i}]", text, "warn") for i, text in enumerate(footnotes, 1)))
    for note in comparison.notes:
        yield Line(printable(note), "quiet")


def keys(comparison: Comparison) -> tuple[str, ...]:
    """The keys that label a row: what varies, or the model where nothing does."""
    return comparison.varying or (MODEL,)


def label_of(row: ComparisonRow, key: str) -> str:
    """Write one key of a row."""
    value = row.values.get(key, row.model if key == MODEL else None)
    return printable(show_value(value))


def _peers(comparison: Comparison) -> dict[str, str]:
    """Give the peers that were asked, each in full, and by its name alone where that is enough."""
    found = {label(counter): counter for row in comparison.rows for counter in row.counters}
    names = [counter.name for counter in found.values()]
    return {full: full if names.count(one.name) > 1 else printable(one.name) for full, one in found.items()}


def _letters(comparison: Comparison) -> dict[str, str]:
    """Give models a letter each, where a layer with its arguments is among them: such names differ in their middle."""
    if MODEL not in comparison.varying:
        return {}
    names = list(dict.fromkeys(label_of(row, MODEL) for row in comparison.rows))
    if len(names) > len(ascii_uppercase) or not any("(" in name and len(name) > LONGEST_PATH for name in names):
        return {}
    return dict(zip(names, ascii_uppercase, strict=False))


def base_name(comparison: Comparison) -> str:
    """Say what the ratios are relative to.

    The label of the first valid row, such as ``groups=1``.
    """
    base = comparison.base
    if base is None:
        return "base"
    return " ".join(
        label_of(base, key) if key == MODEL else f"{printable(key)}={label_of(base, key)}" for key in keys(comparison)
    )


def reasons(comparison: Comparison) -> list[str]:
    """The different reasons why points are impossible, in the order of the rows."""
    texts = (reason_of(row) for row in comparison.rows if row.status != "ok")
    return list(dict.fromkeys(texts))


def reason_of(row: ComparisonRow) -> str:
    """Say why a point is impossible, and what would do."""
    where = f"{row.where}: " if row.where else ""
    parts = [f"{where}{row.reason or 'no reason given'}", *(f"help: {line}" for line in row.help)]
    return printable("; ".join(" ".join(part.split()) for part in parts))


def comparison_table(comparison: Comparison, letters: Mapping[str, str] | None = None, *, ascii: bool = False) -> Table:
    """Set the rows one under the other, each metric with its change against the base.

    With ``letters``, these stand for the names of the models.
    The bars, the longest for the largest, are the first to go where the room is short.
    """
    labels = keys(comparison)
    totals = [row.totals for row in comparison.rows if row.totals is not None]
    scale = per_pixel_scale([t.macs_per_pixel for t in totals])
    has_pixels = any(t.pixels for t in totals)
    # Long names of a base do not fit above a column of percentages: then the rows say which one it is.
    versus = f"vs {base_name(comparison)}"
    versus = versus if len(versus) <= 14 else "vs base"
    peers = _peers(comparison)
    footnote = {text: i for i, text in enumerate(reasons(comparison), 1)}
    with_bars = len(totals) > 1
    most_params, most_macs = (max((getattr(t, name) for t in totals), default=0) for name in ("params", "macs"))
    columns = [
        *(
            Column(
                printable(key),
                "left",
                shortens=True,
                comfort=LONGEST_PATH if key == MODEL else 12,
                assigns=key != MODEL or letters is not None,
            )
            for key in labels
        ),
        Column("params"),
        *([Column("", "left", 8, name="params bar", graphic=True)] if with_bars else []),
        Column(versus, name=f"params {versus}"),
        Column("ratio", priority=4, name="params ratio"),
        Column("MACs"),
        *([Column("", "left", 7, name="MACs bar", graphic=True)] if with_bars else []),
        Column(versus, name=f"MACs {versus}"),
        Column("ratio", priority=3, name="MACs ratio"),
        Column("FLOPs", priority=6),
        *([Column(scale.title, priority=5)] if has_pixels else []),
        # These were asked for, and what is derived from our own counts was not.
        *(
            Column(f"{peer} {what}", priority=priority)
            for peer in peers.values()
            for what, priority in (("params", 2), ("MACs", 1))
        ),
    ]
    base = comparison.base
    base_totals = base.totals if base is not None and base.totals is not None else Totals()
    rows: list[Row] = []
    for row in comparison.rows:
        lead = tuple((letters or {}).get(label_of(row, key), label_of(row, key)) for key in labels)
        if row.totals is None:
            note = f"invalid [{footnote[reason_of(row)]}]"
            rest = ("" if column.graphic else "-" for column in columns[len(lead) + 1 :])
            rows.append(Row((*lead, note, *rest), "warn"))
            continue
        is_base = row is base
        cells = [
            *lead,
            exact(row.totals.params),
            *([bar(row.totals.params, most_params, BAR_WIDTH, ascii=ascii)] if with_bars else []),
            *_versus(row.totals.params, base_totals.params, is_base),
            exact(row.totals.macs),
            *([bar(row.totals.macs, most_macs, BAR_WIDTH, ascii=ascii)] if with_bars else []),
            *_versus(row.totals.macs, base_totals.macs, is_base),
            exact(row.totals.flops),
        ]
        if has_pixels:
            cells.append(scale.write(row.totals.macs_per_pixel))
        answers = {label(counter): counter for counter in row.counters}
        for peer in peers:
            counter = answers.get(peer)
            if counter is None or counter.status != "ok":
                word = "-" if counter is None else counter.status
                cells += [word, word]
            else:
                cells += [exact(counter.reported.params), exact(counter.reported.macs)]
        rows.append(Row(tuple(cells)))
    return Table(tuple(columns), tuple(rows))


def _versus(count: int, base: int, is_base: bool) -> tuple[str, str]:
    if is_base:
        return "base", "base"
    compared = ratio(count, base)
    return change(compared), factor(compared)
