"""The memory that a model takes: its peak, what makes it, and how it rises and falls over the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from convstat.results.documents.codec import SPARSE, Count, Document, Each, Keys, Least, OneOf, Shape
from convstat.results.report import ModelInfo

KINDS = ("weights", "buffers", "inputs", "activations", "saved", "gradients", "optimizer", "temporaries")
"""What memory is for, in the order in which it is shown."""

PHASES = ("before", "forward", "backward", "step")

Bytes = Annotated[Count, "bytes"]
ByKind = Annotated[
    Mapping[str, Bytes],
    Each(*KINDS),
    "bytes by what they are for: saved is what the forward pass leaves alive for the backward pass, activations are "
    "its other tensors, temporaries those of the backward pass and of the optimizer",
]
Phase = Annotated[str, OneOf(*PHASES)]


@dataclass(frozen=True, slots=True)
class Run:
    """What is run: ``infer`` is a forward pass without gradients, ``train`` a whole step of training.

    ``device`` is the kind of device whose kernels are meant, ``amp`` the dtype of autocast, ``checkpoint`` the patterns
    of the modules that are checkpointed, and ``accumulated`` over how many batches gradients are summed up.
    """

    mode: Annotated[str, OneOf("infer", "train")] = "infer"
    device: Annotated[str, OneOf("cpu", "cuda")] = "cuda"
    optimizer: str = "none"
    accumulated: Annotated[Count, Least(1)] = 1
    amp: Annotated[str | None, OneOf("float16", "bfloat16", None)] = None
    checkpoint: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of the run: while ``op`` runs, the ``kernel``-th; kernel 0 is before any has run."""

    KEYS: ClassVar = Keys(name="moment")
    kernel: Count
    phase: Phase
    op: str
    layer: str
    bytes: Bytes


@dataclass(frozen=True, slots=True)
class Alive:
    """What of one kind one layer has alive at the peak: how many storages, how large, and the largest of them."""

    KEYS: ClassVar = Keys(name="alive")
    layer: str
    kind: Annotated[str, OneOf(*KINDS)]
    bytes: Bytes
    storages: Count
    shape: Annotated[Shape, "of the largest"]
    dtype: str
    op: Annotated[str, "what allocated the largest; empty for what was there before"] = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the curve: the highest moment of a stretch of the run."""

    KEYS: ClassVar = Keys(name="point")
    kernel: Count
    phase: Phase
    kinds: ByKind

    @property
    def bytes(self) -> int:
        """All that is alive."""
        return sum(self.kinds.values())


@dataclass(frozen=True, slots=True)
class Fit:
    """The largest value of ``variable`` with which the peak is at most ``limit``; None where not even the least fits.

    ``next_bytes`` is the peak of the next larger value, None where that cannot be run.
    """

    limit: Bytes
    device: Annotated[str, "the card that was named, or empty"]
    variable: str
    largest: Count | None
    bytes: Annotated[Bytes, "the peak with it, or with the least"]
    next_bytes: Bytes | None


PeerByKind = Annotated[Mapping[str, int], Each(*KINDS), "bytes by what they are for; what is saved is in activations"]


@dataclass(frozen=True, slots=True)
class MemoryCause:
    """One reason why another tool finds another peak, and by how much, from rules of its own."""

    KEYS: ClassVar = Keys(name="memory_cause")
    code: str
    text: str
    kinds: PeerByKind

    @property
    def bytes(self) -> int:
        """What it adds to the peak."""
        return sum(self.kinds.values())


@dataclass(frozen=True, slots=True)
class PeerMemory:
    """The peak that another tool reports of the same run: the difference is the sum of the causes and what is left."""

    KEYS: ClassVar = Keys(name="memory_peer")
    name: str
    version: str
    status: Annotated[str, OneOf("ok", "failed", "unavailable")]
    kinds: PeerByKind = field(default_factory=dict)
    difference: PeerByKind = field(default_factory=dict)
    causes: tuple[MemoryCause, ...] = ()
    unexplained: PeerByKind = field(default_factory=dict)
    error: str | None = None

    @property
    def bytes(self) -> int:
        """The peak."""
        return sum(self.kinds.values())


@dataclass(frozen=True, slots=True)
class Memory(Document):
    """The memory of one run of a model; the ``peak`` is one of its moments, ``kinds`` what is alive then.

    ``phases`` are the highest moments of each phase, ``alive`` what is alive at the peak by layer, the largest first.
    """

    KEYS: ClassVar = Keys("schema model run peak kinds phases alive curve kernels fit peers", name="memory")
    kind: ClassVar[str] = "memory"
    schema: ClassVar[str] = "convstat.memory/1"
    model: Annotated[ModelInfo, Keys("name source kind inputs batch dtype overrides notes")]
    run: Run
    peak: Moment
    kinds: ByKind
    phases: tuple[Moment, ...]
    alive: tuple[Alive, ...]
    curve: tuple[Point, ...]
    kernels: Count
    fit: Annotated[Fit | None, SPARSE] = None
    peers: Annotated[tuple[PeerMemory, ...], SPARSE] = ()
