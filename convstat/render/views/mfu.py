"""What ``convstat mfu`` says: the part of the peak that a model uses, by each way of counting its FLOPs."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from convstat.render.base import Options
from convstat.render.page import Block, Column, Heading, Line, Pairs, Row, Table
from convstat.render.views.report import input_fact, set_facts, title
from convstat.results.mfu import Mfu
from convstat.text.printable import exact, printable, significant
from convstat.units import decimal


def blocks(found: Mfu, options: Options) -> Iterator[Block]:
    """What the page of a utilisation says."""
    yield Heading(title(found.model.name, found.model.source), 1)
    yield Pairs(tuple(_facts(found)))
    yield Heading("utilisation of the peak")
    unit = found.speed.units.removesuffix("s")
    columns = (
        Column("counter", "left"),
        Column("utilisation"),
        Column(f"FLOPs per {unit}", priority=1),
        Column("FLOPs per step", priority=3),
        Column("counted", "left", priority=2, shortens=True),
    )
    rows = [
        Row(
            (
                printable(row.counter),
                _percent(row.utilisation),
                "-" if row.flops_per_unit is None else _number(row.flops_per_unit),
                "-" if row.flops is None else exact(row.flops),
                printable(row.counted),
            ),
            "strong" if not place else "quiet" if row.error else "",
        )
        for place, row in enumerate(found.rows)
    ]
    yield Table(columns, tuple(rows))
    for row in found.rows:
        if row.error:
            yield Line(f"{printable(row.counter)} gives no figure: {printable(row.error)}", "quiet")
    for note in found.model.notes:
        yield Line(printable(note), "warn")


def _facts(found: Mfu) -> Iterator[tuple[str, str]]:
    yield "input", input_fact(found.model)
    yield from set_facts(found.model)
    what = "training, forward and backward" if found.mode == "train" else "a forward pass"
    yield "step", f"{what}, on {exact(found.step_units)} {found.speed.units}"
    speed = f"{_number(found.speed.per_second)} {found.speed.units}/s"
    yield "speed", f"{speed}, {significant(1000 * found.speed.step_seconds, 4)} ms for such a step"
    hardware = found.hardware
    peak = f"{_trillions(hardware.peak_flops)} TFLOP/s"
    name = f"{printable(hardware.card)}, {hardware.dtype}: " if hardware.card else ""
    each = f"{hardware.gpus:,} x " if hardware.gpus > 1 else ""
    source = f" ({printable(hardware.source)})" if hardware.source else ""
    yield "peak", f"{each}{name}{peak}{source}"


def _percent(value: Fraction | None) -> str:
    return "-" if value is None else f"{decimal(100 * value, 2)} %"


def _number(value: Fraction) -> str:
    """Whole, or with four digits behind the point."""
    return exact(int(value)) if value.denominator == 1 else decimal(value, 4)


def _trillions(flops: int) -> str:
    text = decimal(Fraction(flops, 10**12), 4)
    return text.rstrip("0").rstrip(".")
