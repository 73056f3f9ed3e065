"""Record the operators of a forward pass as ``torch.jit.trace`` does; what they are for is in :mod:`.graph`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from convstat.counters.base import PredictedFailure
from convstat.counters.capture import first_line, running
from convstat.counters.inputs import by_position
from convstat.counters.jit.graph import JitTrace, OperatorCall, Recorded, recorded_once
from convstat.counters.jit.kernels import Gathered, Kernels
from convstat.counters.jit.sizes import TracedInt, as_tensor, is_instance, traced
from convstat.counters.jit.values import (
    NO_DEPENDENCE,
    UNRECORDED,
    as_tensors,
    holds_tensor,
    name_of,
    outputs_of,
    plain,
    storage_of,
)
from convstat.patches.compiler import compiler_off
from convstat.patches.room import alone
from convstat.patches.threads import followed
from convstat.patches.tracing import (
    applying_functions,
    calling,
    forking,
    is_instance_in_models,
    taking_for_tensors,
    told_to_trace,
    without_overrides,
)
from convstat.trace import Trace, Value
from convstat.trace.describe import ModuleTable

if TYPE_CHECKING:
    import torch

_MARK = "_convstat_made_by"
_FROM_OUTSIDE = -1
_OUTSIDE = 0


@alone
def record(model: nn.Module, inputs: tuple[Any, ...], *, hooked: bool, tensors_only: bool) -> Recorded:
    """The operators of one forward pass; raises PredictedFailure where it cannot be traced."""
    try:
        passed = by_position(model, inputs)
        return _record(model, as_tensors(tuple(passed)), hooked=hooked, tensors_only=tensors_only)
    except PredictedFailure:
        raise
    except Exception as error:
        raise PredictedFailure(first_line(error)) from error


def _record(model: nn.Module, inputs: tuple[Any, ...], *, hooked: bool, tensors_only: bool) -> Recorded:
    with ExitStack() as stack:
        stack.enter_context(running(model))
        stack.enter_context(compiler_off())
        recorder = _Recorder(model, inputs)
        stack.callback(recorder.clean)
        if hooked:
            for module in model.modules():
                module.register_forward_pre_hook(_no_hook)
                module.register_forward_hook(_no_hook)
        with recorder.tracing():
            output = model(*inputs)
        return recorder.finish(output, tensors_only=tensors_only)


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` made a module."""
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


def _no_hook(*_: object) -> None:
    pass


_Call = tuple[str, tuple[Value, ...], dict[str, Value], Value, str]


class _Node:
    """An operator, the nodes that it reads, the storages that it writes to or makes, and what its kernels multiply."""

    __slots__ = ("call", "made", "of_sizes", "products", "reads", "side_effect", "writes")

    def __init__(self, call: _Call | None, reads: tuple[int, ...], *, of_sizes: bool = False) -> None:
        self.call = call
        self.reads = reads
        self.of_sizes = of_sizes
        self.side_effect = False
        self.products: Gathered = {}
        self.writes: set[int] = set()
        self.made: set[int] = set()


_WHOLE = ("floor", "ceil", "round", "trunc")
"""What makes whole numbers of sizes."""


def _is_number(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 0


def _is_whole(value: torch.Tensor) -> bool:
    return value.dtype == torch.int64


_NO_TENSOR = (
    "RuntimeError: Only tensors or (possibly nested) dict or tuples of tensors can be inputs to traced functions."
)


class _Inside(TorchFunctionMode):
    """Watches what a function with a backward pass of its own calls, for what torch.jit.trace cannot do there."""

    def __init__(self, recorder: _Recorder, given: set[int]) -> None:
        super().__init__()
        self.recorder = recorder
        self.given = given

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor) and id(leaf) not in self.given and self.recorder.has(leaf):
                raise PredictedFailure("RuntimeError: unordered_map::at")
        with torch._C.DisableTorchFunction():
            return func(*args, **kwargs)


