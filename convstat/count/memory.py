"""What the lifetimes of a run come to: its peak, and what is alive then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from convstat.results.memory import KINDS, PHASES, Alive, Memory, Moment, Point, Run
from convstat.results.report import ROOT, ModelInfo

if TYPE_CHECKING:
    from convstat.lifetimes import Lifetimes, Storage

MOST_POINTS = 500
"""Points of a curve, each the highest of its stretch."""


def measure(lifetimes: Lifetimes, model: ModelInfo, run: Run, name_of: Callable[[int], str]) -> Memory:
    """Make the result; ``name_of`` gives the name of a layer by its place."""
    curve = lifetimes.curve()
    top = max(range(len(curve)), key=curve.__getitem__)

    def moment(kernel: int) -> Moment:
        ran = lifetimes.kernels[kernel - 1] if kernel else None
        if ran is None:
            return Moment(kernel, "before", "", "", curve[kernel])
        return Moment(kernel, ran.phase, ran.op, _name(ran.module, name_of), curve[kernel])

    alive = lifetimes.alive(top)
    return Memory(
        model,
        run,
        moment(top),
        _by_kind(alive),
        tuple(moment(kernel) for kernel in _highest(lifetimes, curve)),
        _by_layer(alive, name_of),
        tuple(_points(lifetimes, curve)),
        len(lifetimes.kernels),
    )


def _name(module: int | None, name_of: Callable[[int], str]) -> str:
    return "" if module is None else name_of(module) or ROOT


def _by_kind(storages: Sequence[Storage]) -> dict[str, int]:
    found = dict.fromkeys(KINDS, 0)
    for storage in storages:
        found[storage.kind] += storage.size
    return found


def _highest(lifetimes: Lifetimes, curve: Sequence[int]) -> Iterator[int]:
    """The highest moment of each phase that there is, the first where several are as high."""
    for phase in PHASES[1:]:
        kernels = [place for place, kernel in enumerate(lifetimes.kernels, 1) if kernel.phase == phase]
        if kernels:
            yield max(kernels, key=curve.__getitem__)


def _by_layer(storages: Sequence[Storage], name_of: Callable[[int], str]) -> tuple[Alive, ...]:
    groups: dict[tuple[str, str], list[Storage]] = {}
    for storage in storages:
        groups.setdefault((_name(storage.module, name_of), storage.kind), []).append(storage)
    found = []
    for (layer, kind), group in groups.items():
        largest = max(group, key=lambda storage: storage.size)
        size = sum(storage.size for storage in group)
        found.append(Alive(layer, kind, size, len(group), largest.shape, largest.dtype, largest.op))
    return tuple(sorted(found, key=lambda alive: -alive.bytes))


def _points(lifetimes: Lifetimes, curve: Sequence[int]) -> Iterator[Point]:
    """The curve by kinds, thinned out: of each stretch its highest moment, so that no peak is lost."""
    stretch = -(-len(curve) // MOST_POINTS)
    wanted = {
        max(range(start, min(start + stretch, len(curve))), key=curve.__getitem__)
        for start in range(0, len(curve), stretch)
    }
    changes: list[dict[str, int]] = [{} for _ in range(len(curve) + 1)]
    for storage in lifetimes.storages:
        for place, size in ((storage.born, storage.size), (storage.freed, -storage.size)):
            if place is not None:
                change = changes[place + (size < 0)]
                change[storage.kind] = change.get(storage.kind, 0) + size
    alive = dict.fromkeys(KINDS, 0)
    for kernel in range(len(curve)):
        for kind, size in changes[kernel].items():
            alive[kind] += size
        if kernel in wanted:
            phase = lifetimes.kernels[kernel - 1].phase if kernel else "before"
            yield Point(kernel, phase, dict(alive))
