"""Keep what a peer does from reaching anybody else.

Each adapter leaves model and process as found, and a test holds it to that.
What is here is for the day when one does not: a new version of a tool, an adapter of another package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as module_globals

from convstat.patches.preserve import preserved, process_preserved
from convstat.patches.quiet import warnings_preserved
from convstat.patches.room import patch, undone


@patch
def isolated(model: nn.Module) -> Iterator[None]:
    """Put back, whatever happens: the model with its hooks, flags and buffers, random states, torch's modes and
    functions, the methods of the model's classes, hooks on all modules, warnings, the streams, and the environment.
    """
    with _process(), _attributes(model), _parameters(model), process_preserved(), preserved(model):
        yield


@patch
def _process() -> Iterator[None]:
    import os

    streams = sys.stdin, sys.stdout, sys.stderr
    environment, folder = dict(os.environ), os.getcwd()
    hooks = [table for name, table in vars(module_globals).items() if name.startswith("_global") and _is_dict(table)]
    tables = [(table, dict(table)) for table in hooks]
    deterministic = torch.are_deterministic_algorithms_enabled()

    def put_back() -> None:
        for table, before in tables:
            if dict(table) != before:
                table.clear()
                table.update(before)
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic)
        sys.stdin, sys.stdout, sys.stderr = streams
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        if os.getcwd() != folder:
            os.chdir(folder)

    with warnings_preserved(), undone(put_back):
        yield


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


@patch
def _attributes(model: nn.Module) -> Iterator[None]:
    """The functions of torch, and what the classes of the model define."""
    classes = {kind for module in model.modules() for kind in type(module).__mro__ if kind is not object}
    owners: list[Any] = [torch, functional, torch.Tensor, *classes]
    before = [(owner, dict(vars(owner))) for owner in owners]

    def put_back() -> None:
        for owner, attributes in before:
            _put_back(owner, attributes)

    with undone(put_back):
        yield


def _put_back(owner: Any, attributes: dict[str, Any]) -> None:
    now = dict(vars(owner))
    for name, value in attributes.items():
        if name not in now or now[name] is not value:
            setattr(owner, name, value)
    if isinstance(owner, ModuleType):
        # What is new in a module has been imported since.
        return
    for name in now:
        if name not in attributes and not name.startswith("__") and name not in _OF_PYTHON:
            delattr(owner, name)


_OF_PYTHON = frozenset(("_abc_impl",))
"""What Python itself adds to classes."""


@patch
def _parameters(model: nn.Module) -> Iterator[None]:
    """Whether parameters are trained, and what they hold: a model that was moved or cast has other data in them."""
    before = [
        (parameter, parameter.requires_grad, parameter.detach())
        for parameter in model.parameters()
        if not nn.parameter.is_lazy(parameter)
    ]

    def put_back() -> None:
        for parameter, trained, data in before:
            if (parameter.dtype, parameter.device, parameter.shape) != (data.dtype, data.device, data.shape):
                parameter.data = data
            if parameter.requires_grad != trained:
                parameter.requires_grad_(trained)

    with undone(put_back):
        yield
