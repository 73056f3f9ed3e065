"""Record the operators of a forward pass as ``torch.jit.trace`` does; what they are for is in :mod:`.jit_graph`."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from convstat.counters.base import PredictedFailure
from convstat.counters.capture import first_line, replaced, running
from convstat.counters.jit_graph import OperatorCall
from convstat.trace import ListInfo, Value
from convstat.trace.describe import ModuleTable, describe
from convstat.trace.record import compiler_off

_MARK = "_convstat_made_by"
_FROM_OUTSIDE = -1
_OUTSIDE = 0

_NAMES = {
    # As the graph is normalised: operators that have several names get the first one.
    "multiply": "mul",
    "multiply_": "mul_",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__imul__": "mul_",
    "__matmul__": "matmul",
    "__rmatmul__": "matmul",
    "linalg_matmul": "matmul",
}


def record(model: nn.Module, inputs: tuple[Any, ...], *, hooked: bool, tensors_only: bool) -> tuple[OperatorCall, ...]:
    """The operators of one forward pass; raises PredictedFailure where it cannot be traced."""
    model = getattr(model, "_orig_mod", model)
    if getattr(inputs, "keywords", None):
        raise PredictedFailure("it passes inputs by position, and this model takes some by name only")
    given = _as_tensors(tuple(inputs))
    recorder = _Recorder(model, given)
    with ExitStack() as stack:
        stack.enter_context(running(model))
        stack.enter_context(compiler_off())
        if hooked:
            for module in model.modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue
                module.register_forward_hook(_no_hook)
        stack.callback(recorder.clean)
        try:
            with recorder.tracing():
                output = model(*given)
        except PredictedFailure:
            raise
        except Exception as error:
            raise PredictedFailure(first_line(error)) from error
        return recorder.finish(output, tensors_only=tensors_only)


def _no_hook(module: nn.Module, args: object, output: object) -> None:
    pass


def _as_tensors(value: Any) -> Any:
    """Numbers go in as tensors; besides, there may be tuples, lists, dicts, words and nothing."""
    if isinstance(value, (bool, int, float)):
        return torch.tensor(value, device="cpu")
    if isinstance(value, tuple):
        return tuple([_as_tensors(item) for item in value])
    if isinstance(value, list):
        return [_as_tensors(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_tensors(item) for key, item in value.items()}
    if value is None or isinstance(value, (torch.Tensor, str)):
        return value
    raise PredictedFailure(f"RuntimeError: {_UNSUPPORTED} an input of unsupported type: {type(value).__name__}")


_UNSUPPORTED = (
    "Only tuples, lists and Variables are supported as JIT inputs/outputs. Dictionaries and strings are also accepted,"
    " but their usage is not recommended. Here, received"
)


class TracedInt(int):
    """A size of a tensor, or what was computed of sizes: an int that remembers the node that made it."""

    node: int
    recorder: _Recorder

    def __getattr__(self, name: str) -> Any:
        # In the graph it is a tensor, and some functions use it as one.
        if name.startswith("__") or not hasattr(torch.Tensor, name):
            raise AttributeError(name)
        with torch._C.DisableTorchFunction():
            tensor = torch.tensor(int(self), device="cpu")
        self.recorder.mark(tensor, self.node)
        return getattr(tensor, name)


def _arithmetic(name: str, op: str) -> Callable[..., Any]:
    plain = getattr(int, name)

    def compute(self: TracedInt, *others: Any) -> Any:
        result = plain(self, *others)
        if type(result) is not int:
            return result
        return self.recorder.of_sizes(op, (self, *others), result)

    return compute


for _name, _op in {"mul": "mul", "add": "add", "sub": "sub", "floordiv": "floor_divide", "mod": "remainder"}.items():
    setattr(TracedInt, f"__{_name}__", _arithmetic(f"__{_name}__", _op))
    setattr(TracedInt, f"__r{_name}__", _arithmetic(f"__r{_name}__", _op))
TracedInt.__neg__ = _arithmetic("__neg__", "neg")  # type: ignore[method-assign]
TracedInt.__pow__ = _arithmetic("__pow__", "pow")  # type: ignore[method-assign]


class _Node:
    """An operator, the nodes that it reads, and the storages that it writes to or makes."""

    __slots__ = ("call", "made", "reads", "side_effect", "writes")

    def __init__(self, call: tuple[Any, ...] | None, reads: tuple[int, ...], side_effect: bool = False) -> None:
        self.call = call
        self.reads = reads
        self.writes: set[int] = set()
        self.made: set[int] = set()
        self.side_effect = side_effect


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        super().__init__()
        self.table = ModuleTable(model)
        self.inside: list[str] = []
        self.nodes: list[_Node] = []
        self.groups = _OUTSIDE
        self.in_kernel = False
        state = {**dict(model.state_dict(keep_vars=True)), **dict(model.named_parameters())}
        self.known = {id(tensor): tensor for tensor in (*state.values(), *tree_leaves(inputs))}
        self.made: dict[int, tuple[int, Any]] = {}
        self.marked: list[torch.Tensor] = []

    # Where values come from.

    def mark(self, tensor: torch.Tensor, node: int, group: int | None = None) -> None:
        """Remember on a tensor which node made it, and which storage it stands for."""
        if group is None:
            self.groups += 1
            group = self.groups
        vars(tensor)[_MARK] = (self, node, group)
        if id(tensor) in self.known:
            self.marked.append(tensor)

    def _origin(self, tensor: torch.Tensor) -> tuple[int, int]:
        """The node that made a tensor, and the group of those that share its storage."""
        entry = vars(tensor).get(_MARK)
        if entry is not None and entry[0] is self:
            return entry[1], entry[2]
        return _FROM_OUTSIDE, _OUTSIDE

    def _read(self, tensor: torch.Tensor) -> int:
        node, _ = self._origin(tensor)
        if node == _FROM_OUTSIDE and tensor.requires_grad and id(tensor) not in self.known:
            source = self.made.get(_storage(tensor))
            if source is None:
                raise PredictedFailure(
                    "RuntimeError: Cannot insert a Tensor that requires grad as a constant. "
                    "Consider making it a parameter or input, or detaching the gradient"
                )
            return source[0]
        return node

    def _reads(self, values: Any) -> tuple[list[torch.Tensor], list[int]]:
        tensors: list[torch.Tensor] = []
        nodes: list[int] = []
        stack = [values]
        while stack:
            value = stack.pop()
            if isinstance(value, torch.Tensor):
                tensors.append(value)
                nodes.append(self._read(value))
            elif type(value) is TracedInt:
                nodes.append(value.node)
            elif isinstance(value, (tuple, list)):
                stack.extend(value)
            elif isinstance(value, dict):
                stack.extend(value.values())
            elif isinstance(value, slice):
                stack.extend((value.start, value.stop, value.step))
        return tensors, nodes

    def _add(self, op: str, args: Any, kwargs: Any, result: Any, before: tuple[list[torch.Tensor], list[int]]) -> int:
        layer = self.inside[-1] if self.inside else ""
        call = (op, tuple([_plain(value) for value in args]), {k: _plain(v) for k, v in kwargs.items()})
        tensors, reads = before
        node = _Node((*call, _plain(result), layer), tuple(reads))
        place = len(self.nodes)
        self.nodes.append(node)
        written = [kwargs["out"]] if kwargs.get("out") is not None else []
        if op == "__setitem__" or (op.endswith("_") and not op.endswith("__")):
            written.append(args[0])
        for tensor in tree_leaves(written):
            if isinstance(tensor, torch.Tensor):
                _, group = self._origin(tensor)
                node.writes.add(group)
                node.made.add(group)
                self.mark(tensor, place, group)
        for tensor in tree_leaves(result) if not isinstance(result, torch.Tensor) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._enter(tensor, place, node, from_nothing=not tensors)
        return place

    def _enter(self, tensor: torch.Tensor, place: int, node: _Node, *, from_nothing: bool) -> None:
        base = tensor._base if tensor._is_view() else None
        if base is not None:
            entry = vars(base).get(_MARK)
            if entry is not None and entry[0] is self:
                group = entry[2]
            elif id(base) in self.known:
                group = _OUTSIDE
            else:
                self.mark(base, place)
                group = self._origin(base)[1]
        else:
            entry = vars(tensor).get(_MARK)
            known = id(tensor) in self.known
            group = entry[2] if entry is not None and entry[0] is self else _OUTSIDE if known else None
        self.mark(tensor, place, group)
        node.made.add(self._origin(tensor)[1])
        if from_nothing and (key := _storage(tensor)):
            # A parameter that is made of it is another object with the same storage.
            self.made[key] = place, tensor

    # What is called.

    def __torch_function__(self, func: Any, types_: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = self._reads((args, kwargs))
        inner, self.in_kernel = self.in_kernel, True
        try:
            result = func(*args, **kwargs)
        finally:
            self.in_kernel = inner
        op = _name(func)
        if op in ("shape", "size", "numel"):
            return self._sizes(op, result, before)
        if op in _UNRECORDED or (op != "__setitem__" and not _holds_tensor(result)):
            return result
        self._add(op, args, kwargs, result, before)
        return result

    def _sizes(self, op: str, result: Any, before: tuple[list[torch.Tensor], list[int]]) -> Any:
        place = len(self.nodes)
        self.nodes.append(_Node(None, tuple(before[1])))
        if isinstance(result, torch.Size):
            return torch.Size([self._traced(size, place) for size in result])
        return self._traced(result, place)

    def _traced(self, value: Any, place: int) -> Any:
        if type(value) is not int:
            return value
        traced = TracedInt(value)
        traced.node, traced.recorder = place, self
        return traced

    def of_sizes(self, op: str, operands: tuple[Any, ...], result: int) -> Any:
        """Enter an operator on sizes."""
        place = len(self.nodes)
        layer = self.inside[-1] if self.inside else ""
        reads = tuple([value.node for value in operands if type(value) is TracedInt])
        values = tuple([_plain(value) for value in operands])
        self.nodes.append(_Node((op, values, {}, result, layer), reads))
        return self._traced(result, place)

    def _function(self, original: Any) -> Any:
        """Functions with a backward pass of their own are one node, whatever they call."""

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            with torch._C.DisableTorchFunction():
                before = self._reads((args, kwargs))
                inner, self.in_kernel = self.in_kernel, True
                try:
                    result = original.__get__(None, cls)(*args, **kwargs)
                finally:
                    self.in_kernel = inner
                place = self._add("PythonOp", args, kwargs, result, before)
            self.nodes[place].side_effect = True
            return result

        return classmethod(apply)

    def _call(self, original: Any) -> Any:
        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            if isinstance(module, torch.jit.ScriptModule):
                raise PredictedFailure(
                    "RuntimeError: Tried to trace a scripted module but it is not part of the active trace."
                )
            place = self.table.places.get(id(module))
            paths = self.table.paths[place] if place is not None else ()
            self.inside.append(paths[0] if paths else self.inside[-1] if self.inside else "")
            try:
                return original(module, *args, **kwargs)
            finally:
                self.inside.pop()

        return call

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Record whatever is called, which is told that it is traced."""
        tracing_state = torch._C._get_tracing_state
        is_tracing = torch._C._is_tracing
        with ExitStack() as stack:
            stack.enter_context(
                replaced(
                    torch._C,
                    _get_tracing_state=lambda: tracing_state() if self.in_kernel else self,
                    _is_tracing=lambda: is_tracing() if self.in_kernel else True,
                )
            )
            for module in ("torch", "torch.nn.functional", "torch.functional", "torch._tensor", "torch.nn.init"):
                _without_overrides(stack, sys.modules[module])
            _without_overrides(stack, torch.overrides)
            stack.enter_context(_attribute(nn.Module, "__call__", self._call(vars(nn.Module)["__call__"])))
            function: Any = torch.autograd.Function
            stack.enter_context(_attribute(function, "apply", self._function(vars(function)["apply"])))
            stack.enter_context(self)
            yield

    def clean(self) -> None:
        """Take the marks off what is not ours."""
        for tensor in self.marked:
            vars(tensor).pop(_MARK, None)

    # What the outputs depend on.

    def finish(self, output: Any, *, tensors_only: bool) -> tuple[OperatorCall, ...]:
        """The operators, each with whether an output depends on it."""
        live: set[int] = set()
        groups: set[int] = set()
        for value in _outputs(output, tensors_only=tensors_only):
            if isinstance(value, TracedInt):
                live.add(value.node)
                continue
            place, group = self._origin(value)
            if place == _FROM_OUTSIDE and id(value) not in self.known:
                raise PredictedFailure(_NO_DEPENDENCE)
            live.add(place)
            groups.add(group)
        # Backwards, once: what is read later, or shares its storage with that.
        for place in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[place]
            if place in live or node.side_effect or node.writes & groups:
                live.add(place)
                live.update(node.reads)
                groups |= node.made
                for read in node.reads:
                    groups |= self.nodes[read].made if read >= 0 else {_OUTSIDE}
        return tuple(
            OperatorCall(*node.call, used=place in live, of_sizes=type(node.call[3]) is int)
            for place, node in enumerate(self.nodes)
            if node.call is not None
        )


