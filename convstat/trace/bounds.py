"""How far a model may go before it is taken for one without end: in kernels, layers and memory.

The limits are far above every model that is known, and low enough to be reached within half a minute.
"""

from __future__ import annotations

from collections.abc import Iterator

from convstat.patches.guard import EndlessError
from convstat.patches.limits import data_limit, is_owned
from convstat.patches.room import patch
from convstat.trace.recipe import TooLargeError, text_of

MAX_KERNELS = 250_000
"""Kernels that a constructor or a forward pass may run; a net of ten thousand layers runs about 50,000."""

MAX_CALLS = 250_000
"""Calls of modules and functions in a forward pass."""

MAX_PARAMETERS = 150_000
"""Parameters (tensors, not values) that a constructor may register; the largest mixtures of experts have 70,000."""

MAX_MODULES = 300_000
"""Modules that a constructor may register inside others."""

MAX_MADE_IN_FORWARD = 10_000
"""Parameters or modules that a forward pass may make."""

MEMORY_WITHOUT_WEIGHTS = 2 * 2**30
"""Bytes of memory that may be filled while neither weights nor activations are stored."""

ADDRESSES_WITHOUT_WEIGHTS = 4 * MEMORY_WITHOUT_WEIGHTS
"""Bytes that may be asked for meanwhile: what is never written to, such as a weight before its first value, fills no
memory, and the system only limits what is asked for."""

SHARE_OF_MEMORY = 0.7
"""The part of the free memory that a real run may take."""


class Count:
    """Counts one kind of thing up to a limit."""

    def __init__(self, limit: int, message: str) -> None:
        self.limit = limit
        self.message = message
        self.count = 0

    def add(self) -> None:
        """Count one more."""
        self.count += 1
        if self.count > self.limit:
            raise EndlessError(self.message.format(f"{self.limit:,}"))


def kernels(what: str, most: int | None = None) -> Count:
    """A count of kernels, of what runs them."""
    return Count(MAX_KERNELS if most is None else most, what + " ran more than {} kernels")


class Filled:
    """Watches how much memory the process fills from now on; raises TooLargeError beyond ``most`` bytes.

    Does nothing with None, and where the system does not say how much is filled.
    """

    EVERY = 64
    """Steps between two looks: to ask the system costs as much as a small kernel."""

    def __init__(self, most: int | None) -> None:
        self.steps = 0
        before = _filled_bytes() if most is not None else None
        self.limit = None if most is None or before is None else before + most

    def step(self) -> None:
        """Look now and then."""
        self.steps += 1
        if self.steps % self.EVERY == 0:
            self.look()

    def look(self) -> None:
        """Look now."""
        if self.limit is not None and (_filled_bytes() or 0) > self.limit:
            raise TooLargeError("it fills more memory than that")


def available_memory() -> int | None:
    """The bytes of memory that are free, as the system says; None where it does not."""
    from pathlib import Path

    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def room() -> int | None:
    """The bytes that a real run may take; None where the system does not say what is free."""
    free = available_memory()
    return None if free is None else int(SHARE_OF_MEMORY * free)


@patch
def limited_memory(most: int | None = ADDRESSES_WITHOUT_WEIGHTS) -> Iterator[None]:
    """Let allocations beyond so many more bytes fail with an exception, before the system ends the process.

    What counts is memory that can be written to: address space that a GPU's driver reserves does not.
    Does nothing with None, in a process that is not convstat's own, and where the system has no such limit.
    """
    used = _data_bytes() if most is not None and is_owned() else None
    if most is None or used is None:
        yield
        return
    with data_limit(used + most):
        yield


def _data_bytes() -> int | None:
    """The bytes that the process can write to now; None where the system does not say."""
    return _pages(5)


def _filled_bytes() -> int | None:
    """The bytes of memory that the process holds now; None where the system does not say."""
    return _pages(1)


def _pages(field: int) -> int | None:
    import os

    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[field]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):
        return None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception says that there is no more memory, Python's or torch's."""
    text = "" if error is None else text_of(error)
    return isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text


def too_large(error: BaseException) -> TooLargeError:
    """What is raised instead of an exception that says that there is no more memory: no model goes on after it."""
    return TooLargeError(text_of(error))
