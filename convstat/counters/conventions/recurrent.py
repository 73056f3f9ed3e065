"""Recurrent layers: one operator for an exporter, and many kernels in a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from convstat.counters.kernel_walk import Part, Rule
from convstat.counters.layer_work import RECURRENT
from convstat.trace import KernelCall, ModuleInfo, Trace

_HOME = "torch.nn.modules.rnn."


def is_recurrent(info: ModuleInfo) -> bool:
    """Whether a module is an RNN, a GRU or an LSTM."""
    return RECURRENT in (info.type, *info.bases)


def is_lstm(info: ModuleInfo) -> bool:
    """Whether a module is an LSTM."""
    return f"{_HOME}LSTM" in (info.type, *info.bases)


def products_alone(
    rules: Mapping[str, Rule], trace: Trace, of: Callable[[ModuleInfo], bool] = is_recurrent
) -> Mapping[str, Rule]:
    """Rules that look at the products alone in recurrent layers: how its gates are computed depends on the device."""
    inside = frozenset(id(call) for call, owner in trace.kernels() if of(owner))
    return {name: _outside(rule, inside) for name, rule in rules.items()} if inside else rules


def _outside(rule: Rule, inside: frozenset[int]) -> Rule:
    def price(call: KernelCall) -> list[Part]:
        parts = rule(call)
        return [part for part in parts if part[0] is None] if id(call) in inside else parts

    return price
