"""The format for people: pages laid out for a width, drawn by rich on a terminal and in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from convstat.render.base import Options, Renderer
from convstat.render.layout import BLANK, Grid, Piece, arrange

if TYPE_CHECKING:
    from rich.console import Console

    from convstat.render.base import Result
    from convstat.render.console import Terminal
    from convstat.render.page import Page

MOST_DRAWN = 2_000
"""The rows that rich draws, which takes it half a millisecond for each; more are written as plain text."""


class TableRenderer(Renderer):
    """The reconciled table, the causes and the layers, for reading."""

    name: ClassVar[str] = "table"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    about: ClassVar[str] = "for reading: fits the width, never cuts a number"

    def page(self, result: Result, options: Options) -> Page:
        """Say what is shown of a result."""
        from convstat.render.views import view

        return view(result, options)

    def pieces(self, results: Sequence[Result], options: Options, *, framed: bool = False) -> Iterator[Piece]:
        """Arrange results, one after the other."""
        for number, result in enumerate(results):
            if number:
                yield from (BLANK, BLANK)
            yield from arrange(self.page(result, options), options, framed=framed)

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Lay results out as plain text."""
        from convstat.render.plain import write

        return write(self.pieces(results, options), options.width)

    def encode(self, results: Sequence[Result], options: Options) -> bytes:
        """Write what a terminal shows, without its colours."""
        pieces = list(self.pieces(results, options, framed=True))
        if not _is_drawn(pieces):
            return super().encode(results, options)
        lines = recorded(pieces, options).export_text().splitlines()
        return "".join(f"{line.rstrip()}\n" for line in lines).encode("utf-8", "backslashreplace")

    def show(self, results: Sequence[Result], options: Options, terminal: Terminal) -> None:
        """Lay results out, and let rich draw them where somebody looks at them."""
        if terminal.is_drawn:
            from convstat.render.renderables import renderables

            pieces = list(self.pieces(results, options, framed=True))
            if _is_drawn(pieces):
                terminal.draw(renderables(pieces, ascii=options.ascii))
                return
        terminal.write(self.render(results, options))


def _is_drawn(pieces: Sequence[Piece]) -> bool:
    return sum(len(piece.rows) for piece in pieces if isinstance(piece, Grid)) <= MOST_DRAWN


def recorded(pieces: Iterable[Piece], options: Options) -> Console:
    """Let rich draw for a file: what comes back can be exported."""
    from io import StringIO

    from convstat.render.console import console_of
    from convstat.render.renderables import renderables

    console = console_of(StringIO(), options.width, colour=True, record=True)
    for renderable in renderables(pieces, ascii=options.ascii):
        console.print(renderable)
    return console
