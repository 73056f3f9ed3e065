"""Turn live objects into what a trace remembers of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from convstat.trace.calls import (
    BufferInfo,
    DictInfo,
    ListInfo,
    ModuleInfo,
    ObjectInfo,
    ParameterInfo,
    TensorInfo,
    Value,
)
from convstat.trace.nesting import found_once, why_endless

_PLAIN = frozenset({bool, int, float, complex, str, type(None)})
_FLAT = _PLAIN | {torch.Tensor, nn.Parameter, torch.dtype, torch.device}
TENSORS = frozenset((torch.Tensor, nn.Parameter))
"""The types of most tensors, which are dense and have a shape unless they say otherwise."""

_STRIDED = torch.strided
_DTYPES: dict[torch.dtype, str] = {}
_INFOS: dict[tuple[torch.Size, torch.dtype], TensorInfo] = {}
_MOST_INFOS = 100_000


def describe(value: Any, *, has_end: bool = False) -> Value:
    """Describe an argument or a result; what has no end is an object like others, whatever it holds.

    >>> describe((torch.zeros(2, 3), None, [1]))
    (TensorInfo(shape=(2, 3), dtype='float32', layout='strided'), None, ListInfo(items=(1,)))
    """
    kind = type(value)
    if kind in _PLAIN:
        return value  # type: ignore[no-any-return]
    if kind is torch.Tensor or kind is nn.Parameter or isinstance(value, torch.Tensor):
        return _tensor(value, kind)
    if isinstance(value, (tuple, list, Mapping)):
        return _holding(value, has_end)
    if isinstance(value, torch.ScriptObject) and (unpacked := unpack(value)):
        return ObjectInfo(type_name(type(value)), tuple([describe(item) for item in unpacked]))
    return ObjectInfo(type_name(type(value)))


def _holding(value: Any, has_end: bool) -> Value:
    is_sequence = isinstance(value, (tuple, list))
    if is_sequence and _PLAIN.issuperset(map(type, value)):
        # Most are the sizes of a kernel, in each dimension.
        return tuple(value) if isinstance(value, tuple) else ListInfo(tuple(value))
    is_flat = has_end or (is_sequence and _FLAT.issuperset(map(type, value)))
    if not is_flat and why_endless(value, "it") is not None:
        return ObjectInfo(type_name(type(value)))
    if not is_sequence:
        return DictInfo(
            tuple([(describe(key, has_end=True), describe(item, has_end=True)) for key, item in value.items()])
        )
    # What is joined is a list of many tensors, at every call around it.
    items = tuple(
        [_tensor(item, torch.Tensor) if type(item) is torch.Tensor else describe(item, has_end=True) for item in value]
    )
    return items if isinstance(value, tuple) else ListInfo(items)


def leaves(value: Any) -> list[Any]:
    """What arguments or a result consist of, as torch takes them apart; of what has no end, each once."""
    return tree_leaves(value) if why_endless(value, "it") is None else list(found_once(value))


def _tensor(value: torch.Tensor, kind: type) -> Value:
    if value.layout is not _STRIDED or value.is_nested or (kind not in TENSORS and is_lazy(value)):
        return _odd_tensor(value)
    # Many tensors look the same, and are described by one object.
    shape, dtype = value.shape, value.dtype
    info = _INFOS.get((shape, dtype))
    if info is None:
        if len(_INFOS) >= _MOST_INFOS:
            _INFOS.clear()
        info = _INFOS[shape, dtype] = TensorInfo(tuple(shape), dtype_name(dtype))
    return info


def is_lazy(value: torch.Tensor) -> bool:
    """Whether a parameter or buffer has no shape as yet; torch, which asks in Python, is asked of odd ones alone."""
    return type(value) not in TENSORS and nn.parameter.is_lazy(value)


def _odd_tensor(value: torch.Tensor) -> Value:
    """A tensor that is not one dense block: sparse, of samples that differ in shape, or without a shape as yet."""
    if value.is_nested:
        return ObjectInfo(type_name(type(value)), samples=_samples(value))
    if is_lazy(value):
        return ObjectInfo(type_name(type(value)))
    return TensorInfo(tuple(value.shape), dtype_name(value.dtype), str(value.layout).removeprefix("torch."))


def _samples(value: Any) -> tuple[TensorInfo, ...]:
    """What a nested tensor holds; of a jagged one whose lengths have no values, all samples as one."""
    dtype = dtype_name(value.dtype)
    # What is asked here is no kernel of the model's.
    with _disable_current_modes():
        if value.layout is _STRIDED:
            return tuple(TensorInfo(tuple(shape), dtype) for shape in value._nested_tensor_size().tolist())
        # They lie one after the other along the dimension in which they differ.
        together, (before, after) = value.values().shape, (value._ragged_idx - 1, value._ragged_idx)
        lengths = together[before:after]
        if value.offsets().device.type != "meta":
            lengths = (value.offsets().diff() if value.lengths() is None else value.lengths()).tolist()
        return tuple(TensorInfo((*together[:before], length, *together[after:]), dtype) for length in lengths)


def unpack(packed: Any) -> tuple[torch.Tensor, ...]:
    """The weight, and the bias if there is one, that a quantized module keeps in a form of its kernel's own."""
    opened = getattr(packed, "unpack", None)
    if opened is None:
        return ()
    values = opened()
    values = values if isinstance(values, tuple) else (values,)
    return tuple(value for value in values if isinstance(value, torch.Tensor))


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    name = _DTYPES.get(dtype)
    if name is None:
        name = _DTYPES[dtype] = str(dtype).removeprefix("torch.")
    return name


