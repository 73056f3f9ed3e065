"""Operators that join several inputs: named in lower case, as one writes them."""

from __future__ import annotations

from math import prod

from convstat.errors import LayerError
from convstat.formulas.cost import FREE, Cost, Shape
from convstat.formulas.reads import Place, Reads, same
from convstat.formulas.reads import broadcast as broadcast_reads
from convstat.formulas.symbolic import Symbolic
from convstat.layers.base import Argument, Integer, Layer, axis, show_shape
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor


def broadcast(first: Shape, second: Shape) -> Shape | None:
    """The shape of an element-wise operation on two shapes, None where they do not go together.

    The shapes are aligned at their ends; a size of 1, or none, is repeated.

    >>> broadcast((1, 64, 1, 1), (1, 64, 56, 56))
    (1, 64, 56, 56)
    >>> broadcast((1, 64, 56, 56), (1, 32, 56, 56)) is None
    True
    """
    rank = max(len(first), len(second))
    first, second = (1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second
    sizes = [_joined(a, b) for a, b in zip(first, second, strict=True)]
    return None if None in sizes else tuple(sizes)  # type: ignore[arg-type]


def _joined(first: int, second: int) -> int | None:
    """The size of an element-wise operation along one dimension."""
    # A size that is known to be 1 first: whatever the other is, it is the answer.
    if not isinstance(first, Symbolic) and first == 1:
        return second
    if (not isinstance(second, Symbolic) and second == 1) or first == second:
        return first
    return second if first == 1 else first if second == 1 else None


class _Merge(Layer):
    family = "merge"
    arity = (1, None)
    functional = True

    @classmethod
    def kind(cls) -> str:
        return cls.__name__.lower()


class _Elementwise(_Merge):
    """An operator on matching elements, applied from left to right."""

    def _steps(self, inputs: tuple[Shape, ...]) -> list[Shape]:
        """The result after each operator."""
        result = inputs[0]
        steps = []
        for shape in inputs[1:]:
            joined = broadcast(result, shape)
            if joined is None:
                raise LayerError(
                    f"{self.kind()}: the shapes {show_shape(result)} and {show_shape(shape)} do not match",
                    help="the sizes must be equal, or one of them 1",
                )
            result = joined
            steps.append(result)
        return steps

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return (inputs[0], *self._steps(inputs))[-1]

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return tuple(broadcast_reads(shape, output) for shape in inputs)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        operations = sum(map(prod, self._steps(inputs)))
        return Cost(0, {"elementwise": operations}) if operations else FREE

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        result = inputs[0]
        for other in inputs[1:]:
            result = kernels.elementwise(self.kind(), result, other)
        return result


class Add(_Elementwise):
    """Sum of several inputs, broadcast as torch does; one ``elementwise`` per sum."""


class Mul(_Elementwise):
    """Product of several inputs, broadcast as torch does; one ``elementwise`` per product."""


class Concat(_Merge):
    """Several inputs one after the other along a dimension; free: nothing is computed."""

    dim = Argument(Integer(), 1)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        first = inputs[0]
        place = axis(self.dim, first)
        for shape in inputs[1:]:
            if (len(shape), shape[:place], shape[place + 1 :]) != (len(first), first[:place], first[place + 1 :]):
                raise LayerError(
                    f"concat: sizes must match except in dimension {self.dim},"
                    f" not {show_shape(first)} and {show_shape(shape)}",
                    argument="dim",
                )
        return (*first[:place], sum(shape[place] for shape in inputs), *first[place + 1 :])

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        place = axis(self.dim, output)
        return ({**same(len(output)), place: Place(None)},) * len(inputs)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return FREE

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.cat(inputs, axis(self.dim, inputs[0].shape))
