"""Gather what the kernels of a run multiply, by what they run in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convstat.counters.products import FORMULAS, FUSED_MODULES, products
from convstat.trace import KernelCall
from convstat.trace.describe import describe
from convstat.trace.record import operator

Gathered = dict[str, int]
"""Layer -> the products of its kernels."""


class Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds the products of each kernel to the innermost of what is being gathered, under the layer that runs it.

    ``layer`` says which layer runs. ``fused`` are the layers in which one kernel does the work of other modules.
    """

    def __init__(self, layer: Callable[[], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layer = layer
        self.open: list[Gathered] = [{}]
        self.fused: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nobody compiles under it, and the wrapper that would be put around __torch_dispatch__ costs at every kernel.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op, overload, is_composite = operator(func)
        if is_composite and not any(isinstance(value, torch.Tensor) and value.is_nested for value in args):
            # Under inference_mode operators are not taken apart that only stand for others.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if op.startswith("aten.") and op.rstrip("_") not in FORMULAS and op not in FORMULAS:
            return func(*args, **kwargs)
        before = tuple([describe(value) for value in args]), {name: describe(value) for name, value in kwargs.items()}
        result = func(*args, **kwargs)
        amount = products(KernelCall(op, overload, *before, describe(result)))
        if amount:
            layer, into = self.layer(), self.open[-1]
            into[layer] = into.get(layer, 0) + amount
            if op in FUSED_MODULES:
                self.fused.add(layer)
        return result


__all__ = ["Gathered", "Kernels"]
