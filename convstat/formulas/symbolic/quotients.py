"""Quotients of closed forms, with what both have in common left out.

Where one divides the other, or one of them is a single term, that is arithmetic on polynomials.
A common factor of two sums is found by sympy, which comes with torch.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from convstat.errors import UsageError
from convstat.formulas.symbolic.terms import SUM, Atom, Monomial, Polynomial, inverse
from convstat.formulas.symbolic.writing import Text

HELP = "sympy is installed with torch; alone: pip install sympy"


def quotient(over: Polynomial, under: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Two polynomials whose quotient is that of two others; the second is 1 where the quotient is a polynomial.

    Raises UsageError where sympy is needed and is not installed.

    >>> k, n = Polynomial.letter("k"), Polynomial.letter("n")
    >>> quotient(k * k * n + n * n, k * k * n * n)
    (Polynomial(n**-1 + k**-2), Polynomial(1))
    >>> quotient((k + n) * (k + n), (k + n) * k + (k + n))
    (Polynomial(k + n), Polynomial(k + 1))
    """
    one = Polynomial.number(1)
    found = over / under
    if not any(atom.kind == SUM for atom in found.atoms()):
        return found, one
    factor, common = under.content()
    over, under = (side.times(1 / Fraction(factor), inverse(common)) for side in (over, under))
    back = under.divided(over) if over.terms else None
    if back is not None:
        return one, back
    return _cancelled(over, under)


def _cancelled(over: Polynomial, under: Polynomial) -> tuple[Polynomial, Polynomial]:
    try:
        import sympy
    except ImportError:
        raise UsageError("to simplify the quotient of two sums, sympy must be installed", help=HELP) from None
    atoms: dict[Atom, Any] = {}

    def to_sympy(about: Polynomial) -> Any:
        total = sympy.Integer(0)
        for monomial, factor in about.terms.items():
            part = sympy.Rational(Fraction(factor).numerator, Fraction(factor).denominator)
            for atom, exponent in monomial:
                part *= atoms.setdefault(atom, sympy.Symbol(f"a{len(atoms)}")) ** exponent
            total += part
        return total

    top, bottom = sympy.fraction(sympy.cancel(to_sympy(over) / to_sympy(under)))
    letters = list(atoms)

    def back(about: Any) -> Polynomial:
        if not letters:
            return Polynomial.number(Fraction(int(about)))
        terms: dict[Monomial, Fraction] = {}
        for exponents, factor in sympy.Poly(about, *(atoms[atom] for atom in letters)).terms():
            powers = ((atom, int(e)) for atom, e in zip(letters, exponents, strict=True) if e)
            monomial = tuple(sorted(powers, key=lambda item: item[0].order))
            terms[monomial] = Fraction(int(factor.p), int(factor.q))
        return Polynomial(terms)

    first, second = back(top), back(bottom)
    return (first / second, Polynomial.number(1)) if len(second.terms) == 1 else (first, second)


def write_quotient(parts: tuple[Polynomial, Polynomial], write: Text) -> str:
    """A quotient as text.

    >>> k = Polynomial.letter("k")
    >>> write_quotient((k + Polynomial.number(2), k + Polynomial.number(1)), Text())
    '(k + 2)/(k + 1)'
    """
    return write.ratio(*parts)
