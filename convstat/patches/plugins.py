"""Classes that other packages offer by entry points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from convstat.errors import UsageError
from convstat.patches.guard import guard, in_words

T = TypeVar("T")

MEND = "uninstall or mend it"
"""What helps against a package that is broken."""


def offered(group: str, base: type[T]) -> Iterator[tuple[str, str, type[T]]]:
    """The subclasses of ``base`` in an entry point group: the name of each, what messages call it, and the class.

    Raises UsageError for one that cannot be loaded, or is no such class.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=group):
        place = f"plugin '{point.name}' of {group}"
        try:
            with guard(place):
                found = point.load()
        except Exception as error:
            raise UsageError(f"{place} failed: {in_words(error)}", help=MEND) from error
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UsageError(f"{place} is no subclass of {base.__module__}.{base.__qualname__}: {found!r}", help=MEND)
        yield point.name, place, found
