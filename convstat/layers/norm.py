"""Normalisations: one ``norm`` per element, and no MACs.

Mean and variance are read from buffers or computed; either way every element is shifted and scaled once,
and a batch normalisation is even folded into the convolution before it when a model is deployed.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

from convstat.errors import LayerError
from convstat.formulas.cost import Cost, Shape
from convstat.formulas.reads import Place, Reads, same
from convstat.layers.base import (
    Argument,
    Count,
    Flag,
    Layer,
    Optional,
    Real,
    Sizes,
    channel_axis,
    divisors_help,
    show,
    show_shape,
)
from convstat.layers.pad import padded
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import HALVES, Tensor, alike


class _Norm(Layer):
    """A layer that shifts and scales every element once."""

    family = "normalisation"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return inputs[0]

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output)),)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return Cost(0, {"norm": prod(output)})


class _ChannelNorm(_Norm):
    """A normalisation with one mean and one variance per channel, which may be kept as running statistics."""

    parameter_sizes = MappingProxyType({"weight": ("num_features",), "bias": ("num_features",)})

    num_features = Argument(Count(), infer=channel_axis)
    eps = Argument(Real(), 1e-5)
    momentum: Argument[float | None]
    affine: Argument[bool]
    track_running_stats: Argument[bool]
    bias: Argument[bool]

    def buffers(self) -> Mapping[str, tuple[Shape, str]]:
        if not self.track_running_stats:
            return {}
        return {
            "running_mean": ((self.num_features,), "float"),
            "running_var": ((self.num_features,), "float"),
            "num_batches_tracked": ((), "int64"),
        }


class _BatchNorm(_ChannelNorm):
    momentum = Argument(Optional(Real()), 0.1)
    affine = Argument(Flag(), True)
    track_running_stats = Argument(Flag(), True)
    bias = Argument(Flag(), True)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        batch, _, *spatial = inputs[0]
        if not self.track_running_stats and batch * prod(spatial) == 1:
            raise LayerError(
                f"expected more than 1 value per channel without running statistics,"
                f" not an input of {show_shape(inputs[0])} in a batch of 1",
                argument="track_running_stats",
            )

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output)) if self.track_running_stats else {1: Place(1)},)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return batch_norm(kernels, inputs[0], self.track_running_stats)


def batch_norm(kernels: Kernels, x: Tensor, has_statistics: bool) -> Tensor:
    """A batch normalisation, which saves mean and deviation where it has to compute them."""
    saved = 0 if has_statistics else x.shape[1]
    reserve = kernels.new("empty", (0,), dtype="uint8")
    output = Tensor(x.shape, alike(x), x.dtype)
    # What is computed is of at least single precision, and what is not has the dtype of the output.
    dtype = "float32" if saved else x.dtype
    kernels.results("native_batch_norm", output, *(Tensor((saved,), dtype=dtype) for _ in range(2)))
    del reserve
    return output


class BatchNorm1d(_BatchNorm):
    """Batch normalisation over (C) or (C, L); one ``norm`` per element."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm, dims=2):
    """Batch normalisation over (C, H, W); one ``norm`` per element."""

    aliases = ("bn", "batch_norm")


class BatchNorm3d(_BatchNorm, dims=3):
    """Batch normalisation over (C, D, H, W); one ``norm`` per element."""


class GroupNorm(_Norm):
    """Group normalisation over (C, ...); one ``norm`` per element."""

    aliases = ("gn", "group_norm")
    parameter_sizes = MappingProxyType({"weight": ("num_channels",), "bias": ("num_channels",)})
    min_rank = 2

    num_groups = Argument(Count())
    num_channels = Argument(Count(), infer=channel_axis)
    eps = Argument(Real(), 1e-5)
    affine = Argument(Flag(), True)
    bias = Argument(Flag(), True)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        channels, groups = self.num_channels, self.num_groups
        if channels % groups:
            raise LayerError(
                f"num_channels must be divisible by num_groups: num_channels={channels}, num_groups={groups}",
                argument="num_groups",
                help=divisors_help(num_channels=channels),
            )
        batch, _, *spatial = inputs[0]
        if batch * (channels // groups) * prod(spatial) == 1:
            raise LayerError(
                f"expected more than 1 value per group: an input of {show_shape(inputs[0])} in a batch of 1"
                f" and num_groups={groups}",
                argument="num_groups",
            )

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return ({0: Place(0)},)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        x = kernels.contiguous(inputs[0])
        groups = [Tensor((x.shape[0], self.num_groups), dtype=x.dtype) for _ in range(2)]
        return kernels.results("native_group_norm", Tensor(x.shape, dtype=x.dtype), *groups)[0]


def _last_sizes(shape: Shape) -> tuple[int, ...]:
    return shape[-1:]


class _LastNorm(_Norm):
    """A normalisation over the last axes."""

    min_rank = 2
    normalized_shape: Argument[int | tuple[int, ...]]
    elementwise_affine: Argument[bool]

    def check(self, inputs: tuple[Shape, ...]) -> None:
        wanted = self._shape(("normalized_shape",))
        if inputs[0][-len(wanted) :] != wanted:
            raise LayerError(
                f"given normalized_shape={show(wanted)}, expected an input that ends in it,"
                f" not {show_shape(inputs[0])}",
                argument="normalized_shape",
                help="omit it to normalise over the last axis",
            )

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output), *range(len(output) - len(self._shape(("normalized_shape",))), len(output))),)

    def _rows(self, shape: Shape) -> Shape:
        """The shape of a statistic over the last axes."""
        last = len(self._shape(("normalized_shape",)))
        return (*shape[:-last], *(1,) * last)


