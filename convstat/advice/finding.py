"""What was found: a kind of mistake or of saving, and the edits that mend or make it."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

from convstat.advice.effect import Edit
from convstat.advice.net import Call


class Finding(NamedTuple):
    """One change that is advised: its kind, what there is to say of it, the layers that it is about, and the edits.

    ``held`` are params of modules that are never called and go: they are no call's.
    """

    kind: str
    what: str
    layers: tuple[str, ...]
    edits: tuple[Edit, ...]
    held: int = 0


def is_convolution(call: Call, *, transposed: bool = False) -> bool:
    """Whether a call is that of a convolution; of a transposed one only where those are asked for."""
    return call.family == "convolution" and (transposed or not call.kind.startswith("ConvTranspose"))


def is_dense(call: Call) -> bool:
    """Whether a convolution combines all its input channels."""
    return bool(call.argument("groups") == 1)


def is_spatial(call: Call) -> bool:
    """Whether a convolution looks at more than one position."""
    return is_convolution(call) and prod(call.argument("kernel_size")) > 1


def is_pointwise(call: Call) -> bool:
    """Whether a call is that of a dense 1x1 convolution."""
    return is_convolution(call) and prod(call.argument("kernel_size")) == 1 and is_dense(call)


def keeps_channels(call: Call) -> bool:
    """Whether a convolution has as many output channels as input channels, and more than one."""
    return bool(call.argument("in_channels") == call.argument("out_channels") > 1)


def window(call: Call) -> str:
    """The kernel in words: ``3x3``."""
    return "x".join(map(str, call.argument("kernel_size")))


def in_words(numbers: Iterable[int]) -> str:
    """Name some numbers: one, a few, or the ends of many.

    >>> in_words([96, 96]), in_words([144, 96]), in_words([32, 96, 144, 960])
    ('96', '96 and 144', '32 to 960')
    """
    found = sorted(set(numbers))
    if len(found) < 3:
        return " and ".join(f"{number:,}" for number in found)
    return f"{found[0]:,} to {found[-1]:,}"