_NO_DEPENDENCE = (
    "RuntimeError: an output of traced region did not have observable data dependence with trace inputs; "
    "this probably indicates your program cannot be understood by the tracer."
)

_UNRECORDED = frozenset({"data", "grad", "_base", "requires_grad_", "is_contiguous", "__len__", "_fix_weakref"})
"""What gives a tensor that the graph takes for a constant, or none."""


def _name(func: Any) -> str:
    """The name of an operator, of a method, or of an attribute that is read."""
    if isinstance(func, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        packet = func.overloadpacket if isinstance(func, torch._ops.OpOverload) else func
        namespace, _, name = str(packet._qualified_op_name).partition("::")
        return _NAMES.get(name, name) if namespace == "aten" else f"{namespace}::{name}"
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        name = str(getattr(func.__self__, "__name__", name))
    return _NAMES.get(name, name)


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (
        isinstance(value, (tuple, list)) and any(isinstance(item, torch.Tensor) for item in tree_leaves(value))
    )


def _plain(value: Any) -> Value:
    """What is remembered of a value; of traced sizes, the size."""
    if isinstance(value, torch.Tensor):
        return describe(value)
    if type(value) is TracedInt:
        return int(value)
    if isinstance(value, tuple):
        return tuple([_plain(item) for item in value])
    if isinstance(value, list):
        return ListInfo(tuple([_plain(item) for item in value]))
    return describe(value)


def _storage(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return 0


def _outputs(value: Any, *, tensors_only: bool) -> list[Any]:
    """The tensors among the outputs, in tuples, lists and dicts; what else there is, torch.jit.trace refuses."""
    found: list[Any] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, (torch.Tensor, TracedInt)):
            found.append(item)
        elif isinstance(item, (tuple, list)):
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif tensors_only or item is None or isinstance(item, str):
            continue
        elif isinstance(item, (bool, int, float)):
            # It becomes a tensor that comes from nowhere.
            raise PredictedFailure(_NO_DEPENDENCE)
        else:
            raise PredictedFailure(f"RuntimeError: {_UNSUPPORTED} an input of unsupported type: {type(item).__name__}")
    return found


def _without_overrides(stack: ExitStack, module: types.ModuleType) -> None:
    """Let Python functions of torch run, and not be handed to the mode: it would call them again without end."""
    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    stack.enter_context(replaced(module, **{name: _never for name in names if name in vars(module)}))


def _never(*_: object) -> bool:
    return False


@contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute of a class another value for a while; one that is inherited is deleted afterwards."""
    inherited = name not in vars(owner)
    before = None if inherited else vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
