"""Streams, warnings and logs: what the holder of the room says meanwhile goes elsewhere, and nobody else's does."""

from __future__ import annotations

import functools
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from convstat.patches.room import ours, patch, session, undone


class _Stream:
    """Standard output or standard error: for the threads of who has the room another one, until it is left.

    Whoever keeps it, such as a handler of a log that is set up meanwhile, has the stream itself from then on.
    """

    def __init__(self, stream: Any, instead: Any) -> None:
        self._convstat_streams = stream, instead, session()
        self._convstat_is_over = False

    def _convstat_now(self) -> Any:
        stream, instead, of = self._convstat_streams
        return instead if not self._convstat_is_over and of is session() and ours() else stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._convstat_now(), name)

    def __iter__(self) -> Any:
        return iter(self._convstat_now())

    def write(self, text: str) -> int:
        """Print calls it."""
        written: int = self._convstat_now().write(text)
        return written


_LAST: deque[_Stream] = deque(maxlen=1000)
"""Those that may still be in use: until CPython 3.13, print does not hold the stream that it writes to, so a thread
would write to one that is freed meanwhile."""


@patch
def redirected(instead: Any, *names: str) -> Iterator[None]:
    """Send what is written to some of ``sys.stdout`` and ``sys.stderr`` to another stream for a while."""
    with ExitStack() as stack:
        for name in names:
            before = getattr(sys, name)
            stand_in = _Stream(before, instead)
            _LAST.append(stand_in)
            stack.enter_context(undone(functools.partial(_end, name, before, stand_in)))
            setattr(sys, name, stand_in)
        yield


def _end(name: str, before: Any, stand_in: _Stream) -> None:
    setattr(sys, name, before)
    stand_in._convstat_is_over = True


@patch
def warnings_preserved() -> Iterator[None]:
    """Put back which warnings are shown, and how."""
    module: Any = warnings
    names = [name for name in ("filters", "showwarning", "_showwarnmsg_impl") if hasattr(module, name)]
    before = {name: getattr(module, name) for name in names}

    def put_back() -> None:
        for name, value in before.items():
            setattr(module, name, value)
        filters_changed()

    with undone(put_back):
        # Who adds a filter writes into the list.
        module.filters = list(before["filters"])
        filters_changed()
        yield


def filters_changed() -> None:
    """Tell the interpreter, which keeps what it has found out about a place, as the functions of the module do."""
    module: Any = warnings
    if hasattr(module, "_filters_mutated"):
        module._filters_mutated()
    elif hasattr(module, "_filters_mutated_lock_held"):
        with module._lock:
            module._filters_mutated_lock_held()


class _OnOurThreads:
    """Stands in a filter where a pattern stands, and matches by the thread that warns."""

    def __init__(self) -> None:
        self.of = session()

    def match(self, text: str) -> bool:
        """Whether the warning is one of ours."""
        return self.of is session() and ours()


@patch
def unwarned() -> Iterator[None]:
    """Show no warnings of ours; which are shown is as it was afterwards, whatever is changed meanwhile."""
    with warnings_preserved():
        kept: Any = warnings.filters
        kept.insert(0, ("ignore", _OnOurThreads(), Warning, None, 0))
        filters_changed()
        yield


@patch
def unlogged(*names: str) -> Iterator[None]:
    """Write nothing to some logs and those below them."""
    import logging

    with ExitStack() as stack:
        for name in names:
            log = logging.getLogger(name)
            stack.enter_context(undone(functools.partial(log.setLevel, log.level)))
            log.setLevel(logging.CRITICAL + 1)
        yield
