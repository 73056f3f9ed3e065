"""Hold a document against its JSON Schema, and say of everything that does not fit where it is.

This knows the part of JSON Schema that our own schemas use, and refuses to be made from one that uses more.
It is a dependency less, and reads a report of ten thousand layers in a fraction of a second.
It is stricter than the standard in two points: ``1.0`` is no integer, because counts are exact, and a number must be
one that there can be: finite, and an integer below :data:`LARGEST`.
Values that a schema leaves open (the arguments of a layer) are held to the same, and to a depth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

Schema = Mapping[str, Any]

LARGEST = 10**100
"""No count has as many digits; one that had could not be divided, or be written as a decimal."""

LONGEST = 100_000
"""The characters of one text."""

DEEPEST = 64
"""How deep values may be nested: more cannot be shown, and none of ours is."""

MOST = 100
"""Problems after which the rest of a document is not looked at."""

ANNOTATIONS = frozenset({"$schema", "$defs", "title", "description", "examples"})

TYPES: Mapping[str, type] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
WORDS: Mapping[type, str] = {
    dict: "an object", list: "a list", str: "a text", int: "an integer", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip
Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """What does not fit, and where: ``layers[3].params``; the document itself is an empty path."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class _TooManyError(Exception):
    """Enough was found."""


def validator(schema: Schema, definitions: Mapping[str, Schema] | None = None) -> Node:
    """Make what checks documents of a schema; ``definitions`` are those that its references mean."""
    return Node(schema, schema.get("$defs", {}) if definitions is None else definitions, {})


class Node:
    """One schema, ready to check values with."""

    def __init__(self, schema: Schema, definitions: Mapping[str, Schema], made: dict[str, Node]) -> None:
        reference = schema.get("$ref")
        if reference is not None:
            # What stands beside a reference of ours are words alone.
            assert not set(schema) - ANNOTATIONS - {"$ref"}, f"beside a reference: {sorted(schema)}"
            name = reference.removeprefix("#/$defs/")
            if name not in made:
                made[name] = Node(definitions[name], definitions, made)
            self.__dict__ = made[name].__dict__
            return
        unknown = set(schema) - ANNOTATIONS - KEYWORDS
        assert not unknown, f"JSON Schema has more than this validator knows: {sorted(unknown)}"

        def make(inner: Schema) -> Node:
            return Node(inner, definitions, made)

        written = schema.get("type")
        names = [written] if isinstance(written, str) else written
        self.types: frozenset[type] | None = None
        if names is not None:
            self.types = frozenset(t for n in names for t in ((int, float) if n == "number" else (TYPES[n],)))
        self.names = names
        self.minimum: int | None = schema.get("minimum")
        self.choices: tuple[Any, ...] | None = tuple(schema["enum"]) if "enum" in schema else None
        if "const" in schema:
            self.choices = (schema["const"],)
        self.pattern = re.compile(schema["pattern"]) if "pattern" in schema else None
        self.fewest: int = schema.get("minItems", 0)
        self.items = make(schema["items"]) if "items" in schema else None
        self.properties = {name: make(inner) for name, inner in schema.get("properties", {}).items()}
        self.required = tuple(schema.get("required", ()))
        more = schema.get("additionalProperties", True)
        self.more = more if isinstance(more, bool) else make(more)
        self.any = [make(inner) for inner in schema["anyOf"]] if "anyOf" in schema else None
        if self.any is not None:
            assert not set(schema) - ANNOTATIONS - {"anyOf"}, f"beside anyOf: {sorted(schema)}"
        self.is_integer = self.types == frozenset({int}) and self.choices is None
        self.least = -LARGEST if self.minimum is None else self.minimum

    def check(self, value: Any) -> list[Problem]:
        """Give what does not fit, at most :data:`MOST` problems."""
        found: list[Problem] = []
        with suppress(_TooManyError):
            self._visit(value, (), found)
        return found

    def _visit(self, value: Any, path: Path, found: list[Problem]) -> None:
        if self.any is not None:
            self._any(value, path, found)
            return
        kind = value.__class__
        if self.types is not None and kind not in self.types:
            _add(found, path, f"{shown(value)} where {self.wanted()} belongs")
            return
        if self.choices is not None and not _is_one_of(value, self.choices):
            known = ", ".join(map(shown, self.choices))
            _add(found, path, f"{shown(value)} is {'not' if len(self.choices) == 1 else 'none of'} {known}")
            return
        if kind is dict:
            self._object(value, path, found)
        elif kind is list:
            if len(value) < self.fewest:
                _add(found, path, f"{len(value)} items where at least {self.fewest} belong")
            self._list(value, path, found)
        elif kind is str:
            if len(value) > LONGEST:
                _add(found, path, f"a text of {len(value):,} characters: the limit is {LONGEST:,}")
            if self.pattern is not None and self.pattern.search(value) is None:
                _add(found, path, f"{shown(value)} does not have the form {self.pattern.pattern}")
        elif kind is int or kind is float:
            if self.minimum is not None and value < self.minimum:
                _add(found, path, f"{shown(value)} is less than {self.minimum}")
            elif problem := _size(value):
                _add(found, path, problem)

    def _object(self, value: dict[str, Any], path: Path, found: list[Problem]) -> None:
        for name in self.required:
            if name not in value:
                _add(found, path, f"'{name}' is missing")
        properties, more = self.properties, self.more
        for name, inner in value.items():
            node = properties.get(name, more)
            if isinstance(node, Node):
                # Most values are integers in their range: they are not worth a call.
                if not (node.is_integer and inner.__class__ is int and node.least <= inner < LARGEST):
                    node._visit(inner, (*path, name), found)
            elif node:
                _open(inner, (*path, name), found)
            else:
                _add(found, (*path, name), "there is no such field")
            if len(name) > LONGEST:
                _add(found, path, f"a name of {len(name):,} characters: the limit is {LONGEST:,}")

    def _list(self, value: list[Any], path: Path, found: list[Problem]) -> None:
        node = self.items
        if node is None:
            _open(value, path, found)
            return
        is_integer, least = node.is_integer, node.least if node.any is None else 0
        for place, inner in enumerate(value):
            if not (is_integer and inner.__class__ is int and least <= inner < LARGEST):
                node._visit(inner, (*path, place), found)

    def _any(self, value: Any, path: Path, found: list[Problem]) -> None:
        """Check a value that may be one of several; what is said is about the one that it was meant to be."""
        assert self.any is not None
        kind = value.__class__
        meant: list[Problem] | None = None
        for node in self.any:
            problems: list[Problem] = []
            node._visit(value, path, problems)
            if not problems:
                return
            if meant is None and (node.types is None or kind in node.types):
                meant = problems
        if meant is None:
            meant = [_problem(path, f"{shown(value)} where {self.wanted()} belongs")]
        for problem in meant:
            _append(found, problem)

    def wanted(self) -> str:
        """Say in words what belongs here."""
        if self.any is not None:
            return " or ".join(dict.fromkeys(node.wanted() for node in self.any))
        words = {name: "a number" if name == "number" else WORDS[TYPES[name]] for name in self.names or ()}
        if "integer" in words and self.minimum is not None:
            words["integer"] += f" of at least {self.minimum}"
        return " or ".join(words.values()) or "something else"


