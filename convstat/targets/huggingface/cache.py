"""Caches of keys and values, and of other states: a step of decoding begins with one that is as long as asked for."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from convstat.results.report import CacheInfo

if TYPE_CHECKING:
    import torch

NAMES = ("cache", "past_key_values", "cache_params", "past_buckets_states", "state", "mems")
"""What a forward pass calls the cache that it is given, and gives back."""


def copies_caches(module: torch.nn.Module) -> None:
    """Let each forward pass begin with a copy of the cache: it appends to the one that it is given.

    The copy has tensors of its own only where it changes them; those that it begins with are shared.
    """
    module.register_forward_pre_hook(_with_copies, with_kwargs=True)


def _with_copies(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    given = {name: kwargs[name] for name in NAMES if kwargs.get(name) is not None}
    return (args, {**kwargs, **{name: copied(cache) for name, cache in given.items()}}) if given else None


def copied(cache: Any) -> Any:
    """A cache that holds the same tensors."""
    return copy.deepcopy(cache, {id(tensor): tensor for tensor in tensors_of(cache)})


def tensors_of(cache: Any) -> list[torch.Tensor]:
    """The tensors in a cache, each once: in its layers, its lists and the objects inside it."""
    import torch

    found: dict[int, torch.Tensor] = {}
    seen: set[int] = set()
    waiting: list[Any] = [cache]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            found[id(value)] = value
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, dict):
                waiting += value.values()
            elif isinstance(value, (list, tuple, set)):
                waiting += value
            elif hasattr(value, "__dict__") and not isinstance(value, (type, torch.nn.Module)):
                waiting += vars(value).values()
    return list(found.values())


def info(cache: Any, tokens: int) -> CacheInfo:
    """Say what a cache holds; a tensor of one element counts what it has seen, and is no state."""
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(cache) if tensor.numel() > 1)
    return CacheInfo(type(cache).__name__, tokens, held)
