"""The width of stored parameters: integer weights, and the wider integers of their biases.

A network that is deployed in integers keeps each weight in few bits, and each bias in the width of the accumulator that
it is added to: 32 bits for int8, as TFLite, ONNX and CMSIS-NN do. The int16 models of codecs keep one width for all.
So ``int8`` is written for ``int8+int32``, ``int16`` for ``int16+int16``, and any other pair is written out.
"""

from __future__ import annotations

import re
from functools import cache
from math import prod
from typing import NamedTuple

from convstat.units import UnitError

FLOATING = {"float32": 32, "float16": 16, "bfloat16": 16}
"""Bits of the floating-point types, which a layer may keep beside integer ones."""

ACCUMULATOR = "int32"
"""What the biases of weights below 16 bits have, unless it is said."""

ONE = r"(?:int(?:[1-9]|[1-5][0-9]|6[0-4])|float32|float16|bfloat16)"
"""What one width is written like, as a regular expression."""
PATTERN = rf"^{ONE}(?:\+{ONE})?$"
"""What the widths of weights and biases are written like."""


def bits(name: str) -> int:
    """The bits of one element; raises UnitError for what is no type.

    >>> bits("int4"), bits("float16")
    (4, 16)
    """
    if name in FLOATING:
        return FLOATING[name]
    if re.fullmatch(ONE, name) is None:
        listed = f"int16, int8, int4 or another from int1 to int64, or {', '.join(FLOATING)}"
        raise UnitError(f"unknown width '{name}'", help=f"it is {listed}")
    return int(name.removeprefix("int"))


class Widths(NamedTuple):
    """The types of weights and of biases, by name."""

    weight: str
    bias: str

    def __str__(self) -> str:
        """As it is written: without the biases' where it follows.

        >>> str(Widths("int8", "int32")), str(Widths("int8", "int8"))
        ('int8', 'int8+int8')
        """
        return self.weight if self == parse(self.weight) else "+".join(self)

    @property
    def words(self) -> str:
        """Both of them.

        >>> parse("int8").words, parse("int16").words
        ('int8 weights, int32 biases', 'int16 weights and biases')
        """
        if self.weight == self.bias:
            return f"{self.weight} weights and biases"
        return f"{self.weight} weights, {self.bias} biases"

    def size(self, name: str, shape: tuple[int, ...]) -> int:
        """The bytes of a parameter; elements of less than a byte are packed, and each tensor begins at a byte.

        >>> parse("int4").size("weight", (3, 5)), parse("int8").size("bias", (8,))
        (8, 32)
        """
        return -(-bits(self.bias if is_bias(name) else self.weight) * prod(shape) // 8)


def is_bias(name: str) -> bool:
    """Whether a parameter is a bias, by torch's names.

    >>> [is_bias(name) for name in ("bias", "out_proj.bias", "in_proj_bias", "bias_hh_l0", "weight", "bias_table")]
    [True, True, True, True, False, False]
    """
    last = name.rpartition(".")[2]
    return last == "bias" or last.endswith("_bias") or re.fullmatch(r"bias_[ih]h_l\d+(?:_reverse)?", last) is not None


@cache
def parse(text: str) -> Widths:
    """Read ``int8``, or ``int8+int32`` with the width of the biases; raises UnitError.

    >>> parse("int8"), parse("int8+int16"), parse("float16")
    (Widths(weight='int8', bias='int32'), Widths(weight='int8', bias='int16'), Widths(weight='float16', bias='float16'))
    """
    weight, plus, bias = text.partition("+")
    width = bits(weight)
    if plus:
        bits(bias)
    elif weight in FLOATING or width >= 16:
        bias = weight
    else:
        bias = ACCUMULATOR
    return Widths(weight, bias)


def one_way(text: str) -> str:
    """Write the widths of weights and biases in one way; raises UnitError.

    >>> one_way("int8+int32"), one_way("int8+int8")
    ('int8', 'int8+int8')
    """
    return str(parse(text))


def known(text: str) -> str:
    """Give the name of a width, such as that of activations; raises UnitError where there is none.

    >>> known("int8")
    'int8'
    """
    bits(text)
    return text
