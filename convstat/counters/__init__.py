"""The peers: real counters, run beside convstat, and predicted.

``COUNTERS`` is the one table of those that run, and ``CONVENTIONS`` of those that are predicted only; ``select`` reads
``--counters``; ``measure`` runs some and reconciles.
Importing this package imports neither torch nor any peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from convstat.counters.base import Counter, CounterFailure, Prediction, Reported, Term
from convstat.counters.conventions.base import Convention
from convstat.counters.conventions.mmengine import MMENGINE
from convstat.counters.conventions.ntire import NTIRE
from convstat.counters.conventions.onnx_tool import ONNX_TOOL
from convstat.counters.conventions.onnxsim import ONNXSIM
from convstat.counters.conventions.paddle import PADDLE
from convstat.counters.conventions.qonnx import QONNX
from convstat.counters.conventions.sadl import SADL
from convstat.counters.conventions.stm32 import STM32
from convstat.counters.conventions.tflite import TFLITE
from convstat.counters.conventions.ultralytics import ULTRALYTICS
from convstat.counters.conventions.xla import XLA
from convstat.counters.deepspeed.adapter import DEEPSPEED
from convstat.counters.deepspeed.calflops import CALFLOPS
from convstat.counters.flopcountermode import FLOP_COUNTER
from convstat.counters.jit.fvcore import FVCORE
from convstat.counters.jit.torchprofile import TORCHPROFILE
from convstat.counters.language.base import Formula
from convstat.counters.language.cookbook import COOKBOOK
from convstat.counters.language.litgpt import LITGPT
from convstat.counters.language.maxtext import MAXTEXT
from convstat.counters.language.megatron import MEGATRON
from convstat.counters.language.nanogpt import NANOGPT
from convstat.counters.language.palm import PALM
from convstat.counters.language.sixnd import SIXND
from convstat.counters.language.torchtitan import TORCHTITAN
from convstat.counters.language.trainer import HF_TRAINER
from convstat.counters.language.trl import TRL
from convstat.counters.language.vllm import VLLM
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

_PREDICTED = (SADL, NTIRE, XLA, TFLITE, STM32, PADDLE, MMENGINE, ULTRALYTICS, ONNX_TOOL, ONNXSIM, QONNX)

CONVENTIONS: Mapping[str, Convention] = MappingProxyType({convention.name: convention for convention in _PREDICTED})
"""The conventions of tools that are not run, by name; they are predicted."""

_FORMULAS = (PALM, NANOGPT, MEGATRON, TORCHTITAN, TRL, LITGPT, MAXTEXT, HF_TRAINER, COOKBOOK, VLLM, SIXND)

LANGUAGE_MODELS: Mapping[str, Formula] = MappingProxyType({formula.name: formula for formula in _FORMULAS})
"""The formulas for the FLOPs of language models, by name; they are predicted, for a model with a decoder's config."""

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
    ),
    taken={**CONVENTIONS, **LANGUAGE_MODELS},
)
"""Every counter that can be run, by its name."""

DEFAULT = ("ptflops", "torchsummary")
"""The counters that run where none are named."""


def select(names: str) -> tuple[Counter, ...]:
    """Read ``--counters``: ``default``, ``all``, ``conventions``, ``llm``, ``none``, or names with commas.

    ``all`` are those that can be run; ``conventions`` are those that are only predicted, and ``llm`` those for
    language models.

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
        for one in _members(name):
            try:
                chosen[one] = find(one)
            except KeyError:
                known = ["default", "all", "conventions", "llm", "none", *COUNTERS, *CONVENTIONS, *LANGUAGE_MODELS]
                help = did_you_mean(one, known, also="convstat list counters")
                problems.append(Diagnostic(f"unknown counter '{one}'", help=help))
    if problems:
        raise UsageError(problems)
    return tuple(chosen.values())


def _members(name: str) -> Iterable[str]:
    """The counters that a word of ``--counters`` stands for."""
    groups: Mapping[str, Callable[[], Iterable[str]]] = {
        "default": lambda: DEFAULT,
        # Looking for those of other packages takes time.
        "all": lambda: tuple(COUNTERS),
        "conventions": lambda: CONVENTIONS,
        "llm": lambda: LANGUAGE_MODELS,
    }
    return groups[name]() if name in groups else (name,)


def find(name: str) -> Counter:
    """A counter, a convention or a formula by its name; raises KeyError where there is none."""
    return CONVENTIONS.get(name) or LANGUAGE_MODELS.get(name) or COUNTERS[name]


__all__ = [
    "CONVENTIONS",
    "COUNTERS",
    "DEFAULT",
    "LANGUAGE_MODELS",
    "Asking",
    "Counter",
    "CounterFailure",
    "Prediction",
    "Registry",
    "Reported",
    "Term",
    "check",
    "find",
    "measure",
    "measure_on",
    "select",
]
