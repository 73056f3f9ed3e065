"""Budgets: limits on what a model costs, judged in exact integers.

A limit is inclusive. A formatted number never takes part in a comparison.
Nothing is silently inert: a metric, a layer or a key that does not exist is an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from convstat.budgets import limits, tables
from convstat.budgets.judge import BudgetResult, judge, skipped
from convstat.budgets.limits import Limit
from convstat.config import project
from convstat.config.project import EXISTING, MISSING, Config, Entry
from convstat.config.requests import Requests
from convstat.count.pixels import pixels
from convstat.errors import ConvstatError, Diagnostic, SpecError, Together, UsageError
from convstat.grammar.paths import split_variant
from convstat.grammar.patterns import pattern
from convstat.history.base import Base, Baselines, Bases
from convstat.results.check import BaseModel, Check, CheckedModel
from convstat.results.report import MEMORY, Report
from convstat.targets import analysis, resolve
from convstat.targets.basis import basis_of
from convstat.targets.request import NOBODY, Listener, Request
from convstat.targets.selection import select

POLICIES: Mapping[str, tuple[str, ...]] = {"missing_baseline": MISSING, "existing": EXISTING}
"""What can be said about a base that is missing, and about what was over already."""


def check(
    targets: Sequence[str],
    requests: Requests | None = None,
    *,
    max: Sequence[str] = (),
    min: Sequence[str] = (),
    exact: Sequence[str] = (),
    max_growth: Sequence[str] = (),
    max_layer: Sequence[str] = (),
    base: str | None = None,
    missing_baseline: str | None = None,
    existing: str | None = None,
    listener: Listener = NOBODY,
) -> Check:
    """Judge every budget of the options, the specs and the settings on every target.

    ``requests`` is how each of them is counted, with the settings, which also have budgets and a base.
    ``max``, ``min`` and ``exact`` are of the form ``params=5M``, ``max_growth`` of ``macs=2%``,
    ``max_layer`` of ``head.**:params=1M``.
    ``base`` is what relative budgets are relative to: a git revision, a saved report or another target.
    ``missing_baseline`` is ``error`` or ``skip``; ``existing`` is ``error``, or ``warn`` for what was over on the base.
    Without a target, those of the settings are checked, with the settings' input.
    What is not said here is as the settings say: of that model, or else of all.
    ``listener`` is told the warnings about each spec.
    Raises UsageError where there is no budget at all: a check that cannot fail is a mistake.
    """
    from_settings = not targets
    requests = replace(requests or Requests(), from_settings=from_settings)
    config = requests.config
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
    targets = select(targets)
    options = {"max": max, "min": min, "exact": exact, "max-growth": max_growth, "max-layer": max_layer}
    shared = _read(
        *(partial(limits.read_option, option, text) for option, texts in options.items() for text in texts),
        *(partial(_entry, entry) for entry in config.budgets),
    )
    gate = _Gate(
        requests,
        base or config.base,
        _policy("missing_baseline", missing_baseline or config.missing_baseline),
        _policy("existing", existing or config.existing),
        Baselines.of(config.path),
        listener,
    )
    gate.count(targets, shared)
    return gate.judge(shared, config if from_settings else None)


def _policy(name: str, value: str | None) -> str:
    if value is not None and value not in POLICIES[name]:
        raise UsageError(f"--{name.replace('_', '-')} is {' or '.join(POLICIES[name])}, not '{value}'")
    return value or "error"


@dataclass(slots=True)
class _Model:
    """One target while it is checked."""

    request: Request
    report: Report
    applying: list[Limit]
    base: Base | None = None
    divided: dict[str, _Model] = field(default_factory=dict)
    """The same target with its MACs/pixel divided by what a budget names, by that."""


@dataclass(slots=True)
class _Gate:
    """One check: counts all models first, then finds all bases, then judges; mistakes are told all at once."""

    requests: Requests
    base: str | None
    missing: str
    existing: str
    files: Baselines
    listener: Listener
    models: list[_Model] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, targets: Sequence[str], shared: Sequence[Limit]) -> None:
        """Count every target, and read the budgets of its spec."""
        problems = Together()
        for argument in targets:
            with problems:
                request = self.requests.of(resolve(argument))
                spec = request.target.load() if request.target.is_spec else None
                if spec is not None and spec.warnings:
                    self.listener.warn(spec.warnings)
                own = _read(*(partial(limits.read_short, text, mark) for text, mark in spec.budget)) if spec else []
                applying = [limit for limit in (*shared, *own) if _is_for(limit, argument)]
                judged = {limit.metric for limit in applying if limit.level != "off"}
                request = replace(request, memory=tuple(name for name in MEMORY if name in judged))
                if judged & set(limits.FURTHER):
                    request = replace(request, language=True)
                if judged & set(limits.ARENA):
                    request = replace(request, arena=True)
                model = _Model(request, analysis.count(replace(request, spec=spec)), applying)
                for limit in applying:
                    if limit.per is not None and limit.per not in model.divided and limit.level != "off":
                        model.divided[limit.per] = _divided(replace(request, spec=spec), limit)
                self.models.append(model)
                if not applying and len(targets) > 1:
                    self.notes.append(f"{argument} has no budget")
        problems.tell()

    def judge(self, shared: Sequence[Limit], settings: Config | None) -> Check:
        """Find the bases, and judge every budget on every model."""
        bases = Bases(self.base, requests=self.requests, files=self.files, count=analysis.count)
        bases.prepare([model.request.target for model in self.models if model.applying])
        self.find_bases(bases)
        checked: list[CheckedModel] = []
        results: list[BudgetResult] = []
        problems = Together()
        for model in self.models:
            checked.append(self.compared(model))
            found: dict[str | None, CheckedModel] = {None: checked[-1]}
            found.update((per, self.compared(divided, notes=False)) for per, divided in model.divided.items())
            with problems:
                results += _judge_all(model, found, self.existing)
        problems.tell()
        if not results:
            raise UsageError(_no_budget(checked, [model.request.argument for model in self.models]))
        if settings is not None:
            # Of the models of the settings, a budget that is for none of them is for nothing; who names one model
            # asks for no other's.
            used = {id(limit) for model in self.models for limit in model.applying}
            idle = [limit for limit in shared if id(limit) not in used]
            results += [skipped(limit, limit.model or "", f"it applies to {limit.model} only") for limit in idle]
        return Check(tuple(checked), tuple(results), tuple(self.notes), tuple(self.removed(bases, settings)))

    def find_bases(self, bases: Bases) -> None:
        """Find the base of each model that needs one, or may have one; one that is needed and missing is an error."""
        problems: list[Diagnostic] = []
        for model in self.models:
            live = [limit for limit in model.applying if limit.level != "off"]
            relative = next((limit for limit in live if limit.relative is not None), None)
            is_needed = relative is not None or (self.existing == "warn" and bool(live))
            if not live or not (is_needed or self.base is not None or model.request.target.needs_torch):
                continue
            model.base = bases.of(model.request, model.report)
            for per, divided in model.divided.items():
                divided.base = _base_divided(model.base, divided, per, bases)
            if model.base.state != "missing":
                continue
            reason = model.base.reason or "there is no base"
            if is_needed and self.missing == "error":
                what = f"{relative} is relative to a base" if relative else "existing = 'warn' needs a base"
                help = (*model.base.help, "or skip such budgets: --missing-baseline skip")
                problems.append(Diagnostic(f"{what}: {reason}", relative.mark if relative else None, help=help))
            elif self.base is not None:
                self.notes.append(f"{model.request.argument} has no base: {reason}")
        if problems:
            raise UsageError(list(dict.fromkeys(problems)))

    def compared(self, model: _Model, *, notes: bool = True) -> CheckedModel:
        """Set a model beside its base."""
        report, base = model.report, model.base
        if base is None:
            return CheckedModel(report.model, report.totals, report.uncounted)
        info = BaseModel(base.state, base.kind, base.label, base.commit, None, base.reason)
        if base.report is None:
            return CheckedModel(report.model, report.totals, report.uncounted, info)
        from convstat.history import changes

        info = BaseModel(base.state, base.kind, base.label, base.commit, base.report.totals)
        found = changes.compare(base.report, report, labels=(base.label, model.request.argument))
        if notes:
            self.notes += [f"{model.request.argument}: {note}" for note in found.notes]
            was, now = base.report.totals.pixel_basis, report.totals.pixel_basis
            if was != now and any(limit.relative and limit.metric == "macs_per_pixel" for limit in model.applying):
                self.notes.append(f"{model.request.argument}: MACs/pixel are divided by {now}, and were by {was}")
        return CheckedModel(report.model, report.totals, report.uncounted, info, found)

    def removed(self, bases: Bases, settings: Config | None) -> list[str]:
        """Name the models that the base has and that are no more."""
        found = [repository.shown(path) for repository, path, _ in bases.gone()]
        # Those that the settings of the base list, and those of today do not.
        if settings is not None and settings.path is not None and (data := bases.text_at_base(settings.path)):
            with suppress(ConvstatError, UnicodeDecodeError):
                before = project.parse(data.decode("utf-8"), settings.path)
                found += [model for model in before.models if model not in settings.models]
        return list(dict.fromkeys(found))


def _entry(entry: Entry) -> list[Limit]:
    if isinstance(entry.written, str):
        return [limits.read_short(entry.written, entry.mark)]
    return tables.read_table(entry.written, entry.mark, entry.marks)


def _read(*readers: Callable[[], Limit | list[Limit]]) -> list[Limit]:
    """Read budgets, and report the problems of all of them at once."""
    found: list[Limit] = []
    problems = Together()
    for reader in readers:
        with problems:
            read = reader()
            found += read if isinstance(read, list) else [read]
    problems.tell()
    return found


def _is_for(limit: Limit, argument: str) -> bool:
    if limit.model is None:
        return True
    path = os.path.normpath(argument)
    # A budget for a file is one for its variants too, unless it names one.
    names = {path, argument} | ({split_variant(path)[0]} if "#" not in limit.model else set())
    return any(pattern(limit.model.removeprefix("./"), "/").fullmatch(name) for name in names)


def _divided(request: Request, limit: Limit) -> _Model:
    """Count a target with its MACs/pixel divided by what a budget names; what does not fit is told at the budget."""
    request = replace(request, per=limit.per)
    try:
        return _Model(request, analysis.count(request), [])
    except UsageError as error:
        found = [replace(d, message=d.message.removeprefix("--per "), mark=limit.mark) for d in error.diagnostics]
        raise SpecError(found) from None


def _base_divided(base: Base, model: _Model, per: str, bases: Bases) -> Base:
    """The base of a target whose MACs/pixel are divided by what a budget names."""
    if base.report is None:
        return base
    if base.kind == "git":
        return bases.of(model.request, model.report)
    # A file has figures and no model: the pixels are those of its inputs.
    shape, totals = base.report.model.inputs[0].shape, base.report.totals
    if per == "output":
        return replace(base, state="missing", report=None, reason=f"{base.label} does not hold the shape of its output")
    filled = basis_of(model.request, model.request.overrides, model.request.spec)
    denominator, words = pixels(filled, shape, shape)
    return replace(base, report=replace(base.report, totals=replace(totals, pixels=denominator, pixel_basis=words)))


def _judge_all(model: _Model, found: Mapping[str | None, CheckedModel], existing: str) -> list[BudgetResult]:
    results = []
    problems = Together()
    argument = model.request.argument
    for limit in model.applying:
        divided = model if limit.per is None else model.divided.get(limit.per, model)
        report, checked = divided.report, found[limit.per if limit.per in found else None]
        base, diff = checked.base, checked.diff
        if limit.level == "off":
            results.append(skipped(limit, argument, "its level is off"))
        elif limit.relative is not None and diff is None:
            reason = base.reason if base is not None else None
            is_new = base is not None and base.state == "new"
            results.append(skipped(limit, argument, f"new model: {reason}" if is_new else f"no base: {reason}"))
        else:
            with problems:
                results.append(judge(report, limit, argument, diff, existing=existing))
    problems.tell()
    return results


def _no_budget(checked: Sequence[CheckedModel], targets: Sequence[str]) -> Diagnostic:
    """Say that there is nothing to check, and give today's numbers to start from."""
    totals = checked[0].totals
    pasted = "\n\n".join(
        f'[[tool.convstat.budget]]\nmodel = "{argument}"\nmetric = "{metric}"\nmax = {getattr(item.totals, metric)}'
        for argument, item in zip(targets, checked, strict=True)
        for metric in ("params", "macs")
    )
    help = [f"the current figures, to paste into pyproject.toml:\n\n{pasted}\n"]
    if len(targets) == 1 and resolve(targets[0]).kind == "spec":
        help.append(f'or into the spec:\n\nbudget: ["params<={totals.params}", "macs<={totals.macs}"]\n')
    help.append(f"or once: convstat check {targets[0]} --max params={totals.params} --max macs={totals.macs}")
    return Diagnostic(f"{', '.join(targets)} has no budget to check", help=tuple(help))
