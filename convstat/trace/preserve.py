"""Leave a model and the process as they were found.

Peers put hooks, attributes and modes on the model and patch torch; some leave them there, all do on Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from convstat.trace.spies import unpatched_afterwards


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Put back, whatever happens: hooks, attributes and training flags of every module, buffers that were written to,
    torch's random state, the grad mode, the default dtype, and the functions that peers patch.
    """
    with unpatched_afterwards(), _torch_state(), _module_state(model):
        yield


@contextmanager
def process_preserved() -> Iterator[None]:
    """Put back, whatever happens, what making and running a model may change in the process: random states, the grad
    mode, the default dtype, and the functions that peers patch.
    """
    import random
    import sys

    state = random.getstate()
    numpy: Any = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    try:
        with unpatched_afterwards(), _torch_state():
            yield
    finally:
        random.setstate(state)
        if numpy_state is not None:
            numpy.random.set_state(numpy_state)


@contextmanager
def _torch_state() -> Iterator[None]:
    grad = torch.is_grad_enabled()
    dtype = torch.get_default_dtype()
    # Reading the state of a device would initialise CUDA; where it is not in use there is nothing to keep.
    running = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = list(range(torch.cuda.device_count())) if running else []
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)


@contextmanager
def _module_state(model: nn.Module) -> Iterator[None]:
    modules = list(model.modules())
    before = [(module, *_snapshot(module)) for module in modules]
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in model.buffers() if buffer.device.type != "meta"]
    try:
        yield
    finally:
        for module, attributes, tables in before:
            _restore(module, attributes, tables)
        with torch.no_grad():
            for buffer, version, value in buffers:
                if buffer._version != version:
                    buffer.copy_(value)


def _snapshot(module: nn.Module) -> tuple[dict[str, Any], dict[str, dict[Any, Any]]]:
    attributes = dict(vars(module))
    # nn.Module's own tables (parameters, submodules, hooks) change in place.
    tables = {name: dict(value) for name, value in attributes.items() if name[0] == "_" and isinstance(value, dict)}
    return attributes, tables


def _restore(module: nn.Module, attributes: dict[str, Any], tables: dict[str, dict[Any, Any]]) -> None:
    now = vars(module)
    for name in [name for name in now if name not in attributes]:
        del now[name]
    for name, value in attributes.items():
        if name not in now or now[name] is not value:
            now[name] = value
    for name, entries in tables.items():
        table = attributes[name]
        if len(table) != len(entries) or any(table.get(key) is not value for key, value in entries.items()):
            table.clear()
            table.update(entries)
