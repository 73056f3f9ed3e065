r"""The format for papers: the tables of a result, for the booktabs package, to be put into a document with ``\input``.

Every number has all its digits, unless ``--units`` asks for ``278.3 M``; shapes are written in mathematics. Bars and
the words around the tables stay away; what a table is stands above it as a comment. Names outside Latin-1 need a
document that is set with XeLaTeX or LuaLaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from convstat.errors import UsageError
from convstat.render.base import Options, Renderer, Result
from convstat.render.formats.latex_formula import write_formula
from convstat.render.page import Column, Heading, Items, Line, Page, Pairs, Row, Table
from convstat.results.report import Report
from convstat.text.latex import escape, indented, tabular
from convstat.text.printable import significant
from convstat.units import COUNT

if TYPE_CHECKING:
    from convstat.results.formula import Formula


SHAPES = re.compile(r"\d+(?:x\d+)+(?:, \d+(?:x\d+)*)*")
"""One shape or several."""

COUNTS = re.compile(r"(?:^|[ _])(?:params|macs|flops)(?:$| difference$| of one$)|difference", re.IGNORECASE)
"""The columns whose integers are counts that have units."""

INTEGER = re.compile(r"[+-]?\d{1,3}(?:,\d{3})*")


class LatexRenderer(Renderer):
    """One ``tabular`` for each table of the page."""

    name = "latex"
    suffixes = (".tex",)
    about = "for papers: tables for the booktabs package"
    expresses = ("report", "comparison", "check", "diff", "formula")

    def render(self, results: Sequence[Result], options: Options) -> str:
        from convstat.render.views import view

        lines = [r"% needs \usepackage{booktabs,textcomp} and \usepackage[T1]{fontenc}"]
        paper = _Paper(options)
        for result in results:
            if result.kind == "formula":
                lines += write_formula(cast("Formula", result), options)
                continue
            page = view(result, options)
            if isinstance(result, Report):
                page = _with_differences(page, result, options)
            lines += paper.page(page)
        paper.refuse_idle_labels()
        return "".join(f"{line}\n" for line in lines)


def _with_differences(page: Page, report: Report, options: Options) -> Page:
    """Put a table of what explains each counter's difference behind the table of the counters."""
    from convstat.render.views.columns import choose
    from convstat.render.views.report import difference_tables

    found = Page(tuple(difference_tables(report)))
    if not found.blocks:
        return page
    if options.columns:
        with suppress(UsageError):
            found = choose(found, options.columns)
    place = next((place for place, block in enumerate(page.blocks, 1) if isinstance(block, Table)), len(page.blocks))
    return Page((*page.blocks[:place], *found.blocks, *page.blocks[place:]))


class _Paper:
    """Writes pages, and knows which labels of rows were used."""

    def __init__(self, options: Options) -> None:
        self.units = options.units
        self.labels = options.labels
        self.idle = set(options.labels)

    def refuse_idle_labels(self) -> None:
        """Refuse a label for a row that there is not."""
        if self.idle:
            names = ", ".join(sorted(self.idle))
            raise UsageError(f"no row is called {names}", help="--label NAME=TEXT names a row as the table does")

    def page(self, page: Page) -> Iterator[str]:
        """Write the tables, and what their figures rest on."""
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
                    yield from self.table(block)
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

    def table(self, table: Table) -> Iterator[str]:
        """Write one table."""
        places = [place for place, column in enumerate(table.columns) if not column.graphic]

        def write(row: Row) -> list[str]:
            texts = [self.cell(table.columns[place], row.cells[place]) for place in places]
            texts[0] = indented(texts[0], row.indent)
            return texts

        heads = [escape(table.columns[p].title) for p in places]
        aligned = "".join("r" if table.columns[p].align == "right" else "l" for p in places)
        yield from tabular(aligned, heads, map(write, table.rows), write(table.total) if table.total else None)

    def cell(self, column: Column, text: str) -> str:
        """Write a cell: a row by its label, a shape in mathematics, a count in its unit."""
        is_name = column.align == "left" and (column.shortens or column.assigns)
        if is_name and text in self.labels:
            self.idle.discard(text)
            return self.labels[text]
        if SHAPES.fullmatch(text) and not (is_name and not column.assigns):
            return ", ".join("$" + r" \times ".join(part.split("x")) + "$" for part in text.split(", "))
        if self.units is not None and COUNTS.search(column.label) and INTEGER.fullmatch(text):
            return in_units(int(text.replace(",", "")), self.units)
        return escape(text)


def in_units(count: int, units: str) -> str:
    r"""Write a count to four digits in a unit, or in its own.

    >>> print(in_units(278_345_678, "auto"), in_units(-1_500, "k"), in_units(12, "auto"), in_units(41_000, "M"))
    278.3\,M $-$1.500\,k 12 0.04100\,M
    """
    size = abs(count)
    unit = units
    if units == "auto":
        unit = next((name for name, amount in reversed(list(COUNT.items())) if size >= amount), "")
    if not unit or not count:
        return escape(f"{count:,}")
    value = Fraction(size, COUNT[unit])
    # Four digits: three behind the first.
    written = significant(value, max(0, 4 - len(str(int(value)))), least=4)
    return rf"{'$-$' if count < 0 else ''}{written}\,{unit}"
