"""FlopCounterMode: the counter that ships with torch. It prices kernels, in FLOPs, and counts no parameters."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from convstat.counters.adapter import Adapter, asking
from convstat.counters.base import PredictedFailure, Prediction, Reported
from convstat.counters.capture import first_line
from convstat.counters.inputs import keywords_of
from convstat.counters.kernel_walk import (
    ATTENTION,
    Part,
    Rule,
    convolved,
    shape_of,
    takes_jagged,
    walk,
    why_other_kernels,
)
from convstat.counters.products import fused_modules
from convstat.trace import KernelCall
from convstat.trace.calls import higher_order
from convstat.trace.walks import MODULE_TRACKER

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


class FlopCounter(Adapter):
    """``torch.utils.flop_counter.FlopCounterMode`` around one forward pass."""

    name = "flopcountermode"
    walks = (MODULE_TRACKER,)
    distribution = "torch"
    unit = "MACs of convolutions and matrix products: half of the FLOPs that it reports"
    help = "pip install torch"
    counts = "two FLOPs per product of the convolution, matrix product and attention kernels that torch dispatches"
    defects: tuple[str, ...] = (
        "Has no formula for fused attention on a CPU before torch 2.15, so scaled_dot_product_attention counts nothing "
        "there.",
        "Has no formula for the fused kernels of MultiheadAttention and TransformerEncoderLayer, and of an LSTM on "
        "the CPU.",
        "Silently counts nothing for any other kernel without a formula, such as those of mv and dot.",
        "Overcounts the weight gradient of a grouped convolution by a factor of the number of groups.",
    )

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Count one forward pass."""
        from torch.utils.flop_counter import FlopCounterMode

        with asking(model), FlopCounterMode(display=False) as counting:
            model(*inputs, **keywords_of(inputs))
        flops = int(counting.get_total_flops())
        # Each of its rules ends in "* 2": one for the product and one for the sum.
        return Reported(macs=flops // 2, native={"flops": flops})

    def walk(self, trace: Trace) -> Prediction:
        """Walk the kernels of the trace by its rules."""
        if takes_jagged(trace):
            raise PredictedFailure(
                "TypeError: Multiple dispatch failed for 'torch._ops.aten.sym_is_contiguous.default'"
            )
        terms = walk(trace, _rules(), into=_INTO)
        return Prediction(None, terms.macs, terms.terms(), fused=fused_modules(trace))

    def why_not_meta(self, trace: Trace) -> str | None:
        """Attention and recurrent layers run other kernels there."""
        return why_other_kernels(trace)

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It hooks no module of the model, which matters to transformer layers: they choose kernels by their hooks.

        It lets operators that take functions, but for ``cond``, give nothing: the model may fail on that.
        """
        from convstat.trace.record import record

        if not set(_INTO).issuperset(higher_order(trace)):
            try:
                record(model, inputs, keywords_of(inputs), into=_INTO)
            except Exception as error:
                raise PredictedFailure(first_line(error)) from error
        kinds = {info.type.rpartition(".")[2] for info in trace.modules}
        if trace.device == "meta" or kinds.isdisjoint(ATTENTION):
            return trace
        return record(model, inputs, keywords_of(inputs), hooked=())


_INTO = ("cond",)
"""The operators that take functions into which it looks; it hands the model a NotImplemented for what others give."""


def _mm(call: KernelCall) -> list[Part]:
    return [(None, prod(shape_of(call, 0)) * shape_of(call, 1)[-1])]


def _addmm(call: KernelCall) -> list[Part]:
    return [(None, prod(shape_of(call, 1)) * shape_of(call, 2)[-1])]


def _convolution(call: KernelCall) -> list[Part]:
    return [(None, convolved(call))]


def _attention(call: KernelCall) -> list[Part]:
    # A mask that hides half of the keys halves nothing.
    (batch, heads, queries, width), keys = shape_of(call, 0), shape_of(call, 1)[2]
    return [(None, batch * heads * queries * keys * (width + shape_of(call, 2)[3]))]


ON_CPU = "aten._scaled_dot_product_flash_attention_for_cpu"
"""Fused attention on a CPU, which newer versions have a formula for."""

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "aten.mm": _mm,
        "aten._scaled_mm": _mm,
        "aten.bmm": _mm,
        "aten.addmm": _addmm,
        "aten.baddbmm": _addmm,
        "aten.convolution": _convolution,
        "aten._convolution": _convolution,
        "aten.convolution_overrideable": _convolution,
        "aten._scaled_dot_product_flash_attention": _attention,
        "aten._scaled_dot_product_efficient_attention": _attention,
        "aten._scaled_dot_product_cudnn_attention": _attention,
        ON_CPU: _attention,
    }
)
"""Kernel -> its products; each is two FLOPs."""


def _rules() -> Mapping[str, Rule]:
    """Those that the installed version has."""
    import torch
    from torch.utils.flop_counter import flop_registry

    if torch.ops.aten._scaled_dot_product_flash_attention_for_cpu in flop_registry:
        return RULES
    return {name: rule for name, rule in RULES.items() if name != ON_CPU}


FLOP_COUNTER = FlopCounter()
