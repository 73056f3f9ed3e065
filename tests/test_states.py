"""What a model changes in the process is put back, or is named in a note: each row of the tables, by use."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import decimal
import gc
import json
import locale
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

import convstat
from convstat.errors import SourceError
from convstat.patches.states import GENERATORS, PYTHONS, State, states_kept
from convstat.patches.torch_states import RANDOM, STATES

ROOT = Path(__file__).resolve().parent.parent


class Net(nn.Module):
    """A layer, in whose forward pass something is changed."""

    def __init__(self, during: Callable[[], object]) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4, bias=False)
        self.during = during

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        x = self.fc(x)
        self.during()
        return x


MACS = 4 * 4


class Functions(TorchFunctionMode):
    """Lets all pass."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let it pass."""
        return func(*args, **(kwargs or {}))


class Dispatching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The same for kernels."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let it pass."""
        return func(*args, **(kwargs or {}))


kept: list[Any] = []
"""What is entered and not left, so that it does not end by itself as nobody holds it any more."""


def enter(*contexts: Any) -> None:
    """Enter contexts, and forget that they were."""
    for context in contexts:
        kept.append(context)
        context.__enter__()


def tracer(*_: object) -> None:
    """Trace nothing."""


def modes() -> Any:
    """The modes that are entered."""
    overrides: Any = torch.overrides
    return _get_current_dispatch_mode_stack(), list(overrides._get_current_function_mode_stack())


def autocast() -> Any:
    """What decides about autocast."""
    return (
        torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled(),
        torch.autocast_increment_nesting(), torch.autocast_decrement_nesting(),
    )  # fmt: skip


def setter(owner: Any, name: str, value: Any) -> tuple[Callable[[], object], Callable[[], Any]]:
    """Set an attribute; and read it."""
    return (lambda: setattr(owner, name, value)), (lambda: getattr(owner, name))


def _log() -> None:
    logging.root.setLevel(1)
    logging.root.addHandler(logging.NullHandler())
    logging.disable(37)
    logging.getLogger("torch").setLevel(3)
    logging.getLogger("torch").addHandler(logging.NullHandler())


def _logs() -> Any:
    log = logging.getLogger("torch")
    return logging.root.level, logging.root.handlers[:], logging.root.manager.disable, log.level, log.handlers[:]


def _environment() -> None:
    os.environ["PATH"] = "/nowhere"
    os.environ["CONVSTAT_TEST"] = "new"
    os.environ["TZ"] = "UTC-7"
    time.tzset()


def _paths() -> None:
    sys.path.insert(0, "/nowhere")
    sys.meta_path.append(type("Finder", (), {"find_spec": staticmethod(lambda *_: None)}))
    sys.path_hooks = []


def _signals() -> None:
    signal.signal(signal.SIGUSR1, tracer)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collect() -> None:
    gc.disable()
    gc.set_threshold(9, 8, 7)
    gc.callbacks.append(tracer)


def _table() -> None:
    registration.register_module_forward_hook(tracer)
    registration.register_module_forward_pre_hook(tracer)
    registration.register_module_full_backward_hook(tracer)
    registration.register_module_parameter_registration_hook(tracer)
    registration.register_module_buffer_registration_hook(tracer)
    registration.register_module_module_registration_hook(tracer)


def _tables() -> Any:
    tables = {name: value for name, value in vars(registration).items() if name.startswith("_global_")}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in tables.items()}


set_default_device = torch.set_default_device
"""Taken before anybody can replace it, as ``from torch import set_default_device`` does."""


def _decimal() -> None:
    decimal.getcontext().prec = 3
    decimal.getcontext().traps[decimal.Inexact] = True


def _sdp() -> None:
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)


def _sdps() -> Any:
    backend = torch.backends.cuda
    return backend.flash_sdp_enabled(), backend.mem_efficient_sdp_enabled(), backend.cudnn_sdp_enabled()


def _levels() -> Any:
    functorch: Any = torch._C._functorch
    return len(functorch.get_interpreter_stack() or ())


def _enter_levels() -> None:
    functorch: Any = torch._C._functorch
    functorch._grad_increment_nesting()
    functorch._vmap_increment_nesting(2, "error")


