"""Growth, types of layers, levels and reasons: the rest of the grammar, in every place where a budget can stand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat import spec
from convstat.budgets import limits, tables
from convstat.budgets.judge import BudgetResult, judge
from convstat.budgets.limits import Limit
from convstat.commands import check
from convstat.errors import ConfigError, ConvstatError, Mark, SourceText, SpecError, UsageError
from convstat.history import changes
from convstat.results import sums
from convstat.results.documents.codec import to_document
from convstat.results.language import Language
from convstat.results.report import InputInfo, LayerRow, ModelInfo, Report, Totals, Uncounted

MARK = Mark(SourceText("net.yaml", ""), 1, 1)


def limit(text: str) -> Limit:
    """Read the short form."""
    return limits.read_short(text, MARK)


def model(*layers: tuple[str, str, int], pixels: int = 64, uncounted: tuple[Uncounted, ...] = ()) -> Report:
    """A model of layers with a name, a type and as many params as MACs."""
    rows = tuple(
        LayerRow(name, kind, ((1, 3, 8, 8),), ((1, 3, 8, 8),), n, n, n, n, 4 * n, arguments={"n": n})
        for name, kind, n in layers
    )
    totals = sums.total(rows, pixels, "input 8x8")
    return Report(ModelInfo("m", "m.yaml", "spec", (InputInfo("x", (1, 3, 8, 8)),)), totals, rows, (), uncounted)


def verdict(text: str, base: Report, head: Report, **options: str) -> BudgetResult:
    """Judge a head beside its base."""
    return judge(head, limit(text), None, changes.compare(base, head), **options)


def of(n: int) -> Report:
    """A model of one layer."""
    return model(("a", "Conv2d", n))


# --- relative -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "base", "bound"),
    [
        ("params<=+2%", 100, 102),
        ("params<=+0", 100, 100),
        ("params<=+0%", 100, 100),
        ("params<=-5%", 100, 95),
        ("params<=+1k", 100, 1100),
        ("params<=-10", 100, 90),
        ("params>=-5%", 100, 95),
        ("params>=+0", 100, 100),
        ("params==+0", 100, 100),
        ("params<=+50%", 3, 4),  # 4.5 is no count
        ("params<=+0.5%", 1000, 1005),
        ("macs<=+2M", 7, 2_000_007),
        ("flops<=+2", 7, 16),
        ("weight_bytes<=+1KiB", 100, 4 * 100 + 1024),
        ("macs_per_pixel<=+0.5", 64, Fraction(3, 2)),
        ("layers<=+0", 5, 1),
        ("trainable_params<=+10%", 10, 11),
        ("buffers<=+1", 10, 11),
    ],
)
def test_a_sign_makes_a_limit_relative_to_the_base(text: str, base: int, bound: int | Fraction) -> None:
    """A percentage of what was, or an amount more; for every metric."""
    assert bound == verdict(text, of(base), of(base)).limit


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        ("params<=+2%", ("pass", "pass", "fail")),
        ("params<=+20", ("pass", "pass", "fail")),
        ("params>=+2%", ("fail", "pass", "pass")),
        ("params==+20", ("fail", "pass", "fail")),
        ("params(each)<=+2%", ("pass", "pass", "fail")),
        ("params@a<=+2%", ("pass", "pass", "fail")),
        ("params@%Conv*<=+2%", ("pass", "pass", "fail")),
    ],
)
def test_a_relative_limit_is_inclusive(text: str, statuses: tuple[str, ...]) -> None:
    """2 % more than 1000 is 1020: one less, the same, one more."""
    assert statuses == tuple(verdict(text, of(1000), of(n)).status for n in (1019, 1020, 1021))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**25), st.integers(0, 10**25), st.integers(-9999, 99999))
def test_a_percentage_is_compared_in_integers(base: int, head: int, hundredths: int) -> None:
    """10000 x head <= (10000 + p) x base, with no rounding anywhere."""
    sign = "-" if hundredths < 0 else "+"
    text = f"params<={sign}{abs(hundredths) // 100}.{abs(hundredths) % 100:02}%"
    assert (10_000 * head <= (10_000 + hundredths) * base) == (verdict(text, of(base), of(head)).status == "pass")


def test_a_relative_result_carries_its_base() -> None:
    """Limit, base and growth are exact, and what was written is kept."""
    result = verdict("params<=+50%", of(3), of(5))
    # 4.5 is no count: at most 4
    assert ("fail", 4, 5, 3, -1) == (
        result.status, result.limit, result.actual, result.base, result.headroom
    )  # fmt: skip
    document = to_document(result)
    assert {"limit": "4", "actual": "5", "headroom": "-1", "base": "3"} == document["exact"]
    assert ("+50%", True, "error") == (document["limit_text"], document["relative"], document["level"])
    assert [("a", 3, 5, 2, "n: 3 -> 5")] == [
        (row["layer"], row["old"], row["new"], row["delta"], row["why"]) for row in document["growth"]
    ]


def test_each_layer_is_compared_with_itself() -> None:
    """A layer that shrinks does not pay for one that grows, and a new one has no growth."""
    base = model(("a", "Conv2d", 100), ("b", "Conv2d", 100))
    head = model(("a", "Conv2d", 103), ("b", "Conv2d", 50), ("c", "Conv2d", 999))
    result = verdict("params(each)<=+2%", base, head)
    assert ("fail", 1, 103, 102, 100) == (result.status, result.violations, result.actual, result.limit, result.base)
    assert ["a"] == [offender.layer for offender in result.offenders] == [row.layer for row in result.growth]
    assert "pass" == verdict("params(each)@b<=+2%", base, head).status
    only = verdict("params(each)@c<=+2%", base, head)
    assert ("skip", "the base has no such layers; they are new") == (only.status, only.reason)


def test_growth_is_named_largest_first_and_adds_up() -> None:
    """Five layers, then all the others in one row; what shrank is in it too."""
    names = "abcdefgh"
    base = model(*((name, "Conv2d", 100) for name in names))
    head = model(*((name, "Conv2d", 100 + i) for i, name in enumerate(names)), ("new", "Linear", 50))
    result = verdict("macs<=+0", base, head)
    assert ["new", "h", "g", "f", "e", None] == [row.layer for row in result.growth]
    assert ["added", "changed"] == [row.status for row in result.growth[:2]]
    assert head.totals.macs - base.totals.macs == sum(row.delta for row in result.growth)
    assert "[other 4 layers]" == result.growth[-1].name
    shrunk = verdict("macs>=+0", head, base)
    assert (["new", "h"], "removed") == ([row.layer for row in shrunk.growth[:2]], shrunk.growth[0].status)
    only = verdict("macs@%Linear<=0", base, head)
    assert [("new", 50)] == [(row.layer, row.delta) for row in only.growth]


@pytest.mark.parametrize("side", ["base", "head", "both"])
def test_an_incomplete_count_on_either_side_stops_a_relative_verdict(side: str) -> None:
    """What the base did not count would have raised the limit; only a head that is over a full base is over."""
    missing = (Uncounted("aten::fancy", 1, ("a",)),)
    base = replace(of(100), uncounted=missing if side in ("base", "both") else ())
    head = replace(of(100), uncounted=missing if side in ("head", "both") else ())
    assert ("skip", True) == ((r := verdict("macs<=+0", base, head)).status, r.incomplete)
    over = verdict("macs<=+0", base, replace(of(101), uncounted=head.uncounted))
    assert ("fail" if side == "head" else "skip") == over.status
    assert "pass" == verdict("params<=+0", base, head).status


def test_a_relative_limit_is_never_judged_without_a_base() -> None:
    """Whoever calls it so made a mistake, and gets no verdict."""
    with pytest.raises(ValueError, match="judged with a base only"):
        judge(of(1), limit("params<=+0"))


@pytest.mark.parametrize("text", ["params<=+2%", "params<=+1", "params>=+50", "params==+0", "params<=1", "params>=1M"])
def test_what_is_said_to_pass_passes(text: str) -> None:
    """The limit that is offered instead is written in the same way, and is just enough."""
    from convstat.render.views.check import passing_value

    base, head = of(100), of(107)
    result = verdict(text, base, head)
    assert "fail" == result.status
    value = passing_value(result)
    assert value is not None
    again = verdict(text[:8] + value, base, head)
    assert ("pass", 0) == (again.status, again.headroom)


# --- types --------------------------------------------------------------------------------------------------------

NET = model(
    ("stem", "Conv2d", 1), ("body.0.dw", "Conv2d", 2), ("body.0.bn", "BatchNorm2d", 4), ("head.fc", "Linear", 8)
)


@pytest.mark.parametrize(
    ("on", "actual"),
    [
        ("%Conv2d", 1 + 2),
        ("**%Conv2d", 1 + 2),
        ("body.**%Conv2d", 2),
        ("*%*", 1),
        ("**%*Norm*", 4),
        ("**%?inear", 8),
        ("body.**", 2 + 4),
    ],
)
def test_a_pattern_chooses_types_of_layers_too(on: str, actual: int) -> None:
    """Names before the sign, types behind it; each may be a pattern."""
    assert actual == judge(NET, limit(f"params@{on}<=1k")).actual
    assert max(1, actual) >= (judge(NET, limit(f"params(each)@{on}<=1k")).actual or 0)
    assert Fraction(actual, 15) == judge(NET, limit(f"params(share)@{on}<=100%")).actual
    assert on == limit(f"params@{on}<=1k").on


@pytest.mark.parametrize(
    ("on", "help"),
    [
        ("**%Conv3d", "types of these layers: Conv2d"),
        ("head.**%Conv2d", "types of these layers: Linear"),
        ("haed.**%Linear", "the nearest names: head.fc"),
    ],
)
def test_a_type_without_a_match_is_an_error(on: str, help: str) -> None:
    """A limit on nothing would always pass."""
    with pytest.raises(UsageError) as caught:
        judge(NET, limit(f"params@{on}<=1"))
    assert f"'{on}' matches no layer of m" in str(caught.value)
    assert help in str(caught.value)


# --- levels and reasons -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level", "why"),
    [
        ("params<=5M", "error", None),
        ("params<=5M:warn", "warn", None),
        ("params<=5M : off", "off", None),
        ("params<=5M:error:phone: 30 ms", "error", "phone: 30 ms"),
        ("params(each)@a.**%Conv2d<=+2%:warn:why not", "warn", "why not"),
    ],
)
def test_the_short_form_has_a_level_and_a_reason(text: str, level: str, why: str | None) -> None:
    """Behind the limit; and what is read can be written and read again."""
    read = limit(text)
    assert (level, why) == (read.level, read.why)
    assert read == limit(read.short)
    assert ":" not in str(read)


SPEC = """\
convstat: 1
name: small
input: [3, 8, 8]
layers:
  - Conv2d: {out_channels: 16, kernel_size: 3, bias: false}
    name: stem
