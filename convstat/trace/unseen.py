"""Find the work of one forward pass that the dispatcher did not see.

An extension that is called through pybind or ctypes, a kernel of Numba or Triton, and a detour through numpy leave no
kernel in the trace. What they leave are marks, and each is a place that the count does not cover:

- A tensor is read, or returned, although nothing that was recorded wrote its memory: no kernel, no view of what a
  kernel wrote, no input, parameter, buffer, and no constant that was there before.
- The memory of a tensor is handed out: ``Tensor.numpy()``, ``Tensor.data_ptr()``, DLPack, shared memory.
- A parameter or buffer is looked up while its module runs, and no kernel reads its values.

Memory is told apart by its storage, which views share. A weak reference to each keeps its address from being given to
another one.

A real run has values, and what depends on neither inputs nor weights is a constant there, whoever computes it.
A meta tensor has none: nobody can compute with it out of sight, and a tensor beside it that has values is a constant.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import nn

from convstat.patches.dispatch import is_jagged
from convstat.patches.doors import key_of
from convstat.trace.calls import Unseen
from convstat.trace.describe import TENSORS, ModuleTable, is_lazy, leaves
from convstat.trace.lookups import is_for_shape
from convstat.trace.nesting import found_once, why_endless

_PLAIN = frozenset({bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout})

_WAITING = "a parameter or buffer that was not read so far"
_EMPTY = "memory that was allocated and not written so far"


class Way(NamedTuple):
    """What an operator does with memory.

    ``skipped`` are the places of arguments that it does not read, as a copy does not read what it writes over.
    ``written`` are the names and places of arguments that it writes to.
    """

    reads: bool
    writes: bool
    allocates: bool
    lifts: bool
    skipped: frozenset[int]
    written: tuple[tuple[int, str], ...]


_VALUES = Way(True, True, False, False, frozenset(), ())
_NOTHING = Way(False, False, False, False, frozenset(), ())


def _aten(names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names.split())


_ALLOCATES = _aten(
    """
    empty empty_like empty_strided empty_permuted new_empty new_empty_strided _empty_affine_quantized
    _empty_per_channel_affine_quantized empty_quantized
    """
)
_READS_NO_VALUES = _aten(
    """
    zeros_like new_zeros ones_like new_ones full_like new_full rand_like randn_like randint_like is_same_size size
    stride numel dim sym_size sym_stride sym_numel sym_storage_offset is_pinned _version _nested_tensor_size
    _has_compatible_shallow_copy_type _assert_tensor_metadata
    """
)
_WRITES_OVER = _aten(
    """
    copy_ fill_ zero_ uniform_ normal_ random_ bernoulli_ exponential_ cauchy_ geometric_ log_normal_ index_put_
    _index_put_impl_ index_copy_ index_fill_ scatter_ masked_scatter_ _foreach_copy_ _foreach_zero_ eye_
    rrelu_with_noise
    """
)
_SCALED = _aten(
    """
    addmm baddbmm addbmm addmv addr
    """
)
"""Operators that leave their first argument alone where it is scaled by ``beta=0``."""


_WAYS: dict[Any, Way] = {}


def way_of(func: Any, op: str) -> Way:
    """What an operator does with memory."""
    known = _WAYS.get(func)
    if known is None:
        known = _WAYS[func] = _by_schema(func, op)
    return known


def _by_schema(func: Any, op: str) -> Way:
    schema = getattr(func, "_schema", None)
    if schema is None:
        return _VALUES
    if op == "aten.lift_fresh":
        return _NOTHING._replace(lifts=True)
    if op in ("aten.set_", "aten.resize_", "aten.resize_as_"):
        return _NOTHING
    if op in _ALLOCATES:
        return _NOTHING._replace(allocates=True)
    if op in _READS_NO_VALUES:
        return _NOTHING._replace(writes=True)
    if not schema.is_mutable:
        is_view = any(value.alias_info is not None for value in schema.returns)
        return _NOTHING if is_view else _VALUES
    written = tuple(
        (-1 if argument.kwarg_only else place, argument.name)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    # What an operator of somebody else's does with the memory that it is given to write to, nobody knows.
    writes_over = op in _WRITES_OVER or not op.startswith("aten.")
    return Way(True, True, False, False, frozenset(place for place, _ in written if writes_over), written)


_storage_of = torch.Tensor.untyped_storage
_weak: Any = torch.UntypedStorage._weak_ref
_free: Any = torch.UntypedStorage._free_weak_ref


class Watch:
    """Follows the memory of one forward pass; ``found`` says where work was done that is not in the trace.

    ``place`` gives the module that runs, and ``is_watching`` says whether it is its own work that is done.
    ``clear`` holds the storages whose contents are accounted for, ``odd`` those about which there is something to say.
    ``is_real`` says that tensors have values, and ``data`` then holds those that depend on inputs or weights.
    ``outside`` names where values left last, so what comes back is theirs.
    """

    def __init__(self, place: Callable[[], int], is_watching: Callable[[], bool], *, is_real: bool) -> None:
        self.place = place
        self.is_watching = is_watching
        self.is_real = is_real
        self.clear: set[int] = set()
        self.odd: dict[int, str] = {}
        self.data: set[int] = set()
        self.refs: list[int] = []
        self.looked_up: dict[tuple[int, int, int], Any] = {}
        self.shaped: set[int] = set()
        self.outside: str | None = None
        self.numbers = 0
        self.times: dict[tuple[str, int], int] = {}
        self.arrays: list[tuple[Any, tuple[str, int]]] = []

    # What is known before.

    def begin(self, modules: Iterable[nn.Module], inputs: Any) -> None:
        """Take what is there before the forward pass."""
        weights: list[torch.Tensor] = []
        for module in modules:
            weights += [
                tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None
            ]
            if isinstance(module, torch.jit.ScriptModule):
                weights += [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if self.is_real:
            for tensor in (*_everywhere(), *(constant for module in modules for constant in _constants(module))):
                self._know(tensor)
        for tensor in _leaves(inputs):
            key = self._know(tensor)
            if key is not None and self.is_real:
                self.data.add(key)
        if not self.is_real:
            guarded(_leaves(inputs))
        for tensor in weights:
            if (key := self._know(tensor)) is not None:
                self.clear.discard(key)
                self.odd[key] = _WAITING
                if self.is_real:
                    self.data.add(key)

    def end(self) -> None:
        """Let go of the memory that was followed."""
        for ref in self.refs:
            _free(ref)
        self.refs.clear()

    def _know(self, tensor: torch.Tensor) -> int | None:
        key = key_of(tensor)
        if key is None or key in self.clear or key in self.odd:
            return key
        try:
            self.refs.append(_weak(_storage_of(tensor)))
        except NotImplementedError:  # of one that is being taken apart
            return None
        self.clear.add(key)
        return key

    # What kernels do.

    def reads(self, op: str, way: Way, args: Any, kwargs: Any) -> None:
        """Look at what a kernel is about to read."""
        if not way.reads:
            if self.odd and way.writes:
                self.shaped.update(key for tensor in _leaves((args, kwargs)) if (key := key_of(tensor)) is not None)
            return
        clear = self.clear
        for place, value in enumerate(args):
            kind = type(value)
            if kind in TENSORS:
                try:
                    key = _storage_of(value)._cdata
                except Exception:  # of a tensor that has none, of whatever kind
                    continue
                if key not in clear and place not in way.skipped:
                    self._look(op, value, key, args, kwargs, place)
            elif kind not in _PLAIN:
                for tensor in _leaves(value):
                    if (some := key_of(tensor)) is not None and some not in clear and place not in way.skipped:
                        self._look(op, tensor, some, args, kwargs, place)
        if kwargs:
            written = {name for _, name in way.written}
            for name, value in kwargs.items():
                if type(value) not in _PLAIN and name not in written:
                    for tensor in _leaves(value):
                        if (some := key_of(tensor)) is not None and some not in clear:
                            self._look(op, tensor, some, args, kwargs, -1)

    def _look(self, op: str, tensor: torch.Tensor, key: int, args: Any, kwargs: Any, place: int) -> None:
        if op in _SCALED and place == 0 and kwargs.get("beta") == 0:
            return
        reason = self.odd.get(key)
        if tensor.numel() == 0:
            return
        self._accept(tensor, key)
        if reason is not _WAITING:
            self._unknown(tensor, reason, f"before {op}{_where()}")

    def _accept(self, tensor: torch.Tensor, key: int) -> None:
        if self.odd.pop(key, None) is None:
            self.refs.append(_weak(_storage_of(tensor)))
        self.clear.add(key)
        if not self.is_real:
            guarded((tensor,))

    def _unknown(self, tensor: torch.Tensor, reason: str | None, use: str) -> None:
        """A tensor is used that nothing wrote, or whose memory was handed out."""
        if not self.is_watching():
            return
        if reason is None and self.outside is not None:
            self._find(self.outside, again=False)
            return
        if not self.is_real and tensor.device.type != "meta" and not is_fake(tensor):
            # A constant.
            return
        if reason is None and not self.is_real:
            # A tensor that is made of numbers on meta is made past the dispatcher.
            if 1 < tensor.numel() <= self.numbers:
                self._find(f"torch.Tensor.item{_where()}")
            return
        if reason is not None and reason is not _EMPTY:
            self._find(reason, again=False)
        elif reason is None or tensor.dtype is not torch.int64:
            # Operators of torch that are made of others write lengths and places, whole numbers, by hand.
            self._find(f"unseen write {use}")

    def writes(self, op: str, way: Way, args: Any, kwargs: Any, result: Any) -> None:
        """Take what a kernel wrote."""
        if not (way.writes or way.allocates or way.lifts):
            return
        depends = self.is_real and way.reads and self._depends(args, kwargs)
        if op == "aten._local_scalar_dense" and args[0].is_floating_point():
            # Without values somebody answers for them.
            self.numbers += depends or args[0].device.type == "meta"
        for value in (result,) if isinstance(result, torch.Tensor) else _leaves(result):
            key = key_of(value)
            if key is None:
                continue
            if key not in self.clear:
                if way.lifts:
                    self._lift(value, key)
                elif way.allocates and not _is_copy():
                    self.refs.append(_weak(_storage_of(value)))
                    self.odd[key] = _EMPTY
                else:
                    self._accept(value, key)
            if depends:
                self.data.add(key)
        for place, name in way.written:
            value = args[place] if 0 <= place < len(args) else kwargs.get(name)
            for tensor in _leaves(value):
                if (key := key_of(tensor)) is not None:
                    if key not in self.clear:
                        self._accept(tensor, key)
                    if depends:
                        self.data.add(key)

    def _depends(self, args: Any, kwargs: Any) -> bool:
        return any(key_of(tensor) in self.data for tensor in _leaves((args, kwargs)))

    def _lift(self, tensor: torch.Tensor, key: int) -> None:
        """A tensor was made of what lies outside: numbers, lists, an array. It is a constant unless values left."""
        if key in self.odd:
            return
        numel = tensor.numel()
        is_open = self.is_watching()
        if is_open and self.outside is not None:
            self._find(self.outside, again=False)
        elif is_open and 1 < numel <= self.numbers:
            self._find(f"torch.Tensor.item{_where()}")
        self._accept(tensor, key)

    # What goes past the dispatcher.

    def hands_out(self, name: str, key: int | None, result: Any = None) -> None:
        """The memory of a storage goes to where nobody looks, through the function of that name."""
        if key is None or not self.is_real:
            return
        name = f"{name}{_where()}"
        if key not in self.data:
            if key in self.clear or key in self.odd:
                # A constant; what is read from it later is what came from outside.
                self.clear.discard(key)
                self.odd[key] = name
            return
        self.outside = name
        found = self._find(name)
        if result is not None:
            self.arrays.append((result, found))

    def tells(self, name: str, tensor: torch.Tensor) -> None:
        """The values of a tensor become numbers of Python's; whole ones are sizes and places."""
        if tensor.is_floating_point() and (key_of(tensor) in self.data if self.is_real else tensor.is_meta):
            self.outside = f"{name}{_where()}"

    def calls(self, name: str) -> None:
        """A compiled function that is no part of torch was given a tensor."""
        self.outside = f"{name}{_where()}"
        self._find(name)

    def looks_up(self, tensor: torch.Tensor) -> None:
        """A parameter or buffer is looked up as an attribute of its module, by the caller of ``__getattr__``."""
        frame = sys._getframe(2)
        # A loop looks it up at one place many times.
        self.looked_up[id(tensor), id(frame.f_code), frame.f_lasti] = frame.f_code

    def gives(self, result: Any) -> None:
        """A function that has a rule returned; its results are accounted for."""
        for tensor in _leaves(result if why_endless(result, "it") is None else [*found_once(result)]):
            key = key_of(tensor)
            if key is not None:
                if key not in self.clear:
                    self._accept(tensor, key)
                if self.is_real:
                    self.data.add(key)

    # What is found.

    def _find(self, name: str, *, again: bool = True) -> tuple[str, int]:
        """Enter a place; what is found where its results come back is the same call, not one ``again``."""
        place = name, self.place()
        if again or all(name != other for other, _ in self.times):
            self.times[place] = self.times.get(place, 0) + 1
        return place

    def returns(self, output: Any) -> None:
        """Look at what the model returns."""
        for tensor in _leaves(output if why_endless(output, "it") is None else [*found_once(output)]):
            key = key_of(tensor)
            if key is not None and key not in self.clear and tensor.numel():
                reason = self.odd.get(key)
                self._accept(tensor, key)
                if reason is not _WAITING:
                    self._unknown(tensor, reason, "of what is returned")
        returned = leaves(output)
        for array, place in self.arrays:
            # A model that returns an array has not computed with it.
            if any(leaf is array for leaf in returned):
                self.times[place] -= 1
                if not self.times[place]:
                    del self.times[place]

    def unread(self, table: ModuleTable) -> None:
        """Find the parameters and buffers of called modules that were looked up, and whose values no kernel read."""
        looked_up = {identity for identity, *_ in self.looked_up}
        waiting: dict[int, list[tuple[int, str]]] = {}
        for index, module in enumerate(table.modules[: table.registered]) if looked_up else ():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is None or id(tensor) not in looked_up or (key := key_of(tensor)) is None:
                    continue
                if self.odd.get(key) is _WAITING and key not in self.shaped and tensor.numel():
                    waiting.setdefault(id(tensor), []).append((index, name))
        # Few are asked why they were looked up: most have been read.
        seen = {i for (i, _, at), code in self.looked_up.items() if i in waiting and not is_for_shape(code, at)}
        for identity, places in waiting.items():
            for index, name in places if identity in seen else ():
                path = f"{table.paths[index][0]}.{name}".lstrip(".")
                self.times[f"unseen read of {path}", index] = 1

    @property
    def found(self) -> tuple[Unseen, ...]:
        """What was found, each once for each module."""
        return tuple(Unseen(name, module, calls) for (name, module), calls in self.times.items())


