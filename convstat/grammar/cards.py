"""Accelerators by name: the memory that they have, and how much they compute at most in a second."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from convstat.errors import UsageError, did_you_mean
from convstat.units import UnitError, parse

DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16", "half": "fp16", "tf32": "tf32",
        "fp32": "fp32", "float32": "fp32", "fp8": "fp8", "float8": "fp8", "int8": "int8",
    }
)  # fmt: skip
"""What a type of operands is called -> what it is called in the table."""

_PER_SECOND: Mapping[str, int] = MappingProxyType(
    {
        f"{prefix}{thing}": 10**power
        for prefix, power in (("G", 9), ("T", 12), ("P", 15))
        for thing in ("FLOPS", "FLOP/s")
    }
)


@dataclass(frozen=True, slots=True)
class Card:
    """An accelerator: ``memory`` in GiB as its maker states it, of which drivers take a part.

    ``peaks`` are FLOP/s of matrix products by the type of their operands, dense: data sheets often print twice that,
    for matrices of which every other element is zero. ``source`` says where they are printed.
    """

    name: str
    memory: int
    peaks: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""


def _read(line: str) -> Card:
    left, peaks, source = (part.strip() for part in line.split("|"))
    name, memory = left.split()
    pairs = (entry.split() for entry in peaks.split(",") if entry.strip())
    return Card(
        name, int(memory), MappingProxyType({dtype: int(Fraction(peak) * 10**12) for dtype, peak in pairs}), source
    )


@cache
def cards() -> Mapping[str, Card]:
    """The table, by name."""
    lines = (files("convstat.grammar") / "cards.txt").read_text(encoding="utf-8").splitlines()
    found = [_read(line) for line in lines if line.strip() and not line.startswith("#")]
    return MappingProxyType({card.name: card for card in found})


def spelled(text: str) -> str:
    """A name in lower case, with hyphens.

    >>> spelled("RTX 4090"), spelled("A100_80GB")
    ('rtx-4090', 'a100-80gb')
    """
    return re.sub(r"[\s_-]+", "-", text.strip().lower())


def find(text: str) -> Card | None:
    """The card of a name, whatever stands between its parts.

    >>> [card.name for card in map(find, ("RTX 4090", "H100 PCIe", "h100"))]
    ['rtx4090', 'h100-pcie', 'h100']
    """
    folded = spelled(text).replace("-", "")
    return next((card for name, card in cards().items() if name.replace("-", "") == folded), None)


def dtype_of(text: str) -> str:
    """A type as the table has it; raises UsageError for an unknown one."""
    if (name := text.strip().lower()) not in DTYPES:
        raise UsageError(
            f"unknown type '{text}' for --dtype", help=(*did_you_mean(name, DTYPES), "such as bf16 or fp8")
        )
    return DTYPES[name]


def with_peak(text: str, dtype: str) -> tuple[Card, int]:
    """Find a card and its FLOP/s in a type; one that comes with less or more memory can be named without.

    >>> card, peak = with_peak("a100", "bf16")
    >>> card.name, peak
    ('a100-40gb', 312000000000000)
    """
    name, known = spelled(text), cards()
    card = find(text) or _any_size(name, known)
    own = "--peak 989TFLOPS names the peak of other hardware"
    if card is None:
        raise UsageError(f"unknown card '{text}'", help=(*did_you_mean(name, known), f"cards: {', '.join(known)}", own))
    if dtype not in card.peaks:
        has = ", ".join(card.peaks) or "no peak of it is known"
        raise UsageError(f"{card.name} has no peak for {dtype}: {has}", help=own)
    return card, card.peaks[dtype]


def _any_size(name: str, known: Mapping[str, Card]) -> Card | None:
    sizes = [card for other, card in known.items() if other.startswith(f"{name}-") and other.endswith("gb")]
    return sizes[0] if sizes and all(card.peaks == sizes[0].peaks for card in sizes) else None


def peak_of(text: str) -> int:
    """Read a peak.

    >>> peak_of("989.4TFLOPS"), peak_of("1e15")
    (989400000000000, 1000000000000000)
    """
    try:
        amount = parse(text.replace(" ", ""), _PER_SECOND)
    except UnitError as error:
        raise UsageError(f"--peak takes FLOP/s, not '{text}'", help="for example 989TFLOPS or 1.5PFLOPS") from error
    if amount < 1 or amount.denominator != 1:
        raise UsageError(f"--peak takes FLOP/s, not '{text}'", help="for example 989TFLOPS or 1.5PFLOPS")
    if amount < 10**9:
        raise UsageError(f"--peak {text} is less than a GFLOP/s", help=f"write the unit: {text.strip()}TFLOPS, say")
    return amount.numerator