budget:
"""


def test_a_table_in_a_spec_is_the_table_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Level and reason included, each bound a budget at its own line."""
    monkeypatch.chdir(tmp_path)
    table = "{metric: macs, min: 1, max: 1k, per: layer, on: '**%Conv2d', level: warn, why: slow phone}"
    rows = f"  - params<=1\n  - {table}\n"
    Path("net.yaml").write_text(SPEC + rows)
    found = check.check(["net.yaml"])
    assert [
        ("params<=1", "error", None, "net.yaml:8", "fail"),
        ("macs(each)@**%Conv2d<=1k", "warn", "slow phone", "net.yaml:9", "warn"),
        ("macs(each)@**%Conv2d>=1", "warn", "slow phone", "net.yaml:9", "pass"),
    ] == [(r.text, r.level, r.why, r.where, r.status) for r in found.results]
    [limit] = tables.read_table({"metric": "macs", "max": "1k", "per": "layer"}, MARK, {})
    assert "macs(each)<=1k" == str(limit)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("  - {metric: params, mx: 1}\n", "net.yaml:8:22: error: unknown key 'mx' of a budget"),
        ("  - {metric: prams, max: 1}\n", "net.yaml:8:14: error: unknown metric 'prams'"),
        ("  - {metric: params, max: 1m}\n", "net.yaml:8:27: error: unknown unit 'm' in '1m'"),
        ("  - {metric: params}\n", "error: a budget needs max, min or exact"),
        ("  - {metric: params, max: 1, model: x}\n", "help: a budget in a spec applies to this spec"),
        ("  - {metric: params, max: [1]}\n", "error: max of a budget must be a single value"),
        ("  - {metric: params, max: 1, level: wran}\n", "error: level of a budget cannot be 'wran'"),
        ("  - [params<=1]\n", "error: expected a budget"),
        ("  []\n", "error: budget is an empty list"),
    ],
)
def test_a_mistake_in_a_table_of_a_spec_is_shown_in_its_place(row: str, message: str) -> None:
    """As any other mistake in a spec."""
    with pytest.raises(SpecError) as caught:
        spec.read(SPEC + row, "net.yaml")
    assert message in str(caught.value)


