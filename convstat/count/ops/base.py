"""What a rule for a kernel is, and how it reads the arguments that a trace remembers.

A rule takes one :class:`~convstat.trace.calls.KernelCall` and gives its cost.
Arguments stand in the order of the operator's schema; torch leaves out trailing ones that have their default.
A rule names each argument that it reads, by place and by name, so that a test can hold the two against the schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convstat.formulas.cost import Cost
from convstat.trace.calls import FunctionCall, KernelCall, ListInfo, ObjectInfo, Shape, TensorInfo, Value

Rule = Callable[[KernelCall], Cost]


class UnreadableError(Exception):
    """A call that its rule cannot price: an operand is no plain dense tensor. It is uncounted, not wrong."""


def argument(call: KernelCall | FunctionCall, position: int, name: str, default: Any = None) -> Any:
    """An argument by its place in the schema, or by name where it was passed so; -1 where it can only be named."""
    if 0 <= position < len(call.args):
        return call.args[position]
    return call.kwargs.get(name, default)


def shape_of(call: KernelCall, position: int, name: str) -> Shape:
    """The shape of an argument that is a tensor."""
    return shape(argument(call, position, name))


def shape(value: Value) -> Shape:
    """The shape of a tensor; the products of a sparse one depend on its values, so it has none to count with."""
    if not isinstance(value, TensorInfo):
        raise UnreadableError(f"expected a tensor, not {value!r}")
    if value.is_sparse:
        raise UnreadableError("a sparse tensor")
    return value.shape


def tensors(value: Value) -> list[TensorInfo]:
    """All tensors in a value, in order."""
    if isinstance(value, TensorInfo):
        return [value]
    if isinstance(value, ListInfo):
        value = value.items
    found: list[TensorInfo] = []
    for item in value if isinstance(value, tuple) else ():
        if isinstance(item, TensorInfo):
            found.append(item)
        elif isinstance(item, (tuple, ListInfo)):
            found += tensors(item)
    return found


def inputs(call: KernelCall) -> list[TensorInfo]:
    """All tensors that went into a kernel."""
    return tensors(tuple(call.args)) + tensors(tuple(call.kwargs.values()))


def first_input(call: KernelCall) -> TensorInfo:
    """The first tensor that went into a kernel."""
    found = inputs(call)
    if not found:
        raise UnreadableError("no tensor went in")
    return found[0]


def output(call: KernelCall) -> TensorInfo:
    """The first tensor that came out of a kernel; of one that writes into its first argument, that."""
    found = tensors(call.output)
    return found[0] if found else first_input(call)


def packed(value: Value) -> tuple[TensorInfo, bool]:
    """The weight of a packed object of quantized operators, and whether it has a bias."""
    if not isinstance(value, ObjectInfo) or not value.items or not isinstance(value.items[0], TensorInfo):
        raise UnreadableError(f"expected a packed weight, not {value!r}")
    return value.items[0], any(isinstance(item, TensorInfo) for item in value.items[1:])


def sizes(value: Value) -> tuple[int, ...]:
    """A list of integers, as a tuple."""
    items = value.items if isinstance(value, ListInfo) else value if isinstance(value, tuple) else (value,)
    return tuple(item for item in items if isinstance(item, int))


def wanted(call: KernelCall, position: int, name: str = "output_mask") -> tuple[bool, ...]:
    """Which of the gradients that a kernel can give are asked for; all of them where it is not told."""
    mask = argument(call, position, name, (True, True, True))
    return tuple(map(bool, mask.items if isinstance(mask, ListInfo) else mask))


def per_output(entry: str, times: int = 1) -> Rule:
    """The rule of kernels whose work is so much for each element of their output."""

    def rule(call: KernelCall) -> Cost:
        return Cost(0, {entry: times * output(call).numel})

    return rule


def per_input(entry: str, times: int = 1) -> Rule:
    """The rule of kernels whose work is so much for each element of their first input."""

    def rule(call: KernelCall) -> Cost:
        return Cost(0, {entry: times * first_input(call).numel})

    return rule


def table(*groups: tuple[str, str, Rule]) -> dict[str, Rule]:
    """Rules by operator, from groups of (namespace, names, rule); a name that stands twice is refused.

    >>> sorted(table(("aten", "relu gelu", per_output("activation"))))
    ['aten.gelu', 'aten.relu']
    """
    rules: dict[str, Rule] = {}
    for namespace, names, rule in groups:
        for name in names.split():
            full = f"{namespace}.{name}"
            if full in rules:
                raise RuntimeError(f"two rules for the kernel {full}")
            rules[full] = rule
    return rules
