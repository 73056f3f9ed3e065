"""What the patched functions of ptflops' ``pytorch`` backend add, one rule for each name.

A rule gives the number that ptflops adds, and the parts that it is made of.
The number can be a float: an interpolation by a fractional scale is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import prod
from types import MappingProxyType

from convstat.counters.base import PredictedFailure
from convstat.trace import FunctionCall, ListInfo, TensorInfo, Value

Number = int | float
Parts = list[tuple[str | None, Fraction]]
Rule = Callable[[FunctionCall], tuple[Number, Parts]]


def _argument(call: FunctionCall, position: int, *names: str) -> Value:
    if position < len(call.args):
        return call.args[position]
    for name in names:
        if name in call.kwargs:
            return call.kwargs[name]
    raise PredictedFailure(f"TypeError: {call.name} is called in a way that its wrapper does not take")


def _tensor(call: FunctionCall, position: int, *names: str) -> TensorInfo:
    value = _argument(call, position, *names)
    if not isinstance(value, TensorInfo):
        raise PredictedFailure(f"AttributeError: {call.name} does not get a tensor")
    return value


def _elements(code: str) -> Rule:
    def rule(call: FunctionCall) -> tuple[Number, Parts]:
        amount = _tensor(call, 0, "input").numel
        return amount, [(code, Fraction(amount))]

    return rule


def _interpolate(call: FunctionCall) -> tuple[Number, Parts]:
    source = call.args[0] if call.args else call.kwargs.get("input")
    if not isinstance(source, TensorInfo) or len(source.shape) < 3:
        raise PredictedFailure("AssertionError: Input of interpolate should have NC... layout")
    amount = _interpolated(call, source)
    # What it comes to, had it been priced by the output as the module is.
    output = call.output.numel if isinstance(call.output, TensorInfo) else 0
    return amount, [("upsample", Fraction(output)), ("upsample_scale", Fraction(amount) - output)]


def _interpolated(call: FunctionCall, source: TensorInfo) -> Number:
    def argument(name: str, position: int) -> Value:
        value = call.kwargs.get(name)
        return call.args[position] if value is None and len(call.args) > position else value

    dims = len(source.shape) - 2
    size = argument("size", 1)
    if size is not None:
        sizes = size.items if isinstance(size, ListInfo) else size if isinstance(size, tuple) else (size,) * dims
        return prod(int(item) for item in sizes if isinstance(item, (int, float))) * prod(source.shape[:2])
    scale = argument("scale_factor", 2)
    if isinstance(scale, tuple) and len(scale) == dims:
        # numpy multiplies them as int64: a scale of 1.5 is one of 1.
        return source.numel * prod(int(item) for item in scale if isinstance(item, (int, float)))
    if isinstance(scale, (int, float)):
        factor: Number = scale**dims
        return source.numel * factor
    raise PredictedFailure("TypeError: an interpolation by a list of scale factors")


def _matmul(call: FunctionCall) -> tuple[Number, Parts]:
    first, second = _tensor(call, 0, "input"), _tensor(call, 1, "other")
    if not second.shape:
        raise PredictedFailure(f"IndexError: {call.name} gets a tensor without dimensions")
    amount = first.numel * second.shape[-1]
    return amount, _product(call, first, amount)


def _product(call: FunctionCall, first: TensorInfo, amount: int) -> Parts:
    """A product that is priced by the shape of its first operand: as it is, and what broadcasting makes of it.

    Each element of the output sums over the last dimension of the first operand.
    """
    true = call.output.numel * first.shape[-1] if isinstance(call.output, TensorInfo) and first.shape else amount
    return [(None, Fraction(true)), ("functional_mispriced", Fraction(amount - true))]


def _addmm(call: FunctionCall) -> tuple[Number, Parts]:
    added, first, second = _tensor(call, 0, "input"), _tensor(call, 1, "mat1"), _tensor(call, 2, "mat2")
    macs = first.numel * second.shape[-1]
    bias = added.numel if call.kwargs.get("beta", 1) != 0 else 0
    return macs + bias, [*_product(call, first, macs), ("bias", Fraction(bias))]


def _elementwise(call: FunctionCall) -> tuple[Number, Parts]:
    first, second = _argument(call, 0, "input"), _argument(call, 1, "other")
    shapes = [value.shape for value in (first, second) if isinstance(value, TensorInfo)]
    if not shapes:
        return 1, [("elementwise", Fraction(1))]
    longest = max(map(len, shapes))
    at_left = prod(max(shape[axis] if axis < len(shape) else 1 for shape in shapes) for axis in range(longest))
    true = call.output.numel if isinstance(call.output, TensorInfo) else at_left
    return at_left, [("elementwise", Fraction(true)), ("broadcast", Fraction(at_left - true))]


def _table() -> dict[str, Rule]:
    table: dict[str, Rule] = {}
    for name in ("relu", "prelu", "elu", "relu6", "gelu", "silu"):
        table[f"torch.nn.functional.{name}"] = _elements("activation")
    for dims in "123":
        for pool in ("avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool"):
            table[f"torch.nn.functional.{pool}{dims}d"] = _elements("pool")
    table["torch.nn.functional.softmax"] = _elements("softmax")
    for name in ("upsample", "interpolate"):
        table[f"torch.nn.functional.{name}"] = _interpolate
    for owner in ("torch", "torch.Tensor"):
        for name in ("matmul", "mm", "bmm"):
            table[f"{owner}.{name}"] = _matmul
        for name in ("mul", "add"):
            table[f"{owner}.{name}"] = _elementwise
        table[f"{owner}.addmm"] = _addmm
    table["torch.baddbmm"] = _addmm
    return table


RULES: Mapping[str, Rule] = MappingProxyType(_table())
"""Where a function is looked up -> what its wrapper adds."""
