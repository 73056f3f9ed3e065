"""One layer through every counter's eyes: the formula with its values, and what each counter makes of it.

What a counter says of one layer is a part of its prediction; no counter is run, and none has to be installed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convstat.count.steps import closed, folded, of_other, of_spec, of_trace, params_of_spec, params_of_trace
from convstat.errors import ConvstatError, UsageError, did_you_mean
from convstat.grammar.patterns import matching
from convstat.results.explanation import Derived, ExplainedLayer, Explanation, View
from convstat.results.report import Figures, LayerRow
from convstat.targets import analysis
from convstat.targets.request import NOBODY, Listener, Request
from convstat.targets.subject import Subject

if TYPE_CHECKING:
    from convstat.counters import Counter
    from convstat.trace import Trace


def explain(
    request: Request, pattern: str | None = None, *, counters: str = analysis.EVERY_COUNTER, listener: Listener = NOBODY
) -> Explanation:
    """Explain the layers of a target whose names a pattern matches; of a model of one layer, that.

    With no counters, a spec is explained without torch.
    """
    subject = analysis.prepare(request, listener=listener)
    if not subject.report.is_one_call:
        # Others count one call of each part.
        counters = "none"
    groups = grouped(subject.report.layers)
    chosen = choose(list(groups), pattern, request.argument)
    views = _views(subject, chosen, counters, request.device, listener)
    trace = None if subject.graph is not None else subject.stages.foresight()[1]
    return Explanation(
        subject.report.model, tuple(_layer(subject, trace, name, groups[name], views[name]) for name in chosen)
    )


def grouped(rows: Sequence[LayerRow]) -> dict[str, list[LayerRow]]:
    """The rows of each layer: a module is one layer, however often it is called."""
    from convstat.results.report import registered

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
            f"{argument} has no top-level layer '{pattern}'",
            help=(f"all layers of this name: '**.{pattern}'", f"or one: {', '.join(same[:5])}"),
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
    entries = dict.fromkeys(entry for row in rows for entry in row.other)
    other = {entry: sum(row.other.get(entry, 0) for row in rows) for entry in entries}
    if subject.graph is not None:
        macs_steps, params_steps = of_spec(subject.graph, rows), params_of_spec(subject.graph, rows)
    else:
        assert trace is not None
        macs_steps, params_steps = of_trace(trace, rows), params_of_trace(trace, rows)
    other_steps = folded([of_other(entry, row) for row in rows for entry in row.other])
    return ExplainedLayer(
        name,
        rows[0].type,
        tuple(rows),
        Derived(params, closed(folded(params_steps), params)),
        Derived(macs, closed(folded(macs_steps), macs)),
        {entry: Derived(n, tuple(step for step in other_steps if step.about == entry)) for entry, n in other.items()},
        views,
    )


def _views(
    subject: Subject, chosen: Sequence[str], counters: str, device: str, listener: Listener
) -> dict[str, tuple[View, ...]]:
    """What every counter makes of every chosen layer."""
    if counters == "none":
        return dict.fromkeys(chosen, ())
    from convstat.counters import select
    from convstat.counters.measure import Asking

    asking = Asking(device, predict=True)
    views: dict[str, list[View]] = {name: [] for name in chosen}
    for counter in select(counters):
        listener.progress(f"predicting {counter.name}")
        for name, view in _seen_by(counter, subject, chosen, asking, named=counters != analysis.EVERY_COUNTER).items():
            views[name].append(view)
    return {name: tuple(found) for name, found in views.items()}


def _seen_by(counter: Counter, subject: Subject, chosen: Sequence[str], asking: Any, *, named: bool) -> dict[str, View]:
    """How a counter counts the chosen layers; nothing where it is not meant for such a model, and was not named."""
    from convstat.counters import reconcile
    from convstat.counters.capture import first_line
    from convstat.counters.measure import foresee, version_of
    from convstat.results import report

    layers = subject.report.layers
    name, variant, version = counter.name, counter.variant, version_of(counter)
    try:
        foreseen = foresee(counter, subject.report, subject.stages, asking)
    except (ConvstatError, KeyboardInterrupt):
        raise
    except Exception as error:
        return dict.fromkeys(chosen, View(name, variant, version, error=f"no prediction: {first_line(error)}"))
    prediction = foreseen.prediction
    if not prediction.applies and not named:
        return {}
    if prediction.failure is not None:
        return dict.fromkeys(chosen, View(name, variant, version, error=f"no answer: {prediction.failure}"))
    shares = reconcile.shares(layers, prediction)
    views = {}
    for layer, rows in grouped(layers).items():
        if layer not in chosen:
            continue
        path = report.registered(rows[0].shares or rows[0].name)
        own = [share for share in shares if share.layer == path]
        causes = reconcile.summed(own, getattr(counter, "causes", None))
        known = [figure for figure in ("params", "macs") if getattr(prediction, figure) is not None]
        difference = {figure: sum(getattr(cause, figure) for cause in causes) for figure in known}
        counts = {figure: sum(getattr(row, figure) for row in rows) + difference[figure] for figure in known}
        views[layer] = View(
            name, variant, version, Figures(**counts), Figures(**difference), causes, note=foreseen.note
        )
    return views
