"""The guard around all code that is not convstat's: of a model, and of whoever adds rules, counters and formats.

Such code may not come back, and may raise what is no ``Exception``. Both are met here, and nowhere else.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from convstat.errors import ConvstatError, SourceError
from convstat.patches.room import once
from convstat.patches.streams import keep_standard_output
from convstat.patches.time_limit import Overtime, ending, seconds_allowed, time_limit


class EndlessError(BaseException):
    """A model that goes on beyond every limit; no ``Exception``, so that a model that catches those does not go on."""


class OddError(Exception):
    """Something was raised that is no ``Exception``, which is the cause of this: it goes the way of those."""


def own(error: BaseException) -> BaseException:
    """What was raised by the code itself."""
    return error.__cause__ if isinstance(error, OddError) and error.__cause__ is not None else error


def in_words(error: BaseException) -> str:
    """An exception with its text, where it can be asked for it: ``ValueError: the text``; one of ours is its text."""
    error = own(error)
    if isinstance(error, ConvstatError):
        return error.diagnostics[0].message
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class guard:  # noqa: N801 - used as contextlib's are
    """Run code that is not convstat's; ``what`` begins a message that it did not come back.

    What it raises is an ``Exception`` afterwards, with two exceptions: KeyboardInterrupt, whoever raises it, ends
    everything, as it does in Python, and EndlessError is that of a limit on what a model may do. One time limit holds
    for all that runs inside, and what takes longer is a SourceError.

    A class and no generator: to close one raises GeneratorExit in it, as if the code inside had.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.stack = ExitStack()
        self.is_outermost = self.has_limit = False

    def __enter__(self) -> None:
        keep_standard_output()
        self.is_outermost = self.stack.enter_context(once("foreign code is guarded"))
        if self.is_outermost:
            seconds = seconds_allowed()
            self.stack.enter_context(ending(seconds, lambda: f"error: {self.too_long()}"))
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
            raise self.late(error) from error
        if error is not None and not isinstance(error, (KeyboardInterrupt, Overtime)):
            self.translate(error)

    def too_long(self) -> str:
        """Say that the time is over."""
        seconds = seconds_allowed()
        return f"{self.what}: it did not end within {seconds:g} second{'' if seconds == 1 else 's'}"

    def late(self, error: Overtime) -> SourceError:
        """What is raised as the time is over."""
        return SourceError(self.too_long(), help=MORE_TIME)

    def translate(self, error: BaseException) -> None:
        """Raise something else in the place of what is no ``Exception``."""
        if not isinstance(error, (Exception, EndlessError)):
            raise OddError(in_words(error)) from error


MORE_TIME = "--timeout SECONDS sets a longer limit; 0 disables it"
