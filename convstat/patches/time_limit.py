"""Stop waiting for a peer that does not come back.

In the main thread a timer of the operating system interrupts whatever runs, a sleep included.
Elsewhere, and on Windows, an exception is set for the thread, which it meets at its next step in Python.
Neither can end a single call of compiled code that never returns: both are only heard between two steps in Python.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from convstat.patches.room import patch, undone

DEFAULT_SECONDS = 300
"""How long a peer may take, where nobody says otherwise."""

AGAIN = 5.0
"""Seconds after which it is told again, should it have swallowed the exception."""


class Overtime(BaseException):
    """The time is over."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Overtime inside after so many seconds; 0 is no limit.

    >>> with time_limit(0.01):
    ...     while True:
    ...         pass
    Traceback (most recent call last):
        ...
    convstat.patches.time_limit.Overtime
    """
    if not seconds:
        yield
        return
    import signal

    is_main = threading.current_thread() is threading.main_thread()
    with _alarm(seconds) if is_main and hasattr(signal, "setitimer") else _exception_from_aside(seconds):
        yield


@patch
def _alarm(seconds: float) -> Iterator[None]:
    import signal
    from time import monotonic

    def ring(*_: object) -> None:
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
