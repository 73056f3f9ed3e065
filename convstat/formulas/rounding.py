"""Widths that are rounded."""

from __future__ import annotations

from fractions import Fraction

from convstat.formulas.symbolic import Symbolic


def round8(value: int | Fraction) -> int:
    """Round a width to a multiple of 8, at least 8 and never below 90 % of it.

    The rule of the MobileNets (``make_divisible`` in tensorflow/models, research/slim/nets/mobilenet/mobilenet.py):
    round to the nearest multiple, halves up, and go one up where that lost more than a tenth.

    >>> round8(Fraction(32 * 3, 4)), round8(1), round8(11), round8(10)
    (24, 8, 16, 16)
    """
    if isinstance(value, Symbolic):
        found: int = value.rounded_to_8()
        return found
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if 10 * rounded < 9 * value else rounded
