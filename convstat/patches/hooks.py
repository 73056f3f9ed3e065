"""Hooks on all modules of the process: for those of who has the room only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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
