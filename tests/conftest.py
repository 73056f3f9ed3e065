"""What every test stands on: a quiet environment, one way to draw examples, the long sweeps aside."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# What the tests print must not depend on who runs them, and two workers share two cores.
QUIET = (
    "CI", "CI_PROJECT_DIR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS",
    "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "LINES", "NO_COLOR",
)  # fmt: skip
for name in QUIET:
    os.environ.pop(name, None)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TERM"] = "dumb"

# The same examples wherever the tests run, so what one sees another can repeat; `make verify` draws others each time.
settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, max_examples=50, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.register_profile("random", settings.get_profile("same"), derandomize=False)
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line("markers", "verify: a long check, run by `make verify` and not by `make test`")
    config.addinivalue_line("markers", "cuda: needs a CUDA device; tests/device/run.sh runs these")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the benchmarks out of a run that does not name them."""
    benchmarks = Path(__file__).parent / "benchmarks"
    if not collection_path.is_relative_to(benchmarks):
        return None
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(benchmarks) for path in named) else True


def pytest_collection_finish() -> None:
    """Take what is there before the first test out of the sight of the garbage collector.

    A run with values looks for all tensors among the objects of the process, of which the libraries and some fifteen
    thousand tests make half a million: that took a third of the time of all tests.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report which counters a test compared with their predictions."""
    report = yield
    live = sys.modules.get("live")
    if live is not None and live.PAIRS:
        report.user_properties.append(("pairs", list(live.PAIRS)))
        live.PAIRS.clear()
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print a line for each counter: on how many networks it said what was predicted; and how to draw again."""
    if (drawn := config.getoption("--hypothesis-seed")) is not None:
        terminalreporter.write_line(f"the examples were drawn with seed {drawn}; again: make verify SEED={drawn}")
    found: dict[str, list[bool]] = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        for key, pairs in getattr(report, "user_properties", ()):
            for name, is_exact in pairs if key == "pairs" else ():
                found.setdefault(name, []).append(is_exact)
    if found:
        terminalreporter.section("counters beside their predictions")
    for name, exact in sorted(found.items()):
        terminalreporter.write_line(f"{name:<17} {sum(exact):6,} of {len(exact):6,} pairs exact")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """torchvision, of which only the model definitions are needed.

    Its wheel may have been built for another torch than the one that is installed; its operators are then declared
    without an implementation, as convstat does it.
    """
    from convstat.patches.operators import torchvision_compat

    torchvision_compat()
    import torchvision

    return torchvision


@pytest.fixture(scope="session")
def on_meta(torchvision: ModuleType) -> Callable[[str], object]:
    """Build a torchvision network without its weights."""
    import torch

    def build(name: str) -> object:
        with torch.device("meta"):
            return torchvision.models.get_model(name, weights=None).eval()

    return build
