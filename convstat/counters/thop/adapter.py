"""thop, also known as pytorch-OpCounter: hooks on modules of exactly known types."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from convstat.counters.adapter import Adapter, asking, loading
from convstat.counters.base import Prediction, Reported
from convstat.counters.inputs import by_position, retraced
from convstat.counters.passes import Made
from convstat.counters.thop.shared_import import version_if_whole, why_unavailable
from convstat.patches.room import replaced_globals
from convstat.trace.walks import APPLY, EVAL

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


class Thop(Adapter):
    """The older of two packages that are imported as ``thop``, and what it has in common with the other.

    They are asked in one way, and differ in what they answer.
    """

    name = "thop"
    made: Made = "fails"
    walks = (EVAL, APPLY)
    other = "ultralytics-thop"
    """The distribution that has the same import name."""
    unit = "MACs, plus the operations of norms, softmax, average pooling, upsampling and recurrent gates"
    help = "pip install thop, without ultralytics-thop, which has the same import name"
    counts = "operations of modules of exact known types at each call, and the parameters of those that were called"
    defects: tuple[str, ...] = (
        "Prices transposed convolutions at their output positions: too large by about the stride squared.",
        "Counts the operations of a module that two others share four times, and its parameters twice.",
        "Omits the parameters of layers without a rule, and those of the root module.",
        "Has no rule for attention, embeddings and group norm; does not see subclasses, or products called as "
        "functions.",
        "Ignores the output projection of an LSTM.",
        "Takes the second dimension of a convolution's input for its channels, even without a batch.",
        "Fails on layers called by keyword, and on a softmax without dim.",
        "Leaves buffers on all modules without a rule, which appear in the state dict.",
        "Sets all modules to the train or eval mode of the model.",
        "Needs distutils, which Python 3.12 removed.",
    )

    def version(self) -> str | None:
        """The installed version; None also where the other one has written over it."""
        return version_if_whole(self.name, "thop/profile.py")

    def unavailable(self) -> str | None:
        """Why it has no version though it is installed."""
        return why_unavailable(self.name, self.other)

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Profile the model; what is left on the model is taken away."""
        with loading("thop"):
            from thop import profile
            from thop.vision import basic_hooks
        passed = tuple(by_position(model, inputs))
        # Their warnings go through logging, where a function of thop's sets up the root logger for good.
        silent: Any = SimpleNamespace(warning=lambda *_: None, getLogger=lambda *_: silent)
        with asking(model), replaced_globals(basic_hooks, logging=silent):
            macs, params = profile(model, inputs=passed, verbose=False)
        return Reported(params=int(params), macs=int(macs))

    def walk(self, trace: Trace) -> Prediction:
        """Walk the trace by its rules."""
        from convstat.counters.thop import walk

        return walk.predict(trace)

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It hooks the layers inside of transformer layers, as the trace does."""
        return retraced(model, inputs, trace, by_position)


THOP = Thop()
