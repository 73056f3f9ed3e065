"""One layer through every counter's eyes: the formula with its values, and what each counter makes of it.

What a counter says of one layer is a part of its prediction; no counter is run, and none has to be installed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convstat import api
from convstat.analysis import Subject
from convstat.errors import ConvstatError, Diagnostic, UsageError, did_you_mean
from convstat.layers.base import OTHER_ENTRIES
from convstat.patterns import matching
from convstat.report import Cause, LayerRow, ModelInfo
from convstat.steps import Step, closed, folded, of_other, of_spec, of_trace, params_of_spec, params_of_trace

if TYPE_CHECKING:
    from convstat.counters import Counter
    from convstat.trace import Trace

SCHEMA = "convstat.explanation/1"


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

    >>> choose(["conv1", "layer1.0.conv1", "fc"], "**.conv1", "net")
    ['conv1', 'layer1.0.conv1']
    """
    if pattern is None:
        if len(names) == 1:
            return list(names)
        raise UsageError(
            f"{argument} has {len(names):,} layers: which one?",
            help=("name one, or several with a pattern: layer1.**", f"for example: {', '.join(names[:5])}"),
        )
    if pattern in names:
        return [pattern]
    found = matching(pattern, names, ".")
    if found:
        return found
    inside = [name for name in names if name.startswith(f"{pattern}.")]
    if inside:
        raise UsageError(
            f"'{pattern}' is a block of {len(inside):,} layers in {argument}",
            help=(f"all of them: '{pattern}.**'", f"or one: {', '.join(inside[:5])}"),
        )
    if call := re.fullmatch(r"(.+)#\d+", pattern):
        return choose(names, call[1], argument)
    same = [name for name in names if name.endswith(f".{pattern}")]
    if same:
        raise UsageError(
            f"{argument} has no layer '{pattern}' outside of a block",
            help=(f"all that are called so: '**.{pattern}'", f"or one: {', '.join(same[:5])}"),
        )
    raise UsageError(
        f"{argument} has no layer '{pattern}'",
        help=(
            *did_you_mean(pattern, names),
            f"see all: convstat analyze {shlex.quote(argument)} --flat",
            "a pattern has wildcards: 'layer1.**'",
        ),
    )


def _layer(
    subject: Subject, trace: Trace | None, name: str, rows: list[LayerRow], views: tuple[View, ...]
) -> ExplainedLayer:
    macs, params = sum(row.macs for row in rows), sum(row.params for row in rows)
    other: dict[str, int] = {}
    for row in rows:
        for entry, amount in row.other.items():
            other[entry] = other.get(entry, 0) + amount
    if subject.graph is not None:
        macs_steps, params_steps = of_spec(subject.graph, rows), params_of_spec(subject.graph, rows)
    else:
        assert trace is not None
        macs_steps, params_steps = of_trace(trace, rows), params_of_trace(trace, rows)
    other_steps = [of_other(entry, row) for row in rows for entry in row.other]
    return ExplainedLayer(
        name,
        rows[0].type,
        tuple(rows),
        params,
        macs,
        other,
        closed(folded(macs_steps), macs),
        closed(folded(params_steps), params),
        tuple(folded(other_steps)),
        views,
    )


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
