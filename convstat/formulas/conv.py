"""Convolutions and their transposes, in any number of dimensions.

Arithmetic: Dumoulin and Visin, *A guide to convolution arithmetic for deep learning* (arXiv:1603.07285).
"""

from __future__ import annotations

from math import prod

Sizes = tuple[int, ...]


def window(kernel: int, dilation: int) -> int:
    """The extent that a kernel covers, holes of the dilation included.

    Between ``kernel`` taps lie ``kernel - 1`` steps of ``dilation``.

    >>> window(3, dilation=2)
    5
    """
    return dilation * (kernel - 1) + 1


def conv_out(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """The output size of a convolution along one dimension; ``padding`` is the sum of both sides.

    The window starts at 0 and moves by ``stride`` for as long as it fits into the padded input.

    >>> conv_out(224, kernel=7, stride=2, padding=3 + 3)
    112
    """
    return (size + padding - window(kernel, dilation)) // stride + 1


def conv_transpose_out(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, output_padding: int = 0
) -> int:
    """The output size of a transposed convolution along one dimension; ``padding`` is the sum of both sides.

    ``size`` inputs stand ``stride`` apart; the last one still spreads over a whole window;
    the padding is cut off and ``output_padding`` is added.

    >>> conv_transpose_out(112, kernel=2, stride=2)
    224
    """
    return (size - 1) * stride + window(kernel, dilation) - padding + output_padding


def conv_weight(in_channels: int, out_channels: int, kernel: Sizes, groups: int = 1) -> Sizes:
    """The shape of the weight: each output channel sees the input channels of its group.

    >>> conv_weight(6, 6, (1, 1), groups=3)
    (6, 2, 1, 1)
    """
    return (out_channels, in_channels // groups, *kernel)


def conv_transpose_weight(in_channels: int, out_channels: int, kernel: Sizes, groups: int = 1) -> Sizes:
    """The shape of the weight: each input channel feeds the output channels of its group.

    >>> conv_transpose_weight(6, 4, (2, 2), groups=2)
    (6, 2, 2, 2)
    """
    return (in_channels, out_channels // groups, *kernel)


def conv_macs(in_channels: int, out_channels: int, out: Sizes, kernel: Sizes, groups: int = 1) -> int:
    """The multiply-accumulates of a convolution, for one sample.

    Every output value, of which there are ``out_channels * prod(out)``,
    sums ``prod(kernel)`` taps over the ``in_channels / groups`` channels of its group.

    >>> conv_macs(3, 64, (112, 112), (7, 7)) == 64 * 112 * 112 * 3 * 7 * 7
    True
    """
    return out_channels * prod(out) * (in_channels // groups) * prod(kernel)


def conv_transpose_macs(in_channels: int, out_channels: int, size: Sizes, kernel: Sizes, groups: int = 1) -> int:
    """The multiply-accumulates of a transposed convolution, for one sample; ``size`` is the *input's*.

    It is the convolution from ``out_channels`` to ``in_channels`` read backwards:
    every input value, of which there are ``in_channels * prod(size)``,
    is spread over ``prod(kernel)`` taps of the ``out_channels / groups`` channels of its group.
    The zeros that one may picture between the inputs are never multiplied;
    counting at output positions instead makes the figure ``prod(stride)`` times too large.

    >>> conv_transpose_macs(64, 3, (112, 112), (7, 7)) == conv_macs(3, 64, (112, 112), (7, 7))
    True
    """
    return in_channels * prod(size) * (out_channels // groups) * prod(kernel)
