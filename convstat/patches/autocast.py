"""Autocast for meta tensors: what ``torch.autocast`` casts on a CPU or a GPU is cast on meta in the same way.

A meta tensor belongs to no device that has autocast. A key of the dispatcher that no tensor here has, that of devices
of other makers, is included instead, and its kernels cast as torch's own do: to the lower precision, to float32, or to
the widest of their arguments (``aten/src/ATen/autocast_mode.h``; "Autocast Op Reference" in torch's documentation).
The dispatcher says which operators have a rule; which of them are for the lower precision, or take what is widest, is
said here, and the others compute in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from convstat.errors import UsageError
from convstat.patches.room import patch, undone

_C: Any = torch._C
_KEY = _C.DispatchKey.AutocastPrivateUse1
_KEYS = _C.DispatchKeySet(_KEY)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LOWER = _names(
    """
    _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution prelu
    addmm addmv addr matmul einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot
    _thnn_fused_lstm_cell _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell mkldnn_rnn_layer
    _scaled_dot_product_flash_attention scaled_dot_product_attention _native_multi_head_attention
    """
)
_WIDEST = _names(
    "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add cat stack index_copy"
)
_force = _C._ForceDispatchKeyGuard
_excluded = _C._dispatch_tls_local_exclude_set
_REFUSED = "binary_cross_entropy"


@patch
def autocast_on_meta(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Cast on meta as ``torch.autocast(device, dtype)`` does there, for as long as this is entered.

    As there, what a weight was cast to is kept until then, and shared by all its uses.
    """
    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def lower(value: torch.Tensor) -> torch.Tensor:
        if value.dtype == dtype or value.dtype == torch.float64:
            return value
        is_weight = value.dtype == torch.float32 and value.requires_grad and value.is_leaf and not value._is_view()
        if not is_weight:
            return value.to(dtype)
        if id(value) not in kept:
            kept[id(value)] = value, value.to(dtype)
        return kept[id(value)][1]

    with ExitStack() as stack:
        library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        stack.enter_context(undone(library._destroy))
        for full in _C._dispatch_get_registrations_for_dispatch_key(
            {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}[device]
        ):
            namespace, _, name = full.partition("::")
            packet, _, overload = name.partition(".")
            if namespace != "aten" or packet == _REFUSED:
                continue
            function = getattr(getattr(torch.ops.aten, packet), overload or "default")
            way = lower if packet in _LOWER else _widest if packet in _WIDEST else _full
            library.impl(name, _casting(function, way), _KEY.name)
        others: Any = torch.library.Library("_", "IMPL")  # type: ignore[no-untyped-call]
        stack.enter_context(undone(others._destroy))
        if not hasattr(others, "fallback"):
            raise UsageError("autocast on meta needs a newer torch than this one", help="omit --amp")
        others.fallback(torch.library.fallthrough_kernel, _KEY.name)
        stack.enter_context(_force(_C._dispatch_tls_local_include_set() | _KEYS, _excluded() - _KEYS))
        stack.callback(kept.clear)
        yield


def _full(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _widest(value: torch.Tensor) -> torch.Tensor:
    raise AssertionError("it depends on all arguments")


def _casting(function: Callable[..., Any], way: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with _force(_C._dispatch_tls_local_include_set() - _KEYS, _excluded() | _KEYS):
            to = way
            if way is _widest:
                kinds = {leaf.dtype for leaf in tree_leaves((args, kwargs)) if _is_cast(leaf)}
                to = _full if len(kinds) > 1 else _same
            # The compilers that torch is built with evaluate the last argument first.
            given = [*args, *kwargs.values()]
            cast = [tree_map(lambda leaf: to(leaf) if _is_cast(leaf) else leaf, value) for value in reversed(given)]
            cast.reverse()
            return function(*cast[: len(args)], **dict(zip(kwargs, cast[len(args) :], strict=True)))

    return call


def _same(value: torch.Tensor) -> torch.Tensor:
    return value


def _is_cast(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
