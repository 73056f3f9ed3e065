"""ptflops: its ``pytorch`` backend, which hooks modules and patches functions, and its ``aten`` backend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from convstat.counters.adapter import Adapter, asking, loading
from convstat.counters.base import CounterFailure, Prediction, Reported
from convstat.counters.capture import device_of
from convstat.counters.inputs import by_name, keywords_of, retraced, values_of
from convstat.counters.kernel_walk import ATTENTION, why_other_functions, why_other_kernels
from convstat.counters.passes import Made
from convstat.patches.room import ours, patch, replaced
from convstat.trace.calls import TensorInfo, Value
from convstat.trace.walks import APPLY, EVAL

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace

_FAILED = re.compile(r"following exception: \n<class '(?:[\w<>]+\.)*(?P<type>\w+)'>: (?P<message>[^\n]*)")


class Ptflops(Adapter):
    """One backend of ptflops."""

    distribution = "ptflops"
    help = "pip install ptflops"

    def __init__(self, variant: str, unit: str, counts: str, defects: tuple[str, ...]) -> None:
        self.name = "ptflops" if variant == "pytorch" else f"ptflops-{variant}"
        self.variant = variant
        self.walks = (APPLY, EVAL) if variant == "pytorch" else (EVAL,)
        self.made: Made = "params" if variant == "pytorch" else "unseen"
        self.unit = unit
        self.counts = counts
        self.defects = defects

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Ask ptflops; it answers (None, None) and prints a traceback where it fails."""
        from convstat.patches.imports import compiler_on_demand
        from convstat.patches.operators import torchvision_compat

        torchvision_compat()
        with loading("ptflops"), compiler_on_demand():
            from ptflops import get_model_complexity_info  # type: ignore[import-untyped]

        passed = _given(model, inputs)
        with asking(model) as printed, _blind(values_of(passed)):
            macs, params = get_model_complexity_info(
                model,
                (1,),
                print_per_layer_stat=False,
                as_strings=False,
                input_constructor=lambda _: passed[0] if passed else dict(keywords_of(passed)),
                ost=printed,
                verbose=False,
                backend=self.variant,
            )
        if macs is None or params is None:
            raise _failure(printed.getvalue())
        return Reported(params=int(params), macs=int(macs))

    def walk(self, trace: Trace) -> Prediction:
        """Walk the trace by the rules of the backend."""
        if self.variant == "aten":
            from convstat.counters.ptflops import aten

            return aten.predict(trace)
        from convstat.counters.ptflops import pytorch

        return pytorch.predict(trace)

    def why_not_meta(self, trace: Trace) -> str | None:
        """Attention and recurrent layers run other kernels on meta than on a real device."""
        if self.variant == "aten":
            return why_other_kernels(trace) or _linear_by_strides(trace)
        for info in trace.modules:
            kind = info.type.rpartition(".")[2]
            # On a real device, frozen attention takes the fused path in spite of grad being enabled.
            if kind in ATTENTION and not any(p.requires_grad for p in info.parameters):
                inside = (trace.modules[child] for child in info.children)
                if not any(p.requires_grad for child in inside for p in child.parameters):
                    return f"frozen {kind} runs other kernels on the meta device"
        return why_other_functions(trace)

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It passes several inputs by name; its aten backend hooks only the model's direct children, which matters to
        transformer layers.
        """
        hookless = any(info.type.endswith(".TransformerEncoderLayer") for info in trace.modules)
        if self.variant != "aten" or trace.device == "meta" or not hookless:
            return retraced(model, inputs, trace, _given)
        return retraced(model, inputs, trace, _given, hooked=tuple(dict(model.named_children()).values()))


def _given(model: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What its input constructor gives: one argument, or a dict of all; so a dict that is one goes by its name too."""
    alone = len(inputs) == 1 and not keywords_of(inputs) and not isinstance(inputs[0], dict)
    return inputs if alone or not inputs else by_name(model, inputs)


def _linear_by_strides(trace: Trace) -> str | None:
    """Whether a biased Linear over several positions is one kernel, or a product and an addition that this backend
    does not see, depends on the strides of its input; and those, after a convolution, on the device.
    """
    if any(f.name.endswith(".linear") and len(_shape(f.args[:1])) > 2 for f in trace.functions()):
        return "a Linear over several positions may run other kernels on the meta device"
    return None


def _shape(args: tuple[Value, ...]) -> tuple[int, ...]:
    first = args[0] if args else None
    return first.shape if isinstance(first, TensorInfo) else ()


def _failure(printed: str) -> CounterFailure:
    match = _FAILED.search(printed)
    if match is None:
        return CounterFailure("it gave neither an answer nor a reason")
    reason = f"{match['type']}: {match['message']}".rstrip(": ")
    help = None
    if "not enough values to unpack" in reason or "tuple index out of range" in reason:
        help = "it requires every layer to be called with positional inputs"
    return CounterFailure(reason, help)


@patch
def _blind(inputs: tuple[Any, ...]) -> Iterator[None]:
    """Let ptflops' function wrappers pass straight through in other threads, and on meta while a kernel is running.

    There kernels are written in Python and call ``torch.mm`` and friends, which ptflops would take for the model's.
    """
    from ptflops import pytorch_engine

    from convstat.patches.depth import KernelDepth

    kernels = KernelDepth() if device_of(inputs) == "meta" else None

    def make(counting: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            inside = kernels is not None and kernels.depth
            return self.op(*args, **kwargs) if inside or not ours() else counting(self, *args, **kwargs)

        return call

    wrapper = pytorch_engine.torch_function_wrapper
    with kernels or nullcontext(), replaced(wrapper, "__call__", make(vars(wrapper)["__call__"])):
        yield


PYTORCH = Ptflops(
    "pytorch",
    "MACs, plus one operation per element for biases, norms, activations and pooling",
    "operations of modules of exact known types and of the functions that it patches, and trainable parameters",
    (
        "Counts ReLU, ELU, PReLU, GELU, poolings and Upsample twice: as modules, and as the functions that they call.",
        "Does not see products by @ or einsum, nor linear, conv and attention called as functions.",
        "Does not see subclasses of torch's layers, including parametrized layers.",
        "Counts a module once per module that contains it.",
        "Divides the work of modules by the batch, but not the work of functions.",
        "Takes the first dimension of an unbatched input for the batch.",
        "Aligns the shapes of torch.add and torch.mul on the left; torch aligns them on the right.",
        "Prices a matrix product by its first operand, ignoring the broadcast dimensions of the second.",
        "Assumes that the key and value projections of attention are square, and that its output projection has a "
        "bias.",
        "Omits the output projection of an LSTM, and the projections of timm's attention if timm is installed.",
        "Counts only the first sample in Upsample, and truncates scale factors given as a tuple to integers.",
        "Prints a traceback and returns None on any failure, such as a layer called by keyword.",
        "Leaves the model in eval mode, with its own methods attached.",
    ),
)
ATEN = Ptflops(
    "aten",
    "MACs of convolutions and matrix products, plus biases",
    "products and biases of the six kernels for convolutions and matrix products that it knows, and trainable "
    "parameters",
    (
        "Does not know baddbmm, mv and fused kernels: on a CPU, attention and an LSTM count nothing.",
        "Omits the bias of a linear layer on several positions that are not contiguous in memory.",
        "Counts nothing under torch.inference_mode.",
        "Prints a traceback and returns None on any failure.",
        "Leaves the model in eval mode, with two more hooks on each of its direct children per run.",
    ),
)
