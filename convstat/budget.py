"""Budgets: limits on what a model costs, judged in exact integers.

A limit is inclusive. A formatted number never takes part in a comparison.
Nothing is silently inert: a metric, a layer or a key that does not exist is an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from convstat import analysis, api, limits
from convstat.axes import Value, plain
from convstat.comparison import totals_to_dict
from convstat.config import Config, Entry
from convstat.errors import ConvstatError, Diagnostic, ExitCode, UsageError
from convstat.judge import BudgetResult, Offender, judge, pattern, skipped
from convstat.limits import Limit
from convstat.report import ModelInfo, Report, Totals, Uncounted
from convstat.sources import Target, resolve

if TYPE_CHECKING:
    from convstat.diff import Diff

__all__ = ["SCHEMA", "BudgetResult", "Check", "CheckedModel", "Offender", "check", "judge"]

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
            "removed": list(self.removed),
            "exit_code": int(self.exit_code),
        }


def check(
    targets: Sequence[str],
    overrides: Mapping[str, Value] | None = None,
    *,
    max: Sequence[str] = (),
    min: Sequence[str] = (),
    exact: Sequence[str] = (),
    inputs: Sequence[str] = (),
    batch: int = 1,
    dtype: str = "float32",
    per: str = "input",
    config: Config | None = None,
    warn: Callable[[Sequence[Diagnostic]], None] | None = None,
) -> Check:
    """Judge every budget of the options, the specs and the settings on every target.

    ``max``, ``min`` and ``exact`` are of the form ``params=5M``.
    Without a target, those of the settings are checked, with the settings' input.
    ``warn`` is told the warnings about each spec.
    Raises UsageError where there is no budget at all: a check that cannot fail is a mistake.
    """
    config = config or Config()
    if not targets:
        if not config.models:
            raise UsageError(
                "no target to check",
                help=(
                    "name one: convstat check configs/net.yaml",
                    'or set model = "configs/net.yaml" in [tool.convstat]',
                ),
            )
        targets = config.models
        inputs = inputs or config.inputs
    shared = _read(
        *(partial(limits.read_option, "max", text) for text in max),
        *(partial(limits.read_option, "min", text) for text in min),
        *(partial(limits.read_option, "exact", text) for text in exact),
        *(partial(_entry, entry) for entry in config.budgets),
    )
    checked: list[CheckedModel] = []
    results: list[BudgetResult] = []
    notes: list[str] = []
    idle = {id(limit): limit for limit in shared}
    for argument in targets:
        report, own = _count(
            resolve(argument), overrides or {}, inputs=inputs, batch=batch, dtype=dtype, per=per, warn=warn
        )
        applying = [limit for limit in (*shared, *own) if _is_for(limit, argument)]
        checked.append(CheckedModel(report.model, report.totals, report.uncounted))
        results += _judge_all(report, argument, applying)
        for limit in applying:
            idle.pop(id(limit), None)
        if not applying and len(targets) > 1:
            notes.append(f"{argument} has no budget")
    if not results:
        raise UsageError(_no_budget(checked, targets))
    results += [skipped(limit, limit.model or "", f"for {limit.model} only") for limit in idle.values()]
    return Check(tuple(checked), tuple(results), tuple(notes))


def _entry(entry: Entry) -> list[Limit]:
    if isinstance(entry.written, str):
        return [limits.read_short(entry.written, entry.mark)]
    return limits.read_table(entry.written, entry.mark, entry.marks)


def _read(*readers: Callable[[], Limit | list[Limit]]) -> list[Limit]:
    """Read budgets, and report the problems of all of them at once."""
    found: list[Limit] = []
    problems: list[ConvstatError] = []
    for reader in readers:
        try:
            read = reader()
        except ConvstatError as error:
            problems.append(error)
        else:
            found += read if isinstance(read, list) else [read]
    if problems:
        raise limits.collect(problems)
    return found


def _count(
    target: Target,
    overrides: Mapping[str, Value],
    *,
    inputs: Sequence[str],
    batch: int,
    dtype: str,
    per: str,
    warn: Callable[[Sequence[Diagnostic]], None] | None,
) -> tuple[Report, list[Limit]]:
    """Count a target; give its report and the budgets that its spec holds."""
    if target.kind == "report":
        return api.analyze(target.argument, overrides, inputs=inputs), []
    if target.needs_torch:
        report = api.analyze(
            target.argument, overrides, inputs=inputs, batch=batch, dtype=dtype, counters="none", per=per
        )
        return report, []
    spec = target.load()
    if warn is not None and spec.warnings:
        warn(spec.warnings)
    own = _read(*(partial(limits.read_short, text, mark) for text, mark in spec.budget))
    graph = api.graph_of(target, overrides, inputs=inputs, batch=batch, spec=spec)
    report = analysis.count(
        graph, source=target.argument, kind=target.kind, batch=batch, dtype=dtype, per=per, overrides=overrides
    )
    return report, own


def _is_for(limit: Limit, argument: str) -> bool:
    if limit.model is None:
        return True
    path = os.path.normpath(argument)
    # A budget for a file is one for its variants too, unless it names one.
    names = {path, argument} | ({path.partition("#")[0]} if "#" not in limit.model else set())
    return any(pattern(limit.model, "/").fullmatch(name) for name in names)


def _judge_all(report: Report, argument: str, applying: Sequence[Limit]) -> list[BudgetResult]:
    results = []
    problems = []
    for limit in applying:
        if limit.level == "off":
            results.append(skipped(limit, argument, "its level is off"))
            continue
        try:
            results.append(judge(report, limit, argument))
        except UsageError as error:
            problems.append(error)
    if problems:
        raise limits.collect(problems)
    return results


def _no_budget(checked: Sequence[CheckedModel], targets: Sequence[str]) -> Diagnostic:
    """Say that there is nothing to check, and give today's numbers to start from."""
    totals = checked[0].totals
    tables = "\n\n".join(
        f'[[tool.convstat.budget]]\nmodel = "{argument}"\nmetric = "{metric}"\nmax = {getattr(item.totals, metric)}'
        for argument, item in zip(targets, checked, strict=True)
        for metric in ("params", "macs")
    )
    help = [f"today's numbers, to paste into pyproject.toml:\n\n{tables}\n"]
    if len(targets) == 1 and resolve(targets[0]).kind == "spec":
        help.append(f'or into the spec:\n\nbudget: ["params<={totals.params}", "macs<={totals.macs}"]\n')
    help.append(f"or once: convstat check {targets[0]} --max params={totals.params} --max macs={totals.macs}")
    return Diagnostic(f"{', '.join(targets)} has no budget to check", help=tuple(help))
