"""Let a model read the values of a tensor on meta wherever it does so without an operator of its own.

``f"expert_{index}"`` names a module by a value: torch writes what a meta tensor looks like instead, and nobody notices
that a value was read. ``tolist`` looks into the memory that a meta tensor does not have.
Both ask ``Tensor.item`` here, which is an operator that can be answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from convstat.patches.room import patch, rerouted


@patch
def values_asked_for() -> Iterator[None]:
    """Ask a tensor on meta for its value where it is formatted or becomes a list."""
    import torch

    with rerouted(torch.Tensor, "__format__", _formatted), rerouted(torch.Tensor, "tolist", _listed):
        yield


def _formatted(original: Callable[..., Any]) -> Callable[..., Any]:
    def formatted(tensor: Any, spec: str) -> str:
        text: str = format(tensor.item(), spec) if tensor.dim() == 0 and tensor.is_meta else original(tensor, spec)
        return text

    return formatted


def _listed(original: Callable[..., Any]) -> Callable[..., Any]:
    def listed(tensor: Any) -> Any:
        if not tensor.is_meta:
            return original(tensor)
        if 0 in tensor.shape:
            # No element is there to be read, and all that is left is how they would lie in each other.
            return original(tensor.new_empty(tensor.shape, device="cpu"))
        value = tensor[(0,) * tensor.dim()].item()
        for size in reversed(tensor.shape):
            value = [value if not isinstance(value, list) else _copied(value) for _ in range(size)]
        return value

    return listed


def _copied(values: list[Any]) -> list[Any]:
    return [_copied(value) if isinstance(value, list) else value for value in values]
