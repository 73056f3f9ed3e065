"""What becomes of one budget on one model: the verdict, the layers at fault, and those that grew since the base."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from convstat.axes import plain
from convstat.report import Place


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
