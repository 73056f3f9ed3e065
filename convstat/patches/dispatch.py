"""What every mode of ours that stands between the dispatcher and the kernels has to let pass."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)

from convstat.patches.room import patch, rerouted

_ASKED = frozenset(
    (
        *("aten.dim", "aten.size", "aten.sym_size", "aten.stride", "aten.sym_stride", "aten.numel", "aten.sym_numel"),
        *("aten.storage_offset", "aten.sym_storage_offset", "aten.is_contiguous", "aten.sym_is_contiguous"),
        *("aten.is_strides_like_format", "aten.is_non_overlapping_and_dense", "prim.device", "prim.layout"),
    )
)
_known: dict[Any, bool] = {}


def is_question(func: Any) -> bool:
    """Whether C++ asks a subclass of Tensor what it looks like.

    No exception may leave the answer, that of a limit included: the caller is ``noexcept``, and ends the process.
    """
    known = _known.get(func)
    if known is None:
        known = _known[func] = isinstance(func, torch._ops.OpOverload) and str(func.overloadpacket) in _ASKED
    return known


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that sees the kernels; a class says with :meth:`kernel` what it does at each.

    Questions about a tensor are no kernels, and pass. Jagged tensors are wrappers: what they are asked to do, they do
    with kernels on the values of all samples at once, and these are seen instead. Operators that take functions run
    these as they are written, and what happens in them is seen.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nobody compiles under it, and the wrapper that would be put around __torch_dispatch__ costs at every kernel.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if is_question(func):
            # The tensor itself answers, with the modes in force.
            return NotImplemented if types else func(*args, **(kwargs or {}))
        if type(func) is not torch._ops.OpOverload and isinstance(func, torch._ops.HigherOrderOperator):
            return self._higher_order(func, args, kwargs or {})
        if types and any(is_jagged(kind) for kind in types):
            return NotImplemented
        return self.kernel(func, args, kwargs or {})

    def _higher_order(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run ``map``, ``scan``, ``cond``, ``while_loop``, ``flex_attention`` and their like in Python, by steps."""
        stepwise = _stepwise(func)
        if stepwise is None:
            raise NotImplementedError(f"torch cannot run the operator {func.name()} step by step")
        with self:
            return stepwise(*args, **kwargs)

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run a kernel in the modes that were entered before this one.

        One of ours is given it here: the dispatcher's way there takes longer than what it does.
        """
        below = _get_current_dispatch_mode()
        if not isinstance(below, Watching) or type(below).__torch_dispatch__ is not Watching.__torch_dispatch__:
            return func(*args, **kwargs)
        _pop_mode()
        try:
            return below.kernel(func, args, kwargs)
        finally:
            _push_mode(below)


def _cond(pred: Any, true_fn: Any, false_fn: Any, operands: Any = ()) -> Any:
    return (true_fn if pred else false_fn)(*operands)


def _scan(combine_fn: Any, init: Any, xs: Any, additional_inputs: Any = (), **options: Any) -> Any:
    module: Any = import_module("torch._higher_order_ops.scan")
    return module.generic_scan(combine_fn, init, xs, additional_inputs=additional_inputs, **options)


_STEPWISE = {"cond": _cond, "scan": _scan}
"""What torch's own way of running these step by step does, which refuses to while there is any mode."""


def _stepwise(func: Any) -> Callable[..., Any] | None:
    eager = torch._C.DispatchKey.CompositeExplicitAutograd
    known: Any = _STEPWISE.get(func.name())
    return known or func.py_kernels.get(eager)  # type: ignore[no-any-return]


@patch
def step_by_step() -> Iterator[None]:
    """Run operators that take functions as they are written, also where gradients are wanted.

    Torch makes a graph of the function and of its derivative for that, which not every function can be made into. Step
    by step, each kernel has a derivative of its own.
    """
    with rerouted(torch._ops.HigherOrderOperator, "dispatch", _past_autograd):
        yield


def _past_autograd(dispatch: Callable[..., Any]) -> Callable[..., Any]:
    def dispatched(self: Any, dispatch_key: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not dispatch_key.name.startswith("Autograd") or (stepwise := _stepwise(self)) is None:
            return dispatch(self, dispatch_key, *args, **kwargs)
        if _get_current_dispatch_mode_stack():
            return dispatch(self, torch._C.DispatchKey.Python, *args, **kwargs)
        return stepwise(*args, **kwargs)

    return dispatched


def is_jagged(kind: type) -> bool:
    """Whether a class is that of jagged tensors: wrappers around the values of all samples."""
    module = sys.modules.get("torch.nested._internal.nested_tensor")
    if module is None or not issubclass(kind, module.NestedTensor):
        return False
    # Their attention looks this module up, and does not import it.
    import_module("torch.utils.flop_counter")
    return True
