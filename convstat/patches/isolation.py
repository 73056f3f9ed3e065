"""Keep what a peer does from reaching anybody else.

Each adapter leaves model and process as found, and a test holds it to that.
What is here is for the day when one does not: a new version of a tool, an adapter of another package.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from convstat.patches.preserve import preserved, process_preserved
from convstat.patches.room import patch, undone


@patch
def isolated(model: nn.Module) -> Iterator[None]:
    """Put back, whatever happens: the model with its hooks, flags and buffers, the methods of its classes, torch's
    functions, and the states of the process.
    """
    with _attributes(model), _parameters(model), process_preserved(), preserved(model):
        yield


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
