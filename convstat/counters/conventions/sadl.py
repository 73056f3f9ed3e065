"""SADL, the inference library of JVET's neural codecs: it counts the multiplications that its generic loops execute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.counters.conventions.base import Convention, without_params
from convstat.counters.conventions.convolution import KERNELS, Convolution
from convstat.counters.conventions.recurrent import products_alone
from convstat.counters.conventions.rules import (
    EVERY_PRODUCT,
    MULTIPLICATIONS,
    convolutions,
    elements,
    for_each,
    inside,
    kernels,
    table,
)
from convstat.counters.kernel_walk import Part, walk
from convstat.counters.products import fused_modules
from convstat.trace import KernelCall

if TYPE_CHECKING:
    from convstat.counters.base import Prediction
    from convstat.trace import Trace


def _convolution(call: KernelCall) -> list[Part]:
    # A transposed convolution is scattered into a larger picture and cropped afterwards, so all taps are executed.
    convolution = Convolution.of(call)
    return [(None, convolution.products)] if convolution.is_transposed else inside(call)


RULES = table(
    EVERY_PRODUCT,
    convolutions(_convolution),
    kernels(MULTIPLICATIONS, for_each("multiplications")),
    kernels("upsample_bilinear2d", for_each("upsample_bilinear", 4)),
    kernels("upsample_bicubic2d", for_each("upsample_bicubic", 16)),
    kernels("grid_sampler_2d grid_sampler", for_each("grid_points", 4)),
)
"""Kernel -> what SADL executes. Biases, sums, poolings and ReLU multiply nothing."""


class Sadl(Convention):
    """The line ``MACs`` of SADL's debug build."""

    name = "sadl"
    as_exported = True
    unit = "multiplications that are executed: those of convolutions inside the picture, products and mul"
    source = "SADL (JVET-W0181), COUNTERS_MAC in the generic layers"
    counts = (
        "multiplications of convolutions whose tap is inside the picture, of matrix products, of mul and of bilinear "
        "and bicubic sampling, without bias"
    )
    defects = (
        "The negative inputs of a PReLU, each of which is one multiplication, depend on values and are left out.",
        "The line 'MACs non 0' also leaves out weights that are zero, which depends on values.",
        "Later versions count the taps on padding, and all elements of a PReLU, in the line 'MACs': the native figure.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Price what the loops over taps execute."""
        terms = walk(trace, products_alone(RULES, trace))
        skipped = sum(_skipped(call) for call, _ in trace.kernels() if not call.third > 1)
        return without_params(terms, {"macs_with_padding": terms.macs + skipped}, fused=fused_modules(trace))


def _skipped(call: KernelCall) -> int:
    """What the loops pass over, and the later versions count."""
    if call.op in KERNELS:
        convolution = Convolution.of(call)
        return 0 if convolution.is_transposed else convolution.products - convolution.products_inside
    return elements(call) if call.op == "aten._prelu_kernel" else 0


SADL = Sadl()
