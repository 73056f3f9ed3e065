"""What the header of a report and the end of a check say is true."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hand_made import report
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat.budgets.judge import BudgetResult
from convstat.cli.run import run
from convstat.count.pixels import pixels
from convstat.render.views.check import passing_value
from convstat.render.views.report import _runs
from convstat.results.report import CounterRow, Report


def facts(report: Report) -> list[tuple[str, str]]:
    """The lines of the header that say what ran where."""
    return list(_runs(report))


def with_counters(*counters: CounterRow, device: str = "none", kind: str = "spec") -> Report:
    """The report by hand, with other counters."""
    one = report()
    return replace(one, counters=counters, model=replace(one.model, device=device, kind=kind))


def test_peers_on_one_device_are_one_line() -> None:
    """Nothing has to be told apart."""
    rows = (CounterRow("a", "", "1", "ok", device="cpu"), CounterRow("b", "", "2", "failed", device="cpu"))
    assert [("peers", "ran on the CPU, on real tensors; eval mode")] == facts(with_counters(*rows, device="cpu"))


def test_peers_on_different_devices_are_named() -> None:
    """A line for each device; a peer that was skipped ran nowhere."""
    rows = (
        CounterRow("a", "", "1", "ok", device="meta"),
        CounterRow("b", "", "2", "ok", device="cpu"),
        CounterRow("c", "", "3", "skipped", device="cuda"),
    )
    meta, cpu = (text for _, text in facts(with_counters(*rows, device="meta+cpu")))
    assert meta.startswith("a 1 ran on meta tensors: nothing is allocated")
    assert "b 2 ran on the CPU, on real tensors; eval mode" == cpu


@pytest.mark.parametrize("kind", ["spec", "module", "zoo"])
def test_without_counters_no_peer_ran(kind: str) -> None:
    """A traced model was traced; no peer had anything to do with that."""
    assert [] == [name for name, _ in facts(with_counters(device="meta", kind=kind)) if name == "peers"]


def result(actual: int | Fraction, comparison: str) -> BudgetResult:
    """A budget that is missed."""
    return BudgetResult(
        model="m", metric="macs_per_pixel", scope="total", comparison=comparison, limit=0, actual=actual,
        headroom=0, status="fail", where="", text="", limit_text="",
    )  # fmt: skip


def test_the_passing_value_of_a_quotient_has_its_decimals() -> None:
    """432.15625 passes, so 433 is not the smallest; what is no decimal is rounded to the side that passes."""
    assert "432.15625" == passing_value(result(Fraction(43215625, 100000), "<="))
    assert "0.333334" == passing_value(result(Fraction(1, 3), "<="))
    assert "0.333333" == passing_value(result(Fraction(1, 3), ">="))
    assert "100" == passing_value(result(100, "<="))
    assert passing_value(result(Fraction(1, 3), "==")) is None


@settings(deadline=None, max_examples=200)
@given(st.fractions(min_value=0), st.sampled_from(["<=", ">="]))
def test_the_passing_value_passes_and_is_near(actual: Fraction, comparison: str) -> None:
    """It is on the right side, and less than a millionth away."""
    written = Fraction(passing_value(result(actual, comparison)) or "")
    assert written >= actual if comparison == "<=" else written <= actual
    assert Fraction(1, 10**6) > abs(written - actual)


def test_a_passing_value_that_is_named_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Taken from what is printed, and given back."""
    monkeypatch.chdir(tmp_path)
    check = ["check", "Conv2d(3, 8, 3, stride=2)", "-i", "3x9x7", "--max"]
    assert 1 == run([*check, "macs_per_pixel=1"])
    match = re.search(r'smallest passing value:\s+"([\d.]+)"', capsys.readouterr().out)
    assert match is not None
    # 4 x 3 outputs of 8 x 3 x 3 x 3 products, over 9 x 7 pixels
    assert match[1] == "41.142858"
    assert Fraction(4 * 3 * 8 * 27, 63) <= Fraction(match[1])
    assert 0 == run([*check, f"macs_per_pixel={match[1]}"])


@pytest.mark.parametrize(("per", "side"), [("output", "output"), ("input", "input")])
def test_what_has_no_positions_is_named(capsys: pytest.CaptureFixture[str], per: str, side: str) -> None:
    """The side that --per asks for."""
    assert 2 == run(["check", "Linear(4, 8)", "-i", "4", "--per", per, "--max", "macs_per_pixel=1"])
    assert f"its {side} has no spatial positions" in capsys.readouterr().err


def test_a_basis_says_how_a_shape_was_read() -> None:
    """Three sizes may be tokens; a luma plane has one channel."""
    assert (32, "positions of input 10x32 read as C x L") == pixels("input", (1, 10, 32), (1, 3))
    assert (2 * 32, "positions of output 10x32 read as C x L") == pixels("output", (2, 3), (2, 10, 32))
    assert (64, "luma pixels of 8x8") == pixels("luma420", (1, 1, 8, 8), (1, 3))
    assert (64, "luma pixels of 8x8, though the input has 3 channels") == pixels("luma420", (1, 3, 8, 8), (1, 3))
    assert (96, "4:2:0 samples of 8x8, though the input has 2 channels") == pixels("samples420", (1, 2, 8, 8), (1, 3))
