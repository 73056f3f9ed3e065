"""Fused attention, and the fast paths of torch's transformer layers."""

from __future__ import annotations

from math import prod

from convstat.count.ops.base import Rule, UnreadableError, argument, shape_of, table
from convstat.formulas.attention import attention_macs
from convstat.formulas.cost import Cost
from convstat.trace.calls import KernelCall, Shape, TensorInfo


def attention(call: KernelCall) -> Cost:
    """Fused scaled dot-product attention: scores and weighted sum of every head; a causal mask does not halve them.

    With fewer heads for keys and values than for queries, each is used by several query heads.
    """
    query, key = shape_of(call, 0, "query"), shape_of(call, 1, "key")
    return products_of(query, key, shape_of(call, 2, "value"))


def products_of(query: Shape, key: Shape, value: Shape) -> Cost:
    """The two products of attention; scaling the queries is ``elementwise``, the scores go through ``softmax``."""
    rows = prod(query[:-1])
    return Cost(rows * key[-2] * (query[-1] + value[-1]), {"elementwise": prod(query), "softmax": rows * key[-2]})


def flash_attention(call: KernelCall) -> Cost:
    """``_flash_attention_forward`` and ``_efficient_attention_forward``: (batch, length, heads, size)."""
    query, key, value = (shape_of(call, place, name) for place, name in enumerate(("query", "key", "value")))
    if isinstance(argument(call, 4, "cum_seq_q"), TensorInfo) or len(query) == 3:
        raise UnreadableError("sequences of unequal lengths in one tensor: how long each is, is in another one")
    swapped = [(*shape[:-3], shape[-2], shape[-3], shape[-1]) for shape in (query, key, value)]
    return products_of(*swapped)


def attention_backward(call: KernelCall) -> Cost:
    """The backward pass of fused attention: the scores again, and two products for each of the two of forward."""
    query, key, value = (shape_of(call, place, name) for place, name in enumerate(("query", "key", "value"), start=1))
    rows = prod(query[:-1]) * key[-2]
    return Cost(rows * (3 * query[-1] + 2 * value[-1]), {"softmax": 2 * rows})


def multi_head_attention(call: KernelCall) -> Cost:
    """``_native_multi_head_attention``: the fast path of ``nn.MultiheadAttention`` in eval mode without grad."""
    query, key, value = (shape_of(call, place, name) for place, name in enumerate(("query", "key", "value")))
    embed_dim, heads = argument(call, 3, "embed_dim"), argument(call, 4, "num_head")
    batch, queries, keys = query[0], query[1], key[1]
    other = {
        "bias": batch * (2 * queries + 2 * keys) * embed_dim,
        "elementwise": batch * queries * embed_dim,
        "softmax": batch * heads * queries * keys,
    }
    if argument(call, 10, "need_weights", True) and argument(call, 11, "average_attn_weights", True):
        other["reduction"] = other["softmax"]
    return Cost(batch * attention_macs(embed_dim, queries, keys, kdim=key[-1], vdim=value[-1]), other)


def encoder_layer(call: KernelCall) -> Cost:
    """``_transformer_encoder_layer_fwd``: the fast path of ``nn.TransformerEncoderLayer``."""
    batch, length, _ = shape_of(call, 0, "src")
    embed_dim, heads = argument(call, 1, "embed_dim"), argument(call, 2, "num_heads")
    hidden = shape_of(call, 14, "ffn_weight_1")[0]
    positions = batch * length
    return Cost(
        batch * attention_macs(embed_dim, length, length) + positions * 2 * embed_dim * hidden,
        {
            # Queries, keys, values and output; both linear maps.
            "bias": positions * (4 * embed_dim + hidden + embed_dim),
            "norm": 2 * positions * embed_dim,
            "activation": positions * hidden,
            "softmax": batch * heads * length * length,
            # The scaling of the queries, and two residual additions.
            "elementwise": 3 * positions * embed_dim,
        },
    )


RULES: dict[str, Rule] = table(
    (
        "aten",
        "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu"
        " _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention"
        " _scaled_dot_product_fused_attention_overrideable _scaled_dot_product_attention_math",
        attention,
    ),
    ("aten", "_flash_attention_forward _efficient_attention_forward", flash_attention),
    (
        "aten",
        "_scaled_dot_product_flash_attention_backward _scaled_dot_product_flash_attention_for_cpu_backward"
        " _scaled_dot_product_efficient_attention_backward _scaled_dot_product_cudnn_attention_backward"
        " _scaled_dot_product_fused_attention_overrideable_backward",
        attention_backward,
    ),
    ("aten", "_native_multi_head_attention", multi_head_attention),
    ("aten", "_transformer_encoder_layer_fwd", encoder_layer),
)
