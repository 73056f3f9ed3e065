"""The formulas of a whole network, layer by layer, with their values; no counter has a part in it.

What a layer's formula is, and that it comes to what is counted, is decided elsewhere (:mod:`convstat.steps`).
Here its words become letters, so that it can be printed, worked out by others, and put into a paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from convstat import api
from convstat.errors import Diagnostic, UsageError
from convstat.formulas.derivation import Factor, Product
from convstat.formulas.notation import SYMBOLS, Symbol, explained, expression
from convstat.report import LayerRow, Report
from convstat.steps import Step, closed, folded, of_node, of_trace, params_of_node, params_of_trace

if TYPE_CHECKING:
    from convstat.analysis import Subject

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


def term(step: Step) -> Term:
    """Put a step into letters.

    >>> from convstat.formulas.derivation import conv
    >>> found = term(Step("weight", 256, conv(1, 8, 8, (2, 2), (1, 1), 1)))
    >>> found.symbols, found.numbers
    ('C_out*H_out*W_out*(C_in/g)*k_h*k_w', '8*2*2*8*1*1')
    """
    if step.formula is None:
        # The size of a vector without a name of its own.
        return Term(step.about, "", "", (), step.value, step.times)
    values: dict[str, int] = {}
    texts = [_in_letters(product, values) for product in step.formula.products]
    symbols, numbers = (" + ".join(column) for column in zip(*texts, strict=True))
    return Term(step.about, symbols, numbers, tuple(values.items()), step.value, step.times)


def _in_letters(product: Product, values: dict[str, int]) -> tuple[str, str]:
    """A product in letters and in numbers; the values of its letters are added to those there are."""
    if product.symbols.endswith("elements"):
        letter = SYMBOLS["elements"].text
        values[letter] = product.value
        return letter, "*".join(str(factor.value) for factor in product.factors)
    letters, numbers = [], []
    for factor in product.factors:
        named = factor.parts or ((factor.name, factor.value),)
        parts = [(expression(name), size) for name, size in named]
        # Two of one name and of two sizes, as the parts of a sum may have: the second is a number.
        is_known = all(name.isidentifier() and values.get(name, size) == size for name, size in parts)
        letters.append(expression(factor.name) if is_known else str(factor.value))
        values.update(parts if is_known else ())
        numbers.append(_in_numbers(factor) if is_known else str(factor.value))
    # A product of nothing is one.
    return "*".join(letters) or "1", "*".join(numbers) or "1"


def _in_numbers(factor: Factor) -> str:
    """A factor in numbers: of one like ``3*embed_dim`` each, of a quotient or a sum what it comes to."""
    if "*" not in factor.name:
        return str(factor.value)
    sizes = dict(factor.parts)
    return "*".join(str(sizes.get(name, name)) for name in factor.name.split("*"))


class Formula:
    """Formulas to show: those of a network, or that of a kind of layer."""

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
        inputs = [{"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in model.inputs]
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


def network(
    argument: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    warn: Callable[[Sequence[Diagnostic]], None] | None = None,
    **options: Any,
) -> NetworkFormula:
    """Give the formulas of a target, of a spec without torch; the other options are those of ``api.prepare``."""
    from convstat.sources import resolve

    if resolve(argument).kind == "report":
        raise UsageError(
            f"{argument} is a saved report: it has figures, and not what they are made of",
            help="name the model that it was made from",
        )
    subject = api.prepare(argument, overrides, progress=progress, warn=warn, **options)
    return NetworkFormula(subject.report, _of_spec(subject) if subject.graph is not None else _of_trace(subject))


def _of_spec(subject: Subject) -> tuple[LayerFormula, ...]:
    assert subject.graph is not None
    pairs = zip(subject.graph.nodes, subject.report.layers, strict=True)
    return tuple(_layer(row, of_node(node), params_of_node(node)) for node, row in pairs)


def _of_trace(subject: Subject) -> tuple[LayerFormula, ...]:
    """The formulas of what ran; the kernels of several calls are shared out where every call is the same."""
    from convstat.explain import grouped

    trace = subject.stages.foresight()[1]
    found: dict[int, LayerFormula] = {}
    for rows in grouped(subject.report.layers).values():
        macs = folded(of_trace(trace, rows)) if any(row.macs for row in rows) else []
        calls = len(rows)
        if calls > 1:
            alike = len({row.macs for row in rows}) == 1 and not any(step.times % calls for step in macs)
            macs = [Step(s.about, s.value, s.formula, s.times // calls) for s in macs] if alike else []
        params = params_of_trace(trace, rows)
        for place, row in enumerate(rows):
            owned = params if row.params == sum(step.value for step in params) else []
            found[id(row)] = _layer(row, macs, owned if place == 0 or row.params else [])
    return tuple(found[id(row)] for row in subject.report.layers)


def _layer(row: LayerRow, macs: list[Step], params: list[Step]) -> LayerFormula:
    return LayerFormula(
        row,
        tuple(map(term, closed(folded(macs), row.macs))),
        tuple(map(term, closed(params, row.params))),
    )


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
