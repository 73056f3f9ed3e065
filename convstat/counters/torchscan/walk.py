"""Predict torchscan from a trace.

It prices the innermost modules at each call, and attention as if it were one; a Transformer that is the whole model
is the only module that it looks at. Where a formula raises, the call has no figure; where there is none, it is zero.
"""

from __future__ import annotations

from convstat.counters import parameters
from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.innermost import is_innermost
from convstat.counters.kernel_walk import refuse_higher_order
from convstat.counters.layer_work import is_scripted, own_kernels, why_unseen
from convstat.counters.products import Kernel, Work, fused_modules
from convstat.counters.torchscan.flops import flops
from convstat.counters.torchscan.macs import RULES, NoFigure, base_of
from convstat.trace import DictInfo, ListInfo, ModuleCall, ModuleInfo, TensorInfo, Trace, Value

_ATTENTION = "torch.nn.modules.activation.MultiheadAttention"
_TRANSFORMER = "torch.nn.modules.transformer.Transformer"


def predict(trace: Trace) -> Prediction:
    """Say what torchscan will answer."""
    if any(info.registered and is_scripted(info) for info in trace.modules):
        raise PredictedFailure("RuntimeError: register_forward_pre_hook is not supported on ScriptModules")
    refuse_higher_order(trace)
    walk = _Walk(trace)
    for call in trace.module_calls():
        walk.module(call)
    walk.work.unseen(trace.root, walk.why_unseen)
    if not walk.has_macs:
        # Without a figure, there is no difference to be explained.
        walk.terms = Ledger()
    macs = walk.terms.macs
    parameters.enter(trace, walk.terms)
    for parameter, info, _ in parameters.held(trace):
        walk.terms.add(info.path, "packed_params", params=-parameter.numel if parameters.is_packed(info) else 0)
    return Prediction(
        walk.terms.params,
        macs if walk.has_macs else None,
        walk.terms.terms(),
        native=None if walk.flops is None else {"module_flops": walk.flops},
        fused=fused_modules(trace),
    )


class _Walk:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.by_path = {path: info for info in trace.modules for path in info.paths}
        self.is_transformer = _is_a(trace.modules[0], _TRANSFORMER)
        self.terms = Ledger()
        self.work = Work(trace, self.terms)
        self.has_macs = False
        self.flops: int | None = None

    def prices(self, info: ModuleInfo) -> bool:
        """Whether calls of the module get figures."""
        if self.is_transformer:
            return info.index == 0
        return info.registered and (is_innermost(info, self.trace.modules) or _is_a(info, _ATTENTION))

    def module(self, call: ModuleCall) -> None:
        """Add what a call comes to, in both units; either may have none."""
        info = self.trace.modules[call.module]
        if not self.prices(info):
            return
        source = _first_tensor((*call.args, *call.kwargs.values()))
        output = _first_tensor(call.output)
        if source is None or output is None:
            self._fail(call)
            return
        rule = base_of(info, RULES)
        try:
            for code, amount in RULES[rule](info, source, output) if rule else ():
                if code is None:
                    self.work.price(call, info.path, amount, own_kernels(self.work, call))
                else:
                    self.terms.add(info.path, code, macs=amount)
            self.has_macs = True
        except NoFigure:
            self._fail(call)
        try:
            is_attention = _is_a(info, _ATTENTION)
            self.flops = flops(call, info, call.output if is_attention else output, self.by_path) + (self.flops or 0)
        except NoFigure:
            pass

    def _fail(self, call: ModuleCall) -> None:
        """Its formula fails at this call, and so what the layer itself multiplies is left out."""
        self.work.unseen(call, "formula_fails", own_kernels(self.work, call))

    def why_unseen(self, kernel: Kernel) -> str:
        """Why nothing has priced a kernel."""
        if self.is_transformer:
            return "inside_counted"
        info = self.trace.modules[kernel.module]
        is_known = base_of(info, RULES) is not None
        if info.registered and is_known and not self.prices(info):
            return "holds_others"
        return why_unseen(kernel, self.work, ruled=lambda info: is_known)


def _is_a(info: ModuleInfo, kind: str) -> bool:
    return kind in (info.type, *info.bases)


def _first_tensor(value: Value) -> TensorInfo | None:
    match value:
        case TensorInfo():
            return value
        case DictInfo():
            items = tuple(item for _, item in value.items)
        case ListInfo():
            items = value.items
        case tuple():
            items = value
        case _:
            return None
    return next((tensor for item in items if (tensor := _first_tensor(item)) is not None), None)
