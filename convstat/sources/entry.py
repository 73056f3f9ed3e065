"""Python entry points: ``package.module:callable`` and ``path/to/file.py:callable``.

The callable is a ``torch.nn.Module``, a class of one, or anything that returns one, or ``(module, inputs)``.
Inputs may be a tensor, a tuple or list of arguments, or a dict of keyword arguments.
Overrides become keyword arguments.
Nothing is imported unless the user named it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from convstat.errors import SourceError, UsageError, did_you_mean
from convstat.sources.recipe import Example, Recipe, failed, users_code

if TYPE_CHECKING:
    import torch


def recipe(argument: str, overrides: Mapping[str, Any]) -> Recipe:
    """Import what the argument names and say how to make its model; raises SourceError with the user's own line."""
    from torch import nn

    from convstat.sources.importing import import_place
    from convstat.trace.bounds import limited_memory, room

    place, _, name = argument.rpartition(":")
    try:
        with limited_memory(room()):
            # What is made on import is made for real: no way is chosen yet.
            module, neighbours = import_place(place)
            target = _attribute(module, place, name)
    except MemoryError as error:
        raise failed(f"cannot import {place}", error) from None
    keywords = {key: plain(value) for key, value in overrides.items()}
    label = name.rpartition(".")[2]
    maker = _maker(argument, target, keywords)
    return Recipe(label, argument, "module", maker, around=neighbours.active, is_made=isinstance(target, nn.Module))


def recipe_of(target: Any, name: str, source: str, overrides: Mapping[str, Any]) -> Recipe:
    """Say how to make a model from what an entry point would name: a module, a class, or anything that returns one."""
    from torch import nn

    keywords = {key: plain(value) for key, value in overrides.items()}
    return Recipe(name, source, "module", _maker(source, target, keywords), is_made=isinstance(target, nn.Module))


def _attribute(module: Any, place: str, name: str) -> Any:
    target = module
    passed = place
    for part in name.split("."):
        with users_code(f"{passed} has no '{part}'"):
            found = getattr(target, part, _MISSING)
        if found is _MISSING:
            raise SourceError(f"{passed} has no '{part}'", help=did_you_mean(part, _models(target)))
        target, passed = found, f"{passed}{'.' if passed != place else ':'}{part}"
    return target


_MISSING = object()


def _models(owner: Any) -> list[str]:
    """The names in a module or a class that a model may come from: what it defines before what it imported."""
    from torch import nn

    names = [name for name, value in vars(owner).items() if callable(value) or isinstance(value, nn.Module)]
    return [name for name in names if not name.startswith("_")]


def plain(value: object) -> object:
    """What a Python function expects: floats and not exact fractions.

    >>> plain([Fraction(1, 2), Fraction(1), 3])
    [0.5, 1.0, 3]
    """
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _maker(
    argument: str, target: Any, keywords: dict[str, object]
) -> Callable[[], tuple[torch.nn.Module, Example | None]]:
    from torch import nn

    if isinstance(target, nn.Module):
        if keywords:
            raise UsageError(
                f"{argument} is a module that is made already: it takes no overrides such as {next(iter(keywords))}=..."
            )
        return lambda: (target, None)
    if not callable(target):
        raise SourceError(f"{argument} is of type {type(target).__name__}, no module and nothing that returns one")
    _check_keywords(argument, target, keywords)

    def make() -> tuple[torch.nn.Module, Example | None]:
        with users_code(f"{argument} could not be made"):
            result = target(**keywords)
        module, inputs = (result[0], result[1]) if isinstance(result, tuple) and len(result) == 2 else (result, None)
        if not isinstance(module, nn.Module):
            raise SourceError(f"{argument} gave a {type(result).__name__}: it should be a module, or (module, inputs)")
        return module, None if inputs is None else _example(inputs)

    return make


def _check_keywords(argument: str, target: Any, keywords: Mapping[str, object]) -> None:
    import inspect

    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return
    named = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in keywords:
        if name not in named and not takes_any:
            known = f"its arguments: {', '.join(named)}" if named else "it takes none"
            raise UsageError(f"{argument} has no argument '{name}'", help=(*did_you_mean(name, named), known))
    missing = [name for name in named if parameters[name].default is inspect.Parameter.empty and name not in keywords]
    if missing:
        given = " ".join(f"{name}=..." for name in missing)
        raise UsageError(f"{argument} needs {', '.join(missing)}", help=f"give them as overrides: {argument} {given}")


def _example(inputs: Any) -> Example:
    if isinstance(inputs, Mapping):
        return Example(kwargs=dict(inputs))
    if isinstance(inputs, (tuple, list)):
        return Example(args=tuple(inputs))
    return Example(args=(inputs,))
