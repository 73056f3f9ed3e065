"""The frozen result of a check: every budget on every model, what each is compared with, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

from convstat.errors import ExitCode
from convstat.results.diff import Diff
from convstat.results.documents.codec import Count, Document, Each, Keys, Matches, OneOf
from convstat.results.report import ModelInfo, Place, Totals, Uncounted

EXACT = ("limit", "actual", "headroom", "base")
"""The numbers of a budget that may be quotients."""

Exact = Annotated[
    Mapping[str, Annotated[str, Matches(r"^-?\d+(/\d+)?$")] | None],
    Each(*EXACT),
    "the numbers as integers or as quotients of integers",
]


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What a checked model was compared with.

    It is ``new`` where there was no such model. ``label`` says what it is: ``origin/main at its merge-base 1a2b3c4``.
    ``reason`` says why there is none.
    """

    state: Annotated[str, OneOf("found", "new", "missing")]
    kind: Annotated[str, OneOf("git", "baseline", "report", "target", "none")]
    label: str
    commit: str | None = None
    totals: Totals | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """One model that was checked: what it is, what it costs, and what it is compared with, where that was needed.

    ``diff`` holds its layers beside those of the base, where there is one.
    """

    KEYS: ClassVar = Keys(
        "model.name model.source model.inputs model.batch model.overrides totals uncounted model.rests_on base"
    )
    model: ModelInfo
    totals: Totals
    uncounted: tuple[Uncounted, ...] = ()
    base: BaseModel | None = None
    diff: Diff | None = None


@dataclass(frozen=True, slots=True)
class Check(Document):
    """Every budget on every model, and the exit code that follows.

    ``removed`` names models that the base has and that are no more: their budgets are gone with them.
    """

    KEYS: ClassVar = Keys("schema models budgets=results status notes removed exit_code", name="check")
    kind: ClassVar[str] = "check"
    schema: ClassVar[str] = "convstat.check/1"
    models: tuple[CheckedModel, ...]
    results: tuple[BudgetResult, ...]
    notes: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def exit_code(self) -> Annotated[ExitCode, OneOf(0, 1, 4)]:
        """1 where a budget is exceeded, else 4 where one could not be judged, else 0."""
        if any(result.status == "fail" for result in self.results):
            return ExitCode.VIOLATION
        return ExitCode.INCOMPLETE if self.is_incomplete else ExitCode.OK

    @property
    def is_incomplete(self) -> bool:
        """Whether a budget could not be judged."""
        return any(result.incomplete for result in self.results)

    @property
    def status(self) -> Annotated[str, OneOf("ok", "exceeded", "incomplete")]:
        """The exit code as a word."""
        return {0: "ok", 1: "exceeded", 4: "incomplete"}[self.exit_code]

    def count(self, status: str) -> int:
        """The number of results with a status."""
        return sum(result.status == status for result in self.results)


@dataclass(frozen=True, slots=True)
class Offender:
    """A layer and its part of a budget that is exceeded; ``value`` is in the budget's metric."""

    layer: str
    type: str
    value: int | Fraction
    share: Fraction | None = None
    source: Place | None = None


@dataclass(frozen=True, slots=True)
class Growth:
    """A layer and its part in what a model grew since its base.

    ``old``, ``new`` and ``delta`` are in the budget's metric.
    ``status`` is ``added``, ``removed`` or ``changed``; ``why`` is what changed about it: ``kernel_size: 3 -> 5``.
    The layers that are not listed by themselves stand together in one row that has no ``layer``:
    so the rows of a budget add up to its growth.
    """

    KEYS: ClassVar = Keys("layer type status old new delta why source layers")
    layer: str | None
    type: str
    status: str
    old: int | Fraction
    new: int | Fraction
    why: str = ""
    source: Place | None = None
    layers: Count = 1

    @property
    def delta(self) -> int | Fraction:
        """By how much it grew."""
        return self.new - self.old

    @property
    def name(self) -> str:
        """The name of the layer, or ``[other N layers]``."""
        return self.layer or f"[other {self.layers:,} layer{'s' if self.layers != 1 else ''}]"


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """One budget, judged on one model.

    ``scope`` is ``total``, ``each`` (every layer that ``on`` matches) or ``share`` (their part of the total).
    ``actual`` is the worst value where there are several; None where nothing could be judged.
    ``reason`` says why a verdict was not possible.
    ``text`` is the budget in its short form, ``limit_text`` the limit as it was written, ``where`` its place.
    ``limit`` of a relative budget (``+2%``) is what that is of the base.
    ``per`` is the basis that a budget on MACs/pixel names, ``pixels`` and ``pixel_basis`` what these are divided by.
    """

    KEYS: ClassVar = Keys(
        "model metric per pixels pixel_basis scope on comparison limit actual headroom base exact relative=is_relative "
        "level limit_text text status reason where why violations offenders growth"
    )
    model: str
    metric: str
    scope: Annotated[str, OneOf("total", "each", "share")]
    comparison: Annotated[str, OneOf("<=", ">=", "==")]
    limit: Annotated[int | Fraction | None, "null where it is relative and there is no base"]
    actual: int | Fraction | None
    headroom: Annotated[int | Fraction | None, "negative where the limit is missed"]
    status: Annotated[str, OneOf("pass", "fail", "warn", "skip")]
    where: str
    text: str
    limit_text: str
    on: str | None = None
    why: str | None = None
    reason: str | None = None
    violations: Count = 0
    offenders: tuple[Offender, ...] = ()
    incomplete: bool = False
    level: Annotated[str, OneOf("error", "warn", "off")] = "error"
    is_relative: bool = False
    per: Annotated[str | None, "the basis that a budget on MACs/pixel names: block:128+8"] = None
    pixels: Annotated[Count | None, "what MACs/pixel are divided by; null for other metrics"] = None
    pixel_basis: Annotated[str | None, "what these pixels are, in words"] = None
    base: Annotated[int | Fraction | None, "the same figure of the base, where one was needed"] = None
    growth: Annotated[
        tuple[Growth, ...],
        "layers that grew since the base; the others are one row without a layer, so they add up",
    ] = ()

    @property
    def exact(self) -> Exact:
        """The numbers as text, to all digits."""
        return {name: None if (value := getattr(self, name)) is None else str(value) for name in EXACT}
