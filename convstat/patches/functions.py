"""The functions that monkey-patching counters replace, and how to stand in their place for a while.

ptflops, DeepSpeed and calflops count functions by writing over the attributes of ``torch``, ``torch.Tensor`` and
``torch.nn.functional``. Whoever watches the same attributes sees what they see, and misses what they miss:
operators (``a @ b``), and functions that were stored elsewhere before (``from torch.nn.functional import relu``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional

from convstat.patches.room import ours, own, patch, put, rerouted, routed, undone

_FUNCTIONAL = """
relu prelu elu relu6 gelu silu leaky_relu softmax
avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
upsample interpolate
linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
batch_norm instance_norm layer_norm group_norm embedding scaled_dot_product_attention
multi_head_attention_forward
"""
_TORCH = "matmul mm bmm addmm baddbmm mul add einsum"
_TENSOR = "matmul mm bmm addmm baddbmm mul add __matmul__"

PATCHED: Mapping[str, tuple[Any, tuple[str, ...]]] = MappingProxyType(
    {
        "torch.nn.functional": (functional, tuple(n for n in _FUNCTIONAL.split() if hasattr(functional, n))),
        "torch": (torch, tuple(_TORCH.split())),
        "torch.Tensor": (torch.Tensor, tuple(_TENSOR.split())),
    }
)
"""Where peers patch: the owner's name, the owner, the names of its attributes."""

Spy = Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@patch
def unpatched_afterwards() -> Iterator[None]:
    """Put every attribute that peers patch back as it is now, whatever happens.

    An attribute that the class only inherits is deleted again, not written into it:
    ptflops leaves ``torch.Tensor.mm`` as an entry of its own.
    """
    before = [(owner, name, own(owner, name)) for owner, names in PATCHED.values() for name in names]

    def put_back() -> None:
        for owner, name, value in before:
            put(owner, name, value)

    with undone(put_back):
        yield


@patch
def spying(spy: Spy, sees: Callable[[], bool] = ours) -> Iterator[None]:
    """Send every call through a patched attribute to ``spy(name, function, args, kwargs)``; those of threads that it
    does not see, and those of who has picked one up and calls it later, go straight to the function.

    What is scripted meanwhile, as torch does when it first goes forward in derivatives, is made of the functions.
    """
    with unpatched_afterwards(), rerouted(torch.jit, "script", _of_functions):
        for owner_name, (owner, names) in PATCHED.items():
            for name in names:
                function = getattr(owner, name)
                setattr(owner, name, routed(function, _watched(spy, f"{owner_name}.{name}", function), sees))
        yield


def _put_all(entries: Iterable[tuple[Any, str, Any]]) -> None:
    for entry in entries:
        put(*entry)


def _of_functions(script: Callable[..., Any]) -> Callable[..., Any]:
    before = [(owner, name, own(owner, name)) for owner, names in PATCHED.values() for name in names]

    def scripted(*args: Any, **kwargs: Any) -> Any:
        now = [(owner, name, own(owner, name)) for owner, name, _ in before]
        with undone(partial(_put_all, now)):
            _put_all(before)
            return script(*args, **kwargs)

    return scripted


def _watched(spy: Spy, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        return spy(name, function, args, kwargs)

    return watched
