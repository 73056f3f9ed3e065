"""The format for test dashboards: budgets as test cases, models as suites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from convstat.render.base import Options, Renderer, Result
from convstat.text.printable import printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from convstat.results.check import BudgetResult, Check


class JunitRenderer(Renderer):
    """JUnit's XML as Jenkins, GitLab and others read it.

    An exceeded budget is a failure, one that could not be judged because the count is incomplete is an error,
    one that is off is skipped; a warning is a test that passes and says something.
    """

    name = "junit"
    suffixes = (".xml",)
    about = "for test dashboards: budgets as JUnit test cases"
    expresses = ("check",)
    is_view = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        from xml.etree.ElementTree import Element, SubElement, indent, tostring

        budgets = [budget for result in results for budget in cast("Check", result).results]
        # There is no attribute for skipped tests here, only on each suite.
        suites = Element("testsuites", {"name": "convstat", **_counts(budgets)})
        for model in dict.fromkeys(budget.model for budget in budgets):
            of_model = [budget for budget in budgets if budget.model == model]
            skipped = str(sum(_outcome(budget) == "skipped" for budget in of_model))
            name = printable(model or "every model")
            suite = SubElement(
                suites, "testsuite", {"name": name, **_counts(of_model), "skipped": skipped, "time": "0"}
            )
            for budget in of_model:
                _add(SubElement(suite, "testcase", classname=name, name=printable(budget.text), time="0"), budget)
        indent(suites)
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suites, encoding="unicode")}\n'


def _outcome(result: BudgetResult) -> str:
    if result.status == "fail":
        return "failure"
    if result.status == "skip":
        return "error" if result.incomplete else "skipped"
    return "passed"


def _counts(results: Sequence[BudgetResult]) -> dict[str, str]:
    outcomes = [_outcome(result) for result in results]
    counts = {"tests": len(outcomes), "failures": outcomes.count("failure"), "errors": outcomes.count("error")}
    return {name: str(count) for name, count in counts.items()}


def _add(case: Element, result: BudgetResult) -> None:
    """Say in a test case what became of its budget; of one that is kept without a word, nothing."""
    from xml.etree.ElementTree import SubElement

    from convstat.render.findings import reasons, statement

    outcome = _outcome(result)
    said = "\n".join(printable(line) for text in (statement(result), *reasons(result)) for line in text.split("\n"))
    if outcome == "passed" and result.status == "pass" and not result.reason:
        return
    about: dict[str, str] = {}
    if outcome == "skipped":
        said = printable(result.reason or "")
    elif outcome != "passed":
        kind = f"budget/{result.metric}" if outcome == "failure" else "incomplete"
        about = {"type": kind, "message": printable(statement(result))}
    elif result.status != "pass":
        said = f"warning: {said}"
    child = SubElement(case, "system-out" if outcome == "passed" else outcome, about)
    child.text = said
