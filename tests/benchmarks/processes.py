"""Measures whole processes: how long they take and how much memory they hold at their peak.

Runs are interleaved, so that a machine that slows down or speeds up does so for all of them,
and medians are compared, so that one disturbed run does not decide.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent.parent

# As installed: Python keeps what it has compiled, unless somebody has told it not to.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
# Processes are measured as a user starts them; the tests' own settings are not a user's.
ENVIRONMENT.pop("OMP_NUM_THREADS", None)

IMPORT_TORCH = (sys.executable, "-c", "import torch")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took: seconds on the wall, and bytes of memory at its peak."""

    seconds: float
    peak: int


def convstat(*arguments: str) -> tuple[str, ...]:
    """The command line of a convstat process."""
    return (sys.executable, "-m", "convstat", *arguments)


def once(command: Sequence[str], cwd: Path = ROOT) -> Cost:
    """Run a process to its end; it must succeed.

    The peak is the kernel's figure for this child alone.
    It starts from the size of the process that starts it, so the benchmarks themselves stay small and import no torch.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.returncode == 0, f"{' '.join(command)} ended with {process.returncode}:\n{errors}"
    scale = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, usage.ru_maxrss * scale)


def interleaved(commands: Mapping[str, Sequence[str]], runs: int, cwd: Path = ROOT) -> dict[str, Cost]:
    """Run each command so many times, in turns, after one turn that warms caches; give the medians."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            cost = once(command, cwd)
            if turn:
                costs[name].append(cost)
    return {
        name: Cost(median(cost.seconds for cost in found), int(median(cost.peak for cost in found)))
        for name, found in costs.items()
    }
