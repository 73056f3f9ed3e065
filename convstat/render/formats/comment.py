"""The format for a comment on a pull request: short, what is wrong first, and never too long for GitHub.

Nothing is sent anywhere: a file is written, whose first line is a marker that an action finds its own comment by.
GitHub takes 65,536 characters. Below that, what is left out goes in this order, and is said:
budgets that are kept, then the layers, then the budgets that do not fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from convstat.render.base import Options, Renderer, Result
from convstat.render.formats.markdown import RULES, cells, cut, escape, write_page
from convstat.text.printable import counted, printable, shorten

if TYPE_CHECKING:
    from convstat.results.check import Check
    from convstat.results.diff import Diff

LONGEST = 60_000
"""The bytes of a comment; GitHub counts characters, which are no more."""

LONGEST_NAME = 120

ICONS = {"fail": ":x:", "warn": ":warning:", "skip": ":grey_question:", "pass": ":white_check_mark:"}
ORDER = ("fail", "warn", "skip", "pass")
TITLES = {"actual": "this", "growth": "change"}
"""What a comment calls columns that are called otherwise in a table."""

DEFAULT_TITLE = "default"


class CommentRenderer(Renderer):
    """A marker, a verdict, a table, and details that are folded."""

    name = "comment"
    suffixes = ("comment.md",)
    about = "for a comment on a pull request: a marker, below 60,000 characters"
    expresses = ("check", "diff", "comparison", "report")

    def render(self, results: Sequence[Result], options: Options) -> str:
        head = marker(results, options.title)
        return f"{head}\n{body(results, options, LONGEST - len(head) - 1)}"


def body(results: Sequence[Result], options: Options, room: int) -> str:
    """Write what a comment says in at most that many bytes: all there is to say, or as much of it as fits."""
    text = ""
    for layers, is_brief in ((None, False), (None, True), (20, True), (0, True)):
        text = "".join(f"{line}\n" for result in results for line in _write(result, options, layers, is_brief))
        if len(text.encode()) <= room:
            break
    return cut(text, room)


def marker(results: Sequence[Result], title: str | None) -> str:
    """Write the line that a comment is found by: it is the same each time, and another one for another title."""
    kinds = "+".join(dict.fromkeys(result.kind for result in results))
    safe = re.sub(r"[^A-Za-z0-9_.]+", "-", title or "").strip("-") or DEFAULT_TITLE
    return f"<!-- convstat:{kinds}:{safe} -->"


def _write(result: Result, options: Options, layers: int | None, is_brief: bool) -> Iterator[str]:
    kind = result.kind
    if kind == "check":
        yield from _check(result, layers, is_brief)  # type: ignore[arg-type]
    elif kind == "diff":
        yield from _diff(result, layers)  # type: ignore[arg-type]
    else:
        from convstat.render.views import view

        top = options.top if layers is None else min(layers or 5, options.top or layers or 5)
        yield from write_page(view(result, options._replace(top=top)))


def name(text: str) -> str:
    """Write a name, shortened in its middle where it is very long."""
    return escape(shorten(printable(text), LONGEST_NAME))


def _check(check: Check, layers: int | None, is_brief: bool) -> Iterator[str]:
    from convstat.render.views import check as words

    failed, kept = check.count("fail"), check.count("pass")
    total = len(check.results)
    unjudged = sum(result.incomplete for result in check.results)
    if failed:
        found = f"{failed:,} of {counted(total, 'budget')} exceeded"
    else:
        found = f"{unjudged:,} of {total:,} budgets could not be judged" if unjudged else "no budget is exceeded"
    yield f"### convstat: {found}"
    yield ""
    fields = [field for field in words.budget_fields(check) if field[0].title not in ("verdict", "where")]
    yield cells(["", *(TITLES.get(column.title, column.title) for column, _ in fields)])
    yield cells([":--", *(RULES[column.align] for column, _ in fields)])
    for status in ORDER:
        for result in check.results:
            if result.status == status and not (is_brief and status == "pass"):
                texts = (name(text(result)) if column.shortens else escape(text(result)) for column, text in fields)
                yield cells([ICONS[status], *texts])
    yield ""
    if is_brief and kept:
        yield f"{kept:,} satisfied budget{'s are' if kept != 1 else ' is'} omitted."
        yield ""
    if layers is None:
        yield from _details(check)
    else:
        yield "The layers are omitted: the comment would be too long."
        yield ""
    for note in check.notes:
        yield f"{escape(printable(note))}"
        yield ""
    yield from _small(check)


def _details(check: Check) -> Iterator[str]:
    """For each budget that is not kept, why: folded, because there may be many."""
    from convstat.render.findings import reasons

    wrong = [result for result in check.results if result.status in ("fail", "warn") or result.reason]
    if not wrong:
        return
    from convstat.render.views.check import name as name_of

    yield "<details><summary>why, and in which layers</summary>"
    yield ""
    for result in wrong:
        model = f"{name(result.model)}: " if len(check.models) > 1 else ""
        yield f"**{model}{name(name_of(result))}**"
        yield ""
        if result.reason:
            yield f"- {escape(printable(result.reason))}"
        yield from (f"- {escape(shorten(reason, 3 * LONGEST_NAME))}" for reason in reasons(result))
        yield ""
    yield "</details>"
    yield ""


def _small(check: Check) -> Iterator[str]:
    """What was counted, and with what it was compared, in small print."""
    from convstat.render.views.check import base_fact, pixel_facts
    from convstat.render.views.report import input_fact

    lines = []
    for checked in check.models[:20]:
        base = f", base {escape(base_fact(checked.base))}" if checked.base is not None else ""
        facts = (f"MACs/pixel divide by {fact}" for fact in pixel_facts(check, checked.model.source))
        said = "".join(f", {escape(fact)}" for fact in facts)
        lines.append(f"{name(checked.model.source)}: input {escape(input_fact(checked.model))}{said}{base}")
    if len(check.models) > 20:
        lines.append(f"and {len(check.models) - 20:,} more models")
    yield f"<sub>{'<br>'.join(lines)}</sub>"


def _diff(diff: Diff, layers: int | None) -> Iterator[str]:
    from convstat.render.page import Column, Page, Row, Table
    from convstat.render.views import diff as words

    if diff.state == "unchanged":
        yield f"### convstat: {name(diff.head.label)} costs the same as before"
        yield ""
        return
    yield f"### convstat: {name(words.heading(diff))}"
    yield ""
    yield from write_page(Page((words.totals_table(diff),)))
    shown = diff.shown(top=layers if layers is not None else 500)
    changed = sum(row.status != "unchanged" for row in diff.layers)
    if not shown.rows:
        if changed:
            yield f"The {changed:,} layers that changed are left out: the comment would be too long."
            yield ""
        return
    yield f"<details><summary>{counted(changed, 'layer')} changed</summary>"
    yield ""
    table = words.layer_table(diff, shown)
    columns = tuple(Column(column.title, column.align) for column in table.columns)
    rows = [Row(tuple(shorten(c, LONGEST_NAME) for c in row.cells), row.tone, row.indent) for row in table.rows]
    yield from write_page(Page((Table(columns, tuple(rows), table.total),)))
    yield "</details>"
    yield ""
