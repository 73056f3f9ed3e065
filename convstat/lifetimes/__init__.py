"""When the storage of each tensor of a run is allocated, and when it is released.

The clock counts kernels, from 1. What kernel 7 allocates is alive from 7 on; what is released after kernel 7 has run,
and before kernel 8 does, was alive at 7 and is not at 8. What is alive before the first kernel is born at 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["weights", "buffers", "inputs", "activations", "saved", "gradients", "optimizer", "temporaries"]
"""What a storage is for.

``saved`` for the backward pass are those of the forward pass that are alive when it is over; ``activations`` the
others, with the outputs. ``temporaries`` are those of the backward pass and of the optimizer that neither keeps.
"""

Phase = Literal["before", "forward", "backward", "step"]


@dataclass(slots=True, eq=False)
class Storage:
    """The memory that one or more tensors share: ``size`` bytes, alive from ``born`` to ``freed``, both included.

    ``freed`` is None for what outlives the run. ``module`` is the place of the module that allocated it, in the
    backward pass of the one whose forward kernel is gone back through. ``shape`` and ``dtype`` are those of the
    tensor that it was allocated for.
    """

    size: int
    born: int
    phase: Phase
    module: int | None
    op: str
    shape: tuple[int, ...]
    dtype: str
    kind: Kind
    freed: int | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """What ran at one tick of the clock."""

    op: str
    phase: Phase
    module: int | None


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """All storages of a run in the order of their allocation, and its kernels."""

    storages: list[Storage] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)

    def curve(self, rounding: int = 1) -> list[int]:
        """The bytes that are alive before any kernel has run, and then while each runs, its results included.

        With ``rounding``, the size of each storage is rounded up to a multiple of it.
        """
        change = [0] * (len(self.kernels) + 2)
        for storage in self.storages:
            size = -(-storage.size // rounding) * rounding
            change[storage.born] += size
            if storage.freed is not None:
                change[storage.freed + 1] -= size
        found, alive = [], 0
        for step in change[:-1]:
            alive += step
            found.append(alive)
        return found

    def alive(self, moment: int) -> list[Storage]:
        """What is alive at a tick of the clock."""
        return [
            storage
            for storage in self.storages
            if storage.born <= moment and (storage.freed is None or storage.freed >= moment)
        ]
