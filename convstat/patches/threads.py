"""Follow what the holder of the room starts: its threads are its own, and all others are not.

``threading.Thread``, ``_thread.start_new_thread``, and what is handed to a ``ThreadPoolExecutor``, whose threads may be
older than the call, are followed. What torch itself runs elsewhere, such as ``torch.jit.fork`` in a script, takes the
modes of the thread that asked for it along.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

from convstat.patches.room import once, patch, rerouted, session, undone

Adopt = Callable[[], AbstractContextManager[object]]
"""Called in the thread that starts another one; what it gives is entered in that one around all that it does."""

_adopting: list[Adopt] = []
_handing_out = threading.local()


@patch
def followed(adopt: Adopt | None = None) -> Iterator[None]:
    """Let threads that are started meanwhile be taken for the holder's own, and ``adopt`` each of them."""
    with ExitStack() as stack:
        if stack.enter_context(once("threads are followed")):
            stack.enter_context(rerouted(threading.Thread, "start", _start))
            stack.enter_context(rerouted(ThreadPoolExecutor, "submit", _submit))
            stack.enter_context(rerouted(_thread, "start_new_thread", _start_new))
        if adopt is not None:
            stack.enter_context(undone(partial(_forget, len(_adopting))))
            _adopting.append(adopt)
        yield


def _forget(length: int) -> None:
    del _adopting[length:]


def _adopted(work: Callable[..., Any]) -> Callable[..., Any]:
    """Work that another thread is to do as one of ours."""
    of = session()
    around = [adopt() for adopt in _adopting]

    def run(*args: Any, **kwargs: Any) -> Any:
        if session() is not of:
            return work(*args, **kwargs)
        ident = threading.get_ident()
        with ExitStack() as stack:
            if ident not in of.started:
                stack.callback(of.started.discard, ident)
                of.started.add(ident)
            for entered in around:
                stack.enter_context(entered)
            return work(*args, **kwargs)

    return run


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(thread: threading.Thread, /) -> None:
        if getattr(_handing_out, "on", False):
            # A thread of a pool does the work of many, each of which is adopted by itself.
            original(thread)
            return
        before, work = vars(thread).get("run"), _adopted(thread.run)

        def run() -> None:
            # What stands on the thread itself goes again before anything of the user's runs.
            if before is None:
                del vars(thread)["run"]
            else:
                vars(thread)["run"] = before
            work()

        vars(thread)["run"] = run
        original(thread)

    return start


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    def submit(pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        _handing_out.on = True
        try:
            return original(pool, _adopted(function), *args, **kwargs)
        finally:
            _handing_out.on = False

    return submit


def _start_new(original: Callable[..., Any]) -> Callable[..., Any]:
    def start_new_thread(function: Callable[..., Any], *rest: Any) -> Any:
        return original(_adopted(function), *rest)

    return start_new_thread
