"""Patch by patch: what the arena would be if the first operators ran on one part of the picture after the other.

The first ``stage`` operators run once for each of ``n`` x ``n`` patches of what the last of them gives. Each tensor
between them is then as large as one patch needs, its halo included, and what the patches overlap by is computed more
than once. The inputs of the network, and the tensor that the patches make up, are held whole all the while.
Reference: Lin, Chen, Cai, Gan and Han, *MCUNetV2: Memory-Efficient Patch-based Inference for Tiny Deep Learning*
(NeurIPS 2021), arXiv:2110.15352.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import NamedTuple

from convstat.deploy.operators import Operator, Program
from convstat.deploy.planner import Buffer, aligned, alive, place, size_of
from convstat.formulas.reach import Window
from convstat.formulas.reads import Dims

GRIDS = (2, 3, 4)
"""Into how many patches a picture is divided along each dimension."""

Range = tuple[int, int]


class Patched(NamedTuple):
    """What ``grid`` x ``grid`` patches over the first ``stage`` operators come to.

    ``macs`` are those that are computed more than once; ``alive`` is the most that is needed at once.
    """

    grid: int
    stage: int
    size: int
    alive: int
    macs: int


def best(program: Program, grid: int, most: int) -> Patched | None:
    """The stage with which the arena is smallest, with the fewest MACs of those; None if none is below ``most``."""
    found: Patched | None = None
    for stage in stages(program):
        bound = most if found is None else found.size
        made = patched(program, stage, grid, bound)
        if made is None or made.size >= most:
            continue
        if found is None or (made.size, made.macs) < (found.size, found.macs):
            found = made
    return found


def stages(program: Program) -> Iterator[int]:
    """How many operators can be a stage: after them nothing is needed but one tensor, and the inputs."""
    lifetimes = program.lifetimes()
    last = 0
    for number, operator in enumerate(program.operators, 1):
        if operator.reads is None:
            return
        inner = [name for name in operator.outputs if name not in program.outputs]
        if number > 1 and last <= number and len(inner) == 1 == len(operator.outputs):
            yield number
        if len(inner) < len(operator.outputs):
            return
        last = max([last, *(lifetimes[name][1] for name in operator.outputs)])


def patched(program: Program, stage: int, grid: int, bound: int | None = None) -> Patched | None:
    """Divide the output of a stage into patches; None where it is too small for that, or where more than ``bound``
    bytes are needed at once.
    """
    end = program.operators[stage - 1].outputs[0]
    shape = program.tensors[end].shape
    spatial = range(2, len(shape))
    if not spatial or any(shape[dim] < grid for dim in spatial):
        return None
    operators = program.operators[:stage]
    ranges = {dim: [_needed(program, operators, end, dim, part) for part in parts(shape[dim], grid)] for dim in spatial}
    sizes: dict[str, int] = {}
    repeated = Fraction(0)
    for operator in operators:
        name = operator.outputs[0]
        whole = program.tensors[name]
        if len(whole.shape) != len(shape):
            return None
        lengths = {dim: [_length(found, name) for found in ranges[dim]] for dim in spatial}
        patch = [max(lengths[dim]) if dim in lengths else size for dim, size in enumerate(whole.shape)]
        sizes[name] = prod(patch) * whole.item_bytes
        times = prod((Fraction(sum(lengths[dim]), whole.shape[dim]) for dim in spatial), start=Fraction(1))
        repeated += operator.macs * (times - 1)
    buffers = _buffers(program, stage, sizes)
    needed = max(alive(buffers))
    if bound is not None and needed > bound:
        return None
    return Patched(grid, stage, size_of(buffers, place(buffers)), needed, int(repeated))


def parts(size: int, count: int) -> list[Range]:
    """Divide positions into parts that are as equal as can be.

    >>> parts(7, 3)
    [(0, 2), (2, 4), (4, 7)]
    """
    return [(number * size // count, (number + 1) * size // count) for number in range(count)]


def _buffers(program: Program, stage: int, sizes: Mapping[str, int]) -> list[Buffer]:
    lifetimes = program.lifetimes()
    end = program.operators[stage - 1].outputs[0]
    found = []
    for name, tensor in program.tensors.items():
        first, last = lifetimes[name]
        size = tensor.size
        if name == end:
            # The patches before this one are there already.
            first = 1
        elif name in program.inputs:
            last = max(last, stage)
        else:
            size = sizes.get(name, size)
        found.append(Buffer(aligned(size), first, last))
    return found


def _length(found: Mapping[str, Range], name: str) -> int:
    first, end = found.get(name, (0, 0))
    return end - first


def _needed(program: Program, operators: Sequence[Operator], end: str, dim: int, part: Range) -> dict[str, Range]:
    """Which positions of each tensor one part of the last one depends on, along one dimension."""
    found = {end: part}
    for operator in reversed(operators):
        own = found.get(operator.outputs[0])
        if own is None:
            continue
        assert operator.reads is not None
        for name, dims in zip(operator.inputs, operator.reads, strict=True):
            shape = program.tensors[name].shape
            if len(shape) <= dim:
                continue
            read = _read(dims, dim, own, shape[dim])
            before = found.get(name, read)
            found[name] = (min(before[0], read[0]), max(before[1], read[1]))
    return found


def _read(dims: Dims, dim: int, own: Range, size: int) -> Range:
    """The positions of an input, of which there are ``size``, that some positions of the output depend on."""
    way = dims.get(dim)
    if way is None or way.dim != dim:
        return 0, size
    first, last = own[0], own[1] - 1
    window: Window = way.window
    turn = len(window.taps)
    low = min(_tap(window, output, min) for output in range(first, min(first + turn, last + 1)))
    high = max(_tap(window, output, max) for output in range(max(first, last + 1 - turn), last + 1))
    # What lies outside is padding.
    return max(low, 0), min(high + 1, size)


def _tap(window: Window, output: int, which: Callable[[tuple[int, ...]], int]) -> int:
    turn, place = divmod(output, len(window.taps))
    return turn * window.step + which(window.taps[place])
