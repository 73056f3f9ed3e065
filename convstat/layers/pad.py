"""Padding and cropping: free, because values are copied and not computed.

Amounts are per side, the last dimension first, as in torch: left, right, top, bottom, front, back.
A negative amount crops.
"""

from __future__ import annotations

from convstat.errors import LayerError
from convstat.formulas.cost import FREE, Cost, Shape
from convstat.layers.base import Argument, Layer, PerDim, Real, Sizes, show, show_shape


def _padded(shape: Shape, sides: tuple[int, ...], argument: str, *, least: int = 1) -> Shape:
    """The shape after padding; ``sides`` holds two amounts for each dimension, the last dimension first."""
    sizes = list(shape)
    for place in range(len(sides) // 2):
        sizes[-1 - place] += sides[2 * place] + sides[2 * place + 1]
    if min(sizes) < least:
        raise LayerError(
            f"{argument}={show(sides)} leaves nothing of an input of {show_shape(shape)}", argument=argument
        )
    return tuple(sizes)


class _Pad(Layer):
    """A layer that puts something around its input."""

    family = "padding"
    padding: Argument[tuple[int, ...]]

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return _padded(inputs[0], self.padding, "padding")

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return FREE


class _ConstantPad(_Pad):
    def check(self, inputs: tuple[Shape, ...]) -> None:
        # torch crops before it pads: what is cropped must be there.
        _padded(inputs[0], tuple(min(0, amount) for amount in self.padding), "padding", least=0)


class ZeroPad1d(_ConstantPad):
    """Zeros around (..., L); free: values are copied."""

    min_rank = 2
    padding = Argument(PerDim(2, None), short="p")


class ZeroPad2d(_ConstantPad):
    """Zeros around (..., H, W); free: values are copied."""

    aliases = ("zero_pad",)
    min_rank = 3
    padding = Argument(PerDim(4, None), short="p")


class ZeroPad3d(_ConstantPad):
    """Zeros around (..., D, H, W); free: values are copied."""

    min_rank = 4
    padding = Argument(PerDim(6, None), short="p")


class ConstantPad1d(_ConstantPad):
    """One value around (..., L); free: values are copied."""

    min_rank = 2
    padding = Argument(PerDim(2, None), short="p")
    value = Argument(Real())


class ConstantPad2d(_ConstantPad):
    """One value around (..., H, W); free: values are copied."""

    min_rank = 3
    padding = Argument(PerDim(4, None), short="p")
    value = Argument(Real())


class ConstantPad3d(_ConstantPad):
    """One value around (..., D, H, W); free: values are copied."""

    min_rank = 4
    padding = Argument(PerDim(6, None), short="p")
    value = Argument(Real())


class _ReflectionPad(_Pad):
    def check(self, inputs: tuple[Shape, ...]) -> None:
        for place, amount in enumerate(self.padding):
            size = inputs[0][-1 - place // 2]
            if amount >= size:
                raise LayerError(
                    f"padding size should be less than the corresponding input dimension, but got"
                    f" padding {amount} at a dimension of {size} of {show_shape(inputs[0])}",
                    argument="padding",
                )


class ReflectionPad1d(_ReflectionPad):
    """The mirrored input around (C, L); free: values are copied."""

    ranks = (3,)
    padding = Argument(PerDim(2, None), short="p")


class ReflectionPad2d(_ReflectionPad):
    """The mirrored input around (C, H, W); free: values are copied."""

    aliases = ("reflection_pad",)
    ranks = (4,)
    padding = Argument(PerDim(4, None), short="p")


class ReflectionPad3d(_ReflectionPad):
    """The mirrored input around (C, D, H, W); free: values are copied."""

    ranks = (5,)
    padding = Argument(PerDim(6, None), short="p")


class ReplicationPad1d(_Pad):
    """The border repeated around (C, L); free: values are copied."""

    ranks = (3,)
    padding = Argument(PerDim(2, None), short="p")


class ReplicationPad2d(_Pad):
    """The border repeated around (C, H, W); free: values are copied."""

    aliases = ("replication_pad",)
    ranks = (4,)
    padding = Argument(PerDim(4, None), short="p")


class ReplicationPad3d(_Pad):
    """The border repeated around (C, D, H, W); free: values are copied."""

    ranks = (5,)
    padding = Argument(PerDim(6, None), short="p")


class _CircularPad(_Pad):
    def check(self, inputs: tuple[Shape, ...]) -> None:
        for place, amount in enumerate(self.padding):
            size = inputs[0][-1 - place // 2]
            if amount > size:
                raise LayerError(
                    f"padding value causes wrapping around more than once: padding {amount}"
                    f" at a dimension of {size} of {show_shape(inputs[0])}",
                    argument="padding",
                )


class CircularPad1d(_CircularPad):
    """The opposite end around (C, L); free: values are copied."""

    ranks = (3,)
    padding = Argument(PerDim(2, None), short="p")


class CircularPad2d(_CircularPad):
    """The opposite end around (C, H, W); free: values are copied."""

    ranks = (4,)
    padding = Argument(PerDim(4, None), short="p")


class CircularPad3d(_CircularPad):
    """The opposite end around (C, D, H, W); free: values are copied."""

    ranks = (5,)
    padding = Argument(PerDim(6, None), short="p")


class Crop(Layer):
    """Amounts cut off each side, the last dimension first (negative padding); free: a view.

    One amount is for all sides of all dimensions after the channels.
    """

    family = "padding"
    aliases = ("crop",)
    min_rank = 3

    cropping = Argument(Sizes(0))

    def _sides(self, shape: Shape) -> tuple[int, ...]:
        amounts, most = self.cropping, 2 * (len(shape) - 2)
        if isinstance(amounts, int):
            return (amounts,) * most
        if len(amounts) % 2 or len(amounts) > most:
            raise LayerError(
                f"cropping takes one integer, or two for each dimension after the channels of {show_shape(shape)},"
                f" the last first, not {len(amounts)}: {show(amounts)}",
                argument="cropping",
            )
        return amounts

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        sides = self._sides(inputs[0])
        return _padded(inputs[0], tuple(-amount for amount in sides), "cropping")

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return FREE


LAYERS = (
    ZeroPad1d,
    ZeroPad2d,
    ZeroPad3d,
    ConstantPad1d,
    ConstantPad2d,
    ConstantPad3d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReflectionPad3d,
    ReplicationPad1d,
    ReplicationPad2d,
    ReplicationPad3d,
    CircularPad1d,
    CircularPad2d,
    CircularPad3d,
    Crop,
)
