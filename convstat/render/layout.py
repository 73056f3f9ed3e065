"""Fit a table into a width without ever cutting a number.

When the room is short, in this order:
names are shortened in their middle down to a comfortable width; optional columns are dropped whole;
names are shortened further; and at last each row is written as lines of its own.
Numbers are never wrapped, shortened or left out without saying so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from convstat.render.page import Column, Row, Table
from convstat.text.printable import UNICODE_ELLIPSIS, cells, cut_off, shorten, without_aside

GAP = 2
"""Blanks between two columns."""

NARROWEST_NAME = 10
"""Names are not shortened below this; a table that still does not fit is written as lines."""

INDENT = 2
"""Blanks for each level of a tree."""


class Fit(NamedTuple):
    """How a table fits: the columns that are shown with their widths, those that are not, or ``stacked``."""

    shown: tuple[int, ...]
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    stacked: bool = False


def natural_widths(table: Table) -> list[int]:
    """The cells that each column needs to show everything."""
    widths = [cells(column.title) for column in table.columns]
    for row in (*table.rows, *table.totals):
        for position, text in enumerate(row.cells):
            lead = INDENT * row.indent if position == 0 else 0
            widths[position] = max(widths[position], lead + cells(text))
    return widths


def fit(table: Table, width: int) -> Fit:
    """Choose the columns and their widths."""
    natural = natural_widths(table)
    columns = table.columns
    shown = list(range(len(columns)))
    hidden: list[int] = []

    def floor(position: int, least: int) -> int:
        column = columns[position]
        if not column.shortens:
            return natural[position]
        return min(natural[position], max(least, cells(column.title)))

    def needed(least_of: dict[int, int]) -> int:
        return sum(least_of.values()) + GAP * (len(least_of) - 1)

    def comfortable() -> dict[int, int]:
        return {p: floor(p, columns[p].comfort) for p in shown}

    while needed(comfortable()) > width:
        optional = [p for p in shown if columns[p].priority > 0]
        if not optional:
            break
        # Of two with the same priority, the one further to the right goes first.
        last = max(optional, key=lambda p: (columns[p].priority, p))
        shown.remove(last)
        hidden.append(last)
    least = comfortable()
    if needed(least) > width:
        least = {p: floor(p, NARROWEST_NAME) for p in shown}
        if needed(least) > width:
            bars = tuple(p for p, column in enumerate(columns) if column.graphic)
            every = tuple(p for p in range(len(columns)) if p not in bars)
            return Fit(every, tuple(natural[p] for p in every), bars, stacked=True)
    # What is left over goes to the names, the first one first.
    spare = width - needed(least)
    for position in shown:
        given = min(spare, natural[position] - least[position])
        least[position] += given
        spare -= given
    return Fit(tuple(shown), tuple(least[p] for p in shown), tuple(sorted(hidden)))


def has_room(table: Table, width: int) -> bool:
    """Whether a table fits whole, with every column and every name; bars are no reason to shorten anything."""
    widths = [room for room, column in zip(natural_widths(table), table.columns, strict=True) if not column.graphic]
    return sum(widths) + GAP * (len(widths) - 1) <= width


def lay_out(table: Table, chosen: Fit, *, ellipsis: str = UNICODE_ELLIPSIS) -> list[tuple[str, Row | None]]:
    """Write the lines of a table that fits; each with its row, or None for the heading and the rule."""
    columns = [table.columns[p] for p in chosen.shown]
    slots = [(column.align == "right", room) for column, room in zip(columns, chosen.widths, strict=True)]
    lines: list[tuple[str, Row | None]] = []

    every = (*table.rows, *table.totals)

    def name(position: int, text: str, room: int) -> str:
        """A name without what stands in brackets behind it, where only that has no room and no other is the same."""
        shorter = without_aside(text, room)
        alone = text == shorter or not any(
            row.cells[position] != text and row.cells[position].startswith(shorter) for row in every
        )
        return shorter if alone else text

    def write(texts: list[str]) -> str:
        parts = []
        for text, (to_the_right, room) in zip(texts, slots, strict=True):
            if not text.isascii():
                room -= cells(text) - len(text)
            parts.append(text.rjust(room) if to_the_right else text.ljust(room))
        return (" " * GAP).join(parts).rstrip()

    def write_row(row: Row) -> str:
        texts = []
        for position, column, room in zip(chosen.shown, columns, chosen.widths, strict=True):
            text = row.cells[position]
            if column.shortens:
                indent = 0
                if position == 0 and row.indent:
                    # A deep tree keeps room for a name: the indent gives way, the name is shortened after that.
                    indent = min(INDENT * row.indent, max(0, room - min(cells(text), NARROWEST_NAME)))
                text = " " * indent + _cut(column)(name(position, text, room - indent), room - indent, ellipsis)
            texts.append(text)
        return write(texts)

    lines.append((write([column.title for column in columns]), None))
    lines += [(write_row(row), row) for row in table.rows]
    if table.totals:
        lines.append(("-" * (sum(chosen.widths) + GAP * (len(columns) - 1)), None))
        lines += [(write_row(row), row) for row in table.totals]
    return lines


def _cut(column: Column) -> Callable[[str, int, str], str]:
    return cut_off if column.prose else shorten


def stack(table: Table, chosen: Fit, width: int, *, ellipsis: str = UNICODE_ELLIPSIS) -> list[tuple[str, Row | None]]:
    """Write each row as its first cell and lines of ``name  value`` below it, the numbers flush right."""
    columns = [table.columns[p] for p in chosen.shown]
    rows = (*table.rows, *table.totals)
    label_room = max((cells(column.label) for column in columns[1:]), default=0)
    value_room = max((cells(row.cells[p]) for row in rows for p in chosen.shown[1:]), default=0)
    deepest = max((row.indent for row in rows), default=0)
    edge = min(width, INDENT * deepest + GAP + label_room + GAP + value_room)
    lines: list[tuple[str, Row | None]] = []
    for row in rows:
        name = row.cells[chosen.shown[0]]
        if columns[0].assigns:
            name = f"{columns[0].title}={name}"
        indent = min(INDENT * row.indent, max(0, width - NARROWEST_NAME))
        if columns[0].shortens:
            name = shorten(without_aside(name, width - indent), width - indent, ellipsis)
        lines.append((" " * indent + name, row))
        for position, column in zip(chosen.shown[1:], columns[1:], strict=True):
            value = row.cells[position]
            if not value:
                continue
            if column.shortens:
                value = _cut(column)(value, max(NARROWEST_NAME, width - 2 * GAP - label_room), ellipsis)
            if column.breaks and 2 * GAP + indent + cells(column.label) + cells(value) > width:
                edges = " " * min(GAP + indent, 2 * GAP)
                lines.append((edges + column.label, row))
                lines += [(edges + " " * GAP + part, row) for part in broken(value, width - len(edges) - GAP)]
                continue
            # As far in as its row, or as far as the room allows.
            lead = GAP + max(0, min(indent, edge - 2 * GAP - cells(column.label) - cells(value)))
            room = (
                edge - lead - cells(column.label) if column.align == "right" else label_room - cells(column.label) + GAP
            )
            blanks = max(GAP, room - (cells(value) if column.align == "right" else 0))
            if column.align == "left":
                blanks = max(GAP, min(blanks, width - lead - cells(column.label) - cells(value)))
            lines.append((" " * lead + column.label + " " * blanks + value, row))
    return lines


def broken(formula: str, width: int) -> list[str]:
    """Break a formula after its operators, and only there.

    >>> broken("3 * 128*28*28*(64/4)*3*3 + 128", 12)
    ['3 * 128*28*', '28*(64/4)*3*', '3 + 128']
    """
    import re

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
    natural = natural_widths(table)
    total = GAP * (len(table.columns) - 1)
    for column, room in zip(table.columns, natural, strict=True):
        total += min(room, max(column.comfort, cells(column.title))) if column.shortens else room
    return total
