"""Put a module and its inputs on a device for a while, and make modules without allocating their weights."""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import ExitStack
from types import NoneType
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from convstat.patches.dispatch import Watching
from convstat.patches.hooks import hooked
from convstat.patches.room import patch, undone
from convstat.patches.surroundings import default_device_kept
from convstat.trace.bounds import (
    MAX_MADE_IN_FORWARD,
    MAX_MODULES,
    MAX_PARAMETERS,
    MEMORY_WITHOUT_WEIGHTS,
    Count,
    Filled,
    is_out_of_memory,
    kernels,
    too_large,
)
from convstat.trace.describe import is_lazy

LARGE = 64 * 2**20
"""Bytes from which a tensor that a model makes begins on meta: nobody reads single values from it."""

DRAWN = 2**20
"""The same for tensors that are empty or drawn at random: they are the weights."""

CONSTANTS = 256 * 2**20
"""Bytes of larger constants that a constructor may store; from then on they begin on meta from that size as well."""


SMALL = 2**20
"""Elements up to which a plain tensor attribute of a module is taken for a constant."""


@patch
def building(device: str | None, *, watched: bool = True) -> Iterator[None]:
    """Make modules within limits, and with a device, without storing weights.

    Every parameter and buffer then moves to that device as it is registered, so that the initialisers cost nothing;
    the rest of the constructor runs as it always does.
    With None, registrations are only counted, and kernels if they are ``watched``:
    ``torch.jit.trace`` does not work while they are.
    """
    with ExitStack() as stack:
        stack.enter_context(default_device_kept())
        stack.enter_context(_registering("its constructor", device, MAX_PARAMETERS, MAX_MODULES))
        if watched:
            stack.enter_context(_Building(device))
        yield


@patch
def running() -> Iterator[None]:
    """Run a forward pass within limits on what it makes."""
    with default_device_kept(), _registering("the forward pass", None, MAX_MADE_IN_FORWARD, MAX_MADE_IN_FORWARD):
        yield


@patch
def _registering(what: str, device: str | None, most_parameters: int, most_modules: int) -> Iterator[None]:
    moved: MutableMapping[torch.Tensor, torch.Tensor] = WeakTensorKeyDictionary()
    parameters = Count(most_parameters, what + " made more than {} parameters")
    modules = Count(most_modules, what + " made more than {} modules")

    def parameter(module: nn.Module, name: str, value: nn.Parameter | None) -> torch.Tensor | None:
        parameters.add()
        return move(value, _moved_parameter)

    def buffer(module: nn.Module, name: str, value: torch.Tensor | None) -> torch.Tensor | None:
        return move(value, torch.Tensor.to)

    def move(value: torch.Tensor | None, to: Callable[[Any, str], torch.Tensor]) -> torch.Tensor | None:
        if device is None or value is None or value.device.type == device or is_lazy(value):
            return None
        # A tensor that is registered in two places stays one, for as long as anybody holds the original.
        if value not in moved:
            moved[value] = to(value, device)
        return moved[value]

    def submodule(module: nn.Module, name: str, value: nn.Module | None) -> None:
        modules.add()

    with (
        hooked(registration.register_module_parameter_registration_hook, parameter),
        hooked(registration.register_module_buffer_registration_hook, buffer),
        hooked(registration.register_module_module_registration_hook, submodule),
    ):
        yield


class Counting(Watching):  # type: ignore[no-untyped-call]
    """Counts the kernels that something runs, up to ``most``, and watches how much memory it fills."""

    def __init__(self, what: str, memory: int | None = MEMORY_WITHOUT_WEIGHTS, *, most: int | None = None) -> None:
        super().__init__()
        self.kernels = kernels(what, most)
        self.filled = Filled(memory)

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        self.kernels.add()
        self.filled.step()
        return func(*args, **kwargs)


