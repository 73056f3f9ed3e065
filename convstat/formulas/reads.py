"""What a layer reads of its inputs, dimension by dimension, and what that makes of a whole network.

A layer says for each dimension of an input which dimension of its output goes along it, and through which
:class:`~convstat.formulas.reach.Window`. A dimension that it does not name is read whole by every output: the channels
of a convolution, the positions that an attention looks at. A network begins with the spatial dimensions of its input,
and each tensor after it knows how its own dimensions go along those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import NamedTuple, TypeAlias

from convstat.formulas.cost import Shape
from convstat.formulas.reach import SAME, START, Reach, Window, conv


class Place(NamedTuple):
    """The output dimension that goes along an input's; without one, a single position of that is read."""

    dim: int | None
    window: Window = SAME


class Reshaped(NamedTuple):
    """The elements in the order in which they are, in other dimensions."""


Dims: TypeAlias = Mapping[int, Place]
"""By the dimension of the input."""

Reads: TypeAlias = "tuple[Dims, ...] | Reshaped | str"
"""For each input; or why it is not known."""


def same(rank: int, *whole: int) -> Dims:
    """Each position at its own place, but for dimensions that are read whole.

    >>> sorted(same(4, 1))
    [0, 2, 3]
    """
    return {dim: Place(dim) for dim in range(rank) if dim not in whole}


def along(windows: Sequence[Window], *dims: int) -> Dims:
    """The last dimensions through windows, the batch and other ``dims`` at their own place; channels are read whole.

    >>> sorted(along([SAME, SAME]))
    [0, 2, 3]
    """
    return {**{dim: Place(dim) for dim in (0, *dims)}, **{dim: Place(dim, item) for dim, item in enumerate(windows, 2)}}


