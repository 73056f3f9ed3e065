"""Amounts are read exactly and written so that they can be read back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat.text.printable import exact
from convstat.units import BYTES, UnitError, decimal, parse, parse_whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5M", 5 * 1000**2),
        ("300M", 300 * 1000**2),
        ("1.5k", 1500),
        ("0.1G", 100 * 1000**2),
        ("2T", 2 * 1000**4),
        ("2515816", 2515816),
        ("2_515_816", 2515816),
        ("2,515,816", 2515816),
        ("1e6", 1000**2),
        ("1.5e3", 1500),
        ("  7 M ", 7 * 1000**2),
        ("0", 0),
    ],
)
def test_a_count_is_read_exactly(text: str, expected: int) -> None:
    """k, M, G and T are powers of 1000, and a decimal point does not make a float."""
    assert expected == parse_whole(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2MiB", 2 * 2**20), ("1KiB", 1024), ("500kB", 500 * 1000), ("3MB", 3 * 1000**2), ("12B", 12), ("12", 12)],
)
def test_bytes_are_read_exactly(text: str, expected: int) -> None:
    """kB and KiB are not the same."""
    assert expected == parse_whole(text, BYTES)


def test_a_scaled_amount_must_come_out_whole() -> None:
    """1.0005k is 1000.5 things, and there are no half things."""
    with pytest.raises(UnitError, match=r"'1.0005k' is 1,000.5, which is not an integer") as caught:
        parse_whole("1.0005k")
    assert "the nearest are 1000 and 1001" == caught.value.help


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("5m", "did you mean M?"),
        ("5mb", "did you mean M?"),
        ("5MB", "did you mean M?"),
        ("5K", "did you mean k?"),
        ("5g", "did you mean G?"),
        ("7B", "B is bytes; for billions, write G"),
        ("7b", "B is bytes; for billions, write G"),
        ("7x", "units of a count: k, M, G or T"),
    ],
)
def test_a_typo_in_the_unit_of_a_count_is_refused_with_what_was_meant(text: str, help: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(UnitError, match="unknown unit") as caught:
        parse_whole(text)
    assert help in str(caught.value.help)


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("2M", "did you mean MB (powers of 1000) or MiB (powers of 1024)?"),
        ("2mib", "did you mean MiB?"),
        ("2KB", "did you mean kB?"),
        ("2x", "units of bytes: B, kB"),
    ],
)
def test_a_typo_in_the_unit_of_bytes_is_refused_with_what_was_meant(text: str, help: str) -> None:
    """A bare M on bytes could be either of two sizes."""
    with pytest.raises(UnitError, match="unknown unit") as caught:
        parse_whole(text, BYTES)
    assert help in str(caught.value.help)


@pytest.mark.parametrize(
    "text", ["", "M", "-5", "+5", "1,23", "1.2.3", "0x10", "nan", "inf", "1e999", "٣", "1__0", "9" * 100]
)
def test_what_is_not_an_amount_is_refused(text: str) -> None:
    """A sign belongs to relative limits, and an exponent cannot exhaust the machine."""
    with pytest.raises(UnitError, match="is not an amount"):
        parse(text)


def test_the_same_text_is_read_the_same_in_every_spelling() -> None:
    """Separators, suffix and exponent are spellings of one number."""
    assert {parse("1234000"), parse("1,234,000"), parse("1_234_000"), parse("1.234M"), parse("1234k")} == {
        parse("1.234e6")
    }


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**20))
def test_an_exact_count_reads_back_as_itself(value: int) -> None:
    """Separators lose nothing."""
    assert value == parse_whole(exact(value))


@settings(deadline=None, max_examples=200)
@given(st.fractions(-(10**9), 10**9), st.integers(0, 6))
def test_a_decimal_is_within_half_of_its_last_digit(value: Fraction, decimals: int) -> None:
    """No float takes part, so this holds for any size."""
    shown = Fraction(decimal(value, decimals).replace(",", ""))
    assert abs(shown - value) <= Fraction(1, 2 * 10**decimals)
