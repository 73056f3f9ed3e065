"""Predict fvcore: a rule for each operator of the graph, and nothing for operators without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor, prod
from types import MappingProxyType

from convstat.counters.base import PredictedFailure, Prediction
from convstat.counters.jit.graph import OperatorCall
from convstat.counters.jit.walk import Priced, convolved, enter_parameters, walk
from convstat.trace import ListInfo, TensorInfo, Trace

Rule = Callable[[OperatorCall], Priced]


def predict(trace: Trace) -> Prediction:
    """Say what fvcore will answer."""
    try:
        terms, because = walk(trace, RULES)
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))
    macs = terms.macs
    enter_parameters(trace, terms)
    return Prediction(terms.params, macs, terms.terms(), because)


def _convolution(call: OperatorCall) -> Priced:
    if isinstance(call.argument(4, "padding"), str):
        return [], "padding_word"
    return [(None, convolved(call, transposed=False))], None


def _transposed(call: OperatorCall) -> Priced:
    return [(None, convolved(call, transposed=True))], None


def _linear(call: OperatorCall) -> Priced:
    return [(None, prod(call.shape(0, "input")) * call.shape(1, "weight")[0])], None


def _addmm(call: OperatorCall) -> Priced:
    return [(None, prod(call.shape(1, "mat1")) * call.shape(2, "mat2")[1])], None


def _product(call: OperatorCall) -> Priced:
    left, right = call.shape(0, "self"), call.shape(1, _SECOND.get(call.op, "other"))
    if len(right) < 2 or not left:
        raise PredictedFailure("IndexError: list index out of range")
    if left[-1] != right[-2]:
        raise PredictedFailure(f"AssertionError: [{list(left)}, {list(right)}]")
    amount = prod(left) * right[-1]
    whole = prod(call.output_shape()) * left[-1]
    return [(None, amount)], None if amount == whole else "functional_mispriced"


_SECOND = {"mm": "mat2", "bmm": "mat2"}


def _lstm_cell(call: OperatorCall) -> Priced:
    """Cells are taken apart before they are recorded: into two linear layers."""
    hidden = call.argument(1, "hx")
    if isinstance(hidden, (ListInfo, tuple)):
        hidden = (hidden.items if isinstance(hidden, ListInfo) else hidden)[0]
    if not isinstance(hidden, TensorInfo):
        raise PredictedFailure(f"TypeError: the state of {call.op} has no shape")
    products = prod(call.shape(0, "input")) * call.shape(2, "w_ih")[0]
    return [(None, products + prod(hidden.shape) * call.shape(3, "w_hh")[0])], None


def _einsum(call: OperatorCall) -> Priced:
    equation = call.argument(0, "equation")
    operands = call.argument(1, "operands")
    items = operands.items if isinstance(operands, ListInfo) else operands
    if not isinstance(equation, str) or not isinstance(items, tuple):
        raise PredictedFailure("TypeError: einsum without an equation")
    shapes = [item.shape for item in items if isinstance(item, TensorInfo)]
    letters = dict.fromkeys(letter for letter in equation.replace(" ", "") if letter.isalpha())
    renamed = str.maketrans({letter: chr(97 + place) for place, letter in enumerate(letters)})
    equation = equation.replace(" ", "").translate(renamed)
    if equation == "abc,abd->acd":
        return [(None, prod(shapes[0]) * shapes[-1][-1])], None
    if equation == "abc,adc->adb":
        return [(None, prod(shapes[0]) * shapes[-1][1])], None
    return [(None, _estimated(equation, shapes))], "einsum_estimate"


def _estimated(equation: str, shapes: list[tuple[int, ...]]) -> int:
    """Half of what NumPy writes about its best order of contraction, which is four digits."""
    import numpy

    try:
        # Nothing is stored: only the shapes matter.
        empty = [numpy.broadcast_to(numpy.zeros(()), shape) for shape in shapes]
        text = numpy.einsum_path(equation, *empty, optimize="optimal")[1]
    except Exception as error:
        raise PredictedFailure(f"{type(error).__name__}: {error}") from error
    for line in str(text).split("\n"):
        if "optimized flop" in line.lower():
            return floor(float(line.split(":")[-1]) / 2)
    raise PredictedFailure("NotImplementedError: Unsupported einsum operation.")


def _norm(place: int) -> Rule:
    def price(call: OperatorCall) -> Priced:
        shape = call.shape(0, "input")
        if not 2 <= len(shape) <= 5:
            raise PredictedFailure(f"AssertionError: {list(shape)}")
        scaled = isinstance(call.argument(place, "weight"), TensorInfo)
        return [("norm_fives", prod(shape) * (5 if scaled else 4))], None

    return price


def _batch_norm(call: OperatorCall) -> Priced:
    if call.argument(5, "training"):
        return _norm(1)(call)
    scaled = isinstance(call.argument(1, "weight"), TensorInfo)
    return [("norm", prod(call.shape(0, "input")) * (2 if scaled else 1))], None


def _for_each(code: str, times: int) -> Rule:
    """So many operations for each element of the output."""
    return lambda call: ([(code, times * prod(call.output_shape()))], None)


def _pool(call: OperatorCall) -> Priced:
    return [("pool", prod(call.shape(0, "input")))], None


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
        "lstm_cell": _lstm_cell,
        "gru_cell": _lstm_cell,
        "rnn_tanh_cell": _lstm_cell,
        "rnn_relu_cell": _lstm_cell,
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
