"""What a model may change in the process that runs it, as a table: how each state is read, and how it is put back.

What Python keeps is here, what torch keeps in :mod:`convstat.patches.torch_states`. A state that cannot be put back, or
that somebody should know of, is named in a note. To read all of them costs a fifth of a millisecond.

What is not looked at, as it is made to last or cannot be told from what torch does by itself: modules that are
imported, operators and classes that are registered, files, memory, contents of globals and of classes of the model's
own, and what compiled code keeps to itself.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import json
import locale
import logging
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from operator import is_
from typing import Any

from convstat.patches.room import patch, session, undone
from convstat.patches.streams import keep_standard_output


@dataclass(frozen=True, slots=True)
class State:
    """Something that code may change for the whole process, or for the thread that it runs in.

    ``read`` gives what it is now, and ``restore`` makes it what was read before.
    ``says`` gives what is to be said of a change, None where nothing is; without it, only a change that cannot be put
    back is told of. ``is_same`` tells two readings apart.
    """

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object] | None = None
    says: Callable[[Any, Any], str | None] | None = None
    is_same: Callable[[Any, Any], bool] | None = None


_PLAIN = (bool, int, float, str, bytes, type(None))
_HOLDING = (list, tuple)


def same(one: Any, other: Any) -> bool:
    """Whether a state is what it was; of objects, whether they are the same: how others compare theirs is not asked."""
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in _HOLDING:
        return len(one) == len(other) and all(map(same, one, other))
    if kind is dict:
        if len(one) != len(other):
            return False
        if all(map(is_, one, other)) and all(map(is_, one.values(), other.values())):
            return True
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return kind in _PLAIN and bool(one == other)


class Changes:
    """What became of the states in the end: ``notes`` says which of them are not as they were."""

    def __init__(self) -> None:
        self.notes: list[str] = []


@patch
def states_kept(states: Sequence[State]) -> Iterator[Changes]:
    """Put back, whatever happens, what some states are now."""
    keep_standard_output()
    kept = Changes()
    before = [(state, state.read()) for state in states]

    def put_back() -> None:
        for state, value in before:
            # One that cannot even be read any more does not keep the others from being put back.
            with suppress(Exception):
                _put_back(state, value, kept)

    with undone(put_back):
        yield kept


def _put_back(state: State, before: Any, kept: Changes) -> None:
    after, is_same = state.read(), state.is_same or same
    if is_same(before, after):
        return
    said = None if state.says is None else state.says(before, after)
    if state.restore is not None:
        with suppress(Exception):
            state.restore(before)
    if state.says is None and not is_same(before, state.read()):
        said = f"it changed {state.name}, which cannot be restored"
    if said is not None and said not in kept.notes:
        kept.notes.append(said)


def nothing_said(before: Any, after: Any) -> None:
    """There is nothing to be said: what is new is there to stay."""


# How to read and put back what many states are.


def attributes(owner: Any, *names: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Some attributes of a module or an object."""
    names = tuple(name for name in names if hasattr(owner, name))

    def read() -> Any:
        return [getattr(owner, name) for name in names]

    def restore(before: Any) -> None:
        for name, value in zip(names, before, strict=True):
            setattr(owner, name, value)

    return read, restore


