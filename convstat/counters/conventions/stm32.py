"""ST Edge AI (formerly X-CUBE-AI): the MACC of its report on a network for a microcontroller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convstat.counters.conventions.base import Convention, without_params
from convstat.counters.conventions.convolution import Convolution
from convstat.counters.conventions.folding import Folded, folded
from convstat.counters.conventions.recurrent import products_alone
from convstat.counters.conventions.rules import (
    AVERAGE_POOLS,
    EVERY_PRODUCT,
    GLOBAL_AVERAGES,
    MAX_POOLS,
    SOFTMAXES,
    convolutions,
    elements,
    for_each,
    for_each_tap,
    kernels,
    source_elements,
    table,
)
from convstat.counters.kernel_walk import Part, Rule, walk
from convstat.counters.products import fused_modules, products
from convstat.trace import KernelCall

if TYPE_CHECKING:
    from convstat.counters.base import Prediction
    from convstat.trace import Trace

SIGMOID, SOFTMAX = 10, 15
"""The operations of an element."""


def rules(trace: Trace) -> Mapping[str, Rule]:
    """What is counted in a network whose batch norms are folded into the weights before them."""
    found = folded(trace)
    return table(
        EVERY_PRODUCT,
        convolutions(lambda call: _convolution(call, found)),
        kernels("addmm", lambda call: [(None, products(call)), ("bias", elements(call))]),
        kernels("mm", lambda call: [(None, products(call)), ("bias", _folded_bias(call, found))]),
        kernels("relu", for_each("activation")),
        kernels("sigmoid", for_each("activation_steps", SIGMOID)),
        kernels(SOFTMAXES, for_each("activation_steps", SOFTMAX)),
        kernels(f"{MAX_POOLS} {AVERAGE_POOLS}", for_each_tap("pool_window")),
        kernels(GLOBAL_AVERAGES, lambda call: [("pool", source_elements(call))]),
    )


def _convolution(call: KernelCall, found: Folded) -> list[Part]:
    convolution = Convolution.of(call)
    is_biased = convolution.has_bias or id(call) in found.biased
    bias = convolution.output[0] * convolution.output[1] if is_biased else 0
    return [(None, convolution.products), ("bias_channels", bias)]


def _folded_bias(call: KernelCall, found: Folded) -> int:
    return elements(call) if id(call) in found.biased else 0


class Stm32(Convention):
    """The sum of the column ``#op`` of the report, or of ``macc`` in earlier versions."""

    name = "stm32"
    as_exported = True
    unit = "MACs, one per channel with a bias, and the operations of ReLU, sigmoid, softmax and pooling"
    source = "ST Edge AI / X-CUBE-AI 5 to 10, as in its reports on float networks"
    counts = (
        "MACs, one operation per output channel with a bias, per element of a ReLU and per tap of a pooling, 10 per "
        "element of a sigmoid and 15 per element of a softmax"
    )
    defects = (
        "A bias of a convolution is counted once per channel, and not once per output element.",
        "In int8 networks, a ReLU is a part of the layer before it and costs nothing.",
        "Other operators, such as element-wise additions, have no published price and cost nothing here.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Price the operators of the network that is deployed."""
        return without_params(walk(trace, products_alone(rules(trace), trace)), fused=fused_modules(trace))


STM32 = Stm32()
