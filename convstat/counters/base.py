"""What a counter is, and what it answers.

A counter is a peer of convstat: a tool that also says how many parameters and MACs a model has.
``run`` asks the real tool; ``predict`` walks the trace with our model of its convention.
The two know nothing of each other, and neither uses ``convstat.formulas``:
otherwise the reconciliation would compare a thing with itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from convstat.text.printable import plain

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace

Status = Literal["ok", "failed", "unavailable", "skipped", "predicted"]


@dataclass(frozen=True, slots=True)
class Reported:
    """What the real tool answered; None where it has no such figure.

    ``memory_mib`` holds torchsummary's four printed figures: ``input``, ``forward_backward``, ``params``, ``total``.
    ``native`` are the figures in the tool's own units, by their names, if ``macs`` was made of one or is one of them.
    """

    params: int | None = None
    macs: int | None = None
    memory_mib: Mapping[str, float] | None = None
    native: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a counter counts, in one layer.

    ``layer`` is the dotted path of the module that it belongs to, empty for the root.
    Without a ``code``, it stands for the layer's own MACs or parameters, whether the counter counts them or not;
    with one, it is an amount that the counter counts beside these, or leaves out (negative), and the code says why.
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
    Each amount is computed from the trace, by the counter's rule or from the shapes of a kernel
    (:mod:`convstat.counters.products`); where these two disagree, the amount stands under ``unattributed``.
    ``failure`` is the reason why the real tool will fail, if it will.
    ``remarks`` are terms without an amount: what is to be known about figures that convstat does not have, as memory.
    ``native`` are its figures in its own units, as in :class:`Reported`, where they do not follow from ``macs``.
    ``fused`` are the paths of modules that ran as one kernel under this counter, with all that they hold:
    convstat's layers inside are lined up with it as one.
    """

    params: int | None
    macs: int | None
    terms: tuple[Term, ...] = ()
    memory_mib: Mapping[str, float] | None = None
    failure: str | None = None
    remarks: tuple[Term, ...] = ()
    native: Mapping[str, int] | None = None
    fused: tuple[str, ...] = ()


class Ledger:
    """Collects terms, one for each layer and code, in the order in which they first appear."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str | None], list[int]] = {}

    def add(self, layer: str, code: str | None, *, macs: int = 0, params: int = 0, calls: int = 1) -> None:
        """Add to the term of a layer and a code; nothing is kept of nothing."""
        if macs == 0 and params == 0:
            return
        entry = self._entries.setdefault((layer, code), [0, 0, 0])
        entry[0] += macs
        entry[1] += params
        entry[2] += calls

    @property
    def macs(self) -> int:
        """The sum of all terms' MACs."""
        return sum(entry[0] for entry in self._entries.values())

    @property
    def params(self) -> int:
        """The sum of all terms' parameters."""
        return sum(entry[1] for entry in self._entries.values())

    def terms(self) -> tuple[Term, ...]:
        """The terms, without those that cancelled out."""
        return tuple(
            Term(layer, macs, params, code, calls)
            for (layer, code), (macs, params, calls) in self._entries.items()
            if macs or params
        )


class Counter(Protocol):
    """A peer: how to run it, and how to predict it."""

    name: str
    variant: str
    unit: str
    """What its figure is, in words."""
    help: str
    """How to get it where it is not installed."""
    counts: str
    """What it counts, in a phrase."""

    @property
    def defects(self) -> tuple[str, ...]:
        """What it is known to get wrong, a plain sentence each; a plain attribute will do.

        Another package's counter may lack this and ``counts``; what shows them reads them with a default.
        """

    def version(self) -> str | None:
        """The installed version, None where it is not installed."""

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Ask the real tool; raises CounterFailure with its reason. Leaves model and process as found.

        ``inputs`` are the positional arguments of the call that was traced; where others were passed by name, it is an
        :class:`convstat.counters.inputs.Inputs`, which has them too. On meta tensors it allocates and computes nothing.
        """

    def predict(self, trace: Trace) -> Prediction:
        """Say what the tool will answer, from the trace alone."""

    def why_not_meta(self, trace: Trace) -> str | None:
        """Say why the tool's answer on the meta device may not be its answer on a real one; None where it is."""

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """Give the trace to predict from: ``trace``, or a new one where this tool runs the model in another way.

        Raises PredictedFailure where the model cannot be run in that way.
        """


class CounterFailure(Exception):  # noqa: N818 - a failure of the tool is an answer, not an error of ours
    """The real tool failed; the message is its reason, in one line; ``help`` says what would get an answer."""

    def __init__(self, reason: str, help: str | None = None) -> None:
        reason = plain(reason)
        super().__init__(reason)
        self.reason = reason
        self.help = help

    def __str__(self) -> str:
        return f"{self.reason}; {self.help}" if self.help else self.reason


class Unfit(CounterFailure):
    """The model cannot be held where the tool would have to run, so it was not run."""


class PredictedFailure(Exception):  # noqa: N818
    """A rule of the tool's convention raises here; the message is the tool's reason."""
