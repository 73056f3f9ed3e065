"""The frozen result of a check: every budget on every model, what each is compared with, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from convstat.errors import ExitCode
from convstat.grammar.axes import plain
from convstat.results.comparison import totals_to_dict
from convstat.results.report import ModelInfo, Place, Totals, Uncounted

if TYPE_CHECKING:
    from convstat.results.diff import Diff

SCHEMA = "convstat.check/1"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What a checked model was compared with.

    ``state`` is ``found``, ``new`` (there was no such model) or ``missing``; ``kind`` is ``git``, ``baseline``,
    ``report`` or ``target``. ``label`` says what it is: ``origin/main at its merge-base 1a2b3c4``.
    ``reason`` says why there is none.
    """

    state: str
    kind: str
    label: str
    commit: str | None = None
    totals: Totals | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "state": self.state,
            "kind": self.kind,
            "label": self.label,
            "commit": self.commit,
            "totals": None if self.totals is None else totals_to_dict(self.totals),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """One model that was checked: what it is, what it costs, and what it is compared with, where that was needed.

    ``diff`` holds its layers beside those of the base, where there is one.
    """

    model: ModelInfo
    totals: Totals
    uncounted: tuple[Uncounted, ...] = ()
    base: BaseModel | None = None
    diff: Diff | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.model.name,
            "source": self.model.source,
            "inputs": [item.to_dict() for item in self.model.inputs],
            "batch": self.model.batch,
            "overrides": {name: plain(value) for name, value in self.model.overrides.items()},
            "totals": totals_to_dict(self.totals),
            "uncounted": [{"op": u.op, "calls": u.calls, "layers": list(u.layers)} for u in self.uncounted],
            "rests_on": self.model.rests_on,
            "base": None if self.base is None else self.base.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Check:
    """Every budget on every model, and the exit code that follows.

    ``removed`` names models that the base has and that are no more: their budgets are gone with them.
    """

    kind: ClassVar[str] = "check"
    models: tuple[CheckedModel, ...]
    results: tuple[BudgetResult, ...]
    notes: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """1 where a budget is exceeded, else 4 where one could not be judged, else 0."""
        if any(result.status == "fail" for result in self.results):
            return ExitCode.VIOLATION
        return ExitCode.INCOMPLETE if self.is_incomplete else ExitCode.OK

    @property
    def is_incomplete(self) -> bool:
        """Whether a budget could not be judged."""
        return any(result.incomplete for result in self.results)

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
            "removed": list(self.removed),
            "exit_code": int(self.exit_code),
        }


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
            "source": self.source.to_dict() if self.source else None,
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
            "source": self.source.to_dict() if self.source else None,
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
