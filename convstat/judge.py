"""Judge a report by a limit: inclusive, in integers and quotients of integers.

A formatted number never takes part in a comparison, and a limit on what does not exist is an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from convstat.axes import plain
from convstat.errors import Diagnostic, UsageError
from convstat.limits import Limit
from convstat.report import LayerRow, Place, Report

OFFENDERS = 5
"""The most layers that one exceeded budget names."""


@dataclass(frozen=True, slots=True)
class Offender:
    """A layer and its part of a budget that is exceeded; ``value`` is in the budget's metric."""

    layer: str
    type: str
    value: int | Fraction
    share: Fraction | None = None
    source: Place | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "layer": self.layer,
            "type": self.type,
            "value": plain(self.value),
            "share": plain(self.share),
            "source": {"file": self.source.file, "line": self.source.line} if self.source else None,
        }


@dataclass(frozen=True, slots=True)
class Growth:
    """A layer and its part in what a model grew since its base.

    ``old``, ``new`` and ``delta`` are in the budget's metric.
    ``status`` is ``added``, ``removed`` or ``changed``; ``why`` is what changed about it: ``kernel_size: 3 -> 5``.
    The layers that are not listed by themselves stand together in one row that has no ``layer``:
    so the rows of a budget add up to its growth.
    """

    layer: str | None
    type: str
    status: str
    old: int | Fraction
    new: int | Fraction
    why: str = ""
    source: Place | None = None
    layers: int = 1

    @property
    def delta(self) -> int | Fraction:
        """By how much it grew."""
        return self.new - self.old

    @property
    def name(self) -> str:
        """The name of the layer, or ``[other N layers]``."""
        return self.layer or f"[other {self.layers:,} layer{'s' if self.layers != 1 else ''}]"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "layer": self.layer,
            "type": self.type,
            "status": self.status,
            "old": plain(self.old),
            "new": plain(self.new),
            "delta": plain(self.delta),
            "why": self.why,
            "source": {"file": self.source.file, "line": self.source.line} if self.source else None,
            "layers": self.layers,
        }


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """One budget, judged on one model.

    ``comparison`` is ``<=``, ``>=`` or ``==``.
    ``scope`` is ``total``, ``each`` (every layer that ``on`` matches) or ``share`` (their part of the total).
    ``actual`` is the worst value where there are several; None where nothing could be judged.
    ``headroom`` is what is left, negative where the limit is exceeded.
    ``status`` is ``pass``, ``fail``, ``warn`` or ``skip``; ``reason`` says why a verdict was not possible.
    ``text`` is the budget in its short form, ``limit_text`` the limit as it was written, ``where`` its place.
    ``base`` is the value of the model that it is compared with, None where there is none, or where it was not needed.
    ``limit`` of a relative budget (``+2%``) is what that is of the base, None where there is no base to tell.
    ``growth`` names the layers that grew since the base, where the budget is exceeded.
    """

    model: str
    metric: str
    scope: str
    comparison: str
    limit: int | Fraction | None
    actual: int | Fraction | None
    headroom: int | Fraction | None
    status: str
    where: str
    text: str
    limit_text: str
    on: str | None = None
    why: str | None = None
    reason: str | None = None
    violations: int = 0
    offenders: tuple[Offender, ...] = ()
    incomplete: bool = False
    level: str = "error"
    is_relative: bool = False
    base: int | Fraction | None = None
    growth: tuple[Growth, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; ``exact`` holds the three numbers as integers or as quotients of integers."""
        return {
            "model": self.model,
            "metric": self.metric,
            "scope": self.scope,
            "on": self.on,
            "comparison": self.comparison,
            "limit": plain(self.limit),
            "actual": plain(self.actual),
            "headroom": plain(self.headroom),
            "base": plain(self.base),
            "exact": {
                name: None if value is None else str(value)
                for name, value in (
                    ("limit", self.limit),
                    ("actual", self.actual),
                    ("headroom", self.headroom),
                    ("base", self.base),
                )
            },
            "relative": self.is_relative,
            "level": self.level,
            "limit_text": self.limit_text,
            "text": self.text,
            "status": self.status,
            "reason": self.reason,
            "where": self.where,
            "why": self.why,
            "violations": self.violations,
            "offenders": [offender.to_dict() for offender in self.offenders],
            "growth": [row.to_dict() for row in self.growth],
        }


def judge(report: Report, limit: Limit, argument: str | None = None) -> BudgetResult:
    """Compare a report with a limit: inclusive, in integers and quotients of integers.

    What is not counted can only add, so an incomplete count can exceed a maximum but never keep one,
    and can reach a minimum but never miss one.
    """
    rows = _matching(report, limit)
    pixels = report.totals.pixels
    if limit.metric == "macs_per_pixel" and not pixels:
        side = "output" if "output " in f"{report.totals.pixel_basis} " else "input"
        raise _limit_error(
            limit, f"{report.model.name} has no pixels: its {side} has no spatial positions", "limit macs instead"
        )
    if limit.scope == "each":
        values = [_of_layer(row, limit.metric, pixels) for row in rows]
        worst = _worst(values, limit)
        over = [row for row, value in zip(rows, values, strict=True) if not _keeps(value, limit)]
    else:
        worst = sum((_of_layer(row, limit.metric, pixels) for row in rows), 0)
        if limit.scope == "share":
            whole = sum((_of_layer(row, limit.metric, pixels) for row in report.layers), 0)
            if not whole:
                raise _limit_error(limit, f"{report.model.name} has no {limit.metric}, so there is no share of them")
            worst = Fraction(worst, whole)
        over = list(rows) if not _keeps(worst, limit) and limit.comparison != ">=" else []
    kept = _keeps(worst, limit)
    incomplete = bool(report.uncounted) and limit.metric in ("macs", "flops", "macs_per_pixel")
    if incomplete and limit.scope != "share":
        exceeded = worst > limit.limit
        incomplete = (limit.comparison == "<=" and not exceeded) or (limit.comparison == ">=" and not kept)
        incomplete = incomplete or (limit.comparison == "==" and not exceeded)
    status = "pass" if kept else "warn" if limit.level == "warn" else "fail"
    reason = None
    if incomplete:
        status = "warn" if limit.level == "warn" else "skip"
        names = ", ".join(f"{item.op} ({item.calls} calls)" for item in report.uncounted)
        reason = f"the count is incomplete: {names}"
    return BudgetResult(
        model=argument if argument is not None else report.model.source,
        metric=limit.metric,
        scope=limit.scope,
        comparison=limit.comparison,
        limit=limit.limit,
        actual=worst,
        headroom=_headroom(worst, limit),
        status=status,
        where=limit.where,
        text=str(limit),
        limit_text=limit.amount,
        on=limit.on,
        why=limit.why,
        reason=reason,
        violations=(len(over) if limit.scope == "each" else 1) if not kept and not incomplete else 0,
        offenders=_offenders(over, report, limit) if not kept and not incomplete else (),
        incomplete=incomplete and limit.level == "error",
    )


def _matching(report: Report, limit: Limit) -> Sequence[LayerRow]:
    """The layers that a limit is for; a pattern without a match is a mistake."""
    if limit.on is None:
        if limit.scope == "each" and not report.layers:
            raise _limit_error(limit, f"{report.model.name} has no layers")
        return report.layers
    matcher = pattern(limit.on, ".")
    rows = [row for row in report.layers if matcher.fullmatch(row.name)]
    if rows:
        return rows
    if any(matcher.fullmatch(path) for path in report.groups):
        help = [f"it is a block: for the layers in it write {limit.on}.**"]
    else:
        names = [row.name for row in report.layers]
        near = difflib.get_close_matches(limit.on, [*names, *report.groups], n=3, cutoff=0.0)
        help = [f"the nearest names: {', '.join(near)}"]
    raise _limit_error(limit, f"'{limit.on}' matches no layer of {report.model.name}", *help)


def _limit_error(limit: Limit, message: str, *help: str) -> UsageError:
    return UsageError(Diagnostic(f"{limit}: {message}", limit.mark, help=help))


def _of_layer(row: LayerRow, metric: str, pixels: int) -> int | Fraction:
    if metric == "layers":
        return 1
    if metric == "macs_per_pixel":
        return Fraction(row.macs, pixels)
    value: int = getattr(row, metric)
    return value


def _keeps(value: int | Fraction, limit: Limit) -> bool:
    if limit.comparison == "<=":
        return value <= limit.limit
    if limit.comparison == ">=":
        return value >= limit.limit
    return value == limit.limit


def _headroom(value: int | Fraction, limit: Limit) -> int | Fraction:
    """What is left up to the limit; negative by how much it is missed."""
    if limit.comparison == "<=":
        return limit.limit - value
    room = value - limit.limit
    return room if limit.comparison == ">=" or room < 0 else -room


def _worst(values: Sequence[int | Fraction], limit: Limit) -> int | Fraction:
    """The value with the least headroom; the first of equals."""
    rooms = [_headroom(value, limit) for value in values]
    return values[rooms.index(min(rooms))]


def _offenders(rows: Sequence[LayerRow], report: Report, limit: Limit) -> tuple[Offender, ...]:
    """The layers that cost most of those at fault, dearest first."""
    if limit.metric == "layers":
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


def skipped(limit: Limit, model: str, reason: str) -> BudgetResult:
    """Give the result of a limit that is not judged, and say why."""
    return BudgetResult(
        model=model,
        metric=limit.metric,
        scope=limit.scope,
        comparison=limit.comparison,
        limit=limit.limit,
        actual=None,
        headroom=None,
        status="skip",
        where=limit.where,
        text=str(limit),
        limit_text=limit.amount,
        on=limit.on,
        why=limit.why,
        reason=reason,
    )


def pattern(text: str, separator: str) -> re.Pattern[str]:
    """Compile a pattern: ``*`` and ``?`` within a level, ``**`` across levels, also across none."""
    level = f"[^{re.escape(separator)}]"
    join = re.escape(separator)
    compiled = ""
    parts = text.split(separator)
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if part == "**":
            # "a.**" is a and all below it; "**.b" is b at any depth.
            if not last:
                compiled += f"(?:{level}+{join})*"
            elif compiled:
                compiled = f"{compiled.removesuffix(join)}(?:{join}.+)?"
            else:
                compiled = ".+"
        else:
            compiled += "".join(f"{level}*" if c == "*" else level if c == "?" else re.escape(c) for c in part)
            compiled += "" if last else join
    return re.compile(compiled, re.DOTALL)
