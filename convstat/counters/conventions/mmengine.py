"""mmengine, and the benchmarks of OpenMMLab: a copy of fvcore's rules, with activations of linear layers as well."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from convstat.counters.base import Prediction
from convstat.counters.conventions.base import Convention
from convstat.counters.jit.graph import OperatorCall
from convstat.counters.passes import Made
from convstat.trace.walks import OWN_BY_NAME, STATE_DICT

if TYPE_CHECKING:
    import torch

    from convstat.counters.jit.walk import Priced, Rule
    from convstat.trace import Trace


class Mmengine(Convention):
    """``mmengine.analysis.get_model_complexity_info``."""

    name = "mmengine"
    made: Made = "fails"
    walks = (OWN_BY_NAME, STATE_DICT)
    unit = "MACs, plus operations of norms, adaptive average pooling, upsampling and grid sampling"
    source = "mmengine 0.10.7, analysis/complexity_analysis.py and jit_handles.py"
    counts = (
        "products of convolutions, linear layers, matrix products and einsum, without bias, and the operations of"
        " norms, adaptive average pooling, upsampling and grid sampling, in the graph of torch.jit.trace"
    )
    defects = (
        "Scaled dot-product attention, recurrent layers and baddbmm cost nothing.",
        "Its figure is named flops, but one flop is a multiplication and an addition.",
        "Its activations, the native figure, are the outputs of convolutions, linear layers and matrix products.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Price the operators of the graph."""
        from convstat.counters.jit import fvcore_walk
        from convstat.counters.jit.graph import recorded_of

        rules: dict[str, Rule] = {**fvcore_walk.RULES, "matmul": matmul, "mm": matmul}
        prediction = fvcore_walk.predict(trace, rules)
        used = [call for call in recorded_of(trace).operators if call.used]
        # Those of fvcore, whose rules it copies.
        activations = sum(fvcore_walk.activations(call) for call in used)
        return Prediction(
            prediction.params,
            prediction.macs,
            prediction.terms,
            native={"activations": activations},
            fused=prediction.fused,
        )

    def why_not_meta(self, trace: Trace) -> str | None:
        """A convolution is one kernel on meta, and the operator that is recorded lies below that."""
        return "torch.jit.trace does not see convolutions on the meta device"

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """Record the operators too."""
        from convstat.counters.jit.record import retrace

        return retrace(model, inputs, trace, hooked=True, tensors_only=False)


def matmul(call: OperatorCall) -> Priced:
    """A product; a vector is taken for a matrix of one row or column, where fvcore fails."""
    left, right = call.shape(0, "self"), call.shape(1, "mat2" if call.op == "mm" else "other")
    left = (1, *left) if len(left) == 1 else left
    true = prod(call.output_shape()) * left[-1]
    right = (*right, 1) if len(right) == 1 else right
    return [(None, true), ("functional_mispriced", prod(left) * right[-1] - true)]


MMENGINE = Mmengine()
