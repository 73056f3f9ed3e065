"""Padding and cropping: free, because values are copied and not computed.

Amounts are per side, the last dimension first, as in torch: left, right, top, bottom, front, back.
A negative amount crops.
"""

from __future__ import annotations

from convstat.errors import LayerError
from convstat.formulas.cost import FREE, Cost, Shape
from convstat.formulas.reach import shifted
from convstat.formulas.reads import Dims, Place, Reads, same
from convstat.formulas.symbolic import smallest
from convstat.layers.base import Argument, Layer, PerDim, Real, Sizes, show, show_shape
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor


def _padded(shape: Shape, sides: tuple[int, ...], argument: str, *, least: int = 1) -> Shape:
    """The shape after padding; ``sides`` holds two amounts for each dimension, the last dimension first."""
    sizes = list(shape)
    for place in range(len(sides) // 2):
        sizes[-1 - place] += sides[2 * place] + sides[2 * place + 1]
    if any(size < least for size in sizes):
        raise LayerError(
            f"{argument}={show(sides)} leaves nothing of an input of {show_shape(shape)}", argument=argument
        )
    return tuple(sizes)


def _moved(rank: int, sides: tuple[int, ...]) -> Dims:
    """Each position moved by what stands before it."""
    moved = zip(range(rank - 1, -1, -1), sides[::2], sides[1::2], strict=False)
    return {**same(rank), **{dim: Place(dim, shifted(before, after)) for dim, before, after in moved}}


def padded(kernels: Kernels, x: Tensor, sides: tuple[int, ...], mode: str) -> Tensor:
    """Run ``torch.nn.functional.pad``; ``sides`` are two amounts for each dimension, the last dimension first."""
    shape = _padded(x.shape, sides, "padding", least=0)
    if mode == "constant":
        if all(amount <= 0 for amount in sides):
            # Nothing is put around it: what is left is copied as it lies.
            left = Tensor(shape, x.strides, x.dtype, x.memory)
            return kernels.copied("constant_pad_nd", left)
        return kernels.pooled("constant_pad_nd", x, shape)
    if mode == "circular":
        return _wrapped(kernels, x, sides, shape)
    kind = {"reflect": "reflection", "replicate": "replication"}[mode]
    return kernels.new(f"{kind}_pad{len(sides) // 2}d", shape, dtype=x.dtype)


def _wrapped(kernels: Kernels, x: Tensor, sides: tuple[int, ...], shape: Shape) -> Tensor:
    """Copy the input into the middle, and then what is opposite to each side."""
    output = kernels.new("new_empty", shape, dtype=x.dtype)
    for copied in (len(sides) // 2, *(1 for amount in sides if amount > 0)):
        for _ in range(2 * copied):
            kernels.ran("slice")
        kernels.ran("copy_")
    return output


class _Pad(Layer):
    """A layer that puts something around its input."""

    family = "padding"
    mode = "constant"

    padding = Argument(PerDim(None, sides=2), short="p")

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return _padded(inputs[0], self.padding, "padding")

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (_moved(len(output), self.padding),)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return padded(kernels, inputs[0], self.padding, self.mode)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return FREE


class _ConstantPad(_Pad):
    def check(self, inputs: tuple[Shape, ...]) -> None:
        # torch crops before it pads: what is cropped must be there.
        _padded(inputs[0], tuple(smallest(0, amount) for amount in self.padding), "padding", least=0)


class ZeroPad1d(_ConstantPad, dims=1):
    """Zeros around (..., L); free: values are copied."""

    min_rank = 2


class ZeroPad2d(_ConstantPad, dims=2):
    """Zeros around (..., H, W); free: values are copied."""

    aliases = ("zero_pad",)
    min_rank = 3


class ZeroPad3d(_ConstantPad, dims=3):
    """Zeros around (..., D, H, W); free: values are copied."""

    min_rank = 4


class _ValuePad(_ConstantPad):
    value = Argument(Real())


class ConstantPad1d(_ValuePad, dims=1):
    """One value around (..., L); free: values are copied."""

    min_rank = 2


class ConstantPad2d(_ValuePad, dims=2):
    """One value around (..., H, W); free: values are copied."""

    min_rank = 3


class ConstantPad3d(_ValuePad, dims=3):
    """One value around (..., D, H, W); free: values are copied."""

    min_rank = 4


class _ReflectionPad(_Pad):
    mode = "reflect"

    def check(self, inputs: tuple[Shape, ...]) -> None:
        for place, amount in enumerate(self.padding):
            size = inputs[0][-1 - place // 2]
            if amount >= size:
                raise LayerError(
                    f"padding size should be less than the corresponding input dimension, but got"
                    f" padding {amount} at a dimension of {size} of {show_shape(inputs[0])}",
                    argument="padding",
                )


class ReflectionPad1d(_ReflectionPad, dims=1):
    """The mirrored input around (C, L); free: values are copied."""


class ReflectionPad2d(_ReflectionPad, dims=2):
    """The mirrored input around (C, H, W); free: values are copied."""

    aliases = ("reflection_pad",)


class ReflectionPad3d(_ReflectionPad, dims=3):
    """The mirrored input around (C, D, H, W); free: values are copied."""


class _ReplicationPad(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPad, dims=1):
    """The border repeated around (C, L); free: values are copied."""


class ReplicationPad2d(_ReplicationPad, dims=2):
    """The border repeated around (C, H, W); free: values are copied."""

    aliases = ("replication_pad",)


class ReplicationPad3d(_ReplicationPad, dims=3):
    """The border repeated around (C, D, H, W); free: values are copied."""


class _CircularPad(_Pad):
    mode = "circular"

    def check(self, inputs: tuple[Shape, ...]) -> None:
        for place, amount in enumerate(self.padding):
            size = inputs[0][-1 - place // 2]
            if amount > size:
                raise LayerError(
                    f"padding value causes wrapping around more than once: padding {amount}"
                    f" at a dimension of {size} of {show_shape(inputs[0])}",
                    argument="padding",
                )


class CircularPad1d(_CircularPad, dims=1):
    """The opposite end around (C, L); free: values are copied."""


class CircularPad2d(_CircularPad, dims=2):
    """The opposite end around (C, H, W); free: values are copied."""


class CircularPad3d(_CircularPad, dims=3):
    """The opposite end around (C, D, H, W); free: values are copied."""


class Crop(Layer):
    """Amounts cut off each side, the last dimension first (negative padding); free: a view.

    One amount is for all sides of all dimensions after the channels.
    """

    family = "padding"
    aliases = ("crop",)
    min_rank = 3

    cropping = Argument(Sizes(0))

    def sides(self, shape: Shape) -> tuple[int, ...]:
        amounts, most = self.cropping, 2 * (len(shape) - 2)
        if not isinstance(amounts, tuple):
            return (amounts,) * most
        if len(amounts) % 2 or len(amounts) > most:
            raise LayerError(
                f"cropping takes one integer, or two for each dimension after the channels of {show_shape(shape)},"
                f" the last first, not {len(amounts)}: {show(amounts)}",
                argument="cropping",
            )
        return amounts

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        sides = self.sides(inputs[0])
        return _padded(inputs[0], tuple(-amount for amount in sides), "cropping")

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (_moved(len(output), tuple(-amount for amount in self.sides(inputs[0]))),)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return FREE

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        sides = self.sides(x.shape)
        cut = sum(before != 0 or after != 0 for before, after in zip(sides[::2], sides[1::2], strict=True))
        for _ in range(cut - 1):
            kernels.ran("slice")
        return kernels.view("slice" if cut else "alias", x, self.output_shape((x.shape,)), x.strides)
