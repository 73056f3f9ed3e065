"""Record the call tree of one forward pass.

Three watchers work together:
``nn.Module.__call__`` is replaced, which brackets module calls;
spies stand on the functions that peers patch (:mod:`convstat.trace.spies`);
a ``TorchDispatchMode`` sees the kernels.
A function that is called while a kernel runs becomes the kernel's child:
on the meta device kernels are Python and call ``torch.mm`` and friends themselves, which no peer should count.

``TorchFunctionMode`` would not do: it cannot see the calls that are nested in Python functions of
``torch.nn.functional`` without recursing for ever.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convstat.trace.calls import Call, FunctionCall, KernelCall, ModuleCall, Trace, Value
from convstat.trace.describe import ModuleTable, describe
from convstat.trace.dynamo import compiler_not_loaded
from convstat.trace.preserve import preserved
from convstat.trace.spies import spying


def record(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    hooked: Iterable[nn.Module] | None = None,
    train: bool = False,
) -> Trace:
    """Run the model once, in eval mode with grad enabled, and return the tree of its calls.

    With ``train`` it runs in train mode, and a backward pass follows, from ones at every output that has a gradient;
    its kernels stand in the tree as the root's last children.

    Grad is on because peers leave it on: without it, attention takes a fused kernel that they do not price.
    ``hooked`` are the modules that carry a forward hook during the run, as they do under the peer that is to be
    predicted (default: all): torch's transformer layers choose their kernels by whether there are hooks.
    The model and the process are left as found, also when the forward pass raises.
    """
    table = ModuleTable(model)
    recorder = _Recorder(table)
    with ExitStack() as stack:
        # What the model warns of is for who runs it, and not for who counts it.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(compiler_not_loaded())
        stack.enter_context(preserved(model))
        model.train(train)
        for module in table.modules if hooked is None else hooked:
            module.register_forward_hook(_no_hook)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(recorder.watching_modules())
        stack.enter_context(spying(recorder.function))
        stack.enter_context(recorder)
        output = model(*inputs, **(kwargs or {}))
        (root,) = recorder.top
        assert isinstance(root, ModuleCall)
        if train:
            recorder.top = []
            _backward(output, model)
            root = replace(root, children=(*root.children, *recorder.top))
    leaves = (*tree_leaves((inputs, dict(kwargs or {}))), *model.parameters())
    device = next((leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor)), "cpu")
    return Trace(root, table.infos(), device, uses=recorder.uses())


def _backward(output: Any, model: nn.Module) -> None:
    """Run the backward pass to the trainable parameters; their ``.grad`` stays as it was."""
    ends = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    starts = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if ends and starts:
        torch.autograd.grad(ends, starts, [torch.ones_like(end) for end in ends], allow_unused=True)


def _no_hook(module: nn.Module, args: object, output: object) -> None:
    pass


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Builds the tree: ``top`` is the list that the next finished call is appended to."""

    def __init__(self, table: ModuleTable) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.table = table
        self.top: list[Call] = []
        self.inside: list[int] = []
        self.used: dict[int, int] = {}

    def _nested(self, function: Any, args: Any, kwargs: Any) -> tuple[Any, tuple[Call, ...]]:
        """Call the function and collect the calls that it makes."""
        outer, self.top = self.top, []
        try:
            result = function(*args, **kwargs)
            return result, tuple(self.top)
        finally:
            # Also on an exception: a model may catch it and go on, and what failed did not happen.
            self.top = outer

    def watching_modules(self) -> _Replaced:
        """Record calls of modules for as long as this is entered."""
        original = nn.Module.__call__

        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            index = self.table.index(module)
            before = _describe_all(args), _describe_kwargs(kwargs)
            self.inside.append(index)
            try:
                result, children = self._nested(original, (module, *args), kwargs)
            finally:
                self.inside.pop()
            self.top.append(ModuleCall(index, *before, describe(result), children))
            return result

        return _Replaced(nn.Module, "__call__", call)

    def function(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call of a function that peers patch."""
        before = _describe_all(args), _describe_kwargs(kwargs)
        result, children = self._nested(function, args, kwargs)
        self.top.append(FunctionCall(name, *before, describe(result), children))
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nobody compiles under it, and the wrapper that would be put around __torch_dispatch__ costs at every kernel.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = _describe_all(args), _describe_kwargs(kwargs or {})
        if self.inside:
            for value in args:
                if type(value) is nn.Parameter:
                    self.used.setdefault(id(value), self.inside[-1])
        result, children = self._nested(func, args, kwargs or {})
        op, overload = _op_name(func)
        self.top.append(KernelCall(op, overload, *before, describe(result), children))
        return result

    def uses(self) -> dict[int, int]:
        """The module in whose call each parameter was first used, by the parameter's key."""
        keys = self.table.keys
        return {keys[parameter]: module for parameter, module in self.used.items() if parameter in keys}


_NO_KWARGS: dict[str, Value] = {}
_OP_NAMES: dict[Any, tuple[str, str]] = {}


def _op_name(func: Any) -> tuple[str, str]:
    name = _OP_NAMES.get(func)
    if name is None:
        name = _OP_NAMES[func] = (str(func._overloadpacket), func._overloadname)
    return name


def _describe_all(values: Iterable[Any]) -> tuple[Value, ...]:
    return tuple([describe(value) for value in values])


def _describe_kwargs(kwargs: dict[str, Any]) -> Mapping[str, Value]:
    return {name: describe(value) for name, value in kwargs.items()} if kwargs else _NO_KWARGS


class _Replaced:
    """An attribute of a class that is another one for a while."""

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self.owner, self.name, self.value = owner, name, value

    def __enter__(self) -> None:
        self.before = vars(self.owner)[self.name]
        setattr(self.owner, self.name, self.value)

    def __exit__(self, *_: object) -> None:
        setattr(self.owner, self.name, self.before)
