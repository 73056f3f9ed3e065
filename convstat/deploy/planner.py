"""The greedy memory planner of TensorFlow Lite Micro: where in one arena each tensor lies while it is alive.

Buffers are placed one after the other, the largest first; of equal ones that which was added last. Each goes to the
first gap that is large enough between those that are alive at the same time, or behind them.
Source: ``GreedyMemoryPlanner`` in tensorflow/lite/micro/memory_planner/greedy_memory_planner.cc, and for the alignment
``MicroArenaBufferAlignment`` in tensorflow/lite/micro/micro_arena_constants.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 16
"""The bytes that the size of every buffer is rounded up to."""


class Buffer(NamedTuple):
    """Some bytes that are needed from one operator to another, both included; 0 is before the first operator."""

    size: int
    first: int
    last: int


def aligned(size: int) -> int:
    """The bytes that a buffer takes in an arena.

    >>> aligned(1), aligned(16), aligned(1000)
    (16, 16, 1008)
    """
    return -(-size // ALIGNMENT) * ALIGNMENT


def place(buffers: Sequence[Buffer]) -> list[int]:
    """The offset of each buffer.

    >>> place([Buffer(16, 0, 1), Buffer(32, 1, 2), Buffer(16, 2, 3)])
    [32, 0, 32]
    """
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for number in sorted(range(len(buffers)), key=lambda number: (-buffers[number].size, -number)):
        wanted = buffers[number]
        end = 0
        for other in placed:
            held = buffers[other]
            if held.first > wanted.last or wanted.first > held.last:
                continue
            if offsets[other] - end >= wanted.size:
                break
            end = max(end, offsets[other] + held.size)
        offsets[number] = end
        # By offset; behind those that begin at the same one.
        place = next((i for i, other in enumerate(placed) if offsets[other] > end), len(placed))
        placed.insert(place, number)
    return offsets


def size_of(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """The size of the arena."""
    return max((offset + buffer.size for offset, buffer in zip(offsets, buffers, strict=True)), default=0)


def alive(buffers: Sequence[Buffer]) -> list[int]:
    """The bytes that are needed at each moment; their largest is the least that any plan takes."""
    found = [0] * (1 + max((buffer.last for buffer in buffers), default=0))
    for buffer in buffers:
        for moment in range(buffer.first, buffer.last + 1):
            found[moment] += buffer.size
    return found
