"""Linear maps and look-up tables."""

from __future__ import annotations

from math import prod
from types import MappingProxyType

from convstat.errors import LayerError
from convstat.formulas import derivation as derivations
from convstat.formulas import linear as formulas
from convstat.formulas.cost import FREE, Cost, Shape
from convstat.formulas.derivation import Derivation
from convstat.formulas.reads import Reads, same
from convstat.layers.base import Argument, Count, Flag, Integer, Layer, Optional, Real, last_axis, show_shape
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor


class Linear(Layer):
    """Linear map of the last axis.

    MACs are the products of the matrix; the bias is one addition per output, under ``bias``.
    """

    family = "linear"
    aliases = ("linear", "fc")
    parameter_sizes = MappingProxyType({"weight": ("out_features", "in_features"), "bias": ("out_features",)})
    min_rank = 2

    in_features = Argument(Count(), infer=last_axis)
    out_features = Argument(Count(), short="out")
    bias = Argument(Flag(), True)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return (*inputs[0][:-1], self.out_features)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output), len(output) - 1),)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        macs = formulas.linear_macs(self.in_features, self.out_features, prod(output[:-1]))
        return Cost(macs, {"bias": prod(output)} if self.bias else {})

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.linear(inputs[0], self.out_features, self.bias)

    def derivation(self, inputs: tuple[Shape, ...], output: Shape) -> Derivation:
        return derivations.linear(output, self.in_features, self.out_features)


class Bilinear(Layer):
    """Bilinear map of the last axes of two inputs.

    MACs are those of two products, x1 with the weight and the result with x2: out*in1*in2 + out*in2, as torch runs it.
    """

    family = "linear"
    arity = (2, 2)
    parameter_sizes = MappingProxyType(
        {"weight": ("out_features", "in1_features", "in2_features"), "bias": ("out_features",)}
    )
    min_rank = 2

    in1_features = Argument(Count(), infer=last_axis)
    in2_features = Argument(Count(), infer=last_axis, source=1)
    out_features = Argument(Count(), short="out")
    bias = Argument(Flag(), True)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        first, second = inputs
        if first[:-1] != second[:-1]:
            raise LayerError(
                f"the inputs must agree in all but their last dimension,"
                f" not {show_shape(first)} and {show_shape(second)}"
            )

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return (*inputs[0][:-1], self.out_features)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output), len(output) - 1),) * 2

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        positions = prod(output[:-1])
        macs = formulas.bilinear_macs(self.in1_features, self.in2_features, self.out_features, positions)
        return Cost(macs, {"bias": prod(output)} if self.bias else {})

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        shape = (*inputs[0].shape[:-1], self.out_features)
        rows = prod(shape[:-1])
        first, second = (kernels.reshape(x, (rows, x.shape[-1])) for x in inputs)
        product = kernels.reshape(kernels.new("_trilinear", (rows, self.out_features)), shape)
        del first, second
        return kernels.elementwise("add", product, self._parameter(kernels, "bias")) if self.bias else product

    def derivation(self, inputs: tuple[Shape, ...], output: Shape) -> Derivation:
        return derivations.bilinear(prod(output[:-1]), self.in1_features, self.in2_features, self.out_features)


class Embedding(Layer):
    """Look-up table of learned vectors.

    No MACs: a row is copied, not multiplied. With ``max_norm`` the rows are rescaled first, under ``norm``.
    """

    family = "linear"
    aliases = ("embedding",)
    parameter_sizes = MappingProxyType({"weight": ("num_embeddings", "embedding_dim")})
    input_dtype = "int64"

    num_embeddings = Argument(Count())
    embedding_dim = Argument(Count())
    padding_idx = Argument(Optional(Integer()), None)
    max_norm = Argument(Optional(Real()), None)
    norm_type = Argument(Real(), 2.0)
    scale_grad_by_freq = Argument(Flag(), False)
    sparse = Argument(Flag(), False)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        index = self.padding_idx
        if index is not None and not -self.num_embeddings <= index < self.num_embeddings:
            raise LayerError(
                f"padding_idx must be within num_embeddings: padding_idx={index}, num_embeddings={self.num_embeddings}",
                argument="padding_idx",
            )

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return (*inputs[0], self.embedding_dim)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(inputs[0])),)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return FREE if self.max_norm is None else Cost(0, {"norm": prod(output)})

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if self.max_norm is not None:
            x = kernels.contiguous(x)
            kernels.ran("detach")
            kernels.ran("embedding_renorm_")
        return kernels.new("embedding", (*x.shape, self.embedding_dim))
