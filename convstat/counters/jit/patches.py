"""What is replaced in torch while the operators of a forward pass are recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any

import torch

from convstat.counters.capture import replaced

_OVERRIDES = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
_MODULES = ("torch.overrides", "torch.nn.functional", "torch.functional", "torch._tensor", "torch.nn.init")


@contextmanager
def told_to_trace(state: object, in_kernel: Callable[[], bool]) -> Iterator[None]:
    """Let functions that ask whether they are traced hear that they are, but those of kernels."""
    tracing_state: Any = torch._C._get_tracing_state
    is_tracing: Any = torch._C._is_tracing
    with replaced(
        torch._C,
        _get_tracing_state=lambda: tracing_state() if in_kernel() else state,
        _is_tracing=lambda: is_tracing() if in_kernel() else True,
    ):
        yield


@contextmanager
def without_overrides() -> Iterator[None]:
    """Let Python functions of torch run, and not be handed to a mode: it would call them again without end."""
    with ExitStack() as stack:
        for name in _MODULES:
            module = sys.modules[name]
            values = {override: _never for override in _OVERRIDES if override in vars(module)}
            stack.enter_context(replaced(module, **values))
        yield


def _never(*_: object) -> bool:
    return False


@contextmanager
def calling(kind: Any, call: Callable[[Any], Any]) -> Iterator[None]:
    """Put what ``call`` makes of it in the place of the ``__call__`` of a class."""
    original = vars(kind)["__call__"]
    setattr(kind, "__call__", call(original))  # noqa: B010 - mypy takes an assignment for a mistake
    try:
        yield
    finally:
        setattr(kind, "__call__", original)  # noqa: B010


@contextmanager
def applying_functions(apply: Callable[..., Any]) -> Iterator[None]:
    """Call ``apply(original, cls, args, kwargs)`` where ``cls.apply`` of a ``torch.autograd.Function`` is called.

    The code of the method is replaced, and not the method: who stored ``cls.apply`` before is seen too.
    """
    method: Any = vars(torch.autograd.Function)["apply"].__func__
    code = method.__code__
    original = FunctionType(code, method.__globals__, method.__name__, method.__defaults__, method.__closure__)

    def applied(cls: Any, args: Any, kwargs: Any) -> Any:
        return apply(original, cls, args, kwargs)

    with replaced(sys.modules[method.__module__], _convstat_applied=applied):
        method.__code__ = vars(_Host)["apply"].__code__
        try:
            yield
        finally:
            method.__code__ = code


class _Host:
    # Made in a class, so that its code refers to as many cells as that of the method, which calls super().
    def apply(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        __class__  # type: ignore[name-defined]  # noqa: B018
        return _convstat_applied(cls, args, kwargs)  # type: ignore[name-defined]  # noqa: F821
