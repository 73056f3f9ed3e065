"""The guard around a model's code: its file, its constructor, its forward pass, and what it says of itself.

What it leaves of the process in another state is put back by :mod:`convstat.patches.states`.
"""

from __future__ import annotations

from convstat.errors import ConvstatError, Diagnostic, SourceError
from convstat.patches.guard import MORE_TIME, EndlessError, guard, own
from convstat.patches.time_limit import Overtime
from convstat.trace.recipe import failed, quiet, users_line


class foreign(guard):  # noqa: N801 - used as contextlib's are
    """Run code of a model; what goes wrong in it is said with its own line."""

    def late(self, error: Overtime) -> SourceError:
        """What is raised as the time is over."""
        return SourceError(Diagnostic(self.too_long(), users_line(error), help=(MORE_TIME,)))

    def translate(self, error: BaseException) -> None:
        """Raise something else in the place of what is no ``Exception``."""
        if self.is_outermost and not isinstance(own(error), (Exception, EndlessError)):
            raise failed(self.what, error) from own(error)
        super().translate(error)


class users_code(foreign):  # noqa: N801
    """Run code that the user wrote, quietly: its exception becomes a message at its own line."""

    def __enter__(self) -> None:
        super().__enter__()
        self.stack.enter_context(quiet())

    def translate(self, error: BaseException) -> None:
        """Say what failed."""
        # Without memory, no message can be made here.
        if not isinstance(error, (ConvstatError, MemoryError)):
            raise failed(self.what, error) from own(error)
