"""The peers: real counters, run beside convstat, and predicted.

``COUNTERS`` is the one table of them; ``select`` reads ``--counters``; ``measure`` runs some and reconciles.
Importing this package imports neither torch nor any peer.
"""

from __future__ import annotations

from convstat.counters.base import Counter, CounterFailure, Prediction, Reported, Term
from convstat.counters.deepspeed.adapter import DEEPSPEED
from convstat.counters.deepspeed.calflops import CALFLOPS
from convstat.counters.flopcountermode import FLOP_COUNTER
from convstat.counters.jit.fvcore import FVCORE
from convstat.counters.jit.torchprofile import TORCHPROFILE
from convstat.counters.measure import Asking, check, measure, measure_on
from convstat.counters.ptflops.adapter import ATEN, PYTORCH
from convstat.counters.registry import Registry
from convstat.counters.thop.adapter import THOP
from convstat.counters.torchinfo.adapter import TORCHINFO
from convstat.counters.torchscan.adapter import TORCHSCAN
from convstat.counters.torchstat.adapter import TORCHSTAT
from convstat.counters.torchsummary.adapter import TORCHSUMMARY
from convstat.counters.uthop.adapter import ULTRALYTICS_THOP
from convstat.errors import Diagnostic, UsageError, did_you_mean

COUNTERS = Registry(
    (
        PYTORCH,
        ATEN,
        TORCHSUMMARY,
        FLOP_COUNTER,
        TORCHINFO,
        ULTRALYTICS_THOP,
        THOP,
        TORCHSCAN,
        TORCHSTAT,
        FVCORE,
        TORCHPROFILE,
        CALFLOPS,
        DEEPSPEED,
    )
)
"""Every counter by its name."""

DEFAULT = ("ptflops", "torchsummary")
"""The counters that run where none are named."""


def select(names: str) -> tuple[Counter, ...]:
    """Read ``--counters``: ``default``, ``all``, ``none``, or names with commas between them.

    ``convstat`` may stand among the names, because it always counts.

    >>> [counter.name for counter in select("default")]
    ['ptflops', 'torchsummary']
    """
    chosen: dict[str, Counter] = {}
    words = [part.strip() for part in names.split(",")]
    if "none" in words and (others := [word for word in words if word not in ("none", "convstat")]):
        raise UsageError(f"--counters {names} contradicts itself: none, and also {', '.join(others)}")
    problems: list[Diagnostic] = []
    for name in words:
        if name in ("none", "convstat"):
            continue
        group = DEFAULT if name == "default" else tuple(COUNTERS) if name == "all" else (name,)
        for one in group:
            try:
                chosen[one] = COUNTERS[one]
            except KeyError:
                help = did_you_mean(one, ["default", "all", "none", *COUNTERS], also="convstat list counters")
                problems.append(Diagnostic(f"unknown counter '{one}'", help=help))
    if problems:
        raise UsageError(problems)
    return tuple(chosen.values())


__all__ = [
    "COUNTERS",
    "DEFAULT",
    "Asking",
    "Counter",
    "CounterFailure",
    "Prediction",
    "Registry",
    "Reported",
    "Term",
    "check",
    "measure",
    "measure_on",
    "select",
]
