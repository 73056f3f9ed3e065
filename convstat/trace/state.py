"""What a model gives back to be given at the next step: caches of keys and values, and recurrent states.

They are found by what they are and not by a model's kind: an object whose class is called a cache or a state, what has
the name of one among the outputs, and pairs of tensors for each layer. Buffers of modules that are caches are held
from step to step too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from convstat.trace.calls import StateTensor, TensorInfo
from convstat.trace.describe import describe

NAMES = frozenset(
    (
        *("past_key_values", "past_key_value", "past_buckets_states", "past", "presents", "present", "mems"),
        *("cache", "caches", "cache_params", "kv_cache", "kv_caches", "state", "states", "hidden_state_cache"),
    )
)
"""What a cache or a state is called among the outputs of a model."""

_CLASS = re.compile(r"(?:Cache|State)s?$")
_LIMITS = ("sliding_window", "max_cache_len", "max_seq_len", "max_seq_length", "window_size")
DEEPEST = 8


def state_of(output: Any, model: nn.Module) -> tuple[StateTensor, ...]:
    """Every tensor of the caches and states among the outputs, and of the modules that are caches, each once."""
    found: dict[int, StateTensor] = {}
    for name, value in _outputs(output):
        for path, kind, layer, tensor, most in _tensors(value, name, type(value).__name__, None, None, 0):
            _add(found, path, kind, layer or 0, tensor, most)
    number = 0
    for path, module in model.named_modules():
        held = [(name, value) for name, value in module._buffers.items() if value is not None and value.dim() > 1]
        if held and _CLASS.search(type(module).__name__):
            for name, value in held:
                most = max(value.shape[1:]) if value.dim() < 4 else max(value.shape[1:-1])
                _add(found, f"{path}.{name}", type(module).__name__, number, value, most)
            number += 1
    return tuple(found.values())


def _add(
    found: dict[int, StateTensor], path: str, kind: str, layer: int, tensor: torch.Tensor, most: int | None
) -> None:
    info = describe(tensor)
    if isinstance(info, TensorInfo):
        found.setdefault(id(tensor), StateTensor(path, kind, layer, info, most))


def _outputs(output: Any) -> Iterator[tuple[str, Any]]:
    """The outputs that are caches or states, by name."""
    if isinstance(output, Mapping):
        items = [(str(name), value) for name, value in output.items()]
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        items = list(zip(output._fields, output, strict=True))
    elif isinstance(output, (tuple, list)):
        items = [(f"[{place}]", value) for place, value in enumerate(output)]
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        items = [(field.name, getattr(output, field.name, None)) for field in dataclasses.fields(output)]
    else:
        return
    for place, (name, value) in enumerate(items):
        if value is None or isinstance(value, (bool, int, float, str)):
            continue
        is_named = name in NAMES or _CLASS.search(type(value).__name__) is not None
        if is_named or (place and _is_pairs(value)):
            yield name, value


def _is_pairs(value: Any) -> bool:
    """Whether it is a pair of tensors for each layer, without a name: ``[(keys, values), ...]``."""
    return (
        isinstance(value, (tuple, list))
        and bool(value)
        and all(
            isinstance(layer, (tuple, list))
            and len(layer) > 1
            and all(isinstance(tensor, torch.Tensor) and tensor.dim() > 2 for tensor in layer)
            for layer in value
        )
    )


Found = tuple[str, str, int | None, torch.Tensor, int | None]


def _tensors(value: Any, path: str, kind: str, layer: int | None, most: int | None, depth: int) -> Iterator[Found]:
    """The tensors in a cache; the number of a layer is its place in the outermost list of several."""
    if isinstance(value, torch.Tensor):
        # A count of positions, and what is there before the first one, are no state.
        if value.dim() > 1 and value.numel():
            yield path, kind, layer, value, most
        return
    if depth > DEEPEST or isinstance(value, (nn.Module, type)):
        return
    if isinstance(value, (tuple, list)):
        for place, item in enumerate(value):
            yield from _tensors(
                item, f"{path}[{place}]", _kind(item, kind), place if layer is None else layer, most, depth + 1
            )
    elif isinstance(value, Mapping):
        for key, item in value.items():
            number = key if layer is None and type(key) is int else layer
            yield from _tensors(item, f"{path}[{key}]", _kind(item, kind), number, most, depth + 1)
    elif hasattr(value, "__dict__") and type(value).__module__ not in ("builtins", "torch"):
        limits = (vars(value).get(name) for name in _LIMITS)
        own = next((limit for limit in limits if type(limit) is int), most)
        for name, item in vars(value).items():
            yield from _tensors(item, f"{path}.{name}", _kind(item, type(value).__name__), layer, own, depth + 1)


def _kind(item: Any, kind: str) -> str:
    is_plain = isinstance(item, (tuple, list, Mapping, torch.Tensor)) or item is None
    return kind if is_plain else type(item).__name__
