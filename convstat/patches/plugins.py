"""What other packages offer by entry points: imported only where that does not end everything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib.metadata import EntryPoint
from typing import Any, TypeVar

from convstat.errors import SourceError, UsageError
from convstat.patches.child import why_not_forked
from convstat.patches.forked import Call, Lost, wait
from convstat.patches.guard import guard, in_words
from convstat.patches.streams import keep_standard_output
from convstat.patches.time_limit import seconds_allowed

T = TypeVar("T")

MEND = "uninstall or repair it"
"""What helps against a package that is broken."""


def load(point: EntryPoint, what: str, made: Callable[[Any], Any] = lambda found: found) -> Any:
    """Import what an entry point names, and make of it what is needed; ``what`` begins a message that it did not end.

    Code that runs on import, or as ``made`` looks at what was imported, can end the process, or never come back. So it
    runs in another process first, where one can be forked. Raises SourceError for what does not survive there, and
    whatever ``made`` or the import raises.
    """
    if why_not_forked("meta") is None:
        if point.value not in _FATAL:
            _FATAL[point.value] = _why_fatal(lambda: made(point.load()))
        if (reason := _FATAL[point.value]) is not None:
            raise SourceError(f"{reason}, as it was loaded", help=MEND)
    with guard(what):
        return made(point.load())


_FATAL: dict[str, str | None] = {}
"""What entry points did to another process that loaded them, by what they name; None where it came back."""


def _why_fatal(load: Callable[[], object]) -> str | None:
    """Load in a process of its own, and say how that ended; what was written there is shown only where it did not."""
    keep_standard_output()
    with ExitStack() as stack:
        said = None
        with suppress(OSError):
            # Where there is no place for it, what it writes is not held back.
            from tempfile import TemporaryFile

            said = stack.enter_context(TemporaryFile())

        def run() -> bytes:
            if said is not None:
                for descriptor in (1, 2):
                    os.dup2(said.fileno(), descriptor)
            # What it raises is raised once more where it is told.
            with suppress(BaseException):
                load()
            return b"it came back"

        call = Call(run, seconds_allowed())
        stack.callback(call.reap)
        while not call.is_over:
            wait([call])
        try:
            call.answer()
        except Lost as lost:
            if said is not None:
                said.seek(0)
                with suppress(OSError):
                    os.write(2, said.read(MOST_SHOWN))
            return str(lost)
        return None


MOST_SHOWN = 2**16
"""Bytes of what was written before the end that are shown."""


def offered(group: str, base: type[T]) -> Iterator[tuple[str, str, type[T]]]:
    """The subclasses of ``base`` in an entry point group: the name of each, what messages call it, and the class.

    Raises UsageError for one that cannot be loaded, or is no such class.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=group):
        place = f"plugin '{point.name}' of {group}"
        try:
            found = load(point, place)
        except Exception as error:
            raise UsageError(f"{place} failed: {in_words(error)}", help=MEND) from error
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UsageError(f"{place} is no subclass of {base.__module__}.{base.__qualname__}: {found!r}", help=MEND)
        yield point.name, place, found
