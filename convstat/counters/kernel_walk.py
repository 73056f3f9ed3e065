"""Predict a counter that prices kernels, and nothing else, where torch dispatches them: the walk and its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from convstat.counters.base import Ledger, PredictedFailure
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.products import products, ruled
from convstat.trace import Call, FunctionCall, KernelCall, ModuleInfo, TensorInfo, Trace
from convstat.trace.calls import HIGHER_ORDER, higher_order, jagged

Part = tuple[str | None, int]
Rule = Callable[[KernelCall], list[Part]]

ATTENTION = ("MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer")
_RECURRENT = ("RNN", "GRU", "LSTM")
_FUSED = ("attention", "rnn", "lstm", "gru", "transformer")


def shape_of(call: KernelCall, position: int) -> tuple[int, ...]:
    """The shape of one of the kernel's arguments."""
    value = call.args[position] if position < len(call.args) else None
    if not isinstance(value, TensorInfo):
        raise PredictedFailure(f"AttributeError: argument {position} of {call.op} is no tensor")
    return value.shape


def convolved(call: KernelCall) -> int:
    """The products of a convolution: one for each weight and place, of the input where it is transposed."""
    source, weight = shape_of(call, 0), shape_of(call, 1)
    output = call.output.shape if isinstance(call.output, TensorInfo) else ()
    transposed = call.args[6]
    return source[0] * prod(weight) * prod((source if transposed else output)[2:])


def walk(
    trace: Trace,
    rules: Mapping[str, Rule],
    *,
    into: tuple[str, ...] = (),
    unseen: Callable[[ModuleInfo], str | None] = lambda info: None,
) -> Ledger:
    """Price every kernel that has a rule; what kernels without one multiply is not seen.

    Of operators that take functions, a counter sees those kernels that run ``into`` it, and none in the others.
    Of the modules that are ``unseen``, it sees nothing, for the reason that is given.
    """
    terms = Ledger()
    functions, inside = ruled(trace)
    apart = _apart(trace, into)
    for function, layer in functions:
        terms.add(layer, None, macs=products(function))
        terms.add(layer, "functional_unseen", macs=-products(function))
    for call, owner in trace.kernels():
        own, rule = products(call), rules.get(call.op)
        if id(call) in inside:
            # convstat counts the function around it, by its rule.
            terms.add(owner.path, "inside_ruled", macs=sum(amount for _, amount in rule(call)) if rule else 0)
            continue
        terms.add(owner.path, None, macs=own)
        if call.in_thread:
            terms.add(owner.path, "other_threads", macs=-own)
            continue
        if (why := apart.get(id(call)) or unseen(owner)) is not None:
            terms.add(owner.path, why, macs=-own)
            continue
        if rule is None:
            is_fused = any(word in call.op for word in _FUSED)
            terms.add(owner.path, "fused_kernel" if is_fused else "kernel_unseen", macs=-own)
            continue
        for code, amount in rule(call):
            if code is None:
                # Its rule and ours are both of the kernel's products.
                terms.add(owner.path, "complex_products" if call.third > 1 else UNATTRIBUTED, macs=amount - own)
            else:
                terms.add(owner.path, code, macs=amount)
    return terms


def _apart(trace: Trace, into: tuple[str, ...]) -> dict[int, str]:
    """The kernels, by id, that run where a mode does not see them, and why.

    They are inside of operators that take functions, but for those that the counter looks into, or are what jagged
    tensors do with the values of all their samples.
    """
    found: dict[int, str] = {}
    stack: list[tuple[Call, str]] = [(trace.root, "")]
    while stack:
        call, why = stack.pop()
        if isinstance(call, KernelCall):
            if why:
                found[id(call)] = why
            continue
        if isinstance(call, FunctionCall) and not why:
            if call.name.startswith(HIGHER_ORDER) and call.name.removeprefix(HIGHER_ORDER) not in into:
                why = "higher_order"
            elif any(jagged(value) for value in call.args):
                why = "kernel_unseen"
        stack.extend((child, why) for child in call.children)
    return found


def takes_jagged(trace: Trace) -> bool:
    """Whether the model gets jagged tensors."""
    return any(jagged(value) for value in (*trace.root.args, *trace.root.kwargs.values()))


def refuse_higher_order(trace: Trace) -> None:
    """Fail as torch does where a mode knows nothing of operators that take functions, and one is called."""
    if names := higher_order(trace):
        raise PredictedFailure(f"NotImplementedError: There was no rule registered for HigherOrderOperator {names[0]}")


def why_other_kernels(trace: Trace) -> str | None:
    """Attention, recurrent layers and custom operators run something else on meta than on a real device."""
    for info in trace.modules:
        kind = info.type.rpartition(".")[2]
        if kind in (*ATTENTION, *_RECURRENT):
            return f"{kind} runs other kernels on the meta device"
    is_attention = any("attention" in call.op or call.op == "aten._safe_softmax" for call, _ in trace.kernels())
    # Before torch 2.5, its kernels on meta are those of any softmax.
    if is_attention or any(call.name.endswith("scaled_dot_product_attention") for call in trace.functions()):
        return "scaled dot-product attention runs other kernels on the meta device"
    return why_other_functions(trace)


def why_other_functions(trace: Trace) -> str | None:
    """A custom operator may call functions that counters replace; on meta, what stands in for it runs."""
    for call, _ in trace.kernels():
        if is_custom(call):
            return f"the operator {call.op} does something else on the meta device"
    return None


_OF_TORCH = ("aten", "prim", "prims", "quantized", "_quantized", "mkldnn", "mkldnn_prepacked", "sparse", "torchvision")


def is_custom(call: KernelCall) -> bool:
    """Whether an operator is neither torch's nor torchvision's; such a one may be written in Python.

    >>> is_custom(KernelCall("mylib.cross", "default", ())), is_custom(KernelCall("aten.mm", "default", ()))
    (True, False)
    """
    return call.op.partition(".")[0] not in _OF_TORCH
