"""The ratio of two layers, blocks or networks to show: in letters and in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar, NamedTuple

from convstat.formulas.notation import Symbol
from convstat.formulas.symbolic.facts import Condition
from convstat.formulas.symbolic.forms import Form
from convstat.formulas.symbolic.quotients import write_quotient
from convstat.formulas.symbolic.terms import Exact, Polynomial
from convstat.formulas.symbolic.writing import Text, is_size, latex_letter
from convstat.results.closed import Formula as Written
from convstat.results.closed import Letter
from convstat.results.documents.codec import Count, Keys, Ratio
from convstat.results.formula import Formula


class Quotient(NamedTuple):
    """A quotient in lowest terms."""

    over: Polynomial
    under: Polynomial

    def value(self, values: Mapping[str, Exact]) -> Fraction:
        """What it comes to."""
        return Fraction(self.over.value(values)) / Fraction(self.under.value(values))

    def write(self, write: Text) -> str:
        """The quotient as text."""
        return write_quotient(self, write)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its name, its closed forms, and what they come to; ``weights`` are without biases and norms."""

    KEYS: ClassVar = Keys("name macs=written_macs weights=written_weights params=written_params counts")
    name: str
    macs: Form
    weights: Form
    params: Form
    counts: Annotated[Mapping[str, Count], "what the forms come to for the values of the letters"]

    @property
    def written_macs(self) -> Written:
        """The MACs."""
        return Text().form(self.macs)

    @property
    def written_weights(self) -> Written:
        """The weights."""
        return Text().form(self.weights)

    @property
    def written_params(self) -> Written:
        """The parameters."""
        return Text().form(self.params)


@dataclass(frozen=True, slots=True)
class FigureRatio:
    """The ratio of one figure, and what it is in a special case."""

    KEYS: ClassVar = Keys("figure symbols value case special")
    figure: str
    quotient: Quotient
    value: Annotated[Ratio, "for the values of the letters"]
    case: Annotated[str | None, "a special case in which it is simpler"] = None
    in_case: Quotient | None = None

    @property
    def symbols(self) -> Written:
        """The ratio in letters."""
        return self.quotient.write(Text())

    @property
    def special(self) -> Annotated[str | None, "the ratio in that case"]:
        """The ratio in the special case."""
        return None if self.in_case is None else self.in_case.write(Text())


@dataclass(frozen=True, slots=True)
class RatioFormula(Formula):
    """The ratio of two sets of closed forms; it holds where all ``conditions`` do."""

    KEYS: ClassVar = Keys(
        "schema first second ratios letters=values symbols=meanings assumed conditions=said", name="ratio"
    )
    schema: ClassVar[str] = "convstat.formula-ratio/1"
    first: Side
    second: Side
    ratios: tuple[FigureRatio, ...]
    letters: tuple[Letter, ...]
    assumed: Annotated[tuple[str, ...], "what was set where nothing was written"]
    conditions: tuple[Condition, ...]

    @property
    def values(self) -> Annotated[Mapping[str, Fraction], "the letters, with the values that the numbers are for"]:
        """The letters with their values."""
        return {letter.name: Fraction(letter.value) for letter in self.letters}

    @property
    def said(self) -> Annotated[tuple[str, ...], "the ratio holds where all of these do"]:
        """The conditions in words."""
        return tuple(map(Text().condition, self.conditions))

    @property
    def telling(self) -> tuple[Condition, ...]:
        """The conditions that say more than that a size is an integer of at least 1."""
        return tuple(
            condition
            for condition in self.conditions
            if not is_size(condition) and (condition.says != "is an integer" or condition.about.single is None)
        )

    def symbols(self) -> tuple[Symbol, ...]:
        """What the letters mean that were not written by whoever asked."""
        return tuple(Symbol(item.name, latex_letter(item.name), item.about) for item in self.letters if item.about)
