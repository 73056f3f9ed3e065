"""Closed forms: polynomials whose sizes stay factors, so that a sum over many layers reads by resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from convstat.formulas.symbolic.numbers import Number
from convstat.formulas.symbolic.terms import Exact, Polynomial, sum_of

Sizes = tuple[tuple[Polynomial, int], ...]
"""Sums that stand in a product as they are, with their exponents."""


def polynomial(value: Any) -> Polynomial:
    """The formula of a number; of a plain one, the number."""
    return value.polynomial if isinstance(value, Number) else Polynomial.number(value)


class Form:
    """A sum of products, each of some sizes and a polynomial."""

    __slots__ = ("parts",)

    def __init__(self, parts: Mapping[Sizes, Polynomial]) -> None:
        self.parts = {sizes: rest for sizes, rest in parts.items() if rest.terms}

    @classmethod
    def of(cls, whole: Polynomial, sizes: Iterable[Polynomial] = ()) -> Form:
        """The form of a polynomial; of ``sizes``, those that divide it stay factors where they are sums.

        >>> h = Polynomial.letter("H") - Polynomial.number(2)
        >>> ((factors, rest),) = Form.of(h * h * Polynomial.letter("C"), [h]).parts.items()
        >>> factors, rest
        (((Polynomial(H + -2), 2),), Polynomial(C))
        """
        powers: dict[Polynomial, int] = {}
        for size in dict.fromkeys(sizes):
            while len(size.terms) > 1 and (rest := whole.divided(size)) is not None and whole.terms:
                powers[size] = powers.get(size, 0) + 1
                whole = rest
        return cls({tuple(sorted(powers.items(), key=lambda item: str(item[0]))): whole})

    @property
    def polynomial(self) -> Polynomial:
        """All of it, multiplied out."""
        return sum_of(_opened(sizes, rest) for sizes, rest in self.parts.items())

    def changed(self, change: Callable[[Polynomial], Polynomial]) -> Form:
        """The form with every polynomial in it changed."""
        found: dict[Sizes, Polynomial] = {}
        for sizes, rest in self.parts.items():
            powers: dict[Polynomial, int] = {}
            rest = change(rest)
            for size, exponent in sizes:
                size = change(size)
                if len(size.terms) > 1:
                    powers[size] = powers.get(size, 0) + exponent
                else:
                    rest = rest * size**exponent
            key = tuple(sorted(powers.items(), key=lambda item: str(item[0])))
            found[key] = found.get(key, Polynomial({})) + rest
        return Form(found)

    def value(self, values: Mapping[str, Exact]) -> Exact:
        """What it comes to, exactly."""
        return self.polynomial.value(values)

    def __add__(self, other: Form) -> Form:
        parts = dict(self.parts)
        for sizes, rest in other.parts.items():
            parts[sizes] = parts.get(sizes, Polynomial({})) + rest
        return Form(parts)

    def __bool__(self) -> bool:
        return bool(self.parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(frozenset(self.parts.items()))

    def __repr__(self) -> str:
        return f"Form({self.polynomial})"


NOTHING = Form({})


def _opened(sizes: Sizes, rest: Polynomial) -> Polynomial:
    for size, exponent in sizes:
        rest = rest * size**exponent
    return rest


def total(forms: Iterable[Form]) -> Form:
    """The sum of forms."""
    found = NOTHING
    for form in forms:
        found = found + form
    return found
