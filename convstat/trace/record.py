"""Record the call tree of one forward pass.

Three watchers work together:
``nn.Module.__call__`` is replaced, which brackets module calls;
spies stand on the functions that peers patch (:mod:`convstat.patches.functions`);
a ``TorchDispatchMode`` sees the kernels.
A function that is called while a kernel runs becomes the kernel's child:
on the meta device kernels are Python and call ``torch.mm`` and friends themselves, which no peer should count.

``TorchFunctionMode`` would not do: it cannot see the calls that are nested in Python functions of
``torch.nn.functional`` without recursing for ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import CoroutineType, GeneratorType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack

from convstat.patches.compiler import compiler_not_loaded, compiler_off, scripts_as_written
from convstat.patches.dispatch import Watching
from convstat.patches.doors import key_of, watching_doors
from convstat.patches.functions import spying
from convstat.patches.hooks import seemingly_hooked
from convstat.patches.modes import borrowed_modes
from convstat.patches.preserve import preserved
from convstat.patches.quiet import unwarned
from convstat.patches.room import alone, ours, patch, replaced, undone
from convstat.patches.surroundings import deeper_calls
from convstat.patches.threads import followed
from convstat.patches.torch_states import modes_left
from convstat.trace.bounds import MAX_CALLS, Count
from convstat.trace.calls import (
    HIGHER_ORDER,
    Call,
    FunctionCall,
    KernelCall,
    Lookup,
    ModuleCall,
    TensorInfo,
    Trace,
    Value,
)
from convstat.trace.complex_numbers import is_back, third
from convstat.trace.describe import ModuleTable, describe, leaves
from convstat.trace.foreign import foreign
from convstat.trace.functions import FunctionRule, intercepting
from convstat.trace.state import state_of
from convstat.trace.unseen import Watch, is_fake, way_of
from convstat.trace.walks import EVAL, why_endless


@alone
def record(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    hooked: Iterable[nn.Module] | None = None,
    train: bool = False,
    into: tuple[str, ...] | None = None,
) -> Trace:
    """Run the model once, in eval mode with grad enabled, and return the tree of its calls.

    With ``train`` it runs in train mode, and a backward pass follows, from ones at every output that has a gradient;
    its kernels stand in the tree as the root's last children, each with the module whose forward kernel it goes back
    through. What a checkpoint runs again for it stands there too, as calls of modules.

    Grad is on because peers leave it on: without it, attention takes a fused kernel that they do not price.
    ``hooked`` are the modules that carry a forward hook during the run, as they do under the peer that is to be
    predicted (default: all): torch's transformer layers choose their kernels by whether there are hooks.
    ``into`` are the operators that take functions and run, as they do under that peer (default: all); the others give
    nothing.
    The model and the process are left as found, also when the forward pass raises.
    """
    with foreign(f"{type(model).__qualname__} does not run"):
        return _record(_as_written(model), inputs, dict(kwargs or {}), hooked, train=train, into=into)


def _record(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: dict[str, Any],
    hooked: Iterable[nn.Module] | None,
    *,
    train: bool,
    into: tuple[str, ...] | None,
) -> Trace:
    table = ModuleTable(model)
    tensors = [leaf for leaf in (*leaves((inputs, kwargs)), *table.tensors) if isinstance(leaf, torch.Tensor)]
    is_real = bool(tensors) and not any(tensor.device.type == "meta" or is_fake(tensor) for tensor in tensors)
    recorder = _Recorder(table, is_real=is_real, into=into)
    watch = recorder.watch
    with ready(model, table.modules if hooked is None else hooked, train=train) as stack:
        recorder.prepare(model, (inputs, kwargs), train=train)
        if recorder.runs_script:
            # From the second run on, an optimizer would rearrange the kernels.
            stack.enter_context(scripts_as_written())
        stack.callback(watch.end)
        watch.begin(table.modules, (inputs, kwargs))
        stack.enter_context(recorder.watching())
        with modes_left() as kept:
            output = model(*inputs, **kwargs)
        notes = [*kept.notes]
        watch.returns(output)
        (root,) = recorder.main.open[0]
        assert isinstance(root, ModuleCall)
        state = state_of(output, model)
        forward = None
        if train:
            forward = len(root.children)
            recorder.main.open[:], recorder.goes_back = [[]], True
            if not _backward(output, model):
                notes.append(NO_BACKWARD)
            root = replace(root, children=(*root.children, *recorder.main.open[0]))
        if recorder.late:
            root = replace(root, children=(*root.children, *recorder.late))
        watch.unread(table)
        # Opening packed weights, to describe them, runs kernels too.
        recorder.main.hidden += 1
        device = tensors[0].device.type if tensors else "cpu"
        return Trace(
            root,
            table.infos(),
            device,
            notes=tuple(notes),
            uses=recorder.uses(),
            unseen=watch.found,
            returned=recorder.returned,
            forward=forward,
            lookups=recorder.lookups(),
            state=state,
        )


@patch
def aside() -> Iterator[None]:
    """Let no pass that is being recorded see what is done inside: a model may have another one counted in its own."""
    recorders = _recorders()
    if not recorders:
        yield
        return

    def put_back() -> None:
        for recorder in recorders:
            recorder.looks_away = False

    with undone(put_back), _disable_current_modes():
        for recorder in recorders:
            recorder.looks_away = True
        yield


def is_recording() -> bool:
    """Whether this is called in a pass that is being recorded."""
    return bool(_recorders())


def _recorders() -> list[_Recorder]:
    return [mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, _Recorder)]


@alone
def run_again(model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Run the model once as :func:`record` does, and remember nothing."""
    with foreign(f"{type(model).__qualname__} does not run"):
        model = _as_written(model)
        with ready(model, model.modules(), train=False), watching_doors(Watch(lambda: 0, ours, is_real=False)):
            model(*inputs, **kwargs)


