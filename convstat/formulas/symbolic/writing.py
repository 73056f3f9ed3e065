r"""Closed forms as text, as LaTeX and as Python.

A sum is written by the resolutions in it: ``ceil(H/2)**2*(864*alpha + 288*alpha)``.
What all terms share stands in front.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import ClassVar

from convstat.formulas.symbolic.facts import INTEGER, NOT_NEGATIVE, Condition
from convstat.formulas.symbolic.forms import Form
from convstat.formulas.symbolic.terms import (
    DIVISOR,
    FLOOR,
    LARGEST,
    ONE,
    POWER,
    ROUND8,
    SCALED,
    SMALLEST,
    SUM,
    SYMBOL,
    Atom,
    Exact,
    Monomial,
    Polynomial,
    inverse,
)

GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega",
})  # fmt: skip
"""The names of letters that LaTeX has a command for."""


class Text:
    """Writes forms as text that Python reads as well, given ``floor``, ``ceil`` and ``round8``.

    ``sizes`` are the letters that resolutions are made of: sums are grouped by them.
    """

    names: ClassVar[Mapping[str, str]] = {
        ROUND8: "round8", SMALLEST: "min", LARGEST: "max", DIVISOR: "gcd",
    }  # fmt: skip

    def __init__(self, sizes: Collection[str] = ()) -> None:
        self.sizes = frozenset(sizes)

    # How the parts are written

    def number(self, value: int) -> str:
        """A number without a sign."""
        return str(value)

    def letter(self, name: str) -> str:
        """A letter."""
        return name

    def power(self, base: str, exponent: str) -> str:
        """A power; the base is a letter, a function, or in parentheses."""
        return f"{base}**{exponent}"

    def product(self, factors: list[str]) -> str:
        """A product."""
        return "*".join(factors)

    def quotient(self, over: str, under: str) -> str:
        """A quotient; both have parentheses where they need them."""
        return f"{over}/{under}"

    def group(self, text: str) -> str:
        """A sum as a factor."""
        return f"({text})"

    def call(self, kind: str, arguments: list[str]) -> str:
        """A function."""
        return f"{self.names.get(kind, kind)}({', '.join(arguments)})"

    def down(self, inside: str) -> str:
        """Rounded down."""
        return self.call("floor", [inside])

    def up(self, inside: str) -> str:
        """Rounded up."""
        return self.call("ceil", [inside])

    def scaled(self, size: str, scale: float) -> str:
        """A product in floating point, rounded down."""
        return self.down(self.product([size, repr(scale)]))

    # What is written

    def form(self, form: Form) -> str:
        """A closed form."""
        if set(form.parts) <= {()}:
            return self.sum(form.parts.get((), Polynomial({})))
        return _joined(self._parts(form))

    def terms(self, form: Form) -> list[str]:
        """A closed form as the terms of a sum, each but the first with its sign."""
        plain = form.parts.get((), Polynomial({}))
        resolutions = {tuple((a, e) for a, e in monomial if self._is_size(a)) for monomial in plain.terms}
        if set(form.parts) <= {()} and len(resolutions) == 1 and () not in resolutions:
            return [self.sum(plain)]
        parts = self._parts(form)
        return [_joined(parts[:1]), *(f"{'-' if negative else '+'} {text}" for negative, text in parts[1:])]

    def _parts(self, form: Form) -> list[tuple[bool, str]]:
        """The terms of a sum, a positive one first where there is one; whether each is negative, and its text."""
        texts = self._groups(form.parts.get((), Polynomial({})))
        for sizes, rest in form.parts.items():
            if sizes:
                factors = [self._power(self.group(self.sum(size)), exponent) for size, exponent in sizes]
                texts.append(self._with_factors(rest, factors))
        return sorted(texts, key=lambda term: term[0]) or [(False, self.number(0))]

    def polynomial(self, about: Polynomial) -> str:
        """A polynomial, with what all its terms share in front."""
        return self.sum(about)

    def sum(self, about: Polynomial) -> str:
        """A polynomial where a sum may stand."""
        if not about.terms:
            return self.number(0)
        factor, common = shared(about)
        # A number alone that a sum has in common is not taken out of it, unless it is a fraction.
        if len(about.terms) > 1 and (common or factor.denominator > 1):
            return _joined([self._with_factors(about, [])])
        return _joined(self._groups(about))

    def _with_factors(self, about: Polynomial, factors: list[str]) -> tuple[bool, str]:
        """A product of a polynomial and factors that are written already; whether it is negative, and the text."""
        factor, common = shared(about)
        rest = about.times(1 / factor, inverse(common))
        more = [*factors]
        if rest.constant != 1:
            more.append(self.group(_joined(self._groups(rest))))
        return factor < 0, self._term(common, abs(factor), more)

    def _groups(self, about: Polynomial) -> list[tuple[bool, str]]:
        """The terms of a sum; those of one resolution together."""
        groups: dict[Monomial, dict[Monomial, Exact]] = {}
        for monomial, factor in about.items():
            key = tuple((atom, e) for atom, e in monomial if self._is_size(atom))
            groups.setdefault(key, {})[monomial] = factor
        if len(groups) == 1 or len(groups) == len(about.terms):
            return [(factor < 0, self._term(monomial, abs(Fraction(factor)), [])) for monomial, factor in about.items()]
        found = []
        for terms in groups.values():
            if len(terms) == 1 or ONE in terms:
                found += [(factor < 0, self._term(m, abs(Fraction(factor)), [])) for m, factor in terms.items()]
            else:
                found.append(self._with_factors(Polynomial(terms), []))
        return found

    def _is_size(self, atom: Atom) -> bool:
        if atom.kind == SYMBOL:
            return atom.args[0] in self.sizes
        return any(not self.sizes.isdisjoint(part.letters()) for part in atom.parts)

    def _term(self, monomial: Monomial, factor: Fraction, more: list[str]) -> str:
        over = [self.number(factor.numerator)] if factor.numerator != 1 else []
        under = [self.number(factor.denominator)] if factor.denominator != 1 else []
        for atom, exponent in monomial:
            (over if exponent > 0 else under).append(self._power(self.atom(atom), abs(exponent)))
        over += more
        top = self.product(over) if over else self.number(1)
        if not under:
            return top
        return self.quotient(top, self._under(under))

    def _under(self, factors: list[str]) -> str:
        return factors[0] if len(factors) == 1 else self.group(self.product(factors))

    def _power(self, base: str, exponent: int) -> str:
        return base if exponent == 1 else self.power(base, str(exponent))

    def atom(self, atom: Atom) -> str:
        """A letter or a function, to stand in a product."""
        if atom.kind == SYMBOL:
            return self.letter(atom.args[0])
        if atom.kind == FLOOR:
            return self.floor(atom.args[0])
        if atom.kind == SCALED:
            return self.scaled(self.atom_or_group(atom.args[0]), atom.args[1])
        if atom.kind == SUM:
            return self.group(self.sum(atom.args[0]))
        if atom.kind == POWER:
            return self.power(self.atom_or_group(atom.args[0]), self.group(self.sum(atom.args[1])))
        return self.call(atom.kind, [self.sum(part) for part in atom.parts])

    def atom_or_group(self, about: Polynomial) -> str:
        """A polynomial as a factor."""
        return self.atom(about.single) if about.single is not None else self.group(self.sum(about))

    def floor(self, inside: Polynomial) -> str:
        """A polynomial rounded down, as one rounded up where that is simpler."""
        over, under = fraction(inside)
        parts = under.constant
        # That needs an integer to be divided: of another, the floor of a little more is not the ceiling.
        is_whole = all(atom.integer for atom in over.atoms())
        if isinstance(parts, int) and parts > 1 and over.offset == parts - 1 and is_whole:
            return self.up(self.ratio(over - Polynomial.number(over.offset), under))
        return self.down(self.ratio(over, under))

    def ratio(self, over: Polynomial, under: Polynomial) -> str:
        """A quotient of polynomials."""
        if under.constant == 1:
            return self.sum(over)
        top = self.sum(over) if len(over.terms) == 1 else self.group(self.sum(over))
        bottom = (
            self.sum(under) if under.constant is not None or under.single is not None else self.group(self.sum(under))
        )
        return self.quotient(top, bottom)

    def condition(self, condition: Condition) -> str:
        """A condition in words and signs."""
        says, about = condition
        if says == INTEGER:
            over, under = fraction(about)
            if under.constant == 1:
                return f"{self.sum(over)} {self.words('is an integer')}"
            return f"{self.sum(over)} {self.words('is a multiple of')} {self.sum(under)}"
        positive = Polynomial({m: c for m, c in about.terms.items() if c > 0 and m != ONE})
        negative = Polynomial({m: -c for m, c in about.terms.items() if c < 0 and m != ONE})
        offset = Polynomial.number(about.offset)
        sign = says[:2].strip()
        if not positive.terms:
            mirrored = {">=": "<=", ">": "<"}.get(sign, sign)
            return f"{self.sum(negative)} {self.sign(mirrored)} {self.sum(offset)}"
        right = negative - offset
        if about.offset > 0 and negative.terms:
            positive, right = positive + offset, negative
        return f"{self.sum(positive)} {self.sign(sign)} {self.sum(right)}"

    def sign(self, sign: str) -> str:
        """A sign of comparison."""
        return sign

    def words(self, words: str) -> str:
        """Words between formulas."""
        return words


def _joined(terms: Iterable[tuple[bool, str]]) -> str:
    """A sum of terms, each with whether it is negative."""
    text = ""
    # One that is positive comes first, where there is one.
    ordered = sorted(terms, key=lambda term: term[0]) if terms else []
    for negative, term in ordered:
        if not text:
            text = f"-{term}" if negative else term
        else:
            text += f" - {term}" if negative else f" + {term}"
    return text


def shared(about: Polynomial) -> tuple[Fraction, Monomial]:
    """What stands in front of a sum: a number that all terms have, or are over, and their common letters.

    >>> x, g = Polynomial.letter("x"), Polynomial.letter("g")
    >>> shared((x * x * x + x * x).times(2)), shared(x / g + x)
    ((Fraction(2, 1), ((x, 2),)), (Fraction(1, 1), ((x, 1),)))
    """
    factors = [Fraction(factor) for factor in about.terms.values()]
    content, common = about.content()
    if len({abs(factor) for factor in factors}) == 1:
        number = Fraction(content)
    else:
        parts = {factor.denominator for factor in factors}
        number = Fraction(1, parts.pop() if len(parts) == 1 else 1) * (-1 if content < 0 else 1)
    found = []
    for atom, exponent in common:
        exponents = [dict(monomial).get(atom, 0) for monomial in about.terms]
        # Only what all of them are over stands under all of them.
        exponent = max(exponents) if exponent < 0 else exponent
        if exponent and (exponent > 0) == (min(exponents) > 0):
            found.append((atom, exponent))
    return number, tuple(found)


def fraction(about: Polynomial) -> tuple[Polynomial, Polynomial]:
    """A polynomial as a quotient of two, without fractions and negative powers.

    >>> x, g = Polynomial.letter("x"), Polynomial.letter("g")
    >>> fraction(x / g + Polynomial.number(Fraction(1, 2)))
    (Polynomial(g + 2*x), Polynomial(2*g))
    """
    powers: dict[Atom, int] = {}
    for monomial in about.terms:
        for atom, exponent in monomial:
            if exponent < 0:
                powers[atom] = max(powers.get(atom, 0), -exponent)
    under = tuple(sorted(powers.items(), key=lambda item: item[0].order))
    parts = about.denominator
    return about.times(parts, under), Polynomial({under: parts})


class Latex(Text):
    """Writes forms as LaTeX, to stand in mathematics."""

    names: ClassVar[Mapping[str, str]] = {
        ROUND8: r"\operatorname{round8}", SMALLEST: r"\min", LARGEST: r"\max", DIVISOR: r"\gcd",
    }  # fmt: skip

    def number(self, value: int) -> str:
        return f"{value:,}".replace(",", "{,}")

    def letter(self, name: str) -> str:
        return latex_letter(name)

    def power(self, base: str, exponent: str) -> str:
        return f"{base}^{{{exponent}}}"

    def product(self, factors: list[str]) -> str:
        text = factors[0]
        for before, factor in pairwise(factors):
            text += (r" \cdot " if factor[0].isdigit() else " " if before[-1].isdigit() else r" \, ") + factor
        return text

    def quotient(self, over: str, under: str) -> str:
        return rf"\frac{{{_bare(over)}}}{{{_bare(under)}}}"

    def group(self, text: str) -> str:
        return rf"\left({text}\right)"

    def call(self, kind: str, arguments: list[str]) -> str:
        return rf"{self.names[kind]}\left({', '.join(arguments)}\right)"

    def down(self, inside: str) -> str:
        return rf"\left\lfloor {inside} \right\rfloor"

    def up(self, inside: str) -> str:
        return rf"\left\lceil {inside} \right\rceil"

    def sign(self, sign: str) -> str:
        return {">=": r"\ge", "<=": r"\le", "==": "=", "!=": r"\ne"}.get(sign, sign)

    def words(self, words: str) -> str:
        return rf"\text{{ {words} }}"


def _bare(text: str) -> str:
    """A text without parentheses around all of it."""
    match = re.fullmatch(r"\\left\(((?:(?!\\left\(|\\right\)).)*)\\right\)", text)
    return match[1] if match else text


def latex_letter(name: str) -> str:
    r"""A letter or a word as LaTeX.

    >>> latex_letter("alpha"), latex_letter("C_out"), latex_letter("H"), latex_letter("width")
    ('\\alpha', 'C_{\\mathrm{out}}', 'H', '\\mathit{width}')
    """
    head, _, index = name.partition("_")
    if len(head) > 1:
        head = rf"\{head}" if head in GREEK else None  # type: ignore[assignment]
    if head is None or not name.replace("_", "").isalnum():
        return rf"\mathit{{{name}}}".replace("_", r"\_")
    if not index:
        return head
    inside = index if index.isdigit() or len(index) == 1 else rf"\mathrm{{{index}}}".replace("_", r"\_")
    return f"{head}_{{{inside}}}"


class Python(Text):
    """Writes forms as Python that is exact for integers and fractions; ``local`` are names for functions in it."""

    def __init__(self, sizes: Collection[str] = (), local: Mapping[Atom, str] | None = None) -> None:
        super().__init__(sizes)
        self.local = dict(local or {})

    def atom(self, atom: Atom) -> str:
        return self.local.get(atom) or super().atom(atom)

    def floor(self, inside: Polynomial) -> str:
        over, under = fraction(inside)
        if under.constant == 1:
            return f"floor({self.sum(over)})"
        return f"({self.whole(over, under)})"

    def whole(self, over: Polynomial, under: Polynomial) -> str:
        """A quotient rounded down."""
        top = self.atom(over.single) if over.single is not None else self.group(self.sum(over))
        if under.constant == 1:
            return self.sum(over)
        is_plain = under.constant is not None or under.single is not None
        bottom = self.sum(under) if is_plain else self.group(self.sum(under))
        return f"{top} // {bottom}"

    def scaled(self, size: str, scale: float) -> str:
        return f"floor(int({size})*{scale!r})"

    def condition(self, condition: Condition) -> str:
        """A condition that Python can check; without fractions, so that it is exact."""
        says, about = condition
        over, under = fraction(about)
        if says == INTEGER:
            return f"{self.factor(over)} % {self.factor(under)} == 0"
        if under.constant is None:
            return f"{self.sum(about)} {says}"
        return super().condition(Condition(says, over))

    def exact(self, form: Form) -> str:
        """A form that comes to an integer."""
        parts = lcm(*(rest.denominator for rest in form.parts.values()), 1)
        powers: dict[Atom, int] = {}
        for rest in form.parts.values():
            for monomial in rest.terms:
                for atom, exponent in monomial:
                    if exponent < 0:
                        powers[atom] = max(powers.get(atom, 0), -exponent)
        under = tuple(sorted(powers.items(), key=lambda item: item[0].order))
        if parts == 1 and not under:
            return self.form(form)
        over = Form({sizes: rest.times(parts, under) for sizes, rest in form.parts.items()})
        top = self.form(over)
        return f"{top if top.isalnum() else f'({top})'} // {self.factor(Polynomial({under: parts}))}"

    def factor(self, about: Polynomial) -> str:
        """A polynomial in parentheses where it needs them."""
        return self.sum(about) if about.constant is not None or about.single is not None else f"({self.sum(about)})"


def is_size(condition: Condition) -> bool:
    """Whether a condition says of a letter that it is at least 1, and nothing else."""
    about = condition.about
    return condition.says == NOT_NEGATIVE and about.offset == -1 and (about + Polynomial.number(1)).single is not None


ROUND8_SOURCE = '''
def round8(value):
    """The multiple of 8 that the MobileNets take: the nearest, not below 8 nor below 90 % of the value."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if 10*rounded < 9*value else rounded
