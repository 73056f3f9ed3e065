"""What a kernel that multiplies gives: the elements of the outputs of its convolutions and matrix products.

Most kernels are one product, whose output is theirs. One that runs several is taken for as many: fused attention makes
scores and weighted sums, and a recurrent stack the products of its gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from convstat.count.ops import attention
from convstat.count.ops.base import argument, shape_of, tensors
from convstat.trace.calls import FunctionCall, KernelCall, Shape


def made_by(call: KernelCall) -> int:
    """The elements that a kernel with MACs gives."""
    if samples := call.per_sample():
        return sum(map(made_by, samples))
    rule = _SEVERAL.get(call.op)
    return first_elements(call) if rule is None else rule(call)


def first_elements(call: KernelCall | FunctionCall) -> int:
    """The elements of the first tensor that comes out."""
    found = tensors(call.output)
    return found[0].numel if found else 0


def _attention(query: Shape, key: Shape, value: Shape) -> int:
    return prod(query[:-1]) * (key[-2] + value[-1])


def _fused(call: KernelCall) -> int:
    query, key, value = (shape_of(call, place, name) for place, name in enumerate(("query", "key", "value")))
    return _attention(query, key, value)


def _flash(call: KernelCall) -> int:
    shapes = (shape_of(call, place, name) for place, name in enumerate(("query", "key", "value")))
    query, key, value = ((*shape[:-3], shape[-2], shape[-3], shape[-1]) for shape in shapes)
    return _attention(query, key, value)


def _projected(call: KernelCall) -> int:
    query, key = shape_of(call, 0, "query"), shape_of(call, 1, "key")
    embed_dim, heads = argument(call, 3, "embed_dim"), argument(call, 4, "num_head")
    return int(query[0] * (heads * query[1] * key[1] + (3 * query[1] + 2 * key[1]) * embed_dim))


def _encoder(call: KernelCall) -> int:
    batch, length, width = shape_of(call, 0, "src")
    heads, hidden = argument(call, 2, "num_heads"), shape_of(call, 14, "ffn_weight_1")[0]
    return int(batch * length * (heads * length + 5 * width + hidden + width))


def _stack(source: Shape, weights: list[Shape]) -> int:
    return prod(source[:-1]) * sum(weight[0] for weight in weights if len(weight) > 1)


def _library_stack(call: KernelCall) -> int:
    weights = [tensor.shape for tensor in tensors(argument(call, 1, "weight"))]
    return _stack(shape_of(call, 0, "input"), weights)


def _layer(call: KernelCall) -> int:
    weights = [shape_of(call, place, f"weight{place - 1}") for place in range(1, 5)]
    return _stack(shape_of(call, 0, "input"), weights)


def _list(call: KernelCall) -> int:
    return sum(tensor.numel for tensor in tensors(call.output))


_SEVERAL: Mapping[str, Callable[[KernelCall], int]] = {
    **{name: _fused for name, rule in attention.RULES.items() if rule is attention.attention},
    **{name: _flash for name, rule in attention.RULES.items() if rule is attention.flash_attention},
    "aten._native_multi_head_attention": _projected,
    "aten._transformer_encoder_layer_fwd": _encoder,
    "aten.mkldnn_rnn_layer": _layer,
    **dict.fromkeys(("aten._cudnn_rnn", "aten.miopen_rnn"), _library_stack),
    "aten._foreach_mm": _list,
}
"""Kernels that are several products."""