@contextmanager
def ready(model: nn.Module, hooked: Iterable[nn.Module], *, train: bool) -> Iterator[ExitStack]:
    """Let a model run as it is to be counted, and leave it and the process as they were."""
    with ExitStack() as stack:
        # What the model warns of is for who runs it, and not for who counts it.
        stack.enter_context(unwarned())
        stack.enter_context(compiler_not_loaded())
        stack.enter_context(preserved(model))
        set_mode(model, train=train)
        stack.enter_context(seemingly_hooked(hooked))
        stack.enter_context(compiler_off())
        # Models nest as deep as they may without us: each of their calls is a few of ours too.
        stack.enter_context(deeper_calls(3))
        stack.enter_context(torch.enable_grad())
        yield stack


def _as_written(model: nn.Module) -> nn.Module:
    return getattr(model, "_orig_mod", model) if _is_compiled(model) else model


def set_mode(model: nn.Module, *, train: bool) -> None:
    """Switch to train or eval mode as the model does it, or flag by flag where that does not work.

    Some override ``train``, some refuse to be changed, and some make it recurse for ever.
    """
    modules = [*model.modules()]
    if not all(map(_is_switched_plainly, modules)) and why_endless(model, (EVAL,)) is None:
        try:
            model.train(train)
        except Exception:
            pass
        else:
            return
    for module in modules:
        vars(module)["training"] = train


def _is_switched_plainly(module: nn.Module) -> bool:
    """Whether to switch a module is to set its flag, and to switch those in it, as torch does it."""
    kind = type(module)
    return (
        kind.train is nn.Module.train
        and kind.children is nn.Module.children
        and kind.__setattr__ is nn.Module.__setattr__
        and not hasattr(kind, "training")
        and not any(name in vars(module) for name in ("train", "children"))
    )


NO_BACKWARD = "no output has a gradient, or no parameter requires one: there is no backward pass to count"
"""What is said of a run in train mode that is a forward pass alone, as under ``inference_mode``."""


