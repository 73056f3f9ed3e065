"""Predict thop from a trace.

A module of exactly a known type adds what its rule says at each call, and the parameters below it once it was called.
The sum does not look inside of such a module unless it is a Sequential, and takes it once for each way that leads to
it; its hooks were also put on it once for each way, so that a module of two parents adds four times its operations.
"""

from __future__ import annotations

from convstat.counters import parameters
from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.layer_work import is_scripted, no_attribute, own_kernels, why_unseen
from convstat.counters.products import Kernel, Work, fused_modules
from convstat.counters.thop.modules import RULES
from convstat.trace import ModuleInfo, Trace
from convstat.trace.walks import ways

_OPEN = ("torch.nn.modules.container.Sequential", "torch.nn.modules.container.ModuleList")


def predict(trace: Trace) -> Prediction:
    """Say what thop will answer."""
    if any(info.registered and is_scripted(info) for info in trace.modules):
        raise PredictedFailure("RuntimeError: Can't add a new parameter after ScriptModule construction")
    if trace.made:
        raise PredictedFailure(no_attribute(trace.made[0], "total_ops"))
    terms = Ledger()
    work = Work(trace, terms)
    hooked, summed = _ways(trace, into_priced=True), _ways(trace, into_priced=False)
    called: set[int] = set()
    for call in trace.module_calls():
        info = trace.modules[call.module]
        rule = RULES.get(info.type) if info.registered else None
        if rule is None:
            continue
        called.add(info.index)
        parts, times = rule(call, info), hooked.get(info.index, 0) * summed.get(info.index, 0)
        if not times:
            continue
        for code, amount in parts:
            if code is None:
                work.price(call, info.path, amount, own_kernels(work, call))
            else:
                terms.add(info.path, code, macs=amount)
        terms.add(info.path, "shared_parents", macs=(times - 1) * sum(amount for _, amount in parts))

    def why(kernel: Kernel) -> str:
        info = trace.modules[kernel.module]
        if info.registered and not summed.get(info.index):
            return "inside_counted"
        if info.type not in RULES and any(base in RULES for base in info.bases):
            return "subclass_unseen"
        return why_unseen(kernel, work, ruled=lambda info: info.type in RULES)

    work.unseen(trace.root, why)
    macs = terms.macs
    _enter_params(trace, terms, called, summed)
    return Prediction(terms.params, macs, terms.terms(), fused=fused_modules(trace))


def _ways(trace: Trace, *, into_priced: bool) -> dict[int, int]:
    """How many ways lead from the root to each module: all of them, or those through what the sum looks into."""

    def is_open(info: ModuleInfo) -> bool:
        kinds = (info.type, *info.bases)
        return into_priced or not info.index or info.type not in RULES or any(kind in _OPEN for kind in kinds)

    return ways(trace, into=is_open)


def _below(trace: Trace, info: ModuleInfo) -> dict[int, int]:
    """The sizes of all parameters from here on downwards, by their keys."""
    found: dict[int, int] = {}
    left, seen = [info], {info.index}
    while left:
        info = left.pop()
        found.update((parameter.key, parameter.numel) for parameter in info.parameters)
        left += [trace.modules[child] for child in info.children if child not in seen]
        seen.update(info.children)
    return found


def _enter_params(trace: Trace, terms: Ledger, called: set[int], summed: dict[int, int]) -> None:
    """Enter every parameter once, and then what thop counts otherwise."""
    parameters.enter(trace, terms)
    claimed: set[int] = set()
    for index in sorted(called - {0}):
        info, times = trace.modules[index], summed.get(index, 0)
        if not times or any(kind in _OPEN for kind in (info.type, *info.bases)):
            continue
        sizes = _below(trace, info)
        terms.add(info.path, "tied_per_module", params=sum(size for key, size in sizes.items() if key in claimed))
        terms.add(info.path, "shared_parents", params=(times - 1) * sum(sizes.values()))
        claimed |= set(sizes)
    for parameter, info, _ in parameters.held(trace):
        if parameter.key not in claimed:
            ruled = info.type in RULES and info.index != 0
            code = "uncalled" if ruled else "root_unseen" if info.index == 0 else "no_rule_params"
            terms.add(info.path, code, params=-parameter.numel)
