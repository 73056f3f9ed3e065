"""Keep torch from importing its compiler for the sake of meta kernels.

Many of torch's meta kernels are Python functions under ``torch._disable_dynamo``,
which imports all of ``torch._dynamo`` at the first call: as long again as ``import torch``.
A function is then run with the compiler off. Where the compiler is not even loaded, it is off already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
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
    functions = [function for function in _DECORATED.find() if not hasattr(function, _CACHE)]
    for function in functions:
        setattr(function, _CACHE, function)
    try:
        with algebra_on_demand():
            yield
    finally:
        for function in functions:
            if getattr(function, _CACHE, None) is function:
                delattr(function, _CACHE)


class _Decorated:
    """The functions under ``torch._disable_dynamo``, as far as they can be found.

    All objects are looked through once, which takes a moment; later only what has been imported since.
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.functions: dict[int, Any] = {}

    def find(self) -> Iterable[Any]:
        """The functions themselves, without what is around them."""
        import gc

        imported = [name for name in tuple(sys.modules) if name not in self.modules]
        if imported and (code := _code_of_the_wrapper()) is not None:
            place = code.co_freevars.index("fn")
            for item in _members(imported) if self.modules else gc.get_objects():
                if type(item) is FunctionType and item.__code__ is code and item.__closure__:
                    function = item.__closure__[place].cell_contents
                    self.functions[id(function)] = function
        self.modules.update(imported)
        return self.functions.values()


_DECORATED = _Decorated()


def _code_of_the_wrapper() -> CodeType | None:
    """The code that all decorated functions share; it holds the function itself as ``fn``.

    (Its ``__wrapped__`` may be another: decorators around it write there too.)
    """
    import torch

    disable = getattr(torch, "_disable_dynamo", None)
    code = getattr(disable(_code_of_the_wrapper), "__code__", None) if disable is not None else None
    return code if code is not None and "fn" in code.co_freevars else None


def _members(names: Iterable[str]) -> Iterator[Any]:
    """What modules define, and what the classes in them do."""
    for name in names:
        for value in tuple(vars(sys.modules.get(name, object)).values()):
            yield value
            if isinstance(value, type):
                yield from tuple(vars(value).values())
