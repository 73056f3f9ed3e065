"""From a graph and its report to one reconciled row for each counter.

The model is built and traced once on the meta device, where nothing is allocated or computed.
A peer runs there too where its answer is known to be that of a real device, else on the CPU;
where a device is asked for, it runs on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convstat import reconcile
from convstat.counters.base import Counter, CounterFailure, PredictedFailure, Prediction
from convstat.counters.capture import first_line
from convstat.counters.stages import GraphStages, Stages
from convstat.errors import ConvstatError, UsageError
from convstat.graph import Graph
from convstat.report import CounterRow, Report
from convstat.sources.recipe import EndlessError

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace

DEVICES = ("auto", "cpu", "cuda", "meta")


def measure(
    graph: Graph,
    report: Report,
    counters: Sequence[Counter],
    *,
    device: str = "auto",
    dtype: str = "float32",
) -> tuple[CounterRow, ...]:
    """Run some counters on a graph and explain how they differ from its report; a failing one is a row too."""
    if device not in DEVICES:
        raise UsageError(f"unknown device '{device}'", help=f"it is one of {', '.join(DEVICES)}")
    if device in ("cpu", "cuda") and counters:
        from convstat.build import check_device

        check_device(device, dtype)
    return measure_on(GraphStages(graph, dtype), report, counters, device=device)


def measure_on(
    stages: Stages, report: Report, counters: Sequence[Counter], *, device: str = "auto"
) -> tuple[CounterRow, ...]:
    """Run some counters on a model that is made where it is wanted."""
    return tuple(_row(counter, report, stages, device) for counter in counters)


def _row(counter: Counter, report: Report, stages: Stages, wanted: str) -> CounterRow:
    name, variant = counter.name, counter.variant
    version = counter.version()
    if version is None:
        # A counter may have more to say: two distributions can share the name by which they are imported.
        said = getattr(counter, "unavailable", None)
        reason = (said and said()) or f"it is not installed; {counter.help}"
        return reconcile.failed(name, variant, None, "unavailable", reason)
    device = "meta" if wanted == "auto" else wanted
    try:
        why_not = stages.why_not_meta() or counter.why_not_meta(stages.trace("meta"))
        device = wanted if wanted != "auto" else "cpu" if why_not else "meta"
        if device == "meta" and why_not:
            return reconcile.failed(name, variant, version, "skipped", f"{why_not}; use --device auto or cpu", device)
        model, inputs = stages.model(device)
        with stages.running(device):
            reported = counter.run(model, inputs)
    except CounterFailure as failure:
        row = reconcile.failed(name, variant, version, "failed", str(failure), device)
        return replace(row, is_foreseen=_foresees_failure(counter, stages, device))
    except ConvstatError:
        raise
    except (Exception, EndlessError) as error:
        row = reconcile.failed(name, variant, version, "failed", first_line(error), device)
        return replace(row, is_foreseen=_foresees_failure(counter, stages, device))
    # Where the answers are the same, so are the traces, and that of meta is there already.
    trace_device = device if why_not else "meta"
    try:
        with stages.running(trace_device):
            prediction = predict(counter, *stages.model(trace_device), stages.trace(trace_device))
    except CounterFailure as failure:
        prediction = Prediction(None, None, failure=str(failure))
    return reconcile.reconcile(
        report.layers, reported, prediction, name=name, variant=variant, version=version, device=device
    )


def _foresees_failure(counter: Counter, stages: Stages, device: str) -> bool:
    """Whether a counter's prediction for this model is that it fails."""
    try:
        with stages.running(device):
            return predict(counter, *stages.model(device), stages.trace(device)).failure is not None
    except (Exception, EndlessError):
        # The model may be what fails, and then nothing was predicted.
        return False


def predict(counter: Counter, model: torch.nn.Module, inputs: tuple[Any, ...], trace: Trace) -> Prediction:
    """Say what a counter will answer for a model and inputs, of which ``trace`` is the trace."""
    try:
        return counter.predict(counter.retrace(model, inputs, trace))
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))
