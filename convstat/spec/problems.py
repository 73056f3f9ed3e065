"""Collects what is wrong, so that one run shows every mistake."""

from __future__ import annotations

from collections.abc import Sequence

from convstat.errors import Diagnostic, Mark, SpecError

MOST = 20
"""How many problems are shown before only their number is."""

ENOUGH = 200
"""After how many the rest is not looked at: such a file is not one that a person wrote."""

MAX_MESSAGE = 500

MAX_EXPRESSIONS = 2_000


class Problems:
    """The problems of one phase, in the order in which they were found, each place and message once."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._seen: set[tuple[str, str]] = set()
        self._expressions = 0
        self.noted = 0
        """How often a problem was noted, known ones included: unchanged where nothing went wrong."""

    def count_expression(self, mark: Mark) -> None:
        """Count a compiled expression: a hostile file could hold enough of them to take minutes."""
        self._expressions += 1
        if self._expressions > MAX_EXPRESSIONS:
            self.add(f"more than {MAX_EXPRESSIONS:,} different expressions", mark)
            self.raise_if_any()

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(
        self, message: str, mark: Mark | None, *, notes: Sequence[str] = (), help: str | Sequence[str] | None = ()
    ) -> None:
        """Note a problem, unless it is already known."""
        self.noted += 1
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

    def raise_if_any(self) -> None:
        """Raise all of them as one SpecError, the first twenty in the order of the text."""
        if not self.found:
            return
        ordered = sorted(self.found, key=_place)
        shown = ordered[:MOST]
        if len(ordered) > MOST:
            rest = len(ordered) - MOST
            least = "at least " if len(ordered) >= ENOUGH else ""
            shown.append(Diagnostic(f"and {least}{rest} more error{'s' if rest > 1 else ''}"))
        raise SpecError(shown)


def _place(problem: Diagnostic) -> tuple[str, int, int]:
    if problem.mark is None:
        return ("", 0, 0)
    return (problem.mark.file, problem.mark.line, problem.mark.column)
