"""What formulas rest on: conditions on their letters, what follows from them, and functions simplified by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import ceil, floor, gcd, inf
from typing import NamedTuple

from convstat.formulas.symbolic.terms import (
    DIVISOR,
    FLOOR,
    INTEGERS,
    LARGEST,
    ONE,
    POWER,
    ROUND8,
    SMALLEST,
    SUM,
    SYMBOL,
    Atom,
    Exact,
    Monomial,
    Polynomial,
    _product,
    inverse,
    worth,
)

NOT_NEGATIVE, POSITIVE, ZERO, NOT_ZERO, INTEGER = ">= 0", "> 0", "== 0", "!= 0", "is an integer"
"""What a condition says of its polynomial."""


class Condition(NamedTuple):
    """A polynomial, and what is said of it."""

    says: str
    about: Polynomial

    def holds(self, values: Mapping[str, Exact]) -> bool:
        """Whether it does for some values of the letters."""
        found = self.about.value(values)
        if self.says == INTEGER:
            return Fraction(found).denominator == 1
        truth = {NOT_NEGATIVE: found >= 0, POSITIVE: found > 0, ZERO: found == 0, NOT_ZERO: found != 0}
        return truth[self.says]

    @property
    def settles(self) -> tuple[str, Exact] | None:
        """The letter whose value it sets, and the value, where it does nothing else."""
        if self.says != ZERO or len(self.about.terms) > 2:
            return None
        terms = [(monomial, factor) for monomial, factor in self.about.terms.items() if monomial != ONE]
        if len(terms) != 1 or len(terms[0][0]) != 1:
            return None
        ((atom, exponent),), factor = terms[0]
        if atom.kind != SYMBOL or exponent != 1:
            return None
        return atom.args[0], -Fraction(self.about.offset) / Fraction(factor)


MAX_DEPTH = 12
"""How deep functions may be nested for a bound to be looked for; one that is not found is only not used."""


class Facts:
    """Conditions that hold, in the order in which they were met."""

    def __init__(self, conditions: Iterable[Condition] = ()) -> None:
        self.conditions: dict[Condition, None] = dict.fromkeys(conditions)

    # Integers

    def is_integer(self, about: Polynomial) -> bool:
        """Whether a polynomial has integers as values, as far as is known."""
        return self._is_integer(self._rest(about), 3)

    def _rest(self, about: Polynomial) -> Polynomial:
        """What is left of it without terms that are integers."""
        return Polynomial({m: c for m, c in about.terms.items() if not self._is_whole(m, c)})

    @staticmethod
    def _is_whole(monomial: Monomial, factor: Exact) -> bool:
        return Fraction(factor).denominator == 1 and all(a.integer and e > 0 for a, e in monomial)

    def _is_integer(self, rest: Polynomial, depth: int) -> bool:
        if not rest.terms:
            return True
        if depth == 0:
            return False
        monomial, factor = rest.items()[0]
        for condition in self.conditions:
            if condition.says != INTEGER:
                continue
            known = condition.about
            lead, first = known.items()[0]
            times, by = Fraction(factor) / Fraction(first), _product(monomial, inverse(lead))
            if self._is_whole(by, times) or (times.denominator == 1 and not by):
                left = self._rest(rest - known.times(times, by))
                if len(left.terms) < len(rest.terms) and self._is_integer(left, depth - 1):
                    return True
            # A product of two, each of which is an integer.
            elif (
                times.denominator == 1
                and len(rest.terms) == len(known.terms) == 1
                and self._is_integer(self._rest(Polynomial({by: times})), depth - 1)
            ):
                return True
        return False

    # Bounds

    def bounds(self, about: Polynomial, depth: int = MAX_DEPTH) -> tuple[Exact | float, Exact | float]:
        """The least and the largest that a polynomial can be, as far as is known; infinite where nothing is."""
        low: Exact | float = 0
        high: Exact | float = 0
        for monomial, factor in about.terms.items():
            least, most = self._range(monomial, depth)
            ends = (_times(factor, least), _times(factor, most))
            low, high = low + min(ends), high + max(ends)
        return low, high

    def _range(self, monomial: Monomial, depth: int) -> tuple[Exact | float, Exact | float]:
        low: Exact | float = 1
        high: Exact | float = 1
        for atom, exponent in monomial:
            least, most = self._extent(atom, depth)
            if exponent % 2 == 0 and least < 0:
                least, most = 0, max(most, -least)
            if least < 0:
                return -inf, inf
            if exponent > 0:
                least, most = least**exponent, most**exponent
            else:
                least, most = _over(most) ** -exponent, _over(least) ** -exponent
            low, high = _times(low, least), _times(high, most)
        return low, high

    def _extent(self, atom: Atom, depth: int) -> tuple[Exact | float, Exact | float]:
        low, high = self._inner(atom, depth) if depth else (-inf, inf)
        for condition in self.conditions:
            found = _bound(condition, atom)
            if found is not None:
                low, high = max(low, found[0]), min(high, found[1])
        return low, high

    def _inner(self, atom: Atom, depth: int) -> tuple[Exact | float, Exact | float]:
        ranges = [self.bounds(part, depth - 1) for part in atom.parts]
        if atom.kind == FLOOR:
            return _whole(ranges[0][0], floor), _whole(ranges[0][1], floor)
        if atom.kind == ROUND8:
            return 8, inf
        if atom.kind == DIVISOR:
            return 1, inf
        if atom.kind == SUM:
            return ranges[0]
        if atom.kind in (SMALLEST, LARGEST):
            choose = min if atom.kind == SMALLEST else max
            return choose(low for low, _ in ranges), choose(high for _, high in ranges)
        if atom.kind == POWER:
            return (0, inf) if ranges[0][0] >= 0 else (-inf, inf)
        return -inf, inf

    def is_at_least(self, about: Polynomial, least: Exact = 0) -> bool:
        """Whether a polynomial is known not to be less."""
        rest = about - Polynomial.number(least)
        if rest.constant is not None:
            return rest.constant >= 0
        varying = rest - Polynomial.number(rest.offset)
        for condition in self.conditions:
            if condition.says in (NOT_NEGATIVE, POSITIVE):
                known = condition.about
                if known - Polynomial.number(known.offset) == varying and known.offset <= rest.offset:
                    return True
        if self.bounds(rest)[0] >= 0 or self.bounds(self._eased(rest))[0] >= 0:
            return True
        return any(self._factored(rest, atom) >= 0 for atom in dict.fromkeys(rest.atoms()))

    def _factored(self, about: Polynomial, atom: Atom) -> Exact | float:
        """A lower bound of ``a*b - b + c``, read as ``b*(a - 1) + c``."""
        shared = {monomial: factor for monomial, factor in about.terms.items() if dict(monomial).get(atom, 0) > 0}
        if len(shared) < 2:
            return -inf
        inside = Polynomial(shared).times(1, ((atom, -1),))
        least = self._extent(atom, MAX_DEPTH)[0]
        within = max(self.bounds(inside)[0], self.bounds(self._eased(inside))[0])
        rest = Polynomial({m: c for m, c in about.terms.items() if m not in shared})
        return _times(least, within) + self.bounds(rest)[0] if least >= 0 and within >= 0 else -inf

    def is_above(self, about: Polynomial, least: Exact = 0) -> bool:
        """Whether a polynomial is known to be more."""
        if self.is_integer(about):
            return self.is_at_least(about, floor(least) + 1)
        rest = about - Polynomial.number(least)
        if Condition(POSITIVE, rest) in self.conditions:
            return True
        return self.bounds(rest)[0] > 0 or self.bounds(self._eased(rest))[0] > 0

    def _eased(self, about: Polynomial) -> Polynomial:
        """A polynomial that is nowhere larger, with the functions that stand alone replaced by what bounds them."""
        for _ in range(MAX_DEPTH):
            eased = Polynomial({})
            for monomial, factor in about.terms.items():
                atom = monomial[0][0] if len(monomial) == 1 and monomial[0][1] == 1 else None
                if atom is None or atom.kind not in (FLOOR, SMALLEST, LARGEST):
                    eased = eased + Polynomial({monomial: factor})
                elif atom.kind == FLOOR:
                    eased = eased + self._line(atom.args[0], below=factor > 0).times(factor)
                elif (atom.kind == SMALLEST) == (factor < 0):
                    # min(a, b) <= a, max(a, b) >= a.
                    eased = eased + atom.args[0].times(factor)
                else:
                    return about
            if eased == about:
                return eased
            about = eased
        return about

    def _line(self, inside: Polynomial, *, below: bool) -> Polynomial:
        """A line that the floor of a polynomial lies above or below."""
        if not below:
            return inside
        parts = inside.denominator
        if self.is_integer(inside.times(parts)):
            return inside - Polynomial.number(Fraction(parts - 1, parts))
        return inside - Polynomial.number(1)

    # Conditions

    def tells(self, condition: Condition) -> bool | None:
        """Whether a condition is known to hold, or known not to; None where it is neither."""
        says, about = condition
        if says == INTEGER:
            return True if self.is_integer(about) else None
        if about.constant is not None:
            return condition.holds({})
        if says == NOT_NEGATIVE:
            return True if self.is_at_least(about) else False if self.is_above(-about) else None
        if says == POSITIVE:
            return True if self.is_above(about) else False if self.is_at_least(-about) else None
        if Condition(ZERO, about) in self.conditions or Condition(ZERO, -about) in self.conditions:
            return says == ZERO
        if any(Condition(NOT_ZERO, p) in self.conditions for p in (about, -about)):
            return says == NOT_ZERO
        if self.is_above(about) or self.is_above(-about):
            return says == NOT_ZERO
        return None

    def plainer(self, condition: Condition) -> Condition:
        """The same condition on less: without functions that do not matter, and divided by what all terms share."""
        says, about = condition
        if says == POSITIVE and self.is_integer(about):
            says, about = NOT_NEGATIVE, about - Polynomial.number(1)
        if says in (NOT_NEGATIVE, POSITIVE):
            for _ in range(MAX_DEPTH):
                said = self._opened(says, about)
                if said is None:
                    break
                says, about = said
            return Condition(says, self._scaled(says, about))
        if says == ZERO and (inside := _fitting(about)) is not None:
            return Condition(INTEGER, inside)
        if says in (ZERO, NOT_ZERO):
            factor, common = about.content()
            shared = tuple((a, e) for a, e in common if e < 0 or self.is_above(Polynomial.atom(a)))
            about = about.times(1 / Fraction(factor), inverse(shared))
            if says == NOT_ZERO and self.is_at_least(about) and self.is_integer(about):
                return self.plainer(Condition(NOT_NEGATIVE, about - Polynomial.number(1)))
        return Condition(says, about)

    def _opened(self, says: str, about: Polynomial) -> tuple[str, Polynomial] | None:
        """The condition on what is inside a floor, where that is all there is."""
        varying = [(monomial, Fraction(factor)) for monomial, factor in about.terms.items() if monomial != ONE]
        if len(varying) != 1:
            return None
        (monomial, factor), offset = varying[0], Fraction(about.offset)
        if len(monomial) != 1 or monomial[0][1] != 1 or monomial[0][0].kind != FLOOR:
            return None
        inside = monomial[0][0].args[0]
        if factor > 0:
            least = -offset / factor
            return NOT_NEGATIVE, inside - Polynomial.number(ceil(least) if says == NOT_NEGATIVE else floor(least) + 1)
        most = offset / -factor
        below = floor(most) if says == NOT_NEGATIVE else ceil(most) - 1
        rest = Polynomial.number(below + 1) - inside
        parts = rest.denominator
        if self.is_integer(rest.times(parts)):
            return NOT_NEGATIVE, rest.times(parts) - Polynomial.number(1)
        return POSITIVE, rest

    def _scaled(self, says: str, about: Polynomial) -> Polynomial:
        """Without a common factor; of integers, with the offset rounded to what matters."""
        offset = Polynomial.number(about.offset)
        varying = about - offset
        if not varying.terms:
            return about
        factor, common = about.content() if about.offset else varying.content()
        shared = tuple((a, e) for a, e in common if self.is_above(Polynomial.atom(a)))
        about = about.times(abs(1 / Fraction(factor)), inverse(shared))
        varying = about - Polynomial.number(about.offset)
        if says == NOT_NEGATIVE and self.is_integer(varying):
            step = gcd(*(Fraction(factor).numerator for factor in varying.terms.values()))
            if step > 1 and self.is_integer(varying.times(Fraction(1, step))):
                return varying.times(Fraction(1, step)) + Polynomial.number(floor(Fraction(about.offset) / step))
        return about

    # Functions

    def floor(self, about: Polynomial) -> Polynomial:
        """The largest integer that is not larger."""
        whole = Polynomial({m: c for m, c in about.terms.items() if self._is_whole(m, c)})
        rest = about - whole
        if not rest.terms or self.is_integer(rest):
            return whole + rest
        lead, first = rest.items()[0]
        parts = rest.denominator
        if lead != ONE and first < 0 and self.is_integer(rest.times(parts)):
            # floor(-x) is -ceil(x), and ceil(x) the floor of a little more.
            more = -rest + Polynomial.number(Fraction(parts - 1, parts))
            return whole - self.floor(more)
        for monomial, factor in rest.terms.items():
            # floor((floor(x) + n) / d) is floor((x + n) / d) for integers.
            over = Fraction(factor)
            if len(monomial) == 1 and monomial[0][1] == 1 and over.numerator == 1 and over.denominator > 1:
                inner, parts = monomial[0][0], over.denominator
                others = rest - Polynomial({monomial: factor})
                if inner.kind == FLOOR and self.is_integer(others.times(parts)):
                    return whole + self.floor(others + inner.args[0].times(over))
        for condition in self.conditions:
            # What is left of something that is an integer, as of (k - 1)/2 in k/2.
            if condition.says == INTEGER and (found := _without(rest, condition.about)) is not None:
                return whole + (rest - found) + self.floor(found)
        shift = floor(rest.offset)
        whole, rest = whole + Polynomial.number(shift), rest - Polynomial.number(shift)
        low, high = self.bounds(rest)
        if low >= 0 and high < 1:
            return whole
        return whole + Polynomial.atom(Atom(FLOOR, rest))

    def chosen(self, kind: str, first: Polynomial, second: Polynomial) -> Polynomial:
        """The smaller or the larger of two."""
        if self.is_at_least(first - second):
            return second if kind == SMALLEST else first
        if self.is_at_least(second - first):
            return first if kind == SMALLEST else second
        return Polynomial.atom(Atom(kind, first, second, integer=self.is_integer(first) and self.is_integer(second)))

    def apply(self, kind: str, *args: object) -> Polynomial:
        """A function of polynomials, simplified."""
        of = [arg for arg in args if isinstance(arg, Polynomial)]
        if kind == FLOOR:
            return self.floor(of[0])
        if kind in (SMALLEST, LARGEST):
            return self.chosen(kind, *of)
        if all(part.constant is not None for part in of):
            return Polynomial.number(worth(Atom(kind, *args), {}))
        if kind == DIVISOR:
            ones = [part for part in of if part.constant == 1]
            return ones[0] if ones else of[0] if of[0] == of[1] else Polynomial.atom(Atom(kind, *args))
        integer = kind in INTEGERS or (kind == POWER and all(map(self.is_integer, of)) and self.is_at_least(of[1]))
        return Polynomial.atom(Atom(kind, *args, integer=integer))

    def simplified(self, about: Polynomial, values: Mapping[str, Polynomial] | None = None) -> Polynomial:
        """The polynomial with all that is known by now, and with some letters replaced."""
        given = values or {}
        total: dict[Monomial, Exact] = {}
        for monomial, factor in about.terms.items():
            part = Polynomial.number(factor)
            for atom, exponent in monomial:
                part = part * self._renewed(atom, given) ** exponent
            for found, amount in part.terms.items():
                total[found] = total.get(found, 0) + amount
        return Polynomial(total)

    def _renewed(self, atom: Atom, values: Mapping[str, Polynomial]) -> Polynomial:
        if atom.kind == SYMBOL:
            return values.get(atom.args[0]) or Polynomial.atom(atom)
        args = [self.simplified(arg, values) if isinstance(arg, Polynomial) else arg for arg in atom.args]
        return args[0] if atom.kind == SUM else self.apply(atom.kind, *args)


def _without(about: Polynomial, known: Polynomial) -> Polynomial | None:
    """A polynomial less a multiple of one that is an integer; None where that does not leave fewer letters."""
    (lead, first), (monomial, factor) = known.items()[0], about.items()[0]
    times = Fraction(factor) / Fraction(first)
    if lead != monomial or lead == ONE or times.denominator != 1:
        return None
    rest = about - known.times(times)
    varying = {m for m in about.terms if m != ONE}
    return rest if {m for m in rest.terms if m != ONE} < varying else None


def _fitting(about: Polynomial) -> Polynomial | None:
    """What must be an integer for a polynomial like ``x - 2*floor(x/2)`` to be zero; None where that is not all."""
    for monomial, factor in about.terms.items():
        if len(monomial) == 1 and monomial[0][1] == 1 and monomial[0][0].kind == FLOOR:
            inside: Polynomial = monomial[0][0].args[0]
            if about == (inside - Polynomial({monomial: 1})).times(-factor):
                return inside
    return None


def _bound(condition: Condition, atom: Atom) -> tuple[Exact | float, Exact | float] | None:
    """What a condition on an atom alone says of how large it is."""
    about = condition.about
    if condition.says not in (NOT_NEGATIVE, POSITIVE) or len(about.terms) > 2:
        return None
    factor = about.terms.get(((atom, 1),))
    if factor is None or (len(about.terms) == 2 and ONE not in about.terms):
        return None
    end = -Fraction(about.offset) / Fraction(factor)
    return (end, inf) if factor > 0 else (-inf, end)


def _times(first: Exact | float, second: Exact | float) -> Exact | float:
    """The product of two bounds; nothing times infinity is nothing."""
    return 0 if not first or not second else first * second


def _over(bound: Exact | float) -> Exact | float:
    if bound == 0:
        return inf
    return 0 if bound == inf else 1 / Fraction(bound)


def _whole(bound: Exact | float, rounded: object) -> Exact | float:
    return bound if bound in (inf, -inf) else floor(bound)
