"""QONNX: the inference cost of quantized networks, in MACs and in bit operations."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from convstat.counters.base import Prediction
from convstat.counters.conventions.base import Convention, without_params
from convstat.counters.conventions.convolution import KERNELS, Convolution
from convstat.counters.conventions.recurrent import is_recurrent
from convstat.counters.conventions.rules import EVERY_PRODUCT, convolutions, table
from convstat.counters.kernel_walk import Part, walk
from convstat.counters.products import fused_modules, products
from convstat.trace import KernelCall, ModuleInfo, Trace

if TYPE_CHECKING:
    from convstat.results.report import Report

_WEIGHTED = frozenset((*KERNELS, "aten.addmm", "aten.mm", "aten.linear", "aten.addmv", "aten.mv"))
"""Kernels with a weight; the others multiply activations with each other."""


def _convolution(call: KernelCall) -> list[Part]:
    convolution = Convolution.of(call)
    own = convolution.products
    return [(None, own), ("no_rule", -own if convolution.is_transposed else 0)]


RULES = table(EVERY_PRODUCT, convolutions(_convolution))


class Qonnx(Convention):
    """``qonnx.util.inference_cost``, dense: ``total_macs`` and ``total_bops``."""

    name = "qonnx"
    as_exported = True
    unit = "MACs of convolutions and matrix products"
    source = "QONNX 1.0, analysis/inference_cost.py and util/inference_cost.py"
    counts = (
        "MACs of convolutions and matrix products and, as the native figure, bit operations: each MAC times the bits "
        "of its weight and of its activation, by --weights and --activations"
    )
    defects = (
        "By default, QONNX multiplies by the share of weights that are not zero, which depends on values.",
        "Transposed convolutions and recurrent layers cost nothing, and neither do poolings, additions and norms.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Price the products."""
        return without_params(walk(trace, RULES, unseen=_unseen), fused=fused_modules(trace))

    def in_widths(self, prediction: Prediction, trace: Trace, report: Report) -> Prediction:
        """Add the bit operations, by the widths that a report is in; a float has as many bits as it is stored in."""
        if prediction.failure is not None:
            return prediction
        model = report.model
        activations = _bits(model.activations or model.dtype)
        usual = _bits(model.weights or model.dtype)
        own = {row.name: _bits(row.weights) for row in report.layers if row.weights is not None}
        operations = 0
        for call, owner in trace.kernels():
            if _unseen(owner) is not None or call.third > 1:
                continue
            macs = sum(amount for _, amount in _convolution(call)) if call.op in KERNELS else products(call)
            weights = own.get(owner.path, usual) if call.op in _WEIGHTED else activations
            operations += macs * weights * activations
        return replace(prediction, native={"bit_operations": operations})


def _unseen(info: ModuleInfo) -> str | None:
    return "no_rule" if is_recurrent(info) else None


def _bits(name: str) -> int:
    """The bits of a type, as its name says: that of the weights, where there is one of the biases too."""
    found = re.search(r"\d+", name)
    return int(found[0]) if found is not None else 32


QONNX = Qonnx()
