"""Numbers with a formula: what the rules of the layers are run on to find their formulas.

A number has an amount and the polynomial that it comes from. Arithmetic works on both.
Where the code decides by a number (``if channels % groups``), the amount decides,
and the condition joins the facts that the formulas rest on: they hold wherever it does.
A function of Python that takes nothing but a plain integer (``range``) gets the amount, and the fact that it is that.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor, gcd
from typing import Any

from convstat.formulas.rounding import round8
from convstat.formulas.symbolic import Symbolic
from convstat.formulas.symbolic.facts import (
    INTEGER,
    NOT_NEGATIVE,
    NOT_ZERO,
    POSITIVE,
    ZERO,
    Condition,
    Facts,
)
from convstat.formulas.symbolic.terms import (
    DIVISOR,
    LARGEST,
    POWER,
    ROUND8,
    SCALED,
    SMALLEST,
    Exact,
    Polynomial,
)

LIMIT = 1 << 40
"""From here on, a number that another is compared with is a limit of convstat's, and none of what is computed."""

_OPPOSITE = {
    NOT_NEGATIVE: (POSITIVE, -1),
    POSITIVE: (NOT_NEGATIVE, -1),
    ZERO: (NOT_ZERO, 1),
    NOT_ZERO: (ZERO, 1),
}


