"""The format for nested models: blocks with their sums, drawn as a tree, each with its share of the MACs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convstat.render.base import Options, Result
from convstat.render.formats.terminal import TableRenderer
from convstat.render.page import Block, Column, Heading, Line, Page, Row, Table
from convstat.render.views import tree
from convstat.results.report import GIVE_A_RULE, Report
from convstat.text.printable import bar, counted, exact, printable, share

BAR_WIDTH = 10

DEEPEST = 30
"""Levels below this are drawn at this one: further in, there would be no room for names."""


class TreeRenderer(TableRenderer):
    """Every block with the sums of what is in it: the lines of one level add up to the line above them."""

    name = "tree"
    suffixes = (".tree", ".tree.txt")
    about = "for nested models: blocks with their sums and shares"
    expresses = ("report",)

    def page(self, result: Result, options: Options) -> Page:
        if not isinstance(result, Report):
            raise TypeError(f"a tree is made of a report, not of a {type(result).__name__}")
        return Page(tuple(_blocks(result, options)))


def _blocks(report: Report, options: Options) -> Iterator[Block]:
    from convstat.render.views.layers import check_options
    from convstat.render.views.report import input_fact, title

    check_options(options)
    yield Heading(f"{title(report.model.name, report.model.source)}  {input_fact(report.model)}", 1)
    yield _table(report, options)
    if report.model.rests_on:
        yield Line(f"the MACs are {printable(report.model.rests_on)}", "warn")
    for item in report.uncounted:
        calls = f"{printable(item.op)}, {counted(item.calls, 'call')}"
        yield Line(f"not counted: {calls}: the figures are incomplete", "bad")
    if report.uncounted:
        yield Line(GIVE_A_RULE)


def _table(report: Report, options: Options) -> Table:
    totals = report.totals
    nodes = list(tree.walk(tree.build(report.layers), options.depth))
    leads = _leads([min(level, DEEPEST) for _, level, _, _ in nodes], ascii=options.ascii)
    rows = []
    for (node, _, whole, again), lead in zip(nodes, leads, strict=True):
        inside = node.all_rows()
        params, macs = sum(row.params for row in inside), sum(row.macs for row in inside)
        if node.children:
            kind = tree.block_type(node, report.groups, again=again)
            if whole and not kind:
                kind = f"({counted(len(inside), 'layer')})"
        else:
            row = node.rows[0]
            shared = tree.owner(row)
            kind = printable(row.type) + (f" (= {printable(shared)})" if shared and not again else "")
        cells = (
            printable(node.name),
            tree.multiplied(kind, node.times),
            exact(params),
            exact(macs),
            share(macs, totals.macs),
            bar(macs, totals.macs, BAR_WIDTH, ascii=options.ascii),
        )
        rows.append(Row(cells, "strong" if not whole else "", lead=lead))
    columns = (
        Column("layer", "left", shortens=True, comfort=24),
        Column("type", "left", 2),
        Column("params"),
        Column("MACs"),
        Column("share", priority=1, name="share of MACs"),
        Column("", "left", 3, name="bar", graphic=True),
    )
    title = f"total ({counted(len(report.layers), 'layer')})"
    everything = "100%" if totals.macs else ""
    total = Row((title, "", exact(totals.params), exact(totals.macs), everything, ""), "strong")
    return Table(columns, tuple(rows), total)


def _leads(levels: Sequence[int], *, ascii: bool) -> list[str]:
    """Let rich draw the lines that lead to each node.

    >>> _leads([0, 1, 1, 0], ascii=True)
    ['', '+-- ', '`-- ', '']
    """
    from io import StringIO

    from rich.tree import Tree

    from convstat.render.console import console_of

    open_trees = [Tree("", hide_root=True)]
    for level in levels:
        del open_trees[level + 1 :]
        open_trees.append(open_trees[-1].add(""))
    console = console_of(StringIO(), 4 * (DEEPEST + 1), colour=False)
    options = console.options.copy()
    options.encoding = "ascii" if ascii else "utf-8"
    lines = console.render_lines(open_trees[0], options, pad=False, new_lines=False)
    return ["".join(segment.text for segment in line) for line in lines]
