"""Budgets are read strictly and judged exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat.budgets import limits, tables
from convstat.budgets.judge import BudgetResult, judge
from convstat.budgets.limits import Limit
from convstat.cli.run import run
from convstat.commands import check as check_command
from convstat.config import project
from convstat.config.project import Config
from convstat.config.requests import Requests
from convstat.errors import ConfigError, ConvstatError, ExitCode, Mark, SourceText, SpecError, UsageError
from convstat.grammar.patterns import pattern
from convstat.results.check import Check, CheckedModel
from convstat.results.documents.codec import to_document
from convstat.results.report import InputInfo, LayerRow, ModelInfo, Place, Report, Totals, Uncounted
from convstat.targets import resolve
from convstat.targets.request import Request

PIXELS = 8 * 8
LAYERS = (
    # name, type, params, MACs
    ("stem", "Conv2d", 3 * 16 * 9, 3 * 16 * 9 * PIXELS),
    ("backbone.0.dw", "Conv2d", 16 * 9, 16 * 9 * PIXELS),
    ("backbone.0.pw", "Conv2d", 16 * 32, 16 * 32 * PIXELS),
    ("backbone.1.dw", "Conv2d", 32 * 9, 32 * 9 * PIXELS),
    ("backbone.1.pw", "Conv2d", 32 * 64, 32 * 64 * PIXELS),
    ("backbone.1.act", "ReLU", 0, 0),
    ("head.fc", "Linear", 64 * 10 + 10, 64 * 10),
)
PARAMS = sum(params for *_, params, _ in LAYERS)
MACS = sum(macs for *_, macs in LAYERS)
NAMES = [name for name, *_ in LAYERS]


def report(*, uncounted: tuple[Uncounted, ...] = (), pixels: int = PIXELS, name: str = "net") -> Report:
    """A small network whose figures are written out above."""
    rows = tuple(
        LayerRow(
            name=layer,
            type=kind,
            input_shapes=((1, 3, 8, 8),),
            output_shapes=((1, 16, 8, 8),),
            params=params,
            macs=macs,
            trainable_params=params,
            buffers=2 if kind == "Conv2d" else 0,
            weight_bytes=4 * params,
            source=Place("net.yaml", line),
        )
        for line, (layer, kind, params, macs) in enumerate(LAYERS, start=10)
    )
    return Report(
        model=ModelInfo(name, f"{name}.yaml", "spec", (InputInfo("x", (1, 3, 8, 8)),)),
        totals=Totals(PARAMS, PARAMS, 2 * 5, MACS, 4 * PARAMS, pixels, "input 8x8"),
        layers=rows,
        uncounted=uncounted,
        groups={"backbone.0": "separable", "backbone.1": "separable", "backbone": "sequence"},
    )


def limit(text: str, level: str = "error") -> Limit:
    """Read a short form, as from line 3 of a file."""
    source = SourceText("net.yaml", f"convstat: 1\nbudget:\n  - {text}\n")
    read = limits.read_short(text, Mark(source, 3, 5, len(text)))
    return Limit(
        *(getattr(read, name) for name in ("metric", "scope", "on", "comparison", "limit", "amount", "mark")), level
    )


def verdict(text: str, level: str = "error", **kwargs: object) -> BudgetResult:
    """Judge the small network."""
    return judge(report(**kwargs), limit(text, level))  # type: ignore[arg-type]


def refused(read: Callable[[], object], kind: type[ConvstatError] = SpecError) -> str:
    """Give the text of the error that must come, which is one that exits with 2."""
    with pytest.raises(kind) as caught:
        read()
    assert ExitCode.USAGE == caught.value.exit_code
    return str(caught.value)


@pytest.mark.parametrize(
    ("metric", "actual"),
    [
        ("params", PARAMS),
        ("trainable_params", PARAMS),
        ("macs", MACS),
        ("flops", 2 * MACS),
        ("weight_bytes", 4 * PARAMS),
        ("layers", 7),
        ("buffers", 2 * 5),
        ("params@backbone.**", (16 + 32) * 9 + 16 * 32 + 32 * 64),
        ("params@backbone.*.dw", (16 + 32) * 9),
        ("layers@backbone.1.*", 3),
    ],
)
@pytest.mark.parametrize(
    ("comparison", "statuses"),
    [("<=", ("fail", "pass", "pass")), (">=", ("pass", "pass", "fail")), ("==", ("fail", "pass", "fail"))],
)
def test_a_limit_is_inclusive(metric: str, actual: int, comparison: str, statuses: tuple[str, ...]) -> None:
    """One less, the same and one more, in integers, for every metric and comparison."""
    results = [verdict(f"{metric}{comparison}{bound}") for bound in (actual - 1, actual, actual + 1)]
    assert statuses == tuple(result.status for result in results)
    assert [actual] * 3 == [result.actual for result in results]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 10**30), st.integers(-2, 2))
def test_no_float_takes_part(actual: int, offset: int) -> None:
    """The verdict is right for numbers that no float can tell apart."""
    row = LayerRow("a", "Linear", ((1, 1),), ((1, 1),), actual, actual)
    huge = Report(ModelInfo("m", "m", "spec", ()), Totals(actual, macs=actual), (row,))
    mark = Mark(SourceText("x", ""), 1, 1)
    bound = Limit("params", "total", None, "<=", actual + offset, "", mark)
    result = judge(huge, bound)
    assert ("pass" if offset >= 0 else "fail") == result.status
    assert offset == result.headroom


def test_a_result_says_what_is_left() -> None:
    """Headroom is positive below a maximum and above a minimum, negative by what is missed, and exact."""
    assert 100 == verdict(f"params<={PARAMS + 100}").headroom
    assert -1 == verdict(f"params<={PARAMS - 1}").headroom
    assert 1 == verdict(f"params>={PARAMS - 1}").headroom
    assert -5 == verdict(f"params>={PARAMS + 5}").headroom
    assert 0 == verdict(f"params=={PARAMS}").headroom
    assert [-3, -3] == [verdict(f"params=={PARAMS + off}").headroom for off in (3, -3)]


def test_every_result_carries_its_place_and_exact_numbers() -> None:
    """What a report, an annotation or a script needs stands in the document."""
    result = verdict("macs<=100k")
    assert ("net.yaml:3", "macs<=100k", "100k") == (result.where, result.text, result.limit_text)
    document = to_document(result)
    assert (100_000, MACS, 100_000 - MACS) == tuple(document[key] for key in ("limit", "actual", "headroom"))
    exact = {"limit": "100000", "actual": str(MACS), "headroom": str(100_000 - MACS), "base": None}
    assert exact == document["exact"]
    assert json.loads(json.dumps(document)) == document


def test_an_exceeded_total_names_the_layers_that_cost_most() -> None:
    """Dearest first, each with its line and its part of the whole; layers that cost nothing are not named."""
    result = verdict("macs<=1k")
    assert ["backbone.1.pw", "backbone.0.pw", "stem", "backbone.1.dw", "backbone.0.dw"] == [
        offender.layer for offender in result.offenders
    ]
    first = result.offenders[0]
    assert (32 * 64 * PIXELS, Fraction(32 * 64 * PIXELS, MACS)) == (first.value, first.share)
    assert Place("net.yaml", 14) == first.source
    assert () == verdict(f"macs<={MACS}").offenders
    assert () == verdict(f"macs>={MACS + 1}").offenders


def test_each_layer_is_judged_by_itself() -> None:
    """The number of layers over the limit, and only those, are reported."""
    result = verdict("params(each)@backbone.**<=500")
    assert ("fail", 2, 32 * 64) == (result.status, result.violations, result.actual)
    assert ["backbone.1.pw", "backbone.0.pw"] == [offender.layer for offender in result.offenders]
    assert "pass" == verdict("params(each)@backbone.*.dw<=288").status
    too_few = verdict("params(each)@backbone.*.dw>=145")
    assert (16 * 9, ["backbone.0.dw"]) == (too_few.actual, [offender.layer for offender in too_few.offenders])


@pytest.mark.parametrize("layers", ["head.**", "backbone.*.pw", "stem"])
def test_a_share_is_compared_by_cross_multiplication(layers: str) -> None:
    """A share that is no finite decimal is still compared exactly."""
    part = sum(macs for name, _, _, macs in LAYERS if pattern(layers, ".").fullmatch(name))
    share = Fraction(part, MACS)
    above = f"{float(share) * 100 + 1e-9:.12f}%"
    below = f"{float(share) * 100 - 1e-9:.12f}%"
    assert ["pass", "fail"] == [verdict(f"macs(share)@{layers}<={bound}").status for bound in (above, below)]
    assert share == verdict(f"macs(share)@{layers}<={above}").actual


def test_macs_per_pixel_is_compared_exactly() -> None:
    """MACs / 64 has six binary places; its limit may have decimals."""
    exact = Fraction(MACS, PIXELS)
    assert 3 * 16 * 9 + (16 + 32) * 9 + 16 * 32 + 32 * 64 + 10 == exact
    assert ["fail", "pass"] == [verdict(f"macs_per_pixel<={bound}").status for bound in ("3433.999", "3434.0")]
    third = judge(report(pixels=3 * PIXELS), limit("macs_per_pixel<=1144.6667"))
    assert ("pass", Fraction(3434, 3)) == (third.status, third.actual)
    assert "3434/3" == to_document(third)["exact"]["actual"]


def test_pixels_that_are_not_there_cannot_be_limited() -> None:
    """A network on vectors has no MACs/pixel."""
    assert "net has no pixels" in refused(lambda: verdict("macs_per_pixel<=1", pixels=0), UsageError)


def test_levels() -> None:
    """A warning does not fail, and what is off is not judged."""
    assert ("warn", "pass") == (verdict("params<=1", "warn").status, verdict("params<=1G", "warn").status)
    counted = report()
    checked = CheckedModel(counted.model, counted.totals)
    model = check_command._Model(Request(resolve("net.yaml")), counted, [limit("params<=1", "off")])
    off = check_command._judge_all(model, {None: checked}, "error")
    assert [("skip", "its level is off", None)] == [(r.status, r.reason, r.actual) for r in off]


# --- patterns -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**", NAMES),
        ("*", ["stem"]),
        ("backbone.**", [n for n in NAMES if n.startswith("backbone.")]),
        ("backbone.*", []),
        ("backbone.*.pw", ["backbone.0.pw", "backbone.1.pw"]),
        ("**.pw", ["backbone.0.pw", "backbone.1.pw"]),
        ("**.stem", ["stem"]),
        ("stem.**", ["stem"]),
        ("backbone.**.act", ["backbone.1.act"]),
        ("backbone.?.?w", [n for n in NAMES if n.endswith("w")]),
        ("stem", ["stem"]),
        ("ste", []),
        ("[s]tem", []),
    ],
)
def test_a_star_stays_within_a_level_and_two_go_across(text: str, expected: list[str]) -> None:
    """``**`` stands for any number of levels, also for none; other characters are themselves."""
    compiled = pattern(text, ".")
    assert expected == [name for name in NAMES if compiled.fullmatch(name)]


def test_a_pattern_without_a_match_names_the_three_nearest() -> None:
    """A limit on nothing would always pass."""
    text = refused(lambda: verdict("params@backbone.3.pw<=1"), UsageError)
    assert "net.yaml:3:5: error: params@backbone.3.pw<=1: 'backbone.3.pw' matches no layer of net" in text
    assert "help: the nearest names: backbone.1.pw, backbone.0.pw, backbone.1.dw" in text
    assert "it is a block; for the layers in it, write backbone.1.**" in refused(
        lambda: verdict("params@backbone.1<=1"), UsageError
    )


# --- incomplete counts --------------------------------------------------------------------------------------------

MISSING = (Uncounted("aten::fancy", 3, ("stem",)),)


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("macs<=1G", "skip", ExitCode.INCOMPLETE),
        ("macs<=1k", "fail", ExitCode.VIOLATION),
        ("macs>=1k", "pass", ExitCode.OK),
        ("macs>=1G", "skip", ExitCode.INCOMPLETE),
        (f"macs=={MACS}", "skip", ExitCode.INCOMPLETE),
        (f"macs=={MACS + 1}", "skip", ExitCode.INCOMPLETE),
        (f"macs=={MACS - 1}", "fail", ExitCode.VIOLATION),
        ("macs(share)@stem<=99%", "skip", ExitCode.INCOMPLETE),
        ("macs_per_pixel<=1G", "skip", ExitCode.INCOMPLETE),
        ("params<=1G", "pass", ExitCode.OK),
        ("params<=1k", "fail", ExitCode.VIOLATION),
    ],
)
def test_an_incomplete_count_never_keeps_a_maximum(text: str, status: str, code: ExitCode) -> None:
    """What is not counted can only add: over is over, and enough is enough, but the rest is not known."""
    result = verdict(text, uncounted=MISSING)
    assert (status, code) == (result.status, Check((), (result,)).exit_code)
    assert (status == "skip") == (result.reason == "the count is incomplete: aten::fancy (3 calls)")


def test_one_call_that_is_not_counted_is_one_call() -> None:
    """The number and its noun agree."""
    result = verdict("macs<=1G", uncounted=(Uncounted("aten::fancy", 1, ("stem",)),))
    assert "the count is incomplete: aten::fancy (1 call)" == result.reason


def test_a_warning_on_an_incomplete_count_stops_nothing() -> None:
    """The level decides what stops a build."""
    result = verdict("macs<=1G", "warn", uncounted=MISSING)
    assert ("warn", ExitCode.OK) == (result.status, Check((), (result,)).exit_code)


def test_exceeded_beats_incomplete() -> None:
    """Exit code 1 before 4."""
    results = tuple(verdict(text, uncounted=MISSING) for text in ("macs<=1G", "params<=1"))
    assert ExitCode.VIOLATION == Check((), results).exit_code


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "message", "help"),
    [
        ("parms<=5M", 5, "unknown metric 'parms'", "did you mean 'params'?"),
        ("weights<=5M", 5, "unknown metric 'weights'", "did you mean 'weight_bytes'?"),
        ("params<=5m", 13, "unknown unit 'm' in '5m'", "did you mean M?"),
        ("params<=5mb", 13, "unknown unit 'mb' in '5mb'", "did you mean M?"),
        ("params<=5K", 13, "unknown unit 'K' in '5K'", "did you mean k?"),
        ("params<=5B", 13, "unknown unit 'B' in '5B'", "B is bytes; for billions, write G"),
        ("weight_bytes<=5M", 19, "unknown unit 'M' in '5M'", "did you mean MB"),
        ("params<=1.0005k", 13, "'1.0005k' is 1,000.5, which is not an integer", "the nearest are 1000 and 1001"),
        ("macs(share)@a<=+2%", 20, "a share is a percentage of the whole, and '+2%' is relative", "macs@head.**<=+2%"),
        ("params<=+2m", 13, "unknown unit 'm' in '2m'", "did you mean M?"),
        ("params<=+", 13, "'' is not an amount", "write a number"),
        ("params<=+1.5", 13, "'1.5' is 1.5, which is not an integer", "the nearest are 1 and 2"),
        ("params<=5%", 13, "'5%' is a percentage without a reference", "params<=+5%"),
        ("params<=5%", 13, "'5%' is a percentage without a reference", "params(share)@LAYERS<=5%"),
        ("act_peak<=5M", 5, "unknown metric 'act_peak'", "did you mean 'activation_bytes'?"),
        ("peak_activation_bytes<=5MiB", 5, "unknown metric 'peak_activation_bytes'", "activation_bytes"),
        ("macs(max)@a<=1", 10, "unknown scope 'max'", "did you mean 'each'?"),
        ("macs@a%<=2", 10, "missing layer type after %", "for example @a%Conv2d"),
        ("params<=5M:wran", 16, "unknown level 'wran'", "did you mean 'warn'?"),
        ("params<=5M:", 5, "unknown level ''", "the level after a limit is one of: error, warn, off"),
        ("params<5M", 11, "a budget compares with <=, >= or ==, not <", "write params<=5M"),
        ("params=5M", 11, "a budget compares with <=, >= or ==, not =", "write params==5M"),
        ("params<=", 5, "missing limit", "for example params<=5M"),
        ("params", 5, "'params' is not a budget", "write METRIC<=AMOUNT"),
        ("macs(any)@a<=1", 10, "unknown scope 'any'", "it is one of total, each, share"),
        ("macs(share)<=20%", 10, "a share needs the layers that it is for", "macs(share)@head.**<=20%"),
        ("macs(share)@a<=20", 20, "a share is a percentage, and '20' has no %", "macs(share)@head.**<=20%"),
        ("layers(each)@a<=2", 12, "'layers' can be limited in total only", ""),
        ("macs@<=2", 5, "missing layer pattern after @", "for example @backbone.**"),
    ],
)
def test_a_mistake_in_a_budget_is_shown_in_its_place(text: str, column: int, message: str, help: str) -> None:
    """The caret stands under the part at fault, and the help can be typed."""
    shown = refused(lambda: limit(text))
    assert shown.startswith(f"net.yaml:3:{column}: error: {message}")
    assert help in shown


def test_the_options_and_the_table_and_the_short_form_are_one_grammar() -> None:
    """``--max macs=300M``, a table and ``macs<=300M`` give the same limit."""
    expected = limit("macs<=300M")
    source = SourceText("pyproject.toml", "[[tool.convstat.budget]]")
    table = tables.read_table({"metric": "macs", "max": "300M"}, Mark(source, 1, 1), {})
    for read in (limits.read_option("max", "macs=300M"), *table):
        assert (str(expected), expected.limit) == (str(read), read.limit)
    assert limit("macs(each)@a.**>=2k").limit == limits.read_option("min", "macs(each)@a.**=2k").limit


@pytest.mark.parametrize(
    ("option", "text", "help"),
    [
        ("max", "macs<=300M", "write --max macs=300M"),
        ("min", "macs<300M", "write --max macs=300M"),
        ("max", "macs(each)@a.** >= 3k", "write --min macs(each)@a.**=3k"),
        ("exact", "params==3", "write --exact params=3"),
        ("max", "params", "for example --max params=5M"),
        ("max", "parms=5M", "did you mean 'params'?"),
        ("max", "macs(share)@head.**=20", "for example macs(share)@head.**=20%"),
    ],
)
def test_a_mistake_in_an_option_says_what_to_type(option: str, text: str, help: str) -> None:
    """A comparison sign on the command line would be a redirection, if it were not quoted."""
    shown = refused(lambda: limits.read_option(option, text), UsageError)
    assert shown.startswith(f"--{option} {text}: error: ")
    assert help in shown


def test_a_table_may_hold_several_bounds() -> None:
    """max and min are two limits, both at their own lines; numbers are read as they are written."""
    keys = [
        'metric = "macs_per_pixel"',
        "max = 0.1",
        "min = 0",
        'on = "a.**"',
        'per = "each"',
        'level = "warn"',
        'why = "x"',
    ]
    entry = project.parse("\n".join(["[[budget]]", *keys]), "convstat.toml").budgets[0]
    assert isinstance(entry.written, dict)
    high, low = tables.read_table(entry.written, entry.mark, entry.marks)
    assert ("macs_per_pixel(each)@a.**<=0.1", Fraction(1, 10), "warn", "x") == (
        str(high),
        high.limit,
        high.level,
        high.why,
    )
    assert (">=", 0, "convstat.toml:4") == (low.comparison, low.limit, low.where)


@pytest.mark.parametrize(
    ("lines", "place", "message"),
    [
        ("max = 5", 1, "a budget needs a metric"),
        ('metric = "params"', 1, "a budget needs max, min or exact"),
        ('metric = "parms"\nmax = 5\nmin = 3', 2, "unknown metric 'parms'"),
        ('metric = "params"\nmax = 5.5', 3, "'5.5' is 5.5, which is not an integer"),
        ('metric = "params"\nmax = true', 3, "max of a budget must be a number or a string such as '5M'"),
        ('metric = "params"\nmax = "5m"', 3, "unknown unit 'm' in '5m'"),
        ('metric = "params"\nmax = 5\nlevel = "warning"', 4, "level of a budget cannot be 'warning'"),
        ('metric = "params"\nmax = 5\nper = "op"', 4, "per of a budget cannot be 'op'"),
        ("metric = 3\nmax = 5", 2, "metric of a budget cannot be '3'"),
    ],
)
def test_a_mistake_in_a_table_is_shown_at_its_line(lines: str, place: int, message: str) -> None:
    """Once, even where the table holds several bounds."""
    entry = project.parse(f"[[budget]]\n{lines}\n", "convstat.toml").budgets[0]
    assert isinstance(entry.written, dict)
    with pytest.raises(ConfigError) as caught:
        tables.read_table(entry.written, entry.mark, entry.marks)
    assert [(place, message)] == [(d.mark.line if d.mark else 0, d.message) for d in caught.value.diagnostics]


# --- check --------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two saved reports, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(report(name=name).to_dict()))
    return tmp_path


def settings_of(text: str) -> Config:
    """Read settings from a text."""
    return project.parse(text, "convstat.toml")


def test_check_passes_at_the_limit_and_fails_one_below(saved: Path) -> None:
    """Exit codes 0 and 1, and both results show all digits."""
    at = check_command.check(["a.json"], max=[f"params={PARAMS}"])
    below = check_command.check(["a.json"], max=[f"params={PARAMS - 1}"])
    assert (ExitCode.OK, ExitCode.VIOLATION) == (at.exit_code, below.exit_code)
    assert f"--max params={PARAMS}" == at.results[0].where
    assert (0, 1) == (at.to_dict()["exit_code"], below.to_dict()["exit_code"])
    assert ("convstat.check/1", "exceeded") == (below.to_dict()["schema"], below.to_dict()["status"])


def test_the_table_and_the_option_give_the_same_verdict(saved: Path) -> None:
    """They differ in their place only."""
    option = to_document(check_command.check(["a.json"], max=["macs=300k"]).results[0])
    settings = settings_of('[[budget]]\nmetric = "macs"\nmax = "300k"\n')
    table = to_document(check_command.check(["a.json"], Requests(config=settings)).results[0])
    assert "convstat.toml:3" == table.pop("where")
    assert "--max macs=300k" == option.pop("where")
    assert option == table


def test_budgets_add_up(saved: Path) -> None:
    """Options and settings all apply, twice the same metric too, on every target."""
    check = check_command.check(
        ["a.json", "b.json"],
        Requests(config=settings_of('budget = ["layers==7"]')),
        max=["params=1G", "params=1k"],
        min=["macs=1"],
    )
    assert ["params<=1G", "params<=1k", "macs>=1", "layers==7"] * 2 == [result.text for result in check.results]
    assert (2, 6) == (check.count("fail"), check.count("pass"))
    assert ["a.json"] * 4 + ["b.json"] * 4 == [result.model for result in check.results]


def test_a_budget_for_one_model_is_not_for_another(saved: Path) -> None:
    """A pattern of paths chooses; a budget of the settings for none of their models is listed as skipped."""
    text = '[[budget]]\nmodel = "b*.json"\nmetric = "params"\nmax = 1\n[[budget]]\nmetric = "params"\nmax = "1G"\n'
    both = check_command.check(["a.json", "b.json"], Requests(config=settings_of(text)))
    assert [("a.json", "pass"), ("b.json", "fail"), ("b.json", "pass")] == [(r.model, r.status) for r in both.results]
    one = check_command.check(["a.json"], Requests(config=settings_of(text)))
    assert [("a.json", "pass")] == [(r.model, r.status) for r in one.results]
    own = check_command.check([], Requests(config=settings_of(f'model = "a.json"\n{text}')))
    assert [("a.json", "pass", None), ("b*.json", "skip", "it applies to b*.json only")] == [
        (r.model, r.status, r.reason) for r in own.results
    ]
    assert ExitCode.OK == own.exit_code


def test_a_pattern_of_models_stays_within_a_folder() -> None:
    """``*`` does not cross a slash; a file's budget is its variants' too."""
    assert pattern("configs/*.yaml", "/").fullmatch("configs/net.yaml")
    assert not pattern("configs/*.yaml", "/").fullmatch("configs/mobile/net.yaml")
    assert pattern("configs/**", "/").fullmatch("configs/mobile/net.yaml")
    [for_all] = tables.read_table(
        {"metric": "params", "max": 1, "model": "net.yaml"}, Mark(SourceText("c.toml", ""), 1, 1), {}
    )
    [for_small] = tables.read_table(
        {"metric": "params", "max": 1, "model": "net.yaml#small"}, Mark(SourceText("c.toml", ""), 1, 1), {}
    )
    assert (True, True) == tuple(check_command._is_for(for_all, name) for name in ("net.yaml", "./net.yaml#small"))
    assert (False, True) == tuple(check_command._is_for(for_small, name) for name in ("net.yaml", "net.yaml#small"))


def test_no_budget_is_an_error_that_can_be_pasted(saved: Path) -> None:
    """A check that cannot fail is a mistake; the block holds today's numbers and then passes."""
    text = refused(lambda: check_command.check(["a.json"]), UsageError)
    assert "error: a.json has no budget to check" in text
    start = text.index("[[tool.convstat.budget]]")
    block = text[start : text.index("help: or once")]
    pasted = project.parse(block, "pyproject.toml")
    check = check_command.check(["a.json"], Requests(config=pasted))
    assert [("params", PARAMS, 0), ("macs", MACS, 0)] == [(r.metric, r.actual, r.headroom) for r in check.results]


