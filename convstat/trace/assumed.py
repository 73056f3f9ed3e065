"""What is assumed of tensors that have no values, and whether it matters.

A forward pass that reads a value may only scale by it, log it or check it; or it may decide by it what runs next.
A mask may keep all or nothing, and an index choose one thing or another.
So the pass is run once for each of several choices that answer every comparison, size, mask and index differently.
Where all cost the same, the data do not matter, and the count is exact; where they do not, the largest cost is given,
as an upper bound, with what it rests on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Literal, TypeVar

from convstat.trace.routing import FIRST

Kind = Literal["truth", "size", "number"]
"""What is read: from a tensor of bools, of integers, and of all others."""

Found = TypeVar("Found")
Costs = TypeVar("Costs", bound="Outcome")


@dataclass(frozen=True, slots=True)
class Values:
    """What is read, by its kind."""

    truth: bool
    size: int
    number: float

    def of(self, kind: Kind) -> bool | int | float:
        """What is read of a kind.

        >>> KNOWN.of("size")
        1
        """
        return {"truth": self.truth, "size": self.size, "number": self.number}[kind]

    def only(self, kinds: Collection[Kind]) -> dict[Kind, bool | int | float]:
        """What is read of some kinds."""
        return {kind: self.of(kind) for kind in kinds}


KNOWN = Values(truth=False, size=1, number=1.0)
"""For models whose control flow is known not to matter.

False, so that min and max of tensors keep their first argument: then the two ends of a slice stay equal,
and the empty part of a mask is pasted into an empty part of the picture.
"""

SETS = (
    Values(truth=False, size=1, number=1.0),
    Values(truth=True, size=2, number=1e6),
    Values(truth=False, size=0, number=-1e6),
)
"""Values on both sides of whatever a model may compare them with."""


class Kept(Enum):
    """How much of what it could keep a mask keeps; its complement keeps the rest."""

    ALL = "all"
    HALF = "half"
    NONE = "none"

    def of(self, count: int) -> int:
        """How many of so many are kept.

        >>> Kept.ALL.of(5), Kept.HALF.of(5), Kept.NONE.of(5)
        (5, 2, 0)
        """
        return {"all": count, "half": count // 2, "none": 0}[self.value]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is assumed in one forward pass.

    ``values`` are what is read, None where nothing can be; ``kept`` says how much masks keep, and ``paired`` which
    of the masks that are complements, by their number, keep the rest of another one that is used beside them.
    ``routing`` says which indices are chosen (:mod:`convstat.trace.routing`); None leaves them without values.
    """

    values: Values | None = None
    kept: Kept = Kept.ALL
    routing: int | None = FIRST
    paired: frozenset[int] = frozenset()


LARGEST = Choice()
"""Every mask keeps all that it can, and no value is read."""

MOST_TURNED = 8
"""Answers that are turned for the sake of one pass: a check that fails is passed the other way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass costs: MACs, and the rest by its entries."""

    macs: int
    other: dict[str, int]


@dataclass(frozen=True, slots=True)
class Tried(Outcome, Generic[Found]):
    """What came of a choice, and what it costs."""

    found: Found


def largest(outcomes: Sequence[Costs]) -> Costs:
    """The one that costs most; of several, the first."""
    return max(outcomes, key=lambda outcome: (outcome.macs, sum(outcome.other.values())))


def same_macs(outcomes: Sequence[Outcome]) -> bool:
    """Whether the values do not change the MACs."""
    return len({outcome.macs for outcome in outcomes}) == 1


def verdict(outcomes: Sequence[Outcome], failed: int) -> str:
    """What the outcomes say, in words.

    >>> verdict([Outcome(32, {}), Outcome(48, {})], failed=0)
    'the count depends on them: 32 to 48 MACs; the largest is reported'
    """
    least, most = min(outcome.macs for outcome in outcomes), max(outcome.macs for outcome in outcomes)
    if least != most:
        return f"the count depends on them: {least:,} to {most:,} MACs; the largest is reported"
    if failed:
        return "with some of them the forward pass fails or does not end; the MACs of the others are the same"
    if any(outcome.other != outcomes[0].other for outcome in outcomes):
        return "the MACs do not depend on them; other work does, of which the most is given"
    return "the count does not depend on them"
