"""Which indices ``topk`` and its like find on meta, where there are no values to choose by.

A mixture of experts sends each token to the experts of its highest scores, and runs each expert on what it was sent.
So the indices are made up: valid ones, with values, on the CPU, and the model follows them by itself, whether it asks
``idx == e``, counts, sorts or loops. Each token goes to as many different experts as it would, so the experts' shares
partition the tokens by construction.
Another routing sends other tokens to other experts. Where several that differ as much as they can cost the same
MACs, every routing does: the experts cost the same for each token, and nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from random import Random

import torch

MOST_CLASSES = 1024
"""Sizes of a dimension from which an index is taken to choose among classes, and not among places."""

MOST_INDICES = 2**20
"""Indices that are made up at once."""

FIRST = 0
"""The routing that shares out evenly."""

USUAL, MOST = 5, 20
"""Routings that are tried: these, and more until each class was chosen once."""


def is_routing(classes: int, shape: Sequence[int]) -> bool:
    """Whether indices may be those of a routing; a single one is rather read as a decision."""
    return 1 < classes <= MOST_CLASSES and 1 < prod(shape) <= MOST_INDICES


def chosen(classes: int, shape: Sequence[int], routing: int) -> torch.Tensor:
    """Indices below ``classes``, all different along the last dimension of ``shape``.

    Routing 0 shares out evenly, 1 takes the first classes always, 2 the last, 3 draws with odds that differ as
    much as they can; further ones are even again, and begin where the one before ended.

    >>> chosen(4, (3, 2), 0).tolist(), chosen(4, (2, 2), 1).tolist()
    ([[0, 1], [2, 3], [0, 1]], [[0, 1], [0, 1]])
    """
    *rows, each = shape
    count = prod(rows)
    start = torch.arange(count).unsqueeze(1)
    along = torch.arange(each)
    if routing in (1, 2):
        found = along.expand(count, each)
        found = found if routing == 1 else classes - 1 - found
    elif routing == 3:
        random = Random(classes)
        odds = [1 / (1 + place) for place in range(classes)]
        random.shuffle(odds)
        keys = [[(random.random() ** (1 / odd), place) for place, odd in enumerate(odds)] for _ in range(count)]
        found = torch.tensor([[place for _, place in sorted(row, reverse=True)[:each]] for row in keys])
    else:
        shift = max(routing - 3, 0) * count * each
        found = (start * each + along + shift) % classes
    return found.reshape(tuple(shape)).contiguous()


def routings(classes: int, shape: Sequence[int]) -> int:
    """How many routings are to be tried, so that each class is chosen in one of them, if that takes no more than MOST.

    >>> routings(8, (16, 2)), routings(64, (1, 8))
    (5, 12)
    """
    needed = ceil(classes / max(prod(shape), 1))
    return min(max(USUAL, needed + 4), MOST)


def covers(classes: int, shape: Sequence[int], tried: int) -> bool:
    """Whether each class is chosen in one of the first ``tried`` routings."""
    even = 1 + max(tried - 4, 0)
    return even * prod(shape) >= classes