def test_one_target_without_a_budget_is_noted(saved: Path) -> None:
    """Among several, it does not stop the others."""
    text = '[[budget]]\nmodel = "a.json"\nmetric = "params"\nmax = "1G"\n'
    assert ("b.json has no budget",) == check_command.check(
        ["a.json", "b.json"], Requests(config=settings_of(text))
    ).notes


def test_without_a_target_those_of_the_settings_are_checked(saved: Path) -> None:
    """A list is allowed; with none, the error says what to do."""
    check = check_command.check(
        [], Requests(config=settings_of('model = ["a.json", "b.json"]\nbudget = ["params<=1G"]'))
    )
    assert ["a.json", "b.json"] == [result.model for result in check.results]
    assert "no target to check" in refused(lambda: check_command.check([]), UsageError)


def test_the_mistakes_of_all_budgets_are_reported_at_once(saved: Path) -> None:
    """Options, settings and patterns: nobody wants to learn of them one by one."""
    text = refused(
        lambda: check_command.check(
            ["a.json"], Requests(config=settings_of('budget = ["layer<=1"]')), max=["parms=1", "macs=1m"]
        ),
        UsageError,
    )
    assert 3 == text.count(": error: ")
    text = refused(lambda: check_command.check(["a.json"], max=["params@x=1", "params@y=1"]), UsageError)
    assert 2 == text.count("matches no layer of a")


