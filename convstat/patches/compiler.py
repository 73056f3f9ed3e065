"""Keep torch from importing its compiler for the sake of meta kernels.

Many of torch's meta kernels are Python functions under ``torch._disable_dynamo``,
which imports all of ``torch._dynamo`` at the first call: as long again as ``import torch``.
A function is then run with the compiler off. Where the compiler is not even loaded, it is off already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from convstat.patches.imports import DYNAMO, algebra_on_demand
from convstat.patches.room import once, patch, replaced, replaced_globals, undone

_CACHE = "__dynamo_disable"
"""The attribute in which ``torch._disable_dynamo`` keeps the function to call; it imports when there is none."""


@patch
def compiler_not_loaded() -> Iterator[None]:
    """Let functions under ``torch._disable_dynamo`` run as they are, where ``torch._dynamo`` is not loaded yet.

    What is decorated later, or in another way in another torch, loads the compiler as ever: that is slow and right.
    """
    with once("the compiler is not loaded") as first:
        if not first or DYNAMO in sys.modules:
            yield
            return
        kept = [_AsItIs(*pair) for pair in _DECORATED.find() if not hasattr(pair[0], _CACHE)]

        def put_back() -> None:
            for entry in kept:
                if getattr(entry.function, _CACHE, None) is entry:
                    delattr(entry.function, _CACHE)

        with undone(put_back):
            for entry in kept:
                setattr(entry.function, _CACHE, entry)
            with algebra_on_demand():
                yield


class _AsItIs:
    """What is kept for a function: the function, and from when somebody loads the compiler, what torch would keep."""

    def __init__(self, function: Any, wrapper: Any) -> None:
        self.function = function
        self.wrapper = wrapper

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if DYNAMO not in sys.modules:
            return self.function(*args, **kwargs)
        if getattr(self.function, _CACHE, None) is self:
            delattr(self.function, _CACHE)
        return self.wrapper(*args, **kwargs)


@patch
def compiler_off() -> Iterator[None]:
    """Run modules that ``torch.compile`` wrapped, and functions that it did, as they were written.

    A compiler fuses kernels until none is left that a rule knows; what is to be counted is what was compiled.
    """
    import torch

    from convstat.patches.dispatch import step_by_step

    with ExitStack() as stack:
        stack.enter_context(step_by_step())
        if DYNAMO in sys.modules:
            stack.enter_context(_eager())
        else:
            # Its operators that take functions compile these on their way, and load the compiler for it.
            compiling = torch.compile

            def compiled(*args: Any, **kwargs: Any) -> Any:
                result = compiling(*args, **kwargs)
                if not loaded and DYNAMO in sys.modules:
                    loaded.append(stack.enter_context(_eager()))
                return result

            loaded: list[None] = []
            stack.enter_context(replaced(torch, "compile", compiled))
        yield


@contextmanager
def _eager() -> Iterator[None]:
    """Have what is compiled run as it is written; a part of the patch that enters it, and undone with that."""
    import torch

    frames: Any = sys.modules[f"{DYNAMO}.eval_frame"]
    if not hasattr(torch.compiler, "set_stance"):  # before torch 2.6
        uncompiled = partial(_without_callback, frames.set_eval_frame)
        with replaced_globals(frames, set_eval_frame=uncompiled):
            yield
        return
    with replaced_globals(frames, _stance=frames._stance), torch.compiler.set_stance("force_eager"):
        yield


def _without_callback(set_eval_frame: Any, _: Any) -> Any:
    """Have a frame run as it is written, whatever was to compile it."""
    return set_eval_frame(None)


@patch
def scripts_as_written() -> Iterator[None]:
    """Keep the optimizer of scripts, which rearranges kernels from the second run on, from this thread."""
    import torch

    core: Any = torch._C
    with undone(partial(core._set_graph_executor_optimize, core._get_graph_executor_optimize())):
        core._set_graph_executor_optimize(False)
        yield


class _Decorated:
    """The functions under ``torch._disable_dynamo``, as far as they can be found.

    All objects are looked through once, which takes a moment; later only what has been imported since.
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.functions: dict[int, tuple[Any, Any]] = {}

    def find(self) -> Iterable[tuple[Any, Any]]:
        """The functions themselves, each with what is around it."""
        import gc

        imported = [name for name in tuple(sys.modules) if name not in self.modules]
        if imported and (code := _code_of_the_wrapper()) is not None:
            place = code.co_freevars.index("fn")
            for item in _members(imported) if self.modules else gc.get_objects():
                if type(item) is FunctionType and item.__code__ is code and item.__closure__:
                    function = item.__closure__[place].cell_contents
                    self.functions[id(function)] = function, item
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
        # What stands there need not be a module, nor have a table of its own.
        for value in tuple(getattr(sys.modules.get(name), "__dict__", {}).values()):
            yield value
            if isinstance(value, type):
                yield from tuple(vars(value).values())
