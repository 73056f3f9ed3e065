"""Formulas in letters: what the rules of the layers come to where a size is a letter.

The rules are written once, for integers. Run on :class:`convstat.formulas.symbolic.numbers.Number`, which is an amount
together with its polynomial, they leave the polynomial of their result, and what it rests on.
Here is the little that a rule must know of that: it costs nothing where all sizes are integers.
"""

from __future__ import annotations

from math import gcd
from typing import Any


class Symbolic:
    """A number with a formula; the class that does the work is not imported until there are letters."""

    __slots__ = ()

    def is_whole(self) -> bool:
        """Whether it is an integer, which the formula then rests on."""
        raise NotImplementedError

    def smaller(self, other: Any) -> Any:
        """The smaller of two numbers."""
        raise NotImplementedError

    def larger(self, other: Any) -> Any:
        """The larger of two numbers."""
        raise NotImplementedError

    def divisor(self, other: Any) -> Any:
        """The greatest common divisor."""
        raise NotImplementedError

    def scaled(self, scale: float) -> Any:
        """The product with a floating-point number, rounded down."""
        raise NotImplementedError

    def rounded_to_8(self) -> Any:
        """The multiple of 8 that the MobileNets take."""
        raise NotImplementedError

    @property
    def amount(self) -> Any:
        """The number alone; whoever reads it must check what follows from it by comparing numbers with formulas."""
        raise NotImplementedError


def is_integer(value: object) -> bool:
    """Whether a value is an integer, and no bool.

    >>> is_integer(3), is_integer(True), is_integer(0.5)
    (True, False, False)
    """
    if isinstance(value, Symbolic):
        return value.is_whole()
    return isinstance(value, int) and not isinstance(value, bool)


def amount(value: Any) -> Any:
    """The number alone of what may have a formula."""
    return value.amount if isinstance(value, Symbolic) else value


def smallest(*values: Any) -> Any:
    """``min`` of numbers, one formula whichever it is.

    >>> smallest(3, 1, 2)
    1
    """
    if not any(isinstance(value, Symbolic) for value in values):
        return min(values)
    found = values[0]
    for value in values[1:]:
        found = found.smaller(value) if isinstance(found, Symbolic) else _smaller(value, found)
    return found


def largest(*values: Any) -> Any:
    """``max`` of numbers, one formula whichever it is.

    >>> largest(3, 1, 2)
    3
    """
    if not any(isinstance(value, Symbolic) for value in values):
        return max(values)
    found = values[0]
    for value in values[1:]:
        found = found.larger(value) if isinstance(found, Symbolic) else _larger(value, found)
    return found


def _smaller(value: Any, other: Any) -> Any:
    return value.smaller(other) if isinstance(value, Symbolic) else min(other, value)


def _larger(value: Any, other: Any) -> Any:
    return value.larger(other) if isinstance(value, Symbolic) else max(other, value)


def common_divisor(first: int, second: int) -> int:
    """The greatest common divisor.

    >>> common_divisor(12, 18)
    6
    """
    for one, other in ((first, second), (second, first)):
        if isinstance(one, Symbolic):
            found: int = one.divisor(other)
            return found
    return gcd(first, second)
