"""The grammar of overrides and sweeps: ``groups=1,2,4``, ``1..8``, ``16..64:16``, ``range(1,5)``.

::

    argument = key "=" value
    key      = name { "." name | "[" int "]" }
    value    = item { "," item }                  two or more items: a sweep
    item     = scalar | span | "[" items "]" | quoted
    span     = num ".." num [ ":" step ]          inclusive
             | "range(" a "," b [ "," c ] ")"     half-open, as in Python

``[1,2]`` is one value, a list. A number with a decimal point is an exact fraction, never a float.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

from convstat.errors import Diagnostic, Mark, SourceText, UsageError

LIMIT = 100_000
"""The most points that one sweep may have."""

Value = int | Fraction | bool | str | list[Any] | None
"""What an argument can be set to."""

# Patterns, not compiled: re compiles and remembers each when it is first used, and most runs use two of them.
_KEY = r"[^\W\d][\w-]*(?:\.[\w-]+|\[[0-9]+\])*"
_ASSIGNMENT = rf"(?s)\s*({_KEY})\s*=(.*)"
_COMPARISON = rf"(?s)\s*({_KEY})\s*(<=|>=|==|<|>)\s*(.*)"
_NUMBER = r"[+-]?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d{1,2})?"
_SPAN = rf"(?a)({_NUMBER})\.\.({_NUMBER})(?::({_NUMBER}))?"
_RANGE = rf"(?a)range\(\s*({_NUMBER})\s*(?:,\s*({_NUMBER})\s*)?(?:,\s*({_NUMBER})\s*)?\)"
_NUMBER_ONLY = f"(?a){_NUMBER}"
_WORD = r"[\w.+\-*/%×: ]+"
_WORDS: Mapping[str, Value] = {
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "null": None,
    "None": None,
}
_DIGITS = 30
_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Axis:
    """One parameter and the values that it takes; ``text`` is the value as it was written (``1..4``), for messages."""

    name: str
    values: tuple[Value, ...]
    text: str

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return len(self.values) > 1

    @property
    def listed(self) -> str:
        """The values as text, so that every spelling of a sweep gives the same document.

        >>> Axis("g", (1, Fraction(1, 2), [3, 4], "same"), "1,0.5,[3,4],same").listed
        '1,0.5,[3,4],"same"'
        """
        import json

        return ",".join(json.dumps(plain(value), separators=(",", ":")) for value in self.values)


def plain(value: Any) -> Any:
    """Give a value as JSON can hold it: an exact fraction becomes an int where it is whole, else a float.

    >>> plain(Fraction(1, 2)), plain(Fraction(4, 2)), plain([1, Fraction(1, 4)])
    (0.5, 2, [1, 0.25])
    """
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def split(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell targets from overrides and sweeps: what starts with ``name=`` is not a target.

    An inline layer has its ``=`` behind a bracket, and is a target.

    >>> split(["net.yaml", "alpha=0.5", "Conv2d(4, 8, kernel_size=3)"])
    (('net.yaml', 'Conv2d(4, 8, kernel_size=3)'), ('alpha=0.5',))
    """
    targets: list[str] = []
    assignments: list[str] = []
    for argument in arguments:
        if re.fullmatch(_ASSIGNMENT, argument) and not re.fullmatch(_COMPARISON, argument):
            assignments.append(argument)
        elif match := re.fullmatch(_COMPARISON, argument):
            option = {"<": "--max", "<=": "--max", ">": "--min", ">=": "--min", "==": "--exact"}[match[2]]
            raise UsageError(
                f"'{argument}' is neither a target nor an override",
                help=(
                    f"to set a parameter: {match[1]}={match[3].strip()}",
                    f"to check a budget:  convstat check {option} {match[1]}={match[3].strip()}",
                ),
            )
        else:
            targets.append(argument)
    return tuple(targets), tuple(assignments)


def parse(text: str) -> Axis:
    """Read one override or sweep.

    >>> parse("groups=1,2,4").values, parse("c=16..64:16").values, parse("k=[1,2]").values
    ((1, 2, 4), (16, 32, 48, 64), ([1, 2],))
    """
    source = SourceText(f"argument '{text}'", text, is_file=False)
    match = re.fullmatch(_ASSIGNMENT, text)
    if match is None:
        raise UsageError(f"'{text}' is not of the form KEY=VALUE")
    start = match.start(2)
    values: list[Value] = []
    for offset, item in _items(match[2], source, start):
        values += _values(item, source, start + offset)
        if len(values) > LIMIT:
            raise _problem(f"more than {LIMIT:,} values", source, start + offset, len(item))
    return Axis(match[1], tuple(values), match[2].strip())


