"""The guard around all code that is not convstat's: a model's file, its constructor, its forward pass, its description.

Everything that such code can do to whoever calls it is met here and nowhere else: it may not come back, it may raise
what is no ``Exception``, and it may leave the process in another state (:mod:`convstat.patches.states`).
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from convstat.errors import ConvstatError, Diagnostic, SourceError
from convstat.patches.room import once
from convstat.patches.time_limit import Overtime, ending, seconds_allowed, time_limit
from convstat.trace.recipe import EndlessError, OddError, failed, own, quiet, users_line


class foreign:  # noqa: N801 - used as contextlib's are
    """Run code that is not convstat's; ``what`` begins a message that it did not do as it should.

    What it raises is an ``Exception`` afterwards, with two exceptions: KeyboardInterrupt, whoever raises it, ends
    everything, as it does in Python, and EndlessError is that of a limit on what a model may do. One time limit holds
    for all that runs inside, and what takes longer is a SourceError.

    A class and no generator: to close one raises GeneratorExit in it, as if the user's code had.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.stack = ExitStack()
        self.is_outermost = self.has_limit = False

    def __enter__(self) -> None:
        self.is_outermost = self.stack.enter_context(once("foreign code is guarded"))
        if self.is_outermost:
            seconds = seconds_allowed()
            self.stack.enter_context(ending(seconds, lambda: f"error: {_too_long(self.what, seconds)}"))
            self.has_limit = self.stack.enter_context(time_limit(seconds))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stack.close()
        except Overtime as late:
            # It rang just before it was switched off.
            self.stack.close()
            error = error or late
        if isinstance(error, Overtime) and self.has_limit:
            problem = Diagnostic(_too_long(self.what, seconds_allowed()), users_line(error), help=(MORE_TIME,))
            raise SourceError(problem) from error
        if error is not None and not isinstance(error, (KeyboardInterrupt, Overtime)):
            self._translate(error)

    def _translate(self, error: BaseException) -> None:
        """Raise something else in the place of what is no ``Exception``."""
        if self.is_outermost and not isinstance(own(error), (Exception, EndlessError)):
            raise failed(self.what, error) from own(error)
        if not isinstance(error, (Exception, EndlessError)):
            raise OddError from error


class users_code(foreign):  # noqa: N801
    """Run code that the user wrote, quietly: its exception becomes a message at its own line."""

    def __enter__(self) -> None:
        super().__enter__()
        self.stack.enter_context(quiet())

    def _translate(self, error: BaseException) -> None:
        # Without memory, no message can be made here.
        if not isinstance(error, (ConvstatError, MemoryError)):
            raise failed(self.what, error) from own(error)


def _too_long(what: str, seconds: float) -> str:
    return f"{what}: it did not end within {seconds:g} second{'' if seconds == 1 else 's'}"


MORE_TIME = "--timeout SECONDS gives it more time, and 0 any"
