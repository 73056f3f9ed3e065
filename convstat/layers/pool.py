"""Pooling: the elements that its windows read, under ``pool``, and no MACs.

Taps on padding count, as they do for convolutions.
"""

from __future__ import annotations

from math import prod
from typing import Any

from convstat.errors import LayerError
from convstat.formulas import pool, reach
from convstat.formulas.cost import Cost, Shape
from convstat.formulas.reads import Reads, adapted, along
from convstat.layers.base import (
    Argument,
    Fixed,
    Flag,
    Integer,
    Kind,
    Layer,
    Optional,
    PerDim,
    Real,
    integer,
    show,
    show_shape,
)
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor, channels_last

_ONE_OUTPUT = "a layer has one output"


class _Pool(Layer):
    """A window that slides over the input."""

    family = "pooling"

    kernel_size: Argument[tuple[int, ...]]
    stride: Argument[tuple[int, ...] | None]
    ceil_mode: Argument[bool]

    def _steps(self) -> tuple[tuple[int, int, int, int], ...]:
        """Kernel, stride, padding and dilation for each dimension; torch's stride is the kernel unless it is given."""
        none, one = (0,) * self.spatial_dims, (1,) * self.spatial_dims
        values = vars(self)
        steps = (self.kernel_size, self.stride or self.kernel_size, values.get("padding", none))
        return tuple(zip(*steps, values.get("dilation", one), strict=True))

    def check(self, inputs: tuple[Shape, ...]) -> None:
        for kernel, _, padding, _ in self._steps():
            # Half of the kernel, whatever its dilation: more, and a window could lie on padding alone.
            if padding > kernel // 2:
                raise LayerError(
                    f"pad should be at most half of kernel size, but got pad={padding} and kernel_size={kernel}",
                    argument="padding",
                )

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        batch, channels, *spatial = inputs[0]
        sizes = tuple(
            pool.pool_out(size, *step, self.ceil_mode) for size, step in zip(spatial, self._steps(), strict=True)
        )
        if any(size < 1 for size in sizes):
            raise LayerError(
                f"the output would be {'x'.join(map(str, sizes))}: kernel_size={show(self.kernel_size)}"
                f" is larger than the padded input {show_shape(inputs[0])}",
                argument="kernel_size",
            )
        return (batch, channels, *sizes)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (along([reach.conv(*step) for step in self._steps()], 1),)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return Cost(0, {"pool": pool.pool_reads(prod(output), self.kernel_size)})

    def _mean(self, kernels: Kernels, x: Tensor) -> Tensor:
        """The mean over each window; of a sequence, as of an image of one row."""
        shape = self.output_shape((x.shape,))
        if self.spatial_dims == 1:
            row = kernels.unsqueeze(x, 2)
            return kernels.squeeze(kernels.pooled("avg_pool2d", row, (*shape[:2], 1, shape[2])), 2)
        if self.spatial_dims == 3:
            return kernels.new("avg_pool3d", shape, dtype=x.dtype)
        return kernels.pooled("avg_pool2d", x, shape)


class _MaxPool(_Pool):
    kernel_size = Argument(PerDim(), short="k")
    stride = Argument(Optional(PerDim()), None, short="s")
    padding = Argument(PerDim(0), 0, short="p")
    dilation = Argument(PerDim(), 1, short="d")
    return_indices = Argument(Fixed(False, _ONE_OUTPUT), False)
    ceil_mode = Argument(Flag(), False)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return largest(kernels, x, self.output_shape((x.shape,)), "max_pool{}d_with_indices")


def largest(kernels: Kernels, x: Tensor, shape: Shape, op: str, *, dense: bool = False) -> Tensor:
    """The largest of each window with its index; of a sequence, as of an image of one row.

    ``dense`` is whether the kernel for volumes returns contiguous ones, however its input lies.
    """
    if x.rank == 3:
        row = kernels.unsqueeze(x, 2)
        values, indices = kernels.pooled_with_indices(op.format(2), row, (*shape[:2], 1, shape[2]))
        values, indices = kernels.squeeze(values, 2), kernels.squeeze(indices, 2)
        return values
    values, indices = kernels.pooled_with_indices(op.format(x.rank - 2), x, shape, dense=dense and x.rank == 5)
    return values


class MaxPool1d(_MaxPool, dims=1):
    """Largest value of each window over (C, L)."""


class MaxPool2d(_MaxPool, dims=2):
    """Largest value of each window over (C, H, W)."""

    aliases = ("maxpool", "max_pool")


class MaxPool3d(_MaxPool, dims=3):
    """Largest value of each window over (C, D, H, W)."""


def _check_whole_window(kernel: tuple[int, ...], shape: Shape) -> None:
    """Refuse a window that is larger than the input without its padding, as torch's mean over volumes does."""
    if any(size < k for size, k in zip(shape[2:], kernel, strict=True)):
        raise LayerError(f"input {show_shape(shape)} smaller than kernel_size={show(kernel)}", argument="kernel_size")


class _AvgPool(_Pool):
    kernel_size = Argument(PerDim(), short="k")
    stride = Argument(Optional(PerDim()), None, short="s")
    padding = Argument(PerDim(0), 0, short="p")
    ceil_mode = Argument(Flag(), False)
    count_include_pad = Argument(Flag(), True)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return self._mean(kernels, inputs[0])


class _AvgPoolBy(_AvgPool):
    """A mean that may be a sum divided by something else."""

    divisor_override = Argument(Optional(Integer()), None)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        super().check(inputs)
        if self.divisor_override == 0:
            raise LayerError("divisor must be not zero", argument="divisor_override")


