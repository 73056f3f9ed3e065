"""The process is left as it was, whatever else it does: other threads, interruptions, what is imported meanwhile."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils import _python_dispatch

import convstat
from convstat.errors import UsageError
from convstat.patches import (
    autocast,
    checkpoint,
    collection,
    compiler,
    dispatch,
    doors,
    functions,
    hooks,
    imports,
    interception,
    isolation,
    kernels_of,
    limits,
    offline,
    operators,
    preserve,
    quiet,
    room,
    states,
    surroundings,
    threads,
    time_limit,
    torch_states,
    tracing,
    values,
)
from convstat.trace.calls import Call, KernelCall, ModuleCall, Trace
from convstat.trace.record import record
from convstat.trace.unseen import Watch

# Limits of the whole process.

SHOWS_LIMITS = """import resource
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.show("made")

    def forward(self, x):
        self.show("runs")
        return x

    def show(self, what):
        print(what, [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")])
"""


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_library_sets_no_limit_on_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], device: str
) -> None:
    """Whatever is imported, made and run inside ``convstat.analyze`` finds all limits of the process as they were."""
    resource = pytest.importorskip("resource")
    (tmp_path / "shows.py").write_text(SHOWS_LIMITS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    convstat.analyze("shows.py:Net", "8", device=device, counters="all")
    shown = capfd.readouterr().err.splitlines()
    assert {"made", "runs"} == {line.partition(" ")[0] for line in shown}
    assert {str(limits)} == {line.partition(" ")[2] for line in shown}


def test_the_command_line_limits_its_own_process(tmp_path: Path) -> None:
    """The same model sees a limit on its memory there, where the system tells how much a process uses."""
    resource = pytest.importorskip("resource")
    status = Path("/proc/self/status")
    if not status.is_file() or "VmData" not in status.read_text():
        pytest.skip("this system does not tell how much a process uses")
    (tmp_path / "shows.py").write_text(SHOWS_LIMITS, encoding="utf-8")
    command = (sys.executable, "-m", "convstat", "analyze", "shows.py:Net", "-i", "8", "--counters", "none")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    before = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    (made, *_) = (line for line in done.stderr.splitlines() if line.startswith("made"))
    assert str(before) != made.partition(" ")[2]


# Other threads.


class Net(nn.Module):
    """Modules, functions that peers patch, and a product by operator; ``during`` is called in the middle."""

    def __init__(self, width: int, during: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.head = nn.Linear(width, 5, bias=False)
        self.during = during

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        x = F.relu(self.conv(x))
        if self.during is not None:
            self.during()
        x = torch.matmul(x, x.mT)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def macs_of(width: int) -> int:
    """What one sample of 8 x 8 costs."""
    return 8 * 8 * 3 * width * 3 * 3 + width * 8 * 8 * 8 + width * 5


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[list[int]]:
    """Do something again and again in a thread that nobody counts; yields how often it was done, and any failure."""
    turns, over, failures = [0], threading.Event(), list[BaseException]()

    def loop() -> None:
        try:
            while not over.is_set():
                work()
                turns[0] += 1
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield turns
    finally:
        over.set()
        thread.join()
    assert not failures, failures


def small_snapshot() -> dict[str, Any]:
    """What the patches of the room replace, without what they do not come near."""
    import builtins
    import gc
    import logging

    found = {
        f"{getattr(owner, '__name__', owner)}.{name}": vars(owner).get(name)
        for owner, names in functions.PATCHED.values()
        for name in names
    }
    for owner in (nn.Module, torch.jit.ScriptFunction, torch.autograd.function.FunctionMeta, threading.Thread, Thing):
        found.update({f"{owner.__name__}.{name}": value for name, value in vars(owner).items()})
    for module in (torch.overrides, torch.nn.modules.module, sys, builtins, sys.modules[__name__]):
        for name, value in vars(module).items():
            if not name.startswith(("__", "last_")) and name != "_":
                found[f"{module.__name__}.{name}"] = dict(value) if isinstance(value, dict) else value
    return {
        **found,
        "tracing": (torch._C._get_tracing_state, torch._C._is_tracing, torch._C.fork),
        "functions of torch": {name: value for name, value in vars(torch).items() if callable(value)},
        "submit": ThreadPoolExecutor.submit,
        "start_new": sys.modules["_thread"].start_new_thread,
        "adopting": len(threads._adopting),
        "collecting": gc.isenabled(),
        "level": logging.getLogger("convstat.test").level,
        "kept": sum(hasattr(pair[0], "__dynamo_disable") for pair in compiler._DECORATED.functions.values()),
        "optimizes": torch._C._get_graph_executor_optimize(),
        "model": {name: dict(vars(module)) for name, module in MODEL.named_modules()},
        **_of_process(),
    }


def snapshot() -> dict[str, Any]:
    """What is replaced anywhere: the attributes of torch, its functions and classes, Python's, and its tables."""
    import builtins
    import warnings

    owners: dict[str, Any] = {
        "torch": torch,
        "F": F,
        "Tensor": torch.Tensor,
        "Module": nn.Module,
        "Function": torch.autograd.function.FunctionMeta,
        "ScriptFunction": torch.jit.ScriptFunction,
        "overrides": torch.overrides,
        "C": torch._C,
        "builtins": builtins,
        "Thread": threading.Thread,
        "pool": ThreadPoolExecutor,
        "registration": nn.modules.module,
        "warnings": warnings,
        "sys": sys,
    }
    left = ("_", "last_exc", "last_type", "last_value", "last_traceback", "__warningregistry__")
    found = {
        f"{owner}.{name}": dict(value) if name.startswith("_global") and isinstance(value, dict) else value
        for owner, holder in owners.items()
        for name, value in vars(holder).items()
        if name not in left
    }
    return {**found, **_of_process()}


def _of_process() -> dict[str, Any]:
    import os
    import signal
    import warnings

    return {
        "filters": list(warnings.filters),
        "meta_path": list(sys.meta_path),
        "modules": {name: value for name, value in sys.modules.items() if "convstat_" in name},
        "random": torch.get_rng_state().tolist(),
        "modes": len(_python_dispatch._get_current_dispatch_mode_stack()),
        "functions": len(torch.overrides._get_current_function_mode_stack()),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "recursion": sys.getrecursionlimit(),
        "alarm": signal.getsignal(signal.SIGALRM) if hasattr(signal, "SIGALRM") else None,
        "timer": signal.getitimer(signal.ITIMER_REAL) if hasattr(signal, "setitimer") else None,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "journal": len(room._journal),
        "session": room._session.holder,
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is not as it was."""
    names = before.keys() | after.keys()
    return sorted(
        name
        for name in names
        if before.get(name) is not after.get(name) and _unequal(before.get(name), after.get(name))
    )


def _unequal(one: Any, other: Any) -> bool:
    plain = (bool, int, str, list, tuple, dict, type(None), torch.dtype)
    return not (isinstance(one, plain) and isinstance(other, plain) and one == other)


def test_several_threads_that_count_at_once_get_right_answers() -> None:
    """Each its own model, with and without peers; afterwards nothing is patched."""
    convstat.analyze(Net(1), (3, 8, 8), counters="ptflops,torchsummary", in_process=True)
    widths = range(2, 8)
    models = {width: Net(width) for width in widths}
    found: dict[int, Any] = {}
    before = snapshot()
    start, asked = threading.Barrier(len(widths)), ("none", "ptflops,torchsummary")

    def count(width: int) -> None:
        start.wait()
        found[width] = convstat.analyze(models[width], (3, 8, 8), counters=asked[width % 2])

    threads = [threading.Thread(target=count, args=(width,)) for width in widths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {width: macs_of(width) for width in widths} == {width: found[width].totals.macs for width in found}
    for width in widths:
        for row in found[width].counters:
            assert ("ok", 3 * width * 9 + 5 * width) == (row.status, row.reported.params)
    assert [] == changed(before, snapshot())


COUNTED = (
    "none",
    "ptflops",
    "torchsummary",
    "torchinfo",
    "flopcountermode",
    "fvcore",
    "deepspeed",
    "calflops",
    "torchstat",
)


@pytest.mark.parametrize("counters", COUNTED)
def test_another_thread_runs_its_own_model_meanwhile(counters: str) -> None:
    """None of its calls enters a count, that of a peer included, and its own results are right."""
    if counters != "none":
        from convstat.counters import COUNTERS

        if COUNTERS[counters].version() is None:
            pytest.skip(f"{counters} is not installed")
    theirs, image = Net(4).eval(), torch.rand(1, 3, 8, 8)
    expected = theirs(image)
    alone = convstat.analyze(Net(6), (3, 8, 8), counters=counters)
    names = [name for name, _ in theirs.named_modules()]

    def work() -> None:
        assert torch.equal(expected, theirs(image))
        made = nn.Linear(2, 3)
        made.load_state_dict({"weight": torch.ones(3, 2), "bias": torch.zeros(3)})
        assert made.weight.device.type == "cpu"
        assert made(torch.ones(2)).tolist() == [2, 2, 2]

    with beside(work) as turns:
        seen = turns[0]
        for _ in range(3):
            counted = convstat.analyze(Net(6), (3, 8, 8), counters=counters)
            assert alone.to_dict() == counted.to_dict()
        assert turns[0] > seen
    assert macs_of(6) == alone.totals.macs
    assert names == [name for name, _ in theirs.named_modules()]


def test_the_same_model_may_run_in_another_thread_meanwhile() -> None:
    """A thread that the forward pass did not start is not counted, whichever model it runs."""
    model = Net(4).eval()
    expected = record(model, (torch.rand(1, 3, 8, 8),))
    with beside(lambda: model.head(torch.rand(1, 4))):
        for _ in range(20):
            found = record(model, (torch.rand(1, 3, 8, 8),))
            assert _calls(expected.root) == _calls(found.root)


def _calls(call: Call) -> list[str]:
    """The calls below one, in order."""
    name = {ModuleCall: "module", KernelCall: "op"}.get(type(call), "name")
    return [str(getattr(call, name)), *(found for child in call.children for found in _calls(child))]


# Threads that the forward pass starts.


def _thread(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


class _Working(threading.Thread):
    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self.work = work

    def run(self) -> None:
        """Do the work."""
        self.found = self.work()


def _subclass(work: Callable[[], Any]) -> Any:
    thread = _Working(work)
    thread.start()
    thread.join()
    assert "run" not in vars(thread)
    return thread.found


def _low_level(work: Callable[[], Any]) -> Any:
    import _thread

    future: Future[Any] = Future()
    _thread.start_new_thread(lambda: future.set_result(work()), ())
    return future.result()


def _pool(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(2) as pool:
        return pool.submit(work).result()


_kept = ThreadPoolExecutor(1)


def _kept_pool(work: Callable[[], Any]) -> Any:
    return _kept.submit(work).result()


def _mapped(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(2) as pool:
        return next(iter(pool.map(lambda _: work(), range(1))))


def _nested(work: Callable[[], Any]) -> Any:
    return _thread(lambda: _pool(lambda: _thread(work)))


def _timer(work: Callable[[], Any]) -> Any:
    future: Future[Any] = Future()
    threading.Timer(0, lambda: future.set_result(work())).start()
    return future.result()


def _forked(work: Callable[[], Any]) -> Any:
    return torch.jit.wait(torch.jit.fork(work))


STARTS = (_thread, _subclass, _low_level, _pool, _kept_pool, _mapped, _nested, _timer, _forked)


class Starts(nn.Module):
    """Runs a layer, a function and an operator in another thread."""

    def __init__(self, start: Callable[[Callable[[], Any]], Any]) -> None:
        super().__init__()
        self.start = start
        self.first = nn.Linear(3, 4, bias=False)
        self.inside = nn.Linear(4, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        x = self.first(x)
        # In a thread of its own a tensor is made on the device of this one, too.
        y: torch.Tensor = self.start(lambda: F.relu(self.inside(x)) @ torch.ones(5, 6, device=x.device))
        return y.sum()


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.__name__)
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_threads_that_the_forward_pass_starts_are_counted(start: Callable[..., Any], device: str) -> None:
    """Modules, functions and operators, where they were started; a second count says the same."""
    _kept.submit(int).result()
    for _ in range(2):
        report = convstat.analyze(Starts(start), (3,), device=device)
        assert 3 * 4 + 4 * 5 + 5 * 6 == report.totals.macs
        assert {"first": 12, "inside": 20} == {
            row.name: row.macs for row in report.layers if row.name in ("first", "inside")
        }
        assert "complete" == report.status
    # What the threads of a pool do later is theirs alone.
    assert _kept.submit(lambda: (torch.ones(2) + 1).tolist()).result() == [2, 2]
    assert 0 == _kept.submit(lambda: len(_python_dispatch._get_current_dispatch_mode_stack())).result()


def test_calls_of_a_started_thread_stand_where_it_was_started() -> None:
    """Below the module that started it, and the order of each thread is its own."""
    trace = record(Starts(_thread), (torch.rand(1, 3),))
    paths = [trace.modules[child.module].path for child in trace.root.children if isinstance(child, ModuleCall)]
    assert ["first", "inside"] == paths
    kinds = [type(child).__name__ for child in trace.root.children]
    assert ["ModuleCall", "ModuleCall", "FunctionCall"] == kinds[:3]


def test_threads_run_at_the_same_time_keep_their_calls_apart() -> None:
    """Two branches that wait for each other in the middle: each call holds its own kernels."""
    meet = threading.Barrier(2)

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(5):
                meet.wait(30)
                x = self.linear(x)
            return x

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList([Branch(), Branch()])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with ThreadPoolExecutor(2) as pool:
                one, two = [pool.submit(branch, x) for branch in self.branches]
                return one.result() + two.result()

    trace: Trace = record(Both(), (torch.rand(1, 3),))
    branches = [child for child in trace.root.children if isinstance(child, ModuleCall)]
    assert {"branches.0", "branches.1"} == {trace.modules[branch.module].path for branch in branches}
    for branch in branches:
        path = trace.modules[branch.module].path
        assert [f"{path}.linear"] * 5 == [trace.modules[child.module].path for child in branch.children]  # type: ignore[attr-defined]


class Forks(nn.Module):
    """Two branches at once, in a script."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4, bias=False)
        self.second = nn.Linear(4, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        one = torch.jit.fork(self.second, self.first(x))
        other = torch.jit.fork(self.second, self.first(x) + 1)
        return torch.jit.wait(one) + torch.jit.wait(other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_what_a_script_forks_is_counted(device: str) -> None:
    """In threads of torch's own, which run at the same time: each time all of it."""
    scripted = torch.jit.script(Forks())
    for _ in range(10):
        assert 2 * (3 * 4 + 4 * 5) == convstat.analyze(scripted, (3,), device=device).totals.macs


def test_a_thread_of_the_model_that_counts_is_refused_and_not_waited_for() -> None:
    """Its parent waits for it, and it would wait for its parent; in the same thread, a count may nest."""
    nested: list[Any] = []

    def count() -> None:
        nested.append(convstat.analyze(Net(3), (3, 8, 8)).totals.macs)

    assert macs_of(2) == convstat.analyze(Net(2, count), (3, 8, 8)).totals.macs
    assert {macs_of(3)} == set(nested)

    # Of widths that nobody has run before: what is answered from memory is no kernel.
    report = convstat.analyze(Net(13, lambda: convstat.analyze(Net(11), (3, 8, 8))), (3, 8, 8))
    assert (macs_of(13), "complete") == (report.totals.macs, report.status)
    assert {"conv", "head", "(root)"} == {row.name for row in report.layers}

    def ask() -> None:
        convstat.analyze(Net(2), (3, 8, 8), counters="ptflops")

    with pytest.raises(UsageError, match="a model that is being counted asks for counters in its own forward pass"):
        convstat.analyze(Net(2, ask), (3, 8, 8))

    def refused() -> None:
        with pytest.raises(UsageError, match="each would wait"):
            _pool(count)

    assert macs_of(2) == convstat.analyze(Net(2, refused), (3, 8, 8)).totals.macs


def test_what_is_printed_and_warned_by_others_is_theirs(capfd: pytest.CaptureFixture[str]) -> None:
    """A peer's output is caught, and that of another thread is not; nor are its warnings held back."""
    import warnings

    def during() -> None:
        print("ours")
        warnings.warn("ours", stacklevel=1)

    def work() -> None:
        print("theirs")
        with pytest.warns(UserWarning, match="theirs"):
            warnings.warn("theirs", stacklevel=1)

    done = [0]
    with beside(lambda: (work(), done.__setitem__(0, done[0] + 1)) if done[0] < 50 else None):
        convstat.analyze(Net(2, during), (3, 8, 8), counters="torchsummary")
    out, err = capfd.readouterr()
    assert {"theirs"} == set(out.split())
    assert "ours" in err
    assert 50 >= out.split().count("theirs") == done[0]


# Interruptions.


class _Finder:
    @staticmethod
    def find_spec(*_: object) -> None:
        """Find nothing."""


MODEL = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU())


class Thing:
    """Has an attribute to replace."""

    value = 1

    def method(self) -> int:
        """Return it."""
        return self.value


USES: dict[str, Callable[[], Any]] = {
    "room.replaced": lambda: room.replaced(Thing, "value", 2),
    "room.replaced_globals": lambda: room.replaced_globals(sys.modules[__name__], MODEL=None),
    "room.rerouted": lambda: room.rerouted(Thing, "method", lambda _: lambda _: 3),
    "room.once": lambda: room.once("a test"),
    "threads.followed": lambda: threads.followed(ExitStack),
    "quiet.redirected": lambda: quiet.redirected(io.StringIO(), "stdout", "stderr"),
    "quiet.warnings_preserved": lambda: quiet.warnings_preserved(),
    "quiet.unwarned": lambda: quiet.unwarned(),
    "quiet.unlogged": lambda: quiet.unlogged("convstat.test"),
    "surroundings.deeper_calls": lambda: surroundings.deeper_calls(2),
    "surroundings.no_compiled_files": lambda: surroundings.no_compiled_files(),
    "surroundings.own_arguments": lambda: surroundings.own_arguments("program"),
    "surroundings.default_device_kept": lambda: surroundings.default_device_kept(),
    "collection.without_collection": lambda: collection.without_collection(),
    "limits.data_limit": lambda: limits.data_limit(2**40),
    "time_limit.time_limit": lambda: time_limit.time_limit(1000),
    "time_limit._alarm": lambda: time_limit._alarm(1000),
    "time_limit.allowed": lambda: time_limit.allowed(1000),
    "states.states_kept": lambda: states.states_kept(torch_states.STATES),
    "autocast.autocast_on_meta": lambda: autocast.autocast_on_meta("cpu", torch.bfloat16),
    "checkpoint.checkpointed": lambda: checkpoint.checkpointed(MODEL, ExitStack),
    "kernels_of.kernels_of": lambda: kernels_of.kernels_of("cuda"),
    "kernels_of.numbers_on_meta": lambda: kernels_of.numbers_on_meta(),
    "offline.offline": lambda: offline.offline(),
    "compiler.compiler_not_loaded": lambda: compiler.compiler_not_loaded(),
    "compiler.compiler_off": lambda: compiler.compiler_off(),
    "compiler.scripts_as_written": lambda: compiler.scripts_as_written(),
    "imports.compiler_on_demand": lambda: imports.compiler_on_demand(),
    "imports.algebra_on_demand": lambda: imports.algebra_on_demand(),
    "imports.given": lambda: imports.given("a", {"b": {"c": 1}}),
    "imports.forgotten": lambda: imports.forgotten("a"),
    "imports.found_first": lambda: imports.found_first(_Finder),
    "operators.declared_operators": lambda: operators.declared_operators(),
    "dispatch.step_by_step": lambda: dispatch.step_by_step(),
    "values.values_asked_for": lambda: values.values_asked_for(),
    "functions.unpatched_afterwards": lambda: functions.unpatched_afterwards(),
    "functions.spying": lambda: functions.spying(lambda name, function, args, kwargs: function(*args, **kwargs)),
    "hooks.hooked": lambda: hooks.hooked(nn.modules.module.register_module_buffer_registration_hook, lambda *_: None),
    "hooks.seemingly_hooked": lambda: hooks.seemingly_hooked([MODEL]),
    "preserve.preserved": lambda: preserve.preserved(MODEL),
    "preserve.process_preserved": lambda: preserve.process_preserved(),
    "preserve.drawn": lambda: preserve.drawn(3),
    "preserve.seeded": lambda: preserve.seeded(3, "cpu"),
    "preserve._module_state": lambda: preserve._module_state(MODEL),
    "isolation.isolated": lambda: isolation.isolated(MODEL),
    "isolation._attributes": lambda: isolation._attributes(MODEL),
    "isolation._parameters": lambda: isolation._parameters(MODEL),
    "doors.watching_doors": lambda: doors.watching_doors(Watch(int, bool, is_real=True)),
    "doors._watching_compiled": lambda: doors._watching_compiled(Watch(int, bool, is_real=True)),
    "interception.intercepted": lambda: interception.intercepted(
        [f"{__name__}.Thing.method", "not_there.at_all"], lambda name, function: lambda _: 3
    ),
    "tracing.told_to_trace": lambda: tracing.told_to_trace(object(), lambda: False),
    "tracing.without_overrides": lambda: tracing.without_overrides(),
    "tracing.calling": lambda: tracing.calling(nn.Module, lambda original: original),
    "tracing.applying_functions": lambda: tracing.applying_functions(lambda *_: None),
    "tracing.forking": lambda: tracing.forking(lambda original: original),
    "tracing.is_instance_in_models": lambda: tracing.is_instance_in_models(isinstance),
    "tracing.taking_for_tensors": lambda: tracing.taking_for_tensors(lambda value: value),
}
"""A use of each patch, by the module and the name of it."""


def test_every_patch_is_interrupted_below() -> None:
    """The table has one for all that are made in the room, found by listing them."""
    made = {f"{made.__module__.removeprefix('convstat.patches.')}.{made.__name__}" for made in room.PATCHES}
    assert USES.keys() == {name for name in made if not name.startswith("convstat.")}


def steps_left(number: int, use: Callable[[], object]) -> int:
    """Raise KeyboardInterrupt before the n-th step of ours; what is left of the number, below 0 where it was raised."""
    left = number

    def step(frame: Any, event: str, argument: object) -> Any:
        nonlocal left
        name = frame.f_code.co_filename
        if left < 0:
            # It is one interruption, also where the tracer itself is a state that is put back.
            return None
        if not (PATCHES in name or name.endswith("contextlib.py") or frame.f_code.co_name == "enter_and_leave"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return step

    before = sys.gettrace()
    # Python 3.12 asks for single instructions only if some frame has before the tracer is set.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(step)
    try:
        use()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return left


def interrupted_at(number: int, use: Callable[[], object]) -> bool:
    """Raise KeyboardInterrupt before the n-th step of ours; whether there are so many."""
    return steps_left(number, use) < 0


MANY = 10**9
PATCHES = str(Path(room.__file__).parent)


@pytest.mark.parametrize("name", USES)
def test_an_interruption_at_any_step_leaves_nothing(name: str) -> None:
    """Before every single instruction of entering and of leaving, in turn; and nobody has to wait afterwards."""

    @room.alone
    def enter_and_leave() -> None:
        with USES[name]():
            pass

    enter_and_leave()
    before, total = small_snapshot(), MANY - steps_left(MANY, enter_and_leave)
    assert total > 200
    # What is between is long loops, whose steps are alike.
    for number in sorted({*range(150), *range(150, total - 150, total // 30), *range(total - 150, total)}):
        if 0 <= number < total:
            assert interrupted_at(number, enter_and_leave), number
            assert [] == changed(before, small_snapshot()), number
            assert not room._lock._is_owned(), number


@pytest.mark.parametrize("counters", ["none", "ptflops"])
def test_an_interruption_anywhere_in_an_analysis_leaves_nothing(counters: str) -> None:
    """At steps spread over a whole one; the next one gives the same answer."""
    model = Net(2)
    expected = convstat.analyze(model, (3, 8, 8), counters=counters).to_dict()

    def enter_and_leave() -> None:
        convstat.analyze(model, (3, 8, 8), counters=counters)

    before, number = snapshot(), 0
    for turn in itertools.count():
        number += 1 + 37 * turn
        if not interrupted_at(number, enter_and_leave):
            break
        assert [] == changed(before, snapshot()), number
        assert not room._lock._is_owned(), number
    assert turn > 10
    assert expected == convstat.analyze(model, (3, 8, 8), counters=counters).to_dict()


def test_what_is_not_written_down_before_is_found_by_the_test_above() -> None:
    """A patch that changes something first, and another that ends in one step only, are caught."""

    class Careless:
        def __enter__(self) -> None:
            self.before = Thing.value
            Thing.value = 2

        def __exit__(self, *_: object) -> None:
            Thing.value = self.before

    def enter_and_leave() -> None:
        with Careless():
            pass

    found = []
    for number in itertools.count():
        if not interrupted_at(number, enter_and_leave):
            break
        found.append(Thing.value)
        Thing.value = 1
    assert 2 in found


COLLECTED = """
import gc, weakref
from convstat.patches.collection import without_collection

class Thing:
    pass

def cycle():
    thing = Thing()
    thing.itself = thing
    return weakref.ref(thing)

{before}
gc.set_threshold(1000, 1000, 1000)
seen = []
gc.callbacks.append(lambda phase, info: seen.append(info["generation"]))
frozen = gc.get_freeze_count()
with without_collection():
    gone = cycle()
    kept = [[] for _ in range(100_000)]
after = [[] for _ in range(10)]
assert seen == [0] * {young}, seen
assert gc.get_freeze_count() == frozen
assert gc.isenabled()
gc.collect()
assert gone() is None
"""


@pytest.mark.parametrize(("before", "young"), [("", 0), ("gc.freeze()", 1)])
def test_nothing_waits_for_a_collection_after_a_sweep(before: str, young: int) -> None:
    """What was made is not looked through at once, and is garbage later as ever; what a user froze stays frozen."""
    subprocess.run([sys.executable, "-c", COLLECTED.format(before=before, young=2 * young)], check=True)
