"""Let meta tensors take the kernels that tensors on some kind of device would take.

On meta, torch takes attention apart into products and a softmax, and does not take the fast path of
``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer``. What is allocated and what is saved for the backward pass
is another thing then. Here attention on meta is dispatched as on a CPU or a GPU, by the conditions of torch's own
choice (``aten/src/ATen/native/transformers``: ``sdp_utils_cpp.cpp``, ``cuda/sdp_utils.cpp``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch.utils import backend_registration

from convstat.patches.room import patch, replaced, undone

_aten: Any = torch.ops.aten

_CPU_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_HALVES = (torch.float16, torch.bfloat16)
_LARGEST_HEAD = 256
"""Sizes of a head up to which flash attention has a kernel on a GPU."""


@patch
def kernels_of(device: str) -> Iterator[None]:
    """Dispatch on meta as on ``cpu`` or ``cuda``, for as long as this is entered."""
    attend = _attend_on_cpu if device == "cpu" else _attend_on_cuda
    with ExitStack() as stack:
        library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        stack.enter_context(undone(library._destroy))
        library.impl("scaled_dot_product_attention", attend, "AutogradMeta")
        library.impl("linear", _linear, "AutogradMeta")
        library.impl("_native_multi_head_attention", _multi_head, "Meta")
        library.impl("_transformer_encoder_layer_fwd", _encoder_layer, "Meta")
        # The modules ask for the names of the devices that have these kernels.
        stack.enter_context(replaced(backend_registration, "_privateuse1_backend_name", "meta"))
        yield


@patch
def numbers_on_meta() -> Iterator[None]:
    """Let what reads a number from a tensor on meta, which has none, read 1: an optimizer is to run there."""
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with undone(library._destroy):
        library.impl("_local_scalar_dense", lambda tensor: 1.0, "Meta")
        yield


def _linear(tensor: Any, weight: Any, bias: Any = None) -> Any:
    """Add the bias in place, as torch does where no mode is active and nothing is on meta."""
    if bias is None or tensor.dim() == 2 or (tensor.dim() > 2 and tensor.is_contiguous()):
        return _aten.linear.default.decompose(tensor, weight, bias)
    return _aten.matmul(tensor, weight.t()).add_(bias)


def _multi_head(query: Any, *given: Any, need_weights: bool = True, average_attn_weights: bool = True, **_: Any) -> Any:
    """The output, and the weights of attention where they are wanted."""
    heads, positional = given[3], given[9:]
    need_weights, average = (*positional, *(need_weights, average_attn_weights)[len(positional) :])[:2]
    batch, length, _width = query.shape
    shape = ((batch, length, length) if average else (batch, heads, length, length)) if need_weights else ()
    return torch.empty_like(query), query.new_empty(shape) if need_weights else None


def _encoder_layer(source: Any, *_: Any, **__: Any) -> Any:
    return torch.empty_like(source)


def _attend_on_cpu(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    *, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    is_fused = (
        not dropout_p
        and _fits(query, key, value, enable_gqa)
        and query.dtype in _CPU_DTYPES
        and (attn_mask is None or not attn_mask.requires_grad)
    )
    if not is_fused:
        return _apart(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    mask = _additive(attn_mask, query)
    return _aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, is_causal, attn_mask=mask, scale=scale
    )[0]


def _attend_on_cuda(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    *, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    fits = _fits(query, key, value, enable_gqa)
    if fits and attn_mask is None and query.dtype in _HALVES and query.size(-1) <= _LARGEST_HEAD:
        return _aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
    aligned = 8 if query.dtype in _HALVES else 4
    is_efficient = (
        fits and not enable_gqa and query.dtype in (torch.float32, *_HALVES) and query.size(-1) % aligned == 0
    )
    if not is_efficient:
        return _apart(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    mask = _additive(attn_mask, query)
    if mask is not None:
        mask = mask.expand(query.size(0), query.size(1), query.size(2), key.size(2))
    wants_sums = any(tensor.requires_grad for tensor in (query, key, value)) and torch.is_grad_enabled()
    return _aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, wants_sums, dropout_p, is_causal, scale=scale
    )[0]


def _fits(query: Any, key: Any, value: Any, enable_gqa: bool) -> bool:
    """What fused kernels ask for: four dimensions, one size of a head, no broadcasting, and dense rows."""
    given = (query, key, value)
    if any(tensor.dim() != 4 or tensor.stride(-1) != 1 or 0 in tensor.shape for tensor in given):
        return False
    heads = key.size(1) == value.size(1) and (key.size(1) == query.size(1) or enable_gqa)
    return heads and len({tensor.size(0) for tensor in given}) == len({tensor.size(-1) for tensor in given}) == 1


def _additive(mask: Any, query: Any) -> Any:
    """A mask of truths becomes one that is added, as torch makes it before it takes a fused kernel."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    like = {"dtype": query.dtype, "device": query.device}
    return torch.where(mask, torch.scalar_tensor(0.0, **like), torch.scalar_tensor(float("-inf"), **like))


def _apart(
    query: Any, key: Any, value: Any, mask: Any, dropout: float, is_causal: bool, scale: float | None, gqa: bool
) -> Any:
    return _aten._scaled_dot_product_attention_math(
        query, key, value, mask, dropout, is_causal, scale=scale, enable_gqa=gqa
    )[0]


def completed(op: str, args: Any, result: Any) -> Any:
    """What a kernel gives elsewhere, from what it gives on meta: in eval mode, batch norm has no statistics."""
    if op == "aten.native_batch_norm" and result[1].is_meta and not args[5]:
        return result[0], result[0].new_empty(0), result[0].new_empty(0)
    return result
