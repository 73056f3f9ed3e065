"""What a program takes on a microcontroller: the plan of its arena, operator by operator, and with patches."""

from __future__ import annotations

from collections.abc import Iterator

from convstat.deploy.operators import KERNELS, Program
from convstat.deploy.patches import GRIDS, best
from convstat.deploy.planner import Buffer, aligned, alive, place, size_of
from convstat.results.arena import Arena, Operation, Patches, Placed
from convstat.results.report import Report


def buffers_of(program: Program) -> dict[str, Buffer]:
    """The buffer of each tensor."""
    lifetimes = program.lifetimes()
    return {name: Buffer(aligned(tensor.size), *lifetimes[name]) for name, tensor in program.tensors.items()}


def measure(program: Program, report: Report) -> Arena:
    """Plan the arena of a program; ``report`` is that of the same network, with the widths of its weights."""
    buffers = buffers_of(program)
    sizes = [*buffers.values()]
    offsets = place(sizes)
    arena_bytes = size_of(sizes, offsets)
    return Arena(
        report.model,
        "tflm",
        arena_bytes,
        max(alive(sizes), default=0),
        report.totals.weight_bytes,
        report.totals.macs,
        tuple(_operations(program, buffers)),
        tuple(
            Placed(name, program.tensors[name].shape, buffer.size, offset, buffer.first, buffer.last)
            for (name, buffer), offset in zip(buffers.items(), offsets, strict=True)
        ),
        tuple(_patches(program, arena_bytes)),
        next((place for place, one in enumerate(program.operators) if one.reads is None), len(program.operators)),
        program.opaque,
        tuple(dict.fromkeys(o.op for o in program.operators if o.op not in {*KERNELS, *program.opaque})),
    )


def _operations(program: Program, buffers: dict[str, Buffer]) -> Iterator[Operation]:
    needed = alive([*buffers.values()])
    for number, operator in enumerate(program.operators, 1):
        inputs, outputs = (
            sum(buffers[name].size for name in {*names}) for names in (operator.inputs, operator.outputs)
        )
        shape = program.tensors[operator.outputs[0]].shape
        yield Operation(operator.layer, operator.op, shape, inputs, outputs, needed[number] - inputs - outputs)


def _patches(program: Program, arena_bytes: int) -> Iterator[Patches]:
    for grid in GRIDS:
        found = best(program, grid, arena_bytes)
        if found is not None:
            layer = program.operators[found.stage - 1].layer
            yield Patches(grid, found.stage, layer, found.size, found.macs)