def type_name(kind: type) -> str:
    """The full name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


class _Kind(NamedTuple):
    """What is described of the class of a module: ``weights`` are those of :func:`_weights_of_class`."""

    name: str
    bases: tuple[str, ...]
    weights: frozenset[str] | None


class ModuleTable:
    """The modules of a model, by place; a module that is called without being registered is added at the end."""

    def __init__(self, model: nn.Module) -> None:
        self.modules: list[nn.Module] = []
        self.paths: list[list[str]] = []
        self.places: dict[int, int] = {}
        self.model = model
        self._walk()
        self.registered = len(self.modules)
        # A scripted module makes the Python objects of its tensors when asked: kept, so that each keeps its id.
        self.tensors = (*model.parameters(), *model.buffers())
        self._before = {id(tensor) for tensor in self.tensors}
        self.keys: dict[int, int] = {}
        self._kinds: dict[type, _Kind] = {}

    def _walk(self) -> None:
        """Name what hangs in the model; what has names already keeps them."""
        named = {place for place, paths in enumerate(self.paths) if paths}
        visited: set[int] = set()
        # Depth first, as nn.Module.modules(); a module that hangs in two places gets two paths and one visit.
        stack = [("", self.model)]
        while stack:
            path, module = stack.pop()
            place = self.index(module)
            if place not in named:
                self.paths[place].append(path)
            if place in visited:
                continue
            visited.add(place)
            stack.extend(
                (f"{path}.{name}" if path else name, child)
                for name, child in reversed(module._modules.items())
                if child is not None
            )

    def _add(self, module: nn.Module, paths: list[str]) -> int:
        place = self.places[id(module)] = len(self.modules)
        self.modules.append(module)
        self.paths.append(paths)
        return place

    def index(self, module: nn.Module) -> int:
        """The place of a module."""
        place = self.places.get(id(module))
        return self._add(module, []) if place is None else place

    def name(self, place: int) -> str:
        """The first path of a module; of one that does not hang in the model, its class."""
        paths = self.paths[place]
        return paths[0] if paths else type(self.modules[place]).__qualname__

    def infos(self) -> tuple[ModuleInfo, ...]:
        """Describe all modules; done after the run, when lazy ones know their sizes, and some may have been made."""
        self._walk()
        return tuple(self._info(place) for place in range(len(self.modules)))

    def _info(self, place: int) -> ModuleInfo:
        module = self.modules[place]
        kind = self._kind(type(module))
        places = self.places
        entries = tuple([places[id(child)] for child in module._modules.values() if id(child) in places])
        return ModuleInfo(
            index=place,
            paths=tuple(self.paths[place]),
            type=kind.name,
            bases=kind.bases,
            parameters=self._parameters(module) + self._packed(module),
            attributes=_attributes(module, kind.weights),
            children=tuple(dict.fromkeys(entries)),
            entries=entries,
            made=place >= self.registered and bool(self.paths[place]),
            buffers=self._buffers(module),
        )

    def _kind(self, kind: type) -> _Kind:
        found = self._kinds.get(kind)
        if found is None:
            bases = tuple(type_name(base) for base in kind.__mro__[1:] if issubclass(base, nn.Module))
            found = self._kinds[kind] = _Kind(type_name(kind), bases, _weights_of_class(kind))
        return found

    def _parameters(self, module: nn.Module) -> tuple[ParameterInfo, ...]:
        return tuple(
            [
                ParameterInfo(
                    name,
                    tuple(parameter.shape),
                    dtype_name(parameter.dtype),
                    parameter.requires_grad,
                    self.keys.setdefault(id(parameter), len(self.keys)),
                    made=id(parameter) not in self._before,
                )
                for name, parameter in module._parameters.items()
                if parameter is not None and not is_lazy(parameter)
            ]
        )

    def _buffers(self, module: nn.Module) -> tuple[BufferInfo, ...]:
        return tuple(
            [
                BufferInfo(
                    name,
                    tuple(buffer.shape),
                    dtype_name(buffer.dtype),
                    self.keys.setdefault(id(buffer), len(self.keys)),
                )
                for name, buffer in module._buffers.items()
                if buffer is not None and not is_lazy(buffer)
            ]
        )

    def _packed(self, module: nn.Module) -> tuple[ParameterInfo, ...]:
        """The parameters of a quantized module: packed in an attribute, or in a submodule that is never called."""
        packed: Any = vars(module).get("_packed_params")
        if packed is None and "_packed_params" in module._modules:
            inner = module._modules["_packed_params"]
            packed = getattr(inner, "_packed_params", getattr(inner, "_packed_weight", None))
        if not isinstance(packed, torch.ScriptObject) or _holds_for_parent(module):
            return ()
        return tuple(
            ParameterInfo(
                name,
                tuple(value.shape),
                dtype_name(value.dtype),
                False,
                # Addresses are even: the bias has one of its own.
                self.keys.setdefault(id(packed) + offset, len(self.keys)),
            )
            for offset, (name, value) in enumerate(zip(("weight", "bias"), unpack(packed), strict=False))
        )


def _holds_for_parent(module: nn.Module) -> bool:
    return type(module).__name__.endswith("PackedParams")


def _weights_of_class(kind: type) -> frozenset[str] | None:
    """The weights that a class gives its modules beside their own tables; None where it is not known beforehand."""
    is_plain = kind.__getattr__ is nn.Module.__getattr__ and not issubclass(kind, torch.jit.ScriptModule)  # type: ignore[attr-defined]
    return frozenset(name for name in _WEIGHTS if hasattr(kind, name)) if is_plain else None


_WEIGHTS = ("weight", "bias")
_SCALES = ("quant_state", "meta")
"""Attributes in which modules with packed weights keep scales that are not registered."""


def _tensors_in(value: Any, depth: int = 0) -> list[torch.Tensor]:
    """The tensors of an object, of those in it, and of mappings."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else getattr(value, "__dict__", {}).values()
    return [] if depth > 2 else [tensor for item in items for tensor in _tensors_in(item, depth + 1)]


