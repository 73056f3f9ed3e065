"""Draw problems with rich: the text is that of the diagnostic, its line of a file is highlighted as what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convstat.errors import Diagnostic
from convstat.render.renderables import STYLES
from convstat.text.printable import printable, shown

if TYPE_CHECKING:
    from rich.text import Text

LANGUAGES: Mapping[str, str] = {"yaml": "yaml", "yml": "yaml", "toml": "toml", "json": "json"}
"""What a line of a file is written in, by its suffix; an argument is written as Python is."""

SEPARATOR = " | "
"""What stands between the number of a line and the line."""


def safe_lines(problem: Diagnostic) -> list[str]:
    """Give the lines of a problem, safe to print; tabs stay, as the caret is placed with them."""
    return ["\t".join(map(printable, line.split("\t"))) for line in str(problem).split("\n")]


def drawn(problem: Diagnostic, *, ascii: bool = False) -> Text:
    """Give a problem its colours."""
    from rich.text import Text

    first, *rest = (shown(line, ascii=ascii) if ascii else line for line in safe_lines(problem))
    tone = STYLES["bad" if problem.severity == "error" else "warn"]
    text = Text.assemble((first, "bold"))
    if (start := first.find(f"{problem.severity}: ")) >= 0:
        text.stylize(tone, start, start + len(problem.severity) + 1)
    mark = problem.mark
    if mark is not None and mark.text:
        source, caret, *rest = rest
        number, bar, line = source.partition(SEPARATOR)
        suffix = mark.file.partition("#")[0].rpartition(".")[2].lower()
        language = LANGUAGES.get(suffix, "text") if mark.source.is_file else "python"
        text.append_text(Text.assemble("\n", (number + bar, "dim"), _highlighted(line, language)))
        text.append_text(Text.assemble("\n", (caret[: len(number + bar)], "dim"), (caret[len(number + bar) :], tone)))
    for more in rest:
        word, colon, said = more.partition(": ")
        text.append_text(Text.assemble("\n", (word + colon, "bold"), said))
    return text


def _highlighted(line: str, language: str) -> Text:
    from rich.syntax import Syntax
    from rich.text import Text

    found = Syntax("", language, theme="ansi_dark", background_color="default").highlight(line)
    found.rstrip()
    # A lexer that writes a tab as blanks would move the text away from its caret.
    return found if found.plain == line.rstrip() else Text(line)
