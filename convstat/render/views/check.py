"""What ``convstat check`` says: each budget with its verdict, what costs most, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING

from convstat.render.page import Block, Column, Fields, Heading, Item, Items, Line, Pairs, Table, Tone, tabulated
from convstat.render.views.report import RESTS_ON, input_fact, set_facts, show_place, title
from convstat.results.report import GIVE_A_RULE
from convstat.text.printable import apart, change, counted, printable, share

if TYPE_CHECKING:
    from convstat.render.base import Options
    from convstat.results.check import BaseModel, BudgetResult, Check, Growth, Offender

WORDS: dict[str, tuple[str, Tone]] = {
    "pass": ("ok", "good"),
    "fail": ("FAIL", "bad"),
    "warn": ("warn", "warn"),
    "skip": ("skip", "warn"),
}

DECIMALS = 6
"""Decimals of a value to write as the new limit."""


def blocks(check: Check, options: Options) -> Iterator[Block]:
    """What the page of a check says."""
    for checked in check.models:
        model = checked.model
        yield Heading(title(model.name, model.source), 1)
        facts = [("input", input_fact(model))]
        if model.values:
            facts.append(("values", printable(model.values)))
        if model.rests_on:
            facts.append((RESTS_ON, printable(model.rests_on)))
        facts += [("pixels", fact) for fact in pixel_facts(check, model.source)]
        facts += set_facts(model)
        if checked.base is not None:
            facts.append(("base", base_fact(checked.base)))
        yield Pairs(tuple(facts))
        if checked.uncounted:
            yield Items(
                tuple(
                    Item("not counted", f"{printable(u.op)}, {counted(u.calls, 'call')}", "bad")
                    for u in checked.uncounted
                )
            )
            yield Line(GIVE_A_RULE)
    yield tabulated(budget_fields(check), check.results, lambda result: WORDS[result.status][1])
    for result in check.results:
        if result.reason:
            yield Line(f"{_named(result, check)} {WORDS[result.status][0]}: {printable(result.reason)}", "warn")
    for gone in check.removed:
        yield Line(f"{printable(gone)} is in the base but no longer exists; neither do its budgets", "warn")
    for result in check.results:
        if result.growth and result.status in ("fail", "warn"):
            grown = (
                f" (base {figure(result, result.base)} -> {figure(result, result.actual)})" if has_base(result) else ""
            )
            yield Heading(f"{_named(result, check)}: growth by layer{grown}")
            yield growth_table(result)
        elif result.offenders and result.status in ("fail", "warn"):
            yield Heading(f"{_named(result, check)}: {_what_offends(result)}")
            yield offender_table(result)
        if result.why and result.status in ("fail", "warn"):
            yield Line(f"{_named(result, check)} is limited because: {printable(result.why)}")
    for note in check.notes:
        yield Line(printable(note), "quiet")
    yield Line(summary(check), "bad" if check.exit_code else "good")


def pixel_facts(check: Check, source: str) -> list[str]:
    """What the MACs/pixel of a model are divided by, where a budget limits them; each divisor once."""
    alone = len(check.models) == 1
    found = (result for result in check.results if result.pixel_basis and (alone or result.model == source))
    return list(dict.fromkeys(map(pixel_fact, found)))


def pixel_fact(result: BudgetResult) -> str:
    """Say what the MACs/pixel of a budget are divided by."""
    return f"{result.pixels:,} ({printable(result.pixel_basis or '')})"


def base_fact(base: BaseModel) -> str:
    """Say what a model is compared with, or why with nothing."""
    label = printable(base.label)
    if base.state == "found":
        return label
    if base.state == "missing" and base.reason:
        return printable(base.reason)
    words = {"new": "the model is new", "missing": "there is none"}.get(base.state, base.state)
    reason = f": {printable(base.reason)}" if base.reason else ""
    return f"{label}: {words}{reason}" if label else f"{words}{reason}"


def has_base(result: BudgetResult) -> bool:
    """Whether a budget has a figure of the base beside its own."""
    return result.base is not None and result.actual is not None


def _what_offends(result: BudgetResult) -> str:
    if result.scope == "each" and result.violations:
        over = "over" if result.comparison == "<=" else "under" if result.comparison == ">=" else "off"
        return f"{counted(result.violations, 'layer')} {over} the limit"
    return "the most expensive layers"


def name(result: BudgetResult) -> str:
    """Name a budget: its metric, and what it looks at where that is not the total."""
    parts = [result.metric + (f"[{result.per}]" if result.per else "")]
    if result.scope != "total":
        parts.append(result.scope)
    if result.on:
        parts.append(f"@{result.on}")
    return printable(" ".join(parts))


def _named(result: BudgetResult, check: Check) -> str:
    """Name a budget beside the others: with its model, where there are several."""
    return f"{printable(result.model)}: {name(result)}" if len(check.models) > 1 else name(result)


def budget_fields(check: Check) -> Fields[BudgetResult]:
    """The columns of a table of budgets; those of the model and of the base where these set rows apart."""
    fields: Fields[BudgetResult] = [
        (Column("verdict", "left"), lambda result: WORDS[result.status][0]),
        (Column("model", "left", shortens=True, comfort=20), lambda result: printable(result.model)),
        (Column("budget", "left", shortens=True, comfort=24), name),
        (Column("base", priority=2), lambda result: figure(result, result.base)),
        (Column("actual"), lambda result: figure(result, result.actual)),
        (Column("growth", priority=1, name="growth since the base"), growth),
        (Column("limit"), requirement),
        (Column("headroom", priority=1), headroom),
        (Column("where", "left", 2, shortens=True, comfort=24), lambda result: printable(result.where)),
    ]
    idle = [] if len(check.models) > 1 else ["model"]
    idle += [] if any(map(has_base, check.results)) else ["base", "growth"]
    return [field for field in fields if field[0].title not in idle]


def figure(result: BudgetResult, value: int | Fraction | None, *, reference: int | Fraction | None = None) -> str:
    """Write a number of a budget; actual and limit never read the same unless they are."""
    if value is None:
        return "-"
    other = result.limit if reference is None else reference
    other = value if other is None else other
    if result.scope == "share":
        return f"{apart(value * 100, other * 100)}%"
    return apart(value, other)


def requirement(result: BudgetResult) -> str:
    """Write what is asked for: ``<= 300,000,000``; a relative limit with how it was written, or only that."""
    if result.limit is None:
        return f"{result.comparison} {printable(result.limit_text)}"
    relative = f" ({printable(result.limit_text)})" if result.is_relative else ""
    return f"{result.comparison} {figure(result, result.limit, reference=result.actual)}{relative}"


def growth(result: BudgetResult) -> str:
    """Write by how much the figure grew since the base."""
    if result.base is None or result.actual is None:
        return "-"
    delta = result.actual - result.base
    if not delta:
        return "="
    amount = figure(result, max(delta, -delta), reference=0)
    part = f" ({change(Fraction(result.actual) / result.base)})" if result.base and result.scope != "share" else ""
    return f"{'+' if delta > 0 else '-'}{amount}{part}"


def headroom(result: BudgetResult) -> str:
    """Say how much is left, or by how much the limit is missed."""
    left = result.headroom
    if left is None:
        return "-"
    if left == 0:
        return "0 left"
    text = figure(result, max(left, -left), reference=0)
    if left > 0:
        return f"{text} left"
    missed = "over by" if result.comparison == "<=" else "under by" if result.comparison == ">=" else "off by"
    return f"{missed} {text}"


def offender_table(result: BudgetResult) -> Table:
    """List the layers that cost most."""

    def part(offender: Offender) -> str:
        return "-" if offender.share is None else share(offender.share.numerator, offender.share.denominator)

    fields: Fields[Offender] = [
        (Column("layer", "left", shortens=True), lambda offender: printable(offender.layer)),
        (Column("type", "left", 2), lambda offender: printable(offender.type)),
        (Column(printable(result.metric)), lambda offender: apart(offender.value, 0)),
        (Column("share", priority=1), part),
        (Column("where", "left", 3, shortens=True), lambda offender: show_place(offender.source)),
    ]
    return tabulated(fields, result.offenders)


def growth_table(result: BudgetResult) -> Table:
    """List the layers that grew; the others in one row, so that the rows add up to the growth."""

    def grown(row: Growth) -> str:
        return f"{'+' if row.delta > 0 else '-'}{apart(max(row.delta, -row.delta), 0)}" if row.delta else "="

    fields: Fields[Growth] = [
        (Column("layer", "left", shortens=True), lambda row: printable(row.name)),
        (Column(f"growth in {printable(result.metric)}"), grown),
        (Column("what changed", "left", 1, shortens=True, comfort=30, prose=True), lambda row: printable(row.why)),
        (Column("where", "left", 3, shortens=True), lambda row: show_place(row.source)),
    ]
    return tabulated(fields, result.growth)


def passing_value(result: BudgetResult) -> str | None:
    """Give the limit nearest to the old one that would pass, as one can write it; None where none can be written.

    What is no decimal is rounded to the side that passes; of a relative limit it is the growth, with its sign.
    """
    actual = result.actual
    if actual is None or result.scope == "share":
        return None
    if result.is_relative:
        if result.base is None:
            return None
        actual -= result.base
    step = 10**DECIMALS
    if result.comparison == "==" and (actual * step).denominator != 1:
        return None
    scaled = floor(actual * step) if result.comparison == ">=" else ceil(actual * step)
    sign = "-" if scaled < 0 else "+" if result.is_relative else ""
    whole, part = divmod(abs(scaled), step)
    return f"{sign}{whole}.{part:0{DECIMALS}d}".rstrip("0").rstrip(".")


def passing_for_all(results: Sequence[BudgetResult]) -> str | None:
    """Give the limit that would let every one of these pass, which are one budget on several models."""
    values = [passing_value(result) for result in results]
    if None in values or (results[0].comparison == "==" and len(set(values)) > 1):
        return None
    nearest = min if results[0].comparison == ">=" else max
    return nearest((value for value in values if value is not None), key=Fraction)


def summary(check: Check) -> str:
    """Count the verdicts, and say what to do about the first budget that fails."""
    counts = [
        (check.count("fail"), "failed"),
        (check.count("warn"), "warned"),
        (check.count("skip"), "skipped"),
        (check.count("pass"), "passed"),
    ]
    text = ", ".join(f"{count:,} {word}" for count, word in counts if count) + "."
    failed = next((result for result in check.results if result.status == "fail"), None)
    if failed is None:
        return text
    do = {"<=": "raise", ">=": "lower", "==": "change"}[failed.comparison]
    best = {"<=": "smallest", ">=": "largest", "==": "only"}[failed.comparison]
    same = [
        result for result in check.results
        if result.status == "fail" and (result.where, result.text) == (failed.where, failed.text)
    ]  # fmt: skip
    value = passing_for_all(same)
    each = f" for all {len(same)} models" if len(same) > 1 else ""
    passing = f' ({best} passing value{each}: "{value}")' if value is not None else ""
    return f"{text} To accept: {do} the limit of {failed.metric} at {printable(failed.where)}{passing}."
