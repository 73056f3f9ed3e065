"""Attention, and the transformer layer made of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from math import prod
from typing import TYPE_CHECKING, Any

from convstat.errors import LayerError
from convstat.formulas import derivation as derivations
from convstat.formulas.attention import attention_macs
from convstat.formulas.cost import Cost, Shape
from convstat.formulas.derivation import Derivation
from convstat.formulas.reads import Place, Reads
from convstat.layers.activation import ELEMENTWISE
from convstat.layers.base import (
    Argument,
    Count,
    Flag,
    Layer,
    Optional,
    Real,
    Word,
    divisors_help,
    last_axis,
    show_shape,
)
from convstat.layers.linear import Linear
from convstat.layers.norm import LayerNorm
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import HALVES, Tensor, contiguous, elementwise, in_order

if TYPE_CHECKING:
    import torch


def _split(shape: Shape, batch_first: bool) -> tuple[int, int]:
    """The batch and the length of a sequence."""
    return (shape[0], shape[1]) if batch_first else (shape[1], shape[0])


class MultiheadAttention(Layer):
    """Multi-head attention: of one input to itself, or of a query to keys and values.

    MACs are the projections and both products; scaling the queries is ``elementwise``, and averaging the weights over
    the heads, as torch does unless ``need_weights`` is false, is a ``reduction``.
    Inputs: one (self-attention), two (query; key and value), or three. The output is the sequence, without the weights.
    As in torch, ``batch_first`` is false unless set: the first dimension, which is the batch elsewhere, is then the
    sequence and the second the batch.
    """

    family = "attention"
    aliases = ("mha",)
    arity = (1, 3)
    ranks = (3,)

    embed_dim = Argument(Count(), infer=last_axis)
    num_heads = Argument(Count())
    dropout = Argument(Real(), 0.0)
    bias = Argument(Flag(), True)
    add_bias_kv = Argument(Flag(), False)
    add_zero_attn = Argument(Flag(), False)
    kdim = Argument(Optional(Count()), None)
    vdim = Argument(Optional(Count()), None)
    batch_first = Argument(Flag(), False)
    # torch takes it when the module is called, and other counters see other kernels by it.
    need_weights = Argument(Flag(), True)

    def _three(self, inputs: tuple[Shape, ...]) -> tuple[Shape, Shape, Shape]:
        """The shapes of query, key and value."""
        return inputs[0], inputs[min(1, len(inputs) - 1)], inputs[-1]

    def check(self, inputs: tuple[Shape, ...]) -> None:
        if self.embed_dim % self.num_heads:
            raise LayerError(
                f"embed_dim must be divisible by num_heads: embed_dim={self.embed_dim}, num_heads={self.num_heads}",
                argument="num_heads",
                help=divisors_help(embed_dim=self.embed_dim),
            )
        query, key, value = self._three(inputs)
        for name, shape, size in (("kdim", key, self.kdim), ("vdim", value, self.vdim)):
            wanted = self.embed_dim if size is None else size
            if len(shape) != 3 or shape[-1] != wanted:
                what = f"{name}={size}" if size is not None else f"embed_dim={wanted}"
                raise LayerError(
                    f"{what}, but the {'key' if name == 'kdim' else 'value'} is {show_shape(shape)}",
                    argument=name,
                    help=f"{name}: {shape[-1]}",
                )
        batches = [_split(shape, self.batch_first)[0] for shape in (query, key, value)]
        lengths = [_split(shape, self.batch_first)[1] for shape in (key, value)]
        if any(batch != batches[0] for batch in batches) or lengths[0] != lengths[1]:
            raise LayerError(
                f"query {query}, key {key} and value {value} must have one batch size,"
                f" key and value one length (batch_first={str(self.batch_first).lower()})"
            )

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return inputs[0]

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        batch = 0 if self.batch_first else 1
        return ({batch: Place(batch)},) * len(inputs)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        query, key, _ = self._three(inputs)
        batch, queries = _split(query, self.batch_first)
        keys = _split(key, self.batch_first)[1]
        attended = keys + self.add_bias_kv + self.add_zero_attn
        macs = attention_macs(self.embed_dim, queries, keys, kdim=self.kdim, vdim=self.vdim, attended=attended)
        other = {
            "elementwise": batch * queries * self.embed_dim,
            "softmax": batch * self.num_heads * queries * attended,
        }
        if self.need_weights:
            other["reduction"] = other["softmax"]
        if self.bias:
            # The queries, the keys, the values, and the output.
            other["bias"] = batch * (2 * queries + 2 * keys) * self.embed_dim
        return Cost(batch * macs, other)

    def activations(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        query, key, _ = self._three(inputs)
        batch, queries = _split(query, self.batch_first)
        keys = _split(key, self.batch_first)[1]
        scores = self.num_heads * queries * (keys + self.add_bias_kv + self.add_zero_attn)
        # The queries, the keys, the values, the weighted sums of these, and the output.
        return batch * (scores + (3 * queries + 2 * keys) * self.embed_dim)

    def derivation(self, inputs: tuple[Shape, ...], output: Shape) -> Derivation:
        query, key, _ = self._three(inputs)
        batch, queries = _split(query, self.batch_first)
        keys = _split(key, self.batch_first)[1]
        size = self.embed_dim
        attended = keys + self.add_bias_kv + self.add_zero_attn
        return derivations.attention(batch, size, queries, keys, self.kdim or size, self.vdim or size, attended)

    @classmethod
    def parameter_axes(cls) -> Mapping[str, tuple[str, ...]]:
        width = "embed_dim"
        return {
            "in_proj_weight": ("3*embed_dim", width),
            "q_proj_weight": (width, width),
            "k_proj_weight": (width, "kdim"),
            "v_proj_weight": (width, "vdim"),
            "in_proj_bias": ("3*embed_dim",),
            "bias_k": ("1", "1", width),
            "bias_v": ("1", "1", width),
            "out_proj.weight": (width, width),
            "out_proj.bias": (width,),
        }

    def parameters(self) -> Mapping[str, Shape]:
        size = self.embed_dim
        shapes: dict[str, Shape] = {}
        if (self.kdim or size) == size == (self.vdim or size):
            shapes["in_proj_weight"] = (3 * size, size)
        else:
            shapes["q_proj_weight"] = (size, size)
            shapes["k_proj_weight"] = (size, self.kdim or size)
            shapes["v_proj_weight"] = (size, self.vdim or size)
        if self.bias:
            shapes["in_proj_bias"] = (3 * size,)
        if self.add_bias_kv:
            shapes["bias_k"] = shapes["bias_v"] = (1, 1, size)
        shapes["out_proj.weight"] = (size, size)
        if self.bias:
            shapes["out_proj.bias"] = (size,)
        return shapes

    def call(self, module: torch.nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        query, key, value = inputs[0], inputs[min(1, len(inputs) - 1)], inputs[-1]
        output: torch.Tensor = module(query, key, value, need_weights=self.need_weights)[0]
        return output

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        query, key, value = inputs[0], inputs[min(1, len(inputs) - 1)], inputs[-1]
        if self._is_fused and query is key is value:
            return self._fused(kernels, query)
        if self.batch_first:
            query, key, value = _transposed(kernels, query, key, value)
        results = self._along(kernels, query, key, value)
        # The weights are there until the caller takes the first of the two.
        return kernels.transpose(results[0], 1, 0) if self.batch_first else results[0]

    def _along(self, kernels: Kernels, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output, and where they are wanted the weights; the sequences are in the first dimension."""
        length, batch, size = query.shape
        heads, width = self.num_heads, size // self.num_heads
        q, k, v = self._projected(kernels, query, key, value)
        if self.add_bias_kv:
            k = kernels.cat([k, kernels.new("repeat", (1, batch, size))], 0)
            v = kernels.cat([v, kernels.new("repeat", (1, batch, size))], 0)
        q = kernels.transpose(kernels.reshape(q, (length, batch * heads, width)), 0, 1)
        k = kernels.transpose(kernels.reshape(k, (k.shape[0], batch * heads, width)), 0, 1)
        v = kernels.transpose(kernels.reshape(v, (v.shape[0], batch * heads, width)), 0, 1)
        if self.add_zero_attn:
            k = kernels.cat([k, kernels.new("zeros", (batch * heads, 1, width))], 1)
            v = kernels.cat([v, kernels.new("zeros", (batch * heads, 1, width))], 1)
        keys = k.shape[1]
        if self.need_weights:
            scaled = kernels.elementwise("mul", q)
            kernels.transpose(k, 1, 2)
            weights = kernels.new("bmm", (batch * heads, length, keys))
            del scaled, k
            weights = kernels.new("_softmax", weights.shape)
            output = kernels.new("bmm", (batch * heads, length, width))
            del v
            output = kernels.reshape(kernels.transpose(output, 0, 1), (length * batch, size))
        else:
            shapes = [(batch, heads, tensor.shape[1], width) for tensor in (q, k, v)]
            q, k, v = (kernels.reshape(tensor, shape) for tensor, shape in zip((q, k, v), shapes, strict=True))
            output = attend(kernels, q, k, v)
            del q, k, v
            output = kernels.reshape(kernels.permute(output, (2, 0, 1, 3)), (length * batch, size))
        output = kernels.linear(output, size, self.bias)
        output = kernels.reshape(output, (length, batch, size))
        if not self.need_weights:
            return output, None
        weights = kernels.reshape(weights, (batch, heads, length, keys))
        weights = kernels.new("mean", (batch, length, keys))
        return output, weights

    @property
    def _is_fused(self) -> bool:
        """Whether torch has one kernel for all of it, where a sequence attends to itself."""
        plain = self.batch_first and self.bias and not self.num_heads % 2
        return plain and not self.add_bias_kv and not self.add_zero_attn and "in_proj_weight" in self.parameters()

    def _fused(self, kernels: Kernels, x: Tensor) -> Tensor:
        shape, strides = elementwise([x])
        weights = Tensor((shape[0], shape[1], shape[1]), dtype=x.dtype)
        results = (Tensor(shape, strides, x.dtype), *([weights] if self.need_weights else []))
        return kernels.results("_native_multi_head_attention", *results)[0]

    def _projected(self, kernels: Kernels, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, which are views of one product where they are made of one input."""
        size = self.embed_dim
        if "in_proj_weight" not in self.parameters():
            if self.bias:
                kernels.ran("split")
            first, second, third = (kernels.linear(tensor, size, self.bias) for tensor in (query, key, value))
            return first, second, third
        if query is key is value:
            q, k, v = self._packed(kernels, query, 3)
            return q, k, v
        for _ in range(1 + self.bias):
            kernels.ran("split_with_sizes" if key is value else "split")
        q = kernels.linear(query, size, self.bias)
        if key is value:
            k, v = self._packed(kernels, key, 2)
            return q, k, v
        return q, kernels.linear(key, size, self.bias), kernels.linear(value, size, self.bias)

    def _packed(self, kernels: Kernels, x: Tensor, parts: int) -> list[Tensor]:
        """One product for several parts, which are then put one after the other."""
        product = kernels.linear(x, parts * self.embed_dim, self.bias)
        product = kernels.reshape(product, (*product.shape[:2], parts, self.embed_dim))
        product = kernels.squeeze(kernels.transpose(kernels.unsqueeze(product, 0), 0, 3), 3)
        product = kernels.contiguous(product)
        return [kernels.select(product, 0) for _ in range(parts)]

    def torch_arguments(self) -> dict[str, Any]:
        return {name: value for name, value in super().torch_arguments().items() if name != "need_weights"}


def _transposed(kernels: Kernels, *tensors: Tensor) -> list[Tensor]:
    """Sequences first; one that is given twice stays one."""
    found: dict[int, Tensor] = {}
    for tensor in tensors:
        if id(tensor) not in found:
            found[id(tensor)] = kernels.transpose(tensor, 1, 0)
    return [found[id(tensor)] for tensor in tensors]


_LARGEST_FLASH = 256
"""Sizes of a head up to which flash attention has a kernel on a GPU."""


def attend(kernels: Kernels, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Run ``scaled_dot_product_attention``: the kernel that the device has for it, else products and a softmax."""
    batch, heads, length, width = q.shape
    shape = (batch, heads, length, width)
    is_half = kernels.dtype in HALVES
    if kernels.device == "cpu":
        like = Tensor(shape, elementwise([q])[1], q.dtype)
        sums = Tensor((batch, heads, length), dtype="float32")
        return kernels.results("_scaled_dot_product_flash_attention_for_cpu", like, sums)[0]
    if is_half and width <= _LARGEST_FLASH:
        like = Tensor(shape, elementwise([q])[1], q.dtype)
        sums = Tensor((batch, heads, length), dtype="float32")
        others = [Tensor((2,), dtype="uint64"), Tensor((), dtype="uint64"), Tensor((0,), dtype=q.dtype)]
        return kernels.results("_scaled_dot_product_flash_attention", like, sums, *others)[0]
    if width % (8 if is_half else 4) == 0:
        like = Tensor(shape, in_order(shape, (0, 2, 1, 3)), q.dtype)
        # Without gradients it keeps no sums; the rest is the state of the generator of random numbers.
        empty, state = Tensor((batch, heads, 0), dtype="float32"), [Tensor((), dtype="int64") for _ in range(2)]
        return kernels.results("_scaled_dot_product_efficient_attention", like, empty, *state)[0]
    if is_half:
        q, k, v = (kernels.copied("_to_copy", tensor, dtype="float32") for tensor in (q, k, v))
    scaled = kernels.elementwise("mul", q)
    scores = _product(kernels, scaled, kernels.elementwise("mul", kernels.transpose(k, 2, 3)))
    scores = kernels.new("_safe_softmax", scores.shape, dtype=scores.dtype)
    if not is_half:
        return _product(kernels, scores, v)
    narrow = kernels.copied("_to_copy", scores, dtype=kernels.dtype)
    result = kernels.copied("_to_copy", _product(kernels, scores, v), dtype=kernels.dtype)
    del narrow
    return result


def _product(kernels: Kernels, first: Tensor, second: Tensor) -> Tensor:
    """A product of matrices for each head of each sample."""
    batch, heads, rows, inner = first.shape
    columns = second.shape[-1]
    kernels.ran("expand")
    one = kernels.reshape(first, (batch * heads, rows, inner))
    kernels.ran("expand")
    other = kernels.reshape(second, (batch * heads, inner, columns))
    product = kernels.new("bmm", (batch * heads, rows, columns), dtype=first.dtype)
    shape = (batch, heads, rows, columns)
    product = kernels.view("_unsafe_view", product, shape, contiguous(shape))
    del one, other
    return product


_ACTIVATION = {kind.kind().lower(): kind for kind in ELEMENTWISE if kind.kind() in ("ReLU", "GELU")}


class TransformerEncoderLayer(Layer):
    """Self-attention and two linear maps, each with a norm and an addition.

    The cost is the sum of its parts; the two additions are ``elementwise``.
    As in torch, ``batch_first`` is false unless set: the first dimension is then the sequence.
    """

    family = "attention"
    ranks = (3,)

    d_model = Argument(Count(), infer=last_axis)
    nhead = Argument(Count())
    dim_feedforward = Argument(Count(), 2048)
    dropout = Argument(Real(), 0.1)
    activation = Argument(Word("relu", "gelu"), "relu")
    layer_norm_eps = Argument(Real(), 1e-5)
    batch_first = Argument(Flag(), False)
    norm_first = Argument(Flag(), False)
    bias = Argument(Flag(), True)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        if self.d_model % self.nhead:
            raise LayerError(
                f"embed_dim must be divisible by num_heads: d_model={self.d_model}, nhead={self.nhead}",
                argument="nhead",
                help=divisors_help(d_model=self.d_model),
            )
        if not 0 <= self.dropout <= 1:
            raise LayerError(
                f"dropout probability has to be between 0 and 1, but got {self.dropout}", argument="dropout"
            )

    def _parts(self, shape: Shape) -> dict[str, tuple[Layer, Shape]]:
        """Each part with the shape of its input."""
        wide = (*shape[:-1], self.dim_feedforward)
        attention = {
            "num_heads": self.nhead,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "need_weights": False,
        }
        norm = LayerNorm.create({"bias": self.bias}, (shape,))
        return {
            "self_attn": (MultiheadAttention.create(attention, (shape,)), shape),
            "linear1": (Linear.create({"out_features": self.dim_feedforward, "bias": self.bias}, (shape,)), shape),
            "activation": (_ACTIVATION[self.activation].create({}, (wide,)), wide),
            "linear2": (Linear.create({"out_features": self.d_model, "bias": self.bias}, (wide,)), wide),
            "norm1": (norm, shape),
            "norm2": (norm, shape),
        }

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return inputs[0]

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        batch = 0 if self.batch_first else 1
        return ({batch: Place(batch)},) * len(inputs)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        parts = self._parts(inputs[0]).values()
        costs = (part.cost((shape,), part.output_shape((shape,))) for part, shape in parts)
        return reduce(Cost.__add__, costs, Cost(0, {"elementwise": 2 * prod(output)}))

    def activations(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        parts = self._parts(inputs[0])
        having = (parts[name] for name in ("self_attn", "linear1", "linear2"))
        return sum(part.activations((shape,), part.output_shape((shape,))) for part, shape in having)

    def derivation(self, inputs: tuple[Shape, ...], output: Shape) -> Derivation:
        found = []
        for name, (part, shape) in self._parts(inputs[0]).items():
            if (inner := part.derivation((shape,), part.output_shape((shape,)))) is not None:
                found += [step._replace(about=f"{name} {step.about}".strip()) for step in inner.products]
        return Derivation(tuple(found))

    @classmethod
    def parameter_axes(cls) -> Mapping[str, tuple[str, ...]]:
        width = "embed_dim"
        weight = ("out_features", "in_features")
        sizes: dict[str, tuple[str, ...]] = {
            "self_attn.in_proj_weight": ("3*embed_dim", width),
            "self_attn.in_proj_bias": ("3*embed_dim",),
            "self_attn.out_proj.weight": (width, width),
            "self_attn.out_proj.bias": (width,),
        }
        for name in ("linear1", "linear2"):
            sizes |= {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
        return {**sizes, **{f"{name}.{part}": (width,) for name in ("norm1", "norm2") for part in ("weight", "bias")}}

    def parameters(self) -> Mapping[str, Shape]:
        parts = self._parts((1, 1, self.d_model))
        return {f"{path}.{name}": s for path, (part, _) in parts.items() for name, s in part.parameters().items()}

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        parts = {name: part for name, (part, _) in self._parts(x.shape).items()}
        if self.batch_first and self.bias and not self.nhead % 2:
            # torch has one kernel for all of it.
            return kernels.elementwise("_transformer_encoder_layer_fwd", x)

        def module(name: str, x: Tensor) -> Tensor:
            with kernels.within(name):
                return parts[name].run(kernels, x)

        def feed_forward(x: Tensor) -> Tensor:
            return module("linear2", parts["activation"].run(kernels, module("linear1", x)))

        if self.norm_first:
            x = kernels.elementwise("add", x, module("self_attn", module("norm1", x)))
            return kernels.elementwise("add", x, feed_forward(module("norm2", x)))
        x = module("norm1", kernels.elementwise("add", x, module("self_attn", x)))
        return module("norm2", kernels.elementwise("add", x, feed_forward(x)))
