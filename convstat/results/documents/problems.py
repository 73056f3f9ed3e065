"""What does not fit in a document that comes from outside, where it is, and the limits that every value has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

LARGEST = 10**100
"""No count has as many digits; one that had could not be divided, or be written as a decimal."""

LONGEST = 100_000
"""The characters of one text."""

DEEPEST = 64
"""How deep values may be nested: more cannot be shown, and none of ours is."""

MOST = 100
"""Problems after which the rest of a document is not looked at."""

WORDS: Mapping[type, str] = {
    dict: "an object", list: "a list", str: "a text", int: "an integer", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip
"""What the values of JSON are called."""

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """What does not fit, and where: ``layers[3].params``; the document itself is an empty path."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class TooManyError(Exception):
    """Enough was found."""


class Problems(list[Problem]):
    """What was found in one document."""

    def add(self, path: Path, message: str) -> None:
        """Note one; raises TooManyError after the last that is looked for."""
        self.append(Problem(written(path), message))
        if len(self) >= MOST:
            raise TooManyError

    def look_into(self, value: Any, path: Path) -> None:
        """Hold a value that nothing is declared of to the limits: its size, and that of all that is in it."""
        kind = value.__class__
        if len(path) > DEEPEST:
            self.add(path[:DEEPEST], f"nested more than {DEEPEST} deep")
        elif kind is dict:
            for name, inner in value.items():
                self.look_into(inner, (*path, name))
        elif kind is list:
            for place, inner in enumerate(value):
                self.look_into(inner, (*path, place))
        else:
            self.measure(value, path)

    def measure(self, value: Any, path: Path) -> None:
        """Hold a text or a number to the limits."""
        kind = value.__class__
        if kind is str and len(value) > LONGEST:
            self.add(path, f"a text of {len(value):,} characters: the limit is {LONGEST:,}")
        elif kind is int and not -LARGEST < value < LARGEST:
            self.add(path, _TOO_LARGE)
        elif kind is float and value - value != 0:
            self.add(path, "a number that is not finite")


_TOO_LARGE = "an integer of more than 100 digits"


def written(path: Path) -> str:
    """Write a path as one would in a program.

    >>> written(("layers", 3, "other", "bias add"))
    'layers[3].other["bias add"]'
    """
    import json

    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f"[{_cut(json.dumps(part, ensure_ascii=False))}]"
    return text


def shown(value: Any) -> str:
    """Say what a value is: itself where it is short, else its type.

    >>> shown("a"), shown(None), shown([1]), shown(-2)
    ("'a'", 'null', 'a list', '-2')
    """
    if isinstance(value, str):
        return _cut(f"'{value}'")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and not -LARGEST < value < LARGEST:
        return _TOO_LARGE
    if isinstance(value, (int, float)):
        return _cut(str(value))
    return WORDS[type(value)]


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}"