def _pairs() -> Any:
    core: Any = torch._C
    top = core._autograd._top_saved_tensors_default_hooks(False)
    return None if top is None else tuple(map(id, top))


def _names() -> list[str]:
    """The time zone, by which ``os.environ`` alone does not go."""
    return [os.environ.get("PATH", ""), str("CONVSTAT_TEST" in os.environ), time.strftime("%z", time.localtime(0))]


def _processors() -> set[int]:
    return os.sched_getaffinity(0)


def _limit(most: int | None) -> Any:
    import resource

    if most is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def _replace_functions() -> None:
    owners: tuple[tuple[Any, str], ...] = (
        (torch, "save"),
        (F, "hardswish"),
        (torch.Tensor, "diff"),
        (nn.Module, "extra_repr"),
    )
    for owner, name in owners:
        setattr(owner, name, tracer)


_OTHER = "POSIX" if locale.setlocale(locale.LC_ALL) != "C" else "C.UTF-8"
_overrides: Any = torch.overrides
_backends: Any = torch.backends
_core: Any = torch._C
_autograd: Any = torch.autograd

CHANGES: dict[str, tuple[Callable[[], object], Callable[[], Any]]] = {
    "`sys.settrace` and `sys.setprofile`": (
        lambda: (sys.settrace(tracer), sys.setprofile(tracer)),
        lambda: (sys.gettrace(), sys.getprofile()),
    ),
    "`threading.settrace` and `threading.setprofile`": (lambda: threading.settrace(tracer), threading.gettrace),
    "the functions in `builtins`": setter(builtins, "sum", tracer),
    "the functions in `json`": setter(json, "dumps", tracer),
    "`sys.stdin`, `sys.stdout` and `sys.stderr`": (
        lambda: vars(sys).update(stdin=None, stdout=None, stderr=None),
        lambda: (sys.stdin, sys.stdout, sys.stderr),
    ),
    "`sys.excepthook`, `sys.displayhook`, `sys.unraisablehook`, `sys.breakpointhook`": setter(
        sys, "excepthook", tracer
    ),
    "`threading.excepthook`": setter(threading, "excepthook", tracer),
    "`sys.path`, `sys.meta_path` and `sys.path_hooks`": (
        _paths,
        lambda: (sys.path[:], sys.meta_path[:], sys.path_hooks[:]),
    ),
    "`sys.argv`": (lambda: sys.argv.append("--more"), lambda: sys.argv[:]),
    "`sys.dont_write_bytecode` and `sys.pycache_prefix`": setter(sys, "pycache_prefix", "/nowhere"),
    "`sys.setrecursionlimit`": (lambda: sys.setrecursionlimit(5432), sys.getrecursionlimit),
    "`sys.set_int_max_str_digits`": (lambda: sys.set_int_max_str_digits(5000), sys.get_int_max_str_digits),
    "`sys.setswitchinterval`": (lambda: sys.setswitchinterval(0.125), sys.getswitchinterval),
    "the garbage collector (on or off, thresholds, callbacks)": (
        _collect,
        lambda: (gc.isenabled(), gc.get_threshold(), gc.callbacks[:]),
    ),
    "the working directory": (lambda: os.chdir("/"), os.getcwd),
    "`os.environ`, and the time zone with it": (_environment, _names),
    "the locale": (lambda: locale.setlocale(locale.LC_ALL, _OTHER), lambda: locale.setlocale(locale.LC_ALL)),
    "the umask": (lambda: os.umask(0o123), lambda: [os.umask(mask := os.umask(0)), mask][1]),
    "`resource.setrlimit`": (lambda: _limit(100), lambda: _limit(None)),
    "`os.setpriority` and `os.nice`": (lambda: os.nice(1), lambda: os.nice(0)),
    "`os.sched_setaffinity`": (lambda: os.sched_setaffinity(0, {min(_processors())}), lambda: _processors()),
    "the handlers of signals": (_signals, lambda: (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGINT))),
    "the mask of signals": (
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2}),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    ),
    "`signal.alarm` and `signal.setitimer`": (
        lambda: (signal.setitimer(signal.ITIMER_VIRTUAL, 900, 5), signal.alarm(900)),
        lambda: [signal.getitimer(which)[0] > 500 for which in (0, 1)],
    ),
    "the filters of `warnings`, and how they are shown": (
        lambda: (warnings.simplefilter("error"), setattr(warnings, "showwarning", tracer)),
        lambda: (warnings.filters[:], warnings.showwarning),
    ),
    "loggers (levels, handlers, `logging.disable`)": (_log, _logs),
    "the context of `decimal`": (
        _decimal,
        lambda: (decimal.getcontext().prec, decimal.getcontext().traps[decimal.Inexact]),
    ),
    "`numpy.seterr` and `numpy.set_printoptions`": (
        lambda: (numpy.seterr(all="ignore"), numpy.set_printoptions(precision=2)),
        lambda: (numpy.geterr(), numpy.get_printoptions()["precision"]),
    ),
    "the random states of Python and numpy": (
        lambda: (random.seed(5), numpy.random.seed(5)),
        lambda: (random.getstate(), numpy.random.get_state()[1].tolist(), numpy.random.get_state()[2]),
    ),  # type: ignore[call-overload, index]
    "the random states of torch": (lambda: torch.manual_seed(77), lambda: torch.get_rng_state().tolist()),
    "the default device": (lambda: set_default_device("meta"), torch.get_default_device),
    "`torch.inference_mode`": (
        lambda: enter(torch.inference_mode()),
        lambda: (torch.is_inference_mode_enabled(), torch.ones(1).is_inference()),
    ),
    "`torch.set_grad_enabled`": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "`torch.set_default_dtype`": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "`torch.autocast`": (lambda: enter(torch.autocast("cpu", torch.float16, cache_enabled=False)), autocast),
    "`torch.autograd.graph.saved_tensors_hooks`": (
        lambda: enter(torch.autograd.graph.saved_tensors_hooks(tracer, tracer)),
        _pairs,
    ),
    "levels of `torch.autograd.forward_ad`": (
        lambda: enter(torch.autograd.forward_ad.dual_level()),
        lambda: torch.autograd.forward_ad._current_level,
    ),
    "levels of `torch.func`": (_enter_levels, _levels),
    "gradients in forward mode": (lambda: _core._set_fwd_grad_enabled(False), lambda: _core._is_fwd_grad_enabled()),
    "`torch.autograd.set_multithreading_enabled`": (
        lambda: _core._set_multithreading_enabled(False),
        lambda: _core._is_multithreading_enabled(),
    ),
    "`torch.autograd.set_detect_anomaly`": (
        lambda: torch.autograd.set_detect_anomaly(True, False),
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
    ),
    "profilers of torch that are on": (
        lambda: enter(_autograd.profiler.profile()),
        lambda: _autograd._profiler_enabled(),
    ),
    "`torch.set_num_threads`": (lambda: torch.set_num_threads(7), torch.get_num_threads),
    "`torch.use_deterministic_algorithms`": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
    ),
    "`torch.utils.deterministic.fill_uninitialized_memory`": setter(
        torch.utils.deterministic, "fill_uninitialized_memory", False
    ),
    "`torch.set_flush_denormal`": (
        lambda: torch.set_flush_denormal(True),
        lambda: (torch.tensor([1e-310], dtype=torch.float64) * torch.ones(1, dtype=torch.float64)).item() == 0.0,
    ),
    "`torch.set_float32_matmul_precision` and `fp32_precision`": (
        lambda: torch.set_float32_matmul_precision("medium"),
        torch.get_float32_matmul_precision,
    ),
    "reductions of `torch.backends.cuda.matmul`": setter(
        _backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", False
    ),
    "`torch.backends.cudnn`": (
        lambda: _backends.cudnn.set_flags(False, True, _deterministic=True),
        lambda: (_backends.cudnn.enabled, _backends.cudnn.benchmark, _backends.cudnn.deterministic),
    ),
    "`torch.backends.mkldnn` and `nnpack`": (
        lambda: (_backends.mkldnn.set_flags(False), _backends.nnpack.set_flags(False)),
        lambda: (_backends.mkldnn.enabled, _core._get_nnpack_enabled()),
    ),
    "backends of scaled dot-product attention": (_sdp, _sdps),
    "the engine of quantized kernels": setter(
        _backends.quantized, "engine", "onednn" if torch.backends.quantized.engine != "onednn" else "fbgemm"
    ),
    "`torch.backends.opt_einsum`": setter(_backends.opt_einsum, "enabled", not torch.backends.opt_einsum.enabled),
    "hooks of all modules": (_table, _tables),
    "`torch.set_printoptions`": (lambda: torch.set_printoptions(precision=2), lambda: repr(torch.tensor(1 / 3))),
    "`torch.set_warn_always`": (lambda: torch.set_warn_always(True), torch.is_warn_always_enabled),
    "`torch.__future__`": (
        lambda: torch.__future__.set_overwrite_module_params_on_conversion(True),
        torch.__future__.get_overwrite_module_params_on_conversion,
    ),
    "`torch.multiprocessing.set_sharing_strategy`": (
        lambda: torch.multiprocessing.set_sharing_strategy("file_system"),
        torch.multiprocessing.get_sharing_strategy,
    ),
    "the functions of `torch`, `torch.nn.functional`, `torch.Tensor` and `nn.Module`": (
        _replace_functions,
        lambda: (torch.save, F.hardswish, torch.Tensor.diff, nn.Module.extra_repr),
    ),
}
"""How a model changes a state, and how one sees it: by what everybody would ask, and not by what the table reads."""

