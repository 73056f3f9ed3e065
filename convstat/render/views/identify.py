"""What ``convstat identify`` says: whose number it is, how it is read, and what comes near."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from convstat.render.base import Options
from convstat.render.page import Block, Heading, Item, Items, Line, Pairs
from convstat.render.views.report import input_fact, label, title
from convstat.results.identification import Candidate, Identification
from convstat.results.report import CounterRow
from convstat.text.printable import exact, printable, significant


def blocks(found: Identification, options: Options) -> Iterator[Block]:
    """What the page of a number says."""
    yield Heading(title(found.model.name, found.model.source), 1)
    number = f"{printable(found.number.text)}, which is {_value(found.number.value)}"
    yield Pairs((("input", input_fact(found.model)), ("number", number)))
    if found.matches:
        yield Heading("matches")
        yield _items(found.matches)
    else:
        yield Line(f"Nothing matches {printable(found.number.text)}: {found.looked_at:,} figures were compared.", "bad")
    if found.near:
        yield Heading("near misses" if found.matches else "nearest figures")
        yield _items(found.near)
    for note in dict.fromkeys(f"{_name(c)}: {c.note}" for c in (*found.matches, *found.near) if c.note):
        yield Line(printable(note), "warn")
    for name, reason in found.silent:
        yield Line(f"{printable(name)} gives no figure: {printable(reason)}", "quiet")


def _items(candidates: Sequence[Candidate]) -> Items:
    """A line for each figure, with all the counters that give it."""
    whose: dict[tuple[Fraction, str], list[Candidate]] = {}
    for candidate in candidates:
        whose.setdefault((candidate.value, candidate.figure), []).append(candidate)
    items = []
    for (value, figure), found in whose.items():
        names = ", ".join(_name(candidate) for candidate in found)
        distance, reading = _off(found[0].distance), found[0].reading
        off = f"; {reading}" if reading == "exact" else f"; {reading}, {distance}" if reading else f"; {distance}"
        items.append(Item(_value(value), f"{printable(figure)}, by {printable(names)}{off}"))
    return Items(tuple(items))


def _value(value: Fraction) -> str:
    return exact(int(value)) if value.denominator == 1 else significant(value, 4)


def _name(candidate: Candidate) -> str:
    return label(CounterRow(candidate.counter, "", candidate.version, "predicted"))


def _off(distance: Fraction) -> str:
    """A distance in percent; none is ``=``.

    >>> _off(Fraction(0)), _off(Fraction(1, 1000)), _off(Fraction(-1, 20))
    ('=', '+0.10%', '-5.00%')
    """
    if not distance:
        return "="
    text = significant(100 * distance, 2)
    return f"{'+' if distance > 0 else ''}{text}%"
