"""The frozen result of a check: every budget on every model, what each is compared with, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convstat.axes import plain
from convstat.comparison import totals_to_dict
from convstat.errors import ExitCode
from convstat.report import ModelInfo, Totals, Uncounted
from convstat.verdict import BudgetResult

if TYPE_CHECKING:
    from convstat.diff import Diff

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
            "inputs": [{"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in self.model.inputs],
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
