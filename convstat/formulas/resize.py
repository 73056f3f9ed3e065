"""Interpolation: how large the result is, and how many elements it reads."""

from __future__ import annotations

from math import floor, prod

from convstat.formulas.conv import Sizes
from convstat.formulas.pool import adaptive_reads
from convstat.formulas.symbolic import Symbolic

TAPS = {"nearest": 1, "nearest-exact": 1, "linear": 2, "bilinear": 4, "bicubic": 16, "trilinear": 8}
"""Input elements that one output element is made of: 1, or 2 (cubic: 4) along each dimension."""


def resize_out(size: int, scale: float) -> int:
    """The output size along one dimension: the scaled size, rounded down, in the double precision that torch uses.

    >>> resize_out(7, 2.5)
    17
    """
    return size.scaled(scale) if isinstance(size, Symbolic) else floor(size * scale)


def resize_reads(mode: str, planes: int, size: Sizes, out: Sizes) -> int:
    """The elements that an interpolation reads, over ``planes`` planes (batch times channels).

    Every output element reads as many as its mode has taps.
    ``area`` is an adaptive average pooling, so there it is the sum of the windows.

    >>> resize_reads("bilinear", 3, (112, 112), (224, 224)) == 3 * 224 * 224 * 4
    True
    """
    if mode == "area":
        return adaptive_reads(planes, size, out)
    return planes * prod(out) * TAPS[mode]
