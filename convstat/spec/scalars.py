"""Numbers as they are written: exact, of bounded size, and without the surprises of YAML 1.1."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

MAX_BITS = 256
"""The size of a result; a wider one is a mistake or an attack."""

LIMIT = 1 << MAX_BITS

Value = Any
"""int, Fraction, bool, str, None, or a tuple of them."""


NO_VALUE = "has no value here"
"""How the message ends where a name of an expression has no value."""


class ExpressionError(ValueError):
    """An expression that cannot be read or worked out; ``offset`` and ``length`` say where in its text."""

    def __init__(self, message: str, offset: int = 0, length: int = 0, help: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.length = length
        self.help = help


def bits(value: int | Fraction) -> int:
    """The bits of the larger part of a number."""
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def bounded(value: Value) -> Value:
    """The value, an int where it is whole; refused where it is too large."""
    if value.__class__ is int:
        if -LIMIT < value < LIMIT:
            return value
    elif value.__class__ is Fraction:
        if bits(value) <= MAX_BITS:
            return value.numerator if value.denominator == 1 else value
    else:
        return value
    raise ExpressionError(f"the result has more than {MAX_BITS} bits")


_LITERAL = re.compile(r"(\d[\d_]*)?(\.[\d_]*)?([eE][-+]?\d[\d_]*)?")


def number(text: str, offset: int = 0) -> int | Fraction:
    """Read a decimal literal exactly.

    >>> number("1e6"), number("1_000_000"), number("0.1")
    (1000000, 1000000, Fraction(1, 10))
    """
    match = _LITERAL.fullmatch(text)
    if match is None or not (match.group(1) or match.group(2)):
        raise ExpressionError(f"'{text}' is not a decimal number", offset, len(text))
    if len(text) > 100 or abs(int((match.group(3) or "e0")[1:].replace("_", ""))) > 77:
        raise ExpressionError(f"the number has more than {MAX_BITS} bits", offset, len(text))
    value = Fraction(text.replace("_", ""))
    result: int | Fraction = bounded(value)
    return result


def yaml_trap(text: str) -> tuple[str, str] | None:
    """What YAML 1.1 would have made of a number, and what to write; None where it is no trap.

    >>> yaml_trap("010")
    ("'010' is ambiguous: YAML 1.1 reads it as 8", 'write 10, or 8 if octal was meant')
    >>> yaml_trap("12:30")
    ("'12:30' is ambiguous: YAML 1.1 reads it as 750", 'write 750, or a list: [12, 30]')
    """
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-").replace("_", "")
    if len(digits) > 30:
        return None
    if re.fullmatch(r"0[0-9]+", digits):
        plain = sign * int(digits)
        if re.fullmatch(r"0[0-7]+", digits):
            octal = sign * int(digits, 8)
            return (
                f"'{text}' is ambiguous: YAML 1.1 reads it as {octal}",
                f"write {plain}, or {octal} if octal was meant",
            )
        return f"'{text}' has a leading zero", f"write {plain}"
    if re.fullmatch(r"0[oO][0-7]+", digits):
        return f"'{text}' is octal", f"write {sign * int(digits[2:], 8)}"
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", digits):
        return f"'{text}' is hexadecimal", f"write {sign * int(digits, 16)}"
    if re.fullmatch(r"0[bB][01]+", digits):
        return f"'{text}' is binary", f"write {sign * int(digits, 2)}"
    if re.fullmatch(r"[0-9]+(:[0-5]?[0-9])+", digits):
        parts = [int(part) for part in digits.split(":")]
        total = 0
        for part in parts:
            total = 60 * total + part
        return (
            f"'{text}' is ambiguous: YAML 1.1 reads it as {sign * total}",
            f"write {sign * total}, or a list: [{', '.join(map(str, parts))}]",
        )
    return None
