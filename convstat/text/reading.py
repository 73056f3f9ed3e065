"""Files that others wrote, read up to a limit and never waited for."""

from __future__ import annotations

import errno
import os
import stat

from convstat.errors import ConvstatError, Diagnostic, Mark, SourceText

PATIENCE = 0.5
"""The seconds in which somebody has to open the other end of a named pipe."""


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read a file, and one byte more than the limit of one that is larger; raises OSError.

    A named pipe that nobody writes to is an error, where opening it would wait for ever.
    """
    # Without O_NONBLOCK, opening a pipe waits for its writer; for a file it means nothing.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as stream:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        first = _first_of_pipe(descriptor, path) if stat.S_ISFIFO(mode) else b""
        if not stat.S_ISREG(mode):
            os.set_blocking(descriptor, True)
        return first + stream.read(limit + 1 - len(first))


def decoded(data: bytes, name: str, error: type[ConvstatError]) -> str:
    """Read bytes as UTF-8, with or without a byte-order mark; raises ``error`` with the place of what is no UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        # What it was about has no byte-order mark any more.
        body = bytes(problem.object)
        source = SourceText(name, body.decode("utf-8", "replace"))
        place = source.place(len(body[: problem.start].decode("utf-8")))
        message = f"not UTF-8: the byte 0x{body[problem.start]:02x}"
        raise error(Diagnostic(message, Mark(source, *place), help=("save the file as UTF-8",))) from None


def fill_closed_streams() -> None:
    """Give the three standard streams a descriptor where they have none: what is opened next would be taken for one."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free is the one that is given.
            os.open(os.devnull, os.O_RDWR)


def _first_of_pipe(descriptor: int, path: str | os.PathLike[str]) -> bytes:
    """Wait until somebody writes to a pipe, and read a byte if that is how it is found out."""
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(PATIENCE * 1000):
        return b""
    try:
        first = os.read(descriptor, 1)
    except BlockingIOError:
        return b""  # a writer that takes its time; without one, this were the end
    if not first:
        raise OSError(errno.EPIPE, "it is a pipe without a writer", path)
    return first
