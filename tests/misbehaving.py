"""Counters of another package, each of which misbehaves in one way when it is called.

``WAYS`` holds them by name, with what is to be said of each: that it answered all the same (None), or a pattern
of the reason why it did not. ``entry_point`` makes a folder that offers them as an installed package does.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import ctypes
import decimal
import fractions
import gc
import json
import locale
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from convstat.counters.base import CounterFailure, Prediction, Reported, Term

RIGHT = Reported(params=7, macs=11)
NOISE = "NOISE"
"""What is written by those that write."""

LATE = "it gave no answer within"


class Way(NamedTuple):
    """How a counter misbehaves: in which of its methods, and what is said of it."""

    act: Callable[..., Any]
    said: str | None
    place: str


WAYS: dict[str, Way] = {}


class Fake:
    """A counter that is sound in all but one method."""

    variant = "default"
    unit = "MACs"
    help = "there is no help"
    counts = "what it is told"
    defects = ()

    def __init__(self, name: str, way: Way) -> None:
        self.name = name
        if way.place != "run":
            setattr(self, way.place, way.act)
        else:
            self.act = way.act

    def version(self) -> str:
        """A version."""
        return "1"

    def run(self, model: Any, inputs: Any) -> Any:
        """Misbehave, and answer."""
        answer = self.act(model) if hasattr(self, "act") else None
        return RIGHT if answer is None else answer[0] if type(answer) is tuple else answer

    def predict(self, trace: Any) -> Prediction:
        """Foresee what it answers."""
        return Prediction(7, 11, (Term("conv", 11, 7),))

    def why_not_meta(self, trace: Any) -> None:
        """Run on meta."""

    def retrace(self, model: Any, inputs: Any, trace: Any) -> Any:
        """Take the trace that is there."""
        return trace


def way(said: str | None = None, place: str = "run") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Take a function as a way to misbehave."""

    def take(act: Callable[..., Any]) -> Callable[..., Any]:
        WAYS[act.__name__.strip("_")] = Way(act, said, place)
        return act

    return take


def answers(name: str, answer: Any, said: str | None) -> None:
    """Take an answer that is none."""
    WAYS[name] = Way(lambda *_: (answer,), said, "run")


def raises(name: str, error: Callable[[], BaseException], said: str) -> None:
    """Take an exception."""

    def act(*_: Any) -> NoReturn:
        raise error()

    WAYS[name] = Way(act, said, "run")


# Ends of the process.


def _exits(code: int) -> Callable[..., None]:
    return lambda *_: os._exit(code)


WAYS["exits_with_0"] = Way(_exits(0), "it exited its process with exit code 0", "run")
WAYS["exits_with_3"] = Way(_exits(3), "it exited its process with exit code 3", "run")
WAYS["exits_in_version"] = Way(_exits(1), "exit code 1", "version")
WAYS["exits_in_why_not_meta"] = Way(_exits(1), "exit code 1", "why_not_meta")
WAYS["exits_in_predict"] = Way(_exits(1), None, "predict")
WAYS["exits_in_retrace"] = Way(_exits(1), None, "retrace")
for _name in ("SIGKILL", "SIGTERM", "SIGSEGV", "SIGFPE", "SIGBUS", "SIGXCPU", "SIGHUP", "SIGPIPE", "SIGALRM"):

    def _kill(*_: Any, number: int = getattr(signal, _name)) -> None:
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)

    WAYS[f"is_ended_by_{_name}"] = Way(_kill, f"its process was killed by {_name}", "run")


@way("its process was killed by SIGABRT")
def _aborts(*_: Any) -> None:
    os.abort()


@way("its process was killed by SIGSEGV")
def _reads_nowhere(*_: Any) -> None:
    ctypes.string_at(8)


@way("its process was killed by SIGSEGV")
def _runs_out_of_stack(*_: Any) -> None:
    callback = ctypes.CFUNCTYPE(None)

    @callback
    def again() -> None:
        again()

    sys.setrecursionlimit(2**30)
    again()


@way("exit code 0")
def _becomes_another_program(*_: Any) -> None:
    os.execv("/bin/true", ["true"])


@way("its process was killed by SIGKILL")
def _ends_its_group(*_: Any) -> None:
    os.killpg(0, signal.SIGKILL)


