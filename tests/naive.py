"""Counting by counting: every function runs the loops of a definition and adds one at each step.

Nothing here is taken from ``convstat.formulas``.
Sizes come from sliding a window until it no longer fits, and counts from visiting every tap.
Where a loop's body cannot depend on a loop variable (batch and channels), that loop is still run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

Sizes = tuple[int, ...]


def _starts(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> list[int]:
    """Where a window may start in a padded input: everywhere from 0 by ``stride`` where its last tap is inside."""
    starts, start = [], 0
    while start + (kernel - 1) * dilation <= before + size + after - 1:
        starts.append(start)
        start += stride
    return starts


def _taps(kernel: Sizes) -> Iterator[Sizes]:
    return product(*(range(k) for k in kernel))


def conv(
    shape: Sizes,
    out_channels: int,
    kernel: Sizes,
    stride: Sizes,
    padding: Sequence[tuple[int, int]],
    dilation: Sizes,
    groups: int = 1,
) -> tuple[Sizes, int]:
    """The output sizes and the multiply-accumulates of a convolution."""
    batch, in_channels, *spatial = shape
    dims = zip(spatial, kernel, stride, padding, dilation, strict=True)
    starts = [_starts(size, k, s, before, after, d) for size, k, s, (before, after), d in dims]
    count = 0
    for _ in range(batch):
        for out in range(out_channels):
            group = out * groups // out_channels
            for _position in product(*starts):
                for channel in range(in_channels):
                    if channel * groups // in_channels == group:
                        count += sum(1 for _ in _taps(kernel))
    return tuple(map(len, starts)), count


def conv_transpose(
    shape: Sizes,
    out_channels: int,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    dilation: Sizes,
    groups: int = 1,
) -> tuple[Sizes, int]:
    """The output sizes and the multiply-accumulates of a transposed convolution, by scattering every input value."""
    batch, in_channels, *spatial = shape
    reached = [0] * len(spatial)
    count = 0
    for _ in range(batch):
        for channel in range(in_channels):
            group = channel * groups // in_channels
            for position in product(*map(range, spatial)):
                for out in range(out_channels):
                    if out * groups // out_channels == group:
                        for tap in _taps(kernel):
                            place = [i * s + t * d for i, s, t, d in zip(position, stride, tap, dilation, strict=True)]
                            reached = [max(r, p + 1) for r, p in zip(reached, place, strict=True)]
                            count += 1
    sizes = (r - 2 * p + extra for r, p, extra in zip(reached, padding, output_padding, strict=True))
    return tuple(sizes), count


def pool(
    shape: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> tuple[Sizes, int]:
    """The output sizes of a pooling, and the elements that its windows read."""
    batch, channels, *spatial = shape
    starts = []
    for size, k, s, p, d in zip(spatial, kernel, stride, padding, dilation, strict=True):
        places = _starts(size, k, s, p, p, d)
        extra = places[-1] + s if places else 0
        hanging_over = extra + (k - 1) * d + 1 - (size + 2 * p)
        if ceil_mode and 0 < hanging_over < s and extra < p + size:
            places.append(extra)
        starts.append(places)
    count = 0
    for _ in range(batch * channels):
        for _position in product(*starts):
            count += sum(1 for _ in _taps(kernel))
    return tuple(map(len, starts)), count


def adaptive_pool(shape: Sizes, out: Sizes) -> int:
    """The elements that adaptive windows read: window i reads the elements that its share of the input touches."""
    batch, channels, *spatial = shape
    count = 0
    for _ in range(batch * channels):
        for window in product(*map(range, out)):
            for element in product(*map(range, spatial)):
                # Element j is the interval from j to j + 1, window i that from i * size / out to (i + 1) * size / out.
                count += all(
                    j * o < (i + 1) * size and i * size < (j + 1) * o
                    for i, j, size, o in zip(window, element, spatial, out, strict=True)
                )
    return count


def matrix(rows: int, inner: int, columns: int) -> int:
    """The multiply-accumulates of a product of two matrices."""
    count = 0
    for _row in range(rows):
        for _column in range(columns):
            for _ in range(inner):
                count += 1
    return count


def bilinear(positions: int, in1: int, in2: int, out: int) -> int:
    """The multiply-accumulates of a bilinear map: x1 with each matrix, then the resulting row with x2."""
    count = 0
    for _position in range(positions):
        for _ in range(out):
            for _column in range(in2):
                for _row in range(in1):
                    count += 1
            for _column in range(in2):
                count += 1
    return count


def attention(
    batch: int, heads: int, queries: int, keys: int, embed_dim: int, kdim: int, vdim: int, appended: int = 0
) -> tuple[int, int]:
    """The multiply-accumulates of multi-head attention, and the elements of its softmax."""
    macs = softmax = 0
    for _ in range(batch):
        macs += matrix(queries, embed_dim, embed_dim)
        macs += matrix(keys, kdim, embed_dim)
        macs += matrix(keys, vdim, embed_dim)
        for _head in range(heads):
            head_dim = len(range(_head, embed_dim, heads))
            for _query in range(queries):
                for _key in range(keys + appended):
                    macs += head_dim
                    softmax += 1
                for _value in range(keys + appended):
                    macs += head_dim
        macs += matrix(queries, embed_dim, embed_dim)
    return macs, softmax


def recurrent(
    gates: int,
    batch: int,
    steps: int,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    bidirectional: bool,
    proj_size: int = 0,
) -> int:
    """The multiply-accumulates of a stack of recurrent cells, run step by step."""
    count = 0
    for _sample in range(batch):
        features = input_size
        for _layer in range(num_layers):
            delivered = 0
            for _direction in range(2 if bidirectional else 1):
                state = proj_size if proj_size else hidden_size
                for _step in range(steps):
                    for _gate in range(gates):
                        for _unit in range(hidden_size):
                            for _ in range(features):
                                count += 1
                            for _ in range(state):
                                count += 1
                    if proj_size:
                        count += matrix(1, hidden_size, proj_size)
                delivered += state
            features = delivered
    return count
