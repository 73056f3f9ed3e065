"""Price the operators of a traced graph by the rules of a counter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from convstat.counters.base import Ledger, PredictedFailure
from convstat.counters.jit.graph import OperatorCall, operators_of
from convstat.counters.ptflops.pytorch import PRODUCTS
from convstat.trace import Trace

Priced = tuple[list[tuple[str | None, int]], str | None]
"""The parts of a price, each with the code of its cause; and the code of what is wrong with the layer's products."""

_NAMES = """
conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc
linear bilinear matmul mm bmm mv addmm addmv addbmm baddbmm dot vdot inner outer kron einsum tensordot cdist
chain_matmul linalg_multi_dot scaled_dot_product_attention
lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
"""
_PRODUCTS = frozenset(_NAMES.split())
"""Operators that multiply and accumulate."""


def walk(trace: Trace, rules: Mapping[str, Callable[[OperatorCall], Priced]]) -> tuple[Ledger, dict[str, str]]:
    """Price every operator that is part of the graph; say why where a layer's products are missed or mispriced."""
    terms = Ledger()
    because: dict[str, str] = {}
    priced: set[str] = set()
    for call in operators_of(trace):
        rule = rules.get(call.op)
        if not call.used:
            if rule is not None or call.op in _PRODUCTS:
                because.setdefault(call.layer, "dead_code")
        elif rule is not None:
            parts, why = rule(call)
            for code, amount in parts:
                terms.add(call.layer, code, macs=amount)
                if code is None:
                    priced.add(call.layer)
            if why is not None:
                because.setdefault(call.layer, why)
        elif call.op in ("PythonOp", "CallFunction"):
            because.setdefault(call.layer, "inside_function")
        elif call.op.startswith(("_native_multi_head_attention", "_transformer_encoder_layer_fwd")):
            because.setdefault(call.layer, "fused_kernel")
        elif call.op in _PRODUCTS:
            because.setdefault(call.layer, "kernel_unseen")
    for kernel, owner in trace.kernels():
        if kernel.op in PRODUCTS and owner.path not in priced:
            because.setdefault(owner.path, "kernel_unseen")
    return terms, because


def convolved(call: OperatorCall, *, transposed: bool) -> int:
    """The products of a convolution: one for each weight and place, of the input where it is transposed."""
    weight, source = call.shape(1, "weight"), call.shape(0, "input")
    places = source if transposed else call.output_shape()
    spatial = len(weight) - 2
    batch = prod(places[: len(places) - spatial - 1])
    # A product of complex numbers is made of three real ones.
    times = 3 if is_complex(call) else 1
    return times * batch * prod(weight) * prod(places[len(places) - spatial :])


def is_complex(call: OperatorCall) -> bool:
    """Whether a convolution has complex weights."""
    weight = call.argument(1, "weight")
    return getattr(weight, "dtype", "").startswith("complex")


def enter_parameters(trace: Trace, terms: Ledger) -> None:
    """Enter every parameter of the model once."""
    seen: set[int] = set()
    for info in trace.modules:
        for parameter in info.parameters:
            if info.registered and parameter.key not in seen:
                seen.add(parameter.key)
                terms.add(info.path, None, params=parameter.numel)


__all__ = ["PredictedFailure", "Priced", "convolved", "enter_parameters", "is_complex", "walk"]
