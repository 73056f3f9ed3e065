"""Predict fvcore: a rule for each operator of the graph, and nothing for operators without one."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

from convstat.counters import parameters
from convstat.counters.base import PredictedFailure, Prediction
from convstat.counters.einsum import contracted, printed_flops
from convstat.counters.jit.graph import OperatorCall
from convstat.counters.jit.walk import (
    Priced,
    Rule,
    cell_layers,
    cell_products,
    convolved,
    einsum_of,
    in_words,
    is_complex,
    walk,
)
from convstat.counters.products import fused_modules
from convstat.trace import TensorInfo, Trace


def predict(trace: Trace, rules: Mapping[str, Rule] | None = None) -> Prediction:
    """Say what fvcore will answer, or a tool whose ``rules`` are made of its."""
    if trace.made:
        # It looks for the name of every module that is called.
        raise PredictedFailure(f"KeyError: {trace.made[0].type.rpartition('.')[2]}")
    terms = walk(trace, RULES if rules is None else rules)
    macs = terms.macs
    parameters.enter(trace, terms)
    return Prediction(terms.params, macs, terms.terms(), fused=fused_modules(trace))


def _convolution(call: OperatorCall) -> Priced:
    true = convolved(call, transposed=False)
    return [(None, true), ("padding_word", -true)] if in_words(call) else _real(call, true)


def _real(call: OperatorCall, true: int) -> Priced:
    """Of a convolution of complex numbers, the graph has the three of real numbers that torch makes of it."""
    return [(None, true), ("complex_products", 2 * true if is_complex(call) else 0)]


def _transposed(call: OperatorCall) -> Priced:
    return _real(call, convolved(call, transposed=True))


def _linear(call: OperatorCall) -> Priced:
    source, weight = call.shape(0, "input"), call.shape(1, "weight")
    # A weight of one dimension is taken for a matrix of as many rows.
    true = prod(source) * (weight[0] if len(weight) == 2 else 1)
    return [(None, true), ("functional_mispriced", prod(source) * weight[0] - true)]


def _addmm(call: OperatorCall) -> Priced:
    return [(None, prod(call.shape(1, "mat1")) * call.shape(2, "mat2")[1])]


def _product(call: OperatorCall) -> Priced:
    left, right = call.shape(0, "self"), call.shape(1, _SECOND.get(call.op, "other"))
    if len(right) < 2 or not left:
        raise PredictedFailure("IndexError: list index out of range")
    if left[-1] != right[-2]:
        raise PredictedFailure(f"AssertionError: [{list(left)}, {list(right)}]")
    # Batches that only the second operand has are left out.
    true = prod(call.output_shape()) * left[-1]
    return [(None, true), ("functional_mispriced", prod(left) * right[-1] - true)]


_SECOND = {"mm": "mat2", "bmm": "mat2"}


def _cell(call: OperatorCall) -> Priced:
    return [(None, cell_products(call))]


def _einsum(call: OperatorCall) -> Priced:
    equation, shapes, path = einsum_of(call)
    letters = dict.fromkeys(letter for letter in equation.replace(" ", "") if letter.isalpha())
    renamed = str.maketrans({letter: chr(97 + place) for place, letter in enumerate(letters)})
    equation = equation.replace(" ", "").translate(renamed)
    true = contracted(equation, shapes, path)
    if equation == "abc,abd->acd":
        return [(None, true), ("functional_mispriced", prod(shapes[0]) * shapes[-1][-1] - true)]
    if equation == "abc,adc->adb":
        return [(None, true), ("functional_mispriced", prod(shapes[0]) * shapes[-1][1] - true)]
    try:
        # Half of what NumPy writes about its best order of contraction, which is four digits.
        estimated = printed_flops(equation, shapes) // 2
    except ValueError as error:
        raise PredictedFailure(f"ValueError: {error}") from error
    return [(None, true), ("einsum_estimate", estimated - true)]


def _norm(place: int) -> Rule:
    def price(call: OperatorCall) -> Priced:
        shape = call.shape(0, "input")
        if not 2 <= len(shape) <= 5:
            raise PredictedFailure(f"AssertionError: {list(shape)}")
        scaled = isinstance(call.argument(place, "weight"), TensorInfo)
        return [("norm_fives", prod(shape) * (5 if scaled else 4))]

    return price


def _batch_norm(call: OperatorCall) -> Priced:
    if call.argument(5, "training"):
        return _norm(1)(call)
    scaled = isinstance(call.argument(1, "weight"), TensorInfo)
    return [("norm", prod(call.shape(0, "input")) * (2 if scaled else 1))]


def _for_each(code: str, times: int) -> Rule:
    """So many operations for each element of the output."""
    return lambda call: [(code, times * prod(call.output_shape()))]


def _pool(call: OperatorCall) -> Priced:
    return [("pool", prod(call.shape(0, "input")))]


ACTIVATIONS = ("conv1d", "conv2d", "conv3d", "convolution", "addmm", "bmm", "einsum", "matmul", "linear")
"""Operators whose outputs are activations; transposed convolutions are convolutions in the graph of torch.jit."""


def activations(call: OperatorCall) -> int:
    """The elements that an operator adds to the activations."""
    if call.op.endswith("_cell"):
        return sum(prod(shape[:-1]) * features for shape, features in cell_layers(call))
    is_convolution = call.op.startswith("conv")
    if call.op not in ACTIVATIONS and not call.op.startswith("conv_transpose"):
        return 0
    if not isinstance(call.output, TensorInfo) or (is_convolution and in_words(call)):
        return 0
    # Of a convolution of complex numbers, the graph has the three of real numbers that torch makes of it.
    return call.output.numel * (3 if is_convolution and is_complex(call) else 1)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "conv1d": _convolution,
        "conv2d": _convolution,
        "conv3d": _convolution,
        "convolution": _convolution,
        "conv_transpose1d": _transposed,
        "conv_transpose2d": _transposed,
        "conv_transpose3d": _transposed,
        "linear": _linear,
        "addmm": _addmm,
        "matmul": _product,
        "mm": _product,
        "bmm": _product,
        "einsum": _einsum,
        "lstm_cell": _cell,
        "gru_cell": _cell,
        "rnn_tanh_cell": _cell,
        "rnn_relu_cell": _cell,
        "batch_norm": _batch_norm,
        "group_norm": _norm(2),
        "layer_norm": _norm(2),
        "instance_norm": _norm(1),
        "upsample_nearest2d": _for_each("upsample", 1),
        "upsample_bilinear2d": _for_each("upsample_bilinear", 4),
        "adaptive_avg_pool2d": _pool,
        "grid_sampler": _for_each("grid_points", 4),
    }
)
"""Operator -> what fvcore adds for it."""
