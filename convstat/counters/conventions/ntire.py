"""The NTIRE challenge on efficient super-resolution: fvcore's FLOPs, and the outputs of convolutions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convstat.counters.base import Prediction
from convstat.counters.conventions.base import Convention
from convstat.counters.passes import Made
from convstat.trace import TensorInfo
from convstat.trace.walks import OWN_BY_NAME, STATE_DICT

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace

CONVOLUTIONS = ("torch.nn.modules.conv.Conv2d", "torch.nn.modules.conv.ConvTranspose2d")
"""The modules with a hook, subclasses included."""


class Ntire(Convention):
    """The figures of ``test_demo.py`` in the challenge's repository since 2024."""

    name = "ntire"
    made: Made = "fails"
    walks = (OWN_BY_NAME, STATE_DICT)
    unit = "MACs, plus operations of norms, adaptive average pooling, upsampling and grid sampling, as fvcore counts"
    source = "NTIRE Efficient Super-Resolution 2024 and 2025, test_demo.py and utils/model_summary.py"
    counts = "what fvcore counts, all parameters, and, as native figures, the outputs and calls of 2-d convolutions"
    defects = (
        "The challenge counts on an input of 3x256x256, which is to be given as such.",
        "Its FLOPs are fvcore's, one for a multiplication and an addition.",
        "Activations are the outputs of Conv2d and ConvTranspose2d alone; one that is called twice counts twice.",
        "Until 2023, it counted with a script of its own, which also counts one operation per element of a ReLU.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Price the operators of the graph, and look at each call of a convolution."""
        from convstat.counters.jit import fvcore_walk

        outputs = [
            call.output.numel if isinstance(call.output, TensorInfo) else 0
            for call in trace.module_calls()
            if set(CONVOLUTIONS) & {trace.module_of(call).type, *trace.module_of(call).bases}
            and trace.module_of(call).registered
        ]
        native = {"activations": sum(outputs), "convolutions": len(outputs)}
        return replace(fvcore_walk.predict(trace), native=native)

    def why_not_meta(self, trace: Trace) -> str | None:
        """A convolution is one kernel on meta, and the operator that is recorded lies below that."""
        return "torch.jit.trace does not see convolutions on the meta device"

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """Record the operators too."""
        from convstat.counters.jit.record import retrace

        return retrace(model, inputs, trace, hooked=True, tensors_only=False)


NTIRE = Ntire()
