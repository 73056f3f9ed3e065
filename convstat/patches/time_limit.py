"""Stop waiting for code that does not come back.

In the main thread a timer of the operating system interrupts whatever runs, a sleep included.
Elsewhere, and on Windows, an exception is set for the thread, which it meets at its next step in Python.
Neither can end a single call of compiled code that never returns, nor code that catches whatever is raised in it: of
a process that is convstat's own, :func:`ending` ends it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

from convstat.patches.limits import is_owned
from convstat.patches.room import patch, undone

DEFAULT_SECONDS = 300.0
"""How long foreign code, a model's or a peer's, may take, where nobody says otherwise."""

AGAIN = 1.0
"""Seconds after which it is told again, should it have swallowed the exception."""

PATIENCE = 15.0
"""Seconds beyond the limit after which a process ends that still has not come back."""

_allowed = [DEFAULT_SECONDS]


@patch
def allowed(seconds: float | None) -> Iterator[None]:
    """Let foreign code take so many seconds, for as long as this is entered; 0 is any time, None what it was."""
    before = _allowed[0]

    def put_back() -> None:
        _allowed[0] = before

    with undone(put_back):
        if seconds is not None:
            _allowed[0] = seconds
        yield


def seconds_allowed() -> float:
    """How long foreign code may take now; 0 is any time."""
    return _allowed[0]


def allow(seconds: float | None) -> None:
    """Say for good how long it may take; only for who owns the process. None is the usual time."""
    _allowed[0] = DEFAULT_SECONDS if seconds is None else float(seconds)


class Overtime(BaseException):
    """The time is over."""


_deadlines: list[float] = []
"""When the limits that are in force now end, the innermost last, each before the one around it."""


@patch
def time_limit(seconds: float) -> Iterator[bool]:
    """Raise Overtime inside after so many seconds, and say whether it does: 0 is no limit, and an earlier one holds.

    >>> with time_limit(0.01):
    ...     while True:
    ...         pass
    Traceback (most recent call last):
        ...
    convstat.patches.time_limit.Overtime
    """
    import signal
    from time import monotonic

    ends = monotonic() + seconds
    if not seconds or (_deadlines and _deadlines[-1] <= ends):
        yield False
        return
    is_main = threading.current_thread() is threading.main_thread()
    with undone(partial(_end_limits, len(_deadlines))):
        _deadlines.append(ends)
        with _alarm(seconds) if is_main and hasattr(signal, "setitimer") else _exception_from_aside(seconds):
            yield True


def _end_limits(mark: int) -> None:
    del _deadlines[mark:]


@patch
def _alarm(seconds: float) -> Iterator[None]:
    import signal
    from time import monotonic

    def ring(number: int, frame: FrameType | None) -> None:
        if _is_asked(frame):
            signal.setitimer(signal.ITIMER_REAL, _SOON, AGAIN)
            return
        raise Overtime

    started = monotonic()
    handler = signal.getsignal(signal.SIGALRM)
    left, interval = signal.getitimer(signal.ITIMER_REAL)

    def put_back() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if left:
            # Somebody else's alarm goes on where it was.
            signal.setitimer(signal.ITIMER_REAL, max(left - (monotonic() - started), 0.001), interval)

    with undone(put_back):
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        yield


_SOON = 0.001


def _is_asked(frame: FrameType | None) -> bool:
    """Whether torch waits for Python to say what a tensor looks like: an exception in the answer ends the process."""
    dispatch = sys.modules.get("convstat.patches.dispatch")
    while frame is not None and dispatch is not None:
        code = frame.f_code
        if code.co_name == "__torch_dispatch__" and code.co_argcount > 1:
            asked = frame.f_locals.get(code.co_varnames[1])
            if dispatch.is_question(asked):
                return True
        frame = frame.f_back
    return False


@contextmanager
def ending(seconds: float, say: Callable[[], str]) -> Iterator[None]:
    """End a process that is convstat's own, with exit code 2 and a sentence, where nothing else ends what runs inside.

    Does nothing in other processes, and without a limit.
    """
    if not seconds or not is_owned():
        yield
        return
    done = threading.Event()

    def watch() -> None:
        if not done.wait(seconds + PATIENCE):
            _end(say())

    watcher = threading.Thread(target=watch, name="convstat's time limit", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()


def _end(message: str) -> None:
    import os

    with suppress(OSError):
        os.write(2, f"{message}\n".encode("utf-8", "backslashreplace"))
    os._exit(2)


@contextmanager
def _exception_from_aside(seconds: float) -> Iterator[None]:
    import ctypes

    thread = ctypes.c_ulong(threading.get_ident())
    done, told = threading.Event(), threading.Event()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            told.set()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(Overtime))
            wait = AGAIN

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        _stop(watcher, done)
        if told.is_set():
            _meet()


def _stop(watcher: threading.Thread, done: threading.Event) -> None:
    """End the watcher, whenever its exception comes up."""
    while True:
        try:
            done.set()
            watcher.join()
            return
        except Overtime:
            continue


def _meet() -> None:
    """Let an exception come up here that was set and not met, and would come up anywhere else.

    To take it back is not enough: CPython 3.11 would go on looking for it at every call of a function, in all threads,
    and for ever at the first one under a tracer.
    """
    with suppress(Overtime):
        for _ in range(1000):
            pass
