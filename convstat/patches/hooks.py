"""Hooks on all modules of the process, for those of who has the room only; and modules that seem to have one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registration

from convstat.patches.room import ours, patch, undone


@patch
def hooked(register: Callable[[Any], object], hook: Callable[..., Any]) -> Iterator[None]:
    """Register a hook of all modules, which is called in our threads alone; what it returns is what a hook may return.

    ``register`` is a function of ``torch.nn.modules.module`` such as ``register_module_buffer_registration_hook``.
    """

    def routed(*args: Any) -> Any:
        return hook(*args) if ours() else None

    def remove() -> None:
        # By what it is and not by its handle, which there is only when it has been registered.
        for name, table in vars(registration).items():
            if name.startswith("_global") and isinstance(table, dict):
                for key in [key for key, value in table.items() if value is routed]:
                    del table[key]

    with undone(remove):
        register(routed)
        yield


class _Unused(OrderedDict[int, Callable[..., Any]]):
    """A table of hooks that counts one more than it holds: who asks how many there are finds one, and none runs."""

    def __len__(self) -> int:
        return super().__len__() + 1

    def __bool__(self) -> bool:
        return super().__len__() > 0


@patch
def seemingly_hooked(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let modules count as modules with a forward hook.

    ``nn.TransformerEncoderLayer`` chooses its kernels by whether there are any. A hook that does nothing would do, too,
    and would take every call the long way round.

    >>> layer = nn.Linear(2, 2)
    >>> with seemingly_hooked([layer]):
    ...     len(layer._forward_hooks), [*layer._forward_hooks.values()], bool(layer._forward_hooks)
    (1, [], False)
    >>> len(layer._forward_hooks)
    0
    """
    before: list[tuple[dict[str, Any], object]] = []

    def put_back() -> None:
        for attributes, table in before:
            attributes["_forward_hooks"] = table

    with undone(put_back):
        for module in modules:
            attributes = vars(module)
            # One that has hooks counts as hooked already; a scripted module has no table of Python's.
            if not attributes.get("_forward_hooks", True) and not isinstance(module, torch.jit.ScriptModule):
                before.append((attributes, attributes["_forward_hooks"]))
                attributes["_forward_hooks"] = _Unused()
        yield
