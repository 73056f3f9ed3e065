"""onnx-tool: every operator of an ONNX graph, by the instructions that an element takes on x86."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

from convstat.counters.base import PredictedFailure
from convstat.counters.conventions.base import Convention, without_params
from convstat.counters.conventions.convolution import Convolution
from convstat.counters.conventions.folding import Folded, folded
from convstat.counters.conventions.recurrent import is_lstm, is_recurrent, products_alone
from convstat.counters.conventions.rules import (
    ADDITIONS,
    AVERAGE_POOLS,
    BATCH_NORMS,
    EVERY_PRODUCT,
    MAX_POOLS,
    MULTIPLICATIONS,
    SOFTMAXES,
    convolutions,
    elements,
    for_each,
    items,
    kernels,
    result,
    source_elements,
    table,
)
from convstat.counters.kernel_walk import Part, Rule, walk
from convstat.counters.products import fused_modules, products
from convstat.trace import KernelCall, ModuleCall, ModuleInfo, TensorInfo, Trace

if TYPE_CHECKING:
    from convstat.counters.base import Ledger, Prediction

ADD = MULTIPLY = COMPARE = 1
DIVIDE, SQUARE_ROOT = 4, 24
EXPONENTIAL, LOGARITHM, SINE = 32, 43, 39
TANH = EXPONENTIAL + 2 * ADD + DIVIDE
BATCH_NORM = ADD + SQUARE_ROOT + DIVIDE + ADD + MULTIPLY
INSTANCE_NORM = ADD + MULTIPLY + ADD + DIVIDE
LAYER_NORM, LAYER_NORM_ROW = 3 * MULTIPLY + 4 * ADD, ADD + SQUARE_ROOT + DIVIDE
LINEAR, CUBIC = 4, 8
"""The price of an element; those of activations and norms are made of the others."""

ACTIVATIONS: Mapping[str, int] = {
    "relu": COMPARE,
    "hardtanh": 2 * COMPARE,
    "leaky_relu": MULTIPLY + COMPARE,
    "_prelu_kernel": MULTIPLY + COMPARE,
    "elu": COMPARE + EXPONENTIAL + ADD + MULTIPLY,
    "sigmoid": EXPONENTIAL,
    # A tanh has its own price twice.
    "tanh": 2 * TANH,
    "silu": EXPONENTIAL + MULTIPLY,
    "gelu": EXPONENTIAL + 2 * MULTIPLY,
    "softplus": EXPONENTIAL + ADD + LOGARITHM + COMPARE,
    "hardsigmoid": MULTIPLY + ADD + 2 * COMPARE,
    "hardswish": 2 * MULTIPLY + ADD + 2 * COMPARE,
    **dict.fromkeys(SOFTMAXES.split(), EXPONENTIAL + DIVIDE),
    "_log_softmax": EXPONENTIAL + DIVIDE + ADD + LOGARITHM,
}
"""Kernel -> the price of an element."""

FUNCTIONS: Mapping[str, int] = {
    **dict.fromkeys(f"{ADDITIONS} {MULTIPLICATIONS}".split(), ADD),
    **dict.fromkeys(("neg", "abs", "maximum", "minimum"), COMPARE),
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne", "logical_not", "logical_and", "logical_or"), COMPARE),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), 2 * COMPARE),
    "div": DIVIDE,
    "reciprocal": DIVIDE,
    "exp": EXPONENTIAL,
    "pow": EXPONENTIAL,
    "log": LOGARITHM,
    "sin": SINE,
    "cos": SINE,
    "sqrt": SQUARE_ROOT,
    "rsqrt": SQUARE_ROOT + DIVIDE,
}
"""Kernel -> the price of an element."""


def _unpriced(call: KernelCall) -> str | None:
    """The operator that a kernel becomes, where it has no price; a SELU and a CELU are scaled ELUs."""
    if call.op in ("aten.mish", "aten.mish_"):
        return "Mish"
    is_scaled = call.op in ("aten.elu", "aten.elu_") and len(call.args) > 2 and call.args[2] != 1
    return "Selu" if is_scaled else None


def rules(trace: Trace) -> Mapping[str, Rule]:
    """What is counted in the graph that torch.onnx.export writes, in which batch norms are folded."""
    found = folded(trace)
    whole = table(
        EVERY_PRODUCT,
        convolutions(lambda call: _convolution(call, found)),
        kernels("addmm", lambda call: [(None, products(call)), ("bias", elements(call))]),
        kernels("mm", lambda call: [(None, products(call)), ("bias", _folded_bias(call, found))]),
        *(kernels(name, for_each("activation_steps", price)) for name, price in ACTIVATIONS.items()),
        *(kernels(name, for_each("elementwise_priced", price)) for name, price in FUNCTIONS.items()),
        kernels(BATCH_NORMS, lambda call: _batch_norm(call, found)),
        # In ONNX, a group norm is an instance norm of another shape, with a multiplication and an addition.
        kernels("native_group_norm", for_each("norm_priced", INSTANCE_NORM + MULTIPLY + ADD)),
        kernels("native_layer_norm", _layer_norm),
        kernels("mean sum amax amin prod max min", lambda call: [("reduction", source_elements(call))]),
        kernels(f"{MAX_POOLS} {AVERAGE_POOLS}", _pool),
        kernels("_adaptive_avg_pool2d _adaptive_avg_pool1d", _adaptive),
        kernels("upsample_linear1d upsample_bilinear2d upsample_trilinear3d", for_each("upsample_bilinear", LINEAR)),
        kernels("upsample_bicubic2d", for_each("upsample_bicubic", CUBIC)),
    )
    # An LSTM is one operator, with a price of its own.
    return products_alone(whole, trace, is_lstm)


def _convolution(call: KernelCall, found: Folded) -> list[Part]:
    convolution = Convolution.of(call)
    places, own = prod(convolution.output), convolution.products
    bias = places if convolution.has_bias or id(call) in found.biased else 0
    return [(None, own), ("transposed_output", places * prod(convolution.weight[1:]) - own), ("bias", bias)]


def _folded_bias(call: KernelCall, found: Folded) -> int:
    return elements(call) if id(call) in found.biased else 0


def _batch_norm(call: KernelCall, found: Folded) -> list[Part]:
    # An instance norm is a batch norm in training mode of another shape.
    price = INSTANCE_NORM if len(call.args) > 5 and call.args[5] is True else BATCH_NORM
    return [("norm_priced", 0 if id(call) in found.norms else price * elements(call))]


def _layer_norm(call: KernelCall) -> list[Part]:
    made = result(call)
    if made is None:
        return []
    # The rows are those of the first of the dimensions that are normalised.
    first = made.shape[-len(items(call.args[1]))]
    return [("norm_priced", LAYER_NORM * made.numel + LAYER_NORM_ROW * (made.numel // first if first else 0))]


def _pool(call: KernelCall) -> list[Part]:
    """The window, of which the sides of an image count both, and of a volume the first."""
    sides = [side for side in items(call.args[1]) if isinstance(side, int)]
    if len(sides) == 1 and "2d" in call.op:
        sides *= 2
    window = prod(sides) if len(sides) == 2 else sides[0]
    return [("pool_window", window * elements(call))]


def _adaptive(call: KernelCall) -> list[Part]:
    """An average pooling with the window that the sizes give."""
    source, made = call.args[0], result(call)
    if not isinstance(source, TensorInfo) or made is None:
        return []
    window = prod(size // places for size, places in zip(source.shape[2:], made.shape[2:], strict=True))
    return [("pool_window", window * made.numel)]


class OnnxTool(Convention):
    """The forward MACs of ``onnx_tool.model_profile``."""

    name = "onnx-tool"
    as_exported = True
    unit = "MACs, bias additions, and the operations of every other operator by a price per element"
    source = "onnx-tool 1.0.1, node.py, on the graph of torch.onnx.export at opset 20"
    counts = (
        "MACs and bias additions of convolutions and matrix products, and other operators by x86 instructions per "
        "element: 1 for an addition, 4 for a division, 24 for a square root, 32 for an exponential, 43 for a logarithm"
    )
    defects = (
        "Prices transposed convolutions at their output positions, with the output channels instead of the input ones.",
        "A tanh has its own price twice; an erf and a floor cost nothing.",
        "Of the window of a 3-d pooling, only the first side counts.",
        "Fails on Mish, SELU, GRU and RNN.",
        "A bias that is all zeros is left out by the exporter; here, every bias counts.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Price the operators of the exported graph."""
        for call, owner in trace.kernels():
            if (name := _unpriced(call)) is not None:
                raise PredictedFailure(f"NotImplementedError: this Node {name} has no value_infer")
            if is_recurrent(owner) and not is_lstm(owner):
                raise PredictedFailure(f"IndexError: there is no rule for {owner.type.rpartition('.')[2]}")
        terms = walk(trace, rules(trace))
        for layer in trace.module_calls():
            if is_lstm(info := trace.module_of(layer)):
                _lstm(layer, info, terms)
        return without_params(terms, fused=fused_modules(trace))


def _lstm(call: ModuleCall, info: ModuleInfo, terms: Ledger) -> None:
    """Two biases for each step of each sample; the gates are those of one direction."""
    source = call.args[0] if call.args else None
    hidden, layers = info.attributes.get("hidden_size"), info.attributes.get("num_layers")
    if not isinstance(source, TensorInfo) or not isinstance(hidden, int) or not isinstance(layers, int):
        return
    steps = prod(source.shape[:-1])
    ways = 2 if info.attributes.get("bidirectional") else 1
    # The exporter writes biases of zeros where there are none.
    terms.add(info.path, "bias", macs=layers * ways * 8 * hidden * steps)
    gates = 4 * ADD + 3 * EXPONENTIAL + 2 * TANH + ADD + 3 * MULTIPLY
    terms.add(info.path, "rnn_elementwise", macs=layers * steps * hidden * gates)


ONNX_TOOL = OnnxTool()
