"""The formulas of a whole network, layer by layer, with their values; no counter has a part in it.

What a layer's formula is, and that it comes to what is counted, is decided elsewhere (:mod:`convstat.count.steps`).
Here its words become letters, so that it can be printed, worked out by others, and put into a paper.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convstat.commands.closed import Asked, of_spec
from convstat.count.steps import closed, folded, of_node, of_trace, params_of_node, params_of_trace
from convstat.errors import Diagnostic, UsageError
from convstat.formulas.derivation import Factor, Product
from convstat.formulas.notation import SYMBOLS, expression
from convstat.results.explanation import Step
from convstat.results.formula import LayerFormula, NetworkFormula, Term
from convstat.results.report import LayerRow
from convstat.targets import analysis
from convstat.targets.request import NOBODY, Listener, Request

if TYPE_CHECKING:
    from convstat.graph import Graph
    from convstat.results.closed import ClosedForms
    from convstat.targets.subject import Subject


NOT_ASKED = Asked()


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


def network(request: Request, *, asked: Asked = NOT_ASKED, listener: Listener = NOBODY) -> NetworkFormula:
    """Give the formulas of a target, of a spec without torch; ``asked`` are the letters of its closed forms."""
    target = request.target
    if not target.needs_torch and target.kind != "report" and request.spec is None:
        request = replace(request, spec=target.load())
        assert request.spec is not None
        if request.spec.warnings:
            listener.warn(request.spec.warnings)
    subject = analysis.prepare(request, listener=listener)
    if subject.graph is None:
        from convstat.commands.closed_trace import of_trace as closed_of_trace

        return NetworkFormula(subject.report, _of_trace(subject), closed_of_trace(request, subject, asked))
    assert request.spec is not None
    return NetworkFormula(subject.report, _of_spec(subject), _closed(request, subject.graph, asked, listener))


def _closed(request: Request, graph: Graph, asked: Asked, listener: Listener) -> ClosedForms | None:
    """The closed forms of a spec; a rule of another package may not know letters, which is said."""
    assert request.spec is not None
    is_wanted = asked.names is not None or asked.always
    if graph.parts:
        # Each part has sizes of its own, and the closed forms are those of one network.
        if is_wanted:
            raise UsageError(
                f"{request.argument} has parts, each with sizes of its own: it has no closed form as a whole",
                help="write the part as a spec of its own",
            )
        return None
    try:
        return of_spec(request, request.spec, graph, asked)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        kinds = sorted({node.layer.kind() for node in graph.nodes if not _is_ours(type(node.layer))})
        if not kinds:
            raise
        problem = f"no closed forms: a rule of {', '.join(kinds)} takes no letters for sizes ({error})"
        if is_wanted:
            raise UsageError(problem, help="rules may use + - * // % and comparisons of sizes") from error
        listener.warn([Diagnostic(problem, severity="note")])
        return None


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("convstat.")


def _of_spec(subject: Subject) -> tuple[LayerFormula, ...]:
    assert subject.graph is not None
    pairs = zip(subject.graph.nodes, subject.report.layers, strict=True)
    return tuple(_layer(row, of_node(node), params_of_node(node)) for node, row in pairs)


def _of_trace(subject: Subject) -> tuple[LayerFormula, ...]:
    """The formulas of what ran; the kernels of several calls are shared out where every call is the same."""
    from convstat.commands.explain import grouped

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