# --- budgets in a spec --------------------------------------------------------------------------------------------

SPEC = """\
convstat: 1
name: small
input: [3, 8, 8]
vars: {width: 16}
layers:
  - Conv2d: {out_channels: width, kernel_size: 3, padding: 1, bias: false}
    name: stem
  - Conv2d: {out_channels: 10, kernel_size: 1, bias: false}
    name: head
models:
  wide: {width: 32}
budget:
  - params<=592
  - macs(share)@head<=30%
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec that has budgets, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(SPEC)
    return tmp_path


def test_the_budgets_of_a_spec_are_checked_at_their_lines(spec: Path) -> None:
    """592 is 3 x 16 x 9 + 16 x 10: exactly at the limit; the head has 160 of 592."""
    check = check_command.check(["net.yaml"])
    assert [("pass", 0, "net.yaml:13"), ("pass", Fraction(3, 10) - Fraction(160, 592), "net.yaml:14")] == [
        (result.status, result.headroom, result.where) for result in check.results
    ]
    assert ExitCode.OK == check.exit_code


def test_overrides_and_variants_are_checked_too(spec: Path) -> None:
    """The offenders are named with the line of the spec that makes them."""
    for check in (check_command.check(["net.yaml"], Requests({"width": 32})), check_command.check(["net.yaml#wide"])):
        first = check.results[0]
        assert ("fail", 3 * 32 * 9 + 32 * 10, ExitCode.VIOLATION) == (first.status, first.actual, check.exit_code)
        assert [("stem", 3 * 32 * 9, Place("net.yaml", 6)), ("head", 32 * 10, Place("net.yaml", 8))] == [
            (offender.layer, offender.value, offender.source) for offender in first.offenders
        ]


def test_the_budgets_of_a_spec_and_of_the_options_add_up(spec: Path) -> None:
    """Neither replaces the other."""
    check = check_command.check(["net.yaml"], Requests(config=settings_of('budget = ["layers==2"]')), max=["params=1k"])
    assert ["--max params=1k", "convstat.toml:1", "net.yaml:13", "net.yaml:14"] == [r.where for r in check.results]


def test_a_mistake_in_the_budget_of_a_spec_is_shown_in_the_spec(spec: Path) -> None:
    """File, line, column and caret, as for any other mistake in it."""
    (spec / "net.yaml").write_text(SPEC.replace("params<=592", "parms<=592").replace("@head", "@haed"))
    assert "net.yaml:13:5: error: unknown metric 'parms'" in refused(
        lambda: check_command.check(["net.yaml"]), ConvstatError
    )
    (spec / "net.yaml").write_text(SPEC.replace("@head", "@haed"))
    shown = refused(lambda: check_command.check(["net.yaml"]), UsageError)
    assert "net.yaml:14:5: error: macs(share)@haed<=30%: 'haed' matches no layer of small" in shown
    assert "help: the nearest names: head" in shown


def test_the_block_for_a_spec_can_be_pasted_into_it(spec: Path) -> None:
    """With it, the check passes with nothing left."""
    bare = SPEC[: SPEC.index("budget:")]
    (spec / "net.yaml").write_text(bare)
    text = refused(lambda: check_command.check(["net.yaml"]), UsageError)
    line = next(line for line in text.splitlines() if line.startswith("budget: ["))
    (spec / "net.yaml").write_text(f"{bare}{line}\n")
    assert [("pass", 0), ("pass", 0)] == [(r.status, r.headroom) for r in check_command.check(["net.yaml"]).results]
    command = next(line for line in text.splitlines() if "convstat check net.yaml --max" in line)
    assert "--max params=592 --max macs=37888" in command


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bytes_are_those_of_the_dtype(spec: Path, dtype: str) -> None:
    """4 or 2 for each parameter; 592 of them are 2368 or 1184 bytes."""
    size = {"float32": 4, "float16": 2}[dtype]
    check = check_command.check(["net.yaml"], Requests(dtype=dtype), exact=[f"weight_bytes={592 * size}B"])
    assert "pass" == check.results[0].status


def test_a_pattern_of_a_table_that_matches_no_layer_is_shown_where_it_stands() -> None:
    """At the key on, which is what is wrong, and not at the limit."""
    entry = project.parse('[[budget]]\nmetric = "params"\non = "haed.**"\nmax = "1k"\n', "convstat.toml").budgets[0]
    [limit] = tables.read_table(entry.written, entry.mark, entry.marks)
    with pytest.raises(UsageError) as caught:
        judge(report(), limit)
    assert ["convstat.toml:3:1"] == [str(d.mark) for d in caught.value.diagnostics]
    assert "convstat.toml:4" == limit.where


@pytest.mark.parametrize(("option", "word"), [("max", "smallest"), ("min", "largest")])
def test_the_value_that_is_said_to_pass_passes_for_every_model(
    saved: Path, option: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One budget on several models: the limit that is offered is that of the worst of them."""
    lines = "input: [3, 8, 8]\nlayers:\n  - Conv2d: {{out_channels: {}, kernel_size: 1}}\n"
    names = []
    for width in (4, 16, 8):
        names.append(f"w{width}.yaml")
        (saved / names[-1]).write_text(lines.format(width))
    call = ["check", *names, f"--{option}", "params={}"]
    assert 1 == run([*call[:-1], call[-1].format(1 if option == "max" else 1000)])
    match = re.search(word + r' passing value for all 3\s+models:\s+"(\d+)"', capsys.readouterr().out)
    assert match is not None
    # 3 weights and a bias for each of the channels
    assert (16 if option == "max" else 4) * (3 + 1) == int(match[1])
    assert 0 == run([*call[:-1], call[-1].format(match[1])])
    worse = int(match[1]) + (-1 if option == "max" else 1)
    assert 1 == run([*call[:-1], call[-1].format(worse)])
