"""The doors through which the memory of tensors leaves torch, and how to see who goes through them.

Most are attributes of ``torch.Tensor`` and ``torch``, and are replaced for a while. The compiled functions of an
extension are no such attributes: while a model runs for real, Python tells which of them it calls.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import FunctionType
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils import dlpack

from convstat.patches.room import patch, replaced, rerouted, routed, undone

_HANDED_OUT = (
    "numpy data_ptr __dlpack__ __reduce_ex__",
    "data_ptr _share_fd_cpu_ _share_filename_cpu_ share_memory_ tolist",
)
_OF_TORCH = ((torch, "to_dlpack"), (dlpack, "to_dlpack"))

_SEEN = frozenset({"torch", "numpy", "builtins", *sys.stdlib_module_names})
"""Packages whose compiled functions are known: what they do with tensors goes through the dispatcher or a door."""


class Doorkeeper(Protocol):
    """Is told who goes through a door. ``is_real`` says that the tensors of the pass have values."""

    is_real: bool

    def is_watching(self) -> bool:
        """Whether what this thread does now is of interest."""

    def hands_out(self, name: str, key: int | None, result: Any) -> None:
        """The memory of a storage was handed out, by the function of that name, which gave that result."""

    def tells(self, name: str, tensor: torch.Tensor) -> None:
        """The values of a tensor become numbers of Python's."""

    def calls(self, name: str) -> None:
        """A compiled function that is no part of torch is given a tensor."""

    def looks_up(self, tensor: torch.Tensor) -> None:
        """A parameter or buffer is looked up as an attribute of its module."""


def key_of(tensor: torch.Tensor) -> int | None:
    """The address of a tensor's storage, which its views share; None where it has none of its own."""
    try:
        key: int = torch.Tensor.untyped_storage(tensor)._cdata
    except Exception:  # whatever a tensor of some other kind raises: sparse, nested, lazy, wrapped
        return None
    return key


@patch
def watching_doors(keeper: Doorkeeper) -> Iterator[None]:
    """Tell of every tensor whose memory or values are handed out, and of parameters that are looked up."""
    tensor, storage = torch.Tensor, torch.UntypedStorage
    with ExitStack() as stack:
        for name in _HANDED_OUT[0].split():
            stack.enter_context(rerouted(tensor, name, _out(keeper, f"torch.Tensor.{name}", key_of)))
        for name in _HANDED_OUT[1].split():
            if hasattr(storage, name):
                stack.enter_context(rerouted(storage, name, _out(keeper, f"torch.UntypedStorage.{name}", _cdata)))
        for owner, name in _OF_TORCH:
            stack.enter_context(rerouted(owner, name, _out(keeper, "torch.utils.dlpack.to_dlpack", key_of)))
        stack.enter_context(rerouted(tensor, "tolist", _told(keeper)))
        array = "__cuda_array_interface__"
        get = vars(tensor)[array].fget
        of_array = property(routed(get, _out(keeper, f"torch.Tensor.{array}", key_of)(get)))
        stack.enter_context(replaced(tensor, array, of_array))
        stack.enter_context(replaced(nn.Module, "__getattr__", _looked_up(keeper, nn.Module.__getattr__)))
        if keeper.is_real:
            stack.enter_context(_watching_compiled(keeper))
        yield


def _out(keeper: Doorkeeper, name: str, key: Callable[[Any], int | None]) -> Callable[[Any], Callable[..., Any]]:
    needs_values = not name.endswith("__reduce_ex__")
    # What is shared is to be computed with beside us, and there may be nothing to compute with.
    is_for_others = name.endswith(".share_memory_")

    def make(function: Any) -> Callable[..., Any]:
        def door(handed: Any, /, *args: Any, **kwargs: Any) -> Any:
            if not keeper.is_watching():
                return function(handed, *args, **kwargs)
            has_none = handed.device.type == "meta" or (is_for_others and not keeper.is_real)
            if needs_values and has_none:
                # Its address is zero, and what is called with that ends the process.
                raise TypeError(f"can't convert meta device type tensor: it has no memory, and {name}() asks for it")
            result = function(handed, *args, **kwargs)
            if needs_values or not _is_copied():
                keeper.hands_out(name, key(handed), result)
            return result

        return door

    return make