_raising: Any = getattr(torch._C, "_set_throw_on_mutable_data_ptr", None)


def guarded(tensors: Iterable[torch.Tensor]) -> None:
    """Let a compiled function that asks a meta tensor for its memory get an exception, and not address zero."""
    if _raising is None:
        return
    for tensor in tensors:
        if tensor.is_meta and not is_lazy(tensor):
            _raising(tensor)


def _leaves(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in arguments or a result."""
    if isinstance(value, torch.Tensor):
        if type(value) not in TENSORS and is_jagged(type(value)):
            # A wrapper has no memory of its own.
            value = value._values
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            if type(item) in TENSORS:
                yield item
            elif type(item) not in _PLAIN:
                yield from _leaves(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            if type(item) not in _PLAIN:
                yield from _leaves(item)


def _constants(module: nn.Module) -> Iterator[torch.Tensor]:
    """The tensors that stand in the code of a scripted module."""
    if not isinstance(module, torch.jit.ScriptModule):
        return
    try:
        graph = module.inlined_graph
    except Exception:  # it has no forward
        return
    # Its nodes live as long as the graph does.
    blocks: list[Any] = [graph]
    while blocks:
        for node in blocks.pop().nodes():
            blocks += node.blocks()
            if node.hasAttribute("value") and node.kindOf("value") == "t":
                yield node.t("value")


def _everywhere() -> list[torch.Tensor]:
    """All tensors that Python knows of: constants of modules, closures and objects."""
    import gc

    kinds: set[type] = set()
    waiting: list[type] = [torch.Tensor]
    while waiting:
        kind = waiting.pop()
        if kind not in kinds:
            kinds.add(kind)
            waiting += type.__subclasses__(kind)
    # There may be millions of objects. Each refers to its class, and to look for those that do takes Python a quarter
    # of the time that it takes to list them all.
    return [thing for thing in gc.get_referrers(*kinds) if type(thing) in kinds]


def is_fake(tensor: torch.Tensor) -> bool:
    """Whether it has no values although it says that it lies on a device that has."""
    fakes: Any = sys.modules.get("torch._subclasses.fake_tensor")
    return fakes is not None and isinstance(tensor, fakes.FakeTensor)


def _is_copy() -> bool:
    """Whether ``copy.copy`` makes a tensor on meta, for which torch allocates another one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("convstat."):
        frame = frame.f_back
    if frame is None or frame.f_code.co_name != "_rebuild_meta_tensor_no_storage":
        return False
    return frame.f_back is not None and frame.f_back.f_globals.get("__name__") == "copy"


_BETWEEN = frozenset(
    {"torch", "convstat", "contextlib", "threading", "concurrent", "pickle", "copy", "copyreg", "numpy"}
)
_INNER = re.compile(r"\.<\w+>")


def _where() -> str:
    """The function that runs now, in words: the innermost one that is neither torch's nor ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in _BETWEEN:
            name = _INNER.sub("", frame.f_code.co_qualname)
            return f" in {module}.{name}"
        frame = frame.f_back
    return ""