@way(LATE)
def _stops_itself(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@way("its process was killed by SIGABRT")
def _is_ended_by_python(*_: Any) -> None:
    ctypes.pythonapi.Py_FatalError(b"a peer")


# Exceptions.


class Own(BaseException):
    """No Exception."""


class MuteError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("cannot say")


raises("raises", lambda: ValueError("it broke"), "ValueError: it broke")
raises("raises_what_is_no_exception", lambda: Own("mine"), "Own: mine")
raises("raises_what_cannot_be_said", MuteError, "MuteError")
raises("raises_a_long_text", lambda: ValueError("x" * 10**6), "ValueError: xxx")
raises("raises_lines", lambda: ValueError("one\ntwo\x1b[31m"), "ValueError: one")
raises("raises_half_a_character", lambda: ValueError("\udcff"), "ValueError: ")
raises("leaves", lambda: SystemExit(5), "SystemExit: 5")
raises("leaves_without_a_code", SystemExit, "SystemExit")
raises("raises_the_end_of_a_generator", GeneratorExit, "GeneratorExit")
raises("raises_the_end_of_an_iteration", StopIteration, "StopIteration")
raises("raises_an_interruption", KeyboardInterrupt, "KeyboardInterrupt")
raises("raises_a_cancellation", asyncio.CancelledError, "CancelledError")
raises("raises_no_memory", MemoryError, "MemoryError")
raises("fails_with_help", lambda: CounterFailure("it cannot", "do it yourself"), "it cannot; do it yourself")


@way("RecursionError: ")
def _calls_itself(*_: Any) -> None:
    _calls_itself()


@way("KeyboardInterrupt")
def _interrupts_itself(*_: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


@way("MemoryError")
def _takes_all_memory(*_: Any) -> None:
    held = []
    while True:
        # Never written to, so the machine lives on.
        held.append(bytearray(2**40))


# What does not end.


@way(LATE)
def _swallows_everything(*_: Any) -> None:
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            continue


@way(LATE)
def _sleeps_with_signals_blocked(*_: Any) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    time.sleep(1000)


@way(LATE)
def _sleeps_in_compiled_code(*_: Any) -> None:
    # With the lock of the interpreter held.
    ctypes.PyDLL(None).sleep(1000)


@way(LATE)
def _computes_in_compiled_code(*_: Any) -> None:
    _ = 7**10**9


@way(LATE)
def _waits_for_a_thread(*_: Any) -> None:
    thread = threading.Thread(target=time.sleep, args=(1000,))
    thread.start()
    thread.join()


@way(LATE, place="version")
def _has_no_end_of_its_version(*_: Any) -> None:
    time.sleep(1000)


@way("EOFError")
def _asks_the_user(*_: Any) -> None:
    input("really? ")


# What is written.


@way()
def _prints(*_: Any) -> None:
    print(NOISE)
    sys.__stdout__.write(NOISE)  # type: ignore[union-attr]
    sys.stdout.flush()


@way()
def _writes_to_descriptors(*_: Any) -> None:
    os.write(1, NOISE.encode())
    for descriptor in range(3, 64):
        try:
            os.fstat(descriptor)
            if not select.select([], [descriptor], [], 0)[1] or descriptor == _answering():
                continue
            os.write(descriptor, NOISE.encode())
        except OSError:
            continue


def _answering() -> int:
    """The descriptor by which the answer goes: of the pipes that can be written to, the one that was opened last."""
    import fcntl
    import stat

    for descriptor in reversed(range(3, 256)):
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
            if is_pipe and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                return descriptor
        except OSError:
            continue
    return -1


@way()
def _starts_programs_that_print(*_: Any) -> None:
    os.system(f"echo {NOISE}")
    subprocess.run(["echo", NOISE], check=True)


@way()
def _prints_in_c(*_: Any) -> None:
    libc = ctypes.CDLL(None)
    libc.puts(NOISE.encode())
    libc.fflush(None)


@way()
def _logs_to_standard_output(*_: Any) -> None:
    logging.basicConfig(stream=sys.__stdout__, level=logging.DEBUG, force=True)
    logging.getLogger().error(NOISE)


@way("no readable answer")
def _writes_over_its_answer(*_: Any) -> None:
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, NOISE.encode() * 3)
        except OSError:
            continue


@way()
def _prints_at_exit(*_: Any) -> None:
    atexit.register(print, NOISE)
    atexit.register(os._exit, 9)


@way()
def _prints_from_a_thread(*_: Any) -> None:
    def talk() -> None:
        while True:
            os.write(1, NOISE.encode())
            time.sleep(0.01)

    threading.Thread(target=talk, daemon=True).start()
    time.sleep(0.02)


@way()
def _replaces_the_streams(*_: Any) -> None:
    sys.stdout = sys.stderr = sys.stdin = None  # type: ignore[assignment]


@way()
def _closes_the_streams(*_: Any) -> None:
    for descriptor in range(3):
        os.close(descriptor)


@way("it closed the file descriptors of its process")
def _closes_all_descriptors(*_: Any) -> None:
    os.closerange(0, 4096)
    time.sleep(1)


# Processes and threads that stay.


@way()
def _forks(*_: Any) -> None:
    os.fork()


@way()
def _leaves_a_process(*_: Any) -> None:
    for _i in range(5):
        subprocess.Popen(["sleep", "1000"])


@way("exit code 4")
def _leaves_a_process_and_ends(*_: Any) -> None:
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(4)


@way()
def _leaves_a_thread(*_: Any) -> None:
    threading.Thread(target=time.sleep, args=(1000,)).start()


@way()
def _leaves_a_thread_that_spins(*_: Any) -> None:
    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()


# What is replaced.


def _nonsense(*_: Any, **__: Any) -> Any:
    raise RuntimeError("replaced")


@way()
def _replaces_json(*_: Any) -> None:
    json.dumps = json.loads = lambda *_, **__: "{}"  # type: ignore[assignment]
    json.JSONEncoder.default = json.JSONEncoder.iterencode = _nonsense  # type: ignore[method-assign]


@way("in a state in which it cannot write an answer")
def _replaces_builtins(*_: Any) -> None:
    for name in ("print", "len", "isinstance", "open", "repr", "getattr", "hash", "sorted"):
        setattr(builtins, name, _nonsense)


@way()
def _replaces_functions_of_the_system(*_: Any) -> None:
    os.write = os._exit = os.fork = os.waitpid = os.kill = _nonsense  # type: ignore[assignment]
    time.monotonic = time.sleep = sys.exit = _nonsense  # type: ignore[assignment]


@way()
def _replaces_imports(*_: Any) -> None:
    sys.meta_path.clear()
    sys.path.clear()


@way()
def _forgets_modules(*_: Any) -> None:
    for name in [name for name in sys.modules if name.startswith(("torch", "json", "convstat"))]:
        del sys.modules[name]


@way()
def _changes_numbers(*_: Any) -> None:
    decimal.getcontext().prec = 1
    fractions.Fraction.__str__ = _nonsense  # type: ignore[method-assign]
    sys.set_int_max_str_digits(640)


@way()
def _replaces_functions_of_torch(*_: Any) -> None:
    import torch

    for owner, names in (
        (torch, ("relu", "conv2d", "zeros")),
        (torch.nn.functional, ("relu", "linear")),
        (torch.nn.Module, ("__call__", "named_modules")),
        (torch.Tensor, ("__repr__", "matmul")),
    ):
        for name in names:
            setattr(owner, name, _nonsense)


# What is left on.


@way()
def _leaves_a_function_mode_on(*_: Any) -> None:
    import torch

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            raise RuntimeError("a mode that stayed")

    Mode().__enter__()


@way()
def _leaves_a_dispatch_mode_on(*_: Any) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            raise RuntimeError("a mode that stayed")

    Mode().__enter__()


@way()
def _changes_torch(*_: Any) -> None:
    import torch

    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    torch.inference_mode().__enter__()
    torch.autocast("cpu").__enter__()
    torch.use_deterministic_algorithms(True)
    torch.set_anomaly_enabled(True)
    torch.set_num_threads(64)
    torch.manual_seed(9)


@way()
def _changes_the_model(model: Any) -> None:
    for module in model.modules():
        module.register_forward_hook(_nonsense)
        module.register_buffer("left", None)
    model.half()
    model.requires_grad_(False)
    for module in model.modules():
        module._modules.clear()


@way()
def _leaves_hooks_on_all_modules(*_: Any) -> None:
    import torch

    torch.nn.modules.module.register_module_forward_hook(_nonsense)


@way("RuntimeError: replaced")
def _traces(*_: Any) -> None:
    sys.setprofile(_nonsense)
    sys.settrace(_nonsense)


@way()
def _changes_the_recursion_limit(*_: Any) -> None:
    sys.setrecursionlimit(120)


@way()
def _changes_collection(*_: Any) -> None:
    gc.freeze()
    gc.set_threshold(1)
    gc.callbacks.append(_nonsense)


@way()
def _turns_warnings_into_errors(*_: Any) -> None:
    warnings.resetwarnings()
    warnings.simplefilter("error")


@way()
def _changes_the_process(*_: Any) -> None:
    os.chdir("/")
    os.umask(0o777)
    os.environ.clear()
    locale.setlocale(locale.LC_ALL, "C")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 1000)


