"""Predict ptflops' ``pytorch`` backend from a trace.

Its total is ``int(modules / batch + functions)``:
what hooks on modules of exactly known types add, divided by the first size of the first input,
plus what patched functions add, which is not divided.
A module with a rule is summed up without looking inside it, once for every module that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.ptflops.functions import RULES as FUNCTIONS
from convstat.counters.ptflops.functions import Number
from convstat.counters.ptflops.modules import RULES as MODULES
from convstat.counters.ptflops.modules import why_mispriced
from convstat.trace import Call, FunctionCall, KernelCall, ListInfo, ModuleCall, ModuleInfo, TensorInfo, Trace

_PRODUCTS = """
convolution _convolution convolution_overrideable convolution_backward mkldnn_convolution cudnn_convolution
mm addmm bmm baddbmm addbmm _int_mm _addmm_activation matmul linear mkldnn_linear mv addmv dot vdot addr _trilinear
_grouped_mm _scaled_mm _weight_int8pack_mm _weight_int4pack_mm
mkldnn_rnn_layer lstm gru rnn_tanh rnn_relu _cudnn_rnn _thnn_fused_lstm_cell _thnn_fused_gru_cell
_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention
_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention _scaled_dot_product_attention_math
_scaled_dot_product_fused_attention_overrideable
_native_multi_head_attention _transformer_encoder_layer_fwd
"""
_QUANTIZED = (
    "linear linear_relu linear_dynamic linear_relu_dynamic conv1d conv2d conv3d conv1d_relu conv2d_relu conv3d_relu"
)

PRODUCTS = frozenset(
    [
        *(f"aten.{name}" for name in _PRODUCTS.split()),
        *(f"quantized.{name}" for name in _QUANTIZED.split()),
        "torchvision.deform_conv2d",
    ]
)
"""Kernels that multiply and accumulate: where one runs unpriced, its layer has MACs that the counter misses."""

_SINGLE = ("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")
"""Layers that make one product, in the function that they call: another is made by a hook."""

_TWICE: dict[str | None, str] = {"activation": "activation_twice", "softmax": "softmax_twice", "pool": "pool_twice"}
_TWICE |= {"upsample": "upsample_twice", None: "attention_twice"}


@dataclass(slots=True)
class _Scope:
    """Where the walk is: the layer, what its module's hook has priced, and whether products are priced already."""

    layer: str
    info: ModuleInfo
    priced: frozenset[str | None] = frozenset()
    products_priced: bool = False
    is_module: bool = False


