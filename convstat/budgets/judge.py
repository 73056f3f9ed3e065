"""Judge a report by a limit: inclusive, in integers and quotients of integers.

A formatted number never takes part in a comparison, and a limit on what does not exist is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING, NamedTuple

from convstat.budgets.limits import DECIMALS, ELEMENTS, MEASURED, WHOLE, Limit
from convstat.errors import Diagnostic, UsageError
from convstat.grammar.patterns import pattern
from convstat.results.check import BudgetResult, Growth, Offender
from convstat.results.report import MEMORY, LayerRow, Report, Uncounted

if TYPE_CHECKING:
    from convstat.results.diff import Diff

__all__ = ["OFFENDERS", "BudgetResult", "Growth", "Offender", "grown", "judge", "select", "skipped"]

GIVE_DATA = "--data counts a run on real data instead"
"""What would settle a budget on a count that depends on data."""

COUNTED = ("macs", "macs_per_pixel", "macs_per_token", "macs_causal", "training_flops_per_token")
"""The metrics that work without a rule is missing from."""

OFFENDERS = 5
"""The most layers that one exceeded budget names."""


def judge(
    report: Report, limit: Limit, argument: str | None = None, diff: Diff | None = None, *, existing: str = "error"
) -> BudgetResult:
    """Compare a report with a limit: inclusive, in integers and quotients of integers.

    What is not counted can only add, so an incomplete count can exceed a maximum but never keep one,
    and can reach a minimum but never miss one.
    A count that rests on an assumption about data is at most what it says: it never reaches a minimum, and where it
    exceeds a maximum, or keeps one, the reason says what it rests on.
    ``diff`` holds the layers beside those of the base; a relative limit is judged only with one.
    Where ``existing`` is ``warn``, what the base exceeded too, and no less, is a warning.
    """
    chosen = _matching(report, limit)
    if limit.metric == "macs_per_pixel" and not report.totals.pixels:
        side = "output" if "output " in f"{report.totals.pixel_basis} " else "input"
        raise _limit_error(
            limit, f"{report.model.name} has no pixels: its {side} has no spatial positions", "limit macs instead"
        )
    if limit.metric in WHOLE and _of_whole(report, limit.metric) is None:
        return skipped(limit, argument or report.model.source, _missing(report, limit.metric))
    if limit.metric in ELEMENTS and report.totals.activations is None:
        missing = f"the report has no {limit.metric}: it is of an earlier version, or in another convention"
        return skipped(limit, argument or report.model.source, missing)
    if limit.metric in ELEMENTS and diff is not None and limit.relative and diff.base.totals.activations is None:
        return skipped(limit, argument or report.model.source, f"the base has no {limit.metric}")
    if limit.relative is not None and diff is None:
        raise ValueError(f"{limit} is judged with a base only")
    values = _values(report, limit, chosen, diff)
    if not values:
        return skipped(limit, argument or report.model.source, "the base has no such layers; they are new")
    worst = min(values, key=lambda value: value.room)  # the first of equals
    over = [value for value in values if value.room < 0]
    kept = not over
    if limit.scope == "each":
        at_fault = [value.row for value in over if value.row is not None]
    else:
        at_fault = list(chosen) if not kept and limit.comparison != ">=" else []
    uncounted = (*report.uncounted, *(diff.base.uncounted if diff is not None and limit.relative else ()))
    is_open = bool(uncounted) and limit.metric in (*COUNTED, "flops")
    if is_open and limit.scope != "share" and not (limit.relative and diff is not None and diff.base.uncounted):
        exceeded = worst.actual > worst.bound
        is_open = not exceeded if limit.comparison != ">=" else not kept
    bound = _rests_on(report, limit, diff)
    status = "pass" if kept else "warn" if limit.level == "warn" else "fail"
    reason = None
    if is_open:
        status = "warn" if limit.level == "warn" else "skip"
        names = ", ".join(dict.fromkeys(f"{item.op} ({_calls(item)})" for item in uncounted))
        reason = f"the count is incomplete: {names}"
    elif bound is not None and kept and (limit.comparison != "<=" or limit.scope == "share"):
        is_open = True
        status = "warn" if limit.level == "warn" else "skip"
        reason = f"no verdict: the count is {bound}; {GIVE_DATA}"
    elif not kept and existing == "warn" and limit.relative is None and _was_no_better(over, limit):
        status = "warn"
        reason = "already exceeded in the base, by as much or more"
    if bound is not None and not is_open:
        least = limit.comparison != ">=" and not kept
        said = f"the count is {bound}" + (f"; {GIVE_DATA}" if least else "")
        reason = f"{reason}; {said}" if reason else said
    is_exceeded = not kept and not is_open
    return replace(
        skipped(limit, argument if argument is not None else report.model.source, reason),
        limit=worst.bound,
        actual=worst.actual,
        headroom=worst.room,
        base=worst.base,
        status=status,
        violations=(len(over) if limit.scope == "each" else 1) if is_exceeded else 0,
        offenders=_offenders(at_fault, report, limit) if is_exceeded else (),
        growth=grown(diff, limit, at_fault) if is_exceeded and diff is not None else (),
        incomplete=is_open and limit.level == "error",
        pixels=report.totals.pixels if limit.metric == "macs_per_pixel" else None,
        pixel_basis=report.totals.pixel_basis if limit.metric == "macs_per_pixel" else None,
    )


def _of_whole(report: Report, metric: str) -> int | Fraction | None:
    """A figure of the whole model that layers have no part in; None where the report has none."""
    if metric in MEASURED:
        size: int | None = getattr(report.totals, metric)
        return size
    value: int | Fraction | None = getattr(report.language, metric) if report.language is not None else None
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def _missing(report: Report, metric: str) -> str:
    """Why a report has no such figure."""
    if metric in MEMORY:
        return "the saved report has no memory: made without --memory"
    if metric in MEASURED:
        return f"a saved report has no {metric}"
    if report.language is None:
        return "the model takes no tokens"
    if metric == "kv_cache_bytes":
        return "the model gives no cache back"
    return "; ".join(report.language.notes) or "the saved report has no such figure: made without --language"


def _rests_on(report: Report, limit: Limit, diff: Diff | None) -> str | None:
    """What the figure of a limit is where it rests on an assumption about data: that of the model, or of its base."""
    if limit.metric not in (*COUNTED, "flops"):
        return None
    base = diff.base.model if diff is not None and limit.relative is not None else None
    return report.model.rests_on or (base.rests_on if base is not None else None)


class _Value(NamedTuple):
    """One value to judge: of a layer, where each is judged by itself; ``base`` is what it was."""

    actual: int | Fraction
    bound: int | Fraction
    room: int | Fraction
    base: int | Fraction | None
    row: LayerRow | None = None


def _values(report: Report, limit: Limit, chosen: Sequence[LayerRow], diff: Diff | None) -> list[_Value]:
    """Give the values that a limit is for; layers without a base have no growth, and are left out."""
    pixels = report.totals.pixels
    if limit.scope == "each":
        was = {} if diff is None else {id(layer.new): layer.old for layer in diff.layers if layer.old is not None}
        found = []
        for row in chosen:
            old = was.get(id(row))
            base = None if old is None or diff is None else _of_layer(old, limit.metric, diff.base.totals.pixels)
            found.append(_value(_of_layer(row, limit.metric, pixels), base, limit, row))
        return [value for value in found if value is not None]
    if limit.metric in WHOLE:
        whole = _of_whole(report, limit.metric)
        measured = None if whole is None else _value(whole, None, limit)
        assert measured is not None
        return [measured]
    actual = _sum(report.layers, chosen, limit, pixels)
    base = None
    if diff is not None and diff.base.model is not None:
        before = [layer.old for layer in diff.layers if layer.old is not None]
        matched = select(before, limit)
        # What is the whole model has a base wherever the model has one.
        if limit.on is None or matched:
            base = _sum(before, matched, limit, diff.base.totals.pixels)
    value = _value(actual, base, limit)
    return [] if value is None else [value]


def _value(
    actual: int | Fraction, base: int | Fraction | None, limit: Limit, row: LayerRow | None = None
) -> _Value | None:
    bound = limit.bound(base)
    if bound is None:
        return None
    if isinstance(bound, Fraction):
        if limit.metric not in DECIMALS and limit.scope != "share" and limit.comparison != "==":
            # A count is whole: at most 10.5 is at most 10.
            bound = floor(bound) if limit.comparison == "<=" else ceil(bound)
        elif bound.denominator == 1:
            bound = bound.numerator
    return _Value(actual, bound, _headroom(actual, bound, limit.comparison), base, row)


def _sum(rows: Sequence[LayerRow], chosen: Sequence[LayerRow], limit: Limit, pixels: int) -> int | Fraction:
    if limit.metric == "macs_per_pixel" and not pixels:
        return 0
    part = sum((_of_layer(row, limit.metric, pixels) for row in chosen), 0)
    if limit.scope != "share":
        return part
    whole = sum((_of_layer(row, limit.metric, pixels) for row in rows), 0)
    return Fraction(part, whole) if whole else Fraction(0)


def _was_no_better(over: Sequence[_Value], limit: Limit) -> bool:
    """Whether everything that is over was over on the base, by as much or more."""
    return all(
        value.base is not None and _headroom(value.base, value.bound, limit.comparison) <= value.room for value in over
    )


def grown(diff: Diff, limit: Limit, at_fault: Sequence[LayerRow] = ()) -> tuple[Growth, ...]:
    """Name the layers that brought a budget's figure from the base to where it is, the largest part first.

    Those of a total stand with all the others in one row, so that they add up to what it grew.
    Where each layer is judged by itself, only those at fault are named.
    """
    pixels = (diff.base.totals.pixels, diff.head.totals.pixels)
    if limit.metric == "macs_per_pixel" and not all(pixels):
        return ()
    faulty = {id(row) for row in at_fault}
    moved: list[Growth] = []
    rest: list[tuple[int | Fraction, int | Fraction]] = []
    for layer in diff.layers:
        old, new = (
            0 if row is None or not _is_chosen(row, limit) else _of_layer(row, limit.metric, per)
            for row, per in zip((layer.old, layer.new), pixels, strict=True)
        )
        if limit.scope == "each" and id(layer.new) not in faulty:
            continue
        if old == new:
            if limit.scope != "each" and any(
                row is not None and _is_chosen(row, limit) for row in (layer.old, layer.new)
            ):
                rest.append((old, new))
            continue
        moved.append(Growth(layer.name, layer.type, layer.status, old, new, layer.why, layer.source))
    if not moved:
        return ()
    # sorted is stable: of equal parts, the one that runs first.
    moved.sort(key=lambda growth: growth.delta, reverse=limit.comparison != ">=")
    shown = moved[:OFFENDERS]
    if limit.scope != "each":
        rest += [(growth.old, growth.new) for growth in moved[OFFENDERS:]]
        if rest:
            before, after = (sum((pair[i] for pair in rest), 0) for i in (0, 1))
            shown.append(Growth(None, "", "", before, after, layers=len(rest)))
    return tuple(shown)


def select(rows: Sequence[LayerRow], limit: Limit) -> Sequence[LayerRow]:
    """Choose the layers that a limit is for, which may be none."""
    if limit.on is None:
        return rows
    return [row for row in rows if _is_chosen(row, limit)]


def _is_chosen(row: LayerRow, limit: Limit) -> bool:
    names, types = limit.layers, limit.type
    return (names is None or pattern(names, ".").fullmatch(row.name) is not None) and (
        types is None or pattern(types, ".").fullmatch(row.type) is not None
    )


def _matching(report: Report, limit: Limit) -> Sequence[LayerRow]:
    """The layers that a limit is for; a pattern without a match is a mistake."""
    if limit.on is None:
        if limit.scope == "each" and not report.layers:
            raise _limit_error(limit, f"{report.model.name} has no layers")
        return report.layers
    rows = select(report.layers, limit)
    if rows:
        return rows
    names, types = limit.layers or "**", limit.type
    named = [row for row in report.layers if pattern(names, ".").fullmatch(row.name)]
    if types is not None and named:
        kinds = sorted({row.type for row in named})
        near = difflib.get_close_matches(types, kinds, n=3, cutoff=0.0)
        help = [f"types of these layers: {', '.join(near)}"]
    elif any(pattern(names, ".").fullmatch(path) for path in report.groups):
        help = [f"it is a block; for the layers in it, write {names}.**"]
    else:
        known = [row.name for row in report.layers]
        near = difflib.get_close_matches(names, [*known, *report.groups], n=3, cutoff=0.0)
        help = [f"the nearest names: {', '.join(near)}"]
    raise _limit_error(
        replace(limit, mark=limit.on_mark or limit.mark), f"'{limit.on}' matches no layer of {report.model.name}", *help
    )


def _limit_error(limit: Limit, message: str, *help: str) -> UsageError:
    return UsageError(Diagnostic(f"{limit}: {message}", limit.mark, help=help))


def _of_layer(row: LayerRow, metric: str, pixels: int) -> int | Fraction:
    if metric == "layers":
        return 1
    if metric == "macs_per_pixel":
        return Fraction(row.macs, pixels)
    value: int = getattr(row, metric)
    return value


def _calls(item: Uncounted) -> str:
    return f"{item.calls} call{'s' if item.calls != 1 else ''}"


def _headroom(value: int | Fraction, bound: int | Fraction, comparison: str) -> int | Fraction:
    """What is left up to the limit; negative by how much it is missed."""
    if comparison == "<=":
        return bound - value
    room = value - bound
    return room if comparison == ">=" or room < 0 else -room


def _offenders(rows: Sequence[LayerRow], report: Report, limit: Limit) -> tuple[Offender, ...]:
    """The layers that cost most of those at fault, dearest first."""
    if limit.metric == "layers" or limit.metric in WHOLE:
        return ()
    pixels = report.totals.pixels
    whole = sum((_of_layer(row, limit.metric, pixels) for row in report.layers), 0)
    priced = [(_of_layer(row, limit.metric, pixels), row) for row in rows]
    if limit.comparison != ">=":
        priced = [(value, row) for value, row in priced if value]
    # sorted is stable: layers of equal cost stay in the order in which they run.
    priced.sort(key=lambda pair: pair[0], reverse=limit.comparison != ">=")
    return tuple(
        Offender(row.name, row.type, value, Fraction(value, whole) if whole else None, row.source)
        for value, row in priced[:OFFENDERS]
    )


def skipped(limit: Limit, model: str, reason: str | None) -> BudgetResult:
    """Give the result of a limit that is not judged, and say why."""
    return BudgetResult(
        model=model,
        metric=limit.metric,
        scope=limit.scope,
        comparison=limit.comparison,
        limit=limit.bound(None),
        actual=None,
        headroom=None,
        status="skip",
        where=limit.where,
        text=str(limit),
        limit_text=limit.amount,
        on=limit.on,
        why=limit.why,
        reason=reason,
        level=limit.level,
        is_relative=limit.relative is not None,
        per=limit.per,
    )
