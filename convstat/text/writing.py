"""Files that are written whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give the path of a file to write, which takes the place of ``path`` when it is complete.

    Where that fails, nothing of it is left, and what was there before is as it was.
    """
    part = f"{os.fspath(path)}.{os.getpid()}.part"
    with _removed_on_failure(part):
        yield part
        os.replace(part, path)


def create(path: str, text: str) -> None:
    """Write a new file; raises FileExistsError, and leaves it alone, where there is one."""
    with open(path, "x", encoding="utf-8") as stream, _removed_on_failure(path):
        stream.write(text)
        stream.flush()


@contextmanager
def _removed_on_failure(path: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


__all__ = ["create", "replacing"]
