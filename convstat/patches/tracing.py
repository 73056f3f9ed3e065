"""What is replaced in torch while the operators of a forward pass are recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import wraps
from threading import get_ident
from types import ModuleType
from typing import Any

import torch

from convstat.patches.room import MISSING, own, patch, replaced, rerouted, routed, session, undone

_OVERRIDES = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
_MODULES = ("torch.overrides", "torch.nn.functional", "torch.functional", "torch._tensor", "torch.nn.init")


@patch
def told_to_trace(state: object, in_kernel: Callable[[], bool]) -> Iterator[None]:
    """Let functions that ask whether they are traced hear that they are, but those of kernels."""

    def tracing_state(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: original() if in_kernel() or not _here() else state

    def is_tracing(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: original() if in_kernel() or not _here() else True

    with (
        rerouted(torch._C, "_get_tracing_state", tracing_state),
        rerouted(torch._C, "_is_tracing", is_tracing),
    ):
        yield


def _here() -> bool:
    """Whether this is the thread that records: a tracer sees no other, whoever has started it."""
    return session().holder == get_ident()


@patch
def without_overrides() -> Iterator[None]:
    """Let Python functions of torch run, and not be handed to a mode: it would call them again without end."""
    with ExitStack() as stack:
        for name in _MODULES:
            module = sys.modules[name]
            for override in _OVERRIDES:
                if override in vars(module):
                    stack.enter_context(rerouted(module, override, _never))
        yield


def _never(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: original(*values) if not _here() else False


@patch
def calling(kind: Any, call: Callable[[Any], Any], elsewhere: Callable[[Any], Any] | None = None) -> Iterator[None]:
    """Put what ``call`` makes of it in the place of the ``__call__`` of a class, for the thread that records.

    What ``elsewhere`` makes of it is for the threads that this one starts.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        instead, apart = call(original), original if elsewhere is None else elsewhere(original)
        return lambda *args, **kwargs: (instead if _here() else apart)(*args, **kwargs)

    with rerouted(kind, "__call__", make):
        yield


@patch
def applying_functions(apply: Callable[..., Any]) -> Iterator[None]:
    """Call ``apply(forward, context, args)`` where a ``torch.autograd.Function`` is applied.

    ``context`` is empty for a function with a ``setup_context`` of its own. Its ``apply`` cannot be replaced: from
    torch 2.14 on it is written in C++, and who stored ``cls.apply`` before would not be seen. It looks up ``forward``
    in the class each time, so that is handed out in another form.
    """
    from torch.autograd.function import FunctionMeta, _SingleLevelFunction

    without_setup, of = _SingleLevelFunction.setup_context, session()

    def get(cls: Any, name: str) -> Any:
        found = type.__getattribute__(cls, name)
        if name != "forward" or not _here():
            return found

        @wraps(found)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if session() is not of or not _here():
                return found(*args, **kwargs)
            has_setup = cls.setup_context is not without_setup
            if not has_setup and not (args and getattr(type(args[0]), "_forward_cls", None) is cls):
                return found(*args, **kwargs)  # called by hand, with the context of another function
            context, rest = (args[:0], args) if has_setup else (args[:1], args[1:])
            return apply(found, context, rest)

        return forward

    with replaced(FunctionMeta, "__getattribute__", get):
        yield


@patch
def forking(fork: Callable[[Any], Any]) -> Iterator[None]:
    """Put what ``fork`` makes of it in the place of what ``torch.jit.fork`` calls."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        instead = fork(original)
        return lambda *args, **kwargs: (instead if _here() else original)(*args, **kwargs)

    with rerouted(torch._C, "fork", make):
        yield


_NOT_OF_MODELS = sys.stdlib_module_names | {"torch", "functorch", "convstat"}


@patch
def is_instance_in_models(answer: Callable[[Any, Any], bool]) -> Iterator[None]:
    """Let ``isinstance`` be another function in the code of models: in all modules but Python's, torch's and ours.

    Torch has to hear what a value really is: it would read the memory of an int as that of a tensor.
    """
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in _NOT_OF_MODELS and isinstance(module, ModuleType)
    ]
    before = [(vars(module), own(module, "isinstance")) for module in modules]

    def put_back() -> None:
        for names, value in before:
            if value is MISSING:
                names.pop("isinstance", None)
            else:
                names["isinstance"] = value

    with undone(put_back):
        instead = routed(isinstance, answer, _here)
        for names, _ in before:
            names["isinstance"] = instead
        yield


_OF_NUMBERS = """
abs add ceil clamp clip div divide exp floor floor_divide log log2 maximum minimum mul multiply pow remainder round
rsqrt sqrt sub trunc true_divide
"""


@patch
def taking_for_tensors(as_tensor: Callable[[Any], Any]) -> Iterator[None]:
    """Let functions of ``torch`` that compute with numbers be called with what ``as_tensor`` makes a tensor of."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: original(*map(as_tensor, args[:1]), *args[1:], **kwargs)

    with ExitStack() as stack:
        for name in _OF_NUMBERS.split():
            stack.enter_context(rerouted(torch, name, make))
        yield
