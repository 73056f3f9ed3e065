"""Closed forms of a model that is run: its kernels, priced by the rules that count, with letters for sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convstat.commands.closed import BATCH, Asked
from convstat.count.ops import price
from convstat.errors import UsageError, did_you_mean
from convstat.formulas.derivation import InconsistentError
from convstat.formulas.symbolic.closing import close
from convstat.formulas.symbolic.facts import Condition, Facts
from convstat.formulas.symbolic.forms import NOTHING, Form, polynomial, total
from convstat.formulas.symbolic.terms import Exact, Polynomial
from convstat.results.closed import ClosedForms, LayerForms, Letter, Settled
from convstat.results.report import InputInfo, LayerRow, registered
from convstat.targets.request import Request

if TYPE_CHECKING:
    from convstat.targets.subject import Subject
    from convstat.trace.letters import Axis, Lettered, Ran


def axes(inputs: tuple[InputInfo, ...], batch: int) -> dict[str, tuple[tuple[str, int], ...]]:
    """The sizes of the inputs that may be letters: by letter, the inputs and the places.

    The batch is the first size of each input, where that is as large as it.
    """
    found: dict[str, tuple[tuple[str, int], ...]] = {}
    shared = tuple((item.name, 0) for item in inputs if len(item.shape) > 1 and item.shape[0] == batch)
    if shared:
        found[BATCH] = shared
    for item in inputs:
        names = {2: "L" if "int" in item.dtype else "F", 3: "LE", 4: "CHW", 5: "CDHW"}.get(len(item.shape), "")
        lead = f"{item.name}_" if len(inputs) > 1 else ""
        for place, letter in enumerate(names, start=1):
            found[lead + letter] = ((item.name, place),)
    return found


def of_trace(request: Request, subject: Subject, asked: Asked) -> ClosedForms | None:
    """The closed forms of a model that ran; None where no letters are asked for.

    Raises UsageError for a letter that there is not, and where torch finds no formula.
    """
    from convstat.trace.letters import Axis, UnsupportedError, refused, run_in_letters

    model = subject.report.model
    by_letter = axes(model.inputs, model.batch)
    if asked.names is None:
        if not asked.always:
            return None
        names = [name for name in by_letter if name[-1] not in "CEF"]
    else:
        names = list(asked.names)
    for name in names:
        if name not in by_letter:
            help = (*did_you_mean(name, by_letter), f"letters: {', '.join(by_letter)}")
            raise UsageError(f"--in: {request.argument} has no '{name}' that could stay a letter", help=help)
    if request.mode != "eval":
        raise UsageError("closed forms are of a forward pass: omit --mode train")
    shapes = {item.name: item.shape for item in model.inputs}
    stages = subject.stages
    wanted = {name: tuple(Axis(*place) for place in by_letter[name]) for name in names}
    values: dict[str, Exact] = {name: shapes[places[0].input][places[0].place] for name, places in wanted.items()}
    try:
        found = run_in_letters(stages.recipe, stages.traced, wanted)
        forms = _by_row(found, subject.report.layers)
    except UnsupportedError as error:
        raise refused(stages.recipe, error) from None
    return _closed(found, forms, subject.report.layers, values, wanted)


def _by_row(found: Lettered, rows: tuple[LayerRow, ...]) -> list[LayerForms]:
    """The MACs of each row: of the calls of a module in their order, of all together where they are not told apart."""
    macs: dict[tuple[str, int], list[Form]] = {}
    for ran in found.kernels:
        cost = price(ran.call)
        if cost is not None and polynomial(cost.macs).terms:
            macs.setdefault((ran.path, ran.number), []).append(Form.of(polynomial(cost.macs), _sizes(ran)))
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(registered(row.shares or row.name), []).append(place)
    forms = [NOTHING] * len(rows)
    for (path, number), parts in macs.items():
        where = places.get(path)
        if where is None:
            raise InconsistentError(f"a kernel ran in {path or 'the model'}, which has no row of its own")
        place = where[number] if number < len(where) else where[-1]
        forms[place] = forms[place] + total(parts)
    return [LayerForms(form, Form.of(polynomial(row.params))) for form, row in zip(forms, rows, strict=True)]


def _sizes(ran: Ran) -> list[Polynomial]:
    from convstat.trace.calls import TensorInfo

    values = (ran.call.output, *ran.call.args)
    return [polynomial(size) for value in values if isinstance(value, TensorInfo) for size in value.shape]


def _closed(
    found: Lettered,
    forms: list[LayerForms],
    rows: tuple[LayerRow, ...],
    values: Mapping[str, Exact],
    wanted: Mapping[str, tuple[Axis, ...]],
) -> ClosedForms:
    closed = close((), found.facts)
    known = Facts(closed.conditions)
    settled = {name: Polynomial.number(value) for name, value in closed.settled.items()}

    def simplified(form: Form) -> Form:
        return form.changed(lambda about: known.simplified(about, settled))

    done = tuple(LayerForms(simplified(layer.macs), layer.params) for layer in forms)
    for layer, row in zip(done, rows, strict=True):
        if layer.macs.value(values) != row.macs:
            raise InconsistentError(
                f"the closed form of {row.name or 'the model'}, {layer.macs}, does not come to {row.macs:,}, the count"
            )
    conditions = tuple(_with_batch_of_one(condition, values) for condition in closed.conditions)
    return ClosedForms(
        tuple(Letter(name, value) for name, value in values.items() if name not in closed.settled),
        tuple(Settled(name, int(value), _why(name, found)) for name, value in closed.settled.items()),
        conditions,
        total(layer.macs for layer in done),
        total(layer.params for layer in done),
        done,
        frozenset(wanted),
    )


def _with_batch_of_one(condition: Condition, values: Mapping[str, Exact]) -> Condition:
    """A bound that torch sets on the batch, which was counted with 1, and so holds there."""
    letter = Polynomial.letter(BATCH, integer=True)
    if values.get(BATCH) == 1 and condition == Condition(">= 0", letter - Polynomial.number(2)):
        return Condition(">= 0", letter - Polynomial.number(1))
    return condition


def _why(name: str, found: Lettered) -> str:
    """Where the model is specialised on a size."""
    for condition, place in found.places.items():
        if place and condition.says == "== 0" and list(condition.about.letters()) == [name]:
            return f"the model is specialised on it at {place}"
    return "the model is specialised on it"
