"""One call in a process of its own, forked from this one: whatever it does there, this process is as it was.

The child has the model, its inputs and all modules, as they are, without a copy. It writes its answer into a pipe and
ends; if it ends without one, says nothing in its time, or writes nonsense, that is what the code did. With it goes what
it has started, allocated, patched and registered for the end of the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from time import monotonic, sleep

from convstat.patches.child import HEAD, LOST, end_pools, flush_streams, serve
from convstat.patches.quiet import unwarned

STEP = 0.02
"""Seconds between two looks whether a process still lives; an answer is seen at once."""

MOST_BYTES = 2**26
"""What an answer may take; a prediction of a hundred thousand layers has a tenth of it."""

PATIENCE = 2.0
"""Seconds in which a process that was killed has to be gone; one that hangs in the system is left to it."""


class Lost(Exception):  # noqa: N818 - how the called code ended is an answer, not an error of ours
    """A call gave no answer; the message says what its process did. ``is_late`` where its time was over."""

    def __init__(self, reason: str, *, is_late: bool = False) -> None:
        super().__init__(reason)
        self.is_late = is_late


class Call:
    """A call that runs in a process of its own, for at most so many seconds (0: any number).

    ``closed`` are descriptors of this process that are nothing to the other one.
    """

    def __init__(self, function: Callable[[], bytes], seconds: float, closed: Iterable[int] = ()) -> None:
        self.seconds = seconds
        self.is_over = False
        self._data = bytearray()
        self._failure: Lost | None = None
        self.pid = -1
        has_threads = end_pools()
        flush_streams()
        self.pipe, theirs = os.pipe()
        try:
            # Since Python 3.12 a fork warns where there are other threads; those that are here are known.
            with unwarned():
                self.pid = _fork()
                if not self.pid:
                    serve(function, theirs, (self.pipe, *closed), has_threads)
        except BaseException:
            if self.pid > 0:
                self.reap()
            else:
                os.close(self.pipe)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(self.pipe, False)
        self.deadline = monotonic() + seconds if seconds else None

    def answer(self) -> bytes:
        """What the function gave, once it is over; raises Lost where it gave nothing."""
        if self._failure is not None:
            raise self._failure
        return bytes(self._data[HEAD:])

    def step(self) -> None:
        """Take what is there; see whether the process is over, or out of time."""
        if self.is_over:
            return
        ended = self._ended()
        is_closed = self._take()
        size = int.from_bytes(self._data[:HEAD], "big") if len(self._data) >= HEAD else None
        if size is not None and size > MOST_BYTES:
            self._fail("its process gave no readable answer")
        elif size is not None and len(self._data) >= HEAD + size:
            del self._data[HEAD + size :]
            self.end()
        elif ended is not None:
            self._fail(ended)
        elif is_closed:
            # It may be about to end, and what it ends with says more.
            self._fail(self._ended_soon() or "it closed the file descriptors of its process, and cannot answer")
        elif self.deadline is not None and monotonic() > self.deadline:
            self._failure = Lost(f"it gave no answer within {self.seconds:g} seconds", is_late=True)
            self.end()

    def _fail(self, reason: str) -> None:
        self._failure = Lost(reason)
        self.end()

    def _take(self) -> bool:
        """Take what is in the pipe; whether nobody can write to it any more."""
        while len(self._data) <= MOST_BYTES + HEAD:
            try:
                part = os.read(self.pipe, 2**16)
            except BlockingIOError:
                return False
            if not part:
                return True
            self._data += part
        return False

    def _ended(self) -> str | None:
        """How the process ended; None where it has not. It is not taken away yet, so that its number stays its own."""
        try:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return "its process ended without an answer"
        if found is None:
            return None
        if (found.si_code, found.si_status) == (os.CLD_EXITED, LOST):
            return "it left its process in a state in which it cannot write an answer"
        if found.si_code == os.CLD_EXITED:
            return f"it exited its process with exit code {found.si_status}"
        name = signal.Signals(found.si_status).name if found.si_status in list(signal.Signals) else "a signal"
        more = ", possibly because memory ran out" if found.si_status == signal.SIGKILL else ""
        return f"its process was killed by {name}{more}"

    def _ended_soon(self) -> str | None:
        until = monotonic() + 10 * STEP
        while (gone := self._ended()) is None and monotonic() < until:
            sleep(STEP / 10)
        return gone

    def end(self) -> None:
        """End the process and all that it has started, if it still runs; :meth:`reap` waits until it is gone."""
        if self.is_over:
            return
        self.is_over = True
        os.close(self.pipe)
        for kill in (os.kill, os.killpg):
            # Until it is waited for, its number is its own, and so is that of its group.
            with contextlib.suppress(OSError):
                kill(self.pid, signal.SIGKILL)

    def is_gone(self) -> bool:
        """Whether the process is no more; what takes a moment is to give its memory back."""
        try:
            return os.waitpid(self.pid, os.WNOHANG) != (0, 0)
        except ChildProcessError:
            return True

    def reap(self) -> None:
        """End the process, and wait until it is gone."""
        self.end()
        until = monotonic() + PATIENCE
        while not self.is_gone() and monotonic() < until:
            sleep(STEP / 20)


def _fork() -> int:
    """Fork, and let Ctrl-C wait meanwhile: what Python calls at a fork swallows what is raised in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return os.fork()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait(calls: Iterable[Call]) -> None:
    """Wait until one of some calls says something, at most for a moment, and look after all of them."""
    import select

    running = [call for call in calls if not call.is_over]
    poll = select.poll()
    for call in running:
        poll.register(call.pipe, select.POLLIN)
    now = monotonic()
    left = min([STEP, *(call.deadline - now for call in running if call.deadline is not None)])
    poll.poll(max(0.0, left) * 1000)
    for call in running:
        call.step()
