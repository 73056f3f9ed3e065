"""thop, also known as pytorch-OpCounter: hooks on modules of exactly known types."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from convstat.counters.base import CounterFailure, Prediction, Reported
from convstat.counters.capture import first_line, replaced, running
from convstat.counters.shared_import import version_if_whole, why_unavailable

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


class Thop:
    """The older of two packages that are imported as ``thop``."""

    name = "thop"
    variant = "default"
    unit = "MACs, plus the operations of norms, softmax, average pooling, upsampling and recurrent gates"
    help = "pip install thop, without ultralytics-thop, which has the same import name"
    counts = (
        "Operations of modules of exactly known types at each call, and the parameters below those that were called."
    )
    defects: tuple[str, ...] = ()

    def version(self) -> str | None:
        """The installed version; None also where ultralytics-thop has written over it."""
        return version_if_whole("thop", "thop/profile.py")

    def unavailable(self) -> str | None:
        """Why it has no version though it is installed."""
        return why_unavailable("thop", "ultralytics-thop")

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Profile the model; what it leaves on the model is taken away."""
        try:
            from thop import profile
            from thop.vision import basic_hooks
        except Exception as error:
            raise CounterFailure(f"import thop: {first_line(error)}") from error
        # Its warnings go through a function of logging that sets up the root logger for good.
        silent = SimpleNamespace(warning=lambda *_: None)
        with running(model), replaced(basic_hooks, logging=silent):
            try:
                macs, params = profile(model, inputs=inputs, verbose=False)
            except Exception as error:
                raise CounterFailure(first_line(error)) from error
        return Reported(params=int(params), macs=int(macs))

    def predict(self, trace: Trace) -> Prediction:
        """Walk the trace by its rules."""
        from convstat.counters import thop_walk

        return thop_walk.predict(trace)

    def why_not_meta(self, trace: Trace) -> str | None:
        """It looks at shapes only."""
        return None

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It hooks the layers inside of transformer layers, as the trace does."""
        return trace


THOP = Thop()
