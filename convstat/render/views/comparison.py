"""What ``convstat compare`` says: what is the same once above, what varies as the labels of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from string import ascii_uppercase
from typing import TYPE_CHECKING

from convstat.render.base import Options
from convstat.render.layout import has_room
from convstat.render.page import Block, Column, Item, Items, Line, Pairs, Row, Table
from convstat.render.views.language import per_token
from convstat.render.views.layers import MADE
from convstat.render.views.report import label, show_value
from convstat.results.comparison import ratio
from convstat.results.report import MEMORY
from convstat.text.printable import bar, change, exact, factor, mib, per_pixel_scale, printable, significant

if TYPE_CHECKING:
    from convstat.results.comparison import Comparison, ComparisonRow
    from convstat.results.report import PartRow, Totals

MODEL = "model"

BAR_WIDTH = 8


LONGEST_PATH = 26
"""What is called by more than a path of this length is called by a letter, where its name has no room."""


def blocks(comparison: Comparison, options: Options) -> Iterator[Block]:
    """What the page of a comparison says."""
    if comparison.default:
        yield Line(printable(comparison.default))
    count = len(comparison.rows)
    facts = [(printable(name), printable(show_value(value))) for name, value in comparison.constants.items()]
    peers = _peers(comparison)
    if peers:
        facts.append(("counters", ", ".join(peers)))
    if facts:
        yield Pairs((*facts, ("the same for", f"all {count:,}" if count > 1 else "the one row")))
    table = comparison_table(comparison, options)
    if (letters := _letters(comparison)) and not has_room(table, options.width):
        yield Items(tuple(Item(letter, name) for name, letter in letters.items()), "left")
        table = comparison_table(comparison, options, letters)
    if peers and not has_room(table, options.width, required=True):
        # The counters that were asked for stand below each other rather than in lines without a heading.
        below = comparison_table(comparison, options, letters, counters_below=True)
        table = below if has_room(below, options.width, required=True) else table
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


_MEMORY_TITLES = ("peak MiB", "activations MiB", "training MiB")


LANGUAGE: Mapping[str, str] = {
    "macs_per_token": "MACs/token",
    "active_params": "active params",
    "macs_causal": "causal MACs",
    "kv_cache_bytes": "KV cache bytes",
    "training_flops_per_token": "training FLOPs/token",
}
"""The figures of models that take tokens, and the titles of their columns."""


def _told(comparison: Comparison) -> list[str]:
    """The figures of models that take tokens that some row has; params are not told twice."""
    found = [row.language for row in comparison.rows if row.language is not None]
    return [
        name
        for name in LANGUAGE
        if any(getattr(language, name) is not None for language in found)
        and (name != "active_params" or any(language.active_params != language.params for language in found))
    ]


def _of_tokens(row: ComparisonRow, name: str) -> str:
    value = None if row.language is None else getattr(row.language, name)
    return per_token(value) if isinstance(value, Fraction) else exact(value)


def comparison_table(
    comparison: Comparison, options: Options, letters: Mapping[str, str] | None = None, *, counters_below: bool = False
) -> Table:
    """Set the rows one under the other, each metric with its change against the base.

    With ``letters``, these stand for the names of the models; with ``counters_below``, each counter has a row of its
    own below convstat's, and not two columns.
    The bars, the longest for the largest, are the first to go where the room is short.
    """
    labels = keys(comparison)
    totals = [row.totals for row in comparison.rows if row.totals is not None]
    scale = per_pixel_scale([t.macs_per_pixel for t in totals])
    in_widths = "weights" in comparison.constants
    has_pixels = any(t.pixels for t in totals)
    has_memory = any(t.peak_memory_bytes is not None for t in totals)
    of_tokens = _told(comparison)
    asked = {name.lower() for name in options.columns}
    made = {name: title for name, title in MADE.items() if title in asked}
    has_borders = any(t.border_overhead is not None for t in totals)
    # Long names of a base do not fit above a column of percentages: then the rows say which one it is.
    versus = f"vs {base_name(comparison)}"
    versus = versus if len(versus) <= 14 else "vs base"
    peers = _peers(comparison)
    footnote = {text: i for i, text in enumerate(reasons(comparison), 1)}
    found = {id(row): _figures(row) for row in comparison.rows}
    drawn = [of for figures in found.values() for of in (figures.values() if counters_below else [figures[""]])]
    most = {name: max((of[name] or 0 for of in drawn), default=0) for name in ("params", "macs")}
    base = comparison.base
    of_base = found[id(base)] if base is not None else {}

    def bars(title: str, priority: int) -> list[Column]:
        return [Column("", "left", priority, name=f"{title} bar", graphic=True)] if len(totals) > 1 else []

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
        *([Column("counter", "left")] if counters_below else []),
        Column("params"),
        *bars("params", 8),
        Column(versus, name=f"params {versus}"),
        Column("ratio", priority=4, name="params ratio"),
        Column("MACs"),
        *bars("MACs", 7),
        Column(versus, name=f"MACs {versus}"),
        Column("ratio", priority=3, name="MACs ratio"),
        Column("FLOPs", priority=6),
        *([Column(scale.title, priority=0 if options.per else 5)] if has_pixels else []),
        *([Column("border", priority=5, name="border overhead")] if has_borders else []),
        *([Column("weight bytes", priority=2)] if in_widths else []),
        *([Column(title) for title in _MEMORY_TITLES] if has_memory else []),
        *(Column(LANGUAGE[name], priority=2) for name in of_tokens),
        *(Column(title) for title in made.values()),
        *(Column(f"{peer} {what}") for peer in peers.values() if not counters_below for what in ("params", "MACs")),
    ]

    def part_row(part: PartRow, totals: Totals, count: int) -> Row:
        """A part of the row above: what it costs, and nothing that compares it."""
        calls = f" x {part.calls:,}" if part.calls > 1 else ""
        known = {
            "params": exact(part.params),
            "MACs": exact(part.macs),
            "FLOPs": exact(part.flops),
            scale.title: scale.write(totals.per_pixel(part.macs)),
        }
        lead = f"{printable(part.name)}{calls}"
        cells = [lead, *[""] * (count - 1), *(known.get(column.label, "") for column in columns[count:])]
        return Row(tuple(cells), "quiet", indent=1)

    def metric(name: str, count: int | None, counter: str, is_base: bool) -> Iterator[str]:
        yield exact(count)
        if len(totals) > 1:
            yield bar(count or 0, most[name], BAR_WIDTH, ascii=options.ascii)
        before = of_base.get(counter, {}).get(name)
        compared = ratio(count, before)
        yield from ("base", "base") if is_base and count is not None else (change(compared), factor(compared))

    def figures(row: ComparisonRow, counter: str, of: Mapping[str, int | None]) -> Iterator[str]:
        macs = of["macs"]
        yield from metric("params", of["params"], counter, row is base)
        yield from metric("macs", macs, counter, row is base)
        yield exact(None if macs is None else 2 * macs)
        if has_pixels:
            yield scale.write(row.totals.per_pixel(macs) if row.totals is not None else None)
        if has_borders:
            overhead = row.totals.border_overhead if row.totals is not None else None
            yield "-" if overhead is None else f"x{significant(overhead, 4)}"
        if in_widths:
            yield exact(row.totals.weight_bytes) if row.totals is not None and not counter else ""
        if has_memory:
            for name in MEMORY:
                size = getattr(row.totals, name) if row.totals is not None and not counter else None
                yield "" if size is None else mib(size)
        for name in of_tokens:
            yield _of_tokens(row, name) if not counter else ""
        for name in made:
            yield exact(getattr(row.totals, name)) if row.totals is not None and not counter else ""

    rows: list[Row] = []
    for row in comparison.rows:
        lead = tuple((letters or {}).get(label_of(row, key), label_of(row, key)) for key in labels)
        if counters_below:
            lead = (*lead, "convstat")
        if row.totals is None:
            note = f"invalid [{footnote[reason_of(row)]}]"
            rest = ("" if column.graphic else "-" for column in columns[len(lead) + 1 :])
            rows.append(Row((*lead, note, *rest), "warn"))
            continue
        own = found[id(row)]
        cells = [*lead, *figures(row, "", own[""])]
        answers = {label(counter): counter.status for counter in row.counters}
        if counters_below:
            rows.append(Row(tuple(cells), "strong"))
            blank = ("",) * len(labels)
            rows += [Row((*blank, name, *figures(row, peer, own.get(peer, NONE)))) for peer, name in peers.items()]
            continue
        for peer in peers:
            word = answers.get(peer, "-")
            cells += [exact(n) for n in own[peer].values()] if word == "ok" else [word, word]
        rows.append(Row(tuple(cells)))
        rows += [part_row(part, row.totals, len(labels)) for part in row.parts]
    return Table(tuple(columns), tuple(rows))


NONE: Mapping[str, int | None] = {"params": None, "macs": None}


def _figures(row: ComparisonRow) -> dict[str, Mapping[str, int | None]]:
    """What each counter that answered makes of a row, convstat under no name."""
    totals = row.totals
    found = {"": NONE if totals is None else {"params": totals.params, "macs": totals.macs}}
    for counter in row.counters:
        if counter.status == "ok":
            found[label(counter)] = {"params": counter.reported.params, "macs": counter.reported.macs}
    return found
