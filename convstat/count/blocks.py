"""The blocks that a picture is processed in: their sizes, what is read for each, and how many there are of each kind.

Blocks start at the top left corner; those of the last column and row are as wide and high as what is left of the
picture. What is read beyond a block is its border. At the edges of the picture there are two rules:

``pad``
    Every block has its whole border, samples outside of the picture being padded, so a block of ``h x w`` reads
    ``(h + 2E) x (w + 2E)``. The neural in-loop filters of JVET's NNVC software do so since JVET-AF0043 and AF0205.
``clip``
    The border ends at the picture, as in that software before: a block at the left edge reads nothing to its left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from convstat.grammar.basis import BlockSize

EDGES: Mapping[str, str] = {
    "pad": "every block has its whole border, padded outside of the picture",
    "clip": "the border ends at the picture",
}
"""The rules for what is read at the edges of a picture."""


class Tile(NamedTuple):
    """Blocks of one shape: their height and width, those of what they read, and how many there are."""

    size: tuple[int, int]
    read: tuple[int, int]
    times: int


def tiles(picture: tuple[int, int], block: BlockSize, edges: str = "pad") -> tuple[Tile, ...]:
    """Part a picture of height and width into blocks, each kind of them once; whole blocks come first.

    >>> for tile in tiles((1080, 1920), BlockSize(128, 128, 8)):
    ...     print(*tile)
    (128, 128) (144, 144) 120
    (56, 128) (72, 144) 15
    """
    rows = _along(picture[0], block.height, block.border, edges)
    columns = _along(picture[1], block.width, block.border, edges)
    return tuple(
        Tile((height, width), (read_height, read_width), times * across)
        for (height, read_height), times in rows.items()
        for (width, read_width), across in columns.items()
    )


def _along(length: int, size: int, border: int, edges: str) -> Counter[tuple[int, int]]:
    """The blocks along one axis: how many deliver so many pixels and read so many; the largest first."""
    found: Counter[tuple[int, int]] = Counter()
    if edges == "pad":
        whole, rest = divmod(length, size)
        found.update({(size, size + 2 * border): whole} if whole else {})
        found.update({(rest, rest + 2 * border): 1} if rest else {})
        return found
    for start in range(0, length, size):
        end = min(start + size, length)
        found[end - start, min(end + border, length) - max(start - border, 0)] += 1
    return Counter(dict(sorted(found.items(), reverse=True)))
