"""ultralytics-thop: hooks on modules of known kinds, and a mode that sees products called as functions.

It and the older ``thop`` are both imported as ``thop``: where both are installed, the one that was installed last
has written over files of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.counters.base import CounterFailure, Prediction, Reported
from convstat.counters.capture import first_line, running
from convstat.counters.shared_import import version_if_whole, why_unavailable

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


class UltralyticsThop:
    """The maintained fork of thop."""

    name = "ultralytics-thop"
    variant = "default"
    unit = "MACs, plus the operations of norms, softmax, average pooling, upsampling and recurrent gates"
    help = "pip install ultralytics-thop, without thop, which has the same import name"
    counts = (
        "Operations of modules of known kinds at each call and of products called as functions, and all parameters."
    )
    defects: tuple[str, ...] = ()

    def version(self) -> str | None:
        """The installed version; None also where thop has written over it."""
        return version_if_whole("ultralytics-thop", "thop/profile.py")

    def unavailable(self) -> str | None:
        """Why it has no version though it is installed."""
        return why_unavailable("ultralytics-thop", "thop")

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Profile the model."""
        try:
            from thop import profile
        except Exception as error:
            raise CounterFailure(f"import thop: {first_line(error)}") from error
        with running(model):
            try:
                macs, params = profile(model, inputs=inputs, verbose=False)
            except Exception as error:
                raise CounterFailure(first_line(error)) from error
        return Reported(params=int(params), macs=int(macs))

    def predict(self, trace: Trace) -> Prediction:
        """Walk the trace by its rules."""
        from convstat.counters import uthop_walk

        return uthop_walk.predict(trace)

    def why_not_meta(self, trace: Trace) -> str | None:
        """It looks at shapes only."""
        return None

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It hooks every module, as the trace does."""
        return trace


ULTRALYTICS_THOP = UltralyticsThop()
