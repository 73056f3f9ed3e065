"""Formulas to show: of a network layer by layer, or of a kind of layer in general."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, NamedTuple

from convstat.formulas.notation import Symbol, explained
from convstat.formulas.notes import Form, Notes
from convstat.results import closed as closed_forms
from convstat.results.closed import ClosedForms
from convstat.results.documents.codec import BLANK, Count, Document, Keys
from convstat.results.report import LayerRow, ModelInfo, Report, Totals

Symbols = Annotated[str, BLANK, "products, quotients and sums of the names in values; null: no formula"]


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a count, ``times`` over: what it counts, its formula in letters and in numbers, and what it comes to.

    ``symbols`` and ``numbers`` are empty where there is an amount and no formula; ``value`` is that of the formula,
    once.
    """

    KEYS: ClassVar = Keys("about symbols numbers values=sizes value times")
    about: str
    symbols: Symbols
    numbers: Annotated[str, BLANK]
    values: tuple[tuple[str, int], ...]
    value: int
    times: Count = 1

    @property
    def sizes(self) -> Mapping[str, int]:
        """The values by their letters."""
        return dict(self.values)

    @property
    def total(self) -> int:
        """What all of it comes to."""
        return self.value * self.times

    @property
    def in_symbols(self) -> str:
        """The formula in letters, with how often it is there: ``3 * C_out*C_in``."""
        return self._often(self.symbols)

    @property
    def in_numbers(self) -> str:
        """The formula in numbers, with how often it is there; of an amount without a formula, that."""
        return self._often(self.numbers or str(self.value))

    def _often(self, text: str) -> str:
        if self.times == 1 or not text:
            return text
        return f"{self.times} * ({text})" if " + " in text else f"{self.times} * {text}"


def joined(texts: Iterable[str]) -> str:
    """The sum of some formulas; empty where one of them is missing."""
    every = tuple(texts)
    return " + ".join(every) if all(every) else ""


@dataclass(frozen=True, slots=True)
class Summed:
    """A count, and the terms that sum up to it."""

    value: Count
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class LayerFormula:
    """A call of a layer: its counts, and the terms that sum up to each."""

    row: LayerRow
    macs: tuple[Term, ...]
    params: tuple[Term, ...]

    @property
    def summed_macs(self) -> Summed:
        """The MACs with their terms."""
        return Summed(self.row.macs, self.macs)

    @property
    def summed_params(self) -> Summed:
        """The parameters with their terms."""
        return Summed(self.row.params, self.params)


class ClosedLayer(NamedTuple):
    """The closed forms of a call of a layer."""

    macs: closed_forms.Formula
    params: closed_forms.Formula


@dataclass(frozen=True, slots=True)
class LayerInLetters:
    """A call of a layer in a document: its formula, and its closed forms where there are free letters."""

    KEYS: ClassVar = Keys(
        "layer.row.name layer.row.type layer.row.input_shapes layer.row.output_shapes layer.row.shares"
        " macs=layer.summed_macs params=layer.summed_params closed"
    )
    layer: LayerFormula
    closed: ClosedLayer | None = None


class Formula(Document):
    """Formulas to show: those of a network, or that of a kind of layer."""

    kind: ClassVar[str] = "formula"

    __slots__ = ()

    def symbols(self) -> tuple[Symbol, ...]:
        """The letters that occur, and what they mean."""
        raise NotImplementedError

    @property
    def meanings(self) -> Mapping[str, str]:
        """What the letters mean."""
        return {symbol.text: symbol.meaning for symbol in self.symbols()}


@dataclass(frozen=True, slots=True)
class NetworkFormula(Formula):
    """Every layer of a model with its formulas, in order; the counts are those of its report."""

    KEYS: ClassVar = Keys("schema model totals layers=closed_layers closed symbols=meanings", name="formula")
    schema: ClassVar[str] = "convstat.formula/1"
    report: Report
    layers: tuple[LayerFormula, ...]
    closed: ClosedForms | None = None

    @property
    def model(self) -> Annotated[ModelInfo, Keys("name source kind inputs batch overrides")]:
        """The model."""
        return self.report.model

    @property
    def totals(self) -> Annotated[Totals, Keys("params macs flops")]:
        """The counts of the model."""
        return self.report.totals

    @property
    def closed_layers(self) -> tuple[LayerInLetters, ...]:
        """The layers, each with its closed forms."""
        if self.closed is None:
            return tuple(LayerInLetters(layer) for layer in self.layers)
        writer = self.closed.writer
        texts = {form: writer.form(form) for layer in self.closed.layers for form in layer}
        return tuple(
            LayerInLetters(layer, ClosedLayer(texts[closed.macs], texts[closed.params]))
            for layer, closed in zip(self.layers, self.closed.layers, strict=True)
        )

    def symbols(self) -> tuple[Symbol, ...]:
        """The letters that occur, and what they mean."""
        return explained(term.symbols for layer in self.layers for term in (*layer.macs, *layer.params))


class Special(NamedTuple):
    """A special case of a formula."""

    case: str
    text: str


@dataclass(frozen=True, slots=True)
class KindFormula(Formula):
    """The formula of a kind of layer or of a block; ``use`` is how it is written with sizes."""

    KEYS: ClassVar = Keys(
        "schema name about macs params symbols=meanings notes.why special output notes.sources use", name="kind_formula"
    )
    schema: ClassVar[str] = "convstat.formula-kind/1"
    name: str
    about: str
    macs: tuple[Form, ...]
    params: tuple[Form, ...]
    notes: Notes
    use: Annotated[str, BLANK]

    @property
    def special(self) -> tuple[Special, ...]:
        """The special cases."""
        return tuple(Special(*case) for case in self.notes.special)

    @property
    def output(self) -> Annotated[str, BLANK]:
        """What is to be said of the size of the output."""
        return self.notes.output

    def symbols(self) -> tuple[Symbol, ...]:
        """The letters that occur, and what they mean."""
        return explained(form.symbols for form in (*self.macs, *self.params))


def combined(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms of one formula with the same values as one, whatever they count.

    >>> weight = Term("weight", "C", "64", (("C", 64),), 64)
    >>> [(found.times, found.symbols) for found in combined([weight, replace(weight, about="bias")])]
    [(2, 'C')]
    """
    return _merged(terms, lambda found: (found.symbols, found.numbers, found.values, found.value))


def gathered(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms that count the same with one formula and the same values as one."""
    return _merged(terms, lambda found: replace(found, times=1))


def _merged(terms: Iterable[Term], key: Callable[[Term], Any]) -> tuple[Term, ...]:
    first: dict[Any, Term] = {}
    for found in terms:
        same = key(found)
        first[same] = found if same not in first else replace(first[same], times=first[same].times + found.times)
    return tuple(first.values())
