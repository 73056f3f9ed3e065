"""TensorFlow Lite: the count of arithmetic operations that its converter prints, and writes into the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convstat.counters.conventions.base import Convention, without_params
from convstat.counters.conventions.convolution import Convolution
from convstat.counters.conventions.flops import count
from convstat.counters.conventions.folding import Folded, folded
from convstat.counters.conventions.recurrent import is_recurrent
from convstat.counters.conventions.rules import (
    ADDITIONS,
    AVERAGE_POOLS,
    BATCH_NORMS,
    MAX_POOLS,
    MULTIPLICATIONS,
    SOFTMAXES,
    convolutions,
    elements,
    for_each,
    for_each_tap,
    kernels,
    table,
)
from convstat.counters.kernel_walk import Part, Rule
from convstat.counters.products import fused_modules, products
from convstat.trace import KernelCall, ModuleInfo

if TYPE_CHECKING:
    from convstat.counters.base import Prediction
    from convstat.trace import Trace


def _convolution(call: KernelCall) -> list[Part]:
    return [(None, Convolution.of(call).products)]


def _product(call: KernelCall) -> list[Part]:
    return [(None, products(call))]


PRODUCTS = table(convolutions(_convolution), kernels("addmm mm linear mv addmv", _product))
"""Convolutions and fully connected layers; a product of two activations is another operator."""

ACTIVATION = 64
"""The operations of a sigmoid, a tanh or a softmax, for each element."""


def others(trace: Trace) -> Mapping[str, Rule]:
    """What is counted beside the products: the converter folds batch norms, and gives every convolution a bias."""
    found = folded(trace)
    return table(
        convolutions(_bias),
        kernels("addmm addmv", for_each("bias")),
        kernels("mm", lambda call: [("bias", elements(call) if id(call) in found.biased else 0)]),
        kernels(BATCH_NORMS, lambda call: _batch_norm(call, found)),
        kernels(f"{ADDITIONS} div", for_each("elementwise")),
        kernels(MULTIPLICATIONS, for_each("elementwise")),
        kernels(f"sigmoid tanh {SOFTMAXES} _log_softmax", for_each("activation_steps", ACTIVATION)),
        kernels("silu", for_each("activation_steps", ACTIVATION + 1)),
        kernels(f"{MAX_POOLS} {AVERAGE_POOLS}", for_each_tap("pool_window")),
    )


def _bias(call: KernelCall) -> list[Part]:
    return [("bias", 0 if Convolution.of(call).is_transposed else elements(call))]


def _batch_norm(call: KernelCall, found: Folded) -> list[Part]:
    return [("norm", 0 if id(call) in found.norms else 2 * elements(call))]


class Tflite(Convention):
    """The operator attribute ``_arithmetic_count``."""

    name = "tflite"
    as_exported = True
    unit = "half of the arithmetic operations: MACs, and half a MAC for each other operation"
    source = "TensorFlow Lite's converter, arithmetic_count_util.h and get-arithmetic-count.mlir"
    counts = (
        "two operations per multiply-accumulate of a convolution or fully connected layer, one per bias addition, "
        "addition, multiplication, division and tap of a pooling, and 64 per element of a sigmoid, tanh or softmax"
    )
    defects = (
        "A convolution without bias gets a bias of zeros, which counts.",
        "A transposed convolution has no bias to it, and ReLU and resizing cost nothing.",
        "Products of two activations, as in attention, and recurrent layers have no count.",
        "Where a size is not known, the count of an operator is -1; sizes are always known here.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Price the operators of the converted graph."""
        counted = count(trace, PRODUCTS, others(trace), unseen=_unseen)
        return without_params(counted.terms, {"arithmetic_ops": counted.operations}, fused=fused_modules(trace))


def _unseen(info: ModuleInfo) -> str | None:
    return "no_rule" if is_recurrent(info) else None


TFLITE = Tflite()
