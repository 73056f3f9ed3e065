"""The grammar of what "per pixel" divides by: ``input``, ``luma420``, ``block:128+8``, ``block:{B}+8``.

::

    basis  = "input" | "output" | "luma420" | "samples420" | "element"
           | "block:" size [ "x" size ] [ "+" size ]          height, width, border on every side
    size   = digits | "{" expression "}"                      of the variables of the model
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from convstat.errors import Diagnostic, Mark, SourceText, UsageError


class BasisError(UsageError):
    """A basis that does not fit the sizes of a model; with other sizes it may."""


BASES = {
    "input": "spatial positions of the first input",
    "output": "spatial positions of the first output",
    "luma420": "luma pixels, if the first input is the luma plane of a 4:2:0 picture",
    "samples420": "luma and chroma samples of a 4:2:0 picture whose luma plane is the first input",
    "element": "elements of the first input, channels included",
    "block:B+E": "output pixels of a B x B block whose input has a border of E on every side",
}
"""What ``--per`` takes, and what each means."""

DEFAULT = "input"

_BLOCK = r"(?a)block:(\d{1,6})(?:x(\d{1,6}))?(?:\+(\d{1,6}))?"
_HOLE = r"\{([^{}]*)\}"


class BlockSize(NamedTuple):
    """A block and the border that is read around it; all in pixels.

    >>> BlockSize(128, 128, 8).read
    (144, 144)
    """

    height: int
    width: int
    border: int = 0

    @property
    def read(self) -> tuple[int, int]:
        """The height and width of what is read."""
        return self.height + 2 * self.border, self.width + 2 * self.border

    def __str__(self) -> str:
        return f"block {self.height}x{self.width}, border {self.border}"


def block_of(per: str) -> BlockSize | None:
    """The block of a basis whose sizes are numbers; None for any other basis.

    >>> block_of("block:64x128+4"), block_of("input")
    (BlockSize(height=64, width=128, border=4), None)
    """
    match = re.fullmatch(_BLOCK, per)
    if match is None:
        return None
    height = int(match[1])
    return BlockSize(height, int(match[2] or height), int(match[3] or 0))


def check(per: str) -> None:
    """Refuse a basis that does not exist, before there is a shape to divide by."""
    if per == "block:B+E":
        raise UsageError(f"--per {per} has no sizes", help="for example block:128+8")
    if per in BASES:
        return
    plain = re.sub(_HOLE, "1", per)
    if (block := block_of(plain)) is None:
        known = ", ".join(BASES)
        raise UsageError(
            f"unknown basis '{per}' for MACs/pixel",
            help=f"--per takes {known}; for example block:128+8, or block:{{B}}+8 for the value of a variable B",
        )
    if block.height < 1 or block.width < 1:
        raise UsageError(f"--per {per}: a block has at least 1x1 pixels")


def pattern() -> str:
    """The form of a basis, for a schema.

    >>> bool(re.fullmatch(pattern(), "block:{B}+8")), bool(re.fullmatch(pattern(), "blocks:8"))
    (True, False)
    """
    size = r"([0-9]{1,6}|\{[^{}]*\})"
    words = "|".join(name for name in BASES if ":" not in name)
    return rf"^({words}|block:{size}(x{size})?(\+{size})?)$"


def holes(per: str) -> Iterator[tuple[str, int]]:
    """The expressions in a basis, each with its offset.

    >>> list(holes("block:{B}+{E//2}"))
    [('B', 7), ('E//2', 11)]
    """
    return ((match[1], match.start(1)) for match in re.finditer(_HOLE, per))


def fill(per: str, evaluate: Callable[[str, int], object], mark: Callable[[int, int], Mark]) -> str:
    """Put the values of its expressions into a basis; ``evaluate`` takes each with its offset.

    Raises BasisError for a value that no size can have; ``mark`` gives the place of an offset and a length.

    >>> fill("block:{B}+8", lambda text, offset: 64, lambda offset, length: place("block:{B}+8", offset, length))
    'block:64+8'
    """

    def value(match: re.Match[str]) -> str:
        found = evaluate(match[1], match.start(1))
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 10**6:
            message = f"a size of a block must be an integer from 0 to 999,999, and {match[1]} is {found}"
            raise BasisError(Diagnostic(message, mark(match.start(1), len(match[1]))))
        return str(found)

    filled = re.sub(_HOLE, value, per)
    if (block := block_of(filled)) is not None and (block.height < 1 or block.width < 1):
        raise BasisError(f"a block has at least 1x1 pixels, and {per} is {filled}")
    return filled


def place(per: str, offset: int, length: int) -> Mark:
    """The place of a part of a basis that was written on the command line or in the settings."""
    return Mark(SourceText(f"--per {per}", per, is_file=False), 1, offset + 1, max(1, length))
