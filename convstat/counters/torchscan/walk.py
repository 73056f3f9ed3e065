"""Predict torchscan from a trace.

It prices the innermost modules at each call, and attention as if it were one; a Transformer that is the whole model
is the only module that it looks at. Where a formula raises, the call has no figure; where there is none, it is zero.
"""

from __future__ import annotations

from collections import Counter

from convstat.counters.base import Ledger, Prediction
from convstat.counters.innermost import is_innermost
from convstat.counters.torchscan.flops import flops
from convstat.counters.torchscan.macs import RULES, NoFigure, base_of
from convstat.counters.unseen import is_packed, parameters, unpriced
from convstat.trace import DictInfo, ListInfo, ModuleCall, ModuleInfo, TensorInfo, Trace, Value

_ATTENTION = "torch.nn.modules.activation.MultiheadAttention"
_TRANSFORMER = "torch.nn.modules.transformer.Transformer"


def predict(trace: Trace) -> Prediction:
    """Say what torchscan will answer."""
    walk = _Walk(trace)
    for call in trace.module_calls():
        walk.module(call)
    because = walk.reasons()
    macs = walk.terms.macs
    for info, numel in parameters(trace).values():
        walk.terms.add(info.path, None, params=numel)
        walk.terms.add(info.path, "packed_params", params=-numel if is_packed(info) else 0)
    return Prediction(
        walk.terms.params,
        macs if walk.has_macs else None,
        walk.terms.terms(),
        because,
        native=None if walk.flops is None else {"module_flops": walk.flops},
    )


class _Walk:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.by_path = {path: info for info in trace.modules for path in info.paths}
        self.is_transformer = _is_a(trace.modules[0], _TRANSFORMER)
        self.terms = Ledger()
        self.has_macs = False
        self.flops: int | None = None
        self.priced: Counter[int] = Counter()
        self.because: dict[str, str] = {}

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
            self.because[info.path] = "formula_fails"
            return
        rule = base_of(info, RULES)
        try:
            for code, amount in RULES[rule](info, source, output) if rule else ():
                self.terms.add(info.path, code, macs=amount)
            self.has_macs = True
            if rule:
                self.priced[info.index] += 1
                if why := _why_mispriced(info, source):
                    self.because.setdefault(info.path, why)
        except NoFigure:
            self.because[info.path] = "formula_fails"
        try:
            is_attention = _is_a(info, _ATTENTION)
            self.flops = flops(call, info, call.output if is_attention else output, self.by_path) + (self.flops or 0)
        except NoFigure:
            pass

    def reasons(self) -> dict[str, str]:
        """Why layers with products that were not priced, or were priced otherwise, are so."""
        if self.is_transformer:
            return {"": "inside_counted"}
        unseen = unpriced(self.trace, self.priced, lambda info: base_of(info, RULES) is not None)
        return {**unseen, **self.because}


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


def _why_mispriced(info: ModuleInfo, source: TensorInfo) -> str | None:
    """Why a rule's multiply-accumulates are not the layer's own; None where they are."""
    kinds = {kind.rpartition(".")[2] for kind in (info.type, *info.bases)}
    size = info.attributes.get("kernel_size")
    if "_ConvNd" not in kinds:
        return None
    if isinstance(size, tuple) and len(source.shape) != len(size) + 2:
        return "unbatched"
    return "transposed_output" if "_ConvTransposeNd" in kinds else None


__all__ = ["predict"]
