"""Windows that slide over an input, and windows that adapt to it."""

from __future__ import annotations

from math import prod

from convstat.formulas.conv import Sizes, window
from convstat.formulas.symbolic import common_divisor, smallest


def pool_out(size: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1, ceil_mode: bool = False) -> int:
    """The output size of a pooling along one dimension; ``padding`` is that of one side.

    The window starts at 0 and moves by ``stride`` for as long as it fits into the padded input.
    With ``ceil_mode`` a last window may hang over the end,
    unless it would start in the right padding and so see no input at all:
    there are no more than start before that.

    >>> pool_out(112, kernel=3, stride=2, padding=1)
    56
    >>> pool_out(54, kernel=3, stride=2, ceil_mode=True)
    27
    """
    room = size + 2 * padding - window(kernel, dilation)
    if not ceil_mode:
        return room // stride + 1
    out: int = smallest(-(-room // stride) + 1, -(-(size + padding) // stride))
    return out


def pool_reads(outputs: int, kernel: Sizes) -> int:
    """The elements that pooling windows read: all taps of all windows, those on padding included.

    >>> pool_reads(64 * 56 * 56, (3, 3)) == 64 * 56 * 56 * 3 * 3
    True
    """
    return outputs * prod(kernel)


def adaptive_windows(size: int, out: int) -> int:
    """The sum of the lengths of the ``out`` windows that share an input of ``size`` elements.

    Window ``i`` reaches from ``floor(i * size / out)`` to ``ceil((i + 1) * size / out)``.
    Where a boundary between two windows falls inside an element, both read that element;
    of the ``out - 1`` inner boundaries, ``gcd(size, out) - 1`` fall between elements.
    So the lengths sum to ``size + (out - 1) - (gcd(size, out) - 1)``.

    >>> [(i * 5 // 3, -(-(i + 1) * 5 // 3)) for i in range(3)]
    [(0, 2), (1, 4), (3, 5)]
    >>> adaptive_windows(5, 3) == 2 + 3 + 2
    True
    """
    return size + out - common_divisor(size, out)


def adaptive_reads(planes: int, size: Sizes, out: Sizes) -> int:
    """The elements that the windows of an adaptive pooling read, over ``planes`` planes (batch times channels).

    A window is a product of intervals, so the sum of its sizes is the product of the sums.

    >>> adaptive_reads(512, (7, 7), (1, 1)) == 512 * 7 * 7
    True
    """
    return planes * prod(adaptive_windows(i, o) for i, o in zip(size, out, strict=True))
