"""What of the input one position of a layer's output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from convstat.results.documents.codec import Count, Keys, Ratio


@dataclass(frozen=True, slots=True)
class Halo:
    """The positions of the input before and after a block that its outputs depend on."""

    KEYS: ClassVar = Keys(name="halo")
    before: Count
    after: Count


@dataclass(frozen=True, slots=True)
class Extent:
    """The receptive field of a layer in the first input, for each spatial dimension of that.

    An entry is None where all of the dimension is read, or where nothing is known; ``note`` says which.
    ``jump`` is the distance in the input between neighbouring outputs. ``halo`` is what exact processing by blocks
    needs around a block, which begins at a multiple of ``unit`` and is a multiple of it long; its outputs are those
    that belong to it: output ``o`` to position ``o * jump + offset``.
    """

    KEYS: ClassVar = Keys("receptive_field=size jump halo unit offset note", name="extent")
    size: tuple[Count | None, ...]
    jump: tuple[Ratio | None, ...]
    halo: tuple[Halo | None, ...]
    unit: tuple[Count | None, ...]
    offset: tuple[int | None, ...]
    note: Annotated[str | None, "where an entry is null: the whole input, or why it is not known"] = None

    @property
    def is_known(self) -> bool:
        """Whether there is a figure for every dimension."""
        return None not in self.size
