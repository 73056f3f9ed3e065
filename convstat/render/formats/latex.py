r"""The format for papers: the tables of a result, for the booktabs package, to be put into a document with ``\input``.

Every number has all its digits. Bars and the words around the tables stay away; what a table is stands above it
as a comment. Names outside Latin-1 need a document that is set with XeLaTeX or LuaLaTeX.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from convstat.render.base import Options, Renderer, Result
from convstat.render.formats.latex_formula import write_formula
from convstat.render.page import Heading, Items, Line, Pairs, Row, Table
from convstat.text.latex import escape, indented, tabular

if TYPE_CHECKING:
    from convstat.render.page import Page
    from convstat.results.formula import Formula


class LatexRenderer(Renderer):
    """One ``tabular`` for each table of the page."""

    name = "latex"
    suffixes = (".tex",)
    about = "for papers: tables for the booktabs package"
    expresses = ("report", "comparison", "check", "diff", "formula")

    def render(self, results: Sequence[Result], options: Options) -> str:
        from convstat.render.views import view

        lines = [r"% needs \usepackage{booktabs,textcomp} and \usepackage[T1]{fontenc}"]
        for result in results:
            if result.kind == "formula":
                lines += write_formula(cast("Formula", result), options)
            else:
                lines += _write_page(view(result, options))
        return "".join(f"{line}\n" for line in lines)


def _write_page(page: Page) -> Iterator[str]:
    from convstat.render.views.report import RESTS_ON

    title = ""
    for block in page.blocks:
        match block:
            case Heading():
                title = block.text
            case Table():
                yield ""
                if title:
                    yield f"% {title}"
                yield from _write_table(block)
                title = ""
            case Line() if block.tone == "bad":
                yield f"% {block.text}"
            case Pairs():
                # What the figures rest on goes with them.
                yield from (f"% {lead} {text}" for lead, text in block.items if lead == RESTS_ON)
            case Items():
                # What is missing from the figures goes with them, and so do the notes that they refer to.
                missing = f"{title}: " if title.startswith("not counted") else ""
                kept = (item for item in block.items if missing or item.lead.startswith("["))
                yield from (f"% {missing}{item.lead} {item.text}" for item in kept)


def _write_table(table: Table) -> Iterator[str]:
    columns = [place for place, column in enumerate(table.columns) if not column.graphic]

    def write(row: Row) -> list[str]:
        texts = [escape(row.cells[p]) for p in columns]
        texts[0] = indented(texts[0], row.indent)
        return texts

    heads = [escape(table.columns[p].title) for p in columns]
    aligned = "".join("r" if table.columns[p].align == "right" else "l" for p in columns)
    yield from tabular(aligned, heads, map(write, table.rows), write(table.total) if table.total else None)
