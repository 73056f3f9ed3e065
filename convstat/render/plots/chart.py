"""What the picture of a comparison shows, before anything is drawn: which key is the axis, which are lines.

Everything here is exact and needs no plotting library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, NamedTuple

from convstat.render.views.comparison import MODEL, label_of, reasons
from convstat.render.views.report import show_value
from convstat.text.printable import printable

if TYPE_CHECKING:
    from convstat.results.comparison import Comparison, ComparisonRow

Number = int | Fraction

_UNITS = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


class Point(NamedTuple):
    """One row of a comparison that has totals; ``x`` is its place on the axis, ``name`` what sets it apart."""

    x: Number
    name: str
    params: int
    macs: int


class Family(NamedTuple):
    """The points that make one line, from left to right, and the places where there is none."""

    name: str
    points: tuple[Point, ...]
    invalid: tuple[Number, ...] = ()


class Chart(NamedTuple):
    """What is drawn.

    ``axis`` is the key along which params and MACs are drawn, None where models alone are set side by side.
    ``ticks`` are its places and what they are called, where these are not simply the numbers.
    """

    title: str
    axis: str | None
    families: tuple[Family, ...]
    ticks: tuple[tuple[Number, str], ...] = ()
    is_log: bool = False
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> tuple[Point, ...]:
        """All points, line by line."""
        return tuple(point for family in self.families for point in family.points)


def chart_of(comparison: Comparison) -> Chart:
    """Decide how to draw a comparison.

    The axis is the numeric key with the most values, the first of several;
    where none is numeric, words stand side by side in their order. What else varies makes a line of its own.
    """
    names = [key for key in comparison.varying if key != MODEL]
    rows = comparison.rows
    axis = _axis(names, rows)
    others = [key for key in comparison.varying if key != axis and (not comparison.zipped or key == MODEL)]
    places, ticks = _places(axis, rows) if axis is not None else ([0] * len(rows), ())
    prefix = _folder([row.model for row in rows]) if MODEL in comparison.varying else ""
    members: dict[str, tuple[list[Point], list[Number]]] = {}
    for row, x in zip(rows, places, strict=True):
        keys = others if axis is not None else []
        points, invalid = members.setdefault(", ".join(_named(row, key, prefix) for key in keys), ([], []))
        if row.totals is None:
            invalid.append(x)
        else:
            name = ", ".join(_named(row, key, prefix) for key in comparison.varying or (MODEL,))
            points.append(Point(x, name, row.totals.params, row.totals.macs))
    families = tuple(
        Family(name, tuple(sorted(points, key=lambda point: point.x)), tuple(sorted(invalid)))
        for name, (points, invalid) in members.items()
    )
    return Chart(
        title=_title(comparison),
        axis=_label(comparison, axis, names),
        families=families,
        ticks=ticks,
        is_log=not ticks and is_geometric(places),
        notes=_notes(comparison),
    )


def _axis(names: Sequence[str], rows: Sequence[ComparisonRow]) -> str | None:
    if not names:
        return None
    numeric = [name for name in names if all(_is_number(row.values.get(name)) for row in rows)]
    return max(numeric or names, key=lambda name: len({show_value(row.values.get(name)) for row in rows}))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, Fraction)) and not isinstance(value, bool)


def _places(axis: str, rows: Sequence[ComparisonRow]) -> tuple[list[Number], tuple[tuple[Number, str], ...]]:
    """Give each row its place on the axis: its number, or the position of its word."""
    values = [row.values.get(axis) for row in rows]
    numbers = [value for value in values if isinstance(value, (int, Fraction)) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return list(numbers), ()
    words = {word: place for place, word in enumerate(dict.fromkeys(label_of(row, axis) for row in rows))}
    return [words[label_of(row, axis)] for row in rows], tuple((place, word) for word, place in words.items())


def _named(row: ComparisonRow, key: str, prefix: str) -> str:
    text = label_of(row, key)
    return text.removeprefix(prefix) if key == MODEL else f"{printable(key)}={text}"


def _folder(models: Sequence[str]) -> str:
    """The folder that all models are in, as their names begin.

    >>> _folder(["configs/a.yaml", "configs/ab.yaml"]), _folder(["a.yaml", "b.yaml"])
    ('configs/', '')
    """
    folders = {"" if "(" in model else model[: model.rfind("/") + 1] for model in models}
    return folders.pop() if len(folders) == 1 else ""


def _label(comparison: Comparison, axis: str | None, names: Sequence[str]) -> str | None:
    if axis is None:
        return None
    along = [printable(name) for name in names if name != axis]
    return f"{printable(axis)} (with {', '.join(along)})" if comparison.zipped and along else printable(axis)


def _title(comparison: Comparison) -> str:
    """Say what is the same for all points."""
    facts = [
        printable(show_value(value)) if name == MODEL else f"{printable(name)} {printable(show_value(value))}"
        for name, value in comparison.constants.items()
        if name != "pixels"
    ]
    models = len(comparison.models)
    return ", ".join([*([f"{models:,} models"] if MODEL in comparison.varying and models > 1 else []), *facts])


def _notes(comparison: Comparison) -> tuple[str, ...]:
    if not comparison.invalid:
        return ()
    found = reasons(comparison)
    more = f" (and {len(found) - 1:,} other reasons)" if len(found) > 1 else ""
    return (f"{comparison.invalid:,} of {len(comparison.rows):,} points cannot be built: {found[0]}{more}",)


def is_geometric(values: Sequence[Number]) -> bool:
    """Whether steps are steady as ratios and not as differences: 1, 2, 4, 8 and 1, 3, 10, 30.

    >>> is_geometric([1, 2, 4, 8]), is_geometric([1, 3, 10, 30]), is_geometric([1, 2, 3, 4]), is_geometric([0, 1, 10])
    (True, True, False, False)
    """
    places = sorted(set(values))
    if len(places) < 3 or places[0] <= 0:
        return False
    ratios = [log(after) - log(before) for before, after in pairwise(places)]
    steps = [after - before for before, after in pairwise(places)]
    return max(ratios) <= 2 * min(ratios) and max(steps) >= 2 * min(steps)


def is_wide(values: Sequence[int], ratio: int) -> bool:
    """Whether counts are so far apart that the small ones would lie on the axis.

    >>> is_wide([10, 1000], 100), is_wide([10, 999], 100), is_wide([0, 1000], 100)
    (True, False, False)
    """
    return bool(values) and min(values) > 0 and max(values) >= ratio * min(values)


def unit_of(values: Sequence[int]) -> tuple[int, str]:
    """The power of a thousand to write counts in, and its letter.

    >>> unit_of([999]), unit_of([4_231_976, 12]), unit_of([])
    ((1, ''), (1000000, 'M'), (1, ''))
    """
    largest = max(values, default=0)
    return next(((unit, letter) for unit, letter in _UNITS if largest >= unit), (1, ""))


def with_letter(value: float) -> str:
    """Write a round number with its letter.

    >>> with_letter(20_000), with_letter(1e9), with_letter(0.5)
    ('20k', '1G', '0.5')
    """
    unit, letter = unit_of([int(value)])
    return f"{value / unit:g}{letter}"


def front(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other is better than: none has fewer of one count and as few of the other.

    Points with the same counts are on the front together.

    >>> a, b, c = Point(0, "a", 1, 9), Point(0, "b", 5, 5), Point(0, "c", 6, 5)
    >>> [point.name for point in front([c, b, a])]
    ['a', 'b']
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.params, point.macs)):
        last = found[-1] if found else None
        if last is None or point.macs < last.macs or (point.params, point.macs) == (last.params, last.macs):
            found.append(point)
    return tuple(found)


def shared_names(points: Sequence[Point]) -> Mapping[tuple[int, int], str]:
    """What to call each place in a drawing of MACs against params: points that lie on each other share a label."""
    names: dict[tuple[int, int], list[str]] = {}
    for point in points:
        found = names.setdefault((point.params, point.macs), [])
        if point.name not in found:
            found.append(point.name)
    return {
        place: found[0] + (f" and {len(found) - 1:,} more" if len(found) > 1 else "") for place, found in names.items()
    }
