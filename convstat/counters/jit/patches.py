"""What is replaced in torch while the operators of a forward pass are recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
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
    """Call ``apply(forward, context, args)`` where a ``torch.autograd.Function`` is applied.

    ``context`` is empty for a function with a ``setup_context`` of its own. Its ``apply`` cannot be replaced: from
    torch 2.14 on it is written in C++, and who stored ``cls.apply`` before would not be seen. It looks up ``forward``
    in the class each time, so that is handed out in another form.
    """
    from torch.autograd.function import FunctionMeta, _SingleLevelFunction

    without_setup = _SingleLevelFunction.setup_context

    def get(cls: Any, name: str) -> Any:
        found = type.__getattribute__(cls, name)
        if name != "forward":
            return found

        @wraps(found)
        def forward(*args: Any, **kwargs: Any) -> Any:
            has_setup = cls.setup_context is not without_setup
            if not has_setup and not (args and getattr(type(args[0]), "_forward_cls", None) is cls):
                return found(*args, **kwargs)  # called by hand, with the context of another function
            context, rest = (args[:0], args) if has_setup else (args[:1], args[1:])
            return apply(found, context, rest)

        return forward

    setattr(FunctionMeta, "__getattribute__", get)  # noqa: B010 - mypy takes an assignment for a mistake
    try:
        yield
    finally:
        delattr(FunctionMeta, "__getattribute__")
