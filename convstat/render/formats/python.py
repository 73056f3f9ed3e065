"""The format for programs of one's own: closed forms as a Python function."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from keyword import iskeyword
from textwrap import wrap
from typing import cast

from convstat.errors import UsageError
from convstat.formulas.notation import names
from convstat.formulas.symbolic.terms import ROUND8
from convstat.formulas.symbolic.writing import ROUND8_SOURCE, functions_in, python_function
from convstat.render.base import Options, Renderer, Result
from convstat.render.views.formula import number
from convstat.results.closed import ClosedForms
from convstat.results.formula import Formula, KindFormula, NetworkFormula
from convstat.results.ratio import RatioFormula
from convstat.text.printable import printable

WIDTH = 108
"""Columns of a line of a formula, without what stands before it."""


class PythonRenderer(Renderer):
    """One function for each formula, which returns exact integers and needs nothing but Python."""

    name = "python"
    suffixes = (".formula.py",)
    about = "for programs: closed forms as a function that returns exact integers"
    expresses = ("formula",)
    is_view = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        return "\n\n".join(_function(cast("Formula", result)) for result in results)


def _function(formula: Formula) -> str:
    if isinstance(formula, KindFormula):
        return "".join(f"{line}\n" for line in _of_kind(formula))
    if isinstance(formula, RatioFormula):
        return "".join(f"{line}\n" for line in _of_ratio(formula))
    assert isinstance(formula, NetworkFormula)
    closed = formula.closed
    if closed is None:
        raise UsageError(
            f"{formula.report.model.source} has no closed form: nothing in it is a letter",
            help="name the sizes that stay letters: --in H,W",
        )
    return python_function(
        identifier(formula.report.model.name),
        _about(formula, closed),
        {letter.name: (letter.value, letter.is_integer) for letter in closed.letters},
        closed.conditions,
        {"params": closed.params, "macs": closed.macs},
        closed.sizes,
        _wrapped,
    )


def _about(formula: NetworkFormula, closed: ClosedForms) -> str:
    name = re.sub(r"[\\\"]", "'", printable(formula.report.model.name))
    fixed = ", ".join(f"{item.name} = {number(item.value)}" for item in closed.settled)
    return f"Params and MACs of {name}{f', for {fixed}' if fixed else ''}."


def _wrapped(text: str) -> list[str]:
    """A long line in several, which end behind an operator."""
    first, *others = wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [first, *(f"    {line}" for line in others)]


def identifier(name: str) -> str:
    """A name for a function.

    >>> identifier("mobilenet_v1#half"), identifier("Conv2d(4, 8, 3)"), identifier("3d")
    ('mobilenet_v1_half', 'Conv2d', 'counts_3d')
    """
    found = re.sub(r"\W+", "_", re.sub(r"\(.*", "", name), flags=re.ASCII).strip("_") or "counts"
    return f"counts_{found}" if found[0].isdigit() or iskeyword(found) else found


def _of_ratio(formula: RatioFormula) -> Iterator[str]:
    """The ratios, as exact fractions of their letters."""
    quotients = [found.quotient for found in formula.ratios]
    used = functions_in(part for quotient in quotients for part in quotient)
    names = [letter.name for letter in formula.letters if any(letter.name in p.letters() for q in quotients for p in q)]
    defaults = {letter.name: number(letter.value) for letter in formula.letters}
    yield "from fractions import Fraction"
    yield "from math import ceil, floor, gcd" if any(atom.kind != ROUND8 for atom in used) else ""
    if any(atom.kind == ROUND8 for atom in used):
        yield from (*ROUND8_SOURCE.splitlines(), "")
    yield ""
    yield f"def ratio({', '.join(f'{name}={defaults[name]}' for name in names)}):"
    about = re.sub(r"[\\\"]", "'", printable(f"{formula.first.name} / {formula.second.name}"))
    yield f'    """The ratio of {about}."""'
    yield from (f"    {name} = Fraction(str({name}))" for name in names)
    yield "    return {"
    for found in formula.ratios:
        yield from (f"        {line}" for line in _wrapped(f'"{found.figure}": Fraction({found.symbols}),'))
    yield "    }"


def _of_kind(formula: KindFormula) -> Iterator[str]:
    """The formula of a kind of layer, of its letters."""
    needed = dict.fromkeys(flag for form in (*formula.params, *formula.macs) for flag in form.needs)
    letters = dict.fromkeys(name for form in (*formula.macs, *formula.params) for name in names(form.symbols))
    usual = {flag for form in (*formula.params, *formula.macs) if form.usual for flag in form.needs}
    arguments = [name for name in letters if name != "N"]
    flags = [f"{flag}={flag in usual}" for flag in needed]
    batch = ["N=1"] if "N" in letters else []
    star = ["*"] if arguments else []
    yield f"def {identifier(formula.name)}({', '.join([*star, *arguments, *batch, *flags])}):"
    yield f'    """Params and MACs of {formula.name}: {formula.about.replace(chr(34), chr(39)).rstrip(".")}."""'
    yield "    return {"
    for figure, forms in (("params", formula.params), ("macs", formula.macs)):
        terms = []
        for form in forms:
            text = form.symbols.replace("/", "//")
            terms.append(f"({text} if {' and '.join(form.needs)} else 0)" if form.needs else text)
        yield from (f"        {line}" for line in _wrapped(f'"{figure}": {" + ".join(terms) or "0"},'))
    yield "    }"
