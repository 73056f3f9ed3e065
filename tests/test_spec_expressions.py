"""Expressions: exact, bounded, and nothing but arithmetic."""

from __future__ import annotations

import math
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convstat.spec.expressions import ExpressionError, compile_expression, round8

NAMES = {"a": 3, "b": Fraction(1, 2), "c": 64, "flag": True}


def value(text: str, **names: Any) -> Any:
    """The value of an expression."""
    return compile_expression(text, names).value(names)


numbers = st.one_of(
    st.integers(0, 1000).map(lambda n: (str(n), Fraction(n))),
    st.decimals(0, 100, places=3).map(lambda d: (f"{d:f}", Fraction(d))),
    st.sampled_from(["a", "b", "c"]).map(lambda name: (name, Fraction(NAMES[name]))),
)


def combined(children: st.SearchStrategy[tuple[str, Fraction]]) -> st.SearchStrategy[tuple[str, Fraction]]:
    """Larger expressions from smaller ones, with what Python's Fraction makes of them."""

    def binary(parts: tuple[tuple[str, Fraction], str, tuple[str, Fraction]]) -> tuple[str, Fraction]:
        (left, x), sign, (right, y) = parts
        if sign in ("/", "//", "%") and not y:
            return left, x
        results = {"+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "/": lambda: x / y}
        more = {"//": lambda: Fraction(x // y), "%": lambda: x % y}
        return f"({left}) {sign} ({right})", {**results, **more}[sign]()

    def chosen(parts: tuple[tuple[str, Fraction], tuple[str, Fraction], tuple[str, Fraction]]) -> tuple[str, Fraction]:
        (one, x), (two, y), (three, z) = parts
        return f"({one}) if ({two}) < ({three}) else -({three})", x if y < z else -z

    def called(parts: tuple[str, tuple[str, Fraction], tuple[str, Fraction]]) -> tuple[str, Fraction]:
        name, (one, x), (two, y) = parts
        if name in ("min", "max"):
            return f"{name}({one}, {two})", min(x, y) if name == "min" else max(x, y)
        results = {"floor": math.floor(x), "ceil": math.ceil(x), "abs": abs(x)}
        return f"{name}({one})", Fraction(results[name])

    signs = st.sampled_from(["+", "-", "*", "/", "//", "%"])
    functions = st.sampled_from(["min", "max", "floor", "ceil", "abs"])
    return st.one_of(
        st.tuples(children, signs, children).map(binary),
        st.tuples(children, children, children).map(chosen),
        st.tuples(functions, children, children).map(called),
    )


@given(st.recursive(numbers, combined, max_leaves=8))
def test_an_expression_is_what_fractions_say(example: tuple[str, Fraction]) -> None:
    """Every operator and function, nested, against Python's own exact arithmetic."""
    text, expected = example
    if len(text) > 500 or max(expected.numerator.bit_length(), expected.denominator.bit_length()) > 256:
        return
    found = value(text, **NAMES)
    assert expected == found
    assert isinstance(found, int) == (expected.denominator == 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1 * 30", 3),
        ("1e6", 1_000_000),
        ("1_000_000", 1_000_000),
        ("2.5e-1", Fraction(1, 4)),
        ("224 / 32", 7),
        ("-2 ** 2", -4),
        ("2 ** -2", Fraction(1, 4)),
        ("7 // 2 - -7 // 2", 3 - -4),
        ("1 < 2 <= 2 != 3", True),
        ("true and not false", True),
        ("null", None),
        ("2 if flag else 1", 2),
        ("64 if c == 64 and a > 2 or false else 1", 64),
        ("round8(33)", 32),
        ("  c  ", 64),
        ("(1 + \n 2)", 3),
    ],
)
def test_the_grammar(text: str, expected: Any) -> None:
    """One example of each construct."""
    assert expected == value(text, **NAMES)
    assert type(expected) is type(value(text, **NAMES))


@given(st.fractions(0, 5000))
def test_round8_is_the_rule_of_the_mobilenets(width: Fraction) -> None:
    """A multiple of 8, at least 8, at least 90 % of the width, and torchvision's `_make_divisible`."""
    rounded = round8(width)
    assert 0 == rounded % 8
    assert rounded >= max(8, width * 9 / 10)
    expected = max(8, int(width + Fraction(8, 2)) // 8 * 8)
    assert (expected + 8 if expected < Fraction(9, 10) * width else expected) == rounded


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("a + bb", "undefined variable 'bb'", 4),
        ("a.real", "an attribute is not allowed", 0),
        ("[1, 2][0]", "a subscript is not allowed", 0),
        ("'a' * 9", "a string is not allowed", 0),
        ("f'{a}'", "a string is not allowed", 0),
        ("(lambda: 1)()", "this cannot be called", 1),
        ("open('x')", "'open' cannot be called", 0),
        ("min(*[1, 2])", "takes plain arguments only", 0),
        ("min(1)", "takes at least 2 arguments, not 1", 0),
        ("floor(1, 2)", "takes one argument, not 2", 0),
        ("1 + max", "'max' is a function", 4),
        ("1 | 2", "only + - * / // % ** are allowed", 0),
        ("1 in a", "only == != < <= > >= are allowed", 0),
        ("~1", "'~' is not allowed", 0),
        ("(x := 1)", "an assignment is not allowed", 1),
        ("1 + 2j", "is not allowed in an expression", 4),
        ("1 + )", "not an expression", 4),
        ("a; b", "not an expression", 1),
        ("", "missing expression", 0),
        ("3 × 3", "the character '×' is not allowed", 2),
        ("5 / (a - 3)", "division by zero", 2),
        ("5 % (a - 3)", "division by zero", 2),
        ("0 ** -1", "division by zero", 2),
        ("2 ** b", "an exponent must be an integer", 2),
        ("2 ** 257", "more than 256 bits", 2),
        ("9**9**9", "more than 256 bits", 1),
        ("b ** 300", "more than 256 bits", 2),
        ("2**200 * 2**200", "more than 256 bits", 0),
        ("1e99", "more than 256 bits", 0),
        ("word + 1", "cannot compute with the word 'same'", 5),
        ("sizes * 2", "cannot compute with a list", 6),
        ("none - 1", "cannot compute with null", 5),
        ("word < 1", "this takes only numbers", 0),
        ("max(word, 1)", "this takes only numbers", 0),
        ("0777", "'0777' is ambiguous: YAML 1.1 reads it as 511", 0),
        ("089", "has a leading zero", 0),
        ("0b11", "is binary", 0),
        ("1:30:00", "YAML 1.1 reads it as 5400", 0),
    ],
)
def test_what_is_refused_and_where(text: str, message: str, column: int) -> None:
    """Anything but arithmetic, and arithmetic that goes wrong, with its place in the text."""
    with pytest.raises(ExpressionError) as caught:
        value(text, **NAMES, word="same", sizes=(1, 2), none=None)
    assert message in caught.value.message
    assert column == caught.value.offset


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_an_expression_error(text: str) -> None:
    """Nothing else comes out of the compiler, whatever goes in."""
    with suppress(ExpressionError):
        value(text, **NAMES)


@given(
    st.lists(st.sampled_from([*"()+-*/%<>=!,.:e_x0129abc \n", "**", "//", " if ", " else ", "min(", " and ", " not "]))
)
def test_any_soup_of_tokens_is_a_value_or_an_expression_error(tokens: list[str]) -> None:
    """The same for text that looks like an expression."""
    with suppress(ExpressionError):
        value("".join(tokens), **NAMES)
