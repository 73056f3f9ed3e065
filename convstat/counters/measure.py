"""From a model and its report to one reconciled row for each counter.

The model is built and traced once on the meta device, where nothing is allocated or computed.
A peer runs there too where its answer is known to be that of a real device, else on the CPU;
where a device is asked for, it runs on that.
Whatever a peer does, crash, hang or leave things behind, costs its own row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from convstat.counters import checked, reconcile
from convstat.counters.apart import Apart, is_ours
from convstat.counters.base import (
    Counter,
    CounterFailure,
    InWidths,
    PredictedFailure,
    Prediction,
    Reported,
    Status,
    Unfit,
)
from convstat.counters.capture import first_line, refusal_of_eval
from convstat.counters.conventions.base import Convention
from convstat.counters.crew import Crew, Late, Question, guarded
from convstat.counters.jit.graph import keeping
from convstat.counters.kernel_walk import why_other_kernels
from convstat.counters.passes import Made, as_seen, with_unseen
from convstat.counters.stages import FAKE, GraphStages, Stages
from convstat.errors import ConvstatError, InternalError, UsageError
from convstat.graph import Graph
from convstat.patches.room import alone
from convstat.results.report import CounterRow, LayerRow, Report
from convstat.trace.walks import EVAL, why_endless

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace

DEVICES = ("auto", "cpu", "cuda", "meta")

SMALL_BYTES, SMALL_MACS = 2**30, 2 * 10**11
"""A model with less than this is traced on the CPU for a prediction where meta says something else: a few seconds."""


class Asking(NamedTuple):
    """How counters are asked: on which device, or predicted alone.

    Each runs in a process of its own, where this one can be forked safely; with ``in_process`` all run in this one.
    """

    device: str = "auto"
    predict: bool = False
    in_process: bool = False

    def crew(self) -> Crew:
        """Who asks them."""
        return Crew(in_process=self.in_process)


USUAL = Asking()


def measure(
    graph: Graph,
    report: Report,
    counters: Sequence[Counter],
    *,
    device: str = "auto",
    dtype: str = "float32",
    predict: bool = False,
    in_process: bool = False,
) -> tuple[CounterRow, ...]:
    """Run some counters on a graph and explain how they differ from its report; a failing one is a row too.

    With ``predict``, none is run: the rows hold what their conventions give.
    """
    check(device if counters else "auto", dtype)
    return measure_on(GraphStages(graph, dtype), report, counters, Asking(device, predict, in_process))


def check(device: str, dtype: str) -> None:
    """Refuse a device that there is not."""
    if device not in DEVICES:
        raise UsageError(f"unknown device '{device}'", help=f"it is one of {', '.join(DEVICES)}")
    if device in ("cpu", "cuda"):
        from convstat.trace.build import check_device

        check_device(device, dtype)


def _refuse_a_pass_under_way() -> None:
    """Refuse to ask counters in a pass that is being recorded: they look functions up that are replaced meanwhile."""
    if "torch" not in sys.modules:
        return
    from convstat.trace.record import is_recording

    if is_recording():
        raise UsageError(
            "a model that is being counted asks for counters in its own forward pass",
            help="count there without counters, or ask them outside of the model",
        )


@alone
def measure_on(
    stages: Stages, report: Report, counters: Sequence[Counter], asking: Asking = USUAL
) -> tuple[CounterRow, ...]:
    """Run, or predict, some counters on a model that is made where it is wanted.

    All are asked before the first answer is waited for.
    """
    _refuse_a_pass_under_way()
    with asking.crew() as crew:
        rows = [_Row(counter, report, stages, asking, crew) for counter in counters]
        for row in rows:
            row.start()
        return tuple(row.finish() for row in rows)


@alone
def version_of(counter: Counter) -> str | None:
    """The installed version of a counter; None where there is none, or it cannot say."""
    with Crew() as crew, suppress(CounterFailure):
        return Apart(counter, crew).version()
    return None


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
    with asking.crew() as crew:
        return _foreseen(crew, counter, report, stages, asking)


def _foreseen(crew: Crew, counter: Counter, report: Report, stages: Stages, asking: Asking) -> Foreseen:
    device, trace = stages.foresight() if asking.device == "auto" else (asking.device, stages.trace(asking.device))
    note = None
    why = (
        _why_not_foreseen(Apart(counter, crew), stages, trace) if asking.device == "auto" and device == "meta" else None
    )
    if why is not None:
        note = f"predicted for the meta device; on the CPU it may report something else: {why}"
        if report.totals.weight_bytes < SMALL_BYTES and report.totals.macs < SMALL_MACS:
            with suppress(CounterFailure, ConvstatError):
                device, trace, note = "cpu", stages.trace("cpu"), None
    prediction = _predicted(crew, counter, stages, device, trace)
    if is_ours(counter) and isinstance(counter, InWidths):
        prediction = counter.in_widths(prediction, trace, report)
    # Fake tensors pass for tensors of the CPU.
    return Foreseen(prediction, "cpu" if device == FAKE else device, note)


def predict(counter: Counter, model: torch.nn.Module, inputs: tuple[Any, ...], trace: Trace) -> Prediction:
    """Say what a counter will answer for a model and inputs, of which ``trace`` is the trace.

    Raises InternalError where a predictor of ours fails on its own: that tells nothing of the counter.
    """
    try:
        walks = getattr(counter, "walks", ())
        if reason := why_endless(model, walks) or (refusal_of_eval(model) if EVAL in walks else None):
            raise PredictedFailure(reason)
        retraced = counter.retrace(model, inputs, trace)
        made: Made = getattr(counter, "made", "seen")
        seen = as_seen(retraced, made, flat=getattr(counter, "takes_jagged", False))
        try:
            return with_unseen(counter.predict(seen), retraced, seen, made)
        except PredictedFailure:
            raise
        except Exception as error:
            if not is_ours(counter):
                raise
            raise InternalError.of(f"predict {counter.name}", error) from error
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))


def _why_not_foreseen(apart: Apart, stages: Stages, trace: Trace) -> str | None:
    """Why a counter's answer on the CPU may not follow from the trace of meta.

    A counter that cannot run on meta can be foreseen from there all the same, unless the kernels are others.
    """
    if stages.why_not_meta() or apart.why_not_meta(trace):
        return stages.why_not_meta() or apart.reads_values(trace) or why_other_kernels(trace)
    return None


def _predicted(crew: Crew, counter: Counter, stages: Stages, device: str, trace: Trace) -> Prediction:
    model, inputs = stages.model(device)

    def ask() -> Prediction:
        with stages.running(device), keeping(stages.recordings):
            return predict(counter, model, inputs, trace)

    if is_ours(counter):
        # It runs no code but ours and the model's, which the recording of a trace puts back by itself.
        return guarded(ask, None, crew.seconds)
    return crew.ask(ask, checked.prediction, model, device).answer()


class _Row:
    """The row of one counter in the making: first it is asked, then its answer is waited for."""

    def __init__(self, counter: Counter, report: Report, stages: Stages, asking: Asking, crew: Crew) -> None:
        self.counter = counter
        self.report = report
        self.stages = stages
        self.asking = asking
        self.crew = crew
        self.apart = Apart(counter, crew)
        self.version: str | None = None
        self.device: str | None = None
        self._rest: Callable[[], CounterRow] = partial(self._failed, "it was not asked")

    def start(self) -> None:
        """Ask the counter, where it is to be asked."""
        try:
            self._rest = self._begun()
        except (ConvstatError, InternalError, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._rest = partial(_raise, error)

    def finish(self) -> CounterRow:
        """The row, whatever happens."""
        try:
            return self._rest()
        except Unfit as failure:
            return self._foreseen("skipped", str(failure))
        except CounterFailure as failure:
            return self._failed(str(failure))
        except (ConvstatError, InternalError, KeyboardInterrupt):
            raise
        except BaseException as error:
            return self._failed(first_line(error))

    def _begun(self) -> Callable[[], CounterRow]:
        """Ask; returns what makes the row."""
        stages, wanted = self.stages, self.asking.device
        self.version = self.apart.version()
        if self.asking.predict or isinstance(self.counter, Convention):
            return partial(self._foreseen, "predicted")
        if self.version is None:
            return partial(self._foreseen, "unavailable", self.apart.unavailable())
        self.device = "meta" if wanted == "auto" else wanted
        why_not = stages.why_not_meta() or self.apart.why_not_meta(stages.trace("meta"))
        self.device = wanted if wanted != "auto" else "cpu" if why_not else "meta"
        if self.device == "meta" and why_not:
            return partial(self._foreseen, "skipped", f"{why_not}; use --device auto or cpu")
        return partial(self._reconciled, self._ask(self.device))

    def _reconciled(self, question: Question[Reported]) -> CounterRow:
        stages, counter = self.stages, self.counter
        reported = self._answer(question)
        assert self.device is not None
        # Where the kernels are the same, so are the traces, and that of meta is there already.
        place = self.device
        layers = self.report.layers
        if place != "meta" and stages.rests_on_data():
            # The run is another one than was counted: what it costs is counted beside it.
            layers = self._layers_of(place)
        elif not stages.why_not_meta() and _why_not_foreseen(self.apart, stages, stages.trace("meta")) is None:
            place = "meta"
        fault = None
        try:
            prediction = _predicted(self.crew, counter, stages, place, stages.trace(place))
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

    def _answer(self, question: Question[Reported]) -> Reported:
        """The answer; where meta alone is what a counter fails on, that of the CPU."""
        try:
            return question.answer()
        except Late:
            raise
        except CounterFailure as failure:
            if self.asking.device != "auto" or self.device != "meta" or self._foresees_failure():
                raise
            try:
                reported = self._ask("cpu").answer()
            except Unfit:
                raise failure from None
            except CounterFailure:
                self.device = "cpu"
                raise
            self.device = "cpu"
            return reported

    def _ask(self, device: str) -> Question[Reported]:
        model, inputs = self._model(device)
        if reason := why_endless(model, getattr(self.counter, "walks", ())):
            raise CounterFailure(f"it was not run: {reason}")

        def ask() -> Reported:
            with self.stages.running(device):
                return self.counter.run(model, inputs)

        return self.crew.ask(ask, checked.reported, model, device)

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
            foreseen = _foreseen(self.crew, self.counter, self.report, self.stages, asking)
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
                return self._failed(f"no prediction: {first_line(error)}")
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
            prediction = _predicted(self.crew, self.counter, self.stages, device, trace)
        except KeyboardInterrupt:
            raise
        except BaseException:
            # The model may be what fails, or we are; then nothing was predicted.
            return False
        return prediction.failure is not None


def _raise(error: BaseException) -> NoReturn:
    raise error
