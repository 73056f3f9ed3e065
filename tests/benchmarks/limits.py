"""Figures and their limits: each is noted, and one table at the end shows them all."""

from __future__ import annotations


class Limits:
    """Collects figures and their limits, and fails where one is missed."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, bool]] = []

    def table(self) -> list[str]:
        """The lines of the table."""
        widths = [max(len(row[i]) for row in self.rows) for i in range(3)] if self.rows else []
        return [
            f"{what:<{widths[0]}}  {figure:>{widths[1]}}  {limit:>{widths[2]}}  {'ok' if kept else 'MISSED'}"
            for what, figure, limit, kept in self.rows
        ]

    def at_most(self, what: str, figure: float, limit: float, unit: str = "") -> None:
        """The figure must not be above the limit."""
        self._note(what, figure, limit, unit, "<=", figure <= limit)

    def at_least(self, what: str, figure: float, limit: float, unit: str = "") -> None:
        """The figure must not be below the limit."""
        self._note(what, figure, limit, unit, ">=", figure >= limit)

    def _note(self, what: str, figure: float, limit: float, unit: str, sign: str, kept: bool) -> None:
        # The limits with a unit are large, those without are ratios.
        shown = f"{figure:,.0f}{unit}" if unit else f"{figure:.3f}"
        bound = f"{sign} {limit:,.0f}{unit}" if unit else f"{sign} {limit:.2f}"
        self.rows.append((what, shown, bound, kept))
        assert kept, f"{what}: {shown}, limit {bound}"
