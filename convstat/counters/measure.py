"""From a model and its report to one reconciled row for each counter.

The model is built and traced once on the meta device, where nothing is allocated or computed.
A peer runs there too where its answer is known to be that of a real device, else on the CPU;
where a device is asked for, it runs on that.
Whatever a peer does, crash, hang or leave things behind, costs its own row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from convstat.counters import reconcile
from convstat.counters.base import Counter, CounterFailure, PredictedFailure, Prediction, Reported, Status, Unfit
from convstat.counters.capture import first_line, refusal_of_eval
from convstat.counters.kernel_walk import why_other_kernels
from convstat.counters.passes import Made, as_seen, with_unseen
from convstat.counters.stages import FAKE, GraphStages, Stages
from convstat.errors import ConvstatError, InternalError, UsageError
from convstat.graph import Graph
from convstat.patches.room import alone
from convstat.patches.time_limit import DEFAULT_SECONDS, Overtime, time_limit
from convstat.results.report import CounterRow, LayerRow, Report

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace

T = TypeVar("T")

DEVICES = ("auto", "cpu", "cuda", "meta")

SMALL_BYTES, SMALL_MACS = 2**30, 2 * 10**11
"""A model with less than this is traced on the CPU for a prediction where meta says something else: a few seconds."""


class Asking(NamedTuple):
    """How counters are asked: on which device, or predicted alone.

    Each may take so many seconds; None is as many as is usual, 0 any number.
    """

    device: str = "auto"
    predict: bool = False
    seconds: float | None = None


class Late(CounterFailure):
    """The tool gave no answer in the time that it has."""


USUAL = Asking()


def measure(
    graph: Graph,
    report: Report,
    counters: Sequence[Counter],
    *,
    device: str = "auto",
    dtype: str = "float32",
    predict: bool = False,
    seconds: float | None = None,
) -> tuple[CounterRow, ...]:
    """Run some counters on a graph and explain how they differ from its report; a failing one is a row too.

    With ``predict``, none is run: the rows hold what their conventions give.
    """
    check(device if counters else "auto", dtype)
    return measure_on(GraphStages(graph, dtype), report, counters, Asking(device, predict, seconds))


def check(device: str, dtype: str) -> None:
    """Refuse a device that there is not."""
    if device not in DEVICES:
        raise UsageError(f"unknown device '{device}'", help=f"it is one of {', '.join(DEVICES)}")
    if device in ("cpu", "cuda"):
        from convstat.trace.build import check_device

        check_device(device, dtype)


@alone
def measure_on(
    stages: Stages, report: Report, counters: Sequence[Counter], asking: Asking = USUAL
) -> tuple[CounterRow, ...]:
    """Run, or predict, some counters on a model that is made where it is wanted."""
    return tuple(_Row(counter, report, stages, asking).row() for counter in counters)


class Foreseen(NamedTuple):
    """A prediction, the device that it holds for, and what is to be said about that."""

    prediction: Prediction
    device: str
    note: str | None = None


@alone
def foresee(counter: Counter, report: Report, stages: Stages, asking: Asking = USUAL) -> Foreseen:
    """Say what a counter will answer, without running it.

    The trace is the one that is there already. Where that is of meta and the counter's answer depends on the device,
    a small model is traced on the CPU, as a run would be; for a large one the answer is that on meta, with a note.
    """
    device, trace = stages.foresight() if asking.device == "auto" else (asking.device, stages.trace(asking.device))
    note = None
    why = _why_not_foreseen(counter, stages, trace) if asking.device == "auto" and device == "meta" else None
    if why is not None:
        note = f"foreseen for the meta device, and on the CPU it may say something else: {why}"
        if report.totals.weight_bytes < SMALL_BYTES and report.totals.macs < SMALL_MACS:
            with suppress(CounterFailure, ConvstatError):
                device, trace, note = "cpu", stages.trace("cpu"), None
    prediction = _predicted(counter, stages, device, trace, asking.seconds)
    # Fake tensors pass for tensors of the CPU.
    return Foreseen(prediction, "cpu" if device == FAKE else device, note)


def predict(counter: Counter, model: torch.nn.Module, inputs: tuple[Any, ...], trace: Trace) -> Prediction:
    """Say what a counter will answer for a model and inputs, of which ``trace`` is the trace.

    Raises InternalError where a predictor of ours fails on its own: that tells nothing of the counter.
    """
    try:
        if getattr(counter, "calls_eval", False) and (reason := refusal_of_eval(model)):
            raise PredictedFailure(reason)
        retraced = counter.retrace(model, inputs, trace)
        made: Made = getattr(counter, "made", "seen")
        seen = as_seen(retraced, made)
        try:
            return with_unseen(counter.predict(seen), retraced, seen, made)
        except PredictedFailure:
            raise
        except Exception as error:
            if not _is_ours(counter):
                raise
            raise InternalError.of(f"predict {counter.name}", error) from error
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))


def _is_ours(counter: Counter) -> bool:
    return type(counter).__module__.startswith("convstat.")


def _why_not_foreseen(counter: Counter, stages: Stages, trace: Trace) -> str | None:
    """Why a counter's answer on the CPU may not follow from the trace of meta.

    A counter that cannot run on meta can be foreseen from there all the same, unless the kernels are others.
    """
    if stages.why_not_meta() or counter.why_not_meta(trace):
        # A counter may add up values, which no trace has.
        reads = getattr(counter, "reads_values", None)
        return stages.why_not_meta() or (reads and reads(trace)) or why_other_kernels(trace)
    return None


def _predicted(counter: Counter, stages: Stages, device: str, trace: Trace, seconds: float | None) -> Prediction:
    model, inputs = stages.model(device)

    def ask() -> Prediction:
        with stages.running(device):
            return predict(counter, model, inputs, trace)

    # Our own predictions run no code but ours and the model's, which the recording of a trace puts back by itself.
    return guarded(ask, None if _is_ours(counter) else model, seconds)


@alone
def guarded(ask: Callable[[], T], model: torch.nn.Module | None, seconds: float | None) -> T:
    """Ask a counter; whatever goes wrong with it is a CounterFailure, and nothing else is touched.

    Without a ``model``, what is asked is known to touch nothing.
    """
    from convstat.patches.isolation import isolated

    seconds = DEFAULT_SECONDS if seconds is None else seconds
    try:
        with isolated(model) if model is not None else nullcontext(), time_limit(seconds):
            return ask()
    except (CounterFailure, ConvstatError, InternalError, KeyboardInterrupt):
        raise
    except Overtime:
        raise Late(f"it gave no answer in {seconds:g} seconds", "with --timeout SECONDS it may take longer") from None
    except BaseException as error:
        # What ends a process, SystemExit, ends this row alone.
        raise CounterFailure(first_line(error)) from error


class _Row:
    """The row of one counter in the making."""

    def __init__(self, counter: Counter, report: Report, stages: Stages, asking: Asking) -> None:
        self.counter = counter
        self.report = report
        self.stages = stages
        self.asking = asking
        self.version: str | None = None
        self.device: str | None = None

    def row(self) -> CounterRow:
        """The row, whatever happens."""
        try:
            with time_limit(DEFAULT_SECONDS):
                self.version = self.counter.version()
            if self.asking.predict:
                return self._foreseen("predicted")
            if self.version is None:
                # A counter may have more to say: two distributions can share the name by which they are imported.
                said = getattr(self.counter, "unavailable", None)
                reason = (said and said()) or f"it is not installed; {self.counter.help}"
                return self._foreseen("unavailable", reason)
            return self._run()
        except Unfit as failure:
            return self._foreseen("skipped", str(failure))
        except CounterFailure as failure:
            return self._failed(str(failure))
        except (ConvstatError, InternalError, KeyboardInterrupt):
            raise
        except BaseException as error:
            return self._failed(first_line(error))

    def _run(self) -> CounterRow:
        counter, stages, wanted = self.counter, self.stages, self.asking.device
        self.device = "meta" if wanted == "auto" else wanted
        why_not = stages.why_not_meta() or counter.why_not_meta(stages.trace("meta"))
        self.device = wanted if wanted != "auto" else "cpu" if why_not else "meta"
        if self.device == "meta" and why_not:
            return self._foreseen("skipped", f"{why_not}; use --device auto or cpu")
        reported = self._reported()
        # Where the kernels are the same, so are the traces, and that of meta is there already.
        place = self.device
        layers = self.report.layers
        if place != "meta" and stages.rests_on_data():
            # The run is another one than was counted: what it costs is counted beside it.
            layers = self._layers_of(place)
        elif not stages.why_not_meta() and _why_not_foreseen(counter, stages, stages.trace("meta")) is None:
            place = "meta"
        fault = None
        try:
            prediction = _predicted(counter, stages, place, stages.trace(place), self.asking.seconds)
        except CounterFailure as failure:
            prediction = Prediction(None, None, failure=str(failure))
        except InternalError as error:
            prediction, fault = Prediction(None, None, failure=str(error)), str(error)
        row = reconcile.reconcile(layers, reported, prediction, **self._named(self.device))
        if layers is not self.report.layers:
            row = reconcile.on_other_data(row, self.report.layers, layers)
        return replace(row, note=fault) if fault else row

    def _layers_of(self, device: str) -> tuple[LayerRow, ...]:
        """What the run on a device costs, layer by layer; what was counted where it cannot be traced."""
        from convstat.count import traces as traces_module

        try:
            trace = self.stages.trace(device)
        except CounterFailure:
            return self.report.layers
        return traces_module.count(trace, name="", source="", inputs=()).layers

    def _reported(self) -> Reported:
        """The answer; where meta alone is what a counter fails on, that of the CPU."""
        assert self.device is not None
        try:
            return self._asked(self.device)
        except Late:
            raise
        except CounterFailure as failure:
            if self.asking.device != "auto" or self.device != "meta" or self._foresees_failure():
                raise
            try:
                reported = self._asked("cpu")
            except Unfit:
                raise failure from None
            except CounterFailure:
                self.device = "cpu"
                raise
            self.device = "cpu"
            return reported

    def _asked(self, device: str) -> Reported:
        model, inputs = self._model(device)

        def ask() -> Reported:
            with self.stages.running(device):
                return _checked(self.counter.run(model, inputs))

        return guarded(ask, model, self.asking.seconds)

    def _model(self, device: str) -> tuple[torch.nn.Module, tuple[Any, ...]]:
        try:
            return self.stages.model(device)
        except ConvstatError as error:
            if self.asking.device != "auto" or device == "meta":
                raise
            # Nobody asked for this device: only this counter needs it.
            raise Unfit(error.diagnostics[0].message) from error

    def _named(self, device: str | None) -> dict[str, Any]:
        counter = self.counter
        named = {"name": counter.name, "variant": counter.variant, "version": self.version, "device": device}
        # A counter of another package may have causes of its own.
        return {**named, "causes": getattr(counter, "causes", None)}

    def _foreseen(self, status: Status, reason: str | None = None) -> CounterRow:
        """A row of what the counter would say, if it can be told; ``reason`` is why it was not run."""
        foreseen = None
        try:
            asking = self.asking if status == "predicted" else self.asking._replace(device="auto")
            foreseen = foresee(self.counter, self.report, self.stages, asking)
        except KeyboardInterrupt:
            raise
        except InternalError as error:
            if status == "predicted":
                return self._failed(str(error))
            reason = f"{reason}; {error}"
        except Exception as error:
            if status == "predicted":
                if isinstance(error, ConvstatError):
                    raise
                return self._failed(f"there is no prediction: {first_line(error)}")
        named = self._named(foreseen.device if foreseen and status == "predicted" else self.device)
        return reconcile.foreseen(
            self.report.layers,
            foreseen.prediction if foreseen else None,
            status=status,
            error=reason,
            note=foreseen.note if foreseen else None,
            **named,
        )

    def _failed(self, error: str) -> CounterRow:
        row = reconcile.failed(self.counter.name, self.counter.variant, self.version, "failed", error, self.device)
        return replace(row, is_foreseen=not self.asking.predict and self._foresees_failure())

    def _foresees_failure(self) -> bool:
        """Whether the counter's prediction for this model is that it fails."""
        device = self.device or "meta"
        try:
            trace = self.stages.trace(device)
            prediction = _predicted(self.counter, self.stages, device, trace, self.asking.seconds)
        except KeyboardInterrupt:
            raise
        except BaseException:
            # The model may be what fails, or we are; then nothing was predicted.
            return False
        return prediction.failure is not None


def _checked(reported: Reported) -> Reported:
    """Refuse what is no answer: a tool's figure is a whole number or none."""
    if not isinstance(reported, Reported):
        raise CounterFailure(f"its adapter gave {type(reported).__name__}, and not Reported")
    for name, figure in (("params", reported.params), ("macs", reported.macs)):
        if figure is not None and type(figure) is not int:
            raise CounterFailure(f"its {name} are no whole number: {figure!r}")
    return reported