def _attributes(module: nn.Module, of_class: Collection[str] | None) -> dict[str, Value]:
    found: dict[str, Value] = {}
    value: Any
    for name, value in vars(module).items():
        if name[0] == "_":
            continue
        kind = type(value)
        if kind in _PLAIN or (kind is tuple and _PLAIN.issuperset(map(type, value))):
            found[name] = value
            continue
        items = value if isinstance(value, (tuple, list)) else (value,)
        if all(type(item) in _PLAIN or isinstance(item, torch.Tensor) for item in items):
            found[name] = describe(value)
    for name in _SCALES:
        if (held := vars(module).get(name)) is not None and name not in found:
            found[name] = tuple(describe(value) for value in _tensors_in(held))
    for name in _WEIGHTS:
        if name in found:
            continue
        if of_class is not None and name not in of_class:
            # To be told by a module that it has none takes long.
            value = module._parameters.get(name, module._buffers.get(name))
        else:
            # Asked for, and not looked up: parametrized weights are properties, and peers read them as attributes.
            value = getattr(module, name, None)
        if isinstance(value, torch.Tensor):
            found[name] = describe(value)
    for name, value in module._parameters.items():
        if value is None:
            found[name] = None
    if isinstance(module, torch.jit.ScriptModule):
        # The class that it was scripted from.
        found["original_name"] = module.original_name
    return found
