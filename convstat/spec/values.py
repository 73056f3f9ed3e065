"""Values in a spec: what a scalar means where it stands.

A scalar has no type of its own. In the place of a word (``padding_mode: reflect``) it is that word;
everywhere else it is an expression, of which a number is the simplest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

from convstat.errors import Mark, did_you_mean
from convstat.layers.base import Either, Fixed, Flag, Kind, Optional, Word
from convstat.spec.expressions import CONSTANTS, FUNCTIONS, Expression, UnknownNameError, compile_expression, work_out
from convstat.spec.load import List, Map, Scalar, Tree
from convstat.spec.problems import Problems
from convstat.spec.scalars import ExpressionError, Value, number

SHAPE_NAMES = frozenset({"cin", "din", "hin", "win", "lin", "fin"})
"""The sizes of what comes in: channels, depth, height, width, length, and the last axis (features)."""

REPEAT_NAMES = frozenset({"i", "n"})
"""Inside ``repeat``: the number of this turn, from 0, and how many there are."""

RESERVED = SHAPE_NAMES | frozenset(FUNCTIONS) | frozenset(CONSTANTS) | frozenset({"and", "or", "not", "if", "else"})
"""Names that a variable cannot have."""

_YAML_FLAGS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


@dataclass(frozen=True, slots=True)
class Formula:
    """One value of a spec, compiled: a constant, or something to work out when the names have values."""

    text: str
    mark: Mark
    names: frozenset[str]
    constant: Value
    evaluate: Callable[[Mapping[str, Value]], Value] | None = None
    offset: int = 0

    def place(self, error: ExpressionError) -> Mark:
        """The place of an error inside this value."""
        return _inside(self.mark, self.text, self.offset, error)


_SPACE = r"\s+|\\(?=[\r\n])"
"""What parts words in a scalar; a line that ends with a backslash goes on in the next one."""


def _inside(mark: Mark, text: str, quote: int, error: ExpressionError) -> Mark:
    """The place of a part of a scalar; of the whole one, where its text is not what is written there."""
    if not error.length:
        return mark
    source, written = mark.source, mark.source.text
    at = source.offset(mark.line, mark.column)
    if quote and written[at : at + 1] in ("|", ">"):
        at = source.offset(mark.line + 1, 1) if mark.line < len(source.starts) else len(written)
    else:
        at += quote
    # Lines are folded, and quotes doubled: all that is no space is there, in its order.
    for position in range(error.offset + 1):
        wanted = text[position : position + 1]
        if wanted.isspace():
            continue
        while (space := re.compile(_SPACE).match(written, at)) is not None:
            at = space.end()
        if wanted and written[at : at + 1] != wanted:
            return mark
        if position < error.offset:
            at += 2 if wanted == "'" == written[at + 1 : at + 2] else 1
    line, column = source.place(at)
    return Mark(source, line, column, max(1, min(error.length, len(source.lines[line - 1]) - column + 1)))


def value_of(formula: Formula, values: Mapping[str, Value]) -> Value:
    """Work a formula out; raises ExpressionError."""
    return formula.constant if formula.evaluate is None else work_out(formula.evaluate, values)


def unknown(name: str, mark: Mark) -> Formula:
    """What stands for a variable that is wrong, which is reported: it has no value, and neither has what reads it."""

    def evaluate(values: Mapping[str, Value]) -> Value:
        return values[name]

    return Formula(name, mark, frozenset(), None, evaluate)


def constant(value: Value, mark: Mark, text: str = "") -> Formula:
    """A formula that is a value."""
    return Formula(text or str(value), mark, frozenset(), value)


@cache
def layer_words() -> frozenset[str]:
    """Every word that a layer or an argument of one may be called by: these stand for themselves in an expression."""
    from convstat import layers

    words = set(layers.NAMES)
    for kind in layers.KINDS.values():
        for argument in kind.arguments.values():
            words.update(words_of(argument.kind))
    return frozenset(words)


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
    """The names that have values at a place, and where problems go."""

    def __init__(self, known: Iterable[str], problems: Problems, *, words: Container[str] = ()) -> None:
        self.known = frozenset(known)
        self.problems = problems
        self.words = words
        self.used: set[str] = set()
        self._inner: dict[frozenset[str], Scope] = {}
        self._compiled: dict[tuple[str, tuple[str, ...]], Expression] = {}

    def with_names(self, names: Iterable[str]) -> Scope:
        """The same place with more names; what is used in it counts as used here."""
        more = frozenset(names)
        inner = self._inner.get(more)
        if inner is None:
            inner = self._inner[more] = Scope(self.known | more, self.problems, words=self.words)
            inner.used = self.used
        return inner

    def compile(self, tree: Tree, kind: Kind[Any] | None = None) -> Formula | None:
        """Compile a value; None where it is wrong, which is then noted."""
        if isinstance(tree, Map):
            self.problems.add("a value is expected here, not a mapping", tree.mark)
            return None
        if isinstance(tree, List):
            return self._list(tree, kind)
        words = words_of(kind)
        if tree.text in words:
            return constant(tree.text, tree.mark)
        if tree.is_null:
            return constant(None, tree.mark, "null")
        if isinstance(kind, (Flag, Fixed)) and tree.text.lower() in _YAML_FLAGS and tree.text not in self.known:
            right = _YAML_FLAGS[tree.text.lower()]
            self.problems.add(f"'{tree.text}' is not true or false", tree.mark, help=f"write {right}")
            return None
        if isinstance(kind, Word) and re.fullmatch(r"\w+", tree.text) and tree.text not in self.known:
            # Left to the argument, which knows what to say.
            return constant(tree.text, tree.mark)
        return self._expression(tree, words, kind)

    def _expression(self, tree: Scalar, words: tuple[str, ...], kind: Kind[Any] | None) -> Formula | None:
        quote = 0 if tree.plain else 1
        key = (tree.text, words)
        try:
            found = self._compiled.get(key)
            if found is None:
                found = compile_expression(tree.text, self.known, _Words(words, self.words))
                if not found.is_simple:
                    self.problems.count_expression(tree.mark)
                self._compiled[key] = found
            expression = found
        except UnknownNameError as error:
            candidates = (*sorted(self.known), *words, *FUNCTIONS)
            if kind is None and tree.text.strip() == error.name:
                candidates += tuple(sorted(layer_words()))  # a variable may be the name of a layer
            self.problems.add(
                error.message,
                _inside(tree.mark, tree.text, quote, error),
                help=did_you_mean(error.name, candidates) or _known(self.known),
            )
            return None
        except ExpressionError as error:
            message = error.message if tree.text.strip() != "" else "a value is missing"
            if message == "not an expression":
                message = f"'{_short(tree.text)}' is not an expression"
            self.problems.add(message, _inside(tree.mark, tree.text, quote, error), help=error.help)
            return None
        self.used |= expression.names
        evaluate = None if expression.is_constant else expression.evaluate
        return Formula(tree.text, tree.mark, expression.names, expression.constant, evaluate, quote)

    def _list(self, tree: List, kind: Kind[Any] | None) -> Formula | None:
        items = [self.compile(item, kind) for item in tree.items]
        formulas = [item for item in items if item is not None]
        if len(formulas) < len(items):
            return None
        names = frozenset[str]().union(*(item.names for item in formulas))
        text = "[" + ", ".join(item.text for item in formulas) + "]"
        if not names:
            return Formula(text, tree.mark, names, tuple(item.constant for item in formulas))
        parts = tuple(formulas)

        def evaluate(values: Mapping[str, Value]) -> Value:
            return tuple(item.constant if item.evaluate is None else item.evaluate(values) for item in parts)

        return Formula(text, tree.mark, names, None, evaluate)


class _Words:
    """The words of an argument, then those of the whole vocabulary, asked for only where nothing else fits."""

    def __init__(self, own: tuple[str, ...], more: Container[str]) -> None:
        self.own = own
        self.more = more

    def __contains__(self, word: object) -> bool:
        return word in self.own or word in self.more or word in layer_words()


def _known(names: Iterable[str]) -> tuple[str, ...]:
    listed = ", ".join(sorted(names))
    return (f"known here: {listed}",) if listed else ()


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else flat[:57] + "..."


def types_of(values: tuple[Value, ...]) -> tuple[Any, ...]:
    """The types of values, to tell 1 from true, which are equal in Python."""
    return tuple([value.__class__ if value.__class__ is not tuple else types_of(value) for value in values])


def truth(value: Value) -> bool:
    """Read a value as true or false; raises ExpressionError for what is neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ExpressionError(f"true or false is needed, not {value}")


