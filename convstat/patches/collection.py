"""When the garbage collector runs.

With torch loaded there are a quarter of a million objects, and a full collection walks over all of them;
what convstat makes meanwhile is small, lives on and holds no cycles, so a collection would find nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial

from convstat.patches.room import patch, undone

RARELY = (100_000, 50, 100)
"""Thresholds for a process that is ours: importing torch alone would start a hundred collections."""


@patch
def without_collection() -> Iterator[None]:
    """Keep the garbage collector from running for a while.

    >>> with without_collection():
    ...     gc.isenabled()
    False
    >>> gc.isenabled()
    True
    """
    with undone(partial(_resume, gc.isenabled())):
        gc.disable()
        yield


def _resume(enabled: bool) -> None:
    # What was made meanwhile would be looked through at once. Frozen and thawed, it is as old as what lives on.
    if enabled and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
    (gc.enable if enabled else gc.disable)()


def collect_rarely() -> None:
    """Let the garbage collector of this process run rarely; only for who owns the process."""
    gc.set_threshold(*RARELY)


def collect_no_more() -> None:
    """Let this process end without a last collection, in which Python would look for garbage that ends anyway."""
    gc.freeze()
    gc.disable()
