"""The format for test dashboards: budgets as test cases, models as suites."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from convstat.render.base import Options, Renderer, Result
from convstat.text.printable import printable

if TYPE_CHECKING:
    from convstat.results.check import BudgetResult, Check


class JunitRenderer(Renderer):
    """JUnit's XML as Jenkins, GitLab and others read it.

    An exceeded budget is a failure, one that could not be judged because the count is incomplete is an error,
    one that is off is skipped; a warning is a test that passes and says something.
    """

    name: ClassVar[str] = "junit"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    about: ClassVar[str] = "for test dashboards: budgets as JUnit test cases"
    expresses: ClassVar[tuple[str, ...]] = ("check",)
    is_view: ClassVar[bool] = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Write the suites of all checks as one document."""
        return "".join(f"{line}\n" for line in _document(results))  # type: ignore[arg-type]


def _document(checks: Sequence[Check]) -> Iterator[str]:
    budgets = [result for check in checks for result in check.results]
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    # There is no attribute for skipped tests here, only on each suite.
    yield f'<testsuites name="convstat"{_counts(budgets)}>'
    for model in dict.fromkeys(result.model for result in budgets):
        of_model = [result for result in budgets if result.model == model]
        skipped = sum(_outcome(result) == "skipped" for result in of_model)
        yield f'  <testsuite name={_attribute(model or "every model")}{_counts(of_model)} skipped="{skipped}" time="0">'
        for result in of_model:
            yield from _case(result)
        yield "  </testsuite>"
    yield "</testsuites>"


def _outcome(result: BudgetResult) -> str:
    if result.status == "fail":
        return "failure"
    if result.status == "skip":
        return "error" if result.incomplete else "skipped"
    return "passed"


def _counts(results: Sequence[BudgetResult]) -> str:
    outcomes = [_outcome(result) for result in results]
    return f' tests="{len(outcomes)}" failures="{outcomes.count("failure")}" errors="{outcomes.count("error")}"'


def _case(result: BudgetResult) -> Iterator[str]:
    from convstat.render.findings import reasons, statement

    head = (
        f'    <testcase classname={_attribute(result.model or "every model")} name={_attribute(result.text)} time="0"'
    )
    outcome = _outcome(result)
    said = _text("\n".join([statement(result), *reasons(result)]))
    if outcome == "passed" and result.status == "pass" and not result.reason:
        yield f"{head}/>"
        return
    yield f"{head}>"
    if outcome == "passed":
        yield f"      <system-out>{'' if result.status == 'pass' else 'warning: '}{said}</system-out>"
    elif outcome == "skipped":
        yield f"      <skipped>{_text(result.reason or '')}</skipped>"
    else:
        kind = f"budget/{result.metric}" if outcome == "failure" else "incomplete"
        message = _attribute(statement(result))
        yield f'      <{outcome} type="{kind}" message={message}>{said}</{outcome}>'
    yield "    </testcase>"


def _text(text: str) -> str:
    """Escape a text; of control characters, only the ends of lines stay."""
    from xml.sax.saxutils import escape

    return "\n".join(escape(printable(line)) for line in text.split("\n"))


def _attribute(text: str) -> str:
    from xml.sax.saxutils import quoteattr

    return quoteattr(printable(text))