def normal(value: object) -> Value:
    """Bring a value of an override into the form that formulas have: exact, and lists as tuples.

    >>> normal(0.5), normal([1, 2.0])
    (Fraction(1, 2), (1, 2))
    """
    if isinstance(value, float):
        return number_of(value)
    if isinstance(value, Fraction) and value.denominator == 1:
        return value.numerator
    if isinstance(value, (list, tuple)):
        return tuple(normal(item) for item in value)
    return value


def number_of(value: float) -> Value:
    """The decimal that a float was written as."""
    if value != value or value in (float("inf"), float("-inf")):
        raise ExpressionError(f"{value} is not a number to count with")
    exact = Fraction(repr(value))
    return exact.numerator if exact.denominator == 1 else exact


def read_value(text: str) -> Any:
    """Read one value of an override: a number, true, false, null, a list in brackets, or a word.

    >>> read_value("0.5"), read_value("1e6"), read_value("true"), read_value("[3, 5]"), read_value("same")
    (Fraction(1, 2), 1000000, True, [3, 5], 'same')
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1].strip()
        return [read_value(item) for item in inner.split(",")] if inner else []
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text in CONSTANTS:
        return CONSTANTS[text]
    sign, digits = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if digits[:1].isdigit() or digits[:1] == ".":
        try:
            exact = number(digits) if digits.replace(".", "").replace("_", "").isalnum() else None
        except ExpressionError:
            exact = None
        if exact is None:
            return compile_expression(text).constant
        return -exact if sign == "-" else exact
    return text
