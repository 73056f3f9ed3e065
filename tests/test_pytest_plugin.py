"""Budgets in tests: what passes, what fails and how it says so, and that nobody pays for a plugin they do not use."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import convstat
from convstat.errors import UsageError
from convstat.testing import BudgetWarning, assert_budget

LAYER = "Conv2d(3, 8, kernel_size=3, bias=False)"
PARAMS = 8 * 3 * 3 * 3
MACS = PARAMS * 8 * 8
SHAPE = (3, 10, 10)

pytest_plugins = ["pytester"]


def test_a_limit_is_inclusive_in_both_directions() -> None:
    """One less fails, the figure itself passes, one more passes; for a minimum the other way round."""
    for amount, expected in ((PARAMS - 1, False), (PARAMS, True), (PARAMS + 1, True)):
        assert expected == _passes(params=f"<={amount}")
    for amount, expected in ((MACS - 1, True), (MACS, True), (MACS + 1, False)):
        assert expected == _passes(macs=f">={amount}")
    for amount, expected in ((PARAMS - 1, False), (PARAMS, True), (PARAMS + 1, False)):
        assert expected == _passes(params=f"=={amount}")


def _passes(**amounts: str) -> bool:
    try:
        assert_budget(LAYER, inputs=SHAPE, **amounts)
    except AssertionError:
        return False
    return True


def test_a_budget_gives_the_report() -> None:
    """A test can go on with it, and it can be judged again."""
    report = convstat.assert_budget(LAYER, inputs=SHAPE, params="<=1k")
    assert (PARAMS, MACS) == (report.totals.params, report.totals.macs)
    assert report == assert_budget(report, macs=(">=1", f"<={MACS}"), params=f"=={PARAMS}")


def test_a_failure_names_the_layers_and_all_that_is_over() -> None:
    """The text has the verdict on every budget, by how much, and the layers that cost most with the largest first."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 32, 3))
    with pytest.raises(AssertionError) as failure:
        assert_budget(net, "macs(share)@2<=50%", inputs=SHAPE, params="<=1k", layers="<=3")
    text = str(failure.value)
    assert text.startswith("Sequential: 2 of 3 budgets exceeded\n")
    second = 32 * 8 * 3 * 3 + 32
    total = 8 * 3 * 3 * 3 + 8 + second
    assert f"{total:,}" in text
    assert f"over by {total - 1000:,}" in text
    assert text.index(f"2      Conv2d   {second:,}") < text.index("0      Conv2d     224")


def test_growth_is_judged_against_a_report(tmp_path: Path) -> None:
    """A base is a report or the file of one, and the layer that grew is named with what changed."""
    before = convstat.analyze(LAYER, SHAPE)
    path = tmp_path / "base.json"
    path.write_text(before.to_json(), encoding="utf-8")
    for base in (before, path, str(path)):
        assert_budget(LAYER, inputs=SHAPE, base=base, params="<=+0", macs="<=+2%")
        with pytest.raises(AssertionError, match=r"kernel_size: 3 -> 5"):
            assert_budget("Conv2d(3, 8, kernel_size=5, bias=False)", inputs=SHAPE, base=base, params="<=+2%")
    with pytest.raises(UsageError, match="relative, but there is no base"):
        assert_budget(LAYER, inputs=SHAPE, params="<=+2%")


def test_a_warning_lets_the_test_pass() -> None:
    """The level warn warns with the same text, off is silent, and neither fails."""
    with pytest.warns(BudgetWarning, match="over by 1"):
        assert_budget(LAYER, inputs=SHAPE, params=f"<={PARAMS - 1}:warn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_budget(LAYER, inputs=SHAPE, params=("<=1:off", f"<={PARAMS}:warn"))


def test_what_was_not_counted_leaves_a_budget_open() -> None:
    """A model with an operator that has no rule does not keep a maximum of MACs, and the operator is named."""
    torch = pytest.importorskip("torch")

    class Unknown(torch.nn.Module):
        def forward(self, x: object) -> object:
            return torch.linalg.svd(x)[0]

    assert_budget(Unknown(), inputs=(1, 4, 4), params="<=0")
    with pytest.raises(AssertionError, match=r"1 of 1 budgets undecided(.|\n)*_linalg_svd"):
        assert_budget(Unknown(), inputs=(1, 4, 4), macs="<=1M")


@pytest.mark.parametrize(
    ("budgets", "amounts", "message"),
    [
        ((), {}, "assert_budget without a budget cannot fail"),
        ((), {"params": 5}, "include the comparison: params='<=5'"),
        ((), {"params": "5M"}, "include the comparison: params='<=5M'"),
        ((), {"param": "<=5M"}, "did you mean 'params'?"),
        ((), {"params": "<5M"}, "write params<=5M"),
        ((), {"params": "<=5m"}, "did you mean M?"),
        ((), {"params": ()}, "is not a limit"),
        (("macs(each)@nowhere<=1M",), {}, "nowhere"),
        (("macs",), {}, "is not a budget"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(
    budgets: tuple[str, ...], amounts: dict[str, str], message: str
) -> None:
    """Each mistake says what to write instead; none is a pass."""
    with pytest.raises(UsageError) as refused:
        assert_budget(LAYER, *budgets, inputs=SHAPE, **amounts)
    assert message in str(refused.value)


def test_all_mistakes_are_told_at_once() -> None:
    """Two wrong budgets are two diagnostics."""
    with pytest.raises(UsageError) as refused:
        assert_budget(LAYER, "macs!", inputs=SHAPE, params="5", mac="<=1")
    assert 3 == len(refused.value.diagnostics)


def test_a_report_takes_no_inputs() -> None:
    """What would be ignored is refused."""
    with pytest.raises(UsageError, match="takes no inputs"):
        assert_budget(convstat.analyze(LAYER, SHAPE), inputs=SHAPE, params="<=1k")


TESTS = f"""
import sys

def test_kept(convstat):
    assert "torch" not in sys.modules
    report = convstat.assert_budget({LAYER!r}, inputs={SHAPE}, params="<={PARAMS}")
    assert {MACS} == report.totals.macs == convstat.analyze({LAYER!r}, {SHAPE}).totals.macs
    assert "torch" not in sys.modules

def test_exceeded(convstat):
    convstat.assert_budget({LAYER!r}, inputs={SHAPE}, params="<={PARAMS - 1}")
"""

CONFTEST = """
import sys

def pytest_collection_finish(session):
    print("LOADED", sorted(name for name in sys.modules if name.partition(".")[0] in ("convstat", "torch", "yaml")))
"""


def test_the_fixture_is_there_and_its_failure_hides_how_it_works(pytester: pytest.Pytester) -> None:
    """One test passes, one fails with the text of the check, the traceback ends in the test, and torch stays away."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-s", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    assert "LOADED ['convstat', 'convstat.pytest_plugin']" in text
    assert "1 of 1 budgets exceeded" in text
    assert f"over by 1  params='<={PARAMS - 1}'" in text
    assert "testing.py" not in text
    assert "pytest_plugin.py" not in text


def test_the_plugin_can_be_switched_off(pytester: pytest.Pytester) -> None:
    """It has a name, and nothing else of pytest depends on it."""
    pytester.makepyfile("def test_nothing():\n    pass\n")
    result = pytester.runpytest_subprocess("-p", "no:convstat", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)


def test_the_plugin_imports_next_to_nothing() -> None:
    """Of convstat, pytest loads two small modules."""
    program = (
        "import sys, pytest; before = set(sys.modules); import convstat.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ["convstat", "convstat.pytest_plugin"] == answer.stdout.split()
