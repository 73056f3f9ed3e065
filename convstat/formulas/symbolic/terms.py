"""Polynomials in letters and in functions of polynomials, in one normal form, so that equal ones are equal.

A term is a coefficient and a product of powers; a power may be negative, so a quotient by a product is a polynomial.
What is no polynomial (``floor``, ``round8``, ``max``, a reciprocal of a sum) is an :class:`Atom` with its arguments,
and multiplied like a letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from math import floor, gcd, lcm
from typing import Any

from convstat.formulas.rounding import round8

Exact = int | Fraction

SYMBOL, FLOOR, ROUND8, SMALLEST, LARGEST, DIVISOR, SCALED, POWER, SUM = (
    "symbol", "floor", "round8", "min", "max", "gcd", "scaled", "power", "sum",
)  # fmt: skip
"""What an atom is: a letter, a function of its arguments, or a sum that something is divided by."""

_VALUES: Mapping[str, Callable[..., Exact]] = {
    FLOOR: floor,
    ROUND8: round8,
    SMALLEST: min,
    LARGEST: max,
    DIVISOR: lambda first, second: gcd(int(first), int(second)),
    SCALED: lambda size, scale: floor(int(size) * scale),
    POWER: lambda base, exponent: Fraction(base) ** int(exponent),
    SUM: lambda value: value,
}

INTEGERS = frozenset({FLOOR, ROUND8, DIVISOR, SCALED})
"""The functions whose values are integers, whatever they are given."""


class Atom:
    """A letter, or a function of polynomials."""

    __slots__ = ("_hash", "args", "integer", "kind", "order")

    def __init__(self, kind: str, *args: Any, integer: bool = False) -> None:
        self.kind = kind
        self.args = args
        self.integer = integer or kind in INTEGERS
        self._hash = hash((kind, args))
        self.order = (kind != SYMBOL, f"{kind} {' '.join(map(str, args))}")

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Atom) and self._hash == other._hash and (self.kind, self.args) == (other.kind, other.args)
        )

    def __repr__(self) -> str:
        if self.kind == SYMBOL:
            return str(self.args[0])
        return f"{self.kind}({', '.join(map(str, self.args))})"

    @property
    def parts(self) -> tuple[Polynomial, ...]:
        """The polynomials that it is a function of."""
        return tuple(arg for arg in self.args if isinstance(arg, Polynomial))


Monomial = tuple[tuple[Atom, int], ...]
"""Atoms with their exponents, in order."""

ONE: Monomial = ()


def _product(first: Monomial, second: Monomial) -> Monomial:
    if not first or not second:
        return first or second
    powers = dict(first)
    for atom, exponent in second:
        powers[atom] = powers.get(atom, 0) + exponent
    return tuple(sorted(((a, e) for a, e in powers.items() if e), key=lambda item: item[0].order))


def inverse(monomial: Monomial) -> Monomial:
    """One over a product."""
    return tuple((atom, -exponent) for atom, exponent in monomial)


def _tidy(value: Exact) -> Exact:
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


class Polynomial:
    """A sum of terms. It is immutable.

    >>> x, y = Polynomial.letter("x"), Polynomial.letter("y")
    >>> (x + y) * (x - y) == x * x - y * y
    True
    >>> (x * y + y) / y
    Polynomial(x + 1)
    """

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, Exact]) -> None:
        self.terms: dict[Monomial, Exact] = {m: _tidy(c) for m, c in terms.items() if c}
        self._hash = hash(frozenset(self.terms.items()))

    @classmethod
    def number(cls, value: Exact) -> Polynomial:
        """A constant."""
        return cls({ONE: value})

    @classmethod
    def letter(cls, name: str, *, integer: bool = False) -> Polynomial:
        """A letter; ``integer``: it stands for integers only."""
        return cls.atom(Atom(SYMBOL, name, integer=integer))

    @classmethod
    def atom(cls, atom: Atom) -> Polynomial:
        """An atom alone."""
        return cls({((atom, 1),): 1})

    @property
    def constant(self) -> Exact | None:
        """Its value where it has no letters."""
        if not self.terms:
            return 0
        return self.terms[ONE] if len(self.terms) == 1 and ONE in self.terms else None

    @property
    def offset(self) -> Exact:
        """The term without letters."""
        return self.terms.get(ONE, 0)

    @property
    def single(self) -> Atom | None:
        """The atom that it is, if it is one."""
        if len(self.terms) == 1:
            ((monomial, factor),) = self.terms.items()
            if factor == 1 and len(monomial) == 1 and monomial[0][1] == 1:
                return monomial[0][0]
        return None

    @property
    def denominator(self) -> int:
        """The least common denominator of the coefficients."""
        return lcm(*(Fraction(factor).denominator for factor in self.terms.values()))

    def items(self) -> list[tuple[Monomial, Exact]]:
        """The terms, of higher degree first."""
        return sorted(self.terms.items(), key=lambda item: (-_degree(item[0]), [(a.order, -e) for a, e in item[0]]))

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for monomial, factor in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + factor
        return Polynomial(terms)

    def __neg__(self) -> Polynomial:
        return self.times(-1)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def times(self, factor: Exact, monomial: Monomial = ONE) -> Polynomial:
        """The product with one term."""
        return Polynomial({_product(m, monomial): c * factor for m, c in self.terms.items()})

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, Exact] = {}
        for first, one in self.terms.items():
            for second, two in other.terms.items():
                monomial = _product(first, second)
                terms[monomial] = terms.get(monomial, 0) + one * two
        found = Polynomial(terms)
        return _opened(found) if any(atom.kind == SUM for atom in found.atoms()) else found

    def __pow__(self, exponent: int) -> Polynomial:
        found = Polynomial.number(1)
        for _ in range(abs(exponent)):
            found = found * self
        return found if exponent >= 0 else Polynomial.number(1) / found

    def __truediv__(self, other: Polynomial) -> Polynomial:
        """The quotient; raises ZeroDivisionError."""
        if not other.terms:
            raise ZeroDivisionError("division by zero")
        if len(other.terms) == 1:
            ((monomial, factor),) = other.terms.items()
            return self.times(1 / Fraction(factor), inverse(monomial))
        exact = self.divided(other)
        if exact is not None:
            return exact
        # The sum without its content, so that multiples of one sum are one atom.
        content, common = other.content()
        rest = other.times(1 / Fraction(content), inverse(common))
        return self.times(1 / Fraction(content), _product(inverse(common), ((Atom(SUM, rest), -1),)))

    def divided(self, other: Polynomial) -> Polynomial | None:
        """The quotient by long division where nothing remains."""
        lead, factor = other.items()[0]
        rest, found = self, Polynomial({})
        for _ in range(4 * len(self.terms) + 4):
            if not rest.terms:
                return found
            monomial, coefficient = rest.items()[0]
            step = _product(monomial, inverse(lead))
            if any(exponent < 0 and dict(monomial).get(atom, 0) >= 0 for atom, exponent in step):
                return None
            part = Polynomial({step: Fraction(coefficient) / factor})
            found, rest = found + part, rest - part * other
        return None

    def content(self) -> tuple[Exact, Monomial]:
        """The number and the product that all terms have in common; the rest begins with a positive term."""
        factors = [Fraction(factor) for factor in self.terms.values()]
        shared = Fraction(gcd(*(f.numerator for f in factors)), lcm(*(f.denominator for f in factors)))
        if self.items()[0][1] < 0:
            shared = -shared
        powers: dict[Atom, int] = {}
        for atom in {atom for monomial in self.terms for atom, _ in monomial}:
            least = min(dict(monomial).get(atom, 0) for monomial in self.terms)
            if least:
                powers[atom] = least
        return _tidy(shared), tuple(sorted(powers.items(), key=lambda item: item[0].order))

    def atoms(self) -> Iterator[Atom]:
        """The atoms of its terms."""
        for monomial in self.terms:
            for atom, _ in monomial:
                yield atom

    def letters(self) -> dict[str, None]:
        """The letters in it, those inside functions included, in order."""
        found: dict[str, None] = {}
        for term in self.items():
            for atom, _ in term[0]:
                if atom.kind == SYMBOL:
                    found.setdefault(atom.args[0])
                for part in atom.parts:
                    found.update(part.letters())
        return found

    def value(self, values: Mapping[str, Exact]) -> Exact:
        """What it comes to, exactly; ``values`` are those of the letters."""
        total: Exact = Fraction(0)
        for monomial, factor in self.terms.items():
            part = Fraction(factor)
            for atom, exponent in monomial:
                part *= Fraction(worth(atom, values)) ** exponent
            total += part
        return _tidy(total)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self._hash == other._hash and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        parts = []
        for monomial, factor in self.items():
            powers = [f"{atom}" if e == 1 else f"{atom}**{e}" for atom, e in monomial]
            parts.append("*".join(powers if factor == 1 and powers else [f"{factor}", *powers]))
        return " + ".join(parts) or "0"

    def __repr__(self) -> str:
        return f"Polynomial({self})"


def worth(atom: Atom, values: Mapping[str, Exact]) -> Exact:
    """What an atom comes to."""
    if atom.kind == SYMBOL:
        return values[atom.args[0]]
    return _VALUES[atom.kind](*(arg.value(values) if isinstance(arg, Polynomial) else arg for arg in atom.args))


def _degree(monomial: Monomial) -> int:
    return sum(exponent for _, exponent in monomial)


def _opened(found: Polynomial) -> Polynomial:
    """Multiply out the sums that stand in a product with a positive power."""
    total = Polynomial({})
    for monomial, factor in found.terms.items():
        sums = [(atom, exponent) for atom, exponent in monomial if atom.kind == SUM and exponent > 0]
        rest = tuple((atom, exponent) for atom, exponent in monomial if (atom, exponent) not in sums)
        part = Polynomial({rest: factor})
        for atom, exponent in sums:
            part = part * atom.args[0] ** exponent
        total = total + part
    return total


def sum_of(parts: Iterable[Polynomial]) -> Polynomial:
    """The sum of polynomials."""
    terms: dict[Monomial, Exact] = {}
    for part in parts:
        for monomial, factor in part.terms.items():
            terms[monomial] = terms.get(monomial, 0) + factor
    return Polynomial(terms)
