"""What the benchmarks share: one table of all figures and their limits, printed at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from limits import Limits


@pytest.fixture(scope="session")
def limits(request: pytest.FixtureRequest) -> Iterator[Limits]:
    """The figures of this run, printed when all are there."""
    found = Limits()
    yield found
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n\nspeed and memory, ratios within this run", *found.table(), sep="\n")
