"""The functions that monkey-patching counters replace, and how to stand in their place for a while.

ptflops, DeepSpeed and calflops count functions by writing over the attributes of ``torch``, ``torch.Tensor`` and
``torch.nn.functional``. Whoever watches the same attributes sees what they see, and misses what they miss:
operators (``a @ b``), and functions that were stored elsewhere before (``from torch.nn.functional import relu``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional

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


@contextmanager
def unpatched_afterwards() -> Iterator[None]:
    """Put every attribute that peers patch back as it is now, whatever happens.

    An attribute that the class only inherits is deleted again, not written into it:
    ptflops leaves ``torch.Tensor.mm`` as an entry of its own.
    """
    before = [(owner, name, vars(owner).get(name, _INHERITED)) for owner, names in PATCHED.values() for name in names]
    try:
        yield
    finally:
        for owner, name, value in before:
            if vars(owner).get(name, _INHERITED) is value:
                continue
            if value is _INHERITED:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


class _Inherited:
    pass


_INHERITED = _Inherited()


@contextmanager
def spying(spy: Spy) -> Iterator[None]:
    """Send every call through a patched attribute to ``spy(name, function, args, kwargs)``."""
    with unpatched_afterwards():
        for owner_name, (owner, names) in PATCHED.items():
            for name in names:
                setattr(owner, name, _stand_in(spy, f"{owner_name}.{name}", getattr(owner, name)))
        yield


def _stand_in(spy: Spy, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # A plain function, so that it binds as a method where it stands on torch.Tensor.
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return spy(name, function, args, kwargs)

    return stand_in
