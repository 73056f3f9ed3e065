"""Figures in operations of which a multiply-accumulate is two: what becomes of them where figures are MACs.

The products are walked as they are. Everything else is counted in operations, each of which is half a MAC, and the sum
is halved: so twice a convention's MACs is the tool's own figure again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from convstat.counters.base import Ledger
from convstat.counters.kernel_walk import Rule, walk
from convstat.trace import ModuleInfo, Trace


class Counted(NamedTuple):
    """The terms, in MACs, and the figure in operations that they are half of."""

    terms: Ledger
    operations: int


def count(
    trace: Trace,
    products: Mapping[str, Rule],
    others: Mapping[str, Rule],
    more: Mapping[tuple[str, str], int] = MappingProxyType({}),
    *,
    unseen: Callable[[ModuleInfo], str | None] = lambda info: None,
) -> Counted:
    """Walk the products, in MACs, and the other operations of each kernel.

    ``more`` are operations that no kernel says, by layer and code; nothing is seen of modules that are ``unseen``.
    """
    terms = walk(trace, products, unseen=unseen)
    found: dict[tuple[str, str], int] = dict(more)
    for call, owner in trace.kernels():
        rule = None if unseen(owner) else others.get(call.op)
        for code, amount in rule(call) if rule is not None else ():
            assert code is not None
            found[owner.path, code] = found.get((owner.path, code), 0) + amount
    operations = 2 * terms.macs + sum(found.values())
    odd = 0
    for (layer, code), amount in found.items():
        terms.add(layer, code, macs=amount // 2)
        odd += amount % 2
    terms.add("", "half_operations", macs=odd // 2)
    return Counted(terms, operations)
