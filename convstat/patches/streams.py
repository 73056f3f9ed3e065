"""The standard streams of the process: standard output carries the result alone, whatever foreign code writes.

The command line keeps the real standard output for itself, under a descriptor that nobody else knows, and lets
descriptor 1 and ``sys.stdout`` be standard error: what a model, a library in C, a program that it starts, a thread or a
function that runs at exit write to "standard output" goes there.
A process that is not convstat's own is left as it is.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import TextIO

from convstat.patches.limits import is_owned

_kept: list[TextIO] = []


def keep_standard_output() -> None:
    """Keep standard output for results, and send to standard error what anybody else writes to it from now on.

    It is called before foreign code runs. Does nothing in a process that is not convstat's own.
    """
    stream = sys.__stdout__
    if _kept or stream is None or not is_owned():
        return
    stream.flush()
    _kept.append(_text(os.dup(1), stream, line_buffering=os.isatty(1)))
    os.dup2(2, 1)
    sys.stdout = sys.__stdout__ = _text(1, stream, line_buffering=True)  # type: ignore[misc]


def result_stream() -> TextIO:
    """Where results go: the standard output that was kept, else what ``sys.stdout`` is now."""
    return _kept[0] if _kept else sys.stdout


def let_wait(stream: TextIO) -> None:
    """Let writing wait for a slow reader, in a process that is convstat's own.

    Whoever has the same terminal or pipe open may have said that nobody waits: node does so, and what a counter does to
    its standard error holds for ours.
    """
    if is_owned():
        with suppress(OSError, ValueError):
            os.set_blocking(stream.fileno(), True)


def result_path(path: str) -> str:
    """The path by which a file is opened to write a result: what leads to ``/dev/stdout`` is where results go."""
    followed = path
    # As many links as Linux follows; longer chains are for the one who opens the path to refuse.
    for _ in range(40 if _kept else 0):
        if re.fullmatch(r"/dev/stdout|(/dev|/proc/(self|thread-self))/fd/1", os.path.normpath(followed)):
            return f"/dev/fd/{_kept[0].fileno()}"
        try:
            followed = os.path.join(os.path.dirname(followed), os.readlink(followed))
        except OSError:
            break
    return path


def to_error() -> None:
    """In a process that was forked to run foreign code: what it writes goes to standard error, and it reads nothing.

    The descriptor that its parent writes results to is standard error in it, too.
    """
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    for descriptor in (1, *(stream.fileno() for stream in _kept)):
        os.dup2(2, descriptor)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = _text(2, sys.stderr, line_buffering=True)  # type: ignore[misc]


def _text(descriptor: int, like: TextIO, *, line_buffering: bool) -> TextIOWrapper:
    """A text stream on a descriptor, with the encoding of another one; it is open as long as the process."""
    buffer = open(descriptor, "wb", closefd=False)  # noqa: SIM115
    encoding, errors = getattr(like, "encoding", None) or "utf-8", getattr(like, "errors", None) or "backslashreplace"
    return TextIOWrapper(buffer, encoding=encoding, errors=errors, line_buffering=line_buffering)