# --- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("max", "macs=300M", "macs<=300M"),
        ("max", "macs=+2%", "macs<=+2%"),
        ("min", "params(share)@head.**=1%", "params(share)@head.**>=1%"),
        ("exact", "params=2515816:warn:published", "params==2515816:warn:published"),
        ("max-growth", "macs=2%", "macs<=+2%"),
        ("max-growth", "macs=+2%", "macs<=+2%"),
        ("max-growth", "params=0", "params<=+0"),
        ("max-growth", "params=-1k", "params<=-1k"),
        ("max-growth", "params(each)@body.**=10k", "params(each)@body.**<=+10k"),
        ("max-layer", "params=200k", "params(each)@**<=200k"),
        ("max-layer", "body.**:params=200k", "params(each)@body.**<=200k"),
        ("max-layer", "body.**%Conv2d:macs=+5%", "macs(each)@body.**%Conv2d<=+5%"),
        ("max-layer", "%Linear:params=1M:warn", "params(each)@%Linear<=1M:warn"),
    ],
)
def test_an_option_is_a_budget(option: str, text: str, expected: str) -> None:
    """The same limit as its short form, which needs no < that a shell would take."""
    read = limits.read_option(option, text)
    assert limit(expected) == replace(read, mark=MARK, amount=limit(expected).amount)
    assert f"--{option} {text}" == read.where


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("max-growth", "macs<=2%", "--max-growth takes METRIC=AMOUNT, not 'macs<=2%'"),
        ("max-growth", "macs", "for example --max-growth params=2%"),
        ("max-growth", "macs=", "missing limit"),
        ("max-growth", "macs(share)@a=2%", "a share cannot be relative to a base"),
        ("max-growth", "macs=two", "'two' is not an amount"),
        ("max-layer", "params<=1", "--max-layer takes [LAYERS:]METRIC=AMOUNT"),
        ("max-layer", ":params=1", "missing layer pattern"),
        ("max-layer", "a:layers=1", "'layers' can be limited in total only"),
        ("max-layer", "a:prams=1", "did you mean 'params'?"),
        ("max", "macs=5%", "write a sign"),
        ("max", "macs<=300M", "write --max macs=300M"),
    ],
)
def test_a_mistake_in_an_option_says_what_to_type(option: str, text: str, message: str) -> None:
    """The place is the option as it was written."""
    with pytest.raises(UsageError) as caught:
        limits.read_option(option, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--{option} {text}: error: ")


SUBJECTS = ["params", "macs", "(", ")", "each", "share", "total", "@", "a.**", "%", "Conv2d"]
AMOUNTS = ["<=", "==", "=", "<", "+", "-", "2", "5M", "1e9", ":", "warn", " ", "\n", "é"]
words = st.sampled_from([*SUBJECTS, *AMOUNTS])


@settings(deadline=None, max_examples=300)
@given(st.lists(words, max_size=9).map("".join), st.sampled_from(limits.OPTIONS))
def test_any_text_is_read_or_refused(text: str, option: str) -> None:
    """Nothing that anybody can write is a crash, and what is read can be written and read again."""
    for read in (lambda: limit(text), lambda: limits.read_option(option, text)):
        try:
            found = read()
        except ConvstatError:
            continue
        again = limit(found.short)
        assert (str(found), found.level) == (str(again), again.level)
        assert (found.limit, found.relative) == (again.limit, again.relative)


def test_a_table_needs_a_sign_for_growth() -> None:
    """An unsigned percentage is of nothing: 5 meant +500 % to one tool, and never fired."""
    assert "percent" == tables.read_table({"metric": "macs", "max": "+2%"}, MARK, {})[0].relative
    with pytest.raises(ConfigError, match="'2%' is a percentage without a reference"):
        tables.read_table({"metric": "macs", "max": "2%"}, MARK, {})


def test_metrics_are_what_a_report_has() -> None:
    """No budget can be on what nothing counts: each is a total, a quotient, the layers, or a figure of tokens."""
    others = {name for name in limits.METRICS if not hasattr(Totals(), name)}
    assert others == {"layers", *limits.LANGUAGE}
    assert all(hasattr(Language, name) for name in limits.LANGUAGE)


def test_a_relative_limit_of_a_count_is_whole() -> None:
    """One percent more than 150 is 151.5: at most that is at most 151, at least that is at least 152."""
    assert (151, 0) == ((upper := verdict("params<=+1%", of(150), of(151))).limit, upper.headroom)
    assert (152, -1) == ((lower := verdict("params>=+1%", of(150), of(151))).limit, lower.headroom)
