"""XLA's cost analysis, as JAX gives it for a program that is lowered and not compiled, and Flax tabulates it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from convstat.counters.conventions.base import Convention, without_params
from convstat.counters.conventions.convolution import Convolution
from convstat.counters.conventions.flops import count
from convstat.counters.conventions.recurrent import is_recurrent
from convstat.counters.conventions.rules import (
    ADDITIONS,
    AVERAGE_POOLS,
    BATCH_NORMS,
    EVERY_PRODUCT,
    MAX_POOLS,
    MULTIPLICATIONS,
    SOFTMAXES,
    convolutions,
    elements,
    for_each,
    for_each_tap,
    inside,
    items,
    kernels,
    result,
    source_elements,
    table,
    window,
)
from convstat.counters.kernel_walk import Part
from convstat.counters.products import fused_modules, products
from convstat.trace import KernelCall, ModuleInfo, TensorInfo, Trace

if TYPE_CHECKING:
    from convstat.counters.base import Prediction

PRODUCTS = table(EVERY_PRODUCT, convolutions(inside))

ACTIVATIONS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "relu": (1, 0),
        "hardtanh": (2, 0),
        "leaky_relu": (3, 0),
        "_prelu_kernel": (3, 0),
        "hardsigmoid": (4, 0),
        "hardswish": (5, 0),
        # A sigmoid is a negation, an exponential, an addition and a division.
        "sigmoid": (3, 1),
        "silu": (4, 1),
        "tanh": (0, 1),
        "elu": (4, 1),
        "softplus": (6, 2),
    }
)
"""Kernel -> the operations and the transcendental functions of an element."""

GELU: Mapping[str, tuple[int, int]] = MappingProxyType({"none": (66, 1), "tanh": (8, 1)})
"""The same of a GELU, by its approximation: an error function is a polynomial."""

TRANSCENDENTAL = "exp log sqrt rsqrt sin cos tan erf expm1 log1p log2 pow"
"""Kernels of which an element is one function, and no operation."""


def _rows(call: KernelCall, made: TensorInfo) -> int:
    """The rows of a softmax: it is taken over one dimension."""
    axis = call.args[1] if len(call.args) > 1 else -1
    length = made.shape[axis] if isinstance(axis, int) and made.shape else 1
    return made.numel // length if length else 0


def _softmax(call: KernelCall) -> list[Part]:
    """The largest of a row, which is subtracted; then a sum, and a division or a subtraction."""
    made = result(call)
    return [] if made is None else [("activation_steps", 4 * made.numel - _rows(call, made))]


def _gelu(call: KernelCall) -> tuple[int, int]:
    return GELU["tanh" if call.kwargs.get("approximate") == "tanh" or "tanh" in call.args[1:] else "none"]


def _is_affine(call: KernelCall, place: int) -> bool:
    return place < len(call.args) and isinstance(call.args[place], TensorInfo)


def _norm(call: KernelCall) -> tuple[int, int]:
    """The operations and reciprocal square roots of a norm, as Flax writes it."""
    made, kind = result(call), call.op
    if made is None:
        return 0, 0
    scaled, shifted = (2, 3) if "layer" in kind else (1, 2)
    scale, shift = _is_affine(call, scaled), _is_affine(call, shifted)
    # The mean is subtracted, the result is multiplied, and shifted where there is something to add.
    operations = made.numel * (2 + shift)
    if "layer" in kind:
        size = 1
        for side in items(call.args[1]):
            size *= side if isinstance(side, int) else 1
        rows = made.numel // size if size else 0
        # Two means, of the values and of their squares; the variance is their difference.
        return operations + made.numel * (3 + scale) + 4 * rows, rows
    channels = made.shape[0] * made.shape[1] if "group" in kind or _in_training(call) else made.shape[1]
    if "group" in kind or _in_training(call):
        groups = made.shape[0] * _groups(call, made)
        return operations + 3 * made.numel + 3 * groups + channels * (1 + scale), channels
    return operations + channels * (1 + scale), channels


def _in_training(call: KernelCall) -> bool:
    """Whether a batch norm takes its own statistics: an instance norm is one of another shape."""
    return len(call.args) > 5 and call.args[5] is True


def _groups(call: KernelCall, made: TensorInfo) -> int:
    groups = call.args[6] if "group" in call.op and len(call.args) > 6 else made.shape[1]
    return groups if isinstance(groups, int) else 1


_NORMS = f"{BATCH_NORMS} native_layer_norm native_group_norm"

OTHERS = table(
    convolutions(lambda call: [("bias", elements(call) if Convolution.of(call).has_bias else 0)]),
    kernels("addmm", for_each("bias")),
    kernels(f"{ADDITIONS} {MULTIPLICATIONS} div neg abs maximum minimum where", for_each("elementwise")),
    kernels("lt le gt ge eq ne logical_not logical_and logical_or", for_each("elementwise")),
    kernels("clamp", for_each("elementwise", 2)),
    *(kernels(name, for_each("activation_steps", price)) for name, (price, _) in ACTIVATIONS.items()),
    kernels("gelu", lambda call: [("activation_steps", _gelu(call)[0] * elements(call))]),
    kernels(f"{SOFTMAXES} _log_softmax", _softmax),
    kernels(_NORMS, lambda call: [("norm_priced", _norm(call)[0])]),
    kernels(MAX_POOLS, lambda call: [("pool_window", (window(call) - 1) * elements(call))]),
    kernels(AVERAGE_POOLS, for_each_tap("pool_window")),
    kernels("mean", lambda call: [("reduction", source_elements(call))]),
    kernels("sum amax amin prod", lambda call: [("reduction", source_elements(call) - elements(call))]),
    # The square of a number is a product, and no power.
    kernels("pow", lambda call: [("elementwise", elements(call) if call.args[1:] == (2,) else 0)]),
)
"""Kernel -> its operations beside products."""

_FUNCTIONS: Mapping[str, Callable[[KernelCall], int]] = MappingProxyType(
    {
        **{f"aten.{name}": elements for name in TRANSCENDENTAL.split()},
        **{f"aten.{name}": elements for name in SOFTMAXES.split()},
    }
)


def transcendentals(call: KernelCall) -> int:
    """The transcendental functions of a kernel, which are counted apart."""
    name = call.op.removeprefix("aten.").removesuffix("_")
    if name == "pow" and call.args[1:] == (2,):
        return 0
    if name in _NORMS.split():
        return _norm(call)[1]
    made = result(call)
    if name == "_log_softmax" and made is not None:
        return made.numel + _rows(call, made)
    if name == "gelu":
        return _gelu(call)[1] * elements(call)
    if name in ACTIVATIONS:
        return ACTIVATIONS[name][1] * elements(call)
    known = _FUNCTIONS.get(f"aten.{name}")
    return known(call) if known is not None else 0


CELLS: Mapping[str, tuple[int, int]] = MappingProxyType({"LSTM": (21, 5), "GRU": (18, 3), "RNN": (2, 1)})
"""A recurrent layer -> the operations and functions of each element of its state in a step, as Flax writes its cell."""

COUNTER = 2
"""The operations of a loop: its counter is compared, and incremented."""


class Xla(Convention):
    """``jax.jit(f).lower(x).cost_analysis()``."""

    name = "xla"
    as_exported = True
    unit = "half of the operations: MACs inside the picture, and half a MAC for each other operation"
    source = "XLA's HloCostAnalysis, on what JAX 0.10 and Flax 0.12 lower"
    counts = (
        "two operations per tap of a convolution that is inside the picture and per multiply-accumulate of a product, "
        "one per element of an element-wise operator, and those of norms, softmax and pooling; transcendental "
        "functions are counted apart"
    )
    defects = (
        "The body of a loop is counted once, so a recurrent layer costs one step.",
        "Resizing, which JAX writes as matrix products, is not modelled and costs nothing here.",
        "A compiled program has other operators; a custom call is counted as -1.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Price the operators of the lowered program."""
        loops = _loops(trace)
        counted = count(trace, PRODUCTS, OTHERS, loops.operations, unseen=_unseen)
        for layer, macs in loops.products.items():
            counted.terms.add(layer, "loop_once", macs=macs)
        functions = loops.functions + sum(
            transcendentals(call) for call, owner in trace.kernels() if not is_recurrent(owner)
        )
        operations = counted.operations + 2 * sum(loops.products.values())
        native = {"flops": operations, "transcendentals": functions}
        return without_params(counted.terms, native, fused=fused_modules(trace))


