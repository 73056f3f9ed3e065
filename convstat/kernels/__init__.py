"""What each kernel costs: the vocabulary of the trace, as ``convstat.layers`` is that of the spec.

``price`` asks three tables in turn: rules, the list of what is free with its reasons, and what third parties registered.
A kernel in none of them is uncounted, never a silent zero.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from convstat.kernels import other, products
from convstat.kernels.base import Rule
from convstat.kernels.free import FREE
from convstat.layers.base import FREE as NO_COST
from convstat.layers.base import Cost
from convstat.trace.calls import KernelCall


def _table() -> dict[str, Rule]:
    table: dict[str, Rule] = dict(products.RULES)
    for name, rule in other.RULES.items():
        if name in table or name in FREE:
            raise RuntimeError(f"two rules for the kernel {name}")
        table[name] = rule
    return table


_RULES = _table()
_REGISTERED: dict[str, Rule] = {}

RULES = MappingProxyType(_RULES)
"""The rules that ship, by operator: ``aten.convolution``."""


def price(call: KernelCall) -> Cost | None:
    """The cost of one kernel, or None where nothing is known about it.

    In-place forms (``aten.relu_``) cost what the others do.
    """
    name = call.op
    rule = _find(name)
    if rule is None and name not in FREE and name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
        rule = _find(name)
    if rule is not None:
        return rule(call)
    return NO_COST if name in FREE else None


def _find(name: str) -> Rule | None:
    if name in _REGISTERED:
        return _REGISTERED[name]
    return _RULES.get(name)


def register(name: str, rule: Rule, *, replace: bool = False) -> Callable[[], None]:
    """Give a rule for a custom operator, by the name torch prints: ``mylib.my_op``; returns what takes it back.

    An operator that already has a rule is refused unless ``replace`` says that it is meant.
    """
    name = name.replace("::", ".")
    if not replace and (name in _RULES or name in FREE or name in _REGISTERED):
        raise ValueError(f"the kernel {name} has a rule already; pass replace=True to override it")
    before = _REGISTERED.get(name)
    _REGISTERED[name] = rule

    def unregister() -> None:
        if before is None:
            _REGISTERED.pop(name, None)
        else:
            _REGISTERED[name] = before

    return unregister


__all__ = ["FREE", "RULES", "Rule", "price", "register"]