def parse_all(assignments: Sequence[str]) -> tuple[Axis, ...]:
    """Read all overrides and sweeps, and report every problem at once."""
    axes: dict[str, Axis] = {}
    problems: list[Diagnostic] = []
    for text in assignments:
        try:
            axis = parse(text)
        except UsageError as error:
            problems += error.diagnostics
            continue
        if axis.name in axes:
            mark = Mark(SourceText(f"argument '{text}'", text, is_file=False), 1, 1, len(axis.name))
            problems.append(
                Diagnostic(
                    f"'{axis.name}' is given twice",
                    mark,
                    help=(f"for a sweep write the values together: {axis.name}={axes[axis.name].text},{axis.text}",),
                )
            )
        axes[axis.name] = axis
    if problems:
        raise UsageError(problems)
    return tuple(axes.values())


def overrides(assignments: Sequence[str], command: str) -> dict[str, Value]:
    """Read overrides where each may have one value only, because the command takes one model."""
    axes = parse_all(assignments)
    problems = [
        Diagnostic(
            f"'{axis.name}={axis.text}' has {len(axis.values)} values but {command} takes one model",
            help=(
                f"to sweep:         convstat compare {axis.name}={axis.text}",
                f"to pass a list:   {axis.name}=[{axis.text}]",
                f"to pass a string: {axis.name}='\"{axis.text}\"'",
            ),
        )
        for axis in axes
        if axis.varies
    ]
    if problems:
        raise UsageError(problems)
    return {axis.name: axis.values[0] for axis in axes}


def sides(arguments: Sequence[str], command: str) -> tuple[dict[str, Value], dict[str, Value], dict[str, Value]]:
    """Read the overrides of two targets: those of both, those of the first alone, those of the second alone.

    What stands between the two is for the first, and then what stands behind the second is for the second.
    Of one target named twice they are for the second: for both, they would change nothing.

    >>> sides(["a.yaml", "b.yaml", "g=4"], "diff"), sides(["a.yaml", "a.yaml", "g=4"], "diff")
    (({'g': 4}, {}, {}), ({}, {}, {'g': 4}))
    >>> sides(["n=1", "a.yaml", "g=2", "a.yaml", "g=4"], "diff")
    ({'n': 1}, {'g': 2}, {'g': 4})
    """
    targets, _ = split(arguments)
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if split([argument])[0]:
            parts.append([])
        else:
            parts[-1].append(argument)
    if len(targets) != 2 or not (parts[1] or targets[0] == targets[1]):
        return overrides([item for part in parts for item in part], command), {}, {}
    before, first, second = (overrides(part, command) for part in parts)
    return before, first, second


def combine(axes: Sequence[Axis], *, zipped: bool = False, models: int = 1) -> Iterator[tuple[Value, ...]]:
    """Give the points: every combination, the last axis fastest, or the values side by side.

    Axes with one value are the same at every point, also of a zip.

    >>> list(combine([parse("a=1,2"), parse("b=3,4")]))
    [(1, 3), (1, 4), (2, 3), (2, 4)]
    >>> list(combine([parse("a=1,2"), parse("b=3,4"), parse("c=5")], zipped=True))
    [(1, 3, 5), (2, 4, 5)]
    """
    lengths = {axis.name: len(axis.values) for axis in axes if axis.varies}
    if zipped:
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise UsageError(
                f"--zip pairs values, but the axes differ in length: {shown}",
                help="leave --zip away for every combination",
            )
        count = next(iter(lengths.values()), 1)
        points: Iterator[tuple[Value, ...]] = zip(
            *(axis.values if axis.varies else axis.values * count for axis in axes), strict=True
        )
        points = points if axes else iter([()])
    else:
        count = prod(lengths.values())
        points = product(*(axis.values for axis in axes))
    if count * models > LIMIT:
        factors = [*([f"{models} models"] if models > 1 else []), *(f"{n} of {name}" for name, n in lengths.items())]
        raise UsageError(
            f"this sweep has {count * models:,} points ({' x '.join(factors)}), and the limit is {LIMIT:,}",
            help="take fewer values, a larger step (16..64:16), or --zip",
        )
    return points