@dataclass(slots=True)
class _Walk:
    trace: Trace
    batch: int
    times: dict[int, int]
    modules: int = 0
    functions: list[Number] = field(default_factory=list)
    tensors: list[Number] = field(default_factory=list)
    terms: Ledger = field(default_factory=Ledger)
    because: dict[str, str] = field(default_factory=dict)

    def walk(self, call: Call, scope: _Scope) -> None:
        if isinstance(call, KernelCall):
            # What a kernel calls in turn is how this device computes it; see how the tool is run on meta.
            if call.op in PRODUCTS and not scope.products_priced:
                self.because.setdefault(scope.layer, self._why_unseen(scope.info))
            elif call.op in PRODUCTS and scope.is_module and scope.info.type.rpartition(".")[2] in _SINGLE:
                self.because.setdefault(scope.layer, "hook_unseen")
            return
        if isinstance(call, ModuleCall):
            scope = self._module(call, scope)
        elif call.name in FUNCTIONS:
            scope = self._function(call, scope)
        for child in call.children:
            self.walk(child, scope)
        if isinstance(call, ModuleCall) and call.module == 0:
            self._batch_hook(call)

    def _module(self, call: ModuleCall, scope: _Scope) -> _Scope:
        info = self.trace.modules[call.module]
        if not info.registered:
            return _Scope(scope.layer, info, scope.priced, scope.products_priced)
        inner = _Scope(info.path, info, is_module=True)
        rule = MODULES.get(info.type)
        if rule is None:
            return inner
        times = self.times.get(info.index, 0)
        parts = rule(call, info, self.trace)
        if times:
            inner.priced = frozenset(code for code, amount in parts if amount)
            inner.products_priced = None in inner.priced
        else:
            self.because[info.path] = "inside_counted"
        for code, amount in parts:
            self.modules += times * amount
            if times:
                self._module_term(info.path, code, amount)
                self._module_term(info.path, "shared_parents", (times - 1) * amount)
        mispriced = why_mispriced(call, info)
        if mispriced:
            self.because.setdefault(info.path, mispriced)
        return inner

    def _module_term(self, layer: str, code: str | None, amount: int) -> None:
        each = amount // self.batch
        if code is None:
            self.terms.add(layer, None, macs=amount)
            self.terms.add(layer, "per_sample", macs=each - amount)
        else:
            self.terms.add(layer, code, macs=each)

    def _function(self, call: FunctionCall, scope: _Scope) -> _Scope:
        number, parts = FUNCTIONS[call.name](call)
        # Two lists, because floats are summed in their order.
        (self.functions if call.name.startswith("torch.nn.functional.") else self.tensors).append(number)
        for code, amount in parts:
            known_as = _TWICE.get(code, code) if code in scope.priced else code
            whole = int(amount)
            if known_as is None:
                self.terms.add(scope.layer, None, macs=whole)
            else:
                self.terms.add(scope.layer, known_as, macs=whole // self.batch)
                self.terms.add(scope.layer, "functional_batch", macs=whole - whole // self.batch)
        codes = frozenset(code for code, _ in parts)
        if None in codes:
            if not scope.products_priced:
                self.because.setdefault(scope.layer, "functional_mispriced")
            return _Scope(scope.layer, scope.info, scope.priced | codes, True)
        return _Scope(scope.layer, scope.info, scope.priced | (codes & {"upsample"}), scope.products_priced)

    def _batch_hook(self, call: ModuleCall) -> None:
        if len(call.args) == 1 and isinstance(call.args[0], TensorInfo) and not call.args[0].shape:
            raise PredictedFailure("TypeError: len() of a 0-d tensor")

    def _why_unseen(self, info: ModuleInfo) -> str:
        if not info.registered:
            return "unregistered"
        if any(base in MODULES for base in info.bases):
            return "subclass_unseen"
        return "no_rule" if info.type.startswith("torch.nn.") else "functional_unseen"


def _holders(trace: Trace) -> dict[int, int]:
    """How often each module is summed up: along every way from the root that does not lead through a priced one."""
    times: dict[int, int] = {}

    def visit(index: int) -> None:
        times[index] = times.get(index, 0) + 1
        if trace.modules[index].type not in MODULES:
            for child in trace.modules[index].children:
                visit(child)

    visit(0)
    return times


def batch_of(trace: Trace) -> int:
    """What the module part is divided by: ``len`` of the only input; 1 where inputs go by keyword.

    That is the first size of a tensor, and the number of pictures in a list of them.
    """
    args = trace.root.args
    if len(args) != 1:
        return 1
    if isinstance(args[0], TensorInfo) and args[0].shape:
        return args[0].shape[0]
    return max(1, len(args[0].items)) if isinstance(args[0], ListInfo) else 1


def trainable_params(trace: Trace, terms: Ledger) -> int:
    """Enter every parameter, take out the frozen ones, and return what is left."""
    seen: set[int] = set()
    for info in trace.modules:
        for parameter in info.parameters:
            if not info.registered or parameter.key in seen:
                continue
            seen.add(parameter.key)
            terms.add(info.path, None, params=parameter.numel)
            if not parameter.requires_grad:
                terms.add(info.path, "trainable_only", params=-parameter.numel)
    return terms.params


def predict(trace: Trace) -> Prediction:
    """Say what ptflops' ``pytorch`` backend will answer."""
    walk = _Walk(trace, batch_of(trace), _holders(trace))
    try:
        walk.walk(trace.root, _Scope("", trace.modules[0]))
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))
    total: Number = walk.modules / walk.batch
    total += sum(walk.functions)
    total += sum(walk.tensors)
    macs = int(total)
    walk.terms.add("", "rounding", macs=macs - walk.terms.macs)
    params = trainable_params(trace, walk.terms)
    return Prediction(params, macs, walk.terms.terms(), walk.because)


__all__ = ["PRODUCTS", "batch_of", "predict", "trainable_params"]
