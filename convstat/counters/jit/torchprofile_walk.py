"""Predict torchprofile: a rule for each operator of the graph, and nothing for operators without one."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

from convstat.counters.base import PredictedFailure, Prediction
from convstat.counters.einsum import contracted
from convstat.counters.jit.graph import OperatorCall, recorded_of
from convstat.counters.jit.walk import (
    Priced,
    Rule,
    cell_products,
    convolved,
    einsum_of,
    in_words,
    is_complex,
    items_of,
    walk,
)
from convstat.counters.products import fused_modules
from convstat.trace import TensorInfo, Trace

_COMPLEX = "AttributeError: 'torch._C.Node' object has no attribute 'cs'"


def predict(trace: Trace) -> Prediction:
    """Say what torchprofile will answer."""
    for call in recorded_of(trace).operators:
        if call.used and any(isinstance(value, complex) for value in (*call.args, *call.kwargs.values())):
            raise PredictedFailure(_COMPLEX)
    terms = walk(trace, RULES)
    return Prediction(None, terms.macs, terms.terms(), fused=fused_modules(trace))


def _convolution(call: OperatorCall) -> Priced:
    true = convolved(call, transposed=False)
    if in_words(call):
        return [(None, true), ("padding_word", -true)]
    _real(call)
    return [(None, true)]


def _real(call: OperatorCall) -> None:
    """A convolution of complex numbers is put together with the imaginary unit, and it cannot read such a constant."""
    if is_complex(call):
        raise PredictedFailure(_COMPLEX)


def _transposed(call: OperatorCall) -> Priced:
    _real(call)
    weight, output = call.shape(1, "weight"), call.output_shape()
    spatial = len(weight) - 2
    channels = output[len(output) - spatial - 1]
    # It tells a transposed convolution by its channels, and so takes a square one for a plain one.
    per_output = weight[1] if channels == weight[0] else weight[0]
    amount = prod(output) * per_output * prod(weight[2:])
    true = convolved(call, transposed=True)
    return [(None, true), ("transposed_output", amount - true)]


def _addmm(call: OperatorCall) -> Priced:
    return [(None, prod(call.shape(1, "mat1")) * call.shape(2, "mat2")[1])]


def _addmv(call: OperatorCall) -> Priced:
    return [(None, prod(call.shape(1, "mat")))]


def _baddbmm(call: OperatorCall) -> Priced:
    added, left, right = call.shape(0, "self"), call.shape(1, "batch1"), call.shape(2, "batch2")
    if len(added) != 3:
        few = "not enough" if len(added) < 3 else "too many"
        raise PredictedFailure(f"ValueError: {few} values to unpack (expected 3)")
    if (added[1], added[2]) != (left[1], right[2]):
        # What is added may be broadcast, and it takes the sizes from there.
        raise PredictedFailure("AssertionError: baddbmm adds what is broadcast")
    return [(None, prod(left) * right[2])]


def _bmm(call: OperatorCall) -> Priced:
    return [(None, prod(call.shape(0, "self")) * call.shape(1, "mat2")[2])]


def _matmul(call: OperatorCall) -> Priced:
    left = call.shape(0, "self" if call.op == "matmul" else "input")
    right = call.shape(1, "other" if call.op == "matmul" else "weight")
    if len(left) == 1 and len(right) == 1:
        return [(None, left[0])]
    if len(left) == 1:
        return [(None, prod(right))]
    if len(right) == 1:
        return [(None, prod(left))]
    return [(None, prod(call.output_shape()) * left[-1])]


def _multiplied(call: OperatorCall) -> Priced:
    if call.of_sizes:
        return [("size_products", 1)]
    return [("elementwise", prod(call.output_shape()))]


def _norm(place: int) -> Rule:
    def price(call: OperatorCall) -> Priced:
        scaled = isinstance(call.argument(place, "weight"), TensorInfo)
        return [("norm_affine", prod(call.output_shape()) if scaled else 0)]

    return price


def _for_each(code: str, times: int = 1) -> Rule:
    """So many operations for each element of the output."""
    return lambda call: [(code, times * prod(call.output_shape()))]


def _grid_sampler(call: OperatorCall) -> Priced:
    mode = call.argument(2, "interpolation_mode")
    times = 0 if mode == 1 else 16 if mode == 2 else 4
    return [("grid_points", times * prod(call.output_shape()))]


def _lstm(call: OperatorCall) -> Priced:
    source, output, state, cell = call.shape(0, "input"), *(call.output_shape(place) for place in range(3))
    width = state[-1]
    directions = output[-1] // width
    layers = state[0] // directions
    gates = sum(4 * width * ((source[-1] if layer == 0 else width * directions) + width) for layer in range(layers))
    # Each sample meets every matrix at each of its steps. Packed, all steps of all samples come as one long sequence,
    # whose second dimension is then taken for the batch.
    is_packed = isinstance(call.argument(1, "batch_sizes"), TensorInfo)
    steps = output[0] if is_packed else output[0] * output[1]
    matrices = items_of(call.argument(3 if is_packed else 2, "params"))
    weights = sum(matrix.numel for matrix in matrices if isinstance(matrix, TensorInfo) and len(matrix.shape) > 1)
    real = steps * weights
    parts: Priced = [(None, real)]
    if is_packed:
        parts.append(("packed_sequences", (output[0] * output[1] - steps) * directions * gates))
    if cell[-1] != width:
        # Gates are as wide as the cell, and not as the state that is made of it.
        parts.append(("projected_state", steps * directions * gates - real))
    return parts


def _cell(multiplied: int) -> Rule:
    """A cell, with what its gates multiply element by element."""

    def price(call: OperatorCall) -> Priced:
        return [(None, cell_products(call)), ("rnn_elementwise", multiplied * prod(call.output_shape()))]

    return price


def _einsum(call: OperatorCall) -> Priced:
    equation, shapes, path = einsum_of(call)
    true = contracted(equation, shapes, path)
    if "..." in equation:
        return [(None, true), ("einsum_whole", -true)]
    sizes: dict[str, int] = {}
    for written, shape in zip(equation.split("->")[0].split(","), shapes, strict=False):
        sizes.update(zip(written.replace(" ", ""), shape, strict=False))
    return [(None, true), ("einsum_whole", prod(sizes.values()) - true)]


def _attention(call: OperatorCall) -> Priced:
    query, key, value = (call.shape(place, name) for place, name in enumerate(("query", "key", "value")))
    heads = prod(query[1:-2])
    if not (query[0] == key[0] == value[0] and heads == prod(key[1:-2]) == prod(value[1:-2])):
        raise PredictedFailure("AssertionError: the heads of queries, keys and values in attention are not as many")
    return [(None, query[0] * heads * query[-2] * key[-2] * (query[-1] + value[-1]))]


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "scaled_dot_product_attention": _attention,
        "lstm": _lstm,
        "lstm_cell": _cell(2),
        "lstm_cell_output": _for_each("rnn_elementwise"),
        "gru_cell": _cell(2),
        "rnn_tanh_cell": _cell(0),
        "rnn_relu_cell": _cell(0),
        "einsum": _einsum,
        "grid_sampler": _grid_sampler,
        "addmm": _addmm,
        "addmv": _addmv,
        "bmm": _bmm,
        "baddbmm": _baddbmm,
        "linear": _matmul,
        "matmul": _matmul,
        "mul": _multiplied,
        "mul_": _multiplied,
        "conv1d": _convolution,
        "conv2d": _convolution,
        "conv3d": _convolution,
        "convolution": _convolution,
        "conv_transpose1d": _transposed,
        "conv_transpose2d": _transposed,
        "conv_transpose3d": _transposed,
        "batch_norm": _norm(1),
        "instance_norm": _norm(1),
        "layer_norm": _norm(2),
        "group_norm": _norm(2),
        **{
            f"{kind}avg_pool{dimensions}d": _for_each("pool_outputs")
            for kind in ("adaptive_", "")
            for dimensions in (1, 2, 3)
        },
        "mean": _for_each("pool_outputs"),
        "leaky_relu": _for_each("activation"),
        "upsample_bilinear2d": _for_each("upsample_bilinear", 4),
    }
)
"""Operator -> what torchprofile adds for it."""
