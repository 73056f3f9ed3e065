"""Text in a LaTeX document: it stands for itself there; and tables for the package booktabs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    **{character: f"\\{character}" for character in "{}$&#_%"},
    # Behind the end of a row, a bracket would be an argument; two of these in a row would be another character.
    "[": "{[}",
    "]": "{]}",
    "-": "-{}",
    "*": "{*}",
    "…": r"\ldots{}",
    "×": r"$\times$",
}
"""How characters are written that mean something to LaTeX."""


def escape(text: str) -> str:
    r"""Make a text stand for itself.

    >>> print(escape("a_b & 50% of [x]"), escape("-12.5%"))
    a\_b \& 50\% of {[}x{]} $-$12.5\%
    """
    if text[:1] == "-" and text[1:2].isdigit():
        return f"$-${escape(text[1:])}"
    return "".join(SPECIAL.get(character, character) for character in text)


def indented(text: str, levels: int) -> str:
    """Move what is written in a cell to the right."""
    return rf"\hspace*{{{levels}em}}{text}" if levels else text


def tabular(
    aligned: str, heads: Sequence[str], rows: Iterable[Sequence[str]], total: Sequence[str] | None = None
) -> Iterator[str]:
    """Write the lines of a table of cells that are LaTeX already; the total stands below a rule."""
    yield from (rf"\begin{{tabular}}{{{aligned}}}", r"\toprule", rf"{' & '.join(heads)} \\", r"\midrule")
    yield from (rf"{' & '.join(row)} \\" for row in rows)
    if total is not None:
        yield from (r"\midrule", rf"{' & '.join(total)} \\")
    yield from (r"\bottomrule", r"\end{tabular}")
