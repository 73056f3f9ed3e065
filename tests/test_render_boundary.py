"""A limit is inclusive in every format: one below it, at it and one above it are told apart, whatever is rounded."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from fractions import Fraction
from html import unescape
from xml.etree import ElementTree

import pytest

from convstat.budgets.limits import read_option
from convstat.commands.check import check
from convstat.config.requests import Requests
from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.results.check import Check

LAYER = "Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)"
INPUT = "3x224x224"
PARAMS = 64 * 3 * 7 * 7
MACS = PARAMS * 112 * 112
PIXELS = 224 * 224

ACTUALS = {
    "params": Fraction(PARAMS),
    "macs": Fraction(MACS),
    "flops": Fraction(2 * MACS),
    "macs_per_pixel": Fraction(MACS, PIXELS),
    "weight_bytes": Fraction(4 * PARAMS),
}


def judged(option: str, metric: str, limit: Fraction) -> Check:
    """Check the layer with one budget, given on the command line."""
    return check([LAYER], Requests(inputs=(INPUT,)), **{option: [f"{metric}={_decimal(limit)}"]})  # type: ignore[arg-type]


def _decimal(value: Fraction) -> str:
    """Write a limit as one types it; bytes with their unit."""
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator / value.denominator}"


def of_words(text: str) -> bool:
    """Whether a text for people says that the budget failed."""
    failed, kept = re.search(r"\b1 failed", text), re.search(r"\b1 passed", text)
    assert (failed is None) != (kept is None)
    return failed is not None


def of_rows(text: str) -> bool:
    """Whether the row of the budget in LaTeX starts with FAIL."""
    (row,) = [line for line in text.splitlines() if line.startswith(("FAIL &", "ok &"))]
    return row.startswith("FAIL")


FAILED: dict[str, Callable[[str], bool]] = {
    "table": of_words,
    "markdown": of_words,
    "html": lambda text: of_words(unescape(text)),
    "svg": lambda text: of_words(unescape(re.sub(r"<[^>]*>", " ", text)).replace("\xa0", " ")),
    "latex": of_rows,
    "comment": lambda text: ":x:" in text,
    "json": lambda text: json.loads(text)["budgets"][0]["status"] == "fail" and json.loads(text)["exit_code"] == 1,
    "jsonl": lambda text: json.loads(text.splitlines()[1])["status"] == "fail",
    "csv": lambda text: next(csv.DictReader(io.StringIO(text)))["status"] == "fail",
    "github": lambda text: text.startswith("::error"),
    "gitlab": lambda text: bool(json.loads(text)),
    "sarif": lambda text: bool(json.loads(text)["runs"][0]["results"]),
    "junit": lambda text: ElementTree.fromstring(text).attrib["failures"] == "1",
}
"""How to read from a document of each format whether the one budget in it failed."""


@pytest.mark.parametrize("metric", ACTUALS)
@pytest.mark.parametrize(("option", "fails"), [("max", (True, False, False)), ("min", (False, False, True)),
                                               ("exact", (True, False, True))])  # fmt: skip
def test_every_format_agrees_at_the_boundary(option: str, fails: tuple[bool, bool, bool], metric: str) -> None:
    """At limit-1, limit and limit+1, by integers; and the two numbers are never printed as equal unless they are."""
    for step, expected in zip((-1, 0, 1), fails, strict=True):
        result = judged(option, metric, ACTUALS[metric] + step)
        assert expected == (result.results[0].status == "fail") == (int(result.exit_code) == 1)
        for format in RENDERERS.able("check"):
            text = RENDERERS.named(format).render([result], Options())
            assert expected == FAILED[format](text), (format, step)


@pytest.mark.parametrize("step", [Fraction(-1, 10**6), Fraction(0), Fraction(1, 10**6)])
def test_rounding_decides_nothing(step: Fraction) -> None:
    """A quotient that reads the same with two decimals is over by a millionth, and every format says so."""
    limit = ACTUALS["macs_per_pixel"] + step
    result = judged("max", "macs_per_pixel", limit)
    for format in RENDERERS.able("check"):
        assert (step < 0) == FAILED[format](RENDERERS.named(format).render([result], Options())), format
    table = RENDERERS.named("csv").render([result], Options())
    assert step < 0 or "pass" in table


@pytest.mark.parametrize("format", ["table", "markdown", "html", "latex", "comment", "github", "junit"])
def test_the_two_numbers_never_read_the_same_when_the_budget_fails(format: str) -> None:
    """All digits of both are there, also where they differ by one in nine."""
    result = judged("max", "macs", Fraction(MACS - 1))
    text = unescape(RENDERERS.named(format).render([result], Options()))
    assert f"{MACS:,}" in text
    assert f"{MACS - 1:,}" in text


def test_every_format_for_checks_is_asked() -> None:
    """A new format does not escape the comparison above."""
    assert set(RENDERERS.able("check")) == set(FAILED)


def test_the_limits_are_the_ones_that_were_meant() -> None:
    """What is typed is what is compared, to the last digit."""
    assert MACS == read_option("max", f"macs={MACS}").limit
    assert MACS == ACTUALS["macs"] == 118_013_952