if hasattr(sys, "monitoring"):
    CHANGES["the tools of `sys.monitoring`"] = (
        lambda: sys.monitoring.use_tool_id(4, "test"),
        lambda: sys.monitoring.get_tool(4),
    )

ROWS = (*STATES, GENERATORS, RANDOM)


def _thread() -> Callable[[], object]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="counting sheep")
    thread.start()
    return lambda: (over.set(), thread.join())


def _process() -> Callable[[], object]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    return lambda: (process.kill(), process.communicate())


def _at_exit() -> Callable[[], object]:
    atexit.register(tracer)
    return lambda: atexit.unregister(tracer)


def _group() -> Callable[[], object]:
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    return distributed.destroy_process_group


def _modes() -> Callable[[], object]:
    enter(Functions(), Dispatching())
    return tracer


SAID: dict[str, tuple[Callable[[], Callable[[], object]], str]] = {
    "threads": (_thread, "threads that it started are still running: counting sheep"),
    "processes": (_process, "processes that it started are still running: "),
    "functions that `atexit` runs": (_at_exit, "it registered 1 functions with atexit"),
    "process groups": (_group, "it made the process a part of a group (`torch.distributed`), and left it so"),
    "modes (`TorchFunctionMode`, `TorchDispatchMode`)": (
        _modes,
        "it enters Dispatching and Functions and does not leave them; convstat left them instead",
    ),
}
"""What cannot be put back, or is not only put back: a change, which gives what ends it; and what is said."""

