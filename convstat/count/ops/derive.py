"""The MACs of a kernel as a formula, for who wants to follow them; what counts is the kernel's rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from convstat.count.ops import price, registered
from convstat.count.ops.base import UnreadableError, argument, output, shape, shape_of
from convstat.formulas import derivation as derivations
from convstat.formulas.derivation import Derivation
from convstat.trace.calls import KernelCall


def derivation(call: KernelCall) -> Derivation | None:
    """The formula of a kernel, None where there is none; it comes to what the kernel's rule counts.

    Raises InconsistentError where it does not: then one of the two is wrong. A rule that was registered for the kernel
    in the place of ours has no formula.
    """
    rule = _FORMULAS.get(call.op)
    if rule is None or call.third > 1:
        return None
    try:
        found = rule(call)
    except (UnreadableError, IndexError, ValueError):
        return None
    cost = price(call)
    if cost is None or registered(call) is not None:
        return None
    return found.checked(cost.macs, call.op)


def _convolution(call: KernelCall) -> Derivation:
    source, weight, out = shape(call.args[0]), shape_of(call, 1, "weight"), output(call).shape
    groups, kernel = argument(call, 8, "groups", 1), weight[2:]
    batch = source[0] if len(source) == len(weight) else 1
    if argument(call, 6, "transposed", False):
        sizes = source[-len(kernel) :]
        return derivations.conv_transpose(batch, weight[0], weight[1] * groups, sizes, kernel, groups)
    return derivations.conv(batch, weight[1] * groups, weight[0], out[-len(kernel) :], kernel, groups)


def _product(left: int, right: int) -> Callable[[KernelCall], Derivation]:
    def formula(call: KernelCall) -> Derivation:
        return derivations.matrix_product(shape(call.args[left]), shape(call.args[right]))

    return formula


def _attention(call: KernelCall) -> Derivation:
    return derivations.scaled_attention(*(shape(call.args[place]) for place in range(3)))


_FORMULAS: Mapping[str, Callable[[KernelCall], Derivation]] = MappingProxyType(
    {
        **dict.fromkeys(("aten.convolution", "aten._convolution", "aten.convolution_overrideable"), _convolution),
        **dict.fromkeys(("aten.mm", "aten.bmm", "aten._int_mm"), _product(0, 1)),
        **dict.fromkeys(("aten.addmm", "aten.baddbmm", "aten.addbmm", "aten._addmm_activation"), _product(1, 2)),
        **dict.fromkeys(
            (
                "aten._scaled_dot_product_flash_attention_for_cpu",
                "aten._scaled_dot_product_flash_attention",
                "aten._scaled_dot_product_efficient_attention",
                "aten._scaled_dot_product_cudnn_attention",
            ),
            _attention,
        ),
    }
)
