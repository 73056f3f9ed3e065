"""Layers that change the resolution."""

from __future__ import annotations

from fractions import Fraction

from convstat.errors import LayerError
from convstat.formulas import resize as formulas
from convstat.formulas.cost import FREE, Cost, Shape
from convstat.formulas.reach import Window, conv, resized
from convstat.formulas.reads import Place, Reads, adapted, along, same
from convstat.layers.base import (
    Argument,
    Count,
    Flag,
    Layer,
    Optional,
    Reals,
    Sizes,
    Word,
    divisors_help,
    show,
    show_shape,
)
from convstat.layers.pool import adaptive_mean
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor

_RANKS = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}
"""The number of dimensions, batch included, that a mode is for; the others take any."""


class Upsample(Layer):
    """Interpolation to a size or by a factor.

    Elements read, under ``resize``: 1 per output for nearest, 2 linear, 4 bilinear, 8 trilinear, 16 bicubic;
    for area the sum of its windows.
    """

    family = "resize"
    aliases = ("upsample",)
    ranks = (3, 4, 5)

    size = Argument(Optional(Sizes()), None)
    scale_factor = Argument(Optional(Reals()), None)
    mode = Argument(Word(*formulas.TAPS, "area"), "nearest")
    align_corners = Argument(Optional(Flag()), None)
    recompute_scale_factor = Argument(Optional(Flag()), None)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        shape = inputs[0]
        if self.size is not None and self.scale_factor is not None:
            raise LayerError("only one of size or scale_factor should be defined", argument="scale_factor")
        if self.size is None and self.scale_factor is None:
            raise LayerError("either size or scale_factor should be defined", help="scale_factor: 2")
        for name, value in (("size", self.size), ("scale_factor", self.scale_factor)):
            if isinstance(value, tuple) and len(value) != len(shape) - 2:
                raise LayerError(
                    f"{name} takes one number or {len(shape) - 2} for an input of {show_shape(shape)},"
                    f" not {len(value)}: {show(value)}",
                    argument=name,
                )
        rank = _RANKS.get(self.mode, len(shape))
        if len(shape) != rank:
            raise LayerError(
                f"mode='{self.mode}' needs an input of {rank - 1} dimensions (without the batch),"
                f" not {show_shape(shape)}",
                argument="mode",
            )
        if self.align_corners is not None and self.mode not in ("linear", "bilinear", "bicubic", "trilinear"):
            raise LayerError(
                "align_corners option can only be set with the interpolating modes:"
                " linear | bilinear | bicubic | trilinear",
                argument="align_corners",
            )
        if self.recompute_scale_factor and self.size is not None:
            raise LayerError(
                "recompute_scale_factor is not meaningful with an explicit size", argument="recompute_scale_factor"
            )

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        batch, channels, *spatial = inputs[0]
        if self.size is not None:
            sizes = self.size if isinstance(self.size, tuple) else (self.size,) * len(spatial)
        else:
            scale = self.scale_factor
            scales = scale if isinstance(scale, tuple) else (scale or 0.0,) * len(spatial)
            try:
                sizes = tuple(map(formulas.resize_out, spatial, scales))
            except OverflowError:
                raise LayerError(f"scale_factor={show(scale)} is too large", argument="scale_factor") from None
        if any(size < 1 for size in sizes):
            raise LayerError(
                f"input and output sizes should be greater than 0, but the output would be"
                f" {'x'.join(map(str, sizes))} for an input of {show_shape(inputs[0])}",
                argument="scale_factor",
            )
        return (batch, channels, *sizes)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        shape = inputs[0]
        if self.mode == "area":
            return adapted(shape, output)
        found: dict[int, Place] = {0: Place(0), 1: Place(1)}
        for dim, (size, out) in enumerate(zip(shape[2:], output[2:], strict=True), 2):
            if self.align_corners and size != out:
                return "with aligned corners, the distance between its samples depends on the size"
            step = Fraction(size, out) if self.size is not None or self.recompute_scale_factor else self._step(dim - 2)
            window = resized(self.mode, step)
            if window is None:
                return f"it samples every {float(step):.6g} positions, which has no short period"
            found[dim] = Place(dim, window)
        return (found,)

    def _step(self, place: int) -> Fraction:
        """The input positions from one output to the next, by the factor that was given."""
        scale = self.scale_factor
        return 1 / Fraction(scale[place] if isinstance(scale, tuple) else scale or 1)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        shape = self.output_shape((x.shape,))
        if self.mode == "area":
            return adaptive_mean(kernels, x, shape)
        kind = {"nearest": "upsample_nearest", "nearest-exact": "_upsample_nearest_exact"}
        op = f"{kind.get(self.mode, f'upsample_{self.mode}')}{x.rank - 2}d"
        return kernels.pooled(op, x, shape)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        planes = output[0] * output[1]
        return Cost(0, {"resize": formulas.resize_reads(self.mode, planes, inputs[0][2:], output[2:])})


class _Shuffle(Layer):
    """A layer that moves elements between channels and space, or among channels."""

    family = "resize"

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return FREE


class PixelShuffle(_Shuffle):
    """Channels rearranged into upscale_factor times the height and width; free: elements only move."""

    aliases = ("pixel_shuffle",)
    ranks = (4,)

    upscale_factor = Argument(Count())

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        batch, channels, height, width = inputs[0]
        factor = self.upscale_factor
        if channels % factor**2:
            raise LayerError(
                f"the number of channels must be divisible by the square of upscale_factor:"
                f" channels={channels}, upscale_factor={factor}",
                argument="upscale_factor",
            )
        return (batch, channels // factor**2, height * factor, width * factor)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        window = Window(1, ((0,),) * self.upscale_factor, (0,) * self.upscale_factor)
        return (along([window, window]),)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.new("pixel_shuffle", self.output_shape((inputs[0].shape,)), dtype=inputs[0].dtype)


class PixelUnshuffle(_Shuffle):
    """Height and width folded into channels by downscale_factor; free: elements only move."""

    aliases = ("pixel_unshuffle", "space_to_depth")
    ranks = (4,)

    downscale_factor = Argument(Count())

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        batch, channels, height, width = inputs[0]
        factor = self.downscale_factor
        for name, size in (("height", height), ("width", width)):
            if size % factor:
                raise LayerError(
                    f"{name} must be divisible by downscale_factor: {name}={size}, downscale_factor={factor}",
                    argument="downscale_factor",
                    help=divisors_help(height=height, width=width),
                )
        return (batch, channels * factor**2, height // factor, width // factor)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        window = conv(self.downscale_factor, self.downscale_factor)
        return (along([window, window]),)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.pooled("pixel_unshuffle", inputs[0], self.output_shape((inputs[0].shape,)))


class ChannelShuffle(_Shuffle):
    """Channels of the groups interleaved; free: elements only move."""

    aliases = ("channel_shuffle",)
    min_rank = 3

    groups = Argument(Count(), short="g")

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        channels = inputs[0][1]
        if channels % self.groups:
            raise LayerError(
                f"number of channels must be divisible by groups: channels={channels}, groups={self.groups}",
                argument="groups",
                help=divisors_help(channels=channels),
            )
        return inputs[0]

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output)),)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if self.groups in (1, x.shape[1]):
            # There is nothing to move.
            return kernels.view("channel_shuffle", x, x.shape, x.strides)
        return kernels.new("channel_shuffle", x.shape, dtype=x.dtype)
