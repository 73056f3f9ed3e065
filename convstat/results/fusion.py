"""What was fused on the way from the trained form of a model to the deployed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

from convstat.results.documents.codec import Count, Keys


@dataclass(frozen=True, slots=True)
class Folded:
    """A batch norm that is part of a layer now."""

    KEYS: ClassVar = Keys(name="folded")
    name: str
    into: str


@dataclass(frozen=True, slots=True)
class Merged:
    """A layer, and those that it was made of."""

    KEYS: ClassVar = Keys(name="merged")
    name: str
    of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A batch norm that cannot be folded, and why."""

    KEYS: ClassVar = Keys(name="kept")
    layer: str
    reason: str


class Changes(NamedTuple):
    """The batch norms that were folded, the layers that were merged, and the norms that stay.

    ``called`` are methods of the model's own that were called to fuse it: ``reparameterize of stages.0``.
    """

    folded: tuple[Folded, ...] = ()
    merged: tuple[Merged, ...] = ()
    kept: tuple[Kept, ...] = ()
    called: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trained:
    """The figures of the form that is trained, before anything was fused."""

    KEYS: ClassVar = Keys("params trainable_params buffers weight_bytes macs flops layers", name="trained")
    params: Count
    trainable_params: Count
    buffers: Count
    weight_bytes: Count
    macs: Count
    layers: Count

    @property
    def flops(self) -> Count:
        """Twice the MACs."""
        return 2 * self.macs


@dataclass(frozen=True, slots=True)
class Fusion:
    """How a model was brought from its trained form to the deployed one, which its report counts.

    ``check`` says in words how far the outputs of both lie apart on the same input; None where there are no weights to
    compute with.
    """

    KEYS: ClassVar = Keys(name="fusion")
    trained: Trained
    folded: Annotated[tuple[Folded, ...], "batch norms, each with the layer that it is part of now"] = ()
    merged: Annotated[tuple[Merged, ...], "layers that are the sum of parallel ones"] = ()
    kept: Annotated[tuple[Kept, ...], "batch norms that stay, and why"] = ()
    called: Annotated[tuple[str, ...], "methods of the model's own that were called"] = ()
    check: Annotated[str | None, "how far the outputs of both forms lie apart, where they were computed"] = None
