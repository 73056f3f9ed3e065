"""Predict ultralytics-thop from a trace.

Every registered module of a known kind, subclasses included, adds what its rule says at each call.
Products that are called as functions add theirs where no module with a rule is running.
"""

from __future__ import annotations

from collections.abc import Iterable

from convstat.counters import parameters
from convstat.counters.base import Ledger, Prediction
from convstat.counters.layer_work import is_torchs, own_kernels, why_unseen
from convstat.counters.products import Kernel, Work, fused_modules
from convstat.counters.uthop.functions import RULES as FUNCTIONS
from convstat.counters.uthop.modules import FREE, Part, Rule
from convstat.counters.uthop.modules import RULES as MODULES
from convstat.trace import Call, FunctionCall, KernelCall, ModuleCall, ModuleInfo, Trace


def rule_of(info: ModuleInfo) -> Rule | None:
    """The rule of the nearest ancestor that has one; a module that is not part of the model has none."""
    if not info.registered:
        return None
    return next((MODULES[kind] for kind in (info.type, *info.bases) if kind in MODULES), None)


class _Walk:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.terms = Ledger()
        self.work = Work(trace, self.terms)
        self.inside_ruled: set[int] = set()

    def walk(self, call: Call, layer: str, *, ruled: bool, inside: bool) -> None:
        """``ruled``: a module with a rule is running; ``inside``: a function is, whose own calls are not seen."""
        if isinstance(call, KernelCall):
            if ruled:
                self.inside_ruled.add(id(call))
            return
        if isinstance(call, ModuleCall):
            info = self.trace.modules[call.module]
            layer = info.path if info.registered else layer
            rule = rule_of(info)
            if rule is not None:
                self._module(call, layer, rule(call, info))
                ruled = ruled or rule is not FREE
        elif not inside:
            inside = True
            if not ruled and call.name in FUNCTIONS and not _in_thread(call):
                for amount in self._coded(layer, FUNCTIONS[call.name](call)):
                    self.work.price(call, layer, amount)
        for child in call.children:
            self.walk(child, layer, ruled=ruled, inside=inside)

    def _module(self, call: ModuleCall, layer: str, parts: Iterable[Part]) -> None:
        own = list(self._coded(layer, parts))
        if own:
            self.work.price(call, layer, sum(own), own_kernels(self.work, call))

    def _coded(self, layer: str, parts: Iterable[Part]) -> Iterable[int]:
        """Enter the parts that have a code, and give the others."""
        for code, amount in parts:
            if code is None:
                yield amount
            else:
                self.terms.add(layer, code, macs=amount)

    def why_unseen(self, kernel: Kernel) -> str:
        """Why nothing has priced a kernel."""
        info = self.trace.modules[kernel.module]
        if kernel.call.in_thread and kernel.functions and rule_of(info) is None:
            return "other_threads"
        is_ruled = info.registered and id(kernel.call) in self.inside_ruled
        if is_ruled and not is_torchs(info):
            # What a subclass, or a module inside one with a rule, multiplies on its own.
            return "inside_counted"
        if not info.registered and kernel.functions:
            return "inside_counted" if id(kernel.call) in self.inside_ruled else "functional_unseen"
        return why_unseen(kernel, self.work, ruled=lambda info: rule_of(info) is not None)


def _in_thread(call: FunctionCall) -> bool:
    """Whether a function ran in a thread of the model's: calls are seen in the counter's own alone."""
    return any(isinstance(child, KernelCall) and child.in_thread for child in call.children)


def predict(trace: Trace) -> Prediction:
    """Say what ultralytics-thop will answer."""
    walk = _Walk(trace)
    walk.walk(trace.root, "", ruled=False, inside=False)
    walk.work.unseen(trace.root, walk.why_unseen)
    macs = walk.terms.macs
    parameters.enter(trace, walk.terms)
    for parameter, info, _ in parameters.held(trace):
        walk.terms.add(info.path, "packed_params", params=-parameter.numel if parameters.is_packed(info) else 0)
    return Prediction(walk.terms.params, macs, walk.terms.terms(), fused=fused_modules(trace))
