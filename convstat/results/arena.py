"""The memory of a network on a microcontroller: its arena, its flash, and what patches would save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from convstat.results.documents.codec import SPARSE, Count, Document, Keys, Least, OneOf, Shape
from convstat.results.report import ModelInfo

TARGETS = ("tflm",)
"""What can be asked for: TensorFlow Lite Micro."""

Bytes = Annotated[Count, "bytes"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor in the arena: ``offset`` is where it lies from operator ``first`` to operator ``last``.

    Operators are numbered from 1; 0 is before the first. ``bytes`` is its size, rounded up to the alignment.
    """

    KEYS: ClassVar = Keys(name="placed")
    name: str
    shape: Shape
    bytes: Bytes
    offset: Bytes
    first: Count
    last: Count


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator, and the bytes that are needed while it runs: its inputs, its outputs, and what is held for others.

    ``layer`` is the layer of the model that it is, or is a part of.
    """

    KEYS: ClassVar = Keys("layer op shape inputs outputs held alive", name="operation")
    layer: str
    op: str
    shape: Annotated[Shape, "of its first output"]
    inputs: Bytes
    outputs: Bytes
    held: Bytes

    @property
    def alive(self) -> Bytes:
        """All that is needed while it runs."""
        return self.inputs + self.outputs + self.held


@dataclass(frozen=True, slots=True)
class Patches:
    """The first operators patch by patch: ``grid`` x ``grid`` patches of what operator ``stage`` gives.

    ``macs`` are those that patches compute again because they overlap.
    """

    KEYS: ClassVar = Keys(name="patches")
    grid: Annotated[Count, Least(2)]
    stage: Annotated[Count, Least(1)]
    layer: Annotated[str, "the layer of the last operator of the stage"]
    arena_bytes: Bytes
    macs: Annotated[Count, "computed more than once"]


@dataclass(frozen=True, slots=True)
class Arena(Document):
    """What a network takes on a target: ``arena_bytes`` of RAM, and ``flash_bytes`` for its weights.

    ``least_bytes`` is the most that is needed at once, which no plan can go below. ``opaque`` are the kinds of layers
    that are several operators there, whose inner tensors are not part of it.
    """

    KEYS: ClassVar = Keys(
        "schema model target arena_bytes least_bytes flash_bytes macs operators tensors patches followed opaque "
        "missing",
        name="arena",
    )
    kind: ClassVar[str] = "arena"
    schema: ClassVar[str] = "convstat.arena/1"
    model: Annotated[ModelInfo, Keys("name source kind inputs batch overrides notes")]
    target: Annotated[str, OneOf(*TARGETS)]
    arena_bytes: Bytes
    least_bytes: Bytes
    flash_bytes: Annotated[Bytes, "of the weights, int8, and the biases, int32"]
    macs: Count
    operators: tuple[Operation, ...]
    tensors: tuple[Placed, ...]
    patches: tuple[Patches, ...] = ()
    followed: Annotated[Count, "how many of the first operators it is known of which positions they read"] = 0
    opaque: Annotated[tuple[str, ...], SPARSE] = ()
    missing: Annotated[tuple[str, ...], SPARSE, "operators that the target has no kernel for"] = ()

    @property
    def peak(self) -> int:
        """The place of the operator while which most is needed, the first of several."""
        return max(range(len(self.operators)), key=lambda place: self.operators[place].alive)
