"""Draw a page with rich: its own tables, texts and panels, in rooms that have been decided on.

No text is ever read as markup: each is a ``Text``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from convstat.render.layout import GAP, Frame, Grid, Piece, Prose
from convstat.render.page import Tone

if TYPE_CHECKING:
    from rich.box import Box
    from rich.console import RenderableType
    from rich.table import Table

STYLES: Mapping[Tone, str] = {
    "": "",
    "strong": "bold",
    "quiet": "dim",
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
}


def renderables(pieces: Iterable[Piece], *, ascii: bool = False) -> Iterator[RenderableType]:
    """Give what rich prints, one after the other."""
    from rich import box
    from rich.console import Group
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.text import Text

    rules = box.Box(str(box.SIMPLE).replace("─", "-"), ascii=True) if ascii else box.SIMPLE
    for piece in pieces:
        match piece:
            case Prose(text, tone, indent):
                words = Text(text, STYLES[tone])
                yield Padding(words, (0, 0, 0, indent)) if indent else words
            case Grid():
                table = _table(piece, rules)
                yield Padding(table, (0, 0, 0, piece.indent)) if piece.indent else table
            case Frame(title, inner):
                yield Panel(
                    Group(*renderables(inner, ascii=ascii)),
                    title=Text(title, "bold"),
                    title_align="left",
                    border_style="dim",
                    box=box.ASCII if ascii else box.ROUNDED,
                    expand=False,
                )


def _table(grid: Grid, rules: Box) -> Table:
    from rich.table import Table
    from rich.text import Text

    has_heads = any(slot.title for slot in grid.slots)
    table = Table(
        # Given the width, rich takes no room from a column.
        width=sum(slot.room for slot in grid.slots) + GAP * (len(grid.slots) - 1),
        box=rules if has_heads else None,
        # Rules have a blank between two columns already.
        padding=(0, GAP - 1 if has_heads else GAP, 0, 0),
        show_edge=False,
        pad_edge=False,
        show_header=has_heads,
        show_footer=grid.total is not None,
        header_style="dim",
        border_style="dim",
        footer_style=STYLES[grid.total.tone] if grid.total else "",
    )
    totals = grid.total.texts if grid.total else [""] * len(grid.slots)
    for slot, total in zip(grid.slots, totals, strict=True):
        table.add_column(
            Text(slot.title), Text(total), justify=slot.align, width=slot.room, no_wrap=not slot.wraps, overflow="fold"
        )
    for row in grid.rows:
        lead, *others = row.texts
        table.add_row(Text(lead, STYLES[row.lead]), *map(Text, others), style=STYLES[row.tone])
    return table
