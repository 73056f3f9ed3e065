"""What is said of a formula in general: its parts in letters, why it is so, special cases, and the source."""

from __future__ import annotations

from typing import NamedTuple


class Form(NamedTuple):
    """A part of a formula: what it counts, in letters, and the arguments that must be set for it to be there.

    It is ``usual`` where it is there with the defaults of the arguments.
    """

    about: str
    symbols: str
    needs: tuple[str, ...] = ()
    usual: bool = True

    @property
    def condition(self) -> str:
        """When it is there, in words; empty where it always is."""
        return f"where {' and '.join(self.needs)}" if self.needs else ""


class Notes(NamedTuple):
    """What is said of a kind or a family: why, special cases as ``(case, words)``, and where it is written."""

    why: tuple[str, ...]
    special: tuple[tuple[str, str], ...] = ()
    sources: tuple[str, ...] = ()
    output: str = ""
