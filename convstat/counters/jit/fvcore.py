"""fvcore: FlopCountAnalysis prices the operators of the graph that ``torch.jit.trace`` makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convstat.counters.adapter import Adapter, asking, loading
from convstat.counters.base import Prediction, Reported
from convstat.counters.inputs import by_position
from convstat.counters.passes import Made
from convstat.patches.room import rerouted
from convstat.trace.walks import OWN_BY_NAME, STATE_DICT

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


class Fvcore(Adapter):
    """``fvcore.nn.FlopCountAnalysis``, and ``parameter_count``."""

    name = "fvcore"
    made: Made = "fails"
    walks = (OWN_BY_NAME, STATE_DICT)
    unit = "MACs, plus operations of norms, adaptive average pooling, upsampling and grid sampling"
    help = "pip install fvcore"
    counts = (
        "products of convolutions, linear layers, matrix products and einsum, without bias, and the operations of"
        " norms, adaptive average pooling, upsampling and grid sampling, in the graph of torch.jit.trace"
    )
    defects = (
        "A convolution with a string as padding, 'same' or 'valid', costs nothing.",
        "A matrix product whose second operand has more batch dimensions than its first costs too little.",
        "A matrix product by a vector fails.",
        "An einsum is rounded to four digits, and one without a summed index costs half of its products.",
        "Scaled dot-product attention, recurrent layers and baddbmm cost nothing; a warning says so.",
        "Its figure is named flops, but one flop is a multiplication and an addition.",
        "Its activations, a native figure, are the outputs of convolutions, linear layers, matrix products and einsum.",
    )

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Analyse the model; raises where ``torch.jit.trace`` does."""
        passed = by_position(model, inputs)
        with loading("fvcore"):
            from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, jit_analysis, parameter_count
        with asking(model), rerouted(jit_analysis, "_get_scoped_trace_graph", _once):
            analysis = FlopCountAnalysis(model, tuple(passed))
            # What it does not know it writes to the log.
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            total = analysis.total()
            made = ActivationCountAnalysis(model, tuple(passed))
            activations = made.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
            params = parameter_count(model)[""]
        native = {"flops": int(total), "activations": int(activations)}
        return Reported(params=int(params), macs=int(total), native=native)

    def walk(self, trace: Trace) -> Prediction:
        """Price the operators of the trace by its rules."""
        from convstat.counters.jit import fvcore_walk
        from convstat.counters.jit.graph import recorded_of

        found = fvcore_walk.predict(trace)
        used = (call for call in recorded_of(trace).operators if call.used)
        activations = sum(fvcore_walk.activations(call) for call in used)
        return replace(found, native={"flops": found.macs or 0, "activations": activations})

    def why_not_meta(self, trace: Trace) -> str | None:
        """A convolution is one kernel on meta, and the operator that is recorded lies below that."""
        return "torch.jit.trace does not see convolutions on the meta device"

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """Record the operators too. It hooks every module."""
        from convstat.counters.jit.record import retrace

        return retrace(model, inputs, trace, hooked=True, tensors_only=False)


def _once(trace: Callable[..., Any]) -> Callable[..., Any]:
    """Trace the model once for both analyses, of which each would trace it for itself."""
    graphs: list[Any] = []

    def traced(*args: Any) -> Any:
        if not graphs:
            graphs.append(trace(*args))
        return graphs[0]

    return traced


FVCORE = Fvcore()
