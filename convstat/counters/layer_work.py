"""What a layer of torch's own kinds multiplies, by what it is called with, and which kernels in its call that is.

Counters of modules price a layer by a formula, and see nothing else that is multiplied while it runs. So what they
count splits in two: the layer's products as they are, which are here for all of them, and what a formula makes more or
less of these, which is each counter's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

from convstat.counters.base import PredictedFailure
from convstat.counters.products import Kernel, Wanted, Work
from convstat.trace import FunctionCall, ModuleCall, ModuleInfo, TensorInfo, Value

_HOME = "torch.nn.modules."
CONV, TRANSPOSED = f"{_HOME}conv._ConvNd", f"{_HOME}conv._ConvTransposeNd"
LINEAR, BILINEAR = f"{_HOME}linear.Linear", f"{_HOME}linear.Bilinear"
RECURRENT, CELL = f"{_HOME}rnn.RNNBase", f"{_HOME}rnn.RNNCellBase"
ATTENTION = f"{_HOME}activation.MultiheadAttention"
# Transposed convolutions are made of the class of the others.
_KINDS = (TRANSPOSED, CONV, LINEAR, BILINEAR, RECURRENT, CELL, ATTENTION)


def kind_of(info: ModuleInfo) -> str | None:
    """The kind of torch's layers with products that a module is, or is made of; None where it is of none."""
    return next((kind for kind in _KINDS if kind in (info.type, *info.bases)), None)


def is_torchs(info: ModuleInfo) -> bool:
    """Whether a module runs torch's own code, as no class of a user's does."""
    return info.type.startswith(("torch.nn.", "torch.ao.", "torchvision.ops."))


def is_scripted(info: ModuleInfo) -> bool:
    """Whether torch.jit has made a module: its parts are not called through Python, and take no hooks."""
    return info.type.startswith("torch.jit.")


def no_attribute(info: ModuleInfo, name: str) -> str:
    """What Python says where a counter looks for an attribute that it put on every other module."""
    return f"AttributeError: '{info.type.rpartition('.')[2]}' object has no attribute '{name}'"


def first_input(call: ModuleCall, info: ModuleInfo) -> TensorInfo:
    """The first positional input, which rules of modules take without asking."""
    if not call.args:
        raise PredictedFailure(f"IndexError: {info.path or 'the model'} is called with keywords only")
    first = call.args[0]
    if not isinstance(first, TensorInfo):
        raise PredictedFailure(f"AttributeError: {info.path or 'the model'} does not get a tensor first")
    return first


def weight_shape(info: ModuleInfo) -> tuple[int, ...]:
    """The shape of the weight, also where it is no parameter but was made of some."""
    parameter, attribute = info.parameter("weight"), info.attributes.get("weight")
    if parameter is not None:
        return parameter.shape
    return attribute.shape if isinstance(attribute, TensorInfo) else ()


def convolved(places: TensorInfo, info: ModuleInfo) -> int:
    """The products of a convolution: each place meets the taps of its channel.

    ``places`` is the output, and of a transposed convolution the input; either may be without a batch.
    """
    weight = weight_shape(info)
    return places.numel * prod(weight[1:]) if weight else 0


def is_without_batch(source: TensorInfo, info: ModuleInfo) -> bool:
    """Whether a convolution gets one sample alone: channels, and the sizes of an image."""
    size = info.attributes.get("kernel_size")
    return isinstance(size, tuple) and len(source.shape) == len(size) + 1


def steps_of(value: Value) -> int:
    """The steps of all samples that a recurrent layer takes: of a packed sequence, its rows."""
    if isinstance(value, tuple) and value and isinstance(value[0], TensorInfo):
        return value[0].shape[0]
    return prod(value.shape[:-1]) if isinstance(value, TensorInfo) else 0


_FUNCTIONS = {LINEAR: "linear", **dict.fromkeys((CONV, TRANSPOSED), "conv")}
_VECTORS = ("aten.mv", "aten.dot", "aten.vdot")
"""What norms of weights that are hooks, as spectral_norm, multiply, and no layer of these kinds does."""


def own_kernels(work: Work, call: ModuleCall) -> Wanted:
    """Tell the kernels of a layer's own products from those of hooks, of modules inside, and of what a subclass adds.

    A convolution or linear layer makes one call of a function, with its weight; if a subclass makes several, the first.
    """
    info = work.trace.modules[call.module]
    kind = kind_of(info)
    function = None if kind is None else _FUNCTIONS.get(kind)
    if function is None:
        return lambda kernel: _is_of(kernel, call) and (kind == ATTENTION or not kernel.functions)
    for made in _called(call):
        name = made.name.removeprefix("torch.nn.functional.").removeprefix("torch.")
        weight = made.args[1] if len(made.args) > 1 else made.kwargs.get("weight")
        if name.startswith(function) and isinstance(weight, TensorInfo) and weight.shape == weight_shape(info):
            kernels = {id(kernel.call) for kernel in work.inside(made)}
            return lambda kernel: id(kernel.call) in kernels
    # A function that was stored elsewhere is not seen, and its kernels stand alone.
    return lambda kernel: _is_of(kernel, call) and not kernel.functions


def _is_of(kernel: Kernel, call: ModuleCall) -> bool:
    return kernel.module == call.module and kernel.call.op not in _VECTORS


def _called(call: ModuleCall) -> Iterator[FunctionCall]:
    return (child for child in call.children if isinstance(child, FunctionCall))


def why_unseen(kernel: Kernel, work: Work, *, ruled: Callable[[ModuleInfo], bool]) -> str:
    """Why a counter that has rules for some modules, and sees nothing else, has not seen a kernel.

    What torch's own layer multiplies beside its own products, hooks do; a class of a user's may do anything.
    """
    info = work.trace.modules[kernel.module]
    if not info.registered:
        return "made_later" if info.made else "unregistered"
    if is_scripted(info):
        return "inside_function"
    if kernel.call.op == "aten._transformer_encoder_layer_fwd":
        # One kernel for all that the layer holds, none of which is called then.
        return "fused_kernel"
    if is_torchs(info):
        return "hook_unseen" if ruled(info) else "no_rule"
    return "functional_unseen"
