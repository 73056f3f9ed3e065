"""A process that is forked from this one to run foreign code: whether there can be one, and what it is made before.

A child has the thread that forked it, and no other: what waits for another thread there waits for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from convstat.patches.limits import no_core_files, own_process
from convstat.patches.streams import to_error

LOST = 70
"""The exit code of a process that came back from the code that it was to run, and could not answer."""

HEAD = 8
"""Bytes of an answer that say how many follow."""


def why_not_forked(device: str) -> str | None:
    """Why this process cannot be forked safely for a call on some device; None where it can."""
    if not hasattr(os, "fork") or sys.platform == "darwin":
        return "processes cannot be forked safely on this system"
    torch: Any = sys.modules.get("torch")
    if torch is not None and (device == "cuda" or torch.cuda.is_initialized()):
        return "CUDA is in use, and cannot be used in a forked process"
    if others := foreign_threads():
        return f"other threads run in this process: {', '.join(thread.name for thread in others[:3])}"
    if any(name.startswith(_TORCHS_THREADS) for name in _native_threads()):
        return "threads of torch run in this process, as for torch.jit.fork"
    return None


OURS = "convstat"
"""How the names of our own threads start: nothing waits for them."""

_TORCHS_THREADS = ("PTThreadPool", "pt_autograd")
"""The names of threads of torch that are not started again in a child."""


def foreign_threads() -> list[threading.Thread]:
    """The other threads of this process, but for those that nothing waits for."""
    return [thread for thread in threading.enumerate() if not _is_harmless(thread)]


def _is_harmless(thread: threading.Thread) -> bool:
    return (
        thread is threading.current_thread()
        or thread.name.startswith(OURS)
        # They draw progress bars, and nothing waits for them.
        or type(thread).__module__.startswith(("tqdm.", "rich."))
    )


def _native_threads() -> list[str]:
    """The names of all threads of the process, as far as the system tells them."""
    names = []
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/comm") as file:
                names.append(file.read().strip())
    return names


def end_pools() -> bool:
    """End the pool of threads that OpenMP keeps for this one, which makes another when it needs it.

    A child would wait for ever for threads that it does not have. Whether that may still be is what is returned.
    """
    import ctypes

    if "torch" not in sys.modules:
        return False
    kept = False
    for path in _loaded("libgomp"):
        try:
            kept |= bool(ctypes.CDLL(path).omp_pause_resource_all(1))
        except (OSError, AttributeError):
            kept = True
    return kept


def _loaded(name: str) -> list[str]:
    """The paths of shared libraries that are loaded, by a part of their names."""
    try:
        with open("/proc/self/maps", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return []
    wanted = b"/" + name.encode()
    return list(dict.fromkeys(os.fsdecode(line[line.index(b"/") :]) for line in lines if wanted in line))


def flush_streams() -> None:
    """What is still to be written is this process's to write."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]


def serve(function: Callable[[], bytes], pipe: int, closed: Iterable[int], has_threads: bool) -> NoReturn:
    """In the child: call, write the answer, and end at once, whatever happens."""
    # Looked up now: what a counter does to the modules is not met on the way out.
    write, leave, settrace, setprofile = os.write, os._exit, sys.settrace, sys.setprofile
    try:
        _settle(closed, has_threads)
        data = function()
        settrace(None)
        setprofile(None)
        data = len(data).to_bytes(HEAD, "big") + data
        while data:
            data = data[write(pipe, data) :]
        leave(0)
    finally:
        leave(LOST)


def _settle(closed: Iterable[int], has_threads: bool) -> None:
    """Make the child a process that leaves the terminal, the streams and the files of its parent alone."""
    # Its own group, so that all that it starts can be ended with it; and no Ctrl-C is meant for it.
    os.setsid()
    _end_with_parent()
    signal.set_wakeup_fd(-1)
    for descriptor in closed:
        os.close(descriptor)
    to_error()
    own_process()
    no_core_files()
    if has_threads:
        import torch

        torch.set_num_threads(1)


def _end_with_parent() -> None:
    """Let the system end this process when its parent ends, however that does (Linux)."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