ELSEWHERE = {"`torch.set_num_interop_threads`", "the current GPU and its stream", "the tools of `sys.monitoring`"}
"""What can be changed once in the life of a process, and what is not in every one."""


def test_each_state_is_changed_below() -> None:
    """No row of the tables is without a change, and none is there twice."""
    names = [state.name for state in ROWS]
    assert sorted({*CHANGES, *SAID, *ELSEWHERE}) == sorted(names)


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_forward_pass_changes_is_put_back(name: str) -> None:
    """The change takes effect, and is gone afterwards; the count is right, and there is nothing to be said of it."""
    change, look = CHANGES[name]
    during: list[Any] = []
    model = Net(lambda: (change(), during.append(look())))
    before = look()
    report = convstat.analyze(model, (4,))
    after = look()
    assert during
    assert before != during[0]
    assert before == after
    assert report.totals.macs == MACS
    assert report.model.notes == ()


@pytest.mark.parametrize("name", SAID)
def test_what_a_forward_pass_leaves_is_said(name: str) -> None:
    """Nobody can end a thread of somebody else's; and who does not leave a mode should hear of it."""
    start, said = SAID[name]
    ends: list[Callable[[], object]] = []
    before = modes()
    try:
        # One that was started before is none of the model's.
        ends.append(start() if name != "modes (`TorchFunctionMode`, `TorchDispatchMode`)" else tracer)
        if name == "process groups":
            ends.pop()()
        again = convstat.analyze(Net(lambda: None), (4,))
        report = convstat.analyze(Net(lambda: ends.append(start())), (4,))
    finally:
        for end in ends:
            end()
    (note,) = report.model.notes
    assert note.startswith(said)
    assert again.model.notes == ()
    assert report.totals.macs == MACS
    assert modes() == before


