"""What ``--fuse`` did: the trained form beside the deployed one, what was fused, and what could not be."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from convstat.render.page import Block, Column, Heading, Item, Items, Row, Table
from convstat.results.fusion import Fusion
from convstat.results.report import Report
from convstat.text.printable import change, counted, exact, printable, signed

MOST_NAMES = 6
"""The most names that one line lists."""


def blocks(report: Report) -> Iterator[Block]:
    """Both forms side by side, and what was done."""
    fusion = report.fusion
    if fusion is None:
        return
    yield Heading("trained and deployed form")
    yield _table(report, fusion)
    yield Items(tuple(_done(fusion)))


def _table(report: Report, fusion: Fusion) -> Table:
    trained, totals = fusion.trained, report.totals
    figures = (
        ("params", trained.params, totals.params),
        ("MACs", trained.macs, totals.macs),
        ("FLOPs", trained.flops, totals.flops),
        ("weight bytes", trained.weight_bytes, totals.weight_bytes),
        ("layers", trained.layers, len(report.layers)),
    )
    columns = (
        Column("", "left", name="figure"),
        Column("trained"),
        Column("deployed"),
        Column("difference"),
        Column("in %", priority=1, name="difference in %"),
    )
    rows = tuple(
        Row((name, exact(before), exact(after), signed(after - before), change_of(after, before)))
        for name, before, after in figures
    )
    return Table(columns, rows)


def change_of(after: int, before: int) -> str:
    """Write how much larger one is than the other.

    >>> change_of(150, 100), change_of(5, 0)
    ('+50.0%', '-')
    """
    return change(Fraction(after, before) if before else None)


def _done(fusion: Fusion) -> Iterator[Item]:
    for text in fusion.called:
        yield Item("called", printable(text))
    if fusion.folded:
        yield Item("folded", f"{counted(len(fusion.folded), 'batch norm')} into the layers beside them")
    for merged in fusion.merged:
        yield Item("merged", f"{printable(merged.name)}: {_names(merged.of)}")
    if not (fusion.called or fusion.folded or fusion.merged):
        yield Item("fused", "nothing: there is no batch norm that can be folded, and no branch that can be merged")
    kept: dict[str, list[str]] = {}
    for item in fusion.kept:
        kept.setdefault(item.reason, []).append(item.layer)
    for reason, layers in kept.items():
        yield Item("not folded", f"{_names(tuple(layers))}: {printable(reason)}", "warn")
    if fusion.check is not None:
        yield Item("checked", printable(fusion.check), "" if fusion.check.startswith("outputs") else "bad")


def _names(names: tuple[str, ...]) -> str:
    listed = ", ".join(map(printable, names[:MOST_NAMES]))
    return f"{listed} and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else listed
