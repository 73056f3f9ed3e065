"""Whether lists, tuples, dicts and dataclasses can be gone through to their end."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

DEEPEST = 100
"""How deep arguments may be nested; Python itself goes no deeper than a thousand calls."""

MOST = 250_000
"""How many values they may hold, one that stands in several places counted at each."""

_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None)})


def why_endless(value: Any, name: str) -> str | None:
    """Say why something cannot be gone through; None where it can.

    >>> pair = [1]
    >>> pair.append((2, pair))
    >>> why_endless(pair, "inputs")
    'inputs[1][1] is inputs itself'
    """
    left, around, path = MOST, {id(value): name}, [(value, name, iter(_entries(value)))]
    while path:
        holder, place, entries = path[-1]
        entry = next(entries, None)
        if entry is None:
            path.pop()
            del around[id(holder)]
            continue
        left -= 1
        if left < 0:
            return f"{name} holds more than {MOST:,} values"
        key, item = entry
        if type(item) in _PLAIN or not _holds(item):
            continue
        inside = f"{place}{key}"
        if id(item) in around:
            return f"{inside} is {around[id(item)]} itself"
        if len(path) >= DEEPEST:
            return f"{name} is nested more than {DEEPEST} deep"
        around[id(item)] = inside
        path.append((item, inside, iter(_entries(item))))
    return None


def _holds(value: Any) -> bool:
    is_dataclass = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return isinstance(value, (list, tuple, deque, Mapping)) or is_dataclass


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f"[{key!r}]" if type(key) in _PLAIN else "[...]", item
    elif isinstance(value, (list, tuple, deque)):
        for place, item in enumerate(value):
            yield f"[{place}]", item
    elif _holds(value):
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name, None)


def found_once(value: Any) -> Iterator[Any]:
    """What is in something that :func:`why_endless` has a reason for, what holds others left out, each once."""
    seen, waiting = set[int](), deque([value])
    while waiting and len(seen) < MOST:
        item = waiting.popleft()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if _holds(item):
            waiting.extend(inner for _, inner in zip(range(MOST), (found for _, found in _entries(item)), strict=False))
        else:
            yield item
