"""Quantized operators: a product of 8-bit integers is a multiply-accumulate as one of floats is.

Weights come packed, with their biases; a trace remembers the shapes that are inside.
Requantising the output to 8 bits is part of the format.
"""

from __future__ import annotations

from math import prod

from convstat.count.ops.base import Rule, argument, output, packed, per_output, shape, shape_of, table
from convstat.count.ops.other import pool
from convstat.count.ops.products import conv_macs_of, mm
from convstat.formulas.cost import Cost
from convstat.formulas.recurrent import ACTIVATIONS, UPDATES
from convstat.trace.calls import KernelCall


def conv(call: KernelCall) -> Cost:
    """``quantized::conv2d`` and its like; ``relu`` and ``add`` in the name are what is fused to it."""
    name = call.op.partition(".")[2]
    # In a fused addition the summand stands before the weight.
    weight, has_bias = packed(argument(call, 2 if "_add" in name else 1, "packed_weight"))
    out = output(call)
    macs = conv_macs_of(shape(call.args[0]), weight.shape, out.shape, transposed="transpose" in name)
    return Cost(macs, _epilogue(name, has_bias, out.numel))


def linear(call: KernelCall) -> Cost:
    """``quantized::linear`` and its like."""
    name = call.op.partition(".")[2]
    weight, has_bias = packed(argument(call, 3 if "q_dq" in name else 1, "W_prepack"))
    macs = prod(shape_of(call, 0, "X")[:-1]) * prod(weight.shape)
    return Cost(macs, _epilogue(name, has_bias, output(call).numel))


def _epilogue(name: str, has_bias: bool, outputs: int) -> dict[str, int]:
    other = {"bias": outputs} if has_bias else {}
    if "relu" in name or "tanh" in name:
        other["activation"] = outputs
    if "_add" in name:
        other["elementwise"] = outputs
    return other


def cell(call: KernelCall) -> Cost:
    """``quantized::quantized_lstm_cell_dynamic`` and its like: both matrices of a cell, packed."""
    kind = next(kind for kind in ("LSTM", "GRU", "RNN") if kind.lower() in call.op)
    weights = [packed(argument(call, place, name))[0] for place, name in ((2, "w_ih"), (3, "w_hh"))]
    rows, units = prod(shape_of(call, 0, "input")[:-1]), output(call).numel
    gates = rows * weights[0].shape[0]
    return Cost(
        rows * sum(prod(weight.shape) for weight in weights),
        {"activation": ACTIVATIONS[kind] * units, "elementwise": UPDATES[kind] * units, "bias": 2 * gates},
    )


def fused(entry: str) -> Rule:
    """The rule of an element-wise operator that may end in a ``relu``."""

    def rule(call: KernelCall) -> Cost:
        outputs = output(call).numel
        return Cost(0, {entry: outputs, **({"activation": outputs} if "relu" in call.op else {})})

    return rule


RULES: dict[str, Rule] = table(
    ("quantized", "conv1d conv2d conv3d conv1d_relu conv2d_relu conv3d_relu conv2d_add conv2d_add_relu", conv),
    ("quantized", "conv_transpose1d conv_transpose2d conv_transpose3d", conv),
    ("quantized", "conv1d_dynamic conv2d_dynamic conv3d_dynamic", conv),
    ("quantized", "conv_transpose1d_dynamic conv_transpose2d_dynamic conv_transpose3d_dynamic", conv),
    ("quantized", "linear linear_relu linear_leaky_relu linear_tanh", linear),
    ("quantized", "linear_dynamic linear_relu_dynamic linear_dynamic_fp16 linear_relu_dynamic_fp16", linear),
    ("quantized", "linear_with_input_q_dq_qweight_dq_output_fp32", linear),
    ("quantized", "linear_with_input_q_dq_qweight_dq_relu_output_fp32", linear),
    ("quantized", "matmul", mm),
    ("quantized", "quantized_lstm_cell_dynamic quantized_gru_cell_dynamic", cell),
    ("quantized", "quantized_rnn_relu_cell_dynamic quantized_rnn_tanh_cell_dynamic", cell),
    ("quantized", "add add_relu mul mul_relu add_scalar mul_scalar", fused("elementwise")),
    ("quantized", "add_scalar_relu mul_scalar_relu", fused("elementwise")),
    ("quantized", "batch_norm batch_norm_relu batch_norm1d batch_norm1d_relu", fused("norm")),
    ("quantized", "batch_norm2d batch_norm2d_relu batch_norm3d batch_norm3d_relu", fused("norm")),
    ("quantized", "layer_norm instance_norm group_norm", per_output("norm")),
    ("quantized", "hardswish relu6 leaky_relu elu celu sigmoid prelu threshold cat_relu", per_output("activation")),
    ("quantized", "softmax", per_output("softmax")),
    ("quantized", "clamp dropout", per_output("elementwise")),
    ("quantized", "max_pool1d max_pool2d", pool),
)
