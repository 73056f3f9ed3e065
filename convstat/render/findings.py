"""What is to be looked at in a result, each with the place in a file that it is about.

A check gives one finding for each budget that is not kept, a diff one for each model whose figures changed,
a comparison one for each point that cannot be, a report one for each operator and each difference that nobody
explains. The formats of code hosts (annotations, code quality, SARIF) write these, and decide nothing themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from convstat.grammar.paths import split_variant
from convstat.render.base import Result
from convstat.results.report import GIVE_A_RULE
from convstat.text.printable import apart, counted, exact, printable, signed

if TYPE_CHECKING:
    from convstat.results.check import BudgetResult, Check
    from convstat.results.comparison import Comparison
    from convstat.results.diff import Diff, LayerChange
    from convstat.results.report import Place, Report

Level = Literal["error", "warning", "note"]

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""From the worst to the mildest."""

PLACE = re.compile(r"(?s)(?P<file>.+?):(?P<line>[1-9]\d*)(?::\d+)?")


class Finding(NamedTuple):
    """One thing to look at.

    ``rule`` names its kind (``budget/macs``), ``text`` is one line, ``details`` are more lines.
    ``file`` is as the reader of the result wrote it; None where the finding is about no file.
    ``key`` tells findings apart and stays the same while figures and lines move.
    ``layer`` is the layer that it is anchored to.
    """

    level: Level
    rule: str
    title: str
    text: str
    details: tuple[str, ...]
    key: str
    file: str | None
    line: int = 1
    layer: str | None = None


def findings(results: Sequence[Result]) -> list[Finding]:
    """Give what is to be looked at, the worst first; of one level, in the order of the results."""
    found = [finding for result in results if result.kind in _FINDERS for finding in _FINDERS[result.kind](result)]
    # sorted is stable.
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def repository_path(path: str, environment: Mapping[str, str] = os.environ) -> str:
    """Write a path as a code host wants it: from the root of the repository, with slashes.

    The root is what the host says; where there is none, the working directory.
    """
    root = environment.get("GITHUB_WORKSPACE") or environment.get("CI_PROJECT_DIR") or os.getcwd()
    absolute = os.path.normpath(os.path.join(os.getcwd(), path))
    relative = os.path.relpath(absolute, root)
    outside = relative == os.pardir or relative.startswith(os.pardir + os.sep)
    return (os.path.normpath(path) if outside else relative).replace(os.sep, "/")


def _in_check(check: Check) -> Iterator[Finding]:
    sources = {checked.model.source: checked.model.source for checked in check.models}
    for result in check.results:
        level: Level | None = {"fail": "error", "warn": "warning"}.get(result.status)  # type: ignore[assignment]
        if result.status == "skip" and result.incomplete:
            level = "warning"
        if level is None:
            continue
        title = f"convstat {result.metric}" + (f" of {printable(result.model)}" if len(check.models) > 1 else "")
        key, anchor = f"{result.model}|{result.text}", _anchor(result, sources.get(result.model))
        rule = f"budget/{result.metric}"
        yield Finding(level, rule, title, statement(result), tuple(reasons(result)), key, *anchor)


def statement(result: BudgetResult) -> str:
    """Say in one line what is wrong with a budget."""
    from convstat.render.views.check import WORDS, figure, headroom, name, requirement

    if result.reason and result.status != "fail":
        return f"{name(result)} {WORDS[result.status][0]}: {printable(result.reason)}"
    said = f"{name(result)} is {figure(result, result.actual)}, not {requirement(result)} ({headroom(result)})"
    return f"{said}: {printable(result.reason)}" if result.reason else said


def reasons(result: BudgetResult) -> Iterator[str]:
    """What made a budget fail: the layers that grew, else those that cost most; its reason; where it stands."""
    from convstat.render.views.check import pixel_fact

    if result.why:
        yield f"limited because: {printable(result.why)}"
    if result.pixel_basis:
        yield f"per pixel: {pixel_fact(result)}"
    for growth in result.growth:
        why = f", {printable(growth.why)}" if growth.why else ""
        yield f"{printable(growth.name)} {_plus(growth.delta)} {result.metric}{why}{_at(growth.source)}"
    if not result.growth:
        for offender in result.offenders:
            yield f"{printable(offender.layer)} {apart(offender.value, 0)} {result.metric}{_at(offender.source)}"
    yield f"the budget: {printable(result.text)}, {printable(result.where)}"


def _plus(value: object) -> str:
    return signed(value) if isinstance(value, int) else f"{float(value):+,.2f}"  # type: ignore[arg-type]


def _at(source: Place | None) -> str:
    return f", {printable(source.file)}:{source.line}" if source else ""


def _anchor(result: BudgetResult, source: str | None) -> tuple[str | None, int, str | None]:
    """The line of the layer that grew most, else of the one that costs most, else of the budget, else the file."""
    for row in sorted(result.growth, key=lambda row: -row.delta):
        if row.source and row.layer and row.delta > 0:
            return row.source.file, row.source.line, row.layer
    for offender in result.offenders:
        if offender.source:
            return offender.source.file, offender.source.line, offender.layer
    match = PLACE.fullmatch(result.where)
    if match and not result.where.startswith("--"):
        return match["file"], int(match["line"]), None
    return _file_of(source or result.model), 1, None


