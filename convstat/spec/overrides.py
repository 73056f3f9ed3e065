"""Overrides: ``alpha=0.5`` sets a variable, ``stem.kernel_size=5`` an argument of a layer.

A key is the name of a variable; else a path to an argument or to ``repeat``, ``when`` or ``frozen`` of an item;
else, in a spec of a single layer or block, the bare name of one of its arguments.
An override changes what is there and adds nothing: a typo is an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from convstat.errors import Mark, SourceText, did_you_mean
from convstat.layers.base import Layer
from convstat.spec.expressions import ExpressionError, Value
from convstat.spec.plan import BlockCall, LayerCall, Plan
from convstat.spec.problems import Problems


class Override:
    """A value set from outside, and whether anything used it."""

    __slots__ = ("key", "used", "value")

    def __init__(self, key: str, value: Value) -> None:
        self.key = key
        self.value = value
        self.used = False

    @property
    def mark(self) -> Mark:
        """Its place: the argument as it is written on the command line."""
        return mark_of(self.key, self.value)


class Patch:
    """The overrides at one place: of arguments by name, and ``below`` it, by the name of an item."""

    __slots__ = ("below", "values")

    def __init__(self, values: Mapping[str, Override] = {}, below: Mapping[str, Patch] = {}) -> None:
        self.values = dict(values)
        self.below = dict(below)

    def at(self, name: str) -> Patch:
        """The overrides in an item."""
        return self.below.get(name, NO_PATCH)

    def turn(self, number: int) -> Patch:
        """The overrides in one turn of a repeated item: ``stage.groups`` for all, ``stage.2.groups`` for the third."""
        own = self.at(str(number))
        shared = {name: patch for name, patch in self.below.items() if not name.isdigit()}
        return Patch({**self.values, **own.values}, {**shared, **own.below})

    def take(self, name: str) -> Override | None:
        """The override of an argument, marked as used."""
        found = self.values.get(name)
        if found is not None:
            found.used = True
        return found

    def apply(
        self, given: dict[str, Value], takes: Collection[str], shorts: Mapping[str, str] | None = None
    ) -> dict[str, Override]:
        """Override arguments in ``given``, by name or short form; return the overrides that applied."""
        found = {}
        for key in self.values:
            name = (shorts or {}).get(key, key)
            if name in takes and (override := self.take(key)) is not None:
                found[name] = override
                given[name] = override.value
        return found

    def __iter__(self) -> Iterator[Override]:
        yield from self.values.values()
        for patch in self.below.values():
            yield from patch


NO_PATCH = Patch()


def mark_of(key: str, value: Value) -> Mark:
    """The place of an override, for messages."""
    text = f"{key}={shown(value)}"
    return Mark(SourceText(f"argument '{text}'", text, is_file=False), 1, 1, len(key))


def shown(value: Value) -> str:
    """Format a value as it is written on the command line.

    >>> shown(True), shown((1, 2)), shown(None), shown(Fraction(1, 8)), shown(Fraction(1, 3))
    ('true', '[1,2]', 'null', '0.125', '1/3')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(shown(item) for item in value) + "]"
    if isinstance(value, Fraction) and 10**12 % value.denominator == 0:
        # What was written as a decimal is exact, and is shown as one.
        whole, rest = divmod(abs(value.numerator) * 10**12 // value.denominator, 10**12)
        return f"{'-' if value < 0 else ''}{whole}.{rest:012d}".rstrip("0").rstrip(".")
    return str(value)


def exact(value: object) -> Value:
    """Convert a value to the form that expressions use: floats to exact decimals, lists to tuples.

    >>> exact(0.5), exact([1, 2.0])
    (Fraction(1, 2), (1, 2))
    """
    if isinstance(value, (list, tuple)):
        return tuple(exact(item) for item in value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ExpressionError(f"{value} is not a number to count with")
        value = Fraction(repr(value))
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def read(plan: Plan, overrides: Mapping[str, Any], problems: Problems) -> tuple[dict[str, Value], Patch]:
    """Split overrides into values of variables and a patch for arguments."""
    variables: dict[str, Value] = {}
    patch = Patch()
    names, single = plan.variants[None].variables, plan.single
    for key, raw in overrides.items():
        try:
            value = exact(raw)
        except ExpressionError as error:
            problems.add(error.message, mark_of(key, str(raw)))
            continue
        if key in names:
            variables[key] = value
            continue
        steps = _steps(key)
        if len(steps) == 1 and single is not None:
            steps = (single.name, *steps)
        elif len(steps) == 1:
            help = did_you_mean(key, names) or _help(plan, names)
            problems.add(f"no variable '{key}'", mark_of(key, value), help=help)
            continue
        place = patch
        for step in steps[:-1]:
            if step in place.values:
                message = f"'{key}' and '{place.values[step].key}' cannot both be set"
                problems.add(message, mark_of(key, value))
                break
            place = place.below.setdefault(step, Patch())
        else:
            place.values[steps[-1]] = Override(key, value)
    return variables, patch


@lru_cache(maxsize=256)
def _steps(key: str) -> tuple[str, ...]:
    """The names on the way to an argument; a sweep has the same keys at every point."""
    return tuple(re.sub(r"\[(\d+)\]", r".\1", key).split("."))


def _help(plan: Plan, names: Collection[str]) -> tuple[str, ...]:
    lines = []
    if names:
        lines.append(f"variables of {plan.source.name}: {', '.join(sorted(names))}")
    for item in plan.items:
        if isinstance(item.action, LayerCall) and item.action.kind.arguments:
            argument = next(iter(item.action.kind.arguments))
            return (*lines, f"or an argument of a layer by its path: {item.name}.{argument}=...")
    return tuple(lines)


def report_unused(plan: Plan, patch: Patch, layers: Iterable[tuple[str, Layer]], problems: Problems) -> None:
    """Report overrides that nothing used, with the nearest paths that exist."""
    unused = [override for override in patch if not override.used]
    if not unused:
        return
    paths = [*plan.variants[None].variables, *(f"{name}.{key}" for name, layer in layers for key in layer.arguments)]
    for item in plan.items:
        if isinstance(item.action, BlockCall):
            paths += [f"{item.name}.{param}" for param in plan.blocks[item.action.block].params]
        if item.repeat is not None:
            paths.append(f"{item.name}.repeat")
    if plan.single is not None:
        paths += [path.partition(".")[2] for path in paths if path.startswith(f"{plan.single.name}.")]
    for override in unused:
        what = "argument" if "." in override.key or plan.single is not None else "variable"
        message = f"no {what} '{override.key}' in {plan.source.name}"
        listed = f"known paths: {', '.join(paths[:8])}" if paths else ""
        problems.unknown(message, override.mark, override.key, paths, listed)
