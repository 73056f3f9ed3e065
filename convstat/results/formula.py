"""Formulas to show: of a network layer by layer, or of a kind of layer in general."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

from convstat.formulas.notation import Symbol, explained
from convstat.layers.notes import Form, Notes
from convstat.results.report import LayerRow, Report

SCHEMA = "convstat.formula/1"


class Term(NamedTuple):
    """A part of a count, ``times`` over: what it counts, its formula in letters and in numbers, and what it comes to.

    ``symbols`` and ``numbers`` are empty where there is an amount and no formula.
    """

    about: str
    symbols: str
    numbers: str
    values: tuple[tuple[str, int], ...]
    value: int
    times: int = 1

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

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; ``value`` is that of the formula, ``times`` how often it is there."""
        return {
            "about": self.about,
            "symbols": self.symbols or None,
            "numbers": self.numbers or None,
            "values": dict(self.values),
            "value": self.value,
            "times": self.times,
        }


def joined(texts: Iterable[str]) -> str:
    """The sum of some formulas; empty where one of them is missing."""
    every = tuple(texts)
    return " + ".join(every) if all(every) else ""


class Formula:
    """Formulas to show: those of a network, or that of a kind of layer."""

    kind: ClassVar[str] = "formula"

    __slots__ = ()


class LayerFormula(NamedTuple):
    """A call of a layer: its counts, and the terms that sum up to each."""

    row: LayerRow
    macs: tuple[Term, ...]
    params: tuple[Term, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.row.name,
            "type": self.row.type,
            "input_shapes": [list(shape) for shape in self.row.input_shapes],
            "output_shapes": [list(shape) for shape in self.row.output_shapes],
            "shares": self.row.shares,
            "macs": {"value": self.row.macs, "terms": [term.to_dict() for term in self.macs]},
            "params": {"value": self.row.params, "terms": [term.to_dict() for term in self.params]},
        }


class NetworkFormula(Formula):
    """Every layer of a model with its formulas, in order; the counts are those of its report."""

    __slots__ = ("layers", "report")

    def __init__(self, report: Report, layers: tuple[LayerFormula, ...]) -> None:
        self.report = report
        self.layers = layers

    def symbols(self) -> tuple[Symbol, ...]:
        """The letters that occur, and what they mean."""
        return explained(term.symbols for layer in self.layers for term in (*layer.macs, *layer.params))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        model, totals = self.report.model, self.report.totals
        inputs = [item.to_dict() for item in model.inputs]
        return {
            "schema": SCHEMA,
            "model": {
                "name": model.name,
                "source": model.source,
                "kind": model.kind,
                "inputs": inputs,
                "batch": model.batch,
                "overrides": dict(model.overrides),
            },
            "totals": {"params": totals.params, "macs": totals.macs, "flops": totals.flops},
            "layers": [layer.to_dict() for layer in self.layers],
            "symbols": {symbol.text: symbol.meaning for symbol in self.symbols()},
        }


KIND_SCHEMA = "convstat.formula-kind/1"


class KindFormula(Formula):
    """The formula of a kind of layer or of a block; ``use`` is how it is written with sizes."""

    __slots__ = ("about", "macs", "name", "notes", "params", "use")

    def __init__(
        self, name: str, about: str, macs: tuple[Form, ...], params: tuple[Form, ...], notes: Notes, use: str
    ) -> None:
        self.name = name
        self.about = about
        self.macs = macs
        self.params = params
        self.notes = notes
        self.use = use

    def symbols(self) -> tuple[Symbol, ...]:
        """The letters that occur, and what they mean."""
        return explained(form.symbols for form in (*self.macs, *self.params))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "schema": KIND_SCHEMA,
            "name": self.name,
            "about": self.about,
            "macs": [form.to_dict() for form in self.macs],
            "params": [form.to_dict() for form in self.params],
            "symbols": {symbol.text: symbol.meaning for symbol in self.symbols()},
            "why": list(self.notes.why),
            "special": [{"case": case, "text": text} for case, text in self.notes.special],
            "output": self.notes.output or None,
            "sources": list(self.notes.sources),
            "use": self.use or None,
        }


def combined(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms of one formula with the same values as one, whatever they count.

    >>> weight = Term("weight", "C", "64", (("C", 64),), 64)
    >>> [(found.times, found.symbols) for found in combined([weight, weight._replace(about="bias")])]
    [(2, 'C')]
    """
    return _merged(terms, lambda found: (found.symbols, found.numbers, found.values, found.value))


def gathered(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms that count the same with one formula and the same values as one."""
    return _merged(terms, lambda found: found._replace(times=1))


def _merged(terms: Iterable[Term], key: Callable[[Term], Any]) -> tuple[Term, ...]:
    first: dict[Any, Term] = {}
    for found in terms:
        same = key(found)
        first[same] = found if same not in first else first[same]._replace(times=first[same].times + found.times)
    return tuple(first.values())