class LayerNorm(_LastNorm):
    """Layer normalisation over the last axes; one ``norm`` per element."""

    aliases = ("ln", "layer_norm")
    parameter_sizes = MappingProxyType({"weight": ("normalized_shape",), "bias": ("normalized_shape",)})

    normalized_shape = Argument(Sizes(), infer=_last_sizes, strict=False)
    eps = Argument(Real(), 1e-5)
    elementwise_affine = Argument(Flag(), True)
    bias = Argument(Flag(), True)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        rows = self._rows(x.shape)
        statistics = [Tensor(rows, dtype="float32") for _ in range(2)]
        return kernels.results("native_layer_norm", Tensor(x.shape, dtype=x.dtype), *statistics)[0]


class _InstanceNorm(_ChannelNorm):
    momentum = Argument(Real(), 0.1)
    affine = Argument(Flag(), False)
    track_running_stats = Argument(Flag(), False)
    bias = Argument(Flag(), True)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        if not self.track_running_stats and prod(inputs[0][2:]) == 1:
            raise LayerError(
                f"expected more than 1 spatial element without running statistics, not {show_shape(inputs[0])}",
                argument="track_running_stats",
            )

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output)) if self.track_running_stats else {0: Place(0), 1: Place(1)},)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        batch, channels, *spatial = x.shape
        # One normalisation of as many channels as there are in the batch: parameters and statistics are repeated.
        tensors = len(self.parameters()) + (2 if self.track_running_stats else 0)
        repeated = [kernels.new("repeat", (batch * channels,)) for _ in range(tensors)]
        whole = kernels.reshape(kernels.contiguous(x), (1, batch * channels, *spatial))
        output = kernels.reshape(batch_norm(kernels, whole, self.track_running_stats), x.shape)
        del repeated, whole
        return output


class InstanceNorm1d(_InstanceNorm, dims=1):
    """Instance normalisation over (C, L); one ``norm`` per element."""


class InstanceNorm2d(_InstanceNorm, dims=2):
    """Instance normalisation over (C, H, W); one ``norm`` per element."""

    aliases = ("instance_norm",)


class InstanceNorm3d(_InstanceNorm, dims=3):
    """Instance normalisation over (C, D, H, W); one ``norm`` per element."""


class RMSNorm(_LastNorm):
    """Root mean square normalisation over the last axes; one ``norm`` per element."""

    aliases = ("rms_norm",)
    parameter_sizes = MappingProxyType({"weight": ("normalized_shape",)})

    normalized_shape = Argument(Sizes(), infer=_last_sizes, strict=False)
    eps = Argument(Optional(Real()), None)
    elementwise_affine = Argument(Flag(), True)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        # Half precision is computed in single.
        is_half = x.dtype in HALVES
        wide = kernels.copied("_to_copy", x, dtype="float32") if is_half else x
        squares = kernels.elementwise("pow", wide)
        mean = kernels.new("mean", self._rows(x.shape), dtype="float32")
        kernels.ran("add_")
        root = kernels.elementwise("rsqrt", mean)
        del squares, mean
        result = kernels.elementwise("mul", wide, root)
        if self.elementwise_affine:
            result = kernels.elementwise("mul", result, self._parameter(kernels, "weight"))
        if not x.is_channels_last:
            result = kernels.contiguous(result)
        del wide
        return kernels.copied("_to_copy", result, dtype=x.dtype) if is_half else result


class LocalResponseNorm(_Norm):
    """Local response normalisation across neighbouring channels; one ``norm`` per element."""

    aliases = ("lrn",)
    min_rank = 3

    size = Argument(Count())
    alpha = Argument(Real(), 1e-4)
    beta = Argument(Real(), 0.75)
    k = Argument(Real(), 1.0)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        batch, channels, *spatial = x.shape
        volume = len(spatial) > 1
        # The neighbouring channels are pooled as if they were a dimension of an image, or of a volume.
        shape = (batch, 1, channels, spatial[0], prod(spatial[1:])) if volume else (batch, 1, channels, *spatial)
        squares = kernels.elementwise("mul", x)
        squares = kernels.reshape(squares, shape) if volume else kernels.unsqueeze(squares, 1)
        before, after = self.size // 2, (self.size - 1) // 2
        squares = padded(kernels, squares, (*(0, 0) * (len(shape) - 3), before, after), "constant")
        op = "avg_pool3d" if volume else "avg_pool2d"
        mean = kernels.new(op, shape, dtype=x.dtype) if volume else kernels.pooled(op, squares, shape)
        mean = kernels.squeeze(mean, 1)
        del squares
        if volume:
            mean = kernels.reshape(mean, x.shape)
        mean = kernels.elementwise("pow", kernels.elementwise("add", kernels.elementwise("mul", mean)))
        return kernels.elementwise("div", x, mean)
