"""What "per pixel" divides by.

A pixel has several meanings in live software:
the codec world counts luma pixels or 4:2:0 samples, some code divides by every tensor element,
and a block-wise filter reads a border that it does not deliver.
So the denominator is an explicit choice, and its name is printed beside every figure.
"""

from __future__ import annotations

from math import prod

from convstat.errors import UsageError
from convstat.formulas.cost import Shape
from convstat.grammar.basis import BasisError, block_of, check


def pixels(per: str, first_input: Shape, first_output: Shape) -> tuple[int, str]:
    """Give the number of pixels and the words for it; 0 pixels where the tensor has no spatial positions.

    Shapes are ``(N, C, ...)``; all samples of the batch count, so MACs/pixel does not depend on the batch.

    >>> pixels("input", (1, 3, 224, 224), (1, 1000))
    (50176, 'input 224x224')
    >>> pixels("samples420", (1, 1, 1080, 1920), (1, 1, 1080, 1920)) == (
    ...     1080 * 1920 + 2 * (540 * 960), '4:2:0 samples of 1080x1920')
    True
    >>> pixels("block:128+8", (1, 1, 144, 144), (1, 1, 128, 128))
    (16384, 'block 128x128, border 8')

    A tensor of three sizes may be a signal or tokens with their features, and does not say which:

    >>> pixels("input", (1, 10, 32), (1, 10))
    (32, 'positions of input 10x32 read as C x L')
    """
    check(per)
    if per == "output":
        return _positions(first_output), _side("output", first_output)
    size = _size(first_input)
    if per == "input":
        return _positions(first_input), _side("input", first_input)
    if per == "element":
        return prod(first_input), f"elements of input {'x'.join(map(str, first_input[1:]))}"
    if per in ("luma420", "samples420"):
        if len(first_input) != 4:
            raise BasisError(f"--per {per} needs a first input of C x H x W, not {'x'.join(map(str, first_input[1:]))}")
        batch, channels, height, width = first_input
        # A filter may get more planes beside luma, such as one of a quantizer; a colour picture is no luma plane.
        note = f", though the input has {channels} channels" if channels != 1 else ""
        if per == "luma420":
            return batch * height * width, f"luma pixels of {size}{note}"
        # Each chroma plane has half the width and height, rounded up.
        chroma = -(-height // 2) * -(-width // 2)
        return batch * (height * width + 2 * chroma), f"4:2:0 samples of {size}{note}"
    block = block_of(per)
    if block is None:
        raise UsageError(f"--per {per}: the variables have no values here")
    height, width = block.read
    if len(first_input) != 4 or first_input[2:] != block.read:
        raise BasisError(
            f"--per {per} needs a first input of {height}x{width}"
            f" ({block.height}x{block.width} and a border of {block.border} on every side), not {size}",
            help=f"use --input C x {height} x {width}",
        )
    return first_input[0] * block.height * block.width, str(block)


def positions_read(per: str, first_input: Shape) -> int:
    """The positions that are read for the pixels of a block, its border included; 0 for what is no block.

    >>> positions_read("block:128+8", (1, 1, 144, 144)) == 144 * 144, positions_read("input", (1, 1, 144, 144))
    (True, 0)
    """
    block = block_of(per)
    return 0 if block is None else first_input[0] * prod(block.read)


def _side(side: str, shape: Shape) -> str:
    if len(shape) == 3:
        return f"positions of {side} {'x'.join(map(str, shape[1:]))} read as C x L"
    return f"{side} {_size(shape)}"


def _positions(shape: Shape) -> int:
    return shape[0] * prod(shape[2:]) if len(shape) > 2 else 0


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape[2:])) if len(shape) > 2 else "without spatial positions"
