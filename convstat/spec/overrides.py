"""Overrides: ``alpha=0.5`` sets a variable, ``stem.kernel_size=5`` an argument of a layer.

A key is the name of a variable; else a path to an argument or to ``repeat``, ``when`` or ``frozen`` of an item;
else, in a spec of a single layer or block, the bare name of one of its arguments.
An override changes what is there and adds nothing: a typo is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from convstat.errors import Mark, SourceText, did_you_mean
from convstat.spec.fragment import Fragment, leaves
from convstat.spec.plan import BlockCall, LayerCall, Plan
from convstat.spec.problems import Problems
from convstat.spec.scalars import ExpressionError, Value
from convstat.spec.values import normal


class Override:
    """A value that is set from outside, and whether anything took it."""

    __slots__ = ("key", "mark_column", "used", "value")

    def __init__(self, key: str, value: Value) -> None:
        self.key = key
        self.value = value
        self.used = False

    @property
    def mark(self) -> Mark:
        """Its place: the argument as one would write it."""
        return mark_of(self.key, self.value)


Patch = dict[str, Any]
"""Overrides by path: names -> Override, or a deeper Patch."""


def mark_of(key: str, value: Value) -> Mark:
    """The place of an override."""
    text = f"{key}={shown(value)}"
    return Mark(SourceText(f"argument '{text}'", text, is_file=False), 1, 1, len(key))


def shown(value: Value) -> str:
    """A value as one would write it in an argument.

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


def read(plan: Plan, overrides: Mapping[str, Any], problems: Problems) -> tuple[dict[str, Value], Patch]:
    """Part overrides into the values of variables, and a patch for arguments."""
    variables: dict[str, Value] = {}
    patch: Patch = {}
    known = plan.variants[None].variables
    names = {name for name, _ in known}
    for key, raw in overrides.items():
        try:
            value = normal(raw)
        except ExpressionError as error:
            problems.add(error.message, mark_of(key, str(raw)))
            continue
        if key in names:
            variables[key] = value
            continue
        steps = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
        if len(steps) == 1 and plan.single is not None:
            steps = [plan.single.name, *steps]
        elif len(steps) == 1:
            problems.add(
                f"no variable '{key}'",
                mark_of(key, value),
                help=did_you_mean(key, names) or _help(plan, names),
            )
            continue
        place = patch
        for step in steps[:-1]:
            below = place.setdefault(step, {})
            if not isinstance(below, dict):
                problems.add(f"'{key}' and '{below.key}' cannot both be set", mark_of(key, value))
                break
            place = below
        else:
            place[steps[-1]] = Override(key, value)
    return variables, patch


def _help(plan: Plan, names: set[str]) -> tuple[str, ...]:
    lines = []
    if names:
        lines.append(f"variables of {plan.source.name}: {', '.join(sorted(names))}")
    item = next(
        (item for item in plan.items if isinstance(item.action, LayerCall) and item.action.kind.arguments), None
    )
    if item is not None and isinstance(item.action, LayerCall):
        lines.append(f"or an argument of a layer by its path: {item.name}.{next(iter(item.action.kind.arguments))}=...")
    return tuple(lines)


def report_unused(plan: Plan, patch: Patch, fragment: Fragment | None, problems: Problems) -> None:
    """Report what no layer took, with the paths that there are."""
    unused = [override for override in _walk(patch) if not override.used]
    if not unused:
        return
    paths: list[str] = [name for name, _ in plan.variants[None].variables]
    for name, part in leaves(fragment) if fragment is not None else ():
        paths += [f"{name}.{argument}" for argument in _arguments(part.content)]
    for item in plan.items:
        action = item.action
        if isinstance(action, BlockCall):
            paths += [f"{item.name}.{param}" for param in plan.blocks[action.block].params]
        if item.repeat is not None:
            paths.append(f"{item.name}.repeat")
    if plan.single is not None:
        paths += [path.partition(".")[2] for path in paths if path.startswith(f"{plan.single.name}.")]
    for override in unused:
        what = "argument" if "." in override.key or plan.single is not None else "variable"
        near = did_you_mean(override.key, paths) or ((f"there are: {', '.join(paths[:8])}",) if paths else ())
        problems.add(f"no {what} '{override.key}' in {plan.source.name}", override.mark, help=near)


def _arguments(content: Any) -> list[str]:
    layer = getattr(content, "layer", None)
    return list(layer.arguments) if layer is not None else []


def _walk(patch: Patch) -> list[Override]:
    found: list[Override] = []
    for value in patch.values():
        found += _walk(value) if isinstance(value, dict) else [value]
    return found
