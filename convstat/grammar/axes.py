"""The grammar of overrides and sweeps: ``groups=1,2,4``, ``1..8``, ``16..64:16``, ``1..64*2``, ``range(1,5)``.

::

    argument = key "=" value
    key      = name { "." name | "[" int "]" }
    value    = item { "," item }                  two or more items: a sweep
    item     = scalar | span | "[" items "]" | quoted
    span     = num ".." num [ ":" step ]          inclusive
             | num ".." num "*" factor            each is the one before times the factor; inclusive
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
from typing import Any, NamedTuple

from convstat.errors import Diagnostic, Mark, SourceText, Together, UsageError

LIMIT = 100_000
"""The most points that one sweep may have."""

Value = int | Fraction | bool | str | list[Any] | None
"""What an argument can be set to."""

# Patterns, not compiled: re compiles and remembers each when it is first used, and most runs use two of them.
_KEY = r"[^\W\d][\w-]*(?:\.[\w-]+|\[[0-9]+\])*"
_ASSIGNMENT = rf"(?s)\s*({_KEY})\s*=(.*)"
_COMPARISON = rf"(?s)\s*({_KEY})\s*(<=|>=|==|<|>)\s*(.*)"
_NUMBER = r"[+-]?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d{1,2})?"
_SPAN = rf"(?a)({_NUMBER})\.\.({_NUMBER})(?::({_NUMBER})|\*({_NUMBER}))?"
_RANGE = rf"(?a)range\(\s*({_NUMBER})\s*(?:,\s*({_NUMBER})\s*)?(?:,\s*({_NUMBER})\s*)?\)"
_NUMBER_ONLY = f"(?a){_NUMBER}"
_WORD = r"[\w.+\-*/%×@: ]+"
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
    match = re.fullmatch(_ASSIGNMENT, text)
    if match is None:
        raise UsageError(f"'{text}' is not of the form KEY=VALUE")
    values: list[Value] = []
    source = SourceText(f"argument '{text}'", text, is_file=False)
    for item in _items(_Piece(match[2], source, match.start(2))):
        values += _values(item)
        if len(values) > LIMIT:
            raise item.problem(f"more than {LIMIT:,} values")
    return Axis(match[1], tuple(values), match[2].strip())


def parse_all(assignments: Sequence[str]) -> tuple[Axis, ...]:
    """Read all overrides and sweeps, and report every problem at once."""
    axes: dict[str, Axis] = {}
    problems = Together()
    for text in assignments:
        with problems:
            axis = parse(text)
            before = axes.get(axis.name)
            axes[axis.name] = axis
            if before is not None:
                mark = Mark(SourceText(f"argument '{text}'", text, is_file=False), 1, 1, len(axis.name))
                help = f"for a sweep, write all values together: {axis.name}={before.text},{axis.text}"
                raise UsageError(Diagnostic(f"'{axis.name}' is given twice", mark, help=(help,)))
    problems.tell()
    return tuple(axes.values())


def overrides(assignments: Sequence[str], command: str) -> dict[str, Value]:
    """Read overrides where each may have one value only, because the command takes one model."""
    axes = parse_all(assignments)
    problems = [
        Diagnostic(
            f"'{axis.name}={axis.text}' has {len(axis.values)} values, but {command} takes one model",
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
                help="omit --zip for all combinations",
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
            help="use fewer values, a larger step (16..64:16), or --zip",
        )
    return points


class _Piece(NamedTuple):
    """A part of an argument: its text, and where in the argument that starts."""

    text: str
    source: SourceText
    start: int

    def part(self, start: int, text: str) -> _Piece:
        """A part of it, without the blanks around that."""
        return _Piece(text.strip(), self.source, self.start + start + len(text) - len(text.lstrip()))

    def problem(self, message: str, help: str | None = None, *, at: int | None = None) -> UsageError:
        """Say what is wrong with it, or with its character ``at`` a place."""
        start, length = (self.start, len(self.text)) if at is None else (self.start + at, 1)
        mark = Mark(self.source, *self.source.place(start), max(1, length))
        return UsageError(Diagnostic(message, mark, help=(help,) if help else ()))


def _items(piece: _Piece) -> Iterator[_Piece]:
    """Split at the commas that are in no bracket and no quotes."""
    text = piece.text
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
            item = piece.part(begin, text[begin:position])
            if quote or depth:
                raise item.problem(f"{'a quotation mark' if quote else 'a bracket'} is not closed")
            if not item.text:
                raise piece.problem("missing value", at=min(position, max(len(text) - 1, 0)))
            yield item
            begin = position + 1
        if depth > _DEPTH:
            raise piece.problem(f"lists are nested more than {_DEPTH} deep", at=position)
        if depth < 0:
            raise piece.problem("unmatched closing bracket", at=position)


def _values(item: _Piece) -> Sequence[Value]:
    """Read one item: a scalar or a list is one value, a span is several."""
    if match := re.fullmatch(_SPAN, item.text):
        first, last = _number(match[1], item), _number(match[2], item)
        if match[4]:
            return _powers(first, last, _number(match[4], item), item)
        return _span(first, last, _number(match[3], item) if match[3] else 1, item)
    if item.text.startswith("range(") and (match := re.fullmatch(_RANGE, item.text)):
        bounds = [_number(group, item) for group in match.groups() if group]
        if not all(isinstance(bound, int) for bound in bounds):
            raise item.problem("range() takes integers", "for other steps write 0.5..1:0.25")
        first, stop = (0, bounds[0]) if len(bounds) == 1 else (bounds[0], bounds[1])
        step = bounds[2] if len(bounds) == 3 else 1
        return _span(first, stop - (1 if step > 0 else -1), step, item)
    return [_scalar(item)]


def _span(first: int | Fraction, last: int | Fraction, step: int | Fraction, item: _Piece) -> list[Value]:
    """Give first, first + step, ... up to and including last."""
    if step == 0:
        raise item.problem(f"the step of {item.text} is 0")
    count = (last - first) // step + 1
    if count < 1:
        help = f"{first}..{last}:-1 counts down" if step == 1 and last < first and ".." in item.text else None
        raise item.problem(f"{item.text} has no values", help)
    if count > LIMIT:
        raise item.problem(f"{item.text} has {count:,} values, and the limit is {LIMIT:,}")
    return [_whole(first + i * step) for i in range(count)]


def _powers(first: int | Fraction, last: int | Fraction, factor: int | Fraction, item: _Piece) -> list[Value]:
    """Give first, first x factor, ... up to and including last."""
    if factor <= 1 or first <= 0:
        raise item.problem(f"{item.text} does not grow", "the first value is above 0 and the factor above 1: 1..64*2")
    found: list[Value] = []
    value = first
    while value <= last:
        if len(found) == LIMIT:
            raise item.problem(f"{item.text} has more than {LIMIT:,} values")
        found.append(_whole(value))
        value *= factor
    if not found:
        raise item.problem(f"{item.text} has no values")
    return found


def _whole(value: int | Fraction) -> int | Fraction:
    return value.numerator if value.denominator == 1 else value


def _number(text: str, item: _Piece) -> int | Fraction:
    """Read a number exactly; one with a point stays a fraction even where it is whole, as 1.0 in a spec does."""
    digits = text.lstrip("+-")
    # What is wrong with a number stands where its item starts.
    written = item._replace(text=text)
    if len(text) > _DIGITS:
        raise written.problem(f"a number of {len(text)} characters", f"at most {_DIGITS} are read")
    if digits.endswith("_") or "__" in digits:
        raise written.problem(f"'{text}' is not a number")
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        help = f"write {digits.lstrip('0') or '0'}, or quote it if it is a word"
        raise written.problem(f"'{text}' has a leading zero", help)
    if re.fullmatch(r"[+-]?[\d_]+", text):
        return int(text)
    return Fraction(text)


def _scalar(item: _Piece) -> Value:
    text = item.text
    if text[0] in "\"'":
        if text[-1] != text[0] or len(text) < 2 or text[0] in text[1:-1]:
            raise item.problem(f"cannot read {text}", "a quoted word must end with the quotation mark it starts with")
        return text[1:-1]
    if text[0] == "[":
        if text[-1] != "]":
            raise item.problem(f"cannot read '{text}'")
        inside = _Piece(text[1:-1], item.source, item.start + 1)
        return [value for part in _items(inside) for value in _values(part)] if inside.text.strip() else []
    if text in _WORDS:
        return _WORDS[text]
    if re.fullmatch(_NUMBER_ONLY, text):
        return _number(text, item)
    if re.fullmatch(_WORD, text) and ".." not in text:
        return text
    help = "quote it if it is a word"
    if ".." in text:
        help = "a span is FIRST..LAST, FIRST..LAST:STEP or FIRST..LAST*FACTOR: 1..8, 16..64:16, 1..64*2"
    elif text.startswith("range"):
        help = "range(1,5) is 1, 2, 3, 4"
    raise item.problem(f"cannot read '{text}'", help)
