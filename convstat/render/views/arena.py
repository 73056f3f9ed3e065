"""What ``convstat memory --target`` says: the arena, what is alive while each operator runs, and what patches save."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from convstat.render.base import Options
from convstat.render.page import Block, Column, Fields, Heading, Line, Pairs, Row, Table, tabulated
from convstat.render.views.report import input_fact, set_facts, title
from convstat.results.arena import Arena, Operation, Patches
from convstat.text.printable import bar, counted, exact, printable, share, significant

NAMES = {"tflm": "TensorFlow Lite Micro, int8; batch norms and activations fused; nothing in place"}
"""What each target is, and what is assumed of it."""

BAR_WIDTH = 10

MOST_ROWS = 40
"""Operators that are shown, unless it is said how many."""


def blocks(found: Arena, options: Options) -> Iterator[Block]:
    """What the page of an arena says."""
    yield Heading(title(found.model.name, found.model.source), 1)
    yield Pairs(tuple(_facts(found)))
    yield Heading("bytes alive while each operator runs")
    yield _operators(found, options)
    yield Heading("patch by patch")
    if found.patches:
        yield _patches(found)
    else:
        yield Line(_no_patches(found))
    for note in (*_notes(found), *found.model.notes):
        yield Line(printable(note), "warn")


def kib(size: int) -> str:
    """Write bytes in KiB.

    >>> kib(478544)
    '467.33'
    """
    return significant(Fraction(size, 1024), 2)


def _facts(found: Arena) -> Iterator[tuple[str, str]]:
    yield "input", input_fact(found.model)
    yield from set_facts(found.model)
    yield "target", NAMES[found.target]
    above = found.arena_bytes - found.least_bytes
    gap = f"{exact(above)} bytes more than are alive at once" if above else "as much as is alive at once"
    yield "arena", f"{kib(found.arena_bytes)} KiB ({exact(found.arena_bytes)} bytes), {gap}"
    peak = found.operators[found.peak]
    yield "peak", f"{kib(peak.alive)} KiB alive at {printable(peak.layer)} ({printable(peak.op)})"
    yield "flash", f"{kib(found.flash_bytes)} KiB ({exact(found.flash_bytes)} bytes) of int8 weights, int32 biases"


def _operators(found: Arena, options: Options) -> Table:
    most = found.operators[found.peak].alive

    def drawn(operator: Operation) -> str:
        return bar(operator.alive, most, BAR_WIDTH, ascii=options.ascii)

    fields: Fields[Operation] = [
        (Column("layer", "left", shortens=True, comfort=20), lambda operator: printable(operator.layer)),
        (Column("operator", "left", 2), lambda operator: printable(operator.op)),
        (Column("output", "left", 3), lambda operator: "x".join(map(str, operator.shape[1:]))),
        (Column("inputs", priority=1), lambda operator: exact(operator.inputs)),
        (Column("outputs", priority=1), lambda operator: exact(operator.outputs)),
        (Column("held", priority=1), lambda operator: exact(operator.held) if operator.held else ""),
        (Column("alive"), lambda operator: exact(operator.alive)),
        (Column("", "left", 4, name="bar", graphic=True), drawn),
        (Column("", "left", name="peak"), lambda operator: "peak" if operator.alive == most else ""),
    ]
    shown = list(found.operators)
    if options.top is not None:
        shown = sorted(shown, key=lambda operator: -operator.alive)
    limit = options.top or (len(shown) if len(shown) <= MOST_ROWS else MOST_ROWS)
    rest = shown[limit:]
    table = tabulated(fields, shown[:limit], lambda operator: "strong" if operator.alive == most else "")
    if not rest:
        return table
    least = exact(max(operator.alive for operator in rest))
    last = (counted(len(rest), "other"), "", "", "", "", "at most", least, "", "")
    return table._replace(rows=(*table.rows, Row(last, "quiet")))


def _patches(found: Arena) -> Table:
    fields: Fields[Patches] = [
        (Column("patches"), lambda patches: f"{patches.grid}x{patches.grid}"),
        (Column("over the first"), lambda patches: counted(patches.stage, "operator")),
        (Column("up to", "left", shortens=True), lambda patches: printable(patches.layer)),
        (Column("arena KiB"), lambda patches: kib(patches.arena_bytes)),
        (Column("of the whole"), lambda patches: share(patches.arena_bytes, found.arena_bytes)),
        (Column("MACs again"), lambda patches: exact(patches.macs)),
        (Column("more MACs", priority=1), lambda patches: f"+{share(patches.macs, found.macs)}"),
    ]
    return tabulated(fields, found.patches)


def _no_patches(found: Arena) -> str:
    if found.followed == len(found.operators):
        return "No patches make the arena smaller."
    after = found.operators[found.followed]
    end = f"positions are not followed through {printable(after.op)} of {printable(after.layer)}"
    if not found.followed:
        return f"No patches are possible: {end}."
    return f"No patches of the first {counted(found.followed, 'operator')} make the arena smaller; {end}."


def _notes(found: Arena) -> Iterator[str]:
    if found.opaque:
        yield (
            f"{', '.join(found.opaque)}: each stands as one operator, and the tensors inside are not included: the "
            "arena is at least this large."
        )
    if found.missing:
        yield f"TensorFlow Lite Micro has no kernel for {', '.join(found.missing)}."
