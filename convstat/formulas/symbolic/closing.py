"""From what a run in letters left behind to what is shown: nothing settled, nothing said twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

from convstat.formulas.symbolic.facts import INTEGER, Condition, Facts
from convstat.formulas.symbolic.terms import Exact, Polynomial


class Closed(NamedTuple):
    """Closed forms, what they rest on, and the letters that were settled, each with its value."""

    forms: tuple[Polynomial, ...]
    conditions: tuple[Condition, ...]
    settled: Mapping[str, Exact]


def close(forms: Iterable[Polynomial], facts: Facts) -> Closed:
    """Simplify forms by all that was met, and leave of that what does not follow from the rest."""
    polynomials = tuple(forms)
    conditions = list(facts.conditions)
    settled: dict[str, Exact] = {}
    while True:
        more = dict(found for c in conditions if (found := c.settles) is not None)
        settled.update(more)
        values = {name: Polynomial.number(Fraction(value)) for name, value in settled.items()}
        renewed = _renewed(conditions, values)
        if renewed == conditions:
            break
        conditions = renewed
    facts = Facts(conditions)
    polynomials = tuple(facts.simplified(form, values) for form in polynomials)
    return Closed(polynomials, _needed(conditions), settled)


def _renewed(conditions: list[Condition], values: Mapping[str, Polynomial]) -> list[Condition]:
    """The conditions, each as plain as the others make it."""
    left = list(conditions)
    for condition in conditions:
        place = left.index(condition)
        known = Facts([*left[:place], *left[place + 1 :]])
        about = known.simplified(condition.about, values)
        renewed = Condition(condition.says, about)
        if about.constant is None:
            renewed = known.plainer(renewed)
        if renewed.about.constant is not None or renewed in left[:place]:
            # Of a condition on a number there is nothing left to say.
            del left[place]
        else:
            left[place] = renewed
    return left


def _needed(conditions: list[Condition]) -> tuple[Condition, ...]:
    """The conditions from which the others follow."""
    left = list(dict.fromkeys(conditions))
    # What is said of integers last: the others are proven with it.
    for condition in [*(c for c in left if c.says != INTEGER), *(c for c in left if c.says == INTEGER)]:
        others = [other for other in left if other != condition]
        if Facts(others).tells(condition) is True:
            left = others
    return tuple(left)
