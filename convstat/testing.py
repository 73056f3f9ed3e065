"""Budgets in tests: ``assert_budget(model, params="<=5M", inputs=(3, 224, 224))``.

A failure shows the output of ``convstat check``: by how much a budget is exceeded, and the most expensive layers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convstat import api
from convstat.budgets import limits
from convstat.budgets.judge import judge, skipped
from convstat.errors import ConvstatError, Mark, SourceText, Together, UsageError, did_you_mean
from convstat.results import report
from convstat.results.check import BaseModel, Check, CheckedModel

if TYPE_CHECKING:
    from convstat.budgets.limits import Limit
    from convstat.results.check import BudgetResult
    from convstat.results.diff import Diff

__all__ = ["BudgetWarning", "assert_budget"]

WIDTH = 100
"""The width of the text of a failure."""

Amounts = str | Iterable[str]


class BudgetWarning(UserWarning):
    """A budget with the level ``warn`` is exceeded."""


def assert_budget(
    model: Any,
    *budgets: str,
    inputs: Any = None,
    base: api.Report | str | os.PathLike[str] | None = None,
    batch: int = 1,
    dtype: str | None = None,
    per: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    **amounts: Amounts,
) -> api.Report:
    """Assert that a model satisfies budgets, and return its report.

    ``model`` and ``inputs`` are as for :func:`convstat.analyze`; ``model`` can also be a report.
    A budget is a metric with a limit, ``params="<=5M"``, or with several, ``macs=(">=1M", "<=300M")``,
    or a complete budget in the short form, ``"macs(each)@head.**<=1M"``. Limits are inclusive and compared exactly.
    With ``base``, a report or a report file, limits can be relative: ``macs="<=+2%"``.

    Raises AssertionError if a budget is exceeded, or cannot be decided because an operator is uncounted.
    Emits a :class:`BudgetWarning` for budgets with the level ``warn``, ``params="<=5M:warn"``.
    Raises :class:`convstat.errors.UsageError` for an invalid budget.

    >>> assert_budget("Linear(16, 4)", inputs=(16,), params="==68", macs="<=64").totals.macs
    64
    """
    __tracebackhide__ = True
    applying = _read(budgets, amounts)
    before = api.load(base) if isinstance(base, (str, os.PathLike)) else base
    if before is None and (relative := next((limit for limit in applying if limit.relative is not None), None)):
        raise UsageError(
            f"{relative} is relative, but there is no base",
            help="pass a report or a report file: base='tests/net.report.json'",
        )
    if (
        both := next((limit for limit in applying if limit.per is not None and limit.relative is not None), None)
    ) is not None:
        raise UsageError(f"{both} is relative to a base that divides by other pixels", help=f"pass per='{both.per}'")
    if isinstance(model, report.Report):
        if inputs is not None or overrides:
            raise UsageError("a report is already counted: it takes no inputs or overrides")
        head = api.Report.of(model)
        if (named := next((limit for limit in applying if limit.per is not None), None)) is not None:
            raise UsageError(
                f"{named} divides by other pixels than the report, which is already counted",
                help="pass the model itself",
            )
    else:
        head = api.analyze(model, inputs, batch=batch, dtype=dtype, per=per, **(overrides or {}))
    divided: dict[str | None, api.Report] = {
        limit.per: api.analyze(model, inputs, batch=batch, dtype=dtype, per=limit.per, **(overrides or {}))
        for limit in applying
        if limit.per is not None and not isinstance(model, report.Report)
    }
    check = _check(head, before, applying, divided)
    if check.exit_code:
        raise AssertionError(_text(check))
    if check.count("warn"):
        import warnings

        warnings.warn(_text(check), BudgetWarning, stacklevel=2)
    return head


def _read(budgets: Sequence[str], amounts: Mapping[str, Amounts]) -> list[Limit]:
    """Read all budgets; their problems are told at once."""
    written: list[tuple[str, str]] = [(text, repr(text)) for text in budgets]
    problems: list[ConvstatError] = []
    for metric, values in amounts.items():
        for value in [values] if isinstance(values, str) else _several(metric, values, problems):
            problem = _problem(metric, value)
            if problem is not None:
                problems.append(problem)
            else:
                written.append((f"{metric}{value.strip()}", f"{metric}={value!r}"))
    found: list[Limit] = []
    for text, place in written:
        try:
            found.append(limits.read_short(text, Mark(SourceText(place, text, is_file=False), 1, 1, len(text))))
        except ConvstatError as error:
            problems.append(error)
    if problems:
        raise UsageError([diagnostic for problem in problems for diagnostic in problem.diagnostics])
    if not found:
        raise UsageError("assert_budget without a budget cannot fail", help="for example params='<=5M'")
    return found


def _several(metric: str, values: object, problems: list[ConvstatError]) -> list[str]:
    if isinstance(values, (list, tuple)) and values and all(isinstance(value, str) for value in values):
        return list(values)
    help = f"include the comparison: {metric}='<={values}'"
    problems.append(UsageError(f"{metric}={values!r} is not a limit", help=help))
    return []


def _problem(metric: str, value: str) -> UsageError | None:
    if metric not in limits.METRICS:
        close = did_you_mean(metric, limits.METRICS)
        return UsageError(f"assert_budget takes no '{metric}'", help=(*close, limits.known_metrics()))
    if not re.match(r"\s*[<>=]", value):
        help = f"include the comparison: {metric}='<={value.strip()}'"
        return UsageError(f"{metric}={value!r} has no comparison", help=help)
    return None


def _check(
    head: api.Report, before: report.Report | None, applying: Sequence[Limit], divided: Mapping[str | None, api.Report]
) -> Check:
    found: Diff | None = None
    base: BaseModel | None = None
    if before is not None:
        from convstat.history import changes

        label = before.model.source
        found = changes.compare(before, head, labels=(label, head.model.source))
        base = BaseModel("found", "report", label, totals=before.totals)
    results: list[BudgetResult] = []
    problems = Together()
    for limit in applying:
        with problems:
            off = limit.level == "off"
            source = head.model.source
            counted = divided.get(limit.per, head)
            results.append(skipped(limit, source, "its level is off") if off else judge(counted, limit, source, found))
    problems.tell()
    return Check((CheckedModel(head.model, head.totals, head.uncounted, base, found),), tuple(results))


def _text(check: Check) -> str:
    """The text of ``convstat check``, below a line that says it in short."""
    from convstat.render.base import Options
    from convstat.render.formats.terminal import TableRenderer

    over = [result for result in check.results if result.status == "fail"]
    open_ = [result for result in check.results if result.incomplete and result.status != "fail"]
    said = [f"{len(over)} of {len(check.results)} budgets exceeded"] if over else []
    said += [f"{len(open_)} of {len(check.results)} budgets undecided"] if open_ else []
    first = f"{check.models[0].model.name}: {', '.join(said) or 'a budget is exceeded'}"
    return f"{first}\n\n{TableRenderer().render([check], Options(width=WIDTH)).rstrip()}"
