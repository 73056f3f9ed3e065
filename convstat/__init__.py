"""convstat: count params and MACs of neural networks exactly, and explain how other counters differ.

>>> import convstat
>>> convstat.analyze("Linear(16, 4)", (16,)).totals.macs
64
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convstat.api import (
        Advice,
        Arena,
        Memory,
        Report,
        advise,
        analyze,
        arena,
        load,
        memory,
        register_function,
        register_kernel,
    )
    from convstat.testing import assert_budget

__version__ = "0.1.0"

__all__ = [
    "Advice",
    "Arena",
    "Memory",
    "Mfu",
    "Report",
    "__version__",
    "advise",
    "analyze",
    "arena",
    "assert_budget",
    "load",
    "memory",
    "mfu",
    "register_function",
    "register_kernel",
]


def __getattr__(name: str) -> Any:
    # The API is imported on first use, so that the command line starts without it.
    if name == "assert_budget":
        from convstat.testing import assert_budget

        return assert_budget
    if name in __all__:
        from convstat import api

        return getattr(api, name)
    raise AttributeError(f"module 'convstat' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
