"""A form as tables, and its three ways of being written: Markdown, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

from convstat.render.base import Options, Renderer, Result
from convstat.results.report import LayerRow, Report

CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


class Sheet(NamedTuple):
    """One table of a form: its title, its headings, its rows, and what is to be known about it."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    numeric: int = 0
    """How many columns, from the right, hold numbers."""


class FormRenderer(Renderer):
    """A form in Markdown; the other ways are subclasses of it that only write it otherwise."""

    expresses = ("report",)
    is_view = False
    syntax: ClassVar[str] = "markdown"

    def sheets(self, reports: Sequence[Report], options: Options) -> Sequence[Sheet]:
        """Fill the form in."""
        raise NotImplementedError

    def render(self, results: Sequence[Result], options: Options) -> str:
        reports = [result for result in results if isinstance(result, Report)]
        sheets = self.sheets(reports, options)
        if self.syntax == "csv":
            return _csv(sheets)
        write = _latex if self.syntax == "latex" else _markdown
        return "\n".join(line for sheet in sheets for line in write(sheet)) + "\n"


def _markdown(sheet: Sheet) -> Iterator[str]:
    from convstat.render.formats.markdown import RULES, cells, escape

    yield f"### {escape(sheet.title)}"
    yield ""
    yield cells([escape(head) for head in sheet.heads])
    yield cells([RULES["right" if is_number else "left"] for is_number in _numbers(sheet)])
    yield from (cells([escape(text) for text in row]) for row in sheet.rows)
    yield ""
    for note in sheet.notes:
        yield escape(note)
        yield ""


def _latex(sheet: Sheet) -> Iterator[str]:
    from convstat.text.latex import escape, tabular

    yield f"% {sheet.title}; needs \\usepackage{{booktabs,textcomp}} and \\usepackage[T1]{{fontenc}}"
    yield from (f"% {note}" for note in sheet.notes)
    aligned = "".join("r" if is_number else "l" for is_number in _numbers(sheet))
    yield from tabular(aligned, [escape(head) for head in sheet.heads], ([*map(escape, row)] for row in sheet.rows))
    yield ""


def _csv(sheets: Sequence[Sheet]) -> str:
    from convstat.render.formats.csv import write

    titled = len(sheets) > 1
    return write(
        [
            {**({"stage": sheet.title} if titled else {}), **dict(zip(sheet.heads, row, strict=True))}
            for sheet in sheets
            for row in sheet.rows
        ]
    )


def _numbers(sheet: Sheet) -> list[bool]:
    count = len(sheet.heads)
    return [place >= count - sheet.numeric for place in range(count)]


def calls_of(report: Report, kinds: Sequence[str]) -> list[LayerRow]:
    """The calls of layers of some kinds."""
    return [row for row in report.layers if row.type in kinds]
