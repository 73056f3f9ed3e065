"""Price the operators of a traced graph by the rules of a counter.

What the kernels of the trace multiply are the layers' own terms. The rest follows from the run in which the operators
were recorded, kernel by kernel: an operator that is priced is lined up with the kernels that ran in it, and what all
others multiply is what the counter does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from convstat.counters.base import Ledger, PredictedFailure
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.jit.graph import OperatorCall, Products, Recorded, recorded_of
from convstat.counters.products import Work
from convstat.trace import ListInfo, TensorInfo, Trace, Value

Priced = list[tuple[str | None, int]]
"""The parts of a price: without a code, what the operator multiplies as its operands tell; with one, what is priced
beside that, and why. They sum to what the counter adds."""

Rule = Callable[[OperatorCall], Priced]

_CLOSED = ("PythonOp", "CallFunction", "fork")
_FUSED = ("_native_multi_head_attention", "_transformer_encoder_layer_fwd")


def walk(trace: Trace, rules: Mapping[str, Rule]) -> Ledger:
    """Price every operator that is part of the graph, and say of what kernels multiply why it is not seen."""
    terms = Ledger()
    recorded = recorded_of(trace)
    _enter(terms, _other_way(Work(trace, terms), recorded), "other_when_traced")
    _enter(terms, recorded.threads, "other_threads", sign=-1)
    _enter(terms, recorded.outside, UNATTRIBUTED, sign=-1)
    for call in recorded.operators:
        rule = rules.get(call.op)
        if rule is None or not call.used:
            _enter(terms, call.products, _why_unseen(call), sign=-1)
            continue
        _enter(terms, call.products, UNATTRIBUTED, sign=-1)
        for code, amount in rule(call):
            terms.add(call.layer, UNATTRIBUTED if code is None else code, macs=amount)
    return terms


def _enter(terms: Ledger, products: Products, code: str, *, sign: int = 1) -> None:
    for layer, amount in products.items():
        terms.add(layer, code, macs=sign * amount)


def _why_unseen(call: OperatorCall) -> str:
    if not call.used:
        return "dead_code"
    if call.op in _CLOSED:
        return "inside_function"
    return "fused_kernel" if call.op.startswith(_FUSED) else "kernel_unseen"


def _other_way(work: Work, recorded: Recorded) -> dict[str, int]:
    """By how much the run that was recorded multiplies more than the trace, layer by layer.

    A model can ask whether it is traced, and take another way. Modules that ran as one kernel are lined up as one.
    """
    found: dict[str, int] = {}
    for products in (recorded.threads, recorded.outside, *(call.products for call in recorded.operators)):
        for layer, amount in products.items():
            found[layer] = found.get(layer, 0) + amount
    for kernel in work.kernels:
        layer = next((path for path in recorded.fused if _holds(path, kernel.layer)), kernel.layer)
        found[layer] = found.get(layer, 0) - kernel.products
    return found


def _holds(path: str, layer: str) -> bool:
    return not path or layer == path or layer.startswith(f"{path}.")


def convolved(call: OperatorCall, *, transposed: bool) -> int:
    """The products of a convolution: one for each weight and place, of the input where it is transposed."""
    weight, source = call.shape(1, "weight"), call.shape(0, "input")
    places = source if transposed else call.output_shape()
    spatial = len(weight) - 2
    batch = prod(places[: len(places) - spatial - 1])
    return batch * prod(weight) * prod(places[len(places) - spatial :])


def is_complex(call: OperatorCall) -> bool:
    """Whether a convolution has complex weights."""
    weight = call.argument(1, "weight")
    return getattr(weight, "dtype", "").startswith("complex")


def in_words(call: OperatorCall) -> bool:
    """Whether the padding of a convolution is a word: it is another operator then, which no counter has a rule for."""
    return isinstance(call.argument(4, "padding"), str)


def einsum_of(call: OperatorCall) -> tuple[str, list[tuple[int, ...]], tuple[int, ...]]:
    """The equation of an einsum, the shapes of its operands, and the order of contraction if it was chosen."""
    equation, operands, path = call.argument(0, "equation"), call.argument(1, "operands"), call.argument(2, "path")
    if not isinstance(equation, str) or not isinstance(operands, (ListInfo, tuple)):
        raise PredictedFailure("TypeError: einsum without an equation")
    shapes = [item.shape for item in items_of(operands) if isinstance(item, TensorInfo)]
    return equation, shapes, tuple(place for place in items_of(path) if isinstance(place, int))


def items_of(value: Value) -> tuple[Value, ...]:
    """The items of a list or tuple; none of anything else."""
    return value.items if isinstance(value, ListInfo) else value if isinstance(value, tuple) else ()


def cell_layers(call: OperatorCall) -> list[tuple[tuple[int, ...], int]]:
    """The two linear layers that a recurrent cell is taken apart into before it is recorded: inputs, and features."""
    hidden = call.argument(1, "hx")
    if isinstance(hidden, (ListInfo, tuple)):
        hidden = items_of(hidden)[0]
    if not isinstance(hidden, TensorInfo):
        raise PredictedFailure(f"TypeError: the state of {call.op} has no shape")
    return [(call.shape(0, "input"), call.shape(2, "w_ih")[0]), (hidden.shape, call.shape(3, "w_hh")[0])]


def cell_products(call: OperatorCall) -> int:
    """The products of a recurrent cell."""
    return sum(prod(shape) * features for shape, features in cell_layers(call))
