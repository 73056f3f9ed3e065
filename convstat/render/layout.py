"""Decide what of a page is shown in a width; how it is drawn is another matter.

Of a table that is too wide, in this order: names are shortened in their middle down to a comfortable width;
bars, columns without a figure and optional columns are left out, and one that still fits then is put back;
names are shortened further; and at last each row is written as lines of its own.
Numbers are never wrapped, shortened or left out without saying so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from convstat.render.base import Options
from convstat.render.page import Align, Block, Column, Heading, Items, Line, Page, Pairs, Row, Table, Tone
from convstat.text.printable import (
    ASCII_ELLIPSIS,
    UNICODE_ELLIPSIS,
    cells,
    counted,
    cut_off,
    shorten,
    shown,
    without_aside,
)

GAP = 2
"""Blanks between two columns."""

NARROWEST_NAME = 10
"""Names are not shortened below this; a table that still does not fit is written as lines."""

NARROWEST_PROSE = 24
"""Words are not set beside an amount in less room than this; they go below it."""

NARROWEST_FRAME = 60
"""Nothing is framed in less room than this."""

INDENT = 2
"""Blanks for each level of a tree."""


class Prose(NamedTuple):
    """A text that is broken between its words."""

    text: str
    tone: Tone = ""
    indent: int = 0


class Slot(NamedTuple):
    """A column of a grid: its room in cells; the text of one that ``wraps`` goes on below."""

    room: int
    align: Align = "left"
    title: str = ""
    wraps: bool = False


class Cells(NamedTuple):
    """A row of a grid; the first cell has a tone of its own where ``lead`` names one."""

    texts: tuple[str, ...]
    tone: Tone = ""
    lead: Tone = ""


class Grid(NamedTuple):
    """Rows whose every cell has its place; slots with titles have a heading, and ``total`` stands below a rule."""

    slots: tuple[Slot, ...]
    rows: tuple[Cells, ...]
    total: Cells | None = None
    indent: int = 0


class Frame(NamedTuple):
    """Pieces in a box with a title."""

    title: str
    pieces: tuple[Prose | Grid, ...]


Piece: TypeAlias = Prose | Grid | Frame
"""What a page is drawn from; every text in one is safe to print as it is."""

BLANK = Prose("")


class Fit(NamedTuple):
    """How a table fits: the columns that are shown with their widths, those that are not, or ``stacked``."""

    shown: tuple[int, ...]
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    stacked: bool = False


def arrange(page: Page, options: Options, *, framed: bool = False) -> Iterator[Piece]:
    """Arrange the blocks of a page, a blank line before each heading and table.

    With ``framed``, the facts that follow the title of a result are set in a box, where there is room.
    """
    blocks: tuple[Block, ...] = _safe(page.blocks, options.ascii)
    for before, block, after in zip((None, *blocks), blocks, (*blocks[1:], None), strict=False):
        if _are_framed(before, block, options, framed) and isinstance(before, Heading):
            # The frame takes four cells, and its facts need no indent.
            inside = _arrange_block(block, options._replace(width=options.width - 4 + INDENT))
            yield Frame(before.text, tuple(piece._replace(indent=piece.indent - INDENT) for piece in inside))
            continue
        apart = isinstance(block, Heading) or not (isinstance(before, Heading) or type(before) is type(block))
        if before is not None and apart:
            yield BLANK
        if not _are_framed(block, after, options, framed):
            yield from _arrange_block(block, options)


def _are_framed(heading: Block | None, after: Block | None, options: Options, framed: bool) -> bool:
    if not (framed and isinstance(heading, Heading) and heading.level == 1 and isinstance(after, Pairs)):
        return False
    return options.width >= max(NARROWEST_FRAME, cells(heading.text) + 6)


def _safe(part: Any, ascii: bool) -> Any:
    """See that no text of a block, or of a part of one, acts on a terminal, or is more than a terminal can show."""
    if isinstance(part, str):
        return shown(part, ascii=ascii)
    if isinstance(part, tuple):
        return getattr(part, "_make", tuple)(_safe(inner, ascii) for inner in part)
    return part


def _arrange_block(block: Block, options: Options) -> Iterator[Prose | Grid]:
    match block:
        case Table():
            yield from _arrange_table(block, options)
        case Heading():
            yield Prose(block.text, "strong")
        case Line():
            yield Prose(block.text, block.tone)
        case Pairs():
            yield from _beside([Cells(pair, "", "quiet") for pair in block.items], options.width, "left")
        case Items():
            rows = [Cells((item.lead, item.text), item.tone, item.tone or "strong") for item in block.items]
            yield from _beside(rows, options.width, block.align)


def _beside(rows: Sequence[Cells], width: int, align: Align) -> Iterator[Prose | Grid]:
    """Set words beside their leads, which stand under one another; below them where the room is short."""
    lead_room = max((cells(row.texts[0]) for row in rows), default=0)
    room = width - 2 - lead_room - GAP
    if room >= NARROWEST_PROSE:
        room = min(room, max(cells(row.texts[1]) for row in rows))
        yield Grid((Slot(lead_room, align), Slot(room, wraps=True)), tuple(rows), indent=2)
        return
    for row in rows:
        if row.texts[0]:
            yield Prose(row.texts[0], row.lead, 2)
        if row.texts[1]:
            yield Prose(row.texts[1], row.tone, 4)


def _arrange_table(table: Table, options: Options) -> Iterator[Prose | Grid]:
    ellipsis = ASCII_ELLIPSIS if options.ascii else UNICODE_ELLIPSIS
    chosen = fit(table, options.width)
    if chosen.stacked:
        yield from stack(table, chosen, options.width, ellipsis=ellipsis)
    else:
        yield side_by_side(table, chosen, ellipsis=ellipsis)
    if names := hidden_names(table, chosen):
        count = counted(len(names), "column")
        note = f"({count} hidden: {', '.join(names)}; shown with --width {needed_width(table)} or -f json)"
        yield Prose(note, "quiet")


def natural_widths(table: Table) -> list[int]:
    """The cells that each column needs to show everything."""
    every = table.every
    widths = [
        max(map(cells, (column.title, *(row.cells[p] for row in every)))) for p, column in enumerate(table.columns)
    ]
    return [max([widths[0], *(cells(row.leading) + cells(row.cells[0]) for row in every if row.leading)]), *widths[1:]]


def fit(table: Table, width: int) -> Fit:
    """Choose the columns and their widths."""
    columns, natural = table.columns, natural_widths(table)

    def needed(positions: Sequence[int]) -> int:
        return sum(_least(columns[p], natural[p]) for p in positions) + GAP * (len(positions) - 1)

    # The last of these is the first to go; of two with the same priority, the one further to the right.
    optional = [p for p, column in enumerate(columns) if column.priority > 0]
    optional.sort(key=lambda p: (columns[p].graphic, _says_nothing(table, p), columns[p].priority, p))
    kept = list(range(len(columns)))
    hidden: list[int] = []
    while needed(kept) > width and optional:
        hidden.append(optional.pop())
        kept.remove(hidden[-1])
    # A narrow column may fit where the wide one that was to be kept does not.
    for position in reversed(hidden):
        if needed([*kept, position]) <= width:
            kept.append(position)
    kept.sort()
    comfort = None if needed(kept) <= width else NARROWEST_NAME
    rooms = [_least(columns[p], natural[p], comfort) for p in kept]
    spare = width - sum(rooms) - GAP * (len(rooms) - 1)
    if spare < 0:
        bars = tuple(p for p, column in enumerate(columns) if column.graphic)
        every = tuple(p for p in range(len(columns)) if p not in bars)
        return Fit(every, tuple(natural[p] for p in every), bars, stacked=True)
    # What is left over goes to the names, the first one first.
    for place, position in enumerate(kept):
        given = min(spare, natural[position] - rooms[place])
        rooms[place] += given
        spare -= given
    return Fit(tuple(kept), tuple(rooms), tuple(p for p in sorted(hidden) if p not in kept))


def _least(column: Column, natural: int, comfort: int | None = None) -> int:
    """The fewest cells that a column takes, as its names are comfortable or with this comfort."""
    return min(natural, max(comfort or column.comfort, cells(column.title))) if column.shortens else natural


def _says_nothing(table: Table, position: int) -> bool:
    """Whether a column has dashes alone."""
    return all(row.cells[position] in ("", "-") for row in table.rows)


def has_room(table: Table, width: int, *, required: bool = False) -> bool:
    """Whether a table fits whole: every column and every name; bars are no reason to shorten anything.

    With ``required``, whether the columns that are never left out fit, with names that are comfortable.
    """
    widths = [
        _least(column, room) if required else room
        for room, column in zip(natural_widths(table), table.columns, strict=True)
        if not (column.graphic or (required and column.priority))
    ]
    return sum(widths) + GAP * (len(widths) - 1) <= width


def side_by_side(table: Table, chosen: Fit, *, ellipsis: str = UNICODE_ELLIPSIS) -> Grid:
    """Set the columns that were chosen beside each other, names shortened to their room."""
    columns = [table.columns[p] for p in chosen.shown]

    def name(position: int, text: str, room: int) -> str:
        """A name without what stands in brackets behind it, where only that has no room and no other is the same."""
        shorter = without_aside(text, room)
        alone = text == shorter or not any(
            row.cells[position] != text and row.cells[position].startswith(shorter) for row in table.every
        )
        return shorter if alone else text

    def write(row: Row) -> Cells:
        texts = []
        for position, column, room in zip(chosen.shown, columns, chosen.widths, strict=True):
            text = row.cells[position]
            if column.shortens:
                # A deep tree keeps room for a name: the lead gives way, the name is shortened after that.
                lead = row.leading if position == 0 else ""
                lead = lead[max(0, len(lead) - max(0, room - min(cells(text), NARROWEST_NAME))) :]
                room -= len(lead)
                text = lead + _cut(column)(name(position, text, room), room, ellipsis)
            texts.append(text)
        return Cells(tuple(texts), row.tone)

    slots = [Slot(room, column.align, column.title) for room, column in zip(chosen.widths, columns, strict=True)]
    return Grid(tuple(slots), tuple(map(write, table.rows)), table.total and write(table.total))


def _cut(column: Column) -> Callable[[str, int, str], str]:
    return cut_off if column.prose else shorten


def stack(table: Table, chosen: Fit, width: int, *, ellipsis: str = UNICODE_ELLIPSIS) -> Iterator[Prose | Grid]:
    """Write each row as its first cell and lines of ``name  value`` below it, the numbers flush right."""
    first, *columns = (table.columns[p] for p in chosen.shown)
    label_room = max((cells(column.label) for column in columns), default=0)
    rooms = [width - 2 * GAP - cells(column.label) for column in columns]
    values = [
        taken
        for row in table.every
        for p, room in zip(chosen.shown[1:], rooms, strict=True)
        if (taken := cells(row.cells[p])) <= room
    ]
    deepest = INDENT * max((row.indent for row in table.every), default=0)
    edge = min(width, GAP + deepest + label_room + GAP + max(values, default=0))
    for row in table.every:
        name = row.cells[chosen.shown[0]]
        if first.assigns:
            name = f"{first.title}={name}"
        indent = min(INDENT * row.indent, max(0, width - NARROWEST_NAME))
        if first.shortens:
            name = shorten(without_aside(name, width - indent), width - indent, ellipsis)
        yield Prose(name, row.tone, indent)
        for position, column, most in zip(chosen.shown[1:], columns, rooms, strict=True):
            value = row.cells[position]
            if column.shortens:
                value = _cut(column)(value, max(NARROWEST_NAME, width - 2 * GAP - label_room), ellipsis)
            if cells(value) > most:
                # It has lines of its own, which start far to the left.
                lead = min(GAP + indent, 2 * GAP)
                yield Prose(column.label, row.tone, lead)
                parts = broken(value, width - lead - GAP) if column.breaks else [value]
                yield from (Prose(part, row.tone, lead + GAP) for part in parts)
            elif value:
                # As far in as its row, or as far as the room allows.
                lead = GAP + max(0, min(indent, edge - 2 * GAP - cells(column.label) - cells(value)))
                room = edge - lead - cells(column.label) - GAP
                if column.align == "left":
                    value += " " * (edge - lead - label_room - GAP - cells(value))
                yield Grid(
                    (Slot(cells(column.label)), Slot(room, "right")),
                    (Cells((column.label, value), row.tone),),
                    indent=lead,
                )


def broken(formula: str, width: int) -> list[str]:
    """Break a formula after its operators, and only there.

    >>> broken("3 * 128*28*28*(64/4)*3*3 + 128", 12)
    ['3 * 128*28*', '28*(64/4)*3*', '3 + 128']
    """
    lines = [""]
    for part in re.findall(r"[^*+]+[*+]?\s*|[*+]\s*", formula):
        if lines[-1] and cells((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def hidden_names(table: Table, chosen: Fit) -> list[str]:
    """The labels of the columns that had no room; a graphic says nothing that its number does not."""
    return [table.columns[p].label for p in chosen.hidden if not table.columns[p].graphic]


def needed_width(table: Table) -> int:
    """The width at which no column is dropped."""
    return sum(map(_least, table.columns, natural_widths(table))) + GAP * (len(table.columns) - 1)
