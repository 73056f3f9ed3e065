"""Refuse on meta what a CPU refuses, where torch's meta kernels do not look.

No other way of running the model can mend it: what is raised here ends the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch

_aten = torch.ops.aten


def is_refusal(error: BaseException) -> bool:
    """Whether an exception was made here."""
    return getattr(error, "_convstat_refuses", False) is True


def check_operands(func: Any, args: Any) -> None:
    """Raise what a CPU raises where the operands of a product do not go together."""
    if func is _CONVOLUTION:
        _check_convolution(*args)
    elif (places := _FACTORS.get(func)) is not None:
        first, second = (args[place] for place in places)
        if not _go_together(first, second):
            raise _refusal(f"mat1 and mat2 must have the same dtype, but got {first.dtype} and {second.dtype}")


def _refusal(message: str) -> RuntimeError:
    error = RuntimeError(message)
    error._convstat_refuses = True  # type: ignore[attr-defined]
    return error


_CONVOLUTION = _aten.convolution.default
_FACTORS: Mapping[Any, tuple[int, int]] = MappingProxyType(
    {
        _aten.mm.default: (0, 1),
        _aten.mv.default: (0, 1),
        _aten.addmm.default: (1, 2),
        _aten.addmv.default: (1, 2),
    }
)
"""The products of which meta does not look at the dtypes, with the places of their factors."""

_CAST = frozenset((torch.float32, torch.float16, torch.bfloat16))
"""On a GPU, autocast lets these meet each other, and there is none on meta."""


def _go_together(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype is second.dtype or (first.dtype in _CAST and second.dtype in _CAST)


def _check_convolution(source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *options: Any) -> None:
    """Besides the dtypes: a bias of another size, and the channels of a transposed convolution."""
    if not _go_together(source, weight):
        raise _refusal(f"Input type ({source.dtype}) and weight type ({weight.dtype}) should be the same")
    is_transposed, groups = options[3], options[5]
    sizes = f"weight of size {list(weight.shape)}, expected"
    if is_transposed:
        sizes = f"transposed=1, {sizes}"
        if source.dim() > 1 and source.shape[1] != weight.shape[0]:
            raise _refusal(
                f"Given {sizes} input{list(source.shape)} to have {weight.shape[0]} channels,"
                f" but got {source.shape[1]} channels instead"
            )
    channels = weight.shape[1] * groups if is_transposed else weight.shape[0]
    if bias is not None and tuple(bias.shape) != (channels,):
        raise _refusal(
            f"Given {sizes} bias to be 1-dimensional with {channels} elements,"
            f" but got bias of size {list(bias.shape)} instead"
        )


__all__ = ["check_operands", "is_refusal"]
