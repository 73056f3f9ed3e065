"""Benchmarks run when they are asked for (``pytest tests/benchmarks``), and end with one table of ratios."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS: list[tuple[str, str, str, bool]] = []

# Processes are measured as a user starts them; the tests' own settings are not a user's.
os.environ.pop("OMP_NUM_THREADS", None)


class Limits:
    """Collects figures and their limits, and fails where one is missed."""

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
        ROWS.append((what, shown, bound, kept))
        assert kept, f"{what}: {shown}, limit {bound}"


@pytest.fixture(scope="session")
def limits() -> Limits:
    """The figures of this run."""
    return Limits()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the benchmarks out of a run that does not name them."""
    named = any(Path(str(argument).partition("::")[0]).resolve().is_relative_to(HERE) for argument in config.args)
    return None if named else True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if not ROWS:
        return
    widths = [max(len(row[i]) for row in ROWS) for i in range(3)]
    terminalreporter.section("speed and memory, ratios within this run")
    for what, figure, limit, kept in ROWS:
        verdict = "ok" if kept else "MISSED"
        terminalreporter.write_line(f"{what:<{widths[0]}}  {figure:>{widths[1]}}  {limit:>{widths[2]}}  {verdict}")