def test_what_a_constructor_changes_is_put_back() -> None:
    """As what a forward pass does; in this one it holds."""
    look = {
        name: CHANGES[name][1] for name in ("`torch.set_default_dtype`", "the working directory", "`torch.autocast`")
    }

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in look:
                CHANGES[name][0]()
            self.fc = nn.Linear(4, 4, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert os.getcwd() == "/"
            return x @ self.fc.weight

    before = {name: see() for name, see in look.items()}
    report = convstat.analyze(Made, "4:float64")
    assert report.totals.weight_bytes == MACS * 8
    assert before == {name: see() for name, see in look.items()}


def test_what_a_forward_pass_changes_before_it_fails_is_put_back() -> None:
    """In each way in which it is tried."""

    def fail() -> None:
        for name in failing:
            CHANGES[name][0]()
        raise ValueError("no")

    failing = ("`sys.settrace` and `sys.setprofile`", "the working directory", "`torch.inference_mode`")
    before = {name: CHANGES[name][1]() for name in failing}
    with pytest.raises(convstat.errors.SourceError, match="ValueError: no"):
        convstat.analyze(Net(fail), (4,))
    assert before == {name: CHANGES[name][1]() for name in failing}


def test_what_is_changed_in_another_thread_is_put_back() -> None:
    """Where signals cannot be set, neither by the model nor by anybody else."""
    found: list[Any] = []
    names = ("the umask", "`torch.set_num_threads`", "`torch.autocast`", "`torch.inference_mode`")

    def run() -> None:
        before = [CHANGES[name][1]() for name in names]
        report = convstat.analyze(Net(lambda: [CHANGES[name][0]() for name in names]), (4,))
        found.extend((report.model.notes, before == [CHANGES[name][1]() for name in names]))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(), True]


INTEROP = """
import torch, convstat
from torch import nn
class Net(nn.Linear):
    def forward(self, x):
        torch.set_num_interop_threads(torch.get_num_interop_threads() + 1)
        return super().forward(x)
print(*convstat.analyze(Net(4, 4), (4,)).model.notes, sep="|")
"""


