"""What the adapters of counters have in common: what is so for most tools, and how a tool is loaded and asked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convstat.counters.base import CounterFailure, PredictedFailure, Prediction
from convstat.counters.capture import first_line, installed_version, running
from convstat.counters.passes import Made

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace
    from convstat.trace.walks import Walk


class Adapter:
    """A tool that is installed under its own name, looks at shapes only and hooks every module, as the trace does.

    Where one does otherwise, its adapter says so. It has a ``run`` and a ``walk`` of its own, and the words that a
    :class:`convstat.counters.base.Counter` has.
    """

    name: str
    distribution = ""
    """What it is installed as, where that is not its name."""
    variant = "default"
    made: Made = "seen"
    walks: tuple[Walk, ...] = ()
    takes_jagged = False

    def version(self) -> str | None:
        """The installed version."""
        return installed_version(self.distribution or self.name)

    if TYPE_CHECKING:

        def walk(self, trace: Trace) -> Prediction:
            """Walk the trace by the tool's rules; raises PredictedFailure where the tool will fail."""

    def predict(self, trace: Trace) -> Prediction:
        """What the tool will answer, or that it will fail."""
        try:
            return self.walk(trace)
        except PredictedFailure as failure:
            return Prediction(None, None, failure=str(failure))

    def why_not_meta(self, trace: Trace) -> str | None:
        """It looks at shapes only."""
        return None

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It hooks every module, as the trace does."""
        return trace


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Import a tool: what goes wrong with that is the tool's failure."""
    try:
        yield
    except Exception as error:
        raise CounterFailure(f"import {name}: {first_line(error)}") from error


def said(error: Exception) -> CounterFailure:
    """The failure of a tool that raised, in its own words."""
    return CounterFailure(first_line(error))


@contextmanager
def asking(model: torch.nn.Module, failure: Callable[[Exception], CounterFailure] = said) -> Iterator[io.StringIO]:
    """Run a tool as :func:`convstat.counters.capture.running` says; what it raises is its failure."""
    with running(model) as printed:
        try:
            yield printed
        except CounterFailure:
            raise
        except Exception as error:
            raise failure(error) from error