class _Noting(TorchFunctionMode):
    """Notes what a function that is not looked into reads of the graph, also what it did not get as an argument."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.nodes: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.nodes += self.recorder.made_by(tree_leaves((args, kwargs)))
        with torch._C.DisableTorchFunction():
            return func(*args, **kwargs)


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        super().__init__()
        self.table = ModuleTable(model)
        self.inside: list[str] = []
        self.nodes: list[_Node] = []
        self.groups = _OUTSIDE
        self.in_kernel = False
        self.kernels = Kernels(lambda: self.inside[-1] if self.inside else "")
        self.threads: Gathered = {}
        self.others = Lock()
        self.apart: dict[int, list[str]] = {}
        state = list(model.state_dict(keep_vars=True).values())
        for value in state:
            if not isinstance(value, torch.Tensor):
                raise PredictedFailure(f"{_NO_TENSOR} Got {type(value).__name__}")
        self.known = {id(tensor): tensor for tensor in (*state, *tree_leaves(inputs))}
        self.made: dict[int, tuple[int, Any]] = {}
        self.passed: dict[int, torch.Tensor] = {}
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
        if self.passed and (passed := self.passed.get(storage_of(tensor))) is not None:
            return self._origin(passed)
        return _FROM_OUTSIDE, _OUTSIDE

    def has(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is part of the graph: given to it, or made in it."""
        return id(tensor) in self.known or self._origin(tensor)[0] != _FROM_OUTSIDE

    def made_by(self, values: list[Any]) -> list[int]:
        """The nodes that made some values, as far as there are any."""
        found = [value.node for value in values if type(value) is TracedInt]
        found += [self._origin(value)[0] for value in values if isinstance(value, torch.Tensor)]
        return [node for node in found if node != _FROM_OUTSIDE]

    def _read(self, tensor: torch.Tensor) -> int:
        node, _ = self._origin(tensor)
        if node == _FROM_OUTSIDE and tensor.requires_grad and id(tensor) not in self.known:
            source = self.made.get(storage_of(tensor))
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
        call = (op, tuple([plain(value) for value in args]), {k: plain(v) for k, v in kwargs.items()})
        tensors, reads = before
        of_sizes = any(read >= 0 and self.nodes[read].of_sizes for read in reads)
        node = _Node((*call, plain(result), layer), tuple(reads), of_sizes=of_sizes and _is_number(result))
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
        if from_nothing and (key := storage_of(tensor)):
            # A parameter that is made of it is another object with the same storage.
            self.made[key] = place, tensor

    # What is called.

    @contextmanager
    def _running(self) -> Iterator[Gathered]:
        """Run an operator, and gather what its kernels multiply."""
        inner, self.in_kernel = self.in_kernel, True
        multiplied: Gathered = {}
        self.kernels.open.append(multiplied)
        try:
            yield multiplied
        finally:
            self.kernels.open.pop()
            self.in_kernel = inner

    def _outside(self, multiplied: Gathered) -> None:
        """What was called is no operator: its kernels are those of what is around it."""
        into = self.kernels.open[-1]
        for layer, amount in multiplied.items():
            into[layer] = into.get(layer, 0) + amount

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = self._reads((args, kwargs))
        with self._running() as multiplied:
            result = func(*args, **kwargs)
        op = name_of(func)
        if op in ("shape", "size", "numel"):
            return self._sizes(op, result, before)
        if op in UNRECORDED or (op != "__setitem__" and not holds_tensor(result)):
            self._outside(multiplied)
            return result
        place = self._add(op, args, kwargs, result, before)
        self.nodes[place].products = multiplied
        if op == "lstm_cell":
            # Of the operators that it is taken apart into, one is for the hidden state alone.
            self._add("lstm_cell_output", args, kwargs, result[0], ([], [place]))
        if self.nodes[place].of_sizes and (op in _WHOLE or _is_whole(result)):
            # Torch takes a list of tensors for a list of sizes where it is traced, and only there.
            return traced(int(result), place, self)
        return result

    def _sizes(self, op: str, result: Any, before: tuple[list[torch.Tensor], list[int]]) -> Any:
        place = len(self.nodes)
        self.nodes.append(_Node(None, tuple(before[1]), of_sizes=True))
        if isinstance(result, torch.Size):
            return torch.Size([traced(size, place, self) for size in result])
        return traced(result, place, self)

    def of_sizes(self, op: str, operands: tuple[Any, ...], result: int) -> Any:
        """Enter an operator on sizes."""
        place = len(self.nodes)
        layer = self.inside[-1] if self.inside else ""
        reads = tuple([value.node for value in operands if type(value) is TracedInt])
        values = tuple([plain(value) for value in operands])
        self.nodes.append(_Node((op, values, {}, result, layer), reads, of_sizes=True))
        return traced(result, place, self)

    def _apply(self, forward: Any, context: tuple[Any, ...], args: tuple[Any, ...]) -> Any:
        """A function with a backward pass of its own is one node, whatever it calls."""
        with torch._C.DisableTorchFunction():
            before = self._reads(args)
        with self._running() as multiplied, _Inside(self, {id(tensor) for tensor in before[0]}):
            result = forward(*context, *args)
        with torch._C.DisableTorchFunction():
            place = self._add("PythonOp", args, {}, result, before)
            # What it returns as it was given is handed on as a view, which is made when this has returned.
            results = {id(tensor) for tensor in tree_leaves(result)}
            self.passed.update((storage_of(tensor), tensor) for tensor in before[0] if id(tensor) in results)
        self.nodes[place].side_effect, self.nodes[place].products = True, multiplied
        return result

    def _fork(self, original: Any) -> Any:
        """What is forked is a graph of its own."""

        def fork(function: Any, *args: Any, **kwargs: Any) -> Any:
            with torch._C.DisableTorchFunction():
                tensors, nodes = self._reads((args, kwargs))
            with self._running() as multiplied, _Noting(self) as noting:
                future = original(function, *args, **kwargs)
                result = future.wait()
            with torch._C.DisableTorchFunction():
                place = self._add("fork", args, kwargs, result, (tensors, [*nodes, *noting.nodes]))
            self.nodes[place].products = multiplied
            return future

        return fork

    def _script(self, original: Any) -> Any:
        """A scripted function is one node too."""

        def call(script: Any, *args: Any, **kwargs: Any) -> Any:
            with torch._C.DisableTorchFunction():
                before = self._reads((args, kwargs))
                with self._running() as multiplied:
                    result = original(script, *args, **kwargs)
                place = self._add("CallFunction", args, kwargs, result, before)
            self.nodes[place].side_effect, self.nodes[place].products = True, multiplied
            return result

        return call

    def _call(self, original: Any) -> Any:
        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            if isinstance(module, torch.jit.ScriptModule):
                raise PredictedFailure("RuntimeError: Tried to trace a scripted module that is not part of the trace")
            if is_compiled(module):
                raise PredictedFailure(
                    "RuntimeError: Detected that you are using FX to torch.jit.trace a dynamo-optimized function."
                    " This is not supported at the moment."
                )
            self.inside.append(self._layer(module, self.inside))
            try:
                return original(module, *args, **kwargs)
            finally:
                self.inside.pop()

        return call

    def _layer(self, module: nn.Module, inside: list[str]) -> str:
        place = self.table.places.get(id(module))
        paths = self.table.paths[place] if place is not None else ()
        return paths[0] if paths else inside[-1] if inside else ""

    def _call_apart(self, original: Any) -> Any:
        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            inside = self.apart.get(get_ident())
            if inside is None:
                return original(module, *args, **kwargs)
            inside.append(self._layer(module, inside))
            try:
                return original(module, *args, **kwargs)
            finally:
                inside.pop()

        return call

    def _adopt(self) -> AbstractContextManager[None]:
        """Called where a thread is started. The graph belongs to a thread: of what another does, it has results alone.

        What its kernels multiply belongs to the layer that starts it, and to those that it calls.
        """
        around = self.apart.get(get_ident(), self.inside)[-1:]

        @contextmanager
        def entered() -> Iterator[None]:
            # A thread of a pool may do one thing after the other, and one of its own inside of another.
            before, inside = self.apart.get(get_ident()), list(around)
            self.apart[get_ident()] = inside
            kernels = Kernels(lambda: inside[-1] if inside else "")
            try:
                with kernels:
                    yield
            finally:
                with self.others:
                    for layer, amount in kernels.open[0].items():
                        self.threads[layer] = self.threads.get(layer, 0) + amount
                if before is None:
                    del self.apart[get_ident()]
                else:
                    self.apart[get_ident()] = before

        return entered()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Record whatever is called, which is told that it is traced."""
        with (
            told_to_trace(self, lambda: self.in_kernel),
            without_overrides(),
            calling(nn.Module, self._call, self._call_apart),
            calling(torch.jit.ScriptFunction, self._script),
            applying_functions(self._apply),
            forking(self._fork),
            is_instance_in_models(is_instance),
            taking_for_tensors(as_tensor),
            followed(self._adopt),
            self.kernels,
            self,
        ):
            yield

    def clean(self) -> None:
        """Take the marks off what is not ours, and let go of the model: a size may live on in somebody's cache."""
        for tensor in self.marked:
            vars(tensor).pop(_MARK, None)
        for held in (self.nodes, self.known, self.made, self.passed, self.marked, self.table.modules):
            held.clear()

    # What the outputs depend on.

    def finish(self, output: Any, *, tensors_only: bool) -> Recorded:
        """The operators, each with whether an output depends on it, and the kernels outside of them."""
        live: set[int] = set()
        groups: set[int] = set()
        for value in outputs_of(output, tensors_only=tensors_only):
            if isinstance(value, TracedInt):
                live.add(value.node)
                continue
            place, group = self._origin(value)
            if place == _FROM_OUTSIDE and id(value) not in self.known:
                raise PredictedFailure(NO_DEPENDENCE)
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
        operators = tuple(
            OperatorCall(*node.call, place in live, node.of_sizes, node.products)
            for place, node in enumerate(self.nodes)
            if node.call is not None
        )
        return Recorded(operators, self.threads, self.kernels.open[0], tuple(sorted(self.kernels.fused)))


def retrace(
    model: torch.nn.Module, inputs: tuple[Any, ...], trace: Trace, *, hooked: bool, tensors_only: bool
) -> JitTrace:
    """Run the model once more, and add its operators to the trace.

    ``hooked`` says whether there are hooks on the modules: torch's transformer layers choose kernels by them.
    With ``tensors_only``, outputs that are no tensors are left out; else they end ``torch.jit.trace``.
    """
    key = id(trace.root), hooked, tensors_only
    recorded = recorded_once(key, lambda: record(model, inputs, hooked=hooked, tensors_only=tensors_only))
    return trace.extended(JitTrace, recorded=recorded)