def test_threads_of_the_pool_between_operators() -> None:
    """They can be set once."""
    answer = subprocess.run([sys.executable, "-c", INTEROP], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout == "it changed `torch.set_num_interop_threads`, which cannot be restored\n"


def test_a_state_that_cannot_be_put_back_is_said() -> None:
    """And one that cannot even be read any more keeps nobody else from being put back."""
    values = {"stubborn": 1, "broken": 1, "last": 1}

    def read(name: str) -> Callable[[], int]:
        return lambda: values[name]

    def restore(before: int) -> None:
        values["last"] = before

    def fail(before: int) -> None:
        raise OSError("no")

    states = (
        State("stubborn", read("stubborn"), fail),
        State("broken", read("broken")),
        State("last", read("last"), restore),
    )
    with states_kept(states) as found:
        values.update(stubborn=2, last=2)
        del values["broken"]
    assert values == {"stubborn": 2, "last": 1}
    assert found.notes == ["it changed stubborn, which cannot be restored"]


class Hostile:
    """Answers no comparison."""

    def __eq__(self, other: object) -> bool:
        raise SystemExit(3)

    __hash__ = object.__hash__


def test_objects_of_the_model_are_not_asked_whether_they_are_equal() -> None:
    """They are compared by what they are."""
    before = sys.argv[:]
    convstat.analyze(Net(lambda: sys.argv.append(Hostile())), (4,))  # type: ignore[arg-type]
    assert sys.argv == before


def test_the_documentation_lists_every_state() -> None:
    """By the names of the tables, in their order."""
    page = (ROOT / "convstat" / "docs" / "python.md").read_text(encoding="utf-8")
    listed = [line.removeprefix("- ").rstrip(";.") for line in page.splitlines() if line.startswith("- ")]
    assert [state.name for state in (*PYTHONS, GENERATORS)] == [
        name for name in listed if name in _names_in(PYTHONS, GENERATORS)
    ]
    assert set(_names_in(STATES, GENERATORS, RANDOM)) <= set(listed)


def _names_in(*states: Any) -> list[str]:
    return [state.name for part in states for state in ((part,) if isinstance(part, State) else part)]


def test_to_keep_all_states_takes_less_than_a_millisecond() -> None:
    """The fastest of some tries, as the others wait for something else."""

    def keep() -> float:
        began = time.perf_counter()
        with states_kept(STATES):
            pass
        return time.perf_counter() - began

    assert min(keep() for _ in range(50)) < 1e-3


class Restless(nn.Module):
    """Changes itself in each forward pass."""

    def __init__(self, change: Callable[[Restless], object]) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[int] = []
        self.change = change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        x = self.norm(self.fc(x))
        self.change(self)
        return x


def _fill(model: Restless) -> None:
    with torch.no_grad():
        model.fc.weight.fill_(3)


OWN: dict[str, Callable[[Restless], object]] = {
    "train and eval flags": lambda model: model.train(not model.training),
    "whether parameters are trained": lambda model: model.requires_grad_(False),
    "forward hooks": lambda model: model.fc.register_forward_hook(tracer),
    "backward hooks": lambda model: model.fc.register_full_backward_hook(tracer),
    "hooks of states": lambda model: model.register_state_dict_pre_hook(tracer),
    "buffers, in place": lambda model: model.get_buffer("calls").add_(1),
    "buffers, by another": lambda model: setattr(model, "calls", model.get_buffer("calls") + 1),
    "parameters, in place": _fill,
    "parameters, by others": lambda model: setattr(model.fc, "weight", nn.Parameter(torch.ones(4, 4))),
    "parameters that are new": lambda model: model.register_parameter("more", nn.Parameter(torch.ones(1))),
    "modules that are new": lambda model: model.add_module("more", nn.Linear(1, 1)),
    "modules that go": lambda model: model.__delattr__("norm"),
    "attributes": lambda model: setattr(model, "other", 1),
    "what attributes hold": lambda model: model.seen.append(1),
    "its class": lambda model: setattr(model, "__class__", type("Other", (Restless,), {})),
    "gradients": lambda model: setattr(model.fc.weight, "grad", torch.ones_like(model.fc.weight)),
    "the statistics of norms": lambda model: model.norm.train()(torch.rand(8, 4, device=model.fc.weight.device)),
    "its dtype": lambda model: model.double(),
}


def _of_model(model: nn.Module) -> Any:
    """What everybody sees of a model."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return (
        type(model),
        [(name, id(module), type(module), module.training, _counted(module)) for name, module in model.named_modules()],
        [(name, id(t), t.requires_grad, t.dtype, t.tolist(), None if t.grad is None else 1) for name, t in tensors],
        {name: value for name, value in vars(model).items() if not name.startswith("_")},
        list(vars(model)["seen"]),
    )


def _counted(module: nn.Module) -> list[int]:
    return [len(value) for name, value in vars(module).items() if name.endswith("_hooks")]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("options", [{}, {"device": "cpu"}, {"mode": "train"}], ids=str)
def test_what_a_model_changes_of_itself_is_put_back(name: str, options: dict[str, str]) -> None:
    """On the meta device, in a real run, and with a backward pass."""
    changed: list[None] = []
    model = Restless(lambda model: (OWN[name](model), changed.append(None)))
    before = _of_model(model)
    for _ in range(2):
        # Some changes keep it from running once more, in a backward pass.
        with contextlib.suppress(SourceError):
            convstat.analyze(model, (4,), batch=2, **options)
        assert _of_model(model) == before
    assert len(changed) >= 2
