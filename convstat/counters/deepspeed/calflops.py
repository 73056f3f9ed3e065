"""calflops: functions of torch that it replaces, in FLOPs and in MACs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.counters.adapter import asking
from convstat.counters.base import CounterFailure, PredictedFailure, Prediction, Reported
from convstat.counters.capture import device_of, first_line
from convstat.counters.deepspeed.adapter import DeepSpeed
from convstat.counters.inputs import keywords_of, values_of
from convstat.trace.walks import APPLY, EVAL, OWN

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


class Calflops(DeepSpeed):
    """``calculate_flops``, which began as a copy of DeepSpeed's flops profiler."""

    name = "calflops"
    walks = (EVAL, APPLY, OWN)
    unit = "MACs of convolutions, linear layers, torch.matmul and torch.addmm; its FLOPs include other operations"
    help = "pip install --no-deps calflops, and numpy; its other dependencies are not used here"
    counts = (
        "MACs of convolutions, linear layers and products by torch.matmul, torch.addmm and torch.baddbmm, and trainable"
        " parameters; its FLOPs are twice these, plus biases of convolutions, norms, activations, softmax, pooling,"
        " additions and multiplications by name, einsum, and recurrent layers."
    )
    defects = (
        "Does not see torch.mm, torch.bmm, the operator @ and scaled_dot_product_attention: attention is missing.",
        "Divides the channels of a transposed convolution by its groups once too often: a depthwise one costs nothing.",
        "Gives no MACs for recurrent layers and einsum.",
        "Counts the work of a module once per module that contains it.",
        "Pads a convolution with padding='same' equally on both sides, even if the total is odd.",
        "Reports only trainable parameters as parameters.",
        "Prices an upsampling by the size of one channel, or by its input; fails if scale factors differ.",
        "Aligns the shapes of an addition or multiplication on the left.",
        "Fails on models without parameters, on unbatched inputs, and on convolutions with a list as stride.",
        "After an error, does not restore torch's functions and the model's hooks.",
    )

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Ask calflops."""
        from convstat.counters.deepspeed.load import calflops, counting

        counter, pipeline, operators = calflops()
        keywords = dict(keywords_of(inputs))
        device = device_of(values_of(inputs))
        with asking(model, _failure), counting(operators, pipeline, device):
            flops, macs, params = counter.calculate_flops(
                model, args=list(inputs), kwargs=keywords, print_results=False, output_as_string=False
            )
        return Reported(params=int(params), macs=int(macs), native={"flops": int(flops)})

    def walk(self, trace: Trace) -> Prediction:
        """Walk the trace by its rules."""
        from convstat.counters.deepspeed import rules
        from convstat.counters.deepspeed.walk import Convention, predict

        convention = Convention(rules.CALFLOPS, every_way=True, trainable=True, first_parameter=True)
        return predict(trace, convention)

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It hooks every module, as the trace does; but before, it moves inputs and sums up parameters."""
        from convstat.counters.deepspeed.walk import check_hooks, uninitialised

        check_hooks(model)
        if uninitialised(model):
            raise PredictedFailure("ValueError: it counts the elements of parameters that have no shape yet")
        keywords = keywords_of(inputs)
        if not inputs and not keywords:
            raise PredictedFailure("AssertionError: it wants an input")
        for value in keywords.values() or inputs:
            if not hasattr(value, "to"):
                raise PredictedFailure(f"AttributeError: '{type(value).__name__}' object has no attribute 'to'")
        return trace


def _failure(error: Exception) -> CounterFailure:
    if isinstance(error, StopIteration):
        return CounterFailure("StopIteration: it looks for the device of the first parameter, and the model has none")
    only = "it accepts only tensors, not lists, dicts or numbers" if "attribute 'to'" in str(error) else None
    return CounterFailure(first_line(error), only)


CALFLOPS = Calflops()
