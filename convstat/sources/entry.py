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
from convstat.sources.recipe import Example, Recipe, users_code

if TYPE_CHECKING:
    import torch


def recipe(argument: str, overrides: Mapping[str, Any]) -> Recipe:
    """Import what the argument names and say how to make its model; raises SourceError with the user's own line."""
    place, _, name = argument.rpartition(":")
    module = _import(place)
    target = _attribute(module, place, name)
    keywords = {key: plain(value) for key, value in overrides.items()}
    label = name.rpartition(".")[2]
    return Recipe(label, argument, "module", _maker(argument, target, keywords))


def _import(place: str) -> Any:
    import importlib
    import importlib.util
    import sys
    from pathlib import Path

    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            near = [str(p) for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
            raise SourceError(f"there is no file {place}", help=did_you_mean(place, near))
        # Its neighbours can be imported, as when Python runs the file itself.
        _search(str(path.parent.resolve()))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise SourceError(f"cannot import {place}")
        module = importlib.util.module_from_spec(spec)
        # Registered, so that dataclasses and pickling inside it find it; not over a module of that name.
        sys.modules.setdefault(path.stem, module)
        with users_code(f"cannot import {place}"):
            spec.loader.exec_module(module)
        return module
    _search(str(Path.cwd()))
    with users_code(f"cannot import {place}"):
        return importlib.import_module(place)


def _search(folder: str) -> None:
    import sys

    if folder not in sys.path:
        sys.path.insert(0, folder)


def _attribute(module: Any, place: str, name: str) -> Any:
    target = module
    for part in name.split("."):
        if not hasattr(target, part):
            from torch import nn

            known = [
                key
                for key, value in vars(target).items()
                if not key.startswith("_") and (callable(value) or isinstance(value, nn.Module))
            ]
            raise SourceError(f"{place} has no '{part}'", help=did_you_mean(part, known))
        target = getattr(target, part)
    return target


def plain(value: object) -> object:
    """What a Python function expects: floats and not exact fractions."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
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
        raise SourceError(f"{argument} is a {type(target).__name__}, not a module or something that returns one")
    _check_keywords(argument, target, keywords)

    def make() -> tuple[torch.nn.Module, Example | None]:
        with users_code(f"{argument} could not be made"):
            result = target(**keywords)
        module, inputs = (result[0], result[1]) if isinstance(result, tuple) and len(result) == 2 else (result, None)
        if not isinstance(module, nn.Module):
            raise SourceError(f"{argument} returned a {type(result).__name__}, not a module or (module, inputs)")
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
