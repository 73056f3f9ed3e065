"""What ``convstat advise`` says: likely mistakes, possible savings, and the changes that reach a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from convstat.render.base import Options
from convstat.render.page import Block, Column, Fields, Heading, Item, Items, Line, Pairs, tabulated
from convstat.render.views.report import input_fact, set_facts, title
from convstat.results.advice import Advice, Goal, Plan, Suggestion, TextEdit
from convstat.text.printable import apart, counted, exact, printable, share, signed

SHOWN = 10
"""So many savings are shown where ``--top`` says nothing."""


def blocks(advice: Advice, options: Options) -> Iterator[Block]:
    """What the page of advice says."""
    model, totals = advice.model, advice.totals
    yield Heading(title(model.name, model.source), 1)
    facts = (("params", exact(totals.params)), ("MACs", exact(totals.macs)))
    yield Pairs((("input", input_fact(model)), *set_facts(model), *facts))
    if advice.mistakes:
        yield Heading(f"likely mistakes ({len(advice.mistakes)})")
        yield from _suggestions(advice, advice.mistakes, None)
    else:
        yield Line("No likely mistakes.", "good")
    if advice.savings:
        yield Heading(f"possible savings ({len(advice.savings)})")
        yield from _suggestions(advice, advice.savings, SHOWN if options.top is None else options.top)
    if advice.plan is not None:
        yield from _plan(advice, advice.plan)
    yield Line(advice.accuracy)


def _suggestions(advice: Advice, found: Sequence[Suggestion], most: int | None) -> Iterator[Block]:
    """A table of what each saves, and below it what it is and what to write."""
    shown = found if most is None else found[:most]
    fields: Fields[Suggestion] = [
        (Column("#"), lambda one: str(one.number)),
        (Column("change", "left"), lambda one: one.kind),
        (Column("layers", priority=2), lambda one: str(len(one.layers))),
        (Column("params"), lambda one: signed(-one.saves.params)),
        (Column("MACs"), lambda one: signed(-one.saves.macs)),
        (Column("share", priority=1, name="share of the MACs"), lambda one: share(one.saves.macs, advice.totals.macs)),
    ]
    yield tabulated(fields, shown)
    yield Items(tuple(_explained(shown)), "left")
    if len(shown) < len(found):
        rest = len(found) - len(shown)
        yield Line(f"{counted(rest, 'saving')} more: --top {len(found)}, or -f json", "quiet")


def _explained(shown: Sequence[Suggestion]) -> Iterator[Item]:
    """What each change is, where that is not what the one above is, and what to write."""
    said = ""
    for one in shown:
        lead = f"{one.number}"
        if one.what != said:
            yield Item(lead, printable(one.what))
            lead, said = "", one.what
        for edit in one.edits:
            other = _other(one) if edit is one.edits[0] else ""
            head = f"{edit.place}{_layers(one, edit)}{_owner(edit)}{other}"
            yield from (item._replace(lead=lead if n == 0 else "") for n, item in enumerate(_written(edit, head)))
            lead = ""


def _written(edit: TextEdit, head: str) -> Iterator[Item]:
    """An edit: where it is, what is there, and what is to be there."""
    yield Item("", printable(head))
    yield from (Item("", f"- {printable(line)}") for line in _dedented(edit.before, edit))
    yield from (Item("", f"+ {printable(line)}") for line in _dedented(edit.after, edit))


def _layers(one: Suggestion, edit: TextEdit) -> str:
    """Which layers an edit is about, where its place does not say it."""
    if edit is not one.edits[0] or not one.layers or one.layers == (edit.place,):
        return ""
    first = one.layers[0]
    return f" ({first})" if len(one.layers) == 1 else f" ({first} and {len(one.layers) - 1} more)"


def _owner(edit: TextEdit) -> str:
    """Which class makes a module, and where that is."""
    if edit.owner is None:
        return ""
    where = f", {edit.file}:{edit.line}" if edit.file else ""
    return f", made by {edit.owner}{where}"


def _dedented(lines: Sequence[str], edit: TextEdit) -> Iterator[str]:
    """Lines without the indentation that all lines of an edit have."""
    every = [line for line in (*edit.before, *edit.after) if line.strip()]
    indent = min((len(line) - len(line.lstrip()) for line in every), default=0)
    return (line[indent:] for line in lines)


def _other(one: Suggestion) -> str:
    """What else a change takes away, beside MACs and params."""
    if not one.saves.other:
        return ""
    return f"; {', '.join(f'{name} {signed(-amount)}' for name, amount in one.saves.other.items())}"


def _plan(advice: Advice, plan: Plan) -> Iterator[Block]:
    budgets = ", ".join(printable(goal.budget) for goal in plan.goals)
    yield Heading(f"to reach {budgets}")
    fields: Fields[Goal] = [
        (Column("budget", "left"), lambda goal: printable(goal.budget)),
        (Column("as it is"), lambda goal: _figure(goal.before, goal)),
        (Column("changed"), lambda goal: _figure(goal.after, goal)),
        (Column("limit"), lambda goal: _figure(goal.limit, goal)),
        (Column("", "left", name="verdict"), lambda goal: "reached" if goal.met else "not reached"),
    ]
    yield tabulated(fields, plan.goals, lambda goal: "good" if goal.met else "bad")
    numbers = ", ".join(map(str, plan.changes))
    if plan.reached and not plan.changes:
        yield Line("It is reached as the model is.", "good")
    elif plan.reached:
        which = "the shortest list" if plan.is_shortest else "the shortest list found before the search was ended"
        yield Line(f"{counted(len(plan.changes), 'change')}, {which}: {numbers}.", "good")
    else:
        why = "These changes cannot reach it" if plan.is_shortest else "No list that reaches it was found"
        yield Line(f"{why}; the nearest list: {numbers or 'none'}.", "bad")
    chosen = [one for one in advice.suggestions if one.number in plan.changes]
    if len(plan.changes) > 1:
        sums = sum(one.saves.macs for one in chosen), sum(one.saves.params for one in chosen)
        both = f"{exact(plan.saves.macs)} MACs and {exact(plan.saves.params)} params"
        yield Line(f"Counted together, they save {both}{_added(plan, sums)}.")
    own = {edit for one in chosen for edit in one.edits}
    if joined := [edit for edit in plan.edits if edit not in own]:
        yield Line("All of them together, since several change one layer:")
        yield Items(tuple(item for edit in joined for item in _written(edit, edit.place)), "left")


def _added(plan: Plan, sums: tuple[int, int]) -> str:
    """What the savings add up to, where that is not what they come to together."""
    if sums == (plan.saves.macs, plan.saves.params):
        return ""
    return f"; one by one, {exact(sums[0])} and {exact(sums[1])}"


def _figure(value: int | Fraction, goal: Goal) -> str:
    return apart(value, goal.limit)


__all__ = ["blocks"]
