"""Collects what is wrong, so that one run shows every mistake."""

from __future__ import annotations

from collections.abc import Sequence

from convstat.errors import Diagnostic, Mark, SpecError

MOST = 20
"""How many problems are shown before only their number is."""


class Problems:
    """The problems of one phase, in the order in which they were found, each place and message once."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._seen: set[tuple[str, str]] = set()

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(
        self, message: str, mark: Mark | None, *, notes: Sequence[str] = (), help: str | Sequence[str] | None = ()
    ) -> None:
        """Note a problem, unless it is already known."""
        key = (str(mark), message)
        if key in self._seen:
            return
        self._seen.add(key)
        lines = (help,) if isinstance(help, str) else tuple(help or ())
        self.found.append(Diagnostic(message, mark, tuple(notes), lines))

    def raise_if_any(self) -> None:
        """Raise all of them as one SpecError, the first twenty in the order of the text."""
        if not self.found:
            return
        ordered = sorted(self.found, key=_place)
        shown = ordered[:MOST]
        if len(ordered) > MOST:
            rest = len(ordered) - MOST
            shown.append(Diagnostic(f"and {rest} more error{'s' if rest > 1 else ''}"))
        raise SpecError(shown)


def _place(problem: Diagnostic) -> tuple[str, int, int]:
    if problem.mark is None:
        return ("", 0, 0)
    return (problem.mark.file, problem.mark.line, problem.mark.column)
