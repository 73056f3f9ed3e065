"""Predict ptflops' ``aten`` backend from a trace.

It prices six kernels and nothing else, for the whole batch, biases included.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

from convstat.counters.base import Prediction
from convstat.counters.kernel_walk import Part, Rule, convolved, refuse_higher_order, shape_of, walk
from convstat.counters.products import fused_modules
from convstat.counters.ptflops.pytorch import trainable_params
from convstat.trace import KernelCall, TensorInfo, Trace


def _product(call: KernelCall) -> list[Part]:
    return [(None, prod(shape_of(call, 0)) * shape_of(call, 1)[-1])]


def _addmm(call: KernelCall) -> list[Part]:
    rows, columns = shape_of(call, 1)[0], shape_of(call, 2)[1]
    return [(None, rows * shape_of(call, 1)[1] * columns), ("bias", rows * columns)]


def _convolution(call: KernelCall) -> list[Part]:
    parts: list[Part] = [(None, convolved(call))]
    if call.args[2] is not None:
        output = call.output.shape if isinstance(call.output, TensorInfo) else ()
        parts.append(("bias", shape_of(call, 0)[0] * output[1] * prod(output[2:])))
    return parts


RULES: Mapping[str, Rule] = MappingProxyType(
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
    refuse_higher_order(trace)
    terms = walk(trace, RULES)
    macs = terms.macs
    return Prediction(trainable_params(trace, terms), macs, terms.terms(), fused=fused_modules(trace))
