"""Closed forms to show: params and MACs in the letters that were left free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar, NamedTuple

from convstat.formulas.symbolic.facts import Condition
from convstat.formulas.symbolic.forms import Form
from convstat.formulas.symbolic.terms import Exact
from convstat.formulas.symbolic.writing import Text, is_size
from convstat.results.documents.codec import Keys

Formula = Annotated[str, "in Python's notation, with floor, ceil, round8, min, max and gcd"]


class Letter(NamedTuple):
    """A letter of closed forms: what it is at present, and whether it stands for integers only."""

    name: str
    value: Exact
    is_integer: bool = True
    about: str = ""


class LayerForms(NamedTuple):
    """The closed forms of one call of a layer."""

    macs: Form
    params: Form


class Settled(NamedTuple):
    """A letter that could not be left free, its value, and why."""

    name: str
    value: Exact
    why: str = ""


@dataclass(frozen=True, slots=True)
class ClosedForms:
    """Closed forms of a model and of its layers, which are those of its report in the same order.

    They hold where all ``conditions`` do. ``sizes`` are the letters that sums are grouped by.
    """

    KEYS: ClassVar = Keys("letters=values settled=fixed conditions=said macs=whole_macs params=whole_params")
    letters: tuple[Letter, ...]
    settled: tuple[Settled, ...]
    conditions: tuple[Condition, ...]
    macs: Form
    params: Form
    layers: tuple[LayerForms, ...]
    sizes: frozenset[str]

    @property
    def writer(self) -> Text:
        """What writes the forms as text."""
        return Text(self.sizes)

    @property
    def values(self) -> Annotated[Mapping[str, Fraction], "the free letters, with their present values"]:
        """The letters with their values."""
        return {letter.name: Fraction(letter.value) for letter in self.letters}

    @property
    def fixed(
        self,
    ) -> Annotated[Mapping[str, Fraction], "letters that decide which layers there are: kept as they are"]:
        """The letters that are numbers here."""
        return {item.name: Fraction(item.value) for item in self.settled}

    @property
    def said(self) -> Annotated[tuple[str, ...], "the forms hold where all of these do"]:
        """The conditions in words."""
        return tuple(map(self.writer.condition, self.conditions))

    @property
    def telling(self) -> tuple[Condition, ...]:
        """The conditions that say more than that a size is at least 1."""
        return tuple(condition for condition in self.conditions if not is_size(condition))

    @property
    def whole_macs(self) -> Formula:
        """The MACs of the model."""
        return self.writer.form(self.macs)

    @property
    def whole_params(self) -> Formula:
        """The parameters of the model."""
        return self.writer.form(self.params)
