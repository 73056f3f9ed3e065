"""The plugin for pytest: a fixture ``convstat``, with which a test counts a model and asserts its budgets.

pytest loads it wherever convstat is installed, so it imports nothing of convstat, and no torch, before a test asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from convstat.api import Report


class Counting:
    """What the fixture gives: ``analyze`` and ``load`` as in the package, and ``assert_budget``."""

    def analyze(self, model: Any, inputs: Any = None, **options: Any) -> Report:
        """Count a model, as :func:`convstat.analyze` does."""
        from convstat.api import analyze

        return analyze(model, inputs, **options)

    def load(self, path: str) -> Report:
        """Read a report that was saved, as :func:`convstat.load` does."""
        from convstat.api import load

        return load(path)

    def assert_budget(self, model: Any, *budgets: str, **options: Any) -> Report:
        """Fail where a model costs more than it may, as :func:`convstat.assert_budget` does."""
        __tracebackhide__ = True
        from convstat.testing import assert_budget

        return assert_budget(model, *budgets, **options)


@pytest.fixture(scope="session", name="convstat")
def _convstat() -> Counting:
    """Count models, and assert what they may cost: ``convstat.assert_budget(model, params="<=5M")``."""
    return Counting()
