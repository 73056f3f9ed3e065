"""Tensors that have a shape, strides and a storage with a size, and nothing in it.

What torch decides by strides is decided here as torch does it: whether a reshape is a view or a copy, what is
contiguous, and how the result of an operation on several tensors lies in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Shape = tuple[int, ...]

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "uint64": 8, "uint8": 1}
"""Bytes of one element."""

HALVES = ("float16", "bfloat16")


class Memory:
    """What tensors that are views of each other share; it lives as long as one of them does."""

    __slots__ = ("__weakref__",)


class Tensor:
    """A tensor without values; the strides are in elements."""

    __slots__ = ("dtype", "memory", "shape", "strides")

    def __init__(
        self, shape: Shape, strides: Shape | None = None, dtype: str = "float32", memory: Memory | None = None
    ):
        self.shape = shape
        self.strides = contiguous(shape) if strides is None else strides
        self.dtype = dtype
        self.memory = Memory() if memory is None else memory

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements lie in the order of its dimensions, without gaps."""
        return _fills(self.shape, self.strides, range(self.rank - 1, -1, -1))

    @property
    def is_contiguous_in_channels(self) -> bool:
        """Whether it is an image whose elements lie channel by channel, without gaps."""
        return self.rank == 4 and _fills(self.shape, self.strides, (1, 3, 2, 0))

    @property
    def is_dense(self) -> bool:
        """Whether its elements lie without gaps, whatever the order of its dimensions."""
        order = sorted(range(self.rank), key=lambda dim: (self.strides[dim], self.shape[dim]))
        return _fills(self.shape, self.strides, order)

    @property
    def is_channels_last(self) -> bool:
        """Whether torch takes it for an image or a volume whose channels lie together."""
        if self.rank not in (4, 5) or self.strides[1] == 0 or 0 in self.shape:
            return False
        least = 0
        for dim in (1, *range(self.rank - 1, 1, -1), 0):
            if self.strides[dim] < least or (dim == 0 and least == self.strides[1]):
                return False
            least = self.strides[dim] * max(self.shape[dim], 1)
        return True


def _fills(shape: Shape, strides: Shape, order: Sequence[int]) -> bool:
    expected = 1
    for dim in order:
        if shape[dim] != 1:
            if strides[dim] != expected:
                return False
            expected *= shape[dim]
    return True


def contiguous(shape: Shape) -> Shape:
    """The strides of a tensor whose elements lie in the order of its dimensions.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    return in_order(shape, range(len(shape)))


def channels_last(shape: Shape) -> Shape:
    """The strides of an image or a volume whose channels lie together.

    >>> channels_last((2, 3, 4, 5))
    (60, 1, 15, 3)
    """
    return in_order(shape, (0, *range(2, len(shape)), 1))


def in_order(shape: Shape, order: Sequence[int]) -> Shape:
    """The strides without gaps of a shape whose dimensions lie in some order, the innermost last."""
    strides, step = [0] * len(shape), 1
    for dim in reversed(order):
        strides[dim] = step
        step *= max(shape[dim], 1)
    return tuple(strides)


def viewed(shape: Shape, strides: Shape, wanted: Shape) -> Shape | None:
    """The strides with which a tensor is seen in another shape, None where its elements must be copied for it.

    >>> viewed((2, 3, 4), (12, 4, 1), (6, 4)), viewed((2, 3), (1, 2), (6,))
    ((4, 1), None)
    """
    if not prod(shape):
        return contiguous(wanted)
    found, place = [0] * len(wanted), len(wanted) - 1
    base, size, seen = strides[-1] if strides else 1, 1, 1
    for dim in range(len(shape) - 1, -1, -1):
        size *= shape[dim]
        # The end of dimensions that lie one in the other.
        if dim == 0 or (shape[dim - 1] != 1 and strides[dim - 1] != size * base):
            while place >= 0 and (seen < size or wanted[place] == 1):
                found[place] = seen * base
                seen *= wanted[place]
                place -= 1
            if seen != size:
                return None
            if dim:
                base, size, seen = strides[dim - 1], 1, 1
    return tuple(found) if place == -1 else None


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape of an operation on matching elements.

    >>> broadcast([(2, 1, 3), (4, 1)])
    (2, 4, 3)
    """
    rank = max(map(len, shapes))
    full = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*full, strict=True))


def alike(tensor: Tensor) -> Shape:
    """The strides of a copy that keeps those of a tensor without gaps."""
    return tensor.strides if tensor.is_dense else elementwise([tensor])[1]


def elementwise(tensors: Sequence[Tensor]) -> tuple[Shape, Shape]:
    """The shape and the strides of an operation on matching elements, as torch's TensorIterator lays out its result."""
    shape = broadcast([tensor.shape for tensor in tensors])
    first = tensors[0]
    if all(tensor.shape == shape for tensor in tensors):
        in_rows = all(tensor.is_contiguous for tensor in tensors)
        in_channels = all(tensor.is_contiguous_in_channels for tensor in tensors)
        # Where dimensions have the size 1, both may be so, and the strides decide.
        if in_rows != in_channels:
            return shape, contiguous(shape) if in_rows else channels_last(shape)
        if not in_rows and all(tensor.strides == first.strides for tensor in tensors) and first.is_dense:
            return shape, first.strides
    rank = len(shape)
    steps = []
    for tensor in tensors:
        missing = rank - tensor.rank
        steps.append(
            (0,) * missing
            + tuple(
                0 if size == 1 and shape[missing + dim] != 1 else stride
                for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.strides, strict=True))
            )
        )

    def compared(first: int, second: int) -> int:
        """1 where the first lies outside of the second, -1 where it lies inside, 0 where nothing tells."""
        for step in steps:
            if not step[first] or not step[second]:
                continue
            if step[first] != step[second]:
                return 1 if step[first] > step[second] else -1
            if shape[first] > shape[second]:
                return 1
        return 0

    # torch sorts by insertion, the innermost first; the comparison is no order, so it must be done in the same way.
    order = list(range(rank - 1, -1, -1))
    for place in range(1, rank):
        moved = place
        for other in range(place - 1, -1, -1):
            found = compared(order[other], order[moved])
            if found > 0:
                order[other], order[moved] = order[moved], order[other]
                moved = other
            elif found < 0:
                break
    return shape, in_order(shape, order[::-1])
