"""What a number is, of a model: the figures that match it, and those that nearly do."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar, NamedTuple

from convstat.results.documents.codec import BLANK, Count, Document, Keys, Ratio
from convstat.results.report import ModelInfo


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was printed: so many units of its last digit.

    ``decimals`` is negative where an exponent puts the last digit before the decimal point.
    """

    text: str
    digits: int
    decimals: int
    prefix: str = ""
    power: int = 0
    binary: bool = False
    figures: str | None = None
    per_pixel: bool = False

    def unit(self, base: int) -> Fraction:
        """What one of its last digit is worth."""
        return Fraction(base) ** self.power / Fraction(10) ** self.decimals

    @property
    def value(self) -> Fraction:
        """The number itself."""
        return self.digits * self.unit(1024 if self.binary else 1000)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A figure that may be the number: whose it is, what it is, and how it is read."""

    counter: str
    version: str | None
    figure: str
    value: Fraction
    distance: Annotated[Ratio, "the figure minus the number, as a part of the number"]
    reading: Annotated[str, BLANK, "how the figure is that number; null for a near miss"] = ""
    note: str | None = None


class Silent(NamedTuple):
    """A counter that has no figure, and why."""

    counter: str
    reason: str


@dataclass(frozen=True, slots=True)
class Identification(Document):
    """What a number is, of a model: the figures that match, the best first, and those that nearly do."""

    KEYS: ClassVar = Keys("schema number model matches near silent looked_at", name="identification")
    kind: ClassVar[str] = "identification"
    schema: ClassVar[str] = "convstat.identification/1"
    number: Annotated[Number, Keys("text value")]
    model: Annotated[ModelInfo, Keys("name source inputs batch")]
    matches: tuple[Candidate, ...]
    near: tuple[Candidate, ...]
    silent: tuple[Silent, ...] = ()
    looked_at: Count = 0
