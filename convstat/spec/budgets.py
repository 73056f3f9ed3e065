"""The budgets of a spec: short forms, or tables with the keys of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.errors import Mark, SpecError, did_you_mean
from convstat.spec.load import List, Map, Scalar, Tree

if TYPE_CHECKING:
    from convstat.spec.problems import Problems


def read_budgets(tree: Tree | None, problems: Problems) -> tuple[tuple[str, Mark], ...]:
    """Give each budget in its short form, with its place.

    One that cannot be read is a problem now: it would be found only by whoever enforces it.
    """
    found: list[tuple[str, Mark]] = []
    if tree is None:
        return ()
    from convstat.budgets.limits import read_short

    if isinstance(tree, List) and not tree.items:
        problems.add("budget is an empty list", tree.mark, help="leave the key away, or add a limit: params<=5M")
    for item in tree.items if isinstance(tree, List) else (tree,):
        try:
            if isinstance(item, Map):
                found += _table(item, problems)
            elif isinstance(item, Scalar) and item.text:
                read_short(item.text, item.mark)
                found.append((item.text, item.mark))
            else:
                problems.add("a budget is expected here", item.mark)
        except SpecError as error:
            problems.include(error.diagnostics)
    return tuple(found)


def _table(tree: Map, problems: Problems) -> list[tuple[str, Mark]]:
    from convstat.budgets.tables import BUDGET_KEYS, read_table

    known = [key for key in BUDGET_KEYS if key != "model"]
    table: dict[str, object] = {}
    marks: dict[str, Mark] = {}
    for key, value in tree:
        if key.text not in known:
            help = did_you_mean(key.text, known) or (f"keys: {', '.join(known)}",)
            if key.text == "model":
                help = ("a budget in a spec is for this spec",)
            problems.add(f"unknown key '{key.text}' of a budget", key.mark, help=help)
        elif not isinstance(value, Scalar):
            problems.add(f"{key.text} of a budget is one value", value.mark)
        else:
            table[key.text] = value.text
            marks[key.text] = value.mark
    if len(table) < len(tree):
        return []
    place = tree.entries[0][0].mark if tree.entries else tree.mark
    return [(limit.short, place) for limit in read_table(table, place, marks, SpecError)]