def _backward(output: Any, model: nn.Module) -> bool:
    """Run the backward pass to the trainable parameters; False where there is none. Their ``.grad`` stays as it was."""
    ends = [leaf for leaf in leaves(output) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    # A lazy layer that was not called has no parameters as yet.
    starts = [value for value in model.parameters() if value.requires_grad and not nn.parameter.is_lazy(value)]
    if not ends or not starts:
        return False
    ones = [torch.ones_like(end) for end in ends]
    if not _reenters(ends):
        torch.autograd.grad(ends, starts, ones, allow_unused=True)
        return True
    # A checkpoint of the older kind refuses to be asked for some gradients only.
    before = [(parameter, parameter.grad) for parameter in starts]
    try:
        torch.autograd.backward(ends, ones)
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient
    return True


def _reenters(ends: Iterable[torch.Tensor]) -> bool:
    """Whether a checkpoint that starts a backward pass inside the backward pass stands in the graph."""
    nodes: list[Any] = [end.grad_fn for end in ends]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        if node.name() == "CheckpointFunctionBackward":
            return True
        found = [before for before, _ in node.next_functions if before not in seen]
        seen.update(found)
        nodes += found
    return False


def _is_compiled(module: nn.Module) -> bool:
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


_LATER = (GeneratorType, map, filter, zip)
"""What runs nothing before somebody takes what it yields."""


def to_its_end(call: Callable[..., Any], returned: Callable[[], None]) -> Callable[..., Any]:
    """A call of the model, to its end: what a generator or an ``async def`` does after it has ``returned``, too."""

    def run(*args: Any, **kwargs: Any) -> Any:
        result = call(*args, **kwargs)
        if isinstance(result, CoroutineType):
            returned()
            return _awaited(result)
        if isinstance(result, _LATER):
            returned()
            return tuple(result)
        return result

    return run


def _awaited(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    """What comes of an ``async def``; where a loop runs already, one that waits for nothing can be followed."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end:
        return end.value


class _InKernel(list[Call]):
    """The calls that a kernel makes."""


class _Branch:
    """What one thread does: the modules that it is inside of, and the lists of calls that are not complete yet.

    The first list is the thread's own; ``started_in`` are those that were open where it was started.
    ``hidden`` counts the kernels, and the functions that have a rule, that it is inside of; ``apart`` the operators
    that stand for others, and are being taken apart.
    """

    def __init__(self, inside: list[int], started_in: list[list[Call]], *, is_torchs: bool = False) -> None:
        self.hidden = 0
        self.apart = 0
        self.inside = inside
        self.started_in = started_in
        self.is_torchs = is_torchs
        self.open: list[list[Call]] = [[]]

    def place(self) -> list[Call]:
        """The calls of the innermost module or function that is not over; what runs beside is no part of a kernel."""
        calls = self.open[0]
        for calls_inside in tuple(self.open):
            if type(calls_inside) is _InKernel:
                break
            calls = calls_inside
        return calls

    def join(self, parent: _Branch, late: list[Call]) -> None:
        """Put the calls where the thread was started: into the innermost call that is not over yet."""
        still = {id(calls) for calls in parent.open}
        place = next((calls for calls in reversed(self.started_in[1:]) if id(calls) in still), late)
        place += self.open[0]


class _Recorder(Watching):  # type: ignore[no-untyped-call]
    """Builds the tree, a branch for each thread."""

    def __init__(self, table: ModuleTable, *, is_real: bool, into: tuple[str, ...] | None) -> None:
        super().__init__()
        self.into = into
        self.table = table
        self.watch = Watch(self._place, self._is_open, is_real=is_real)
        self.main = _Branch([], [])
        self.holder = threading.get_ident()
        self.branches = threading.local()
        self.late: list[Call] = []
        self.is_over = False
        self.looks_away = False
        self.calls = Count(MAX_CALLS, "the forward pass called more than {} modules")
        self.used: dict[int, int] = {}
        self.scripted: dict[int, int] = {}
        self.runs_script = False
        self.made_in: dict[int, int] | None = None
        self.thirds: dict[int, int] = {}
        self.goes_back = False
        self.unfinished: tuple[Call, ...] = ()
        self.returned: int | None = None
        self.indices: set[int | None] = set()
        self.looked_up: list[tuple[int, torch.Tensor, Value, bool]] = []

    def prepare(self, model: nn.Module, inputs: Any, *, train: bool) -> None:
        """Remember which inputs are whole numbers, whose the parameters of scripted modules are, and for a backward
        pass whose each kernel is.
        """
        self.indices = {key_of(value) for value in leaves(inputs) if _is_index(value)} - {None}
        self.made_in = {} if train else None
        for place, module in enumerate(self.table.modules):
            if isinstance(module, torch.jit.ScriptModule):
                self.runs_script = True
                self.scripted.update((id(value), place) for value in module.parameters(recurse=False))

    @property
    def branch(self) -> _Branch:
        """Where this thread is."""
        found: _Branch | None = getattr(self.branches, "branch", None)
        if found is None:
            found = self.main if threading.get_ident() == self.holder else _Branch([], [], is_torchs=True)
            self.branches.branch = found
        if found.is_torchs and len(found.open) == 1:
            # Torch runs a part of a script, or of the backward pass, in a thread of its own, from where it stands.
            found.open[0], found.inside = self.main.place(), [*self.main.inside]
        return found

    def sees(self) -> bool:
        """Whether what this thread does is a part of the forward pass."""
        return not (self.is_over or self.looks_away) and (ours() or self in _get_current_dispatch_mode_stack())

    def _place(self) -> int:
        """The module that this thread is inside of."""
        inside = self.branch.inside
        return inside[-1] if inside else 0

    def _is_open(self) -> bool:
        """Whether what this thread does is a part of the forward pass, and of no call that has a rule as a whole."""
        return not self.branch.hidden and self.sees()

    def _nested(
        self, branch: _Branch, function: Any, args: Any, kwargs: Any, *, is_kernel: bool = False
    ) -> tuple[Any, tuple[Call, ...]]:
        """Call the function and collect the calls that it makes."""
        branch.open.append(_InKernel() if is_kernel else [])
        try:
            result = function(*args, **kwargs)
            return result, tuple(branch.open[-1])
        except BaseException:
            self.unfinished = tuple(branch.open[-1])
            raise
        finally:
            # Also on an exception: a model may catch it and go on, and what failed did not happen.
            del branch.open[-1]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record for as long as this is entered: calls of modules, of functions that peers patch, and kernels.

        Threads that the forward pass starts are followed; those of others go straight through.
        """
        try:
            with (
                followed(self._branch_off),
                replaced(nn.Module, "__call__", self._call(nn.Module.__call__)),
                spying(self.function, self.sees),
                intercepting(self._ruled, self.table.modules),
                watching_doors(self.watch),
                self,
            ):
                yield
        finally:
            self.is_over = True

    def _call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What a call of a module is meanwhile."""

        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            if not self.sees():
                return original(module, *args, **kwargs)
            self.calls.add()
            branch, index = self.branch, self.table.index(module)
            before = _describe_all(args), _describe_kwargs(kwargs)
            branch.inside.append(index)
            try:
                run = original if branch.inside[:-1] else to_its_end(original, partial(self._returns, branch))
                result, children = self._nested(branch, run, (module, *args), kwargs)
            except BaseException:
                if self.goes_back:
                    # A checkpoint stops running the forward pass again as soon as it has what it needs.
                    branch.open[-1].append(ModuleCall(index, *before, None, self.unfinished))
                raise
            finally:
                branch.inside.pop()
            branch.open[-1].append(ModuleCall(index, *before, describe(result), children))
            return result

        return call

    def _returns(self, branch: _Branch) -> None:
        self.returned = len(branch.open[-1])

    def _branch_off(self) -> AbstractContextManager[None]:
        """Called where a thread is started, and entered in that one: what it does stands where it was started."""
        parent = self.branch
        branch = _Branch([*parent.inside], [*parent.open])
        modes = borrowed_modes(lambda: self.is_over)

        @contextmanager
        def entered() -> Iterator[None]:
            before = getattr(self.branches, "branch", None)
            self.branches.branch = branch
            try:
                with modes:
                    yield
            finally:
                if before is None:
                    del self.branches.branch
                else:
                    self.branches.branch = before
                branch.join(parent, self.late)

        return entered()

    def function(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call of a function that peers patch."""
        branch = self.branch
        if branch.apart:
            # What an operator stands for is written in Python for some, and calls functions that the model does not.
            return function(*args, **kwargs)
        before = _describe_all(args), _describe_kwargs(kwargs)
        result, children = self._nested(branch, function, args, kwargs)
        branch.open[-1].append(FunctionCall(name, *before, describe(result), children))
        return result

    def _ruled(
        self, name: str, function: Any, rule: FunctionRule, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record a call of a function that has a rule; what it does inside is no work of its own."""
        branch = self.branch
        if branch.hidden or not self.sees():
            return function(*args, **kwargs)
        before = _describe_all(args), _describe_kwargs(kwargs)
        branch.hidden += 1
        try:
            result, children = self._nested(branch, rule.output or function, args, kwargs)
        finally:
            branch.hidden -= 1
        self.watch.gives((args, kwargs, result))
        if rule.output is not None:
            children = ()
        branch.open[-1].append(FunctionCall(name, *before, describe(result), children, has_rule=True))
        return result

    def _higher_order(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Record the call of an operator that takes functions, with what these do inside."""
        if self.into is not None and func.name() not in self.into:
            return NotImplemented
        branch = self.branch
        before = _describe_all(args), _describe_kwargs(kwargs)
        result, children = self._nested(branch, super()._higher_order, (func, args, kwargs), {})
        branch.open[-1].append(FunctionCall(f"{HIGHER_ORDER}{func.name()}", *before, describe(result), children))
        return result

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        op, overload, is_composite = operator(func)
        if is_composite and not any(isinstance(value, torch.Tensor) and value.is_nested for value in args):
            # Under inference_mode the dispatcher does not take an operator apart that only stands for others.
            # Nested tensors have kernels of their own for it.
            branch = self.branch
            branch.apart += 1
            try:
                with self:
                    result = func.decompose(*args, **(kwargs or {}))
            finally:
                branch.apart -= 1
            if result is not NotImplemented:
                return result
        branch = self.branch
        before = _describe_all(args), _describe_kwargs(kwargs or {})
        owner, part = None, third(op, branch.open[-1])
        if branch.inside:
            inside = branch.inside[-1]
            for value in args:
                if type(value) is nn.Parameter:
                    self.used.setdefault(id(value), inside)
                    if self.runs_script and owner is None:
                        owner = self.scripted.get(id(value))
            if self.made_in is not None:
                # The node of the graph that will go back through this kernel was made a moment ago.
                node = _sequence_number() - 1
                self.made_in.setdefault(node, inside if owner is None else owner)
                if part:
                    self.thirds[node] = part
        elif self.goes_back:
            owner = self._went_forward_in()
            part = self._third() if is_back(op) else 0
        if op == "aten.embedding" and not self.goes_back and branch.inside:
            is_input = key_of(args[1]) in self.indices
            self.looked_up.append((branch.inside[-1], args[0], before[0][1], is_input))
        watch, way = self.watch, way_of(func, op)
        watch.reads(op, way, args, kwargs)
        branch.hidden += 1
        try:
            result, children = self._nested(branch, super().kernel, (func, args, kwargs), {}, is_kernel=True)
        finally:
            branch.hidden -= 1
        watch.writes(op, way, args, kwargs, result)
        goes_back = self.goes_back and not branch.inside
        aside = branch is not self.main and not branch.is_torchs
        branch.open[-1].append(
            KernelCall(op, overload, *before, describe(result), children, owner, goes_back, part, aside)
        )
        return result

    def _went_forward_in(self) -> int | None:
        """The module whose forward kernel the running part of the backward pass goes back through."""
        node = torch._C._current_autograd_node()
        return None if node is None or self.made_in is None else self.made_in.get(node._sequence_nr())

    def _third(self) -> int:
        """Which of the convolutions of complex numbers the running part of the backward pass goes back through."""
        node = torch._C._current_autograd_node()
        return 0 if node is None else self.thirds.get(node._sequence_nr(), 0)

    def uses(self) -> dict[int, int]:
        """The module in whose call each parameter was first used, by the parameter's key."""
        keys = self.table.keys
        return {keys[parameter]: module for parameter, module in self.used.items() if parameter in keys}

    def lookups(self) -> tuple[Lookup, ...]:
        """The lookups in tables of embeddings, in order."""
        return tuple(
            Lookup(module, self.table.keys.get(id(table)), tuple(table.shape), indices.shape, of_input)
            for module, table, indices, of_input in self.looked_up
            if isinstance(indices, TensorInfo)
        )


def _is_index(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.int64, torch.int32)


_NO_KWARGS: dict[str, Value] = {}
_OPERATORS: dict[Any, tuple[str, str, bool]] = {}
_sequence_number = torch._C._autograd._get_sequence_nr


def operator(func: Any) -> tuple[str, str, bool]:
    """The name of an operator and of its overload, and whether it only stands for others."""
    known = _OPERATORS.get(func)
    if known is None:
        known = _OPERATORS[func] = (
            (str(func._overloadpacket), func._overloadname, _stands_for_others(func))
            if isinstance(func, torch._ops.OpOverload)
            else (str(func), "", False)
        )
    return known


def _stands_for_others(func: Any) -> bool:
    try:
        return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))
    except RuntimeError:
        # Some exist in Python and in scripts alone, and the dispatcher does not know them.
        return False


def _describe_all(values: Iterable[Any]) -> tuple[Value, ...]:
    return tuple([describe(value) for value in values])


def _describe_kwargs(kwargs: dict[str, Any]) -> Mapping[str, Value]:
    return {name: describe(value) for name, value in kwargs.items()} if kwargs else _NO_KWARGS
