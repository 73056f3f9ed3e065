"""What ``--input`` takes, and what it refuses."""

from __future__ import annotations

import pytest

from convstat.errors import UsageError
from convstat.inputs import parse, parse_all


@pytest.mark.parametrize("text", ["3x64x64", "3 x 64 x 64", "3,64,64", "3, 64, 64", "3\u00d764\u00d764", " 3X64X64 "])
def test_sizes_are_parted_by_x_or_commas(text: str) -> None:
    """Blanks may stand around the separators."""
    assert (3, 64, 64) == parse(text).shape


@pytest.mark.parametrize("text", ["3 64 64", "1 0", "", "x", "3x", "x3", "3xx4", "0x3", "3x-4", "3.5", "a=b=3", "3x4:"])
def test_other_forms_are_refused(text: str) -> None:
    """Above all, two numbers with a blank between them are not one number."""
    with pytest.raises(UsageError):
        parse(text)


def test_one_name_has_one_shape() -> None:
    """The second would win silently."""
    with pytest.raises(UsageError, match="'x' is given twice"):
        parse_all(["x=3x4", "x=3x5"])