KEYWORDS = frozenset(
    {"type", "minimum", "enum", "const", "pattern", "minItems", "items", "properties", "required",
     "additionalProperties", "anyOf"}
)  # fmt: skip
"""What of JSON Schema is known here, besides ``$ref`` into ``$defs``."""


def _open(value: Any, path: Path, found: list[Problem]) -> None:
    """Check what a schema says nothing about."""
    kind = value.__class__
    if len(path) > DEEPEST:
        _add(found, path[:DEEPEST], f"nested more than {DEEPEST} deep")
    elif kind is dict:
        for name, inner in value.items():
            _open(inner, (*path, name), found)
    elif kind is list:
        for place, inner in enumerate(value):
            _open(inner, (*path, place), found)
    elif kind is str:
        if len(value) > LONGEST:
            _add(found, path, f"a text of {len(value):,} characters: the limit is {LONGEST:,}")
    elif problem := _size(value):
        _add(found, path, problem)


def _size(value: Any) -> str | None:
    """What is wrong with the size of a number, if anything is."""
    if value.__class__ is int and not -LARGEST < value < LARGEST:
        return "an integer of more than 100 digits"
    if value.__class__ is float and value - value != 0:
        return "a number that is not finite"
    return None


def _is_one_of(value: Any, choices: tuple[Any, ...]) -> bool:
    # 1 and true are equal in Python.
    return any(value.__class__ is choice.__class__ and value == choice for choice in choices)


def _add(found: list[Problem], path: Path, message: str) -> None:
    _append(found, _problem(path, message))


def _append(found: list[Problem], problem: Problem) -> None:
    found.append(problem)
    if len(found) >= MOST:
        raise _TooManyError


def _problem(path: Path, message: str) -> Problem:
    return Problem(written(path), message)


def written(path: Path) -> str:
    """Write a path as one would in a program.

    >>> written(("layers", 3, "other", "bias add"))
    'layers[3].other["bias add"]'
    """
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
        return json.dumps(value)
    if isinstance(value, int) and not -LARGEST < value < LARGEST:
        return "an integer of more than 100 digits"
    if isinstance(value, (int, float)):
        return _cut(str(value))
    return WORDS[type(value)]


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}"
