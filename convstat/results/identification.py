"""What a number is, of a model: the figures that match it, and those that nearly do."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from convstat.results.report import ModelInfo

SCHEMA = "convstat.identification/1"


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was printed: so many units of its last digit."""

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
        return Fraction(base**self.power, 10**self.decimals)

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
    distance: Fraction
    reading: str = ""
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; ``distance`` is the figure minus the number, as a part of the number."""
        return {
            "counter": self.counter,
            "version": self.version,
            "figure": self.figure,
            "value": self.value.numerator if self.value.denominator == 1 else float(self.value),
            "distance": float(self.distance),
            "reading": self.reading or None,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Identification:
    """What a number is, of a model: the figures that match, the best first, and those that nearly do."""

    kind: ClassVar[str] = "identification"
    text: str
    number: Number
    model: ModelInfo
    matches: tuple[Candidate, ...]
    near: tuple[Candidate, ...]
    silent: tuple[tuple[str, str], ...] = ()
    looked_at: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        value = self.number.value
        return {
            "schema": SCHEMA,
            "number": {"text": self.text, "value": value.numerator if value.denominator == 1 else float(value)},
            "model": {
                "name": self.model.name,
                "source": self.model.source,
                "inputs": [item.to_dict() for item in self.model.inputs],
                "batch": self.model.batch,
            },
            "matches": [candidate.to_dict() for candidate in self.matches],
            "near": [candidate.to_dict() for candidate in self.near],
            "silent": [{"counter": name, "reason": reason} for name, reason in self.silent],
            "looked_at": self.looked_at,
        }
