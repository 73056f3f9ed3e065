"""Closed forms of a spec: its expansion in letters, by the same rules that count it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from convstat.count.closed import forms
from convstat.errors import UsageError, did_you_mean
from convstat.formulas.symbolic.closing import close
from convstat.formulas.symbolic.facts import Facts
from convstat.formulas.symbolic.forms import Form, polynomial, total
from convstat.formulas.symbolic.numbers import Number
from convstat.formulas.symbolic.terms import Exact, Polynomial
from convstat.graph import Graph
from convstat.results.closed import ClosedForms, LayerForms, Letter, Settled
from convstat.spec import Spec
from convstat.targets.analysis import input_shapes
from convstat.targets.request import Request

BATCH = "N"

DECIDES = "the layers depend on it"


class Asked(NamedTuple):
    """Which letters are wanted: ``names``, or None for the free variables of the spec.

    ``batch_is_given``: the batch is a number then. ``always``: the sizes of the input where there are no variables.
    """

    names: tuple[str, ...] | None = None
    batch_is_given: bool = False
    always: bool = False


def axes(graph: Graph) -> dict[str, tuple[str, int]]:
    """The axes of the inputs that may be letters: by letter, the input and the place of the size, the batch first.

    Those of several inputs have the name of the input before them: ``x_H``.
    """
    found = {}
    for item in graph.inputs:
        rank = len(item.shape)
        first = next((node for node in graph.nodes if item.name in node.inputs), None)
        is_sequence = first is not None and first.layer.family in ("attention", "linear", "learned", "recurrent")
        names = {2: "L" if item.dtype == "int64" else "F", 3: "LE" if is_sequence else "CL", 4: "CHW", 5: "CDHW"}
        lead = f"{item.name}_" if len(graph.inputs) > 1 else ""
        for place, letter in enumerate(names.get(rank, ""), start=1):
            found[lead + letter] = item.name, place
    return found


def variables(spec: Spec, request: Request, values: Mapping[str, Any]) -> dict[str, Exact]:
    """The variables of a spec that are free: numbers that follow from no other, and that nothing else sets."""
    chosen = spec.plan.variants[request.target.variant].variables
    bound = input_shapes(spec, request.inputs, request.argument)
    sizes = {
        written.text
        for entry in spec.plan.variants[request.target.variant].inputs
        if entry.name in bound
        for written in entry.sizes
    }
    return {
        name: values[name]
        for name, written in chosen.items()
        if not written.names and _is_number(values.get(name)) and name not in request.overrides and name not in sizes
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (int, Fraction)) and not isinstance(value, bool)


def of_spec(request: Request, spec: Spec, graph: Graph, asked: Asked) -> ClosedForms | None:
    """The closed forms of a spec; None where nothing is free. Raises UsageError for a letter that there is not."""
    shapes = {item.name: item.shape for item in graph.inputs}
    by_axis = {name: (item, place) for name, (item, place) in axes(graph).items()}
    values = {**spec.vars_of(request.overrides, request.target.variant, inputs_of(request, spec))}
    free: dict[str, Exact] = {}
    if asked.names is None:
        free = variables(spec, request, values)
        if not free and asked.always:
            free = {name: shapes[item][place] for name, (item, place) in by_axis.items() if name[-1] not in "CE"}
        if free and not asked.batch_is_given:
            free.setdefault(BATCH, request.batch)
        if not free:
            return None
    else:
        numbers = {name: value for name, value in values.items() if _is_number(value)}
        sizes = {name: shapes[item][place] for name, (item, place) in by_axis.items()}
        known = {BATCH: request.batch, **sizes, **numbers}
        for name in asked.names:
            if name not in known:
                help = (*did_you_mean(name, known), f"letters: {', '.join(known)}")
                raise UsageError(f"--in: {request.argument} has no '{name}' that could stay a letter", help=help)
            free[name] = known[name]
    facts = Facts()
    texts = written(spec)
    letters = tuple(Letter(n, v, n not in texts or is_whole(v, texts[n])) for n, v in free.items())
    made = {
        letter.name: Number(Polynomial.letter(letter.name, integer=letter.is_integer), letter.value, facts)
        for letter in letters
    }
    in_axes = [name for name in made if name in by_axis and name not in values]
    overrides = {**request.overrides, **{n: v for n, v in made.items() if n in values}}
    batch: Any = made[BATCH] if BATCH in made and BATCH not in values else request.batch
    inputs: dict[str, Sequence[Any]] = dict(inputs_of(request, spec))
    for name in in_axes:
        item, place = by_axis[name]
        shape = list(inputs.get(item, shapes[item][1:]))
        shape[place - 1] = made[name]
        inputs[item] = tuple(shape)
    for number in (batch, *(made[name] for name in in_axes)):
        if isinstance(number, Number):
            # What is asked of every size.
            assert number >= 1
    # A memo of its own: what is found there has noted its conditions already.
    fresh = Spec(spec.plan, ())
    found = fresh.expand(overrides, variant=request.target.variant, inputs=inputs, batch=batch)
    size_letters = {BATCH, *in_axes} | {
        letter for item in found.inputs for size in item.shape for letter in polynomial(size).letters()
    }  # fmt: skip
    return closed_forms(letters, facts, forms(found), size_letters)


def inputs_of(request: Request, spec: Spec) -> dict[str, tuple[int, ...]]:
    """The shapes that were given for inputs."""
    return input_shapes(spec, request.inputs, request.argument)


def written(spec: Spec) -> dict[str, list[str]]:
    """What is written of each variable, in the spec and in its variants."""
    found: dict[str, list[str]] = {}
    for variant in spec.plan.variants.values():
        for name, written in variant.variables.items():
            found.setdefault(name, []).append(written.text)
    return found


def is_whole(value: Exact, texts: Iterable[str]) -> bool:
    """Whether a variable stands for integers: it is one, and nowhere written as anything else."""
    return isinstance(value, int) and not any("." in text or "/" in text for text in texts)


def closed_forms(
    letters: Sequence[Letter], facts: Facts, layers: Sequence[LayerForms], sizes: Iterable[str]
) -> ClosedForms:
    """Simplify what an expansion in letters left behind."""
    closed = close((), facts)
    known = Facts(closed.conditions)
    values = {name: Polynomial.number(value) for name, value in closed.settled.items()}

    def simplified(about: Polynomial) -> Polynomial:
        return known.simplified(about, values)

    memo: dict[Form, Form] = {}

    def changed(form: Form) -> Form:
        if form not in memo:
            memo[form] = form.changed(simplified)
        return memo[form]

    done = tuple(LayerForms(changed(layer.macs), changed(layer.params)) for layer in layers)
    return ClosedForms(
        tuple(letter for letter in letters if letter.name not in closed.settled),
        tuple(Settled(name, _plain(value), DECIDES) for name, value in closed.settled.items()),
        closed.conditions,
        total(layer.macs for layer in done),
        total(layer.params for layer in done),
        done,
        frozenset(sizes),
    )


def _plain(value: Exact) -> Exact:
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value
