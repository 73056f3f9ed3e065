"""torchscan: formulas for the innermost modules, in MACs, FLOPs and memory accesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convstat.counters.adapter import Adapter, asking, loading
from convstat.counters.base import Prediction, Reported
from convstat.counters.inputs import keywords_of
from convstat.counters.passes import Made
from convstat.trace.walks import EVAL, MODULE_TRACKER

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


class Torchscan(Adapter):
    """The MACs of ``torchscan.crawl_module``, and beside them the FLOPs that it makes of modules by formulas.

    Its third figure, the FLOPs of operators, is that of torch's own FlopCounterMode, which is a counter here too.
    """

    name = "torchscan"
    made: Made = "params"
    walks = (EVAL, MODULE_TRACKER)
    unit = "MACs, plus one or two operations per element for batch norms and the window of each pooling"
    help = "pip install torchscan"
    counts = "MACs of the innermost modules with a formula, at each call, and all parameters"
    defects: tuple[str, ...] = (
        "Prices transposed convolutions at their output positions: too large by about the stride squared.",
        "Takes the integer kernel size of a 2-d or 3-d pooling for the size of the whole window: 2 for a window of 2 "
        "x 2.",
        "Takes the second dimension of a convolution's input for its channels, even without a batch.",
        "Estimates the windows of adaptive pooling from the remainder if the sizes do not divide.",
        "Counts nothing for attention, recurrent layers and Bilinear.",
        "Does not see products called as functions, or parametrized layers, which contain others.",
    )

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Ask torchscan, and take what it knows where it says that it knows a part only."""
        with loading("torchscan"):
            from torchscan import crawl_module
        with asking(model):
            report = crawl_module(model, args=tuple(inputs), kwargs=dict(keywords_of(inputs)))
        totals: Any = report["totals"]
        macs, flops = totals["macs"]["known_value"], totals["module_flops"]["known_value"]
        return Reported(
            params=int(totals["parameters"]["value"]),
            macs=None if macs is None else int(macs),
            native=None if flops is None else {"module_flops": int(flops)},
        )

    def walk(self, trace: Trace) -> Prediction:
        """Walk the trace by its rules."""
        from convstat.counters.torchscan import walk

        return walk.predict(trace)


TORCHSCAN = Torchscan()
