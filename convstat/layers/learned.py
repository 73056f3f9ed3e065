"""Learned tensors that models add to or multiply with their data, and that no class of torch.nn holds."""

from __future__ import annotations

from math import prod
from types import MappingProxyType

from convstat.formulas.cost import FREE, Cost, Shape
from convstat.formulas.reach import shifted
from convstat.formulas.reads import Place, Reads, same
from convstat.layers.base import Argument, Count, Layer, Real, last_axis
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor


class _Learned(Layer):
    """A layer around one learned tensor."""

    family = "learned"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return inputs[0]

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output)),)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return Cost(0, {"elementwise": prod(output)})


class ClassToken(_Learned):
    """One learned token put before the sequence (L, D); free: nothing is computed."""

    aliases = ("class_token",)
    parameter_sizes = MappingProxyType({"class_token": ("1", "1", "embed_dim")})
    ranks = (3,)

    embed_dim = Argument(Count(), infer=last_axis)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        batch, length, size = inputs[0]
        return (batch, length + 1, size)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return ({**same(3), 1: Place(1, shifted(1))},)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return FREE

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        kernels.ran("expand")
        return kernels.new("cat", self.output_shape((x.shape,)))


def _length(shape: Shape) -> int:
    return shape[1]


class PositionalEmbedding(_Learned):
    """A learned vector added at each position of (L, D); one ``elementwise`` per element."""

    aliases = ("pos_embedding",)
    parameter_sizes = MappingProxyType({"pos_embedding": ("1", "num_positions", "embed_dim")})
    ranks = (3,)

    num_positions = Argument(Count(), infer=_length)
    embed_dim = Argument(Count(), infer=last_axis)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.elementwise("add", inputs[0], self._parameter(kernels, "pos_embedding"))


def _channels(shape: Shape) -> int:
    """The channels of an image (C, H, W) or a volume, else the features of a sequence (L, C) or a vector (C)."""
    return shape[1] if len(shape) > 3 else shape[-1]


class LayerScale(_Learned):
    """A learned factor for each channel of (C), (L, C), (C, H, W) or (C, D, H, W); one ``elementwise`` per element."""

    aliases = ("layer_scale",)
    parameter_sizes = MappingProxyType({"gamma": ("num_channels",)})
    ranks = (2, 3, 4, 5)

    num_channels = Argument(Count(), infer=_channels)
    init_value = Argument(Real(), 1e-5)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        factor = self._parameter(kernels, "gamma")
        if x.rank > 3:
            factor = kernels.reshape(factor, (self.num_channels, *(1,) * (x.rank - 2)))
        return kernels.elementwise("mul", x, factor)