def held(owner: Any, *names: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Lists and dicts that are attributes: which they are, and what they hold."""

    def read() -> Any:
        return [(found := getattr(owner, name), found.copy()) for name in names]

    def restore(before: Any) -> None:
        for name, (found, copy) in zip(names, before, strict=True):
            setattr(owner, name, found)
            found.clear()
            (found.update if isinstance(found, dict) else found.extend)(copy)

    return read, restore


def functions_of(*owners: Any) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """What can be called in some modules and classes; what is new in a module has been imported since, and is left."""

    def read() -> Any:
        return [vars(owner).copy() for owner in owners]

    def restore(before: Any) -> None:
        for owner, names in zip(owners, before, strict=True):
            now = vars(owner)
            for name, value in names.items():
                if callable(value) and now.get(name) is not value:
                    setattr(owner, name, value)
            if isinstance(owner, type):
                for name in now.keys() - names.keys():
                    delattr(owner, name)

    return read, restore


def read_and_set(owner: Any, *names: tuple[str, str]) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """States that have a function to read each and one to set it, as far as this version has them."""
    known = [[getattr(owner, name) for name in pair] for pair in names if all(hasattr(owner, name) for name in pair)]

    def read() -> Any:
        return [get() for get, _ in known]

    def restore(before: Any) -> None:
        for (get, put), value in zip(known, before, strict=True):
            if not same(get(), value):
                put(value)

    return read, restore


def same_functions(before: Any, after: Any) -> bool:
    """Whether all names stand for what they did; a new one comes last."""
    pairs = zip(before, after, strict=True)
    return all(len(one) == len(other) and all(map(is_, one.values(), other.values())) for one, other in pairs)


# The surroundings.


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _restore_folder(before: str | None) -> None:
    if before is not None:
        os.chdir(before)


def _environment() -> dict[Any, Any]:
    # Python keeps it encoded, and to decode all of it would cost more than all other states together.
    return dict(getattr(os.environ, "_data", os.environ))


def _restore_environment(before: dict[Any, Any]) -> None:
    now = _environment()
    decode = getattr(os.environ, "decodekey", str)
    for key in now.keys() - before.keys():
        del os.environ[decode(key)]
    for key, value in before.items():
        if now.get(key) != value:
            os.environ[decode(key)] = getattr(os.environ, "decodevalue", str)(value)
    if hasattr(time, "tzset"):
        time.tzset()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _affinity() -> Any:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _priority() -> Any:
    return os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None


try:
    import resource
except ImportError:
    _LIMITS: list[int] = []
else:
    _LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


def _limits() -> Any:
    return [resource.getrlimit(number) for number in _LIMITS]


def _restore_limits(before: Any) -> None:
    for number, limit in zip(_LIMITS, before, strict=True):
        if resource.getrlimit(number) != limit:
            with suppress(ValueError, OSError):
                resource.setrlimit(number, limit)


# Signals and timers.

_signal: Any = import_module("_signal")
"""What the module ``signal`` is made of: the names that this gives to numbers take long."""

_SIGNALS = sorted(int(number) for number in signal.valid_signals() if number not in (signal.SIGABRT, signal.SIGSEGV))
_TIMERS = [getattr(signal, name) for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF") if hasattr(signal, name)]


def _handlers() -> Any:
    return [_signal.getsignal(number) for number in _SIGNALS]


def _restore_handlers(before: Any) -> None:
    for number, handler in zip(_SIGNALS, before, strict=True):
        if handler is not None and _signal.getsignal(number) is not handler:
            with suppress(OSError):
                signal.signal(number, handler)


def _blocked() -> Any:
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())) if hasattr(signal, "pthread_sigmask") else None


def _timers() -> Any:
    """When each rings, by the clock, and how often from then on; some count the work of the process instead."""
    now, found = time.monotonic(), []
    for timer in _TIMERS:
        left, interval = signal.getitimer(timer)
        found.append((left and now + left, interval))
    return found


def _same_timers(before: Any, after: Any) -> bool:
    now = time.monotonic()
    for (ends, interval), (later, other) in zip(before, after, strict=True):
        if interval != other or (not interval and bool(later) != (ends > now)):
            return False
    return True


def _restore_timers(before: Any) -> None:
    now = time.monotonic()
    for timer, (ends, interval) in zip(_TIMERS, before, strict=True):
        if interval or ends > now or not ends:
            # What rang once need not ring again.
            signal.setitimer(timer, ends and max(ends - now, 0.001), interval)


# What Python asks at every step, and whom it tells.


def _monitors() -> Any:
    monitoring: Any = getattr(sys, "monitoring", None)
    return None if monitoring is None else [monitoring.get_tool(number) for number in range(6)]


def _free_monitors(before: Any) -> None:
    monitoring: Any = vars(sys)["monitoring"]
    for number, name in enumerate(before):
        if name is None and monitoring.get_tool(number) is not None:
            monitoring.set_events(number, 0)
            monitoring.free_tool_id(number)


def _collector() -> Any:
    return gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.callbacks[:]


def _restore_collector(before: Any) -> None:
    enabled, thresholds, debug, gc.callbacks[:] = before
    (gc.enable if enabled else gc.disable)()
    gc.set_threshold(*thresholds)
    gc.set_debug(debug)


# Warnings and logs.

_WARNINGS: Any = warnings
_WARNING_NAMES = [
    name
    for name in ("filters", "showwarning", "formatwarning", "_showwarnmsg_impl", "defaultaction", "onceregistry")
    if hasattr(warnings, name)
]


def _warnings() -> Any:
    return [getattr(_WARNINGS, name) for name in _WARNING_NAMES], list(_WARNINGS.filters)


def _restore_warnings(before: Any) -> None:
    from convstat.patches.quiet import filters_changed

    values, filters = before
    for name, value in zip(_WARNING_NAMES, values, strict=True):
        setattr(_WARNINGS, name, value)
    _WARNINGS.filters[:] = filters
    filters_changed()


_ROOT: Any = logging.root


def _logs() -> Any:
    loggers = [_ROOT, *(log for log in _ROOT.manager.loggerDict.values() if isinstance(log, logging.Logger))]
    levels = [(log, log.level, log.disabled, log.propagate, len(log.handlers)) for log in loggers]
    return levels, _ROOT.handlers[:], _ROOT.manager.disable, logging.raiseExceptions, logging.lastResort


def _same_logs(before: Any, after: Any) -> bool:
    # Of a tuple of plain values and a logger, which compares as an object does.
    return bool(before == after)


def _restore_logs(before: Any) -> None:
    levels, handlers, disabled, logging.raiseExceptions, logging.lastResort = before
    logging.disable(disabled)
    _ROOT.handlers[:] = handlers
    for log, level, log.disabled, log.propagate, number in levels:
        # A handler that is added comes last.
        del log.handlers[number:]
        if log.level != level:
            log.setLevel(level)


# Threads and processes, which nobody can end.


def _threads() -> Any:
    return list(session().started)


def _say_threads(before: Any, after: Any) -> str | None:
    """Those that are about to end are given a moment for it."""
    new = set(after) - set(before)
    running = [thread for thread in threading.enumerate() if thread.ident in new]
    until = time.monotonic() + _MOMENT
    for thread in running:
        if not isinstance(thread, threading._DummyThread):
            thread.join(max(0.0, until - time.monotonic()))
    names = sorted(thread.name for thread in running if thread.ident in session().started)
    return f"threads that it started are still running: {_few(names)}" if names else None


_MOMENT = 0.1
"""Seconds in which a thread that has nothing more to do comes to its end."""


def _children() -> Any:
    try:
        with open(f"/proc/self/task/{threading.get_native_id()}/children", "rb") as file:
            return file.read().split()
    except OSError:
        return None


def _say_children(before: Any, after: Any) -> str | None:
    new = sorted(int(number) for number in after or () if number not in (before or ()))
    return f"processes that it started are still running: {_few(map(str, new))}" if new else None


def _few(names: Any) -> str:
    found = list(names)
    return ", ".join(found[:3]) + (f" and {len(found) - 3:,} more" if len(found) > 3 else "")


def _at_exit() -> Any:
    return atexit._ncallbacks(), len(sys.modules)


def _say_at_exit(before: Any, after: Any) -> str | None:
    # Packages have something to do in the end, and whatever is imported meanwhile may be one.
    more = after[0] - before[0]
    return f"it registered {more:,} functions with atexit" if more > 0 and before[1] == after[1] else None


# Packages that are only looked at where they are loaded.


def _decimal() -> Any:
    module: Any = sys.modules.get("decimal")
    if module is None or not hasattr(module, "getcontext"):
        return None
    context = module.getcontext()
    return (
        context,
        {name: getattr(context, name) for name in _OF_CONTEXT},
        _set_in(context.traps),
        _set_in(context.flags),
    )


_OF_CONTEXT = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def _set_in(signals: Mapping[Any, bool]) -> list[Any]:
    return [signal for signal, is_set in signals.items() if is_set]


def _restore_decimal(before: Any) -> None:
    if before is None:
        return
    context, values, traps, flags = before
    for name, value in values.items():
        setattr(context, name, value)
    for table, held in ((context.traps, traps), (context.flags, flags)):
        for kind in list(table):
            table[kind] = kind in held
    sys.modules["decimal"].setcontext(context)


def _numpy() -> Any:
    numpy: Any = sys.modules.get("numpy")
    # While it is being imported there is nothing to be asked.
    if numpy is None or not hasattr(numpy, "geterr"):
        return None
    return numpy.geterr(), numpy.get_printoptions()


def _restore_numpy(before: Any) -> None:
    if before is not None:
        numpy: Any = sys.modules["numpy"]
        numpy.seterr(**before[0])
        numpy.set_printoptions(**before[1])


def _generators() -> Any:
    """The states of the generators of Python and numpy."""
    numpy: Any = sys.modules.get("numpy")
    states = numpy.random.get_state(legacy=False) if numpy is not None and hasattr(numpy, "random") else None
    return random.getstate(), states and (states["state"]["pos"], states["state"]["key"].tobytes(), states)


def _restore_generators(before: Any) -> None:
    state, numpys = before
    random.setstate(state)
    if numpys is not None:
        sys.modules["numpy"].random.set_state(numpys[2])


def _same_generators(before: Any, after: Any) -> bool:
    return bool(before[0] == after[0]) and (before[1] and before[1][:2]) == (after[1] and after[1][:2])


_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
_HOOKS = ("excepthook", "displayhook", "unraisablehook", "breakpointhook")
_FLAGS = ("dont_write_bytecode", "pycache_prefix")

_TRACING = (("gettrace", "settrace"), ("getprofile", "setprofile"))
_OF_JSON = (json, json.encoder, json.decoder, json.JSONEncoder, json.JSONDecoder)

PYTHONS: tuple[State, ...] = (
    State("`sys.settrace` and `sys.setprofile`", *read_and_set(sys, *_TRACING)),
    State("`threading.settrace` and `threading.setprofile`", *read_and_set(threading, *_TRACING)),
    State("the tools of `sys.monitoring`", _monitors, _free_monitors),
    State("the functions in `builtins`", *functions_of(builtins), nothing_said, same_functions),
    State("the functions in `json`", *functions_of(*_OF_JSON), nothing_said, same_functions),
    State("`sys.stdin`, `sys.stdout` and `sys.stderr`", *attributes(sys, *_STREAMS)),
    State("`sys.excepthook`, `sys.displayhook`, `sys.unraisablehook`, `sys.breakpointhook`", *attributes(sys, *_HOOKS)),
    State("`threading.excepthook`", *attributes(threading, "excepthook")),
    State("`sys.path`, `sys.meta_path` and `sys.path_hooks`", *held(sys, "path", "meta_path", "path_hooks")),
    State("`sys.argv`", *held(sys, "argv")),
    State("`sys.dont_write_bytecode` and `sys.pycache_prefix`", *attributes(sys, *_FLAGS)),
    State("`sys.setrecursionlimit`", sys.getrecursionlimit, sys.setrecursionlimit),
    State("`sys.set_int_max_str_digits`", *read_and_set(sys, ("get_int_max_str_digits", "set_int_max_str_digits"))),
    State("`sys.setswitchinterval`", sys.getswitchinterval, sys.setswitchinterval),
    State("the garbage collector (on or off, thresholds, callbacks)", _collector, _restore_collector),
    State("the working directory", _folder, _restore_folder),
    State("`os.environ`, and the time zone with it", _environment, _restore_environment),
    State("the locale", lambda: locale.setlocale(locale.LC_ALL), lambda found: locale.setlocale(locale.LC_ALL, found)),
    State("the umask", _umask, os.umask),
    State("`resource.setrlimit`", _limits, _restore_limits),
    State("`os.setpriority` and `os.nice`", _priority, lambda found: os.setpriority(os.PRIO_PROCESS, 0, found)),
    State("`os.sched_setaffinity`", _affinity, lambda found: os.sched_setaffinity(0, found)),
    State("the handlers of signals", _handlers, _restore_handlers),
    State("the mask of signals", _blocked, lambda found: signal.pthread_sigmask(signal.SIG_SETMASK, found)),
    State("`signal.alarm` and `signal.setitimer`", _timers, _restore_timers, None, _same_timers),
    State("the filters of `warnings`, and how they are shown", _warnings, _restore_warnings),
    State("loggers (levels, handlers, `logging.disable`)", _logs, _restore_logs, nothing_said, _same_logs),
    State("the context of `decimal`", _decimal, _restore_decimal),
    State("`numpy.seterr` and `numpy.set_printoptions`", _numpy, _restore_numpy),
    State("functions that `atexit` runs", _at_exit, None, _say_at_exit),
    State("threads", _threads, None, _say_threads),
    State("processes", _children, None, _say_children),
)
"""What Python and the system keep, in the order in which it is put back: first what runs at every step."""

GENERATORS = State("the random states of Python and numpy", _generators, _restore_generators, None, _same_generators)
"""What is drawn from, which is put back in more places than the rest."""
