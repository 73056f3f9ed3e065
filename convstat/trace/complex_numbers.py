"""Tell the convolutions of complex numbers, which torch takes apart before a kernel is called.

It makes three convolutions of real numbers: of the real parts, of the imaginary parts, and of their sums
(``complex_convolution`` in aten/src/ATen/native/Convolution.cpp). Products of complex matrices stay what they are.
"""

from __future__ import annotations

from collections.abc import Reversible
from itertools import islice

from convstat.trace.calls import Call, KernelCall

CONVOLUTIONS = ("aten.convolution", "aten.convolution_overrideable")
_BACK = ("aten.convolution_backward", "aten.convolution_backward_overrideable")
_PARTED = ("aten.view_as_real", "aten.select", "aten.select")


def is_back(op: str) -> bool:
    """Whether a kernel goes back through a convolution."""
    return op in _BACK


def third(op: str, before: Reversible[Call]) -> int:
    """Which of the three convolutions a kernel is, by the kernels before it; 0 where it is none of them.

    >>> parted = [KernelCall(name, "", ()) for name in _PARTED]
    >>> third("aten.convolution", parted + parted), third("aten.convolution", parted)
    (1, 0)
    >>> first, sums = KernelCall("aten.convolution", "", (), third=1), [KernelCall("aten.add", "", ())] * 2
    >>> third("aten.convolution", [first])
    2
    >>> third("aten.convolution", [first, KernelCall("aten.convolution", "", (), third=2), *sums])
    3
    """
    if op not in CONVOLUTIONS:
        return 0
    # The sums of input and weight, and of the bias where there is one; each convolution may pad first.
    recent = [call for call in islice(reversed(before), 12) if isinstance(call, KernelCall)]
    last = [call for call in reversed(recent) if call.op != "aten.constant_pad_nd"]
    if last and last[-1].third == 1:
        return 2
    sums = 0
    while sums < len(last) and last[-1 - sums].op == "aten.add":
        sums += 1
    if sums in (2, 3) and sums < len(last) and last[-1 - sums].third == 2:
        return 3
    return int(tuple(call.op for call in last[-6:]) == _PARTED * 2)


__all__ = ["CONVOLUTIONS", "is_back", "third"]