def _items(text: str, source: SourceText, start: int) -> Iterator[tuple[int, str]]:
    """Split at the commas that are in no bracket and no quotes; give each item with its offset."""
    depth = 0
    quote = ""
    begin = 0
    for position, character in enumerate(f"{text},"):
        at_end = position == len(text)
        if quote and not at_end:
            quote = "" if character == quote else quote
        elif character in "\"'" and not text[begin:position].strip():
            quote = character
        elif character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character == "," and (depth == 0 or at_end):
            item = text[begin:position]
            offset = begin + len(item) - len(item.lstrip())
            if quote or depth:
                what = "a quotation mark" if quote else "a bracket"
                raise _problem(f"{what} is not closed", source, start + offset, len(item.strip()))
            if not item.strip():
                raise _problem("a value is missing here", source, start + min(position, max(len(text) - 1, 0)), 1)
            yield offset, item.strip()
            begin = position + 1
        if depth > _DEPTH:
            raise _problem(f"lists nest more than {_DEPTH} deep", source, start + position, 1)
        if depth < 0:
            raise _problem("a bracket is closed that was not opened", source, start + position, 1)


def _values(item: str, source: SourceText, start: int) -> Sequence[Value]:
    """Read one item: a scalar or a list is one value, a span is several."""
    if match := re.fullmatch(_SPAN, item):
        first, last = _number(match[1], source, start), _number(match[2], source, start)
        step = _number(match[3], source, start) if match[3] else 1
        return _span(first, last, step, item, source, start)
    if item.startswith("range(") and (match := re.fullmatch(_RANGE, item)):
        bounds = [_number(group, source, start) for group in match.groups() if group]
        if not all(isinstance(bound, int) for bound in bounds):
            raise _problem("range() takes integers", source, start, len(item), "for other steps write 0.5..1:0.25")
        first, stop = (0, bounds[0]) if len(bounds) == 1 else (bounds[0], bounds[1])
        step = bounds[2] if len(bounds) == 3 else 1
        return _span(first, stop - (1 if step > 0 else -1), step, item, source, start)
    return [_scalar(item, source, start)]


def _span(
    first: int | Fraction, last: int | Fraction, step: int | Fraction, item: str, source: SourceText, start: int
) -> list[Value]:
    """Give first, first + step, ... up to and including last."""
    if step == 0:
        raise _problem(f"the step of {item} is 0", source, start, len(item))
    count = (last - first) // step + 1
    if count < 1:
        help = f"{first}..{last}:-1 counts down" if step == 1 and last < first and ".." in item else None
        raise _problem(f"{item} has no values", source, start, len(item), help)
    if count > LIMIT:
        raise _problem(f"{item} has {count:,} values, and the limit is {LIMIT:,}", source, start, len(item))
    return [_whole(first + i * step) for i in range(count)]


def _whole(value: int | Fraction) -> int | Fraction:
    return value.numerator if value.denominator == 1 else value


def _number(text: str, source: SourceText, start: int) -> int | Fraction:
    """Read a number exactly; one with a point stays a fraction even where it is whole, as 1.0 in a spec does."""
    digits = text.lstrip("+-")
    if len(text) > _DIGITS:
        raise _problem(f"a number of {len(text)} characters", source, start, len(text), f"at most {_DIGITS} are read")
    if digits.endswith("_") or "__" in digits:
        raise _problem(f"'{text}' is not a number", source, start, len(text))
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        raise _problem(
            f"'{text}' has a leading zero",
            source,
            start,
            len(text),
            f"write {digits.lstrip('0') or '0'}, or quote it if it is a word",
        )
    if re.fullmatch(r"[+-]?[\d_]+", text):
        return int(text)
    return Fraction(text)


def _scalar(item: str, source: SourceText, start: int) -> Value:
    if item[0] in "\"'":
        if item[-1] != item[0] or len(item) < 2 or item[0] in item[1:-1]:
            raise _problem(
                f"cannot read {item}", source, start, len(item), "a quoted word ends with the mark it starts with"
            )
        return item[1:-1]
    if item[0] == "[":
        if item[-1] != "]":
            raise _problem(f"cannot read '{item}'", source, start, len(item))
        inside = item[1:-1]
        if not inside.strip():
            return []
        return [
            value
            for offset, part in _items(inside, source, start + 1)
            for value in _values(part, source, start + 1 + offset)
        ]
    if item in _WORDS:
        return _WORDS[item]
    if re.fullmatch(_NUMBER_ONLY, item):
        return _number(item, source, start)
    if re.fullmatch(_WORD, item) and ".." not in item:
        return item
    help = None
    if ".." in item:
        help = "a span is FIRST..LAST or FIRST..LAST:STEP, both ends included: 1..8, 16..64:16"
    elif item.startswith("range"):
        help = "range(1,5) is 1, 2, 3, 4"
    raise _problem(f"cannot read '{item}'", source, start, len(item), help or "quote it if it is a word")


def _problem(message: str, source: SourceText, offset: int, length: int, help: str | None = None) -> UsageError:
    mark = Mark(source, *source.place(offset), max(1, length))
    return UsageError(Diagnostic(message, mark, help=(help,) if help else ()))
