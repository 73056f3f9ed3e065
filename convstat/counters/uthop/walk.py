"""Predict ultralytics-thop from a trace.

Every registered module of a known kind, subclasses included, adds what its rule says at each call.
Products that are called as functions add theirs where no module with a rule is running.
"""

from __future__ import annotations

from collections.abc import Iterable

from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.ptflops.pytorch import PRODUCTS
from convstat.counters.uthop.functions import RULES as FUNCTIONS
from convstat.counters.uthop.modules import FREE, Part, Rule
from convstat.counters.uthop.modules import RULES as MODULES
from convstat.trace import Call, KernelCall, ModuleCall, ModuleInfo, Trace


def rule_of(info: ModuleInfo) -> Rule | None:
    """The rule of the nearest ancestor that has one; a module that is not part of the model has none."""
    if not info.registered:
        return None
    return next((MODULES[kind] for kind in (info.type, *info.bases) if kind in MODULES), None)


class _Walk:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.terms = Ledger()
        self.because: dict[str, str] = {}

    def walk(self, call: Call, layer: str, *, ruled: bool, inside: bool) -> None:
        """``ruled``: a module with a rule is running; ``inside``: a function is, whose own calls are not seen."""
        if isinstance(call, KernelCall):
            if call.op in PRODUCTS:
                self.because.setdefault(layer, "functional_unseen")
            return
        if isinstance(call, ModuleCall):
            info = self.trace.modules[call.module]
            layer = info.path if info.registered else layer
            rule = rule_of(info)
            if rule is not None:
                self._add(layer, rule(call, info))
                ruled = ruled or rule is not FREE
        elif not inside:
            inside = True
            if not ruled and call.name in FUNCTIONS:
                self._add(layer, FUNCTIONS[call.name](call))
        for child in call.children:
            self.walk(child, layer, ruled=ruled, inside=inside)

    def _add(self, layer: str, parts: Iterable[Part]) -> None:
        for code, amount in parts:
            self.terms.add(layer, code, macs=amount)


def predict(trace: Trace) -> Prediction:
    """Say what ultralytics-thop will answer."""
    walk = _Walk(trace)
    try:
        walk.walk(trace.root, "", ruled=False, inside=False)
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))
    macs = walk.terms.macs
    seen: set[int] = set()
    for info in trace.modules:
        for parameter in info.parameters:
            if info.registered and parameter.key not in seen:
                seen.add(parameter.key)
                walk.terms.add(info.path, None, params=parameter.numel)
    return Prediction(walk.terms.params, macs, walk.terms.terms(), walk.because)
