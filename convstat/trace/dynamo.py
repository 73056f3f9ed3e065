"""Keep torch from importing its compiler for the sake of meta kernels.

Many of torch's meta kernels are Python functions under ``torch._disable_dynamo``,
which imports all of ``torch._dynamo`` at the first call: as long again as ``import torch``.
A function is then run with the compiler off. Where the compiler is not even loaded, it is off already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FunctionType
from typing import Any

from convstat.trace.on_demand import DYNAMO, algebra_on_demand

_CACHE = "__dynamo_disable"
"""The attribute in which ``torch._disable_dynamo`` keeps the function to call; it imports when there is none."""


@contextmanager
def compiler_not_loaded() -> Iterator[None]:
    """Let functions under ``torch._disable_dynamo`` run as they are, where ``torch._dynamo`` is not loaded yet.

    What is decorated later, or in another way in another torch, loads the compiler as ever: that is slow and right.
    """
    if DYNAMO in sys.modules:
        yield
        return
    # Looking through all objects takes a moment; only an import of torch's can have added functions since.
    parts = sum(name.startswith("torch.") for name in tuple(sys.modules))
    functions = [function for function in _decorated(parts) if not hasattr(function, _CACHE)]
    for function in functions:
        setattr(function, _CACHE, function)
    try:
        with algebra_on_demand():
            yield
    finally:
        for function in functions:
            if getattr(function, _CACHE, None) is function:
                delattr(function, _CACHE)


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
