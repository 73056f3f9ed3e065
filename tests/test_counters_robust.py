"""A counter that crashes, hangs, lies or leaves things behind costs its own row, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from chains import Chain, count
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convstat.counters import COUNTERS, CounterFailure, Prediction, Registry, Reported, Term, measure
from convstat.counters.measure import foresee, version_of
from convstat.counters.stages import GraphStages
from convstat.errors import UsageError
from convstat.graph import Graph
from convstat.patches.isolation import isolated
from convstat.patches.time_limit import Overtime, allowed, time_limit
from convstat.results.report import CounterRow
from convstat.trace import Trace


def _graph() -> Graph:
    chain = Chain((1, 3, 8, 8))
    chain.add("Conv2d", "conv", out_channels=4, kernel_size=3, padding=1).add("BatchNorm2d", "norm")
    return chain.add("ReLU", "act").add("Flatten", "flat").add("Linear", "head", out_features=5).graph()


def _right(*_: Any) -> Reported:
    return Reported(params=7, macs=11)


class Fake:
    """A counter that does what it is told."""

    name = "fake"
    variant = "default"
    unit = "MACs"
    help = "there is no help"
    counts = "what it is told"
    defects = ()

    def __init__(self, run: Callable[..., Any] = _right, **others: Callable[..., Any]) -> None:
        self._run = run
        for name, value in others.items():
            setattr(self, name, value)

    def version(self) -> str | None:
        """A version."""
        return "1"

    def run(self, model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        """Do it."""
        return self._run(model)

    def predict(self, trace: Trace) -> Prediction:
        """Foresee that it answers 7 and 11."""
        return Prediction(7, 11, (Term("conv", 11, 7), Term("head", 0, 0, "no_rule")))

    def why_not_meta(self, trace: Trace) -> str | None:
        """Run on meta."""
        return None

    def retrace(self, model: nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """Take the trace that is there."""
        return trace


def rows(fake: Any, **options: Any) -> tuple[CounterRow, CounterRow, CounterRow]:
    """The rows of a sound counter before it, of the fake one, and of a sound one after it."""
    graph = _graph()
    sound = COUNTERS["flopcountermode"]
    first, own, last = measure(graph, count(graph), (sound, fake, sound), **options)
    assert first.status == last.status == "ok"
    assert first == last, "what comes after is not as what came before"
    return first, own, last


def _raises(error: BaseException) -> Callable[..., Any]:
    def run(*_: object) -> Any:
        raise error

    return run


CRASHES = {
    "an exception": ValueError("it broke"),
    "an assertion": AssertionError(),
    "the end of the process": SystemExit(3),
    "the end of a generator": GeneratorExit(),
    "no memory": MemoryError("all gone"),
    "endless recursion": RecursionError("maximum recursion depth exceeded"),
}


@pytest.mark.parametrize("place", ["run", "version", "predict", "why_not_meta", "retrace"])
@pytest.mark.parametrize("error", CRASHES.values(), ids=CRASHES)
def test_a_crash_anywhere_is_a_row_with_its_reason(error: BaseException, place: str) -> None:
    """Whatever is raised, wherever; only a failing prediction leaves the answer, all of it unexplained."""
    _, row, _ = rows(Fake(**{place: _raises(error)}))
    said = row.error or ""
    if place in ("predict", "retrace"):
        assert ("ok", None, 7, 11) == (row.status, row.predicted, row.reported.params, row.reported.macs)
        assert row.difference == row.unexplained
    else:
        assert "failed" == row.status
        assert type(error).__name__ in said
        assert "\n" not in said
    assert not row.is_reconciled


def test_an_interruption_by_the_user_is_no_row() -> None:
    """Ctrl-C ends everything."""
    with pytest.raises(KeyboardInterrupt):
        rows(Fake(_raises(KeyboardInterrupt())), in_process=True)


def _spins(*_: object) -> Any:
    while True:
        pass


def _spins_and_swallows(*_: object) -> Any:
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


def _sleeps(*_: object) -> Any:
    time.sleep(60)


def _multiplies(*_: object) -> Any:
    matrix = torch.rand(64, 64)
    while True:
        matrix = matrix @ matrix


@pytest.mark.parametrize("hangs", [_spins, _spins_and_swallows, _sleeps, _multiplies], ids=lambda run: run.__name__)
@pytest.mark.parametrize("place", ["run", "predict"])
@pytest.mark.parametrize("in_process", [False, True])
def test_a_hang_ends_with_the_time_limit(hangs: Callable[..., Any], place: str, in_process: bool) -> None:
    """In Python, asleep, and in one kernel after another; also where no process of its own is to be had."""
    graph = _graph()
    started = time.monotonic()
    with allowed(0.2):
        (row,) = measure(graph, count(graph), (Fake(**{place: hangs}),), in_process=in_process)
    assert time.monotonic() - started < 10
    if place == "run":
        assert ("failed", False) == (row.status, row.is_foreseen)
        assert "it gave no answer within 0.2 seconds; --timeout SECONDS sets a longer limit" == row.error
    else:
        assert ("ok", None) == (row.status, row.predicted)


@pytest.mark.parametrize(
    "place", ["run", "predict", "retrace", "version", "why_not_meta", "reads_values", "unavailable"]
)
def test_one_time_limit_reaches_all_that_a_counter_is_asked(place: str) -> None:
    """Whoever asks: for a row, a prediction, or its version alone."""
    graph = _graph()
    others = {"unavailable": {"version": lambda: None}, "reads_values": {"why_not_meta": lambda trace: "so"}}
    fake: Any = Fake(**{**others.get(place, {}), place: _sleeps})
    report = count(graph)
    started = time.monotonic()
    with allowed(0.2):
        measure(graph, report, (fake,))
        measure(graph, report, (fake,), predict=True)
        version_of(fake)
        with suppress(CounterFailure):
            foresee(fake, report, GraphStages(graph, "float32"))
    assert time.monotonic() - started < 10


def test_the_time_limit_holds_beside_the_main_thread() -> None:
    """There no alarm can be set, and an exception is set for the thread instead."""
    found: list[str] = []

    def work() -> None:
        try:
            with time_limit(0.1):
                _spins_and_swallows()
        except Overtime:
            found.append("over")
        # What came late would come up here.
        for _ in range(1000):
            time.sleep(0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert ["over"] == found


def test_a_time_limit_beside_the_main_thread_leaves_nothing_to_look_for() -> None:
    """An exception that is taken back would be looked for at every call, and under a tracer for ever at the first."""
    code = """
