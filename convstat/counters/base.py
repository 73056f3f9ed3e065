"""What a counter is, and what it answers.

A counter is a peer of convstat: a tool that also says how many parameters and MACs a model has.
``run`` asks the real tool; ``predict`` walks the trace with our model of its convention.
The two know nothing of each other, and neither uses ``convstat.formulas``:
otherwise the reconciliation would compare a thing with itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace

Status = Literal["ok", "failed", "unavailable", "skipped"]

_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reported:
    """What the real tool answered; None where it has no such figure.

    ``memory_mib`` holds torchsummary's four printed figures under ``input``, ``forward_backward``, ``params``, ``total``.
    """

    params: int | None = None
    macs: int | None = None
    memory_mib: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a counter counts, in one layer.

    ``layer`` is the dotted path of the module that it belongs to, empty for the root.
    Without a ``code``, it stands for the layer's own MACs or parameters, the ones convstat counts too;
    with one, it is an amount that convstat does not count as MACs, and the code says why this counter does.
    ``calls`` says how many calls of the layer it sums.
    """

    layer: str
    macs: int = 0
    params: int = 0
    code: str | None = None
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a counter's convention gives for a trace, and the terms it is made of.

    The terms sum to ``macs`` and ``params`` exactly.
    ``because`` names, for a layer whose own MACs or parameters the counter misses or misprices, the cause's code.
    ``failure`` is the reason why the real tool will fail, if it will.
    """

    params: int | None
    macs: int | None
    terms: tuple[Term, ...] = ()
    because: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    memory_mib: Mapping[str, float] | None = None
    failure: str | None = None


class Counter(Protocol):
    """A peer: how to run it, and how to predict it."""

    name: str
    variant: str
    unit: str
    """What its figure is, in words."""

    def version(self) -> str | None:
        """The installed version, None where it is not installed."""

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Ask the real tool; raises CounterFailure with its reason. Leaves model and process as found."""

    def predict(self, trace: Trace) -> Prediction:
        """Say what the tool will answer, from the trace alone."""


class CounterFailure(Exception):
    """The real tool failed; the message is its reason, in one line."""
