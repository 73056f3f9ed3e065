"""Convolutions and transposed convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from convstat.errors import LayerError
from convstat.formulas import conv as formulas
from convstat.formulas import derivation as derivations
from convstat.formulas import reach
from convstat.formulas.cost import Cost, Shape
from convstat.formulas.derivation import Derivation
from convstat.formulas.reads import Reads, along
from convstat.layers.base import (
    Argument,
    Count,
    Either,
    Flag,
    Layer,
    PerDim,
    Word,
    channel_axis,
    divisors_help,
    show_shape,
)
from convstat.layers.pad import padded
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor


class _ConvNd(Layer):
    """What convolutions and transposed convolutions of every rank share."""

    family = "convolution"
    weight_axes = ("out_channels", "in_channels/groups")

    in_channels = Argument(Count(), infer=channel_axis)
    out_channels = Argument(Count(), short="out")
    kernel_size = Argument(PerDim(), short="k")
    stride = Argument(PerDim(), 1, short="s")
    groups: Argument[int]
    bias: Argument[bool]

    def check(self, inputs: tuple[Shape, ...]) -> None:
        for name in ("in_channels", "out_channels"):
            channels = getattr(self, name)
            if channels % self.groups:
                raise LayerError(
                    f"{name} must be divisible by groups: {name}={channels}, groups={self.groups}",
                    argument="groups",
                    help=divisors_help(in_channels=self.in_channels, out_channels=self.out_channels),
                )

    def _checked(self, spatial: tuple[int, ...], inputs: tuple[Shape, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in spatial):
            raise LayerError(
                f"the output would be {'x'.join(map(str, spatial))}: kernel_size={self.kernel_size[0]}"
                f" is larger than the padded input {show_shape(inputs[0])}",
                argument="kernel_size",
            )
        return spatial

    def parameters(self) -> Mapping[str, Shape]:
        weight = {"weight": self._weight()}
        return {**weight, "bias": (self.out_channels,)} if self.bias else weight

    @classmethod
    def parameter_axes(cls) -> Mapping[str, tuple[str, ...]]:
        kernel = [name for name, _ in derivations.axes("k", (1,) * cls.spatial_dims)]
        return {"weight": (*cls.weight_axes, *kernel), "bias": ("out_channels",)}

    def _weight(self) -> Shape:
        raise NotImplementedError

    def _other(self, output: Shape) -> dict[str, int]:
        return {"bias": prod(output)} if self.bias else {}


class _Conv(_ConvNd):
    """A convolution (cross-correlation)."""

    padding = Argument(Either(Word("same", "valid"), PerDim(0)), 0, short="p")
    dilation = Argument(PerDim(), 1, short="d")
    groups = Argument(Count(), 1, short="g")
    bias = Argument(Flag(), True)
    padding_mode = Argument(Word("zeros", "reflect", "replicate", "circular"), "zeros")

    def check(self, inputs: tuple[Shape, ...]) -> None:
        super().check(inputs)
        if self.padding == "same" and any(step != 1 for step in self.stride):
            raise LayerError("padding='same' is not supported for strided convolutions", argument="padding")
        if self.padding_mode in ("reflect", "circular"):
            for size, pad in zip(inputs[0][2:], self.sides(), strict=True):
                # torch refuses a reflection that would need the border twice, and a wrap longer than the input.
                if any(side >= size + (self.padding_mode == "circular") for side in pad):
                    raise LayerError(
                        f"padding {max(pad)} is too large for padding_mode='{self.padding_mode}'"
                        f" on an input of {show_shape(inputs[0])}",
                        argument="padding",
                    )

    def sides(self) -> tuple[tuple[int, int], ...]:
        """The padding before and after, for each dimension."""
        if self.padding == "valid":
            return ((0, 0),) * self.spatial_dims
        if self.padding == "same":
            totals = [formulas.window(k, d) - 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
            return tuple((total // 2, total - total // 2) for total in totals)
        return tuple((pad, pad) for pad in self.padding)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        batch, _, *spatial = inputs[0]
        sizes = tuple(
            formulas.conv_out(size, kernel, stride, sum(sides), dilation)
            for size, kernel, stride, sides, dilation in zip(
                spatial, self.kernel_size, self.stride, self.sides(), self.dilation, strict=True
            )
        )
        return (batch, self.out_channels, *self._checked(sizes, inputs))

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        macs = formulas.conv_macs(self.in_channels, self.out_channels, output[2:], self.kernel_size, self.groups)
        return Cost(output[0] * macs, self._other(output))

    def derivation(self, inputs: tuple[Shape, ...], output: Shape) -> Derivation:
        channels = self.in_channels, self.out_channels
        return derivations.conv(output[0], *channels, output[2:], self.kernel_size, self.groups)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        steps = zip(self.kernel_size, self.stride, self.sides(), self.dilation, strict=True)
        windows = [
            reach.conv(kernel, step, before, dilation, after) for kernel, step, (before, after), dilation in steps
        ]
        return (along(windows),)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        shape, sides = self.output_shape((x.shape,)), self.sides()
        amounts = tuple(amount for pair in reversed(sides) for amount in pair)
        if self.padding_mode != "zeros":
            x = padded(kernels, x, amounts, self.padding_mode)
        elif any(before != after for before, after in sides):
            # torch pads by what one side has more, and leaves the rest to the convolution.
            more = tuple(max(0, one - other) for pair in reversed(sides) for one, other in (pair, pair[::-1]))
            x = padded(kernels, x, more, "constant")
        return kernels.new("convolution", shape, dtype=x.dtype)

    def _weight(self) -> Shape:
        return formulas.conv_weight(self.in_channels, self.out_channels, self.kernel_size, self.groups)


class _ConvTranspose(_ConvNd):
    """A transposed convolution, counted at its input positions."""

    weight_axes = ("in_channels", "out_channels/groups")

    padding = Argument(PerDim(0), 0, short="p")
    output_padding = Argument(PerDim(0), 0)
    groups = Argument(Count(), 1, short="g")
    bias = Argument(Flag(), True)
    dilation = Argument(PerDim(), 1, short="d")
    padding_mode = Argument(Word("zeros"), "zeros")

    def check(self, inputs: tuple[Shape, ...]) -> None:
        super().check(inputs)
        for extra, stride, dilation in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra >= stride and extra >= dilation:
                raise LayerError(
                    f"output padding must be smaller than either stride or dilation: "
                    f"output_padding={extra}, stride={stride}, dilation={dilation}",
                    argument="output_padding",
                )

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        batch, _, *spatial = inputs[0]
        sizes = tuple(
            formulas.conv_transpose_out(size, kernel, stride, 2 * padding, dilation, extra)
            for size, kernel, stride, padding, dilation, extra in zip(
                spatial,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                self.output_padding,
                strict=True,
            )
        )
        return (batch, self.out_channels, *self._checked(sizes, inputs))

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        size = inputs[0][2:]
        macs = formulas.conv_transpose_macs(self.in_channels, self.out_channels, size, self.kernel_size, self.groups)
        return Cost(output[0] * macs, self._other(output))

    def derivation(self, inputs: tuple[Shape, ...], output: Shape) -> Derivation:
        channels = self.in_channels, self.out_channels
        return derivations.conv_transpose(output[0], *channels, inputs[0][2:], self.kernel_size, self.groups)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        steps = zip(self.kernel_size, self.stride, self.padding, self.dilation, self.output_padding, strict=True)
        return (along([reach.conv_transpose(*step) for step in steps]),)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return kernels.new("convolution", self.output_shape((x.shape,)), dtype=x.dtype)

    def _weight(self) -> Shape:
        return formulas.conv_transpose_weight(self.in_channels, self.out_channels, self.kernel_size, self.groups)


class Conv1d(_Conv, dims=1):
    """1D convolution over (C, L)."""


class Conv2d(_Conv, dims=2):
    """2D convolution over (C, H, W)."""

    aliases = ("conv",)


class Conv3d(_Conv, dims=3):
    """3D convolution over (C, D, H, W)."""


class ConvTranspose1d(_ConvTranspose, dims=1):
    """1D transposed convolution over (C, L)."""


class ConvTranspose2d(_ConvTranspose, dims=2):
    """2D transposed convolution over (C, H, W)."""

    aliases = ("deconv", "conv_transpose")


class ConvTranspose3d(_ConvTranspose, dims=3):
    """3D transposed convolution over (C, D, H, W)."""