import sys, threading
from convstat.patches.time_limit import Overtime, allowed, time_limit

def work():
    with time_limit(20):
        pass
    try:
        with time_limit(0.05):
            while True:
                pass
    except Overtime:
        print("met")

thread = threading.Thread(target=work)
thread.start()
thread.join()
sys.settrace(lambda *_: None)
(lambda: None)()
sys.settrace(None)
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "met\ndone\n" == done.stdout


def test_the_time_limit_leaves_the_alarm_of_others() -> None:
    """Handler and timer are those from before, with the time that is left."""
    rung: list[int] = []
    handler = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 30)
        with time_limit(20):
            pass
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        assert 25 < left <= 30
        with pytest.raises(Overtime), time_limit(0.05):
            _spins()
        signal.raise_signal(signal.SIGALRM)
        assert [signal.SIGALRM] == rung
    finally:
        signal.signal(signal.SIGALRM, handler)


def test_no_time_limit_is_none() -> None:
    """0 sets no alarm."""
    with time_limit(0):
        assert (0.0, 0.0) == signal.getitimer(signal.ITIMER_REAL)


def _patches(*_: object) -> None:
    F.relu = _raises(ValueError("a patch that stayed"))  # type: ignore[assignment]
    torch.Tensor.matmul = _raises(ValueError("a patch that stayed"))  # type: ignore[assignment,method-assign]
    torch.conv2d = _raises(ValueError("a patch that stayed"))
    nn.Conv2d.forward = _raises(ValueError("a patch that stayed"))  # type: ignore[method-assign]
    nn.Module.__call__ = _raises(ValueError("a patch that stayed"))  # type: ignore[method-assign]
    nn.ReLU.extra = 1  # type: ignore[attr-defined]


def _hooks(model: nn.Module) -> None:
    for module in model.modules():
        module.register_forward_hook(_raises(ValueError("a hook that stayed")))
        module.register_buffer("left", torch.zeros(3))
        module.train()


def _hooks_on_all(*_: object) -> None:
    nn.modules.module.register_module_forward_hook(_raises(ValueError("a hook that stayed")))


