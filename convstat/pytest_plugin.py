"""The pytest plugin: a fixture ``convstat``, with which tests count models and assert budgets.

pytest loads it wherever convstat is installed, so it imports nothing of convstat, and no torch, until it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from convstat.api import Report


class Counting:
    """The value of the fixture, with the functions ``analyze``, ``load`` and ``assert_budget`` of the package."""

    def analyze(self, model: Any, inputs: Any = None, **options: Any) -> Report:
        """Count a model, as :func:`convstat.analyze` does."""
        from convstat.api import analyze

        return analyze(model, inputs, **options)

    def load(self, path: str) -> Report:
        """Read a saved report, as :func:`convstat.load` does."""
        from convstat.api import load

        return load(path)

    def assert_budget(self, model: Any, *budgets: str, **options: Any) -> Report:
        """Assert that a model satisfies budgets, as :func:`convstat.assert_budget` does."""
        __tracebackhide__ = True
        from convstat.testing import assert_budget

        return assert_budget(model, *budgets, **options)


@pytest.fixture(scope="session", name="convstat")
def _convstat() -> Counting:
    """Count models and assert budgets: ``convstat.assert_budget(model, params="<=5M")``."""
    return Counting()
