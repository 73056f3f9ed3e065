"""Gather what the kernels of a run multiply, by what they run in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from convstat.counters.products import FORMULAS, FUSED_MODULES, products
from convstat.patches.dispatch import Watching
from convstat.trace import KernelCall
from convstat.trace.complex_numbers import third
from convstat.trace.describe import describe
from convstat.trace.record import operator

Gathered = dict[str, int]
"""Layer -> the products of its kernels."""


class Kernels(Watching):  # type: ignore[no-untyped-call]
    """Adds the products of each kernel to the innermost of what is being gathered, under the layer that runs it.

    ``layer`` says which layer runs. ``fused`` are the layers in which one kernel does the work of other modules.
    """

    def __init__(self, layer: Callable[[], str]) -> None:
        super().__init__()
        self.layer = layer
        self.open: list[Gathered] = [{}]
        self.fused: set[str] = set()
        self.before: deque[KernelCall] = deque(maxlen=12)

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        op, overload, is_composite = operator(func)
        if is_composite and not any(isinstance(value, torch.Tensor) and value.is_nested for value in args):
            # Under inference_mode operators are not taken apart that only stand for others.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        part = third(op, self.before)
        self.before.append(KernelCall(op, overload, (), third=part))
        if op.startswith("aten.") and op.rstrip("_") not in FORMULAS and op not in FORMULAS:
            return func(*args, **kwargs)
        before = tuple([describe(value) for value in args]), {name: describe(value) for name, value in kwargs.items()}
        result = func(*args, **kwargs)
        amount = products(KernelCall(op, overload, *before, describe(result), third=part))
        if amount:
            layer, into = self.layer(), self.open[-1]
            into[layer] = into.get(layer, 0) + amount
            if op in FUSED_MODULES:
                self.fused.add(layer)
        return result
