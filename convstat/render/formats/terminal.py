"""The format for people: pages laid out for a width, drawn by rich on a terminal and in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from convstat.render.base import Options, Renderer, Result
from convstat.render.layout import BLANK, arrange
from convstat.render.page import Page, Table
from convstat.text.printable import harmless

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from convstat.render.console import Terminal

MOST_DRAWN = 2_000
"""The rows that rich draws, which takes it half a millisecond for each; more are written as plain text."""


class TableRenderer(Renderer):
    """The reconciled table, the causes and the layers, for reading."""

    name = "table"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    about = "for reading: fits the width, never truncates a number"

    def page(self, result: Result, options: Options) -> Page:
        """Say what is shown of a result."""
        from convstat.render.views import view

        return view(result, options)

    def pages(self, results: Sequence[Result], options: Options) -> list[Page]:
        return [self.page(result, options) for result in results]

    def render(self, results: Sequence[Result], options: Options) -> str:
        return _plain(self.pages(results, options), options)

    def encode(self, results: Sequence[Result], options: Options) -> bytes:
        """Write what a terminal shows, without its colours."""
        pages = self.pages(results, options)
        text = _plain(pages, options) if _are_long(pages) else recorded(pages, options).export_text()
        lines = harmless(text).splitlines()
        return "".join(f"{line.rstrip()}\n" for line in lines).encode("utf-8", "backslashreplace")

    def show(self, results: Sequence[Result], options: Options, terminal: Terminal) -> None:
        """Lay results out, and let rich draw them where somebody looks at them."""
        pages = self.pages(results, options)
        if terminal.is_drawn and not _are_long(pages):
            terminal.draw(drawn(pages, options))
        else:
            terminal.write(_plain(pages, options))


def _are_long(pages: Sequence[Page]) -> bool:
    return sum(len(block.rows) for page in pages for block in page.blocks if isinstance(block, Table)) > MOST_DRAWN


def _plain(pages: Sequence[Page], options: Options) -> str:
    from convstat.render.plain import write

    return "\n\n".join(write(arrange(page, options), options.width) for page in pages)


def drawn(pages: Sequence[Page], options: Options) -> Iterator[RenderableType]:
    """Give what rich draws of pages, one after the other."""
    from convstat.render.renderables import renderables

    for number, page in enumerate(pages):
        if number:
            yield from renderables((BLANK, BLANK))
        yield from renderables(arrange(page, options, framed=True), ascii=options.ascii)


def recorded(pages: Sequence[Page], options: Options) -> Console:
    """Let rich draw for a file: what comes back can be exported."""
    from io import StringIO

    from convstat.render.console import console_of

    console = console_of(StringIO(), options.width, colour=True, record=True)
    for renderable in drawn(pages, options):
        console.print(renderable)
    return console