def _file_of(source: str) -> str | None:
    """The file that a target names, None where it names none."""
    path = split_variant(source)[0]
    python, colon, _ = path.rpartition(":")
    if colon and python.endswith(".py"):
        path = python
    return path if path.endswith((".yaml", ".yml", ".json", ".py")) else None


def _in_diff(diff: Diff) -> Iterator[Finding]:
    label = printable(diff.head.label)
    if diff.state == "unchanged":
        return
    grown = max(
        (row for row in diff.layers if row.new is not None and row.source is not None),
        key=lambda row: (row.delta("macs"), row.delta("params")),
        default=None,
    )
    if diff.state in ("new", "removed"):
        totals = diff.head.totals if diff.state == "new" else diff.base.totals
        text = f"{label} is {diff.state}: {exact(totals.params)} params, {exact(totals.macs)} MACs"
    else:
        figures = ", ".join(
            f"{words} {exact(getattr(diff.base.totals, metric))} -> {exact(getattr(diff.head.totals, metric))} "
            f"({signed(diff.delta(metric))})"
            for metric, words in (("params", "params"), ("macs", "MACs"))
        )
        text = f"{label}: {figures}"
    changed = [row for row in diff.layers if row.status not in ("unchanged", "renamed")]
    changed.sort(key=lambda row: (-abs(row.delta("macs")), -abs(row.delta("params"))))
    details = [
        ", ".join(filter(None, (f"{printable(row.name)} {_grown(row)}".rstrip(), printable(row.why)))) + _at(row.source)
        for row in changed[:5]
    ]
    if len(changed) > 5:
        details.append(f"and {len(changed) - 5:,} more layers")
    place = grown.source if grown is not None and diff.state == "changed" else None
    file = place.file if place else _file_of(diff.head.model.source if diff.head.model else diff.base.label)
    at = (file, place.line if place else 1, grown.name if place and grown else None)
    yield Finding("note", f"diff/{diff.state}", "convstat diff", text, tuple(details), diff.head.label, *at)


def _grown(row: LayerChange) -> str:
    """By how much a layer grew, in what it grew."""
    from convstat.render.views.report import amount

    macs, params = row.delta("macs"), row.delta("params")
    return amount(macs, params) if macs or params else ""


def _in_comparison(comparison: Comparison) -> Iterator[Finding]:
    from convstat.render.views.report import show_value

    for row in comparison.rows:
        if row.status == "ok":
            continue
        values = " ".join(
            f"{printable(key)}={printable(show_value(row.values[key]))}" for key in comparison.varying if key != "model"
        )
        match = PLACE.fullmatch(row.where or "")
        file, line = (match["file"], int(match["line"])) if match else (_file_of(row.model), 1)
        name = f"{printable(row.model)} {values}".strip()
        text = f"{name} cannot be built: {printable(row.reason or 'no reason given')}"
        help = tuple(map(printable, row.help))
        yield Finding("warning", "compare/invalid", "convstat compare", text, help, name, file, line)


def _in_report(report: Report) -> Iterator[Finding]:
    from convstat.render.views.report import amount, label

    sources = {row.name: row.source for row in report.layers if row.source}
    model, source = printable(report.model.name), report.model.source
    file = _file_of(source)
    if report.model.rests_on:
        text = f"the MACs of {model} are {printable(report.model.rests_on)}"
        yield Finding("warning", "report/upper-bound", "convstat count", text, (), f"{source}|upper_bound", file)
    for item in report.uncounted:
        layer = next((name for name in item.layers if name in sources), None)
        place = sources[layer] if layer else None
        at = (place.file if place else file, place.line if place else 1, layer)
        text = f"{printable(item.op)} is uncounted in {model}: it has no rule ({counted(item.calls, 'call')})"
        details = (*map(printable, item.layers[:5]), GIVE_A_RULE)
        yield Finding("warning", "report/uncounted", "convstat count", text, details, f"{source}|{item.op}", *at)
    for counter in report.counters:
        # What its prediction does not give, and what the prediction has no name for.
        unknown = [cause for cause in counter.causes if cause.verdict == "unexplained"]
        macs = (counter.unexplained.macs or 0) + sum(cause.macs for cause in unknown)
        params = (counter.unexplained.params or 0) + sum(cause.params for cause in unknown)
        if macs or params or unknown:
            text = f"{label(counter)} differs on {model} by {amount(macs, params)}, unexplained"
            key = f"{source}|{counter.name}|{counter.variant}"
            yield Finding("warning", "report/unexplained", "convstat reconciliation", text, (), key, file)


_FINDERS: Mapping[str, Callable[[Any], Iterator[Finding]]] = {
    "check": _in_check,
    "diff": _in_diff,
    "comparison": _in_comparison,
    "report": _in_report,
}
"""What looks for findings in each kind of result that has some."""
