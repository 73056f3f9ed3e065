"""The format for nested models: blocks with their sums, drawn as a tree, each with its share of the MACs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from convstat.render.base import Options
from convstat.render.formats.terminal import StyledLine, TableRenderer, lay_out_page
from convstat.render.page import Block, Column, Heading, Line, Page, Row, Table
from convstat.render.views import tree
from convstat.results.report import GIVE_A_RULE, Report
from convstat.text.printable import bar, exact, printable, share

if TYPE_CHECKING:
    from convstat.render.base import Result

BAR_WIDTH = 10

DEEPEST = 30
"""Levels below this are drawn at this one: further in, there would be no room for names."""

LINES = ("├─ ", "└─ ", "│  ", "   ")
ASCII_LINES = ("|- ", "`- ", "|  ", "   ")


class TreeRenderer(TableRenderer):
    """Every block with the sums of what is in it: the lines of one level add up to the line above them."""

    name: ClassVar[str] = "tree"
    suffixes: ClassVar[tuple[str, ...]] = (".tree", ".tree.txt")
    about: ClassVar[str] = "for nested models: blocks with their sums and shares"
    expresses: ClassVar[tuple[str, ...]] = ("report",)

    def lines(self, results: Sequence[Result], options: Options) -> list[StyledLine]:
        """Lay trees out, one after the other."""
        lines: list[StyledLine] = []
        for result in results:
            if not isinstance(result, Report):
                raise TypeError(f"a tree is made of a report, not of a {type(result).__name__}")
            if lines:
                lines += [[], []]
            lines += lay_out_page(Page(tuple(_blocks(result, options))), options)
        return lines


def _blocks(report: Report, options: Options) -> Iterator[Block]:
    from convstat.render.views.layers import check_options
    from convstat.render.views.report import input_fact, title

    check_options(options)
    yield Heading(f"{title(report.model.name, report.model.source)}  {input_fact(report.model)}", 1)
    yield _table(report, options)
    if report.model.rests_on:
        yield Line(f"the MACs are {printable(report.model.rests_on)}", "warn")
    for item in report.uncounted:
        calls = f"{item.calls:,} call{'s' if item.calls != 1 else ''}"
        yield Line(f"not counted: {printable(item.op)}, {calls}: the figures are incomplete", "bad")
    if report.uncounted:
        yield Line(GIVE_A_RULE)


def _table(report: Report, options: Options) -> Table:
    totals = report.totals
    nodes = list(tree.walk(tree.build(report.layers), options.depth))
    levels = [min(level, DEEPEST) for _, level, _, _ in nodes]
    rows = []
    for (node, _, whole, again), lead in zip(
        nodes, _leads(levels, ASCII_LINES if options.ascii else LINES), strict=True
    ):
        inside = node.all_rows()
        params, macs = sum(row.params for row in inside), sum(row.macs for row in inside)
        if node.children:
            kind = tree.block_type(node, report.groups, again=again)
            if whole and not kind:
                kind = f"({len(inside)} layer{'s' if len(inside) > 1 else ''})"
        else:
            row = node.rows[0]
            shared = tree.owner(row)
            kind = printable(row.type) + (f" (= {printable(shared)})" if shared and not again else "")
        cells = (
            lead + printable(node.name),
            tree.multiplied(kind, node.times),
            exact(params),
            exact(macs),
            share(macs, totals.macs),
            bar(macs, totals.macs, BAR_WIDTH, ascii=options.ascii),
        )
        rows.append(Row(cells, "strong" if not whole else ""))
    columns = (
        Column("layer", "left", shortens=True, comfort=24),
        Column("type", "left", 2),
        Column("params"),
        Column("MACs"),
        Column("share", priority=1, name="share of MACs"),
        Column("", "left", 3, name="bar", graphic=True),
    )
    count = len(report.layers)
    total = (
        f"total ({count} layer{'s' if count != 1 else ''})",
        "",
        exact(totals.params),
        exact(totals.macs),
        "100%" if totals.macs else "",
        "",
    )
    return Table(columns, tuple(rows), (Row(total, "strong"),))


def _leads(levels: Sequence[int], lines: tuple[str, str, str, str]) -> list[str]:
    """Draw the lines that lead to each node; read backwards, because the last child of a block looks different.

    >>> [lead.rstrip() for lead in _leads([0, 1, 1, 0], ASCII_LINES)]
    ['|-', '|  |-', '|  `-', '`-']
    """
    between, last, down, blank = lines
    leads = []
    follows: list[bool] = []
    for level in reversed(levels):
        follows += [False] * (level + 1 - len(follows))
        lead = "".join(down if more else blank for more in follows[:level])
        leads.append(lead + (between if follows[level] else last))
        follows[level] = True
        del follows[level + 1 :]
    return leads[::-1]
