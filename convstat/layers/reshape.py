"""Layers that rename or move data, and those that do nothing once a model is trained; all of them are free."""

from __future__ import annotations

from math import prod

from convstat.errors import LayerError
from convstat.formulas.cost import FREE, Cost, Shape
from convstat.formulas.reads import Place, Reads, Reshaped, same
from convstat.layers.base import Argument, Flag, Integer, Layer, Real, Sizes, axis, show, show_shape
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor


class _Free(Layer):
    """A layer without arithmetic."""

    family = "reshape"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return inputs[0]

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output)),)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return FREE


def _divided(total: int, sizes: tuple[int, ...], name: str, whole: str) -> Shape:
    """Fill in the one -1 of some sizes, and refuse sizes that do not multiply to ``total``."""
    known = prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1:
        raise LayerError(f"only one dimension can be inferred, not {show(sizes)}", argument=name)
    if any(size < -1 for size in sizes):
        raise LayerError(f"invalid shape dimension {min(sizes)} in {show(sizes)}", argument=name)
    if (known == 0 or total % known) if -1 in sizes else known != total:
        raise LayerError(f"{name}={show(sizes)} is invalid for {whole}, which has {total} elements", argument=name)
    return tuple(total // known if size == -1 else size for size in sizes)


class Flatten(_Free):
    """One dimension made of several; free: the data stays where it is."""

    aliases = ("flatten",)

    start_dim = Argument(Integer(), 1)
    end_dim = Argument(Integer(), -1)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = inputs[0]
        start, end = axis(self.start_dim, shape, "start_dim"), axis(self.end_dim, shape, "end_dim")
        if start > end:
            raise LayerError(
                f"flatten() has invalid args: start_dim cannot come after end_dim:"
                f" start_dim={self.start_dim}, end_dim={self.end_dim}, input {show_shape(shape)}",
                argument="start_dim",
            )
        return (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return Reshaped()

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        start, end = axis(self.start_dim, x.shape, "start_dim"), axis(self.end_dim, x.shape, "end_dim")
        return x if start == end else kernels.reshape(x, self.output_shape((x.shape,)))


class Unflatten(_Free):
    """Several dimensions made of one; free: the data stays where it is."""

    aliases = ("unflatten",)

    dim = Argument(Integer())
    unflattened_size = Argument(Sizes(-1, scalar=False))

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = inputs[0]
        place = axis(self.dim, shape)
        assert isinstance(self.unflattened_size, tuple)
        whole = f"dimension {self.dim} of {show_shape(shape)}"
        sizes = _divided(shape[place], self.unflattened_size, "unflattened_size", whole)
        return (*shape[:place], *sizes, *shape[place + 1 :])

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return Reshaped()

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.reshape(inputs[0], self.output_shape((inputs[0].shape,)))


class Reshape(_Free):
    """Other dimensions after the batch, one of them may be -1 (x.reshape); free: no arithmetic."""

    aliases = ("reshape", "view")

    shape = Argument(Sizes(-1, scalar=False))

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        batch, *sizes = inputs[0]
        assert isinstance(self.shape, tuple)
        return (batch, *_divided(prod(sizes), self.shape, "shape", f"an input of {show_shape(inputs[0])}"))

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return Reshaped()

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.reshape(inputs[0], self.output_shape((inputs[0].shape,)))


class Permute(_Free):
    """Dimensions in another order, the batch included (x.permute); free: no arithmetic."""

    aliases = ("permute",)

    dims = Argument(Sizes(None, scalar=False))

    def _order(self, shape: Shape) -> tuple[int, ...]:
        assert isinstance(self.dims, tuple)
        return tuple(axis(dim, shape, "dims") for dim in self.dims)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        shape = inputs[0]
        if sorted(self._order(shape)) != list(range(len(shape))):
            raise LayerError(
                f"dims must name each of the {len(shape)} dimensions of the input once, the batch included,"
                f" not {show(self.dims)}",
                argument="dims",
                help=f"dims: {show(tuple(range(len(shape))))} in the order that you want",
            )

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return tuple(inputs[0][dim] for dim in self._order(inputs[0]))

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return ({dim: Place(place) for place, dim in enumerate(self._order(inputs[0]))},)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.permute(inputs[0], self._order(inputs[0].shape))


class Select(_Free):
    """One slice along a dimension, which goes (torch.select; x[:, 0] is dim 1, index 0); free: a view."""

    aliases = ("select",)

    dim = Argument(Integer())
    index = Argument(Integer())

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        shape = inputs[0]
        place = axis(self.dim, shape)
        size = shape[place]
        if not -size <= self.index < size:
            raise LayerError(
                f"index {self.index} is out of range for dimension {self.dim} of {show_shape(shape)}, which has {size}",
                argument="index",
            )
        return shape[:place] + shape[place + 1 :]

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        place = axis(self.dim, inputs[0])
        kept = {dim: Place(dim - (dim > place)) for dim in range(len(inputs[0])) if dim != place}
        return ({**kept, place: Place(None)},)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.select(inputs[0], axis(self.dim, inputs[0].shape))


class Identity(_Free):
    """The input itself; free."""

    aliases = ("identity",)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return inputs[0]


class _Dropout(_Free):
    """A layer that zeroes at random while training, and does nothing in evaluation, which is what is counted."""

    family = "dropout"

    p = Argument(Real(), 0.5)
    inplace = Argument(Flag(), False)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        if not 0 <= self.p <= 1:
            raise LayerError(f"dropout probability has to be between 0 and 1, but got {self.p}", argument="p")

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return inputs[0]


class _DropoutOfSamples(_Dropout):
    """A dropout of whole channels that takes an input without a batch for one with it."""

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if x.rank == self.ranks[0]:
            end = "_" if self.inplace else ""
            kernels.ran(f"unsqueeze{end}")
            kernels.ran(f"squeeze{end}")
        return x


class Dropout(_Dropout):
    """Elements zeroed at random in training; free: in evaluation it is the identity."""

    aliases = ("dropout",)


class Dropout1d(_DropoutOfSamples):
    """Channels of (C, L) zeroed at random in training; free: in evaluation it is the identity."""

    ranks = (2, 3)


class Dropout2d(_Dropout):
    """Channels of (C, H, W) zeroed at random in training; free: in evaluation it is the identity."""

    ranks = (3, 4)


class Dropout3d(_DropoutOfSamples):
    """Channels of (C, D, H, W) zeroed at random in training; free: in evaluation it is the identity."""

    ranks = (4, 5)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance; free: in evaluation it is the identity."""


class FeatureAlphaDropout(_Dropout):
    """Alpha dropout of whole channels; free: in evaluation it is the identity."""
