"""What the MACs of a replaced function are made of: what the call multiplies, and what the tool prices otherwise.

What a call multiplies follows from its operands and its result; the amounts with a code are what the tools' rules give
beside that. The parts of a call sum to the MACs that its rule gives.
"""

from __future__ import annotations

from math import prod

from convstat.counters.causes import UNATTRIBUTED
from convstat.trace import FunctionCall, TensorInfo, Value

Parts = list[tuple[str | None, int]]

_LEFT = {"addmm": 1, "baddbmm": 1}
_PRODUCTS = frozenset({"linear", "matmul", "mm", "bmm", "addmm", "baddbmm"})


def parts_of(call: FunctionCall, macs: int) -> Parts:
    """The parts of the MACs of a call; none of one that multiplies and accumulates nothing."""
    kind = call.name.rpartition(".")[2].strip("_")
    if kind.startswith("conv"):
        return _convolution(call, macs, transposed=kind.startswith("conv_transpose"))
    if kind == "scaled_dot_product_attention":
        return _mispriced(_attention(call), macs)
    if kind in _PRODUCTS:
        # Each element of the result sums over the last dimension of the left operand.
        left = _tensor(call, _LEFT.get(kind, 0), "mat1" if kind in _LEFT else "input")
        return _mispriced(_output(call).numel * left.shape[-1] if left.shape else 0, macs)
    return [(None, macs)] if macs else []


def _mispriced(true: int, macs: int) -> Parts:
    return [(None, true), ("functional_mispriced", macs - true)]


def _attention(call: FunctionCall) -> int:
    """Each score sums over the width of the queries; there is one for each key and place of the result."""
    query, key, value = (_tensor(call, place, name) for place, name in enumerate("qkv"))
    places = prod(_output(call).shape[:-1])
    return places * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _convolution(call: FunctionCall, macs: int, *, transposed: bool) -> Parts:
    source, weight = _tensor(call, 0, "input"), _tensor(call, 1, "weight")
    # A weight is (channels, taps...): each place of the result, or of the input, meets the taps of its channel.
    true = (source if transposed else _output(call)).numel * prod(weight.shape[1:])
    if transposed:
        why = "transposed_groups" if _argument(call, 6, "groups", 1) != 1 else UNATTRIBUTED
    elif len(source.shape) < len(weight.shape):
        why = "unbatched"
    else:
        why = "same_padding" if _argument(call, 4, "padding", 0) == "same" else UNATTRIBUTED
    return [(None, true), (why, macs - true)]


def _argument(call: FunctionCall, position: int, name: str, default: Value = None) -> Value:
    return call.args[position] if position < len(call.args) else call.kwargs.get(name, default)


def _tensor(call: FunctionCall, position: int, name: str) -> TensorInfo:
    value = _argument(call, position, name)
    # The tool's own rule has taken its shape before.
    assert isinstance(value, TensorInfo)
    return value


def _output(call: FunctionCall) -> TensorInfo:
    # All of these functions give one tensor.
    assert isinstance(call.output, TensorInfo)
    return call.output
