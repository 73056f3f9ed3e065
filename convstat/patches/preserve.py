"""Leave a model and the process as they were found.

Peers put hooks, attributes and modes on the model and patch torch; some leave them there, all do on Ctrl-C.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from operator import is_
from typing import Any

import torch
from torch import nn

from convstat.patches.functions import unpatched_afterwards
from convstat.patches.room import patch, replaced, undone
from convstat.patches.states import GENERATORS, Changes, states_kept
from convstat.patches.torch_states import RANDOM, STATES, THREADS


@patch
def preserved(model: nn.Module) -> Iterator[None]:
    """Put back, whatever happens: hooks, attributes and training flags of every module, buffers that were written to,
    torch's random state, modes, the default dtype, and the functions that peers patch.
    """
    with unpatched_afterwards(), states_kept((*THREADS, RANDOM)), _module_state(model):
        yield


@patch
def process_preserved() -> Iterator[Changes]:
    """Put back, whatever happens, what making and running a model may change in the process.

    That is all in the tables of :mod:`convstat.patches.states` and :mod:`convstat.patches.torch_states`, random states,
    and the functions that peers patch. What could not be put back is in the notes of what this gives.
    """
    with unpatched_afterwards(), generators_kept(), states_kept(STATES) as kept:
        yield kept


def generators_kept() -> AbstractContextManager[object]:
    """Put back the random states of Python, numpy and torch."""
    return states_kept((GENERATORS, RANDOM))


@patch
def seeded(seed: int, device: str) -> Iterator[None]:
    """Make random numbers on a device follow from ``seed``, and put torch's random state back afterwards."""
    if device == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
    with states_kept((RANDOM,)):
        torch.default_generator.manual_seed(seed)
        if device == "cuda":
            torch.cuda.manual_seed_all(seed)
        yield


@patch
def drawn(seed: int) -> Iterator[None]:
    """Let all that is drawn at random follow from ``seed``, by Python, numpy and torch; their states are put back.

    Generators of numpy's that are made without a seed get one too.
    """
    import random
    import sys

    numpy: Any = sys.modules.get("numpy")
    with generators_kept(), ExitStack() as stack:
        random.seed(seed)
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(seed)
        if numpy is not None:
            numpy.random.seed(seed)
            make = numpy.random.default_rng

            def default_rng(seed: Any = seed) -> Any:
                return make(0 if seed is None else seed)

            stack.enter_context(replaced(numpy.random, "default_rng", default_rng))
        yield


@patch
def _module_state(model: nn.Module) -> Iterator[None]:
    modules = list(model.modules())
    held = _Held()
    for module in modules:
        held.add(module)
    before = [(module, type(module), dict(vars(module))) for module in modules]
    copies = [(tensor, tensor._version, tensor.detach().clone()) for tensor in held.tensors.values()]

    def put_back() -> None:
        for module, kind, attributes in before:
            _restore(module, kind, attributes)
        held.refill()
        for tensor, version, value in copies:
            if tensor._version != version:
                # Of a twin: to turn gradients off for it would be another thing to put back.
                tensor.detach().copy_(value)

    with undone(put_back):
        yield


_Container = dict[Any, Any] | list[Any] | set[Any]
_PLAIN = frozenset((bool, int, float, str, type(None), torch.dtype, torch.device))
_CONTAINERS = frozenset((dict, OrderedDict, list, set))


class _Held:
    """What modules hold: the dicts, lists and sets, each with a copy of it, and the tensors.

    nn.Module's own tables (parameters, submodules, hooks) are among them. Most are empty, in each of many modules.
    """

    def __init__(self) -> None:
        self.empty: list[_Container] = []
        self.full: dict[int, tuple[_Container, _Container]] = {}
        self.tensors: dict[int, torch.Tensor] = {}

    def add(self, module: nn.Module) -> None:
        """Note what a module holds."""
        stack: list[Any] = [value for value in vars(module).values() if type(value) not in _PLAIN]
        while stack:
            value = stack.pop()
            kind = type(value)
            if kind in _PLAIN:
                continue
            if kind in _CONTAINERS and not value:
                self.empty.append(value)
            elif isinstance(value, dict):
                if id(value) not in self.full:
                    self.full[id(value)] = value, dict(value)
                    stack += value.values()
            elif isinstance(value, (list, set)):
                if id(value) not in self.full:
                    self.full[id(value)] = value, set(value) if isinstance(value, set) else list(value)
                    stack += value
            elif isinstance(value, tuple):
                stack += value
            elif isinstance(value, torch.Tensor) and _has_values(value):
                self.tensors[id(value)] = value

    def refill(self) -> None:
        """Put back what was in the containers."""
        for container in self.empty:
            if container:
                container.clear()
        for container, entries in self.full.values():
            _refill(container, entries)


def _has_values(tensor: torch.Tensor) -> bool:
    """Whether a tensor has values that a forward pass may write to; parameters are left alone by it."""
    return not (tensor.is_meta or isinstance(tensor, nn.Parameter) or nn.parameter.is_lazy(tensor))


def _refill(container: _Container, before: _Container) -> None:
    """Put back what was in a container, in the order in which it was."""
    if _is_as_before(container, before):
        return
    container.clear()
    if isinstance(container, list):
        container.extend(before)
    else:
        container.update(before)


def _is_as_before(container: _Container, before: _Container) -> bool:
    if len(container) != len(before) or not all(map(is_, container, before)):
        return False
    if isinstance(container, dict) and isinstance(before, dict):
        return all(map(is_, container.values(), before.values()))
    return True


def _restore(module: nn.Module, kind: type, attributes: dict[str, Any]) -> None:
    if type(module) is not kind:
        # A lazy module has become what it stands for.
        object.__setattr__(module, "__class__", kind)
    now = vars(module)
    if _is_as_before(now, attributes):
        return
    for name in [name for name in now if name not in attributes]:
        del now[name]
    for name, value in attributes.items():
        if name not in now or now[name] is not value:
            now[name] = value
