"""DeepSpeed's flops profiler: functions of torch that it replaces, in FLOPs and in MACs.

It is one file of a large package, and is loaded without the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.counters.adapter import Adapter, asking
from convstat.counters.base import PredictedFailure, Prediction, Reported
from convstat.counters.capture import device_of
from convstat.counters.inputs import keywords_of, values_of
from convstat.counters.passes import Made
from convstat.trace.walks import APPLY, EVAL, Walk

if TYPE_CHECKING:
    import torch

    from convstat.counters.deepspeed.walk import Convention
    from convstat.trace import Trace

MENDED = (0, 19, 7)
"""The version in which transposed convolutions, broadcasting and shared modules were mended."""


class DeepSpeed(Adapter):
    """``get_model_profile`` of ``deepspeed.profiling.flops_profiler``."""

    name = "deepspeed"
    made: Made = "unseen"
    walks: tuple[Walk, ...] = (EVAL, APPLY)
    takes_jagged = True
    unit = "MACs of convolutions, linear layers, matrix products and attention; its FLOPs include other operations"
    help = "pip install setuptools wheel && DS_BUILD_OPS=0 pip install --no-deps --no-build-isolation deepspeed"
    counts = (
        "MACs of convolutions, linear layers, matrix products and scaled_dot_product_attention, and all parameters; its"
        " FLOPs are twice these, plus biases of convolutions, norms, activations, softmax, pooling, additions and"
        " multiplications by name, einsum, and recurrent layers."
    )
    defects: tuple[str, ...] = (
        "Gives no MACs for recurrent layers and einsum.",
        "Pads a convolution with padding='same' equally on both sides, even if the total is odd.",
        "Prices a matrix product by its first operand and the last dimension of its second: wrong for vectors, and if "
        "only the second has batch dimensions.",
        "Prices an upsampling with a size by that size only, without batch and channels.",
        "Has no rules for hardswish, sigmoid, tanh and RMSNorm.",
        "Fails on unbatched convolutions, on strides given as a list, and on products and attention whose arguments "
        "are passed by names other than its own.",
        "Before 0.19.7: divides the channels of a transposed convolution by its groups once too often, aligns the"
        " shapes of an addition on the left, and counts a module once per module that contains it.",
    )

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Ask the profiler."""
        from convstat.counters.deepspeed.load import counting, deepspeed
        from convstat.counters.deepspeed.walk import uninitialised

        profiler = deepspeed()
        keywords = dict(keywords_of(inputs))
        device = device_of(values_of(inputs))
        with asking(model), counting(profiler, profiler, device):
            flops, macs, params = profiler.get_model_profile(
                model,
                args=list(inputs),
                kwargs=keywords,
                print_profile=False,
                as_string=False,
                # A run before is for the times that it takes; and it gives a lazy model its parameters.
                warm_up=int(uninitialised(model)),
            )
        return Reported(params=int(params), macs=int(macs), native={"flops": int(flops)})

    def walk(self, trace: Trace) -> Prediction:
        """Walk the trace by the rules of the installed version; of the newest one that is known, without any."""
        from convstat.counters.deepspeed.walk import predict

        return predict(trace, convention(self.version()))

    def why_not_meta(self, trace: Trace) -> str | None:
        """Frozen attention and custom operators call other functions there."""
        from convstat.counters.kernel_walk import why_other_functions
        from convstat.counters.ptflops.adapter import PYTORCH

        return PYTORCH.why_not_meta(trace) or why_other_functions(trace)

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It hooks every module, as the trace does."""
        from convstat.counters.deepspeed.walk import check_hooks

        if not inputs and not keywords_of(inputs):
            raise PredictedFailure("AssertionError: args and/or kwargs must be specified")
        check_hooks(model)
        return trace


def convention(version: str | None) -> Convention:
    """What a version counts by."""
    from convstat.counters.deepspeed import rules
    from convstat.counters.deepspeed.walk import Convention

    old = version is not None and _numbers(version) < MENDED
    table = rules.DEEPSPEED_BEFORE if old else rules.DEEPSPEED
    return Convention(table, every_way=old, trainable=False, first_parameter=False)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version.

    >>> _numbers("0.19.7rc1+cpu"), _numbers("0.20")
    ((0, 19, 7), (0, 20))
    """
    import re

    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


DEEPSPEED = DeepSpeed()