def _moves(model: nn.Module) -> None:
    model.requires_grad_(False)
    model.half()


def _takes_apart(model: nn.Module) -> None:
    for module in model.modules():
        module._modules.clear()
        module._parameters.clear()


def _changes_torch(*_: object) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(99)


class _Mode(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise ValueError("a mode that stayed")


def _stays_in_a_mode(*_: object) -> None:
    _Mode().__enter__()


def _changes_the_process(*_: object) -> None:
    sys.stdout = None  # type: ignore[assignment]
    os.environ["CONVSTAT_LEAKED"] = "1"
    os.chdir("/")
    warnings.simplefilter("error")


LEAKS = (_patches, _hooks, _hooks_on_all, _moves, _takes_apart, _changes_torch, _stays_in_a_mode, _changes_the_process)


def _state(model: nn.Module) -> dict[str, Any]:
    return {
        "names": [name for name, _ in model.named_modules()],
        "tables": [
            {n: {k: id(i) for k, i in v.items()} for n, v in vars(m).items() if isinstance(v, dict)}
            for m in model.modules()
        ],
        "parameters": [(id(p), p.dtype, p.requires_grad) for p in model.parameters()],
        "training": [module.training for module in model.modules()],
        "functions": (F.relu, vars(torch.Tensor).get("matmul"), torch.conv2d, nn.Conv2d.forward, nn.Module.__call__),
        "classes": set(vars(nn.ReLU)),
        "hooks": len(nn.modules.module._global_forward_hooks),
        "torch": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()),
        "random": torch.get_rng_state().tolist(),
        "modes": len(torch.utils._python_dispatch._get_current_dispatch_mode_stack()),
        "process": (sys.stdout, dict(os.environ), os.getcwd(), list(warnings.filters)),
    }


@pytest.mark.parametrize("then", ["answers", "raises", "hangs"])
@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__.strip("_"))
def test_what_a_counter_leaves_behind_reaches_nobody(leak: Callable[..., None], then: str) -> None:
    """The row after it is that before it, and the process is as it was; also when it fails, or is stopped."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    before = _state(model)

    def act() -> None:
        leak(model)
        if then == "raises":
            raise ValueError("after all that")
        if then == "hangs":
            raise Overtime

    with pytest.raises((ValueError, Overtime)) if then != "answers" else warnings.catch_warnings(), isolated(model):
        act()
    assert before == _state(model)

    def run(model: nn.Module) -> Reported:
        leak(model)
        if then == "raises":
            raise ValueError("after all that")
        return _right()

    _, row, _ = rows(Fake(run), device="cpu", in_process=True)
    assert ("failed" if then == "raises" else "ok") == row.status


def test_the_leaks_are_leaks() -> None:
    """Each of them is seen by the comparison, where nothing puts it back."""
    for leak in LEAKS:
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        before = _state(model)
        with isolated(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), isolated(model):
            leak(model)
            # In the mode that stays and with the patches, tensors cannot be looked at.
            if leak not in (_stays_in_a_mode, _patches):
                assert before != _state(model), leak.__name__


@pytest.mark.parametrize("answer", [None, (1, 2), Reported(macs=1.5), Reported(params=True)], ids=repr)  # type: ignore[arg-type]
def test_what_is_no_answer_is_a_failed_row(answer: Any) -> None:
    """A figure is a whole number or none, in a Reported."""
    _, row, _ = rows(Fake(lambda model: answer))
    assert "failed" == row.status
    assert "its adapter gave" in str(row.error) or "not an integer" in str(row.error)


def test_a_code_that_nobody_knows_is_told_and_explains_nothing() -> None:
    """A counter of another package brings the sentences of its own codes along."""
    terms = (Term("conv", 8 * 8 * 4 * 27, 0), Term("head", 5, 0, "moody"))
    fake = Fake(lambda model: Reported(macs=8 * 8 * 4 * 27 + 5), predict=lambda trace: Prediction(None, 6917, terms))
    _, row, _ = rows(fake)
    assert ("moody", "unexplained") in {(cause.code, cause.verdict) for cause in row.causes}
    fake.causes = {"moody": ("convention", "counts more on Mondays")}  # type: ignore[attr-defined]
    _, row, _ = rows(fake)
    assert "counts more on Mondays" in {cause.text for cause in row.causes}


def test_a_plugin_that_cannot_be_loaded_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import error is the reason; the others run."""
    from importlib import metadata

    def broken() -> Any:
        raise ImportError("no module named nothing")

    class Point:
        name, value = "broken-plugin", "plugin:broken"
        load = staticmethod(broken)

    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point()] if group == "convstat.counters" else [])
    registry = Registry((COUNTERS["flopcountermode"],))
    assert ["flopcountermode", "broken-plugin"] == list(registry)
    graph = _graph()
    ours, row = measure(graph, count(graph), tuple(registry.values()))
    assert ("ok", "unavailable") == (ours.status, row.status)
    assert "cannot be loaded: ImportError: no module named nothing" in str(row.error)