'''


def functions_in(forms: Iterable[Polynomial]) -> dict[Atom, int]:
    """The functions in some polynomials, those inside others first, and how often each stands there."""
    found: dict[Atom, int] = {}

    def visit(about: Polynomial) -> None:
        for atom in about.atoms():
            if atom.kind in (SYMBOL, SUM):
                for part in atom.parts:
                    visit(part)
                continue
            if atom not in found:
                for part in atom.parts:
                    visit(part)
            found[atom] = found.get(atom, 0) + 1

    for form in forms:
        visit(form)
    return found


def python_function(
    name: str,
    about: str,
    letters: Mapping[str, tuple[Exact, bool]],
    conditions: Iterable[Condition],
    results: Mapping[str, Form],
    sizes: Collection[str] = (),
    wrap: Callable[[str], list[str]] = lambda text: [text],
) -> str:
    """A function that returns the results, exact integers, by their names.

    ``letters`` are its arguments, each with its default and whether it is an integer.
    """
    polynomials = [p for form in results.values() for sizes, rest in form.parts.items() for p in (rest, *dict(sizes))]
    conditions = tuple(conditions)
    used = functions_in([*polynomials, *(condition.about for condition in conditions)])
    local: dict[Atom, str] = {}
    writer = Python(sizes, local)
    lines = []
    for atom, times in used.items():
        if times > 1:
            text = writer.atom(atom)
            writer.local[atom] = _local(len(writer.local), letters)
            lines.append(f"{writer.local[atom]} = {text[1:-1] if _whole(text) else text}")
    checks = []
    positive = [name for condition in conditions if is_size(condition) for name in condition.about.letters()]
    if positive:
        least = f"min({', '.join(positive)})" if len(positive) > 1 else positive[0]
        checks.append(f"if {least} < 1:")
        checks.append(f'    raise ValueError("{", ".join(positive)} must be at least 1")')
    for condition in conditions:
        if is_size(condition):
            continue
        said = Text().condition(condition)
        checks.append(f"if not ({writer.condition(condition)}):")
        checks.append(f'    raise ValueError("this form holds where {said}")')
    body = []
    rational = [letter for letter, (_, is_integer) in letters.items() if not is_integer]
    body += [f"{letter} = Fraction(str({letter}))" for letter in rational]
    body += lines + checks
    entries = []
    for key, form in results.items():
        text = writer.exact(form)
        entries.append(f'"{key}": int({text}),' if rational else f'"{key}": {text},')
    source = []
    kinds = {atom.kind for atom in used}
    imports = sorted({
        *(["floor"] if SCALED in kinds or any("floor(" in line for line in (*body, *entries)) else []),
        *(["gcd"] if DIVISOR in kinds else []),
    })  # fmt: skip
    if rational:
        source.append("from fractions import Fraction")
    if imports:
        source.append(f"from math import {', '.join(imports)}")
    if source:
        source.append("")
    if ROUND8 in kinds:
        source += [*ROUND8_SOURCE.splitlines(), ""]
    signature = ", ".join(f"{letter}={_default(value)}" for letter, (value, _) in letters.items())
    source += ["", f"def {name}({signature}):", f'    """{about}"""']
    source += [f"    {line}" for line in body]
    source.append("    return {")
    for entry in entries:
        source += [f"        {line}" for line in wrap(entry)]
    source.append("    }")
    return "\n".join(source).lstrip("\n") + "\n"


def _whole(text: str) -> bool:
    """Whether parentheses stand around all of a text."""
    if not text.startswith("("):
        return False
    depth = 0
    for place, char in enumerate(text):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if depth == 0:
            return place == len(text) - 1
    return False


def _local(count: int, letters: Mapping[str, object]) -> str:
    name = f"n{count + 1}"
    return name if name not in letters else f"{name}_"


def _default(value: Exact) -> str:
    """A number as one writes it: a fraction as a decimal where it is one."""
    if isinstance(value, int):
        return str(value)
    ten = 10**12
    if ten % value.denominator == 0:
        return f"{float(value)!r}"
    return f'"{value}"'
