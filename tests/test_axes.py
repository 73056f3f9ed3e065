"""The grammar of overrides and sweeps."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat.errors import ExitCode, UsageError
from convstat.grammar.axes import LIMIT, combine, overrides, parse, parse_all, plain, split


def refused(*assignments: str) -> str:
    """Give the message for arguments that must be refused."""
    with pytest.raises(UsageError) as caught:
        parse_all(assignments)
    assert ExitCode.USAGE == caught.value.exit_code
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g=1,2,4", (1, 2, 4)),
        ("g=4", (4,)),
        ("g= 1 , 2 ", (1, 2)),
        ("g=1..4", (1, 2, 3, 4)),
        ("c=16..64:16", (16, 32, 48, 64)),
        ("c=1..8:3", (1, 4, 7)),
        ("c=3..1:-1", (3, 2, 1)),
        ("b=1..64*2", (1, 2, 4, 8, 16, 32, 64)),
        ("b=3..100*10", (3, 30)),
        ("b=1..8*1.5", (1, Fraction(3, 2), Fraction(9, 4), Fraction(27, 8), Fraction(81, 16), Fraction(243, 32))),
        ("g=1,4..6,9", (1, 4, 5, 6, 9)),
        ("g=range(1,5)", (1, 2, 3, 4)),
        ("g=range(3)", (0, 1, 2)),
        ("g=range(8, 0, -4)", (8, 4)),
        ("k=[1,2]", ([1, 2],)),
        ("k=[1,2],[3,4],5", ([1, 2], [3, 4], 5)),
        ("k=[]", ([],)),
        ("k=[1..3]", ([1, 2, 3],)),
        ("a=0.5", (Fraction(1, 2),)),
        ("a=0.1,1e-3,1.0", (Fraction(1, 10), Fraction(1, 1000), Fraction(1))),
        ("a=0.25..1:0.25", (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), 1)),
        ("n=-1", (-1,)),
        ("n=1_000", (1000,)),
        ("b=true,false,null", (True, False, None)),
        ("b=True,False,None", (True, False, None)),
        ("m=same,reflect", ("same", "reflect")),
        ("m='a,b',\"1\"", ("a,b", "1")),
        ("input=3x224x224,3x64x64", ("3x224x224", "3x64x64")),
        ("stage1.0.conv-a.kernel_size=3,5", (3, 5)),
        ("layers[0].k=3", (3,)),
    ],
)
def test_values_are_read_as_they_are_meant(text: str, expected: tuple[Any, ...]) -> None:
    """Spans include both ends, range() is Python's, a list is one value, a decimal is exact."""
    axis = parse(text)
    assert expected == axis.values
    assert [type(value) for value in expected] == [type(value) for value in axis.values]
    assert text.partition("=")[0] == axis.name


def test_three_spellings_of_a_sweep_are_one() -> None:
    """g=1..4, g=1,2,3,4 and g=range(1,5) mean the same points."""
    assert parse("g=1,2,3,4").values == parse("g=1..4").values == parse("g=range(1,5)").values


@pytest.mark.parametrize("spelling", ["g=1,2,3,4", "g=1..4", "g=range(1,5)", "g=1, 2,3..4", "g=1..4:1"])
def test_the_document_of_a_sweep_does_not_keep_its_spelling(spelling: str) -> None:
    """Otherwise two equal comparisons would differ as files; its text reads back as the same values."""
    axis = parse(spelling)
    assert ("g", (1, 2, 3, 4), "1,2,3,4") == (axis.name, axis.values, axis.listed)
    assert parse(f"g={axis.listed}").values == axis.values


@settings(deadline=None, max_examples=200)
@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 9))
def test_a_span_has_what_a_loop_would_visit(first: int, last: int, step: int) -> None:
    """From the first in steps to at most the last."""
    expected = []
    value = first
    while value <= last:
        expected.append(value)
        value += step
    if expected:
        assert tuple(expected) == parse(f"c={first}..{last}:{step}").values
    else:
        assert f"{first}..{last}:{step} has no values" in refused(f"c={first}..{last}:{step}")


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(
        st.integers(-(10**9), 10**9) | st.booleans() | st.none() | st.from_regex(r"[a-z]{4,9}", fullmatch=True),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=6,
    )
)
def test_a_written_value_is_read_back(value: Any) -> None:
    """Lists nest, and words are quoted where they could be something else."""

    def written(item: Any) -> str:
        if isinstance(item, list):
            return f"[{', '.join(map(written, item))}]"
        return f"'{item}'" if isinstance(item, str) else str(item)

    def depth(item: Any) -> int:
        return 1 + max(map(depth, item), default=0) if isinstance(item, list) else 0

    if depth(value) <= 4:
        assert (value,) == parse(f"x={written(value)}").values


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="g=1,2.[]()'\":_-+xrangeé \n*", max_size=20))
def test_no_text_makes_a_traceback(text: str) -> None:
    """Whatever is typed is read or refused with a message."""
    with contextlib.suppress(UsageError):
        parse(f"g={text}")