ODD = {
    "name": (5, "its name is not a string"),
    "name ": ("two words", "cannot be called 'two words'"),
    "name  ": ("a\x1b[2J", "cannot be called 'a"),
    "name   ": ("x" * 101, "cannot be called 'x"),
    "unit": (b"MACs", "its unit is not a string"),
    "counts": (None, "its counts is not a string"),
    "defects": (7, "its defects are not a tuple"),
    "defects ": ((7,), "its defects is not a string"),
    "causes": (3, "its causes are not"),
    "causes ": ({"mine": ("mood", "so")}, "its causes are not"),
    "causes  ": ({"mine": 3}, "its causes are not"),
    "walks": (("eval",), "its walks are not a tuple"),
    "made": ("perhaps", "what it makes of modules is 'perhaps'"),
}
"""Attributes of a counter that are not what they are to be, and what is said."""


@pytest.mark.parametrize("name", ODD)
def test_the_attributes_of_a_counter_are_looked_at_as_it_is_loaded(name: str) -> None:
    """They are read by what makes tables and documents, which trusts them; what is sound is taken."""
    value, said = ODD[name]
    fake: Any = Fake(**{name.strip(): value})
    with pytest.raises((TypeError, ValueError), match=said):
        Registry((fake,))
    sound: Any = Fake(causes={"mine": ("convention", "so")}, defects=["one"], made="unseen", counts="all", walks=())
    assert ["fake"] == [counter.name for counter in Registry((sound,))._table.values()]


def test_a_plugin_that_is_no_counter_or_takes_a_name_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's counter is replaced, nothing ends for it, and the reason is told; so too where its import exits."""
    from importlib import metadata

    class Point:
        def __init__(self, name: str, made: Any) -> None:
            self.name, self.value, self.made = name, f"plugin:{name}", made

        def load(self) -> Any:
            return self.made

    def leaves() -> Any:
        raise SystemExit(3)

    fake = Fake()
    fake.name = "flopcountermode"
    points = [Point("flopcountermode", lambda: fake), Point("nothing", object), Point("leaves", leaves)]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == "convstat.counters" else [])
    registry = Registry((COUNTERS["flopcountermode"],))
    assert ["flopcountermode", "plugin:flopcountermode", "nothing", "leaves"] == list(registry)
    assert COUNTERS["flopcountermode"] is registry["flopcountermode"]
    graph = _graph()
    ours, *others = measure(graph, count(graph), tuple(registry.values()))
    assert ["ok", "unavailable", "unavailable", "unavailable"] == [ours.status, *(row.status for row in others)]
    assert "two counters are called 'flopcountermode'" in str(others[0].error)
    assert "the counter builtins.object has no name, variant, unit, help, version, run, predict" in str(others[1].error)
    assert "SystemExit: 3" in str(others[2].error)


def test_an_unknown_device_is_refused_before_anything_runs() -> None:
    """A mistake of the user is no row."""
    with pytest.raises(UsageError):
        rows(Fake(), device="tpu")


def test_a_failure_with_help_says_both() -> None:
    """The reason, and what would get an answer."""
    _, row, _ = rows(Fake(_raises(CounterFailure("it cannot", "do it yourself"))))
    assert "it cannot; do it yourself" == row.error


def test_a_prediction_that_cannot_be_made_is_told_without_our_names() -> None:
    """What went wrong in an adapter of another package, and not which class of ours carried it."""

    def broken(trace: Trace) -> Prediction:
        raise KeyError("x")

    graph = _graph()
    (row,) = measure(graph, count(graph), (Fake(predict=broken),), predict=True)
    assert ("failed", "no prediction: KeyError: 'x'") == (row.status, row.error)