class Number(Symbolic):
    """An amount and the polynomial that it is the value of; ``facts`` are what is known of the letters.

    >>> facts = Facts()
    >>> size = Number(Polynomial.letter("H", integer=True), 224, facts)
    >>> ((size - 1) // 2 + 1 - 1) // 2 + 1
    Number(floor(1/4*H + 3/4), 56)
    >>> size % 32 == 0, [str(condition.about) for condition in facts.conditions]
    (True, ['1/32*H'])
    """

    __slots__ = ("_amount", "facts", "polynomial", "quotient")

    def __init__(self, polynomial: Polynomial, amount: Exact, facts: Facts, quotient: Polynomial | None = None) -> None:
        self.polynomial = polynomial
        self._amount = amount.numerator if isinstance(amount, Fraction) and amount.denominator == 1 else amount
        self.facts = facts
        self.quotient = quotient
        """Of a remainder, what leaves it: it is zero where that is an integer."""

    @property
    def amount(self) -> Exact:
        return self._amount

    def _made(self, polynomial: Polynomial, amount: Exact) -> Any:
        """A result; one without letters is a plain number."""
        constant = polynomial.constant
        return Number(polynomial, amount, self.facts) if constant is None else constant

    def _of(self, value: Any) -> tuple[Polynomial, Exact] | None:
        if isinstance(value, Number):
            return value.polynomial, value._amount
        if isinstance(value, (int, Fraction)):
            return Polynomial.number(int(value) if isinstance(value, bool) else value), value
        return None

    # Arithmetic

    def __add__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._made(self.polynomial + found[0], self._amount + found[1])

    __radd__ = __add__

    def __neg__(self) -> Any:
        return self._made(-self.polynomial, -self._amount)

    def __pos__(self) -> Number:
        return self

    def __sub__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._made(self.polynomial - found[0], self._amount - found[1])

    def __rsub__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._made(found[0] - self.polynomial, found[1] - self._amount)

    def __mul__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._made(self.polynomial * found[0], self._amount * found[1])

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._divided((self.polynomial, self._amount), found)

    def __rtruediv__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._divided(found, (self.polynomial, self._amount))

    def _divided(self, first: tuple[Polynomial, Exact], second: tuple[Polynomial, Exact]) -> Any:
        amount = Fraction(first[1]) / second[1]
        return self._made(first[0] / second[0], amount)

    def __floordiv__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._shared((self.polynomial, self._amount), found)

    def __rfloordiv__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._shared(found, (self.polynomial, self._amount))

    def _shared(self, first: tuple[Polynomial, Exact], second: tuple[Polynomial, Exact]) -> Any:
        amount = first[1] // second[1]
        return self._made(self.facts.floor(first[0] / second[0]), amount)

    def __mod__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._left((self.polynomial, self._amount), found)

    def __rmod__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._left(found, (self.polynomial, self._amount))

    def _left(self, first: tuple[Polynomial, Exact], second: tuple[Polynomial, Exact]) -> Any:
        amount = first[1] % second[1]
        quotient = first[0] / second[0]
        left = self._made(first[0] - second[0] * self.facts.floor(quotient), amount)
        if isinstance(left, Number) and self.facts.is_integer(first[0]) and self.facts.is_integer(second[0]):
            return Number(left.polynomial, amount, self.facts, quotient)
        return left

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, int):
            return self._made(self.polynomial**other, Fraction(self._amount) ** other)
        found = self._of(other)
        return NotImplemented if found is None else self._raised((self.polynomial, self._amount), found)

    def __rpow__(self, other: Any) -> Any:
        found = self._of(other)
        return NotImplemented if found is None else self._raised(found, (self.polynomial, self._amount))

    def _raised(self, first: tuple[Polynomial, Exact], second: tuple[Polynomial, Exact]) -> Any:
        if not self._check(Condition(INTEGER, second[0]), Fraction(second[1]).denominator == 1):
            raise ValueError("an exponent must be an integer, so that the result is exact")
        return self._made(self.facts.apply(POWER, first[0], second[0]), Fraction(first[1]) ** int(second[1]))

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    def __floor__(self) -> Any:
        return self._made(self.facts.floor(self.polynomial), floor(self._amount))

    def __ceil__(self) -> Any:
        return self._made(-self.facts.floor(-self.polynomial), ceil(self._amount))

    def smaller(self, other: Any) -> Any:
        found = self._of(other)
        assert found is not None
        return self._made(self.facts.chosen(SMALLEST, self.polynomial, found[0]), min(self._amount, found[1]))

    def larger(self, other: Any) -> Any:
        found = self._of(other)
        assert found is not None
        return self._made(self.facts.chosen(LARGEST, self.polynomial, found[0]), max(self._amount, found[1]))

    def divisor(self, other: Any) -> Any:
        found = self._of(other)
        assert found is not None
        amount = gcd(int(self._amount), int(found[1]))
        return self._made(self.facts.apply(DIVISOR, self.polynomial, found[0]), amount)

    def scaled(self, scale: float) -> Any:
        exact = Fraction(scale)
        if exact.denominator <= LIMIT and exact.numerator <= 1 << 12:
            # The product has few enough bits to be exact in double precision.
            return floor(self * exact)
        amount = floor(int(self._amount) * scale)
        return self._made(self.facts.apply(SCALED, self.polynomial, scale), amount)

    def rounded_to_8(self) -> Any:
        return self._made(self.facts.apply(ROUND8, self.polynomial), round8(self._amount))

    # Decisions

    def _check(self, condition: Condition, truth: bool) -> bool:
        """Note what a decision rests on, and give the decision."""
        if self.facts.tells(condition) is None:
            if not truth and condition.says != INTEGER:
                says, sign = _OPPOSITE[condition.says]
                condition = Condition(says, condition.about.times(sign))
            if truth or condition.says != INTEGER:
                self.facts.conditions[condition] = None
        return truth

    def _compared(self, other: Any, says: str, *, swapped: bool = False) -> Any:
        found = self._of(other)
        if found is None:
            return NotImplemented
        amount = Fraction(self._amount) - Fraction(found[1])
        about = self.polynomial - found[0]
        if swapped:
            amount, about = -amount, -about
        truth = Condition(says, Polynomial.number(amount)).holds({})
        if not -LIMIT < found[1] < LIMIT:
            return truth
        if self.quotient is not None and truth == (says == ZERO) and found[1] == 0 and says in (ZERO, NOT_ZERO):
            self._check(Condition(INTEGER, self.quotient), True)
            return truth
        return self._check(Condition(says, about), truth)

    def __ge__(self, other: Any) -> Any:
        return self._compared(other, NOT_NEGATIVE)

    def __gt__(self, other: Any) -> Any:
        return self._compared(other, POSITIVE)

    def __le__(self, other: Any) -> Any:
        return self._compared(other, NOT_NEGATIVE, swapped=True)

    def __lt__(self, other: Any) -> Any:
        return self._compared(other, POSITIVE, swapped=True)

    def __eq__(self, other: object) -> Any:
        return self._compared(other, ZERO)

    def __ne__(self, other: object) -> Any:
        return self._compared(other, NOT_ZERO)

    def __hash__(self) -> int:
        # Equal formulas find each other in a memo without a comparison that would be noted.
        return hash((self.polynomial, id(self.facts)))

    def __bool__(self) -> bool:
        return bool(self != 0)

    def is_whole(self) -> bool:
        return self._check(Condition(INTEGER, self.polynomial), isinstance(self._amount, int))

    # Plain numbers

    def _settled(self) -> Exact:
        self._check(Condition(ZERO, self.polynomial - Polynomial.number(self._amount)), True)
        return self._amount

    def __index__(self) -> int:
        amount = self._settled()
        if isinstance(amount, Fraction):
            raise TypeError(f"{amount} is not an integer")
        return amount

    def __int__(self) -> int:
        return int(self._settled())

    def __float__(self) -> float:
        return float(self._settled())

    def __str__(self) -> str:
        return str(self._amount)

    def __format__(self, form: str) -> str:
        return format(self._amount, form)

    def __repr__(self) -> str:
        return f"Number({self.polynomial}, {self._amount})"