@pytest.mark.parametrize(
    ("text", "column", "message", "help"),
    [
        ("g=", 3, "missing value", ""),
        ("g=1,,2", 5, "missing value", ""),
        ("g=1,", 4, "missing value", ""),
        ("g=[1,2", 3, "a bracket is not closed", ""),
        ("g=1]", 4, "unmatched closing bracket", ""),
        ("g='1", 3, "a quotation mark is not closed", ""),
        ("b=1..64*1", 3, "1..64*1 does not grow", "the first value is above 0 and the factor above 1"),
        ("b=0..64*2", 3, "0..64*2 does not grow", "the first value is above 0"),
        ("b=64..1*2", 3, "64..1*2 has no values", ""),
        ("g=1..", 3, "cannot read '1..'", "a span is FIRST..LAST"),
        ("g=8..1", 3, "8..1 has no values", "8..1:-1 counts down"),
        ("g=1..8:0", 3, "the step of 1..8:0 is 0", ""),
        ("g=2,01", 5, "'01' has a leading zero", "write 1"),
        ("g=range(1,2", 3, "a bracket is not closed", ""),
        ("g=range(a)", 3, "cannot read 'range(a)'", "range(1,5) is 1, 2, 3, 4"),
        ("g=range(0.5,2)", 3, "range() takes integers", "write 0.5..1:0.25"),
        ("g=1..1000000000", 3, "1..1000000000 has 1,000,000,000 values, and the limit is 100,000", ""),
        ("g=" + "9" * 40, 3, "a number of 40 characters", "at most 30 are read"),
        ("g=[[[[[1]]]]]", 7, "lists are nested more than 4 deep", ""),
        ("g=a;b", 3, "cannot read 'a;b'", "quote it if it is a word"),
    ],
)
def test_a_mistake_is_shown_in_its_place(text: str, column: int, message: str, help: str) -> None:
    """The argument stands where a file's line would stand, and the caret points into it."""
    shown = refused(text)
    assert shown.startswith(f"argument '{text}': error: {message}")
    assert f"\n      | {' ' * (column - 1)}^" in shown
    assert help in shown


def test_all_mistakes_are_shown_in_one_run() -> None:
    """Nobody wants to learn of them one by one."""
    assert 2 == refused("a=1,,2", "b=1..").count("error: ")


def test_a_parameter_is_given_once() -> None:
    """The second would silently win."""
    shown = refused("g=1", "g=2")
    assert "'g' is given twice" in shown
    assert "g=1,2" in shown


def test_targets_and_assignments_are_told_apart() -> None:
    """The = of an inline layer stands behind a bracket; that of an assignment behind a name."""
    arguments = ["a.yaml", "alpha=0.5", "Conv2d(4, 8, kernel_size=3)", "b.yaml#small", "stem.out=8", "dir/x=1.yaml"]
    assert (
        ("a.yaml", "Conv2d(4, 8, kernel_size=3)", "b.yaml#small", "dir/x=1.yaml"),
        ("alpha=0.5", "stem.out=8"),
    ) == split(arguments)


@pytest.mark.parametrize(
    ("text", "option"), [("macs<=300M", "--max"), ("macs>=300M", "--min"), ("macs==300M", "--exact")]
)
def test_a_budget_among_the_arguments_says_what_to_type(text: str, option: str) -> None:
    """It is neither a target nor an override."""
    with pytest.raises(UsageError) as caught:
        split([text])
    assert f"convstat check {option} macs=300M" in str(caught.value)


def test_one_model_takes_one_value() -> None:
    """The three things that may have been meant are shown, to be typed."""
    assert {"g": 2, "k": [1, 2]} == overrides(["g=2", "k=[1,2]"], "analyze")
    with pytest.raises(UsageError) as caught:
        overrides(["g=1,2,4"], "analyze")
    assert (
        "error: 'g=1,2,4' has 3 values, but analyze takes one model\n"
        "help: to sweep:         convstat compare g=1,2,4\n"
        "help: to pass a list:   g=[1,2,4]\n"
        "help: to pass a string: g='\"1,2,4\"'"
    ) == str(caught.value)


def test_several_axes_give_every_combination_the_last_fastest() -> None:
    """In the order in which they are given."""
    axes = parse_all(["a=1,2", "b=3..5", "c=6,7"])
    assert list(product([1, 2], [3, 4, 5], [6, 7])) == list(combine(axes))
    assert [()] == list(combine([])) == list(combine([], zipped=True))


def test_zip_pairs_the_values() -> None:
    """Axes with a single value stay the same at every point."""
    axes = parse_all(["a=1,2,3", "c=9", "b=4..6"])
    assert [(1, 9, 4), (2, 9, 5), (3, 9, 6)] == list(combine(axes, zipped=True))
    with pytest.raises(UsageError, match="the axes differ in length: a has 3, b has 2"):
        combine(parse_all(["a=1,2,3", "b=4,5"]), zipped=True)


def test_too_many_points_are_refused_before_any_is_made() -> None:
    """The message says how the number comes about; the limit itself is allowed."""
    with pytest.raises(UsageError, match=r"300,000 points \(3 models x 1000 of a x 100 of b\)"):
        combine(parse_all(["a=1..1000", "b=1..100"]), models=3)
    assert LIMIT == len(list(combine(parse_all(["a=1..1000", "b=1..100"]))))
    with pytest.raises(UsageError, match=r"101,000 points \(1000 of a x 101 of b\), and the limit is 100,000"):
        combine(parse_all(["a=1..1000", "b=1..101"]))


def test_json_has_plain_numbers() -> None:
    """A fraction is whole or a float; nothing else is changed."""
    assert [1, 0.5, True, None, "a", [2, 0.25]] == plain(
        [Fraction(1), Fraction(1, 2), True, None, "a", [Fraction(2), Fraction(1, 4)]]
    )
