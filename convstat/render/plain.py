"""Draw a page as plain text, for pipes and files: what a terminal shows, without rich.

It costs a fraction of rich's time: a gate on many models and a sweep of ten thousand rows are written to pipes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from convstat.render.layout import GAP, Cells, Grid, Piece, Prose
from convstat.text.printable import cells


def write(pieces: Iterable[Piece], width: int) -> str:
    """Write pieces as lines, without blanks at their ends."""
    return "".join(f"{line.rstrip()}\n" for piece in pieces for line in _lines(piece, width))


def _lines(piece: Piece, width: int) -> Iterator[str]:
    match piece:
        case Prose():
            yield from (" " * piece.indent + line for line in wrap(piece.text, width - piece.indent) or [""])
        case Grid():
            if any(slot.title for slot in piece.slots):
                yield from _row(piece, Cells(tuple(slot.title for slot in piece.slots)))
            for row in piece.rows:
                yield from _row(piece, row)
            if piece.total is not None:
                yield "-" * (sum(slot.room for slot in piece.slots) + GAP * (len(piece.slots) - 1))
                yield from _row(piece, piece.total)
        case _:
            for inner in piece.pieces:
                yield from _lines(inner, width)


def _row(grid: Grid, row: Cells) -> Iterator[str]:
    if not any(slot.wraps for slot in grid.slots):
        yield " " * grid.indent + _line(grid, row.texts)
        return
    columns = [
        wrap(text, slot.room) if slot.wraps else [text] for text, slot in zip(row.texts, grid.slots, strict=True)
    ]
    for texts in zip_longest(*columns, fillvalue=""):
        yield " " * grid.indent + _line(grid, texts)


def _line(grid: Grid, texts: Sequence[str]) -> str:
    parts = []
    for text, (room, align, _, _) in zip(texts, grid.slots, strict=True):
        if not text.isascii():
            room -= cells(text) - len(text)
        parts.append(text.rjust(room) if align == "right" else text.ljust(room))
    return (" " * GAP).join(parts)


def wrap(text: str, width: int) -> list[str]:
    """Break a text between words, and only there: a number or a name that is too long sticks out.

    >>> wrap("difference of 43,252,712 MACs", 14)
    ['difference of', '43,252,712', 'MACs']
    """
    lines: list[str] = []
    current = ""
    for word in text.split(" "):
        if current and cells(current) + 1 + cells(word) > width:
            lines.append(current)
            current = word
        else:
            current = f"{current} {word}" if current else word
    return [*lines, current] if current else lines