def adapted(shape: Shape, output: Shape) -> Reads:
    """Windows that share out the input: all of it for one output, else equal ones where the sizes divide."""
    found: dict[int, Place] = {0: Place(0), 1: Place(1)}
    for dim in range(2, len(shape)):
        size, out = shape[dim], output[dim]
        if out > 1 and size % out:
            return "its windows are of different sizes"
        if out > 1 or size == 1:
            found[dim] = Place(dim, conv(size // out, size // out))
    return (found,)


def broadcast(shape: Shape, output: Shape) -> Dims:
    """Element by element, with dimensions of one element repeated, aligned at the end."""
    ahead = len(output) - len(shape)
    return {dim: Place(dim + ahead) for dim, size in enumerate(shape) if size == output[dim + ahead]}


class Along(NamedTuple):
    """A dimension that goes along one of the network's input."""

    axis: int
    reach: Reach


Dim: TypeAlias = "Along | tuple[tuple[int, Along | None], ...] | None"
"""A dimension of a tensor: along the input, or several in one with their sizes, or neither, as channels are."""


@dataclass(frozen=True, slots=True)
class Extents:
    """How a tensor goes along the input of the network.

    ``whole`` are the axes of the input that every element depends on from end to end; ``unknown`` says of others why
    nothing is known.
    """

    dims: tuple[Dim, ...]
    whole: frozenset[int] = frozenset()
    unknown: Mapping[int, str] = field(default_factory=dict)

    def along(self) -> dict[int, Reach]:
        """What is known, by the axis of the input."""
        return {along.axis: along.reach for dim in self.dims for along in _inside(dim)}


def start(shape: Shape) -> Extents:
    """The input of a network: ``(N, C, ...)``, or ``(N, L)`` for indices."""
    first = 2 if len(shape) > 2 else 1
    free: tuple[Dim, ...] = (None,) * first
    return Extents((*free, *(Along(axis, START) for axis in range(len(shape) - first))))


def apart(shape: Shape) -> Extents:
    """Anything that does not come from that input."""
    return Extents((None,) * len(shape))


def through(reads: Reads, sources: Sequence[Extents], shapes: Sequence[Shape], output: Shape) -> Extents:
    """What a layer delivers, from what it takes."""
    if isinstance(reads, Reshaped):
        return _reshaped(sources[0], shapes[0], output)
    if isinstance(reads, str):
        return _lost(sources, output, reads)
    made = Extents((None,) * len(output))
    for dims, source in zip(reads, sources, strict=True):
        made = _joined(made, _one(dims, source, output))
    return made


def _one(dims: Dims, source: Extents, output: Shape) -> Extents:
    found: list[Dim] = [None] * len(output)
    whole, unknown = set(source.whole), dict(source.unknown)
    for dim, held in enumerate(source.dims):
        place = dims.get(dim)
        if place is None:
            whole |= {along.axis for along in _inside(held)}
        elif place.dim is None or (place.window != SAME and isinstance(held, tuple) and not isinstance(held, Along)):
            reason = "positions are picked or put in a row" if place.dim is None else "it is flattened"
            unknown.update({along.axis: reason for along in _inside(held)})
        elif isinstance(held, Along) and place.window != SAME:
            reach = held.reach.through(place.window)
            if reach is None:
                unknown[held.axis] = "it is too large to follow"
            else:
                found[place.dim] = Along(held.axis, reach)
        else:
            found[place.dim] = held
    return _settled(Extents(tuple(found), frozenset(whole), unknown))


def _joined(first: Extents, second: Extents) -> Extents:
    whole, unknown = first.whole | second.whole, {**first.unknown, **second.unknown}
    found: list[Dim] = []
    for one, other in zip(first.dims, second.dims, strict=True):
        if one is None or other is None or one == other:
            found.append(one if other is None else other)
            continue
        reach = one.reach.joined(other.reach) if isinstance(one, Along) and isinstance(other, Along) else None
        if reach is None or not isinstance(one, Along) or not isinstance(other, Along) or one.axis != other.axis:
            reason = "branches of different steps are joined"
            unknown.update({along.axis: reason for along in (*_inside(one), *_inside(other))})
            found.append(None)
        else:
            found.append(Along(one.axis, reach))
    return _settled(Extents(tuple(found), whole, unknown))


def _settled(extents: Extents) -> Extents:
    """Follow no further what is read whole, and what is not known."""
    gone = extents.whole | extents.unknown.keys()
    unknown = {axis: reason for axis, reason in extents.unknown.items() if axis not in extents.whole}
    return replace(extents, dims=tuple(_without(dim, gone) for dim in extents.dims), unknown=unknown)


def _lost(sources: Sequence[Extents], output: Shape, reason: str) -> Extents:
    whole = frozenset[int]().union(*(source.whole for source in sources))
    unknown: dict[int, str] = {}
    for source in sources:
        unknown.update(dict.fromkeys(source.along(), reason))
        unknown.update(source.unknown)
    return _settled(Extents((None,) * len(output), whole, unknown))


def _inside(dim: Dim) -> Iterator[Along]:
    if isinstance(dim, Along):
        yield dim
    elif dim is not None:
        yield from (along for _, along in dim if along is not None)


def _without(dim: Dim, gone: frozenset[int] | set[int]) -> Dim:
    if isinstance(dim, Along):
        return None if dim.axis in gone else dim
    if dim is None or not any(along.axis in gone for along in _inside(dim)):
        return dim
    kept = tuple((size, None if along is not None and along.axis in gone else along) for size, along in dim)
    return kept if any(along is not None for _, along in kept) else None


def _reshaped(source: Extents, before: Shape, after: Shape) -> Extents:
    """Find which dimensions became which: runs of equal products. What was flattened is found again."""
    found: list[Dim] = []
    unknown = dict(source.unknown)
    for old, new in _runs(before, after):
        # Flattened dimensions come apart into their parts.
        parts = [part for place in old for part in _parts(source.dims[place], before[place])]
        sizes = [after[place] for place in new]
        while parts and sizes:
            # Dimensions of one element come and go.
            if (sizes[0] == 1) != (parts[0][0] == 1):
                if sizes[0] == 1:
                    found.append(None)
                    sizes = sizes[1:]
                else:
                    parts = parts[1:]
                continue
            count, size = 1, parts[0][0]
            while size < sizes[0] and count < len(parts):
                size *= parts[count][0]
                count += 1
            held = parts[:count]
            if size == sizes[0]:
                found.append(_flat(held))
                parts, sizes = parts[count:], sizes[1:]
                continue
            split = 1
            while size > prod(sizes[:split]) and split < len(sizes):
                split += 1
            if size != prod(sizes[:split]):
                break
            unknown.update({along.axis: "it is cut into pieces" for _, along in held if along is not None})
            found += [None] * split
            parts, sizes = parts[count:], sizes[split:]
        if sizes:
            unknown.update({along.axis: "it is cut into pieces" for _, along in parts if along is not None})
            found += [None] * len(sizes)
    return _settled(Extents(tuple(found), source.whole, unknown))


def _parts(dim: Dim, size: int) -> list[tuple[int, Along | None]]:
    if isinstance(dim, Along) or dim is None:
        return [(size, dim)]
    return [*dim]


def _flat(parts: Sequence[tuple[int, Along | None]]) -> Dim:
    along = [part for part in parts if part[1] is not None]
    if not along:
        return None
    return parts[0][1] if len(parts) == 1 else tuple(parts)


def _runs(before: Shape, after: Shape) -> Iterator[tuple[range, range]]:
    """Runs of dimensions on both sides with equal products, each as short as can be; ones go with what is before them.

    >>> [*_runs((1, 8, 4, 4), (1, 8, 16))]
    [(range(0, 1), range(0, 1)), (range(1, 2), range(1, 2)), (range(2, 4), range(2, 3))]
    """
    i = j = 0
    while i < len(before) or j < len(after):
        start_i, start_j = i, j
        left, right = prod(before[i : i + 1]), prod(after[j : j + 1])
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while left != right and (i < len(before) or j < len(after)):
            if (left < right and i < len(before)) or j == len(after):
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        if i == len(before) or j == len(after):
            # Only ones are left on the other side.
            i, j = len(before), len(after)
        yield range(start_i, i), range(start_j, j)
