"""Values in a spec: what a scalar means, depending on where it is written.

A scalar has no type of its own. In the place of a word (``padding_mode: reflect``) it is that word;
everywhere else it is an expression, of which a number is the simplest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from operator import itemgetter
from typing import Any

from convstat.errors import Mark, did_you_mean
from convstat.formulas.cost import Shape
from convstat.layers.base import Either, Fixed, Flag, Kind, Optional, Word
from convstat.spec.expressions import (
    CONSTANTS,
    FUNCTIONS,
    Expression,
    ExpressionError,
    UnknownNameError,
    Value,
    compile_expression,
)
from convstat.spec.load import List, Map, Tree
from convstat.spec.problems import Problems

_AXES: Mapping[int, tuple[str, ...]] = {
    2: ("cin",),
    3: ("cin", "lin"),
    4: ("cin", "hin", "win"),
    5: ("cin", "din", "hin", "win"),
}

SHAPE_NAMES = ("cin", "din", "hin", "win", "lin", "fin")
"""The sizes of the input of a layer: channels, depth, height, width, length, and the last axis (features)."""

REPEAT_NAMES = frozenset({"i", "n"})
"""Inside ``repeat``: the number of this turn, from 0, and the number of turns."""

RESERVED = frozenset((*SHAPE_NAMES, *FUNCTIONS, *CONSTANTS, "and", "or", "not", "if", "else"))
"""Names that a variable cannot have."""

_YAML_FLAGS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def sizes_of(shape: Shape | None) -> dict[str, int]:
    """The sizes of an input shape by the names that expressions use.

    >>> sizes_of((1, 64, 56, 56)) == {"cin": 64, "hin": 56, "win": 56, "fin": 56}
    True
    """
    if shape is None:
        return {}
    named = dict(zip(_AXES.get(len(shape), ("cin",)), shape[1:], strict=False))
    named["fin"] = shape[-1]
    return named


def unknown(name: str, mark: Mark) -> Expression:
    """A placeholder for an invalid variable, already reported: it has no value, and neither has what reads it."""
    return Expression(name, mark, evaluate=itemgetter(name))


@cache
def layer_words() -> frozenset[str]:
    """The names of layers and the words that their arguments take, which stand for themselves in an expression."""
    from convstat import layers

    words = set(layers.NAMES)
    for kind in layers.KINDS.values():
        for argument in kind.arguments.values():
            words.update(words_of(argument.kind))
    return frozenset(words)


def is_layer(name: str) -> bool:
    """Whether a layer kind has this name; plugins are loaded only if none of convstat's own has."""
    from convstat import layers

    if name not in layers.NAMES:
        layers.load_plugins()
    return name in layers.NAMES


def words_of(kind: Kind[Any] | None) -> tuple[str, ...]:
    """The words that an argument of this kind takes."""
    if isinstance(kind, Word):
        return kind.words
    if isinstance(kind, Either):
        return kind.words.words
    if isinstance(kind, Optional):
        return words_of(kind.kind)
    return ()


class Scope:
    """The names that have values at one place of a spec; compiles the values written there."""

    def __init__(self, known: Iterable[str], problems: Problems, is_block: Callable[[str], bool]) -> None:
        self.known = frozenset(known)
        self.problems = problems
        self.is_block = is_block
        self.used: set[str] = set()
        self._inner: dict[frozenset[str], Scope] = {}
        self._compiled: dict[tuple[str, tuple[str, ...]], Expression] = {}

    def with_names(self, names: Iterable[str]) -> Scope:
        """A scope with more names; what is used there counts as used here."""
        more = frozenset(names)
        inner = self._inner.get(more)
        if inner is None:
            inner = self._inner[more] = Scope(self.known | more, self.problems, self.is_block)
            inner.used = self.used
        return inner

    def compile(self, tree: Tree, kind: Kind[Any] | None = None) -> Expression | None:
        """Compile a value; None if it is invalid, which is then reported."""
        if isinstance(tree, Map):
            self.problems.add("expected a value, not a mapping", tree.mark)
            return None
        if isinstance(tree, List):
            return self._list(tree, kind)
        words = words_of(kind)
        if tree.text not in words and tree.is_null:
            return Expression("null", tree.mark)
        # A word that the argument does not take is left to the argument, which knows what to say.
        is_word = isinstance(kind, Word) and re.fullmatch(r"\w+", tree.text) and tree.text not in self.known
        if is_word or tree.text in words:
            return Expression(tree.text, tree.mark, constant=tree.text)
        if isinstance(kind, (Flag, Fixed)) and tree.text.lower() in _YAML_FLAGS and tree.text not in self.known:
            right = _YAML_FLAGS[tree.text.lower()]
            self.problems.add(f"'{tree.text}' is not true or false", tree.mark, help=f"write {right}")
            return None
        try:
            found = self._compiled.get((tree.text, words))
            if found is None:
                found = compile_expression(
                    tree.text,
                    self.known,
                    lambda word: word in words or self.is_block(word) or word in layer_words() or is_layer(word),
                )
                if not tree.text.isdecimal() and tree.text not in self.known:
                    self.problems.count_expression(tree.mark)
                self._compiled[tree.text, words] = found
        except ExpressionError as error:
            message, help = error.message, error.help
            if isinstance(error, UnknownNameError):
                candidates = (*sorted(self.known), *words, *FUNCTIONS)
                if kind is None and tree.text.strip() == error.name:
                    candidates += tuple(sorted(layer_words()))  # a variable may be the name of a layer
                known = (f"known names: {', '.join(sorted(self.known))}",) if self.known else ()
                help = did_you_mean(error.name, candidates) or known
            elif not tree.text.strip():
                message = "missing value"
            elif message == "not an expression":
                message = f"'{_short(tree.text)}' is not an expression"
            self.problems.add(message, tree.part(error.offset, error.length), help=help)
            return None
        self.used |= found.names
        return found.at(tree)

    def _list(self, tree: List, kind: Kind[Any] | None) -> Expression | None:
        items = [self.compile(item, kind) for item in tree.items]
        parts = [item for item in items if item is not None]
        if len(parts) < len(items):
            return None
        names = frozenset[str]().union(*(item.names for item in parts))
        text = "[" + ", ".join(item.text for item in parts) + "]"
        if all(item.evaluate is None for item in parts):
            return Expression(text, tree.mark, constant=tuple(item.constant for item in parts))

        def evaluate(values: Mapping[str, Value]) -> Value:
            return tuple(item.constant if item.evaluate is None else item.evaluate(values) for item in parts)

        return Expression(text, tree.mark, names=names, evaluate=evaluate)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else flat[:57] + "..."


def types_of(values: tuple[Value, ...]) -> tuple[Any, ...]:
    """The types of values: as a part of a key, they tell 1 from true, which are equal in Python."""
    types = tuple(map(type, values))
    return tuple([types_of(v) if type(v) is tuple else type(v) for v in values]) if tuple in types else types


def truth(value: Value) -> bool:
    """Convert a value to a bool; raises ExpressionError for anything but true, false, 1 and 0."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ExpressionError(f"expected true or false, not {value}")
