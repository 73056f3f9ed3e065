"""What the forward of a module takes: the names of its arguments, its signature in words, a shape to begin with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn

from convstat.trace.calls import ObjectInfo, TensorInfo
from convstat.trace.describe import describe

DEEPEST = 6
"""How deep tensors are looked for inside of objects."""


def parameters_of(module: nn.Module) -> tuple[Parameter, ...] | None:
    """The parameters of a module's forward, as Python or its script knows them; None where nobody does."""
    inner: Any = dict(module._modules.items()).get("_orig_mod", module)
    forward: Any = inner.forward
    try:
        return tuple(signature(forward).parameters.values())
    except (TypeError, ValueError):
        schema = getattr(forward, "schema", None)
        if schema is None:
            return None
        return tuple(
            Parameter(
                argument.name,
                Parameter.POSITIONAL_OR_KEYWORD,
                default=argument.default_value if argument.has_default_value() else Parameter.empty,
            )
            for argument in schema.arguments[1:]
        )


def positional_parameters(module: nn.Module) -> tuple[Parameter, ...]:
    """What forward takes by position, in order."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(parameter for parameter in parameters_of(module) or () if parameter.kind in kinds)


def argument_names(module: nn.Module) -> tuple[str, ...]:
    """The names of what forward takes by position, in order."""
    return tuple(parameter.name for parameter in positional_parameters(module))


def keyword_names(module: nn.Module) -> tuple[str, ...] | None:
    """The names that forward takes, None where it takes any."""
    parameters = parameters_of(module)
    if parameters is None or any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return tuple(parameter.name for parameter in parameters if parameter.kind in kinds)


def signature_text(module: nn.Module) -> str:
    """The signature in words, without annotations: ``x, mask=None, *, scale=1.0``."""
    parameters = parameters_of(module)
    if parameters is None:
        return "..."
    words: list[str] = []
    for parameter in parameters:
        if parameter.kind is Parameter.KEYWORD_ONLY and "*" not in words and not any(w[0] == "*" for w in words):
            words.append("*")
        stars = "*" * (parameter.kind is Parameter.VAR_POSITIONAL) + "**" * (parameter.kind is Parameter.VAR_KEYWORD)
        default = "" if parameter.default is Parameter.empty else f"={_short(parameter.default)}"
        words.append(f"{stars}{parameter.name}{default}")
    return ", ".join(words)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 20 and "\n" not in text else "..."


def needs_inputs(module: nn.Module) -> bool:
    """Whether forward has arguments without a default; taken for granted where nobody knows."""
    parameters = parameters_of(module)
    if parameters is None:
        return True
    return any(
        parameter.default is Parameter.empty and parameter.kind is not Parameter.VAR_KEYWORD for parameter in parameters
    )


def named_tensors(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Every tensor that goes in, by parameter and place inside what is passed: ``x``, ``batch['ids']``, ``pair[0]``."""
    names = argument_names(module)
    found: dict[str, torch.Tensor] = {}
    positional = ((names[i] if i < len(names) else f"input{i}", value) for i, value in enumerate(args))
    for name, value in (*positional, *kwargs.items()):
        _gather(name, value, found)
    return found


def named_infos(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, TensorInfo]:
    """What each of these tensors looks like; a nested tensor is a list of its samples: ``x[0]``, ``x[1]``."""
    found: dict[str, TensorInfo] = {}
    for name, tensor in named_tensors(module, args, kwargs).items():
        info = describe(tensor)
        if isinstance(info, TensorInfo):
            found[name] = info
        elif isinstance(info, ObjectInfo):
            single = len(info.samples) == 1
            found.update((name if single else f"{name}[{place}]", s) for place, s in enumerate(info.samples))
    return found


def _gather(name: str, value: Any, found: dict[str, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        found[name] = value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            plain = isinstance(key, str) and key.isidentifier()
            _gather(f"{name}.{key}" if plain else f"{name}[{key}]", item, found)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for field, item in zip(value._fields, value, strict=True):
            _gather(f"{name}.{field}", item, found)
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _gather(f"{name}[{place}]", item, found)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _gather(f"{name}.{field.name}", getattr(value, field.name, None), found)
    elif _is_object(value) and name.count(".") + name.count("[") < DEEPEST:
        # A cache of keys and values, say.
        for field, item in vars(value).items():
            if isinstance(item, (torch.Tensor, list, tuple, Mapping)) or _is_object(item):
                _gather(f"{name}.{field}", item, found)


def _is_object(value: Any) -> bool:
    """Whether something is an object of somebody's own, which may hold tensors."""
    kind = type(value)
    return hasattr(value, "__dict__") and not isinstance(value, (type, nn.Module)) and kind.__module__ != "builtins"
