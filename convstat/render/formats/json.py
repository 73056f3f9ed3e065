"""The format for programs: one object for one result, a list for several; counts are exact integers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
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
    """Write any document of ours as JSON that every parser takes: ASCII, no NaN, a newline at the end."""
    import json

    return json.dumps(document, indent=2, allow_nan=False, default=plain) + "\n"


def plain(value: object) -> object:
    """Give what JSON does not have: an exact fraction becomes an int where it is whole, else a float."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