class _Building(Counting):  # type: ignore[no-untyped-call]
    """Keeps on meta what is there, and lets large tensors begin there."""

    def __init__(self, device: str | None) -> None:
        super().__init__("its constructor")
        self.device = device
        self.stored = 0

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        self.kernels.add()
        self.filled.step()
        if func in _INITIALISERS and args[0].device.type == "meta":
            return args[0]
        if func is torch.ops.aten._to_copy.default and args[0].device.type == "meta":
            return func(*args, **{**kwargs, "device": args[0].device})
        if self.device is not None:
            made = without_storage(func, args, kwargs, LARGE if self.stored < CONSTANTS else DRAWN)
            if isinstance(made, torch.Tensor) and made.device.type != "meta" and made.nbytes > DRAWN:
                self.stored += made.nbytes
            return made
        try:
            return func(*args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise too_large(error) from error
            raise


_INITIALISERS = frozenset(
    (
        torch.ops.aten.uniform_.default,
        torch.ops.aten.normal_.default,
        torch.ops.aten.zero_.default,
        torch.ops.aten.fill_.Scalar,
        torch.ops.aten.clamp_.default,
        torch.ops.aten.erfinv_.default,
        torch.ops.aten.mul_.Scalar,
        torch.ops.aten.add_.Scalar,
    )
)
"""Kernels that only change values, of which a meta tensor has none."""


def without_storage(func: Any, args: Any, kwargs: Any, large: int = LARGE) -> Any:
    """Run a kernel, and take to meta what is large, and what meets a meta tensor; small constants keep their values."""
    if "device" in kwargs and not any(isinstance(value, torch.Tensor) for value in args):
        plain = {name: value for name, value in kwargs.items() if name != "pin_memory"}
        on_meta = func(*args, **{**plain, "device": META})
        most = DRAWN if func in _DRAWING else large
        if isinstance(on_meta, torch.Tensor) and on_meta.nbytes > most:
            return on_meta
    try:
        return func(*args, **kwargs)
    except (RuntimeError, NotImplementedError, MemoryError) as error:
        if is_out_of_memory(error):
            raise too_large(error) from error
        if is_mixed((args, kwargs)):
            return func(*place(args, "meta"), **place(kwargs, "meta"))
        if _NO_DTYPE.search(str(error)) and not func._schema.is_mutable:
            return _in_floats(func, args, kwargs)
        raise


def _in_floats(func: Any, args: Any, kwargs: Any) -> Any:
    """Run a kernel that the CPU has for ``float`` and ``double`` alone, where a GPU has it for others.

    The model believes that it is on another device, and takes a dtype for which there are kernels there, as
    ``torch.histc`` of integers.
    """
    from torch.utils._pytree import tree_map

    def widened(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.is_complex():
            return value
        return value.float() if value.is_floating_point() else value.double()

    def narrowed(like: Any, value: Any) -> Any:
        return value.to(like.dtype) if isinstance(value, torch.Tensor) else value

    likes = func(*place(args, "meta"), **place(kwargs, "meta"))
    return tree_map(narrowed, likes, func(*tree_map(widened, args), **tree_map(widened, kwargs)))


_NO_DTYPE = re.compile(r"not implemented for '\w+'")

META = torch.device("meta")

_DRAWING = frozenset(
    (
        torch.ops.aten.empty.memory_format,
        torch.ops.aten.empty_strided.default,
        torch.ops.aten.rand.default,
        torch.ops.aten.randn.default,
        torch.ops.aten.normal.float_float,
    )
)
"""Kernels that make tensors whose values nobody knows."""


class Redirected(TorchFunctionMode):
    """Sends to one device what a model asks for on a GPU that is not there."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = torch.device(device)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _TO_GPU:
            return args[0]
        if _is_gpu(kwargs.get("device")):
            kwargs["device"] = self.device
        if func is torch.Tensor.to:
            args = tuple(self.device if _is_gpu(value) else value for value in args)
        return func(*args, **kwargs)


_TO_GPU = (torch.Tensor.cuda, torch.Tensor.xpu, torch.Tensor.pin_memory)


def _is_gpu(device: Any) -> bool:
    if isinstance(device, int) and not isinstance(device, bool):
        return True
    if isinstance(device, (str, torch.device)):
        return str(device).partition(":")[0] in ("cuda", "xpu", "mps", "hip")
    return False


def _moved_parameter(
    value: torch.Tensor, device: str, dtype: torch.dtype | None = None, *, copy: bool = False
) -> nn.Parameter:
    return nn.Parameter(value.detach().to(device, dtype, copy=copy), requires_grad=value.requires_grad)


@patch
def placed(
    module: nn.Module, device: str, dtype: torch.dtype | None = None, *, copied: bool = False
) -> Iterator[Collection[torch.Tensor]]:
    """Let a module's parameters, buffers and plain tensor attributes be on a device, and put its own back afterwards.

    Gives the tensors that were made for it.
    With a ``dtype``, its floating-point parameters and buffers have that one meanwhile, as after ``module.to(dtype)``.
    Tensors that fit already stay as they are, or with ``copied`` are copies, which a forward pass may write to.
    Shared ones stay shared.
    """
    moved: dict[int, torch.Tensor] = {}
    undo: list[tuple[Any, str, Any]] = []

    def move(value: torch.Tensor, to: torch.dtype | None) -> torch.Tensor:
        if id(value) not in moved:
            moved[id(value)] = _moved(value, device, to, copy=copied)
        return moved[id(value)]

    def put_back() -> None:
        for table, name, value in reversed(undo):
            table[name] = value

    with undone(put_back):
        for part in module.modules():
            tables: tuple[tuple[Any, bool], ...] = (
                (part._parameters, True),
                (part._buffers, True),
                (vars(part), False),
            )
            for table, cast in tables:
                if _NO_TENSORS.issuperset(map(type, table.values())):
                    continue
                for name, value in [(name, value) for name, value in table.items() if isinstance(value, torch.Tensor)]:
                    if not cast and device == "meta" and value.numel() <= SMALL:
                        # A constant: it keeps its values, which may be read, until it meets a meta tensor.
                        continue
                    to = dtype if dtype is not None and cast and value.is_floating_point() else None
                    fits = value.device.type == device and (to is None or to == value.dtype)
                    if copied or not fits or is_lazy(value):
                        undo.append((table, name, value))
                        table[name] = move(value, to)
        yield moved.values()


_NO_TENSORS = frozenset((bool, int, float, str, tuple, list, dict, set, OrderedDict, NoneType))
"""Types of most attributes of modules."""


def _moved(value: torch.Tensor, device: str, dtype: torch.dtype | None, *, copy: bool) -> torch.Tensor:
    if is_lazy(value):
        # It becomes a plain parameter in place when its module first runs: so that is another one.
        kind: Any = nn.UninitializedBuffer if isinstance(value, nn.UninitializedBuffer) else nn.UninitializedParameter
        twin: torch.Tensor = kind(value.requires_grad, device=device, dtype=dtype or value.dtype)
        return twin
    if isinstance(value, nn.Parameter):
        return _moved_parameter(value, device, dtype, copy=copy)
    return value.detach().to(device, dtype, copy=copy)


def place(tree: Any, device: str) -> Any:
    """Put every tensor of some arguments on a device; on meta only its shape and dtype are left."""
    from torch.utils._pytree import tree_map

    def move(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.empty_like(value, device=device) if device == "meta" else value.to(device)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _with_fields(value, lambda field: place(field, device))
        return value

    return tree_map(move, tree)


def _with_fields(value: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of a dataclass with changed fields; its constructor is not run again."""
    import copy

    twin = copy.copy(value)
    for field in dataclasses.fields(value):
        if hasattr(value, field.name):
            object.__setattr__(twin, field.name, change(getattr(value, field.name)))
    return twin


def tensors(tree: Any) -> list[torch.Tensor]:
    """All tensors in some arguments."""
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def is_mixed(tree: Any) -> bool:
    """Whether tensors of several devices, meta among them, meet in some arguments."""
    kinds = {leaf.device.type for leaf in tensors(tree)}
    return len(kinds) > 1 and "meta" in kinds


def stored_bytes(module: nn.Module) -> int:
    """The bytes that a module's parameters and buffers take, or would take where they are on meta."""
    tables = {id(t): t for t in (*module.parameters(), *module.buffers()) if not is_lazy(t)}
    return sum(t.numel() * t.element_size() for t in tables.values())
