"""Keep torch's compiler from being imported where nobody compiles: it takes as long again as ``import torch``.

Two things would import it:

- Many of torch's meta kernels are Python functions under ``torch._disable_dynamo``, which imports all of
  ``torch._dynamo`` at the first call. A function is then run with the compiler off; where the compiler is not even
  loaded, it is off already.
- torchvision imports one function of ``torch._dynamo.utils``, which only ``roi_align`` calls, and seldom.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

_DYNAMO = "torch._dynamo"
_CACHE = "__dynamo_disable"
"""The attribute in which ``torch._disable_dynamo`` keeps the function to call; it imports when there is none."""


@contextmanager
def compiler_not_loaded() -> Iterator[None]:
    """Let functions under ``torch._disable_dynamo`` run as they are, where ``torch._dynamo`` is not loaded yet.

    What is decorated later, or in another way in another torch, loads the compiler as ever: that is slow and right.
    """
    if _DYNAMO in sys.modules:
        yield
        return
    # Looking through all objects takes a moment; only an import can have added functions since.
    functions = [function for function in _decorated(len(sys.modules)) if not hasattr(function, _CACHE)]
    for function in functions:
        setattr(function, _CACHE, function)
    try:
        yield
    finally:
        for function in functions:
            if getattr(function, _CACHE, None) is function:
                delattr(function, _CACHE)


@contextmanager
def compiler_on_demand() -> Iterator[None]:
    """Let packages be imported that import ``torch._dynamo`` only to have it: it is loaded when it is first used.

    A stand-in takes its place meanwhile. Whatever else is asked of that loads the compiler, which then takes its own
    place, and answers.
    """
    if _DYNAMO in sys.modules:
        yield
        return
    stand_ins = {name: _StandIn(name) for name in (_DYNAMO, f"{_DYNAMO}.utils")}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        _take_away(stand_ins)


class _StandIn(ModuleType):
    """A module that is imported when something is asked of it that it does not have."""

    def __getattr__(self, name: str) -> Any:
        import importlib

        if name in ("__spec__", "__file__") or (name == "__path__" and self.__name__ != _DYNAMO):
            # What Python's own import asks, to find out what it has in hands.
            raise AttributeError(name)
        _take_away({key: module for key, module in sys.modules.items() if isinstance(module, _StandIn)})
        return getattr(importlib.import_module(self.__name__), name)

    @staticmethod
    def is_compile_supported(device_type: Any) -> Any:
        """What torchvision imports from ``torch._dynamo.utils``."""
        import importlib

        return importlib.import_module(f"{_DYNAMO}.utils").is_compile_supported(device_type)


def _take_away(modules: Mapping[str, ModuleType]) -> None:
    for name, module in modules.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


@cache
def _decorated(imported: int) -> tuple[Any, ...]:
    import gc

    import torch

    disable = getattr(torch, "_disable_dynamo", None)
    if disable is None:
        return ()
    # All decorated functions share the code of one wrapper, which holds the function itself as ``fn``. (Its
    # __wrapped__ may be another: decorators around it write there too.)
    code = getattr(disable(_decorated), "__code__", None)
    if code is None or "fn" not in code.co_freevars:
        return ()
    place = code.co_freevars.index("fn")
    wrappers = (item for item in gc.get_objects() if type(item) is FunctionType and item.__code__ is code)
    functions = (wrapper.__closure__[place].cell_contents for wrapper in wrappers if wrapper.__closure__)
    return tuple({id(function): function for function in functions}.values())
