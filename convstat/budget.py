"""Budgets: limits on what a model costs, judged in exact integers.

A limit is inclusive. A formatted number never takes part in a comparison.
Nothing is silently inert: a metric, a layer or a key that does not exist is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from convstat.axes import plain
from convstat.errors import ExitCode

if TYPE_CHECKING:
    from convstat.report import ModelInfo, Place, Totals, Uncounted

SCHEMA = "convstat.check/1"


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
class BudgetResult:
    """One budget, judged on one model.

    ``comparison`` is ``<=``, ``>=`` or ``==``.
    ``scope`` is ``total``, ``each`` (every layer that ``on`` matches) or ``share`` (their part of the total).
    ``actual`` is the worst value where there are several; None where nothing could be judged.
    ``headroom`` is what is left, negative where the limit is exceeded.
    ``status`` is ``pass``, ``fail``, ``warn`` or ``skip``; ``reason`` says why a verdict was not possible.
    ``text`` is the budget in its short form, ``limit_text`` the limit as it was written, ``where`` its place.
    """

    model: str
    metric: str
    scope: str
    comparison: str
    limit: int | Fraction
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
            "exact": {
                "limit": str(self.limit),
                "actual": None if self.actual is None else str(self.actual),
                "headroom": None if self.headroom is None else str(self.headroom),
            },
            "limit_text": self.limit_text,
            "text": self.text,
            "status": self.status,
            "reason": self.reason,
            "where": self.where,
            "why": self.why,
            "violations": self.violations,
            "offenders": [offender.to_dict() for offender in self.offenders],
        }


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """One model that was checked: what it is, and what it costs."""

    model: ModelInfo
    totals: Totals
    uncounted: tuple[Uncounted, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        from convstat.sweep import totals_to_dict

        return {
            "name": self.model.name,
            "source": self.model.source,
            "inputs": [{"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in self.model.inputs],
            "batch": self.model.batch,
            "overrides": {name: plain(value) for name, value in self.model.overrides.items()},
            "totals": totals_to_dict(self.totals),
            "uncounted": [{"op": u.op, "calls": u.calls, "layers": list(u.layers)} for u in self.uncounted],
        }


@dataclass(frozen=True, slots=True)
class Check:
    """Every budget on every model, and the exit code that follows."""

    models: tuple[CheckedModel, ...]
    results: tuple[BudgetResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """1 where a budget is exceeded, else 4 where one could not be judged, else 0."""
        if any(result.status == "fail" for result in self.results):
            return ExitCode.VIOLATION
        if any(result.incomplete for result in self.results):
            return ExitCode.INCOMPLETE
        return ExitCode.OK

    def count(self, status: str) -> int:
        """The number of results with a status."""
        return sum(result.status == status for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document ``convstat.check/1``."""
        return {
            "schema": SCHEMA,
            "models": [model.to_dict() for model in self.models],
            "budgets": [result.to_dict() for result in self.results],
            "status": {0: "ok", 1: "exceeded", 4: "incomplete"}[int(self.exit_code)],
            "notes": list(self.notes),
            "exit_code": int(self.exit_code),
        }