def _unseen(info: ModuleInfo) -> str | None:
    return "loop_once" if is_recurrent(info) else None


class _Loops:
    """One step of each recurrent layer."""

    def __init__(self) -> None:
        self.products: dict[str, int] = {}
        self.operations: dict[tuple[str, str], int] = {}
        self.functions = 0


def _loops(trace: Trace) -> _Loops:
    found = _Loops()
    whole: dict[str, int] = {}
    for call, owner in trace.kernels():
        if is_recurrent(owner):
            whole[owner.path] = whole.get(owner.path, 0) + products(call)
    for layer in trace.module_calls():
        info = trace.module_of(layer)
        source = layer.args[0] if layer.args else None
        if not is_recurrent(info) or not isinstance(source, TensorInfo) or len(source.shape) != 3:
            continue
        first = bool(info.attributes.get("batch_first"))
        steps, batch = source.shape[1 if first else 0], source.shape[0 if first else 1]
        found.products[info.path] = whole.get(info.path, 0) // steps if steps else 0
        numbers = [info.attributes.get(name) for name in ("num_layers", "hidden_size")]
        layers, hidden = (number if isinstance(number, int) else 0 for number in numbers)
        layers *= 2 if info.attributes.get("bidirectional") else 1
        kind = next(name for name in CELLS if name in info.type or any(name in base for base in info.bases))
        each, functions = CELLS[kind]
        found.operations[info.path, "rnn_elementwise"] = layers * (each * batch * hidden + COUNTER)
        found.functions += layers * functions * batch * hidden
    return found


XLA = Xla()
