"""torchprofile: prices the operators of the graph that ``torch.jit.trace`` makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.counters.adapter import Adapter, asking, loading
from convstat.counters.base import CounterFailure, Prediction, Reported
from convstat.counters.capture import first_line
from convstat.counters.inputs import by_position
from convstat.trace.walks import STATE_DICT

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


_ASSERTED = {
    "_scaled_dot_product_attention": (
        "it assumes that queries, keys and values have the same number of heads, and here they differ",
        "repeat keys and values with repeat_interleave, in place of enable_gqa",
    ),
    "_baddbmm": (
        "it assumes that the tensor that baddbmm adds has the shape of the product, and here it is broadcast",
        "expand it",
    ),
}
"""What its rules assert without a message, by their functions' names, and what would get an answer."""


def _failure(error: Exception) -> CounterFailure:
    said, where = first_line(error), error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    rule = where.tb_frame.f_code.co_name if where is not None else ""
    if isinstance(error, AssertionError) and rule in _ASSERTED:
        reason, help = _ASSERTED[rule]
        return CounterFailure(f"{reason} ({said} in {rule})", help)
    return CounterFailure(said)


class Torchprofile(Adapter):
    """``torchprofile.profile_macs``; it counts no parameters."""

    name = "torchprofile"
    walks = (STATE_DICT,)
    unit = "MACs, plus operations of multiplications, norms, average pooling, means and leaky ReLU"
    help = "pip install torchprofile"
    counts = (
        "products of convolutions, linear layers, matrix products, attention, einsum and LSTM, without bias, and one "
        "operation per output element of multiplications, norms with scale and shift, average pooling, means and "
        "leaky ReLU, in the graph of torch.jit.trace"
    )
    defects = (
        "A transposed convolution is priced at its output positions, and its groups count only if input and output "
        "channels are equal.",
        "A convolution with a string as padding, 'same' or 'valid', costs nothing.",
        "torch.mm, and recurrent layers other than LSTM, cost nothing.",
        "Each product of a tensor size and a number, such as in x.view(batch * heads, ...), costs one.",
        "An LSTM with an output projection is priced as if its state were as narrow as its output.",
        "An einsum of more than two operands is one product over all indices, and one with an ellipsis costs nothing.",
        "Attention whose queries have more heads than its keys fails.",
    )

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Profile the model; raises where ``torch.jit.trace`` does."""
        passed = by_position(model, inputs)
        with loading("torchprofile"):
            from torchprofile import profile_macs
        with asking(model, _failure):
            macs = profile_macs(model, tuple(passed))
        return Reported(macs=int(macs))

    def walk(self, trace: Trace) -> Prediction:
        """Price the operators of the trace by its rules."""
        from convstat.counters.jit import torchprofile_walk

        return torchprofile_walk.predict(trace)

    def why_not_meta(self, trace: Trace) -> str | None:
        """A convolution is one kernel on meta, and the operator that is recorded lies below that."""
        return "torch.jit.trace does not see convolutions on the meta device"

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """Record the operators too. It hooks no module."""
        from convstat.counters.jit.record import retrace

        return retrace(model, inputs, trace, hooked=False, tensors_only=True)


TORCHPROFILE = Torchprofile()
