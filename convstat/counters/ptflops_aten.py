"""Predict ptflops' ``aten`` backend from a trace.

It prices six kernels and nothing else, for the whole batch, biases included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.ptflops_pytorch import PRODUCTS, trainable_params
from convstat.trace import KernelCall, TensorInfo, Trace

Part = tuple[str | None, int]


def _shape(call: KernelCall, position: int) -> tuple[int, ...]:
    value = call.args[position] if position < len(call.args) else None
    if not isinstance(value, TensorInfo):
        raise PredictedFailure(f"AttributeError: argument {position} of {call.op} is no tensor")
    return value.shape


def _product(call: KernelCall) -> list[Part]:
    return [(None, prod(_shape(call, 0)) * _shape(call, 1)[-1])]


def _addmm(call: KernelCall) -> list[Part]:
    rows, columns = _shape(call, 1)[0], _shape(call, 2)[1]
    return [(None, rows * _shape(call, 1)[1] * columns), ("bias", rows * columns)]


def _convolution(call: KernelCall) -> list[Part]:
    source, weight = _shape(call, 0), _shape(call, 1)
    output = call.output.shape if isinstance(call.output, TensorInfo) else ()
    transposed = call.args[6]
    parts: list[Part] = [(None, source[0] * prod(weight) * prod((source if transposed else output)[2:]))]
    if call.args[2] is not None:
        parts.append(("bias", source[0] * output[1] * prod(output[2:])))
    return parts


RULES: Mapping[str, Callable[[KernelCall], list[Part]]] = MappingProxyType(
    {
        "aten.mm": _product,
        "aten.matmul": _product,
        "aten.bmm": _product,
        "aten.addmm": _addmm,
        "aten.convolution": _convolution,
        "aten._convolution": _convolution,
    }
)
"""Kernel -> what ptflops adds for it."""


def predict(trace: Trace) -> Prediction:
    """Say what ptflops' ``aten`` backend will answer."""
    terms = Ledger()
    because: dict[str, str] = {}
    try:
        for call, owner in trace.kernels():
            rule = RULES.get(call.op)
            if rule is not None:
                for code, amount in rule(call):
                    terms.add(owner.path, code, macs=amount)
            elif call.op in PRODUCTS:
                fused = any(word in call.op for word in ("attention", "rnn", "lstm", "gru", "transformer"))
                because.setdefault(owner.path, "fused_kernel" if fused else "kernel_unseen")
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))
    macs = terms.macs
    params = trainable_params(trace, terms)
    return Prediction(params, macs, terms.terms(), because)
