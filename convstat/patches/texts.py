"""Let a text that a model writes read the one value of a tensor on meta, as it does of one on a CPU.

``f"expert_{index}"`` names a module by a value. torch writes what a meta tensor looks like instead, and nobody notices
that a value was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from convstat.patches.room import patch, rerouted


@patch
def values_in_texts() -> Iterator[None]:
    """Ask a tensor for its value where it is formatted; what has several is written as ever."""
    import torch

    with rerouted(torch.Tensor, "__format__", _reading):
        yield


def _reading(original: Callable[..., Any]) -> Callable[..., Any]:
    def formatted(tensor: Any, spec: str) -> str:
        text: str = format(tensor.item(), spec) if tensor.dim() == 0 and tensor.is_meta else original(tensor, spec)
        return text

    return formatted
