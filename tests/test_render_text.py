"""Numbers and names as text: rounded rightly, and never the same where they differ."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from convstat.text.printable import (
    apart,
    bar,
    cells,
    change,
    exact,
    factor,
    per_pixel_scale,
    printable,
    share,
    shorten,
    significant,
)

RATIOS = st.fractions(min_value=0, max_value=1000, max_denominator=10**9)


def value_of(text: str) -> Fraction:
    """Read a printed number back."""
    return Fraction(text.replace(",", "").rstrip("%").lstrip("x+"))


@given(st.integers(0, 10**30))
def test_a_count_keeps_all_its_digits(count: int) -> None:
    """Without the commas it is the number."""
    assert str(count) == exact(count).replace(",", "")


@given(RATIOS, st.integers(0, 6))
def test_a_printed_quotient_is_within_half_of_its_last_digit(value: Fraction, decimals: int) -> None:
    """Rounding is exact, and something is never printed as zero."""
    text = significant(value, decimals)
    shown = len(text.partition(".")[2])
    assert abs(value_of(text) - value) <= Fraction(1, 2 * 10**shown)
    assert (value == 0) == (value_of(text) == 0)


@given(RATIOS)
def test_equals_means_equal(ratio: Fraction) -> None:
    """'=' is printed for no change, and for nothing else; the sign is that of the change."""
    assert (ratio == 1) == (change(ratio) == "=") == (factor(ratio) == "=")
    if ratio != 1:
        assert (ratio > 1) == change(ratio).startswith("+")
        assert value_of(change(ratio)) != 0
        assert value_of(factor(ratio)) != 1


@given(RATIOS)
def test_all_gone_means_all_gone(ratio: Fraction) -> None:
    """-100 % is printed for zero, and for nothing else."""
    assert (ratio == 0) == (value_of(change(ratio)) == -100 if ratio != 1 else False)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_share_tells_nothing_from_little_and_all_from_most(part: int, whole: int) -> None:
    """0% and 100% are exact."""
    part = min(part, whole)
    assert (part == 0) == (share(part, whole) == "0%")
    assert (part == whole) == (share(part, whole) == "100%")


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_an_actual_value_and_its_limit_read_differently_where_they_are(value: Fraction, limit: Fraction) -> None:
    """1.8 never exceeds 1.8."""
    if value != limit:
        assert apart(value, limit) != apart(limit, value)


@given(st.text(max_size=50), st.integers(1, 40))
def test_a_shortened_name_fits_and_keeps_both_ends(text: str, width: int) -> None:
    """It takes at most the room that there is; one that fits is left alone."""
    text = printable(text)
    short = shorten(text, width)
    assert cells(short) <= width
    if cells(text) <= width:
        assert text == short
    elif width >= 5 and text.isascii() and "\\" not in text:
        # What stands for an odd character is kept whole or left out.
        assert short[0] == text[0]
        assert short[-1] == text[-1]


@given(st.text(max_size=50))
def test_a_printable_name_cannot_act_on_a_terminal(text: str) -> None:
    """No control character and no line end is left, and ordinary text stays as it is."""
    assert printable(text).isprintable()
    if text.isprintable():
        assert text == printable(text)


@given(st.integers(0, 1000), st.integers(1, 1000), st.booleans())
def test_a_bar_is_there_where_there_is_something(part: int, whole: int, ascii: bool) -> None:
    """It is empty for nothing only, and no longer than its room."""
    part = min(part, whole)
    drawn = bar(part, whole, 10, ascii=ascii)
    assert (part > 0) == bool(drawn.strip())
    assert len(drawn) <= 10
    assert not ascii or drawn.isascii()


@given(st.lists(st.fractions(min_value=0, max_value=10**15, max_denominator=10**6), min_size=1))
def test_a_column_of_quotients_has_one_unit(values: list[Fraction]) -> None:
    """Every value times the unit is within half a digit of what it is."""
    scale = per_pixel_scale(values)
    for value in values:
        text = scale.write(value)
        shown = len(text.partition(".")[2])
        assert abs(value_of(text) - value / scale.divisor) <= Fraction(1, 2 * 10**shown)


def test_wide_characters_take_two_cells() -> None:
    """The terminal counts cells, not characters."""
    assert 4 == cells("名前")
    assert 1 == cells("e\u0301")
    assert 5 == cells(shorten("名前名前", 5))