@way()
def _takes_itself_resources(*_: Any) -> None:
    for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_STACK):
        resource.setrlimit(what, (0, 0))


@way()
def _leaks(*_: Any) -> None:
    LEAK.append(bytearray(200 * 2**20))
    builtins.leak = LEAK  # type: ignore[attr-defined]


LEAK: list[bytearray] = []


# Answers that are none.


class _Endless(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return 0

    def __iter__(self) -> Iterator[str]:
        while True:
            yield "more"

    def __len__(self) -> int:
        return 1


class _Other(Reported):
    pass


_CYCLE: dict[str, Any] = {}
_CYCLE["itself"] = _CYCLE

answers("answers_with_nothing", None, "its adapter gave NoneType")
answers("answers_with_a_pair", (1, 2), "its adapter gave tuple")
answers("answers_with_a_text", "12", "its adapter gave str")
answers("answers_with_another_class", _Other(1, 2), "its adapter gave _Other")
answers("answers_with_a_fraction", Reported(macs=1.5), "not an integer: 1.5")  # type: ignore[arg-type]
answers("answers_with_no_number", Reported(macs=float("nan")), "not an integer: nan")  # type: ignore[arg-type]
answers("answers_with_true", Reported(params=True), "not an integer: True")
answers("answers_with_less_than_nothing", Reported(macs=-5), "less than nothing: -5")
answers("answers_with_many_digits", Reported(macs=10**5000), "more than a hundred digits")
answers(
    "answers_with_memory_that_is_no_number", Reported(memory_mib={"total": float("nan")}), "not a finite number: nan"
)
answers("answers_with_endless_memory", Reported(memory_mib={"total": float("inf")}), "not a finite number: inf")
answers("answers_with_a_cycle", Reported(native=_CYCLE), "not an integer: {'itself'")
answers("answers_without_end", Reported(native=_Endless()), LATE)
answers("answers_with_figures_in_a_list", Reported(native=[1]), "its native is not a mapping")  # type: ignore[arg-type]
answers("answers_with_figures_without_names", Reported(native={1: 1}), "is not a string")  # type: ignore[dict-item]


@way("its adapter gave")
def _answers_with_an_array(*_: Any) -> Any:
    import torch

    return torch.ones(3)


@way(None, place="predict")
def _foresees_what_is_no_prediction(*_: Any) -> Any:
    return (1, 2)


@way("its version is not a string", place="version")
def _has_a_number_for_a_version(*_: Any) -> Any:
    return 1


@way("its reason is not a string", place="why_not_meta")
def _has_a_number_for_a_reason(*_: Any) -> Any:
    return 1


class COUNTERS:
    """All of them, as attributes: what an entry point names."""


for _name, _way in WAYS.items():
    setattr(COUNTERS, _name, Fake(_name.replace("_", "-"), _way))


def entry_point(folder: Path) -> None:
    """Offer all of them from a folder that is on the path."""
    info = folder / "misbehaving-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1.0\n")
    lines = [f"{name.replace('_', '-')} = misbehaving:COUNTERS.{name}" for name in WAYS]
    (info / "entry_points.txt").write_text("\n".join(["[convstat.counters]", *lines, ""]))
