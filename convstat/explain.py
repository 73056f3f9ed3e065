"""One layer through every counter's eyes: the formula with its values, and what each counter makes of it.

What a counter says of one layer is a part of its prediction; no counter is run, and none has to be installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import prod
from typing import TYPE_CHECKING, Any

from convstat import api
from convstat.analysis import Subject
from convstat.errors import ConvstatError, Diagnostic, UsageError, did_you_mean
from convstat.formulas.derivation import Derivation, Product, derivation, elements
from convstat.graph import Shape
from convstat.layers import KINDS
from convstat.layers.base import OTHER_ENTRIES
from convstat.report import Cause, LayerRow, ModelInfo

if TYPE_CHECKING:
    from convstat.counters import Counter
    from convstat.trace import Trace

SCHEMA = "convstat.explanation/1"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a derivation: what it counts, how often, and the formula; without one, the amount alone."""

    about: str
    value: int
    formula: Derivation | None = None
    times: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; ``value`` is that of the formula, ``times`` how often it is there."""
        formula = None
        if self.formula is not None:
            formula = {"names": self.formula.symbols, "values": self.formula.numbers}
        return {"about": self.about, "formula": formula, "value": self.value, "times": self.times}


@dataclass(frozen=True, slots=True)
class View:
    """What one counter counts in a layer, and why that differs; ``error`` where it gives no answer at all."""

    name: str
    variant: str
    version: str | None
    params: int | None = None
    macs: int | None = None
    difference: Mapping[str, int | None] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
    error: str | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "variant": self.variant,
            "version": self.version,
            "predicted": None if self.error else {"params": self.params, "macs": self.macs},
            "difference": dict(self.difference) or {"params": None, "macs": None},
            "causes": [
                {
                    "code": cause.code,
                    "verdict": cause.verdict,
                    "text": cause.text,
                    "params": cause.params,
                    "macs": cause.macs,
                    "calls": cause.calls,
                }
                for cause in self.causes
            ],
            "error": self.error,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class ExplainedLayer:
    """A layer: all its calls together, how its counts come about, and what every counter makes of it."""

    name: str
    type: str
    calls: tuple[LayerRow, ...]
    params: int
    macs: int
    other: Mapping[str, int]
    macs_steps: tuple[Step, ...]
    params_steps: tuple[Step, ...]
    other_steps: tuple[Step, ...]
    views: tuple[View, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "type": self.type,
            "arguments": dict(self.calls[0].arguments),
            "calls": [
                {
                    "name": row.name,
                    "input_shapes": [list(shape) for shape in row.input_shapes],
                    "output_shapes": [list(shape) for shape in row.output_shapes],
                }
                for row in self.calls
            ],
            "params": {"value": self.params, "steps": [step.to_dict() for step in self.params_steps]},
            "macs": {"value": self.macs, "steps": [step.to_dict() for step in self.macs_steps]},
            "flops": 2 * self.macs,
            "other": {
                name: {"value": amount, "steps": [step.to_dict() for step in self.other_steps if step.about == name]}
                for name, amount in self.other.items()
            },
            "counters": [view.to_dict() for view in self.views],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Some layers of a model, explained."""

    model: ModelInfo
    layers: tuple[ExplainedLayer, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        model = {
            "name": self.model.name,
            "source": self.model.source,
            "kind": self.model.kind,
            "inputs": [{"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in self.model.inputs],
            "batch": self.model.batch,
            "overrides": dict(self.model.overrides),
        }
        return {"schema": SCHEMA, "model": model, "layers": [layer.to_dict() for layer in self.layers]}


def explain(
    argument: str,
    pattern: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    counters: str = "all",
    device: str = "auto",
    seconds: float | None = None,
    progress: Callable[[str], None] | None = None,
    warn: Callable[[Sequence[Diagnostic]], None] | None = None,
    **options: Any,
) -> Explanation:
    """Explain the layers of a target whose names a pattern matches; of a model of one layer, that.

    The other options are those of :func:`convstat.api.prepare`. With no counters, a spec is explained without torch.
    """
    from convstat.sources import resolve

    if resolve(argument).kind == "report":
        raise UsageError(
            f"{argument} is a saved report: it has figures, and not what they are made of",
            help="name the model that it was made from",
        )
    subject = api.prepare(argument, overrides, device=device, progress=progress, warn=warn, **options)
    groups = grouped(subject.report.layers)
    chosen = choose(list(groups), pattern, argument)
    views = _views(subject, chosen, counters, device, seconds, progress)
    trace = None if subject.graph is not None else subject.stages.foresight()[1]
    return Explanation(
        subject.report.model, tuple(_layer(subject, trace, name, groups[name], views[name]) for name in chosen)
    )


def grouped(rows: Sequence[LayerRow]) -> dict[str, list[LayerRow]]:
    """The rows of each layer: a module is one layer, however often it is called."""
    from convstat.reconcile import registered

    groups: dict[str, list[LayerRow]] = {}
    names: dict[str, str] = {}
    for row in rows:
        path = registered(row.shares or row.name)
        groups.setdefault(names.setdefault(path, row.name if not row.shares else row.shares), []).append(row)
    return groups


def choose(names: Sequence[str], pattern: str | None, argument: str) -> list[str]:
    """The names that a pattern matches; a name is a pattern for itself, whatever is in it.

    >>> choose(["conv1", "layer1.0.conv1", "fc"], "*conv1", "net")
    ['conv1', 'layer1.0.conv1']
    """
    if pattern is None:
        if len(names) == 1:
            return list(names)
        raise UsageError(
            f"{argument} has {len(names):,} layers: which one?",
            help=("name one, or several with a pattern: layer1.*", f"for example: {', '.join(names[:5])}"),
        )
    if pattern in names:
        return [pattern]
    found = [name for name in names if fnmatchcase(name, pattern)]
    if found:
        return found
    inside = [name for name in names if name.startswith(f"{pattern}.")]
    if inside:
        raise UsageError(
            f"'{pattern}' is a block of {len(inside):,} layers in {argument}",
            help=(f"all of them: '{pattern}.*'", f"or one: {', '.join(inside[:5])}"),
        )
    if call := re.fullmatch(r"(.+)#\d+", pattern):
        return choose(names, call[1], argument)
    raise UsageError(
        f"{argument} has no layer '{pattern}'",
        help=(*did_you_mean(pattern, names), "see all: convstat analyze --flat", "a pattern has wildcards: 'layer1.*'"),
    )


def _layer(
    subject: Subject, trace: Trace | None, name: str, rows: list[LayerRow], views: tuple[View, ...]
) -> ExplainedLayer:
    macs, params = sum(row.macs for row in rows), sum(row.params for row in rows)
    other: dict[str, int] = {}
    for row in rows:
        for entry, amount in row.other.items():
            other[entry] = other.get(entry, 0) + amount
    macs_steps = _of_spec(subject, rows) if trace is None else _of_trace(trace, rows)
    params_steps = _params_of_spec(subject, rows) if trace is None else _params_of_trace(trace, rows)
    other_steps = [_of_other(entry, row) for row in rows for entry in row.other]
    return ExplainedLayer(
        name,
        rows[0].type,
        tuple(rows),
        params,
        macs,
        other,
        _closed(_folded(macs_steps), macs),
        _closed(_folded(params_steps), params),
        tuple(_folded(other_steps)),
        views,
    )


def _closed(steps: list[Step], whole: int) -> tuple[Step, ...]:
    """The steps, and what no step says, so that they sum up to the whole."""
    rest = whole - sum(step.value * step.times for step in steps)
    return (*steps, Step("without a formula", rest)) if rest else tuple(steps)


def _folded(steps: Sequence[Step]) -> list[Step]:
    """Equal steps as one."""
    times: dict[Step, int] = {}
    for step in steps:
        times[step] = times.get(step, 0) + step.times
    return [Step(step.about, step.value, step.formula, count) for step, count in times.items()]


def _of_products(found: Derivation) -> list[Step]:
    """A step for each product that says what it is, else one for all of them."""
    if all(part.about for part in found.products):
        return [Step(part.about, part.value, Derivation((Product(part.factors),))) for part in found.products]
    return [Step("", found.value, found)]


def _of_spec(subject: Subject, rows: list[LayerRow]) -> list[Step]:
    assert subject.graph is not None
    names = {row.name for row in rows}
    steps: list[Step] = []
    for node in subject.graph.nodes:
        if node.name in names and (found := node.layer.derivation(node.input_shapes, node.output_shape)) is not None:
            steps += _of_products(found)
    return steps


def _of_trace(trace: Trace, rows: list[LayerRow]) -> list[Step]:
    from convstat.kernels import price
    from convstat.kernels.derive import derivation as formula_of
    from convstat.reconcile import registered

    path = registered(rows[0].shares or rows[0].name)
    steps: list[Step] = []
    for call, owner in trace.kernels():
        if owner.path != path or call.backward:
            continue
        cost = price(call)
        if cost is None or not cost.macs:
            continue
        found = formula_of(call)
        lead = call.op.removeprefix("aten.")
        if found is None:
            steps.append(Step(lead, cost.macs))
        else:
            steps += [Step(f"{lead} {step.about}".strip(), step.value, step.formula) for step in _of_products(found)]
    return steps


def _parameter(kind: str, name: str, shape: Shape) -> Step:
    """The size of a parameter, with the names of its axes where the kind of layer has them."""
    known = KINDS[kind].parameter_axes().get(name, ()) if kind in KINDS else ()
    if len(known) != len(shape):
        return Step(name, prod(shape), elements("", shape) if len(shape) > 1 else None)
    return Step(name, prod(shape), derivation(*zip(known, shape, strict=True)))


def _params_of_spec(subject: Subject, rows: list[LayerRow]) -> list[Step]:
    assert subject.graph is not None
    owners = {row.name for row in rows if not row.shares}
    return [
        _parameter(node.layer.kind(), name, shape)
        for node in subject.graph.nodes
        if node.name in owners
        for name, shape in node.layer.parameters().items()
    ]


def _params_of_trace(trace: Trace, rows: list[LayerRow]) -> list[Step]:
    from convstat.reconcile import registered

    path = registered(rows[0].shares or rows[0].name)
    seen: set[int] = set()
    steps: list[Step] = []
    for module in trace.modules:
        for parameter in module.parameters:
            if not module.registered or parameter.key in seen:
                continue
            seen.add(parameter.key)
            user = trace.uses.get(parameter.key)
            is_used_here = user is not None and trace.modules[user].path == path and module.path.startswith(f"{path}.")
            if module.path == path or is_used_here:
                inside = module.path.removeprefix(path).lstrip(".")
                step = _parameter(module.type.rpartition(".")[2], parameter.name, parameter.shape)
                steps.append(Step(f"{inside}.{step.about}".lstrip("."), step.value, step.formula))
    # A row that owns less than its module has holds tied ones, which belong elsewhere.
    return steps if sum(step.value for step in steps) == sum(row.params for row in rows) else []


def _of_other(entry: str, row: LayerRow) -> Step:
    """Work that is no MAC: so much for each element of the output or the input, where it comes to that."""
    amount = row.other[entry]
    for name, shapes in (("output", row.output_shapes), ("input", row.input_shapes)):
        if shapes and prod(shapes[0]) == amount:
            return Step(entry, amount, elements(name, shapes[0]))
    return Step(entry, amount)


def _views(
    subject: Subject,
    chosen: Sequence[str],
    counters: str,
    device: str,
    seconds: float | None,
    progress: Callable[[str], None] | None,
) -> dict[str, tuple[View, ...]]:
    """What every counter makes of every chosen layer."""
    if counters == "none":
        return dict.fromkeys(chosen, ())
    from convstat.counters import select
    from convstat.counters.measure import Asking

    asking = Asking(device, predict=True, seconds=seconds)
    views: dict[str, list[View]] = {name: [] for name in chosen}
    for counter in select(counters):
        if progress is not None:
            progress(f"predicting {counter.name}")
        for name, view in _seen_by(counter, subject, chosen, asking).items():
            views[name].append(view)
    return {name: tuple(found) for name, found in views.items()}


def _seen_by(counter: Counter, subject: Subject, chosen: Sequence[str], asking: Any) -> dict[str, View]:
    from convstat import reconcile
    from convstat.counters.capture import first_line
    from convstat.counters.measure import foresee

    layers = subject.report.layers
    name, variant, version = counter.name, counter.variant, counter.version()
    try:
        foreseen = foresee(counter, subject.report, subject.stages, asking)
    except (ConvstatError, KeyboardInterrupt):
        raise
    except Exception as error:
        return dict.fromkeys(chosen, View(name, variant, version, error=f"there is no prediction: {first_line(error)}"))
    prediction = foreseen.prediction
    if prediction.failure is not None:
        return dict.fromkeys(chosen, View(name, variant, version, error=f"it gives no answer: {prediction.failure}"))
    shares = reconcile.shares(layers, prediction)
    views = {}
    for layer, rows in grouped(layers).items():
        if layer not in chosen:
            continue
        path = reconcile.registered(rows[0].shares or rows[0].name)
        own = [share for share in shares if share.layer == path]
        causes = reconcile.summed(own, getattr(counter, "causes", None))
        counts: dict[str, int | None] = {}
        difference: dict[str, int | None] = {}
        for figure in ("params", "macs"):
            has_any = getattr(prediction, figure) is not None
            difference[figure] = sum(getattr(cause, figure) for cause in causes) if has_any else None
            counts[figure] = sum(getattr(row, figure) for row in rows) + difference[figure] if has_any else None
        views[layer] = View(
            name, variant, version, counts["params"], counts["macs"], difference, causes, note=foreseen.note
        )
    return views


def words_for(entry: str) -> str:
    """What an entry of ``other`` counts."""
    return OTHER_ENTRIES.get(entry, "")
