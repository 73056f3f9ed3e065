"""What a rule for a kernel is, and how it reads the arguments that a trace remembers.

A rule takes one :class:`~convstat.trace.calls.KernelCall` and gives its cost.
Arguments stand in the order of the operator's schema; torch leaves out trailing ones that have their default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convstat.layers.base import Cost
from convstat.trace.calls import KernelCall, ListInfo, Shape, TensorInfo, Value

Rule = Callable[[KernelCall], Cost]


def argument(call: KernelCall, position: int, name: str, default: Any = None) -> Any:
    """An argument by its place in the schema, or by name where it was passed so."""
    if position < len(call.args):
        return call.args[position]
    return call.kwargs.get(name, default)


def tensors(value: Value) -> list[TensorInfo]:
    """All tensors in a value, in order."""
    if isinstance(value, TensorInfo):
        return [value]
    if isinstance(value, ListInfo):
        value = value.items
    if isinstance(value, tuple):
        return [found for item in value for found in tensors(item)]
    return []


def inputs(call: KernelCall) -> list[TensorInfo]:
    """All tensors that went into a kernel."""
    return tensors(tuple(call.args)) + tensors(tuple(call.kwargs.values()))


def shape(value: Value) -> Shape:
    """The shape of a tensor argument."""
    if not isinstance(value, TensorInfo):
        raise TypeError(f"expected a tensor, not {value!r}")
    return value.shape


def output(call: KernelCall) -> TensorInfo:
    """The first tensor that came out of a kernel."""
    return tensors(call.output)[0]


def sizes(value: Value) -> tuple[int, ...]:
    """A list of integers, as a tuple."""
    items = value.items if isinstance(value, ListInfo) else value if isinstance(value, tuple) else (value,)
    return tuple(item for item in items if isinstance(item, int))


def per_output(entry: str, times: int = 1) -> Rule:
    """The rule of kernels whose work is so much for each element of their output."""

    def rule(call: KernelCall) -> Cost:
        return Cost(0, {entry: times * output(call).numel})

    return rule


def per_input(entry: str, times: int = 1) -> Rule:
    """The rule of kernels whose work is so much for each element of their first input."""

    def rule(call: KernelCall) -> Cost:
        return Cost(0, {entry: times * inputs(call)[0].numel})

    return rule
