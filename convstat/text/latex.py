"""Text in a LaTeX document: it stands for itself there."""

from __future__ import annotations

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
