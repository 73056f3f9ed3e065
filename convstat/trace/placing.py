"""Put a module and its inputs on a device for a while, and make modules without allocating their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

MAX_PARAMETERS = 2_000_000
"""Parameters (tensors, not values) that a model may register: more are taken for a constructor without end."""


class EndlessError(RuntimeError):
    """A model that goes on beyond every limit."""


@contextmanager
def stripped(device: str | None = "meta") -> Iterator[None]:
    """Move every parameter and buffer to a device as it is registered, so that the initialisers cost nothing.

    The rest of the constructor runs as it always does. With None, registrations are only counted.
    """
    count = 0
    moved: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}

    def parameter(module: nn.Module, name: str, value: nn.Parameter | None) -> nn.Parameter | None:
        nonlocal count
        count += 1
        if count > MAX_PARAMETERS:
            raise EndlessError(f"the model registered more than {MAX_PARAMETERS:,} parameters and did not end")
        if device is None or value is None or value.device.type == device or nn.parameter.is_lazy(value):
            return None
        # A tensor that is registered in two places stays one; the original is kept so that its id is not given again.
        if id(value) not in moved:
            moved[id(value)] = value, _moved_parameter(value, device)
        return moved[id(value)][1]

    def buffer(module: nn.Module, name: str, value: torch.Tensor | None) -> torch.Tensor | None:
        if device is None or value is None or value.device.type == device or nn.parameter.is_lazy(value):
            return None
        return value.to(device)

    # What a hook returns takes the value's place; torch's own annotation of the two functions leaves that out.
    hooks = (
        register_module_parameter_registration_hook(parameter),  # type: ignore[arg-type]
        register_module_buffer_registration_hook(buffer),  # type: ignore[arg-type]
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _moved_parameter(value: torch.Tensor, device: str) -> nn.Parameter:
    return nn.Parameter(value.detach().to(device), requires_grad=value.requires_grad)


@contextmanager
def placed(module: nn.Module, device: str) -> Iterator[None]:
    """Let a module's parameters, buffers and plain tensor attributes be on a device, and put its own back afterwards.

    Tensors that are there already stay as they are; shared ones stay shared.
    """
    moved: dict[int, torch.Tensor] = {}
    undo: list[tuple[dict[str, Any], str, Any]] = []

    def move(value: torch.Tensor) -> torch.Tensor:
        if id(value) not in moved:
            is_parameter = isinstance(value, nn.Parameter)
            moved[id(value)] = _moved_parameter(value, device) if is_parameter else value.detach().to(device)
        return moved[id(value)]

    try:
        for part in module.modules():
            tables: tuple[dict[str, Any], ...] = (part._parameters, part._buffers, vars(part))
            for table in tables:
                for name, value in list(table.items()):
                    if not isinstance(value, torch.Tensor) or value.device.type == device:
                        continue
                    if nn.parameter.is_lazy(value):
                        continue
                    undo.append((table, name, value))
                    table[name] = move(value)
        yield
    finally:
        for table, name, value in reversed(undo):
            table[name] = value


def place(tree: Any, device: str) -> Any:
    """Put every tensor of some arguments on a device; on meta only its shape and dtype are left."""
    from torch.utils._pytree import tree_map_only

    def move(value: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(value, device=device) if device == "meta" else value.to(device)

    return tree_map_only(torch.Tensor, move, tree)


def stored_bytes(module: nn.Module) -> int:
    """The bytes that a module's parameters and buffers take, or would take where they are on meta."""
    seen: Mapping[int, torch.Tensor] = {id(t): t for t in (*module.parameters(), *module.buffers())}
    return sum(t.numel() * t.element_size() for t in seen.values() if not nn.parameter.is_lazy(t))
