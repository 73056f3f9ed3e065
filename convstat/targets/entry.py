"""Python entry points: ``package.module:callable`` and ``path/to/file.py:callable``.

The callable is a ``torch.nn.Module``, a class of one, or anything that returns one, or ``(module, inputs)``.
Inputs may be a tensor, a tuple or list of arguments, or a dict of keyword arguments.
Overrides become keyword arguments, and fields of config objects: see :mod:`convstat.targets.configured`.
Nothing is imported unless the user named it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from convstat.errors import SourceError, UsageError, did_you_mean
from convstat.targets import configured
from convstat.trace.foreign import foreign, users_code
from convstat.trace.recipe import Example, Recipe, failed

if TYPE_CHECKING:
    import torch


def recipe(argument: str, overrides: Mapping[str, Any]) -> Recipe:
    """Import what the argument names and say how to make its model; raises SourceError with the user's own line."""
    from torch import nn

    from convstat.patches.preserve import drawn
    from convstat.patches.torch_states import modes_left
    from convstat.targets.importing import import_place
    from convstat.trace.bounds import limited_memory, room

    place, _, name = argument.rpartition(":")
    try:
        with modes_left() as left, foreign(f"cannot import {place}"), limited_memory(room()), drawn(0):
            # What is made on import is made for real: no way is chosen yet.
            module, neighbours = import_place(place)
            target = _attribute(module, place, name)
    except MemoryError as error:
        raise failed(f"cannot import {place}", error) from None
    with neighbours.active(), foreign(f"{argument} could not be created"):
        maker, notes = _maker(argument, target, overrides)
    is_made = isinstance(target, nn.Module)
    label = name.rpartition(".")[2]
    return Recipe(
        label, argument, "module", maker, notes=(*left.notes, *notes), around=neighbours.active, is_made=is_made
    )


def recipe_of(target: Any, name: str, source: str, overrides: Mapping[str, Any]) -> Recipe:
    """Say how to make a model from what an entry point would name: a module, a class, or anything that returns one."""
    from torch import nn

    maker, notes = _maker(source, target, overrides)
    return Recipe(name, source, "module", maker, notes=notes, is_made=isinstance(target, nn.Module))


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
    """The names in a module or a class that a model may come from."""
    from torch import nn

    kinds = (nn.Module, classmethod, staticmethod)
    names = [name for name, value in vars(owner).items() if callable(value) or isinstance(value, kinds)]
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
    argument: str, target: Any, overrides: Mapping[str, object]
) -> tuple[Callable[[], tuple[torch.nn.Module, Example | None]], tuple[str, ...]]:
    """Give what makes the model and its inputs, and what is assumed about its arguments."""
    from torch import nn

    if isinstance(target, nn.Module):
        if overrides:
            first = next(iter(overrides))
            raise UsageError(f"{argument} is an existing module: it takes no overrides such as {first}=...")
        return (lambda: (target, None)), ()
    if not callable(target):
        raise SourceError(
            f"{argument} is of type {type(target).__name__}, which is neither a module nor a callable that returns one"
        )
    found = configured.given(argument, target, {key: plain(value) for key, value in overrides.items()})
    _check_keywords(argument, target, found.keywords)
    configured.refuse_missing(argument, target, found)
    with users_code(f"{argument} could not be created"):
        # A field that does not exist is told before the model is made, once and not once for each way of running it.
        configured.made(target, found)

    def make() -> tuple[torch.nn.Module, Example | None]:
        with users_code(f"{argument} could not be created"):
            result = target(**configured.made(target, found))
        module, inputs = (result[0], result[1]) if isinstance(result, tuple) and len(result) == 2 else (result, None)
        if not isinstance(module, nn.Module):
            raise SourceError(f"{argument} returned a {type(result).__name__}, expected a module or (module, inputs)")
        return module, None if inputs is None else _example(inputs)

    return make, found.notes


def _check_keywords(argument: str, target: Any, keywords: Mapping[str, object]) -> None:
    import inspect

    try:
        parameters = inspect.signature(target).parameters
    except Exception:  # of a callable that says nothing of itself, or the wrong thing
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


def _example(inputs: Any) -> Example:
    if isinstance(inputs, Mapping):
        return Example(kwargs=dict(inputs), values=OWN)
    if isinstance(inputs, (tuple, list)):
        return Example(args=tuple(inputs), values=OWN)
    return Example(args=(inputs,), values=OWN)


OWN = "those that come with the model"
"""Where the values of the inputs are from that an entry point gives."""
