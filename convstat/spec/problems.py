"""Collects problems, so that one run reports every mistake."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NoReturn

from convstat.errors import Diagnostic, Mark, SpecError, did_you_mean

MOST = 20
"""How many problems are shown before only their number is."""

ENOUGH = 200
"""After how many the rest is not looked at: such a file is not one that a person wrote."""

ENOUGH_NOTED = 2_000
"""How often problems may be noted, known ones included: a wrong layer may be repeated by blocks in blocks."""

MAX_MESSAGE = 500

MAX_EXPRESSIONS = 2_000

LINES = 10
"""How many lines with more problems are named."""


class Problems:
    """Problems in the order in which they were found, each message once per place."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._seen: set[tuple[str, str]] = set()
        self._expressions = 0
        self.noted = 0
        """How often a problem was noted, known ones included: unchanged where nothing went wrong."""

    def count_expression(self, mark: Mark) -> None:
        """Count a compiled expression towards the limit; a hostile file could hold enough of them to take minutes."""
        self._expressions += 1
        if self._expressions > MAX_EXPRESSIONS:
            self.refuse(f"more than {MAX_EXPRESSIONS:,} different expressions", mark)

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(
        self, message: str, mark: Mark | None, *, notes: Sequence[str] = (), help: str | Sequence[str] | None = ()
    ) -> None:
        """Add a problem, unless it is already known."""
        self.noted += 1
        if self.noted > ENOUGH_NOTED:
            self.raise_if_any()
        key = (str(mark), message)
        if key in self._seen:
            return
        self._seen.add(key)
        if len(message) > MAX_MESSAGE:
            message = message[: MAX_MESSAGE - 3] + "..."
        lines = (help,) if isinstance(help, str) else tuple(help or ())
        self.found.append(Diagnostic(message, mark, tuple(notes), lines))
        if len(self.found) >= ENOUGH:
            self.raise_if_any()

    def unknown(self, message: str, mark: Mark, word: str, known: Iterable[str], otherwise: str = "") -> None:
        """Add a problem about an unknown word; the help is the nearest known one, or else ``otherwise``."""
        self.add(message, mark, help=did_you_mean(word, known) or otherwise or None)

    def refuse(self, message: str, mark: Mark | None, *, help: str | Sequence[str] = ()) -> NoReturn:
        """Add a problem and raise it, with all others, at once."""
        self.add(message, mark, help=help)
        raise self.error()

    def include(self, problems: Iterable[Diagnostic]) -> None:
        """Add problems that were found elsewhere."""
        for problem in problems:
            self.add(problem.message, problem.mark, notes=problem.notes, help=problem.help)

    def raise_if_any(self) -> None:
        """Raise the problems as one SpecError, if there are any."""
        if self.found:
            raise self.error()

    def error(self) -> SpecError:
        """All problems as one error: at most twenty, in the order of the text, with some of every sort."""
        ordered = sorted(self.found, key=_place)
        shown = _some(ordered)
        if len(ordered) > MOST:
            rest = [problem for problem in ordered if problem not in shown]
            least = "at least " if len(ordered) >= ENOUGH else ""
            shown.append(Diagnostic(f"and {least}{len(rest)} more error{'s' if len(rest) > 1 else ''}{_lines(rest)}"))
        return SpecError(shown)


def _some(problems: list[Diagnostic]) -> list[Diagnostic]:
    """Select at most twenty: the first of each sort, then the second, so that no sort hides another."""
    if len(problems) <= MOST:
        return problems
    met: dict[str, int] = {}
    ranked = []
    for place, problem in enumerate(problems):
        sort = re.sub(r"'[^']*'|\d+", "", problem.message)
        met[sort] = met.get(sort, 0) + 1
        ranked.append((met[sort], place))
    return [problems[place] for place in sorted(place for _, place in sorted(ranked)[:MOST])]


def _lines(problems: list[Diagnostic]) -> str:
    lines = list(dict.fromkeys(problem.mark.line for problem in problems if problem.mark is not None))
    if not lines:
        return ""
    listed = ", ".join(map(str, lines[:LINES])) + (", ..." if len(lines) > LINES else "")
    return f", in line{'s' if len(lines) > 1 else ''} {listed}"


def _place(problem: Diagnostic) -> tuple[str, int, int]:
    if problem.mark is None:
        return ("", 0, 0)
    return (problem.mark.file, problem.mark.line, problem.mark.column)