def _is_copied() -> bool:
    """Whether ``copy.copy`` is asking, which makes another tensor of the same storage."""
    frame = sys._getframe(2)
    return any(around is not None and around.f_globals.get("__name__") == "copy" for around in (frame, frame.f_back))


def _cdata(storage: Any) -> int:
    key: int = storage._cdata
    return key


def _told(keeper: Doorkeeper) -> Callable[[Any], Callable[..., Any]]:
    def make(function: Any) -> Callable[..., Any]:
        def door(tensor: Any, /) -> Any:
            if keeper.is_watching():
                keeper.tells("torch.Tensor.tolist", tensor)
            return function(tensor)

        return door

    return make


def _looked_up(keeper: Doorkeeper, original: Callable[..., Any]) -> Callable[..., Any]:
    def look_up(module: nn.Module, name: str) -> Any:
        value = original(module, name)
        if isinstance(value, torch.Tensor):
            keeper.looks_up(value)
        return value

    return look_up


if sys.version_info >= (3, 12):

    @patch
    def _watching_compiled(keeper: Doorkeeper) -> Iterator[None]:
        """Tell of compiled functions that take tensors and are not torch's."""
        monitoring: Any = sys.monitoring
        tool = next((number for number in (4, 3, 2, 5) if monitoring.get_tool(number) is None), None)
        if tool is None:
            yield
            return
        call = monitoring.events.CALL

        def called(code: Any, place: int, function: Any, first: Any) -> None:
            if type(function) is not FunctionType and _takes_tensors(function, first) and keeper.is_watching():
                keeper.calls(_name(function))

        def put_back() -> None:
            if monitoring.get_tool(tool) == _TOOL:
                monitoring.set_events(tool, 0)
                monitoring.register_callback(tool, call, None)
                monitoring.free_tool_id(tool)

        with undone(put_back):
            monitoring.use_tool_id(tool, _TOOL)
            monitoring.register_callback(tool, call, called)
            monitoring.set_events(tool, call)
            yield

else:

    @patch
    def _watching_compiled(keeper: Doorkeeper) -> Iterator[None]:
        """Tell of compiled functions that take tensors and are not torch's."""
        if sys.getprofile() is not None:
            # Somebody measures this process, or takes it apart.
            yield
            return

        def profile(frame: Any, event: str, function: Any) -> None:
            if event == "c_call" and _takes_tensors(function) and keeper.is_watching():
                keeper.calls(_name(function))

        with undone(partial(sys.setprofile, None)):
            sys.setprofile(profile)
            yield


_TOOL = "convstat"


def _takes_tensors(function: Any, first: Any = None) -> bool:
    """Whether a compiled function of an extension works on tensors, by its first argument or its signature."""
    module = _module(function)
    if module is None or module.partition(".")[0] in _SEEN:
        return False
    if isinstance(first, torch.Tensor) or type(first).__name__ == "ndarray":
        return True
    # Both pybind11 and nanobind write the types of arguments there.
    return "Tensor" in (getattr(function, "__doc__", None) or "")


def _module(function: Any) -> str | None:
    if hasattr(function, "__code__") or isinstance(function, type):
        return None
    if isinstance(type(function).__call__, FunctionType):
        # An object of a class that Python knows how to call.
        return None
    module = getattr(function, "__module__", None)
    if not isinstance(module, str):
        owner = getattr(function, "__objclass__", None) or type(getattr(function, "__self__", None))
        module = owner.__module__
    return module


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    # pybind11 puts a class of its own before it.
    return f"{_module(function)}.{re.sub(r'^pybind11_.*[.]', '', name)}"