class AvgPool1d(_AvgPool, dims=1):
    """Mean of each window over (C, L)."""


class AvgPool2d(_AvgPoolBy, dims=2):
    """Mean of each window over (C, H, W)."""

    aliases = ("avgpool", "avg_pool")


class AvgPool3d(_AvgPoolBy, dims=3):
    """Mean of each window over (C, D, H, W)."""

    def check(self, inputs: tuple[Shape, ...]) -> None:
        super().check(inputs)
        _check_whole_window(self.kernel_size, inputs[0])


class OutputSize(Kind["tuple[int | None, ...]"]):
    """The output size of an adaptive pooling; null in a list keeps the input's size."""

    def __init__(self, dims: int = 0) -> None:
        self.dims = dims

    def over(self, dims: int) -> OutputSize:
        return OutputSize(dims)

    def parse(self, value: object, name: str) -> tuple[int | None, ...]:
        if not isinstance(value, (list, tuple)):
            return (integer(value, name, 1),) * self.dims
        if len(value) != self.dims:
            raise LayerError(f"{name} takes one integer or {self.dims}, not {len(value)}: {show(value)}", argument=name)
        # torch's one-dimensional pools refuse the null.
        return tuple(None if v is None and self.dims > 1 else integer(v, name, 1) for v in value)

    def schema(self) -> dict[str, Any]:
        size: dict[str, Any] = {"type": "integer", "minimum": 1}
        item = size if self.dims == 1 else {"anyOf": [size, {"type": "null"}]}
        return {"anyOf": [size, {"type": "array", "items": item, "minItems": self.dims, "maxItems": self.dims}]}

    def describe(self) -> str:
        return "int" if self.dims == 1 else f"int or [{', '.join(['int or null'] * self.dims)}]"


def adaptive_mean(kernels: Kernels, x: Tensor, shape: Shape) -> Tensor:
    """The mean of windows that share out the input: where there is one window, that of everything."""
    if x.rank == 3:
        row = kernels.unsqueeze(x, 2)
        return kernels.squeeze(adaptive_mean(kernels, row, (*shape[:2], 1, shape[2])), 2)
    if all(size == 1 for size in shape[2:]):
        mean = kernels.new("mean", shape, dtype=x.dtype)
        if x.is_channels_last:
            kernels.ran("as_strided_")
            mean.strides = channels_last(shape)
        return mean
    if x.rank == 5:
        return kernels.new("_adaptive_avg_pool3d", shape, dtype=x.dtype)
    return kernels.pooled("_adaptive_avg_pool2d", x, shape)


class _AdaptivePool(Layer):
    """Windows that share out the input."""

    family = "pooling"

    output_size = Argument(OutputSize())

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        batch, channels, *spatial = inputs[0]
        wanted = zip(spatial, self.output_size, strict=True)
        return (batch, channels, *(size if out is None else out for size, out in wanted))

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return adapted(inputs[0], output)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return Cost(0, {"pool": pool.adaptive_reads(output[0] * output[1], inputs[0][2:], output[2:])})


class _AdaptiveAvgPool(_AdaptivePool):
    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return adaptive_mean(kernels, inputs[0], self.output_shape((inputs[0].shape,)))


class AdaptiveAvgPool1d(_AdaptiveAvgPool, dims=1):
    """Mean of windows that share out (C, L)."""


class AdaptiveAvgPool2d(_AdaptiveAvgPool, dims=2):
    """Mean of windows that share out (C, H, W)."""

    aliases = ("adaptive_avg_pool", "gap")


class AdaptiveAvgPool3d(_AdaptiveAvgPool, dims=3):
    """Mean of windows that share out (C, D, H, W)."""


class _AdaptiveMaxPool(_AdaptivePool):
    return_indices = Argument(Fixed(False, _ONE_OUTPUT), False)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return largest(kernels, x, self.output_shape((x.shape,)), "adaptive_max_pool{}d", dense=True)


class AdaptiveMaxPool1d(_AdaptiveMaxPool, dims=1):
    """Largest value of windows that share out (C, L)."""


class AdaptiveMaxPool2d(_AdaptiveMaxPool, dims=2):
    """Largest value of windows that share out (C, H, W)."""

    aliases = ("adaptive_max_pool",)


class AdaptiveMaxPool3d(_AdaptiveMaxPool, dims=3):
    """Largest value of windows that share out (C, D, H, W)."""


class _LPPool(_Pool):
    norm_type = Argument(Real())
    kernel_size = Argument(PerDim(), short="k")
    stride = Argument(Optional(PerDim()), None, short="s")
    ceil_mode = Argument(Flag(), False)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        super().check(inputs)
        if self.norm_type == 0:
            raise LayerError("norm_type must not be 0: its root would be the power 1/0", argument="norm_type")

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        mean = self._mean(kernels, kernels.elementwise("pow", inputs[0]))
        sign = kernels.elementwise("sign", mean)
        size = kernels.elementwise("mul", sign, kernels.elementwise("relu", kernels.elementwise("abs", mean)))
        del sign
        size = kernels.elementwise("mul", size)
        return kernels.elementwise("pow", size)


class LPPool1d(_LPPool, dims=1):
    """Power mean of each window over (C, L)."""


class LPPool2d(_LPPool, dims=2):
    """Power mean of each window over (C, H, W)."""


class LPPool3d(_LPPool, dims=3):
    """Power mean of each window over (C, D, H, W)."""

    def check(self, inputs: tuple[Shape, ...]) -> None:
        super().check(inputs)
        _check_whole_window(self.kernel_size, inputs[0])
