"""From a graph and its report to one reconciled row for each counter.

The model is built and traced once on the meta device, where nothing is allocated or computed.
A peer runs there too where its answer is known to be that of a real device, else on the CPU;
where a device is asked for, it runs on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convstat import reconcile
from convstat.counters.base import Counter, CounterFailure, PredictedFailure, Prediction
from convstat.counters.capture import first_line
from convstat.errors import DeviceError, SourceError, UsageError
from convstat.graph import Graph
from convstat.report import CounterRow, Report

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
    stages = _Stages(graph, dtype)
    if device in ("cpu", "cuda") and counters:
        from convstat.build import check_device

        check_device(device, dtype)
    return tuple(_row(counter, report, stages, device) for counter in counters)


class _Stages:
    """The model and its inputs on each device, and their traces; made when first needed."""

    def __init__(self, graph: Graph, dtype: str) -> None:
        self.graph = graph
        self.dtype = dtype
        self._models: dict[str, tuple[torch.nn.Module, tuple[torch.Tensor, ...]]] = {}
        self._traces: dict[str, Trace] = {}

    def model(self, device: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
        """The built model and example inputs."""
        if device not in self._models:
            from convstat.build import build, example_inputs

            try:
                self._models[device] = (
                    build(self.graph, device=device, dtype=self.dtype),
                    example_inputs(self.graph, device=device, dtype=self.dtype),
                )
            except (RuntimeError, MemoryError) as error:
                raise self._error(device, error) from error
        return self._models[device]

    def trace(self, device: str) -> Trace:
        """The call tree of the model."""
        if device not in self._traces:
            from convstat.trace.record import record

            model, inputs = self.model(device)
            try:
                self._traces[device] = record(model, inputs)
            except (RuntimeError, MemoryError) as error:
                raise self._error(device, error) from error
        return self._traces[device]

    def _error(self, device: str, error: BaseException) -> DeviceError | SourceError:
        if device == "meta" and self.dtype == "float32":
            return SourceError(f"the torch model of {self.graph.name} does not run: {first_line(error)}")
        return DeviceError(
            f"{device} cannot run {self.graph.name} in {self.dtype}: {first_line(error)}",
            help="leave --device out: then nothing is allocated or computed where that gives the same answers",
        )


def _row(counter: Counter, report: Report, stages: _Stages, wanted: str) -> CounterRow:
    name, variant = counter.name, counter.variant
    version = counter.version()
    if version is None:
        return reconcile.failed(name, variant, None, "unavailable", f"it is not installed; {counter.help}")
    why_not = counter.why_not_meta(stages.trace("meta"))
    device = wanted if wanted != "auto" else "cpu" if why_not else "meta"
    if device == "meta" and why_not:
        return reconcile.failed(name, variant, version, "skipped", f"{why_not}; use --device auto or cpu", device)
    model, inputs = stages.model(device)
    try:
        reported = counter.run(model, inputs)
    except CounterFailure as failure:
        return reconcile.failed(name, variant, version, "failed", str(failure), device)
    except Exception as error:
        return reconcile.failed(name, variant, version, "failed", first_line(error), device)
    # Where the answers are the same, so are the traces, and that of meta is there already.
    trace_device = device if why_not else "meta"
    prediction = predict(counter, *stages.model(trace_device), stages.trace(trace_device))
    return reconcile.reconcile(
        report.layers, reported, prediction, name=name, variant=variant, version=version, device=device
    )


def predict(counter: Counter, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Prediction:
    """Say what a counter will answer for a model and inputs, of which ``trace`` is the trace."""
    try:
        return counter.predict(counter.retrace(model, inputs, trace))
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))
