"""Limits of the operating system on the whole process: only who owns the process may have them set.

A limit holds for every thread and for all that a program does, so a library that sets one for the sake of a model that
it counts may end something else. The command line owns its process and says so; ``convstat.analyze`` and the plugin
for pytest do not.
"""

from __future__ import annotations

from collections.abc import Iterator

from convstat.patches.room import patch, undone

_owned: list[bool] = []


def own_process() -> None:
    """Say that this process does nothing but what convstat does: limits may be set on it from now on."""
    _owned[:] = [True]


def is_owned() -> bool:
    """Whether the process is convstat's own."""
    return bool(_owned)


@patch
def data_limit(most: int) -> Iterator[None]:
    """Let the process write to at most so many bytes of memory (``RLIMIT_DATA``): what asks for more gets an exception.

    Does nothing in a process that is not convstat's own, and where the system has no such limit.
    An earlier limit that is lower stays.
    """
    if not is_owned():
        yield
        return
    try:
        import resource
    except ImportError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [most, *(limit for limit in before if limit != resource.RLIM_INFINITY)]
    with undone(lambda: resource.setrlimit(resource.RLIMIT_DATA, before)):
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), before[1]))
        yield


def no_core_files() -> None:
    """Let no crash of this process leave a file with its memory; only in a process that is convstat's own."""
    if not is_owned():
        return
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
