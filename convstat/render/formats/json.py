"""The format for programs: one object for one result, a list for several; counts are exact integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from math import isfinite
from types import NoneType
from typing import Any

from convstat.render.base import Options, Renderer, Result


class JsonRenderer(Renderer):
    """The documents of ``convstat schema report``; keys keep their order."""

    name = "json"
    suffixes = (".json",)
    about = "for programs: exact integers, every layer; see convstat schema report"
    is_view = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Write the documents; whatever options of display were given, nothing is left out."""
        documents: list[Any] = [result.to_dict() for result in results]
        return to_json(documents[0] if len(documents) == 1 else documents)


def to_json(document: Any) -> str:
    """Write any document of ours as JSON that every parser takes: ASCII, no NaN, a newline at the end.

    It is what ``json.dumps(document, indent=2)`` gives, in half the time: with an indent, that is a generator for every
    level, and the rows of a sweep are many.
    """
    return _writer()(document, "\n") + "\n"


@cache
def _writer() -> Callable[[Any, str], str]:
    """What writes a value whose lines begin with a margin; what has no parts is left to the standard library."""
    import json

    encode = json.JSONEncoder(allow_nan=False, default=plain).encode
    # Most texts are names, the same ones in every row. Its way to a single number is a long one.
    alone: dict[type, Callable[[Any], str]] = {
        str: lru_cache(maxsize=4096)(encode),
        int: int.__repr__,
        float: lambda value: float.__repr__(value) if isfinite(value) else encode(value),
        NoneType: lambda value: "null",
    }
    quoted = alone[str]

    def write(value: Any, margin: str) -> str:
        inner = f"{margin}  "
        if value and isinstance(value, dict):
            lines = [
                f"{quoted(name)}: {alone[item.__class__](item) if item.__class__ in alone else write(item, inner)}"
                for name, item in value.items()
            ]
            return f"{{{inner}{f',{inner}'.join(lines)}{margin}}}"
        if value and isinstance(value, (list, tuple)):
            return f"[{inner}{f',{inner}'.join([write(item, inner) for item in value])}{margin}]"
        return alone.get(value.__class__, encode)(value)

    return write


def plain(value: object) -> object:
    """Give what JSON does not have: an exact fraction becomes an int where it is whole, else a float."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
