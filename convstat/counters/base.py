"""The interface of counters, and their results.

A counter is a peer of convstat: another tool that counts the parameters and MACs of a model.
``run`` runs the real tool; ``predict`` walks the trace with a model of its convention.
The two are independent of each other, and neither uses ``convstat.formulas``:
otherwise the reconciliation would compare a count with itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from convstat.text.printable import plain

if TYPE_CHECKING:
    import torch

    from convstat.results.report import Report
    from convstat.trace import Trace

Status = Literal["ok", "failed", "unavailable", "skipped", "predicted"]


@dataclass(frozen=True, slots=True)
class Reported:
    """The answer of the real tool; None for figures that it does not have.

    ``memory_mib`` contains the four figures of torchsummary: ``input``, ``forward_backward``, ``params``, ``total``.
    ``native`` contains figures in the tool's own units, by name, if ``macs`` is one of them or derived from one.
    """

    params: int | None = None
    macs: int | None = None
    memory_mib: Mapping[str, float] | None = None
    native: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """One amount that a counter counts, in one layer.

    ``layer`` is the dotted path of the module, empty for the root.
    Without a ``code``, the amount is the MACs or parameters of the layer itself, whether the counter counts them or
    not. With a code, it is an amount that the counter adds or, if negative, omits; the code gives the cause.
    ``calls`` is the number of calls of the layer that it sums.
    """

    layer: str
    macs: int = 0
    params: int = 0
    code: str | None = None
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Prediction:
    """The count of a trace in a counter's convention, and the terms that it consists of.

    The terms sum to ``macs`` and ``params`` exactly.
    Each amount is computed from the trace, by the counter's rule or from the shapes of a kernel
    (:mod:`convstat.counters.products`); if these two disagree, the amount has the code ``unattributed``.
    ``failure`` is the reason if the real tool will fail. It is what the tool needs, where it is not meant for such a
    model, and ``applies`` is False.
    ``remarks`` are terms without an amount, about figures that convstat does not have, such as memory.
    ``native`` contains figures in the counter's own units, as in :class:`Reported`, unless they follow from ``macs``.
    ``fused`` contains the paths of modules that run as one kernel under this counter, including their submodules;
    convstat's layers inside are compared with it as one.
    """

    params: int | None
    macs: int | None
    terms: tuple[Term, ...] = ()
    memory_mib: Mapping[str, float] | None = None
    failure: str | None = None
    remarks: tuple[Term, ...] = ()
    native: Mapping[str, int] | None = None
    fused: tuple[str, ...] = ()
    applies: bool = True


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
    """A counter: how to run it, and how to predict it."""

    name: str
    variant: str
    unit: str
    """The unit of its figure, in words."""
    help: str
    """How to install it."""
    counts: str
    """What it counts, as a phrase."""

    @property
    def defects(self) -> tuple[str, ...]:
        """Its known errors, one sentence each; a plain attribute is sufficient.

        Counters of other packages may omit this and ``counts``; they are read with a default.
        """

    def version(self) -> str | None:
        """Return the installed version, or None if it is not installed."""

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Run the real tool. Raises CounterFailure with its reason. Preserves the state of the model and the process.

        ``inputs`` are the positional arguments of the traced call. If it has keyword arguments, ``inputs`` is a
        :class:`convstat.counters.inputs.Inputs`, which contains them. Nothing is allocated or computed on meta tensors.
        """

    def predict(self, trace: Trace) -> Prediction:
        """Predict the answer of the tool from the trace alone."""

    def why_not_meta(self, trace: Trace) -> str | None:
        """Return why the tool's answer on the meta device may differ from a real one, or None if it does not."""

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """Return the trace to predict from: ``trace``, or a new one if this tool runs the model differently.

        Raises PredictedFailure if the model cannot be run in that way.
        """


@runtime_checkable
class InWidths(Protocol):
    """A counter with a figure that depends on the widths in which a report counts weights and activations."""

    def in_widths(self, prediction: Prediction, trace: Trace, report: Report) -> Prediction:
        """Return the prediction with that figure."""


class CounterFailure(Exception):  # noqa: N818 - a failure of the tool is an answer, not an error of ours
    """The real tool failed. The message is its reason, in one line; ``help`` says how to get an answer."""

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


class Inapplicable(PredictedFailure):
    """The tool is not meant for models of this kind; the message says what it needs."""
