"""What a converter makes of a batch norm in evaluation mode: a part of the weights before it, and their bias."""

from __future__ import annotations

from typing import NamedTuple

from convstat.counters.conventions.convolution import KERNELS as CONVOLUTIONS
from convstat.counters.conventions.rules import BATCH_NORMS, elements, source_elements
from convstat.trace import KernelCall, Trace

_NORMS = frozenset(f"aten.{name}" for name in BATCH_NORMS.split())
_WEIGHTED = frozenset((*CONVOLUTIONS, "aten.addmm", "aten.mm"))
_NOTHING = frozenset(
    f"aten.{name}"
    for name in ("empty", "detach", "view", "t", "_unsafe_view", "alias", "reshape", "clone", "contiguous", "add_")
)
"""Kernels that may stand between the two, and leave the values as they are; add_ counts the batches of a norm."""


class Folded(NamedTuple):
    """The kernels, by id: norms that disappear, and convolutions and products that get a bias from one."""

    norms: frozenset[int]
    biased: frozenset[int]


def folded(trace: Trace) -> Folded:
    """Find each batch norm that directly follows a convolution or a linear layer."""
    norms: set[int] = set()
    biased: set[int] = set()
    before: KernelCall | None = None
    for call, _ in trace.kernels():
        follows = call.op in _NORMS and before is not None and before.op in _WEIGHTED
        if follows and before is not None and elements(before) == source_elements(call):
            norms.add(id(call))
            biased.add(id(before))
        if call.op not in _NOTHING:
            before = call
    return Folded(frozenset(norms), frozenset(biased))
