"""Read and write amounts: ``5M`` is exactly 5,000,000, and 2,515,816 is never rounded on its way to a comparison.

Counts take k, M, G and T, which are powers of 1000.
Bytes take B, kB, MB and GB (powers of 1000), and KiB, MiB and GiB (powers of 1024).
A spelling that is nearly one of these is refused rather than guessed:
``m`` is milli to some and million to others, and ``B`` is bytes here and billions elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

COUNT: Mapping[str, int] = MappingProxyType({"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12})
"""The suffixes of counts."""

BYTES: Mapping[str, int] = MappingProxyType(
    {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
)
"""The suffixes of sizes in memory."""

# Digits may be grouped by underscores, or by commas that stand where a reader expects them.
_AMOUNT = re.compile(
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)\s*(?P<suffix>[A-Za-zµ]*)", re.ASCII
)

_LONGEST = 64


class UnitError(ValueError):
    """An amount that cannot be read; carries facts and no place."""

    def __init__(self, message: str, *, help: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.help = help


def parse(text: str, units: Mapping[str, int] = COUNT) -> Fraction:
    """Read an amount exactly.

    >>> parse("1.5k"), parse("2.4 MiB", BYTES), parse("1e6")
    (Fraction(1500, 1), Fraction(12582912, 5), Fraction(1000000, 1))
    """
    cleaned = text.strip()
    match = _AMOUNT.fullmatch(cleaned) if len(cleaned) <= _LONGEST else None
    if match is None:
        shown = cleaned if len(cleaned) <= _LONGEST else f"{cleaned[:20]}..."
        raise UnitError(f"'{shown}' is not an amount", help=_forms(units))
    suffix = match["suffix"]
    if suffix and suffix not in units:
        raise UnitError(f"unknown unit '{suffix}' in '{cleaned}'", help=_suffix_help(suffix, units))
    # Decimal takes the text digit by digit; a float would already have lost 0.1.
    return Fraction(Decimal(match["number"].replace(",", "").replace("_", ""))) * (units[suffix] if suffix else 1)


def parse_whole(text: str, units: Mapping[str, int] = COUNT) -> int:
    """Read an amount of things that cannot be halved.

    >>> parse_whole("1.0005M"), parse_whole("2MiB", BYTES)
    (1000500, 2097152)
    """
    amount = parse(text, units)
    if amount.denominator != 1:
        raise UnitError(
            f"'{text.strip()}' is {decimal(amount, 6).rstrip('0')}, which is not an integer",
            help=f"the nearest are {amount.__floor__()} and {amount.__ceil__()}",
        )
    return amount.numerator


def _forms(units: Mapping[str, int]) -> str:
    example = "2MiB" if units is BYTES else "1.5M"
    return f"write a number, optionally with {_or(units)}: {example}, 2515816" if units else "write a number: 20, 12.5"


def _or(units: Mapping[str, int]) -> str:
    *most, last = units
    return f"{', '.join(most)} or {last}"


def _suffix_help(suffix: str, units: Mapping[str, int]) -> str:
    """Say which unit was meant, by the mistakes that people make."""
    if not units:
        return "write the number without a unit"
    if units is COUNT:
        if suffix in ("B", "b", "bn", "Bn"):
            return "B is bytes; for billions, write G"
        if suffix in ("m", "mm", "MM", "mil", "Mio", "mio"):
            return "did you mean M? M is 10^6; m would be a thousandth"
        if suffix == "K":
            return "did you mean k? k is 10^3; K is not accepted because KiB is 1024 bytes"
        near = next((name for name in units if name.lower() == suffix[0].lower()), None)
        if suffix in BYTES or suffix.lower() in {name.lower() for name in BYTES}:
            return f"this is a count, not bytes: did you mean {near}?"
        return f"did you mean {near}?" if near else f"units of a count: {_or(units)} (powers of 1000)"
    folded = {name.lower(): name for name in units}
    if suffix.lower() in folded:
        return f"did you mean {folded[suffix.lower()]}?"
    if suffix.lower() in ("k", "m", "g"):
        letter = {"k": "k", "m": "M", "g": "G"}[suffix.lower()]
        return f"this is in bytes: did you mean {letter}B (powers of 1000) or {letter.upper()}iB (powers of 1024)?"
    return f"units of bytes: {_or(units)}"


def decimal(value: int | Fraction, decimals: int) -> str:
    """Write a fraction with so many decimals, rounded half to even, with no float on the way.

    >>> decimal(Fraction(2, 3), 2), decimal(Fraction(-1, 8), 2), decimal(1234567, 0)
    ('0.67', '-0.12', '1,234,567')
    """
    scaled = round(Fraction(value) * 10**decimals)
    whole, rest = divmod(abs(scaled), 10**decimals)
    sign = "-" if scaled < 0 else ""
    return f"{sign}{whole:,}.{rest:0{decimals}d}" if decimals else f"{sign}{whole:,}"
