"""What the conventions have in common: a counter that has a prediction, and nothing to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convstat.counters.adapter import Adapter
from convstat.counters.base import CounterFailure, Prediction, Reported
from convstat.counters.conventions.attention import taken_apart
from convstat.trace import Trace

if TYPE_CHECKING:
    import torch

    from convstat.counters.base import Ledger


class Convention(Adapter):
    """A tool that is modelled and never run: most take a file, a compiled program or a model of another framework.

    ``source`` says where the tool writes its rules down, and which version of them this is.
    """

    source: str
    help = "it is predicted only"
    unit: str
    counts: str
    as_exported = False
    """Whether it reads a graph that an exporter wrote, in which attention is taken apart."""
    defects: tuple[str, ...] = ()

    def predict(self, trace: Trace) -> Prediction:
        """What the tool gives, on the graph that it reads."""
        return super().predict(taken_apart(trace) if self.as_exported else trace)

    def version(self) -> str | None:
        """There is nothing to be installed."""
        return None

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Never asked."""
        raise CounterFailure(f"it is predicted only, by the rules of {self.source}")


def without_params(
    terms: Ledger, native: Mapping[str, int] | None = None, *, fused: tuple[str, ...] = ()
) -> Prediction:
    """A prediction of a tool that says nothing about parameters."""
    return Prediction(None, terms.macs, terms.terms(), native=native, fused=fused)
