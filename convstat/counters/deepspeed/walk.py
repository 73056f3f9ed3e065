"""Predict DeepSpeed's flops profiler and calflops from a trace.

Both replace functions of torch. What a call of one adds goes to the innermost module of the model that is running,
on a stack that hooks keep. Recurrent layers have no place on it: a hook of theirs adds their FLOPs, and no MACs.
In the end, the amounts of all modules are summed: of each once, or along every way that leads to it.
Where a rule of theirs raises, the whole count fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convstat.counters import parameters
from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.deepspeed.parts import parts_of
from convstat.counters.deepspeed.rules import Rule
from convstat.counters.kernel_walk import is_custom
from convstat.counters.layer_work import no_attribute
from convstat.counters.products import Kernel, Work, fused_modules
from convstat.trace import Call, FunctionCall, KernelCall, ModuleCall, ModuleInfo, TensorInfo, Trace
from convstat.trace.walks import ways

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Convention:
    """In what the two tools, and their versions, differ.

    ``functions``: where a replaced function is looked up -> its rule.
    ``every_way``: the sum takes a module once for each way that leads to it from the root.
    ``trainable``: only trainable parameters are counted.
    ``first_parameter``: it looks for the device of the first parameter, and fails where there is none.
    """

    functions: Mapping[str, Rule]
    every_way: bool
    trainable: bool
    first_parameter: bool


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where the walk is: the layer, the module that amounts go to, and the custom operator that is running."""

    layer: str
    sink: int | None = None
    operator: KernelCall | None = None


@dataclass(slots=True)
class _Walk:
    trace: Trace
    convention: Convention
    times: Mapping[int, int]
    terms: Ledger
    work: Work
    flops: int = 0

    def walk(self, call: Call, scope: _Scope) -> None:
        if isinstance(call, KernelCall):
            # What torch's own kernels call in turn is how meta computes it; see how the tools are run there.
            if self.trace.device == "meta" or not is_custom(call):
                return
            scope = replace(scope, operator=call)
        elif isinstance(call, ModuleCall):
            scope = self._module(call, scope)
        elif call.name in self.convention.functions:
            self._function(call, scope)
        for child in call.children:
            self.walk(child, scope)
        if isinstance(call, ModuleCall):
            self._recurrent_hook(call)

    def _module(self, call: ModuleCall, scope: _Scope) -> _Scope:
        info = self.trace.modules[call.module]
        if not info.registered:
            return scope
        return _Scope(info.path, scope.sink if info.type in _RECURRENT else info.index, scope.operator)

    def _function(self, call: FunctionCall, scope: _Scope) -> None:
        try:
            flops, macs = self.convention.functions[call.name](*call.args, **call.kwargs)
        except (TypeError, ValueError, AssertionError, AttributeError, IndexError, KeyError, ArithmeticError) as error:
            raise PredictedFailure(_reason(call.name, error)) from error
        if scope.sink is None:
            return
        times = self.times.get(scope.sink, 0)
        self.flops += times * flops
        self.terms.add(scope.layer, "shared_parents", macs=(times - 1) * macs)
        for code, amount in parts_of(call, macs):
            if code is not None:
                self.terms.add(scope.layer, code, macs=amount)
            elif scope.operator is not None:
                # The kernels that it calls are the operator's.
                self.terms.add(scope.layer, "inside_operator", macs=amount)
            else:
                self.work.price(call, scope.layer, amount)

    def why_unseen(self, kernel: Kernel) -> str:
        """Why no function that is replaced has seen a kernel."""
        info = self.trace.modules[kernel.module]
        if "torch.einsum" in kernel.functions:
            return "einsum_no_macs"
        if info.type in _RECURRENT:
            return "rnn_no_macs"
        if kernel.call.op in _FUSED:
            return "fused_kernel"
        return "unpatched"

    def _recurrent_hook(self, call: ModuleCall) -> None:
        info = self.trace.modules[call.module]
        if info.registered and info.type in _RECURRENT:
            amount = _recurrent(call, info)
            self.flops += self.times.get(info.index, 0) * amount


def _reason(name: str, error: Exception) -> str:
    # A function of ours raised it, and its name in the message would lead astray.
    message = str(error).partition("() ")[2] or str(error)
    return f"{type(error).__name__}: its rule for {name}{': ' if message else ''}{message}"


_FUSED = ("aten._native_multi_head_attention", "aten._transformer_encoder_layer_fwd")
_ELEMENTWISE = {"RNN": 1, "GRU": 7, "LSTM": 10}
"""Kind -> element-wise operations for each unit of a step."""
_RECURRENT = frozenset(f"torch.nn.modules.rnn.{kind}{cell}" for kind in _ELEMENTWISE for cell in ("", "Cell"))


def _recurrent(call: ModuleCall, info: ModuleInfo) -> int:
    """The FLOPs of a recurrent layer: matrix products without the first additions, gates, and biases."""
    if not call.args:
        raise PredictedFailure("IndexError: a recurrent layer is called without positional inputs")
    source = call.args[0]
    kind = info.type.rpartition(".")[2]
    is_cell = kind.endswith("Cell")
    if not isinstance(source, TensorInfo):
        raise PredictedFailure("AttributeError: a recurrent layer is called with a packed sequence")
    if len(source.shape) < 2:
        raise PredictedFailure("IndexError: tuple index out of range")
    hidden, layers = info.attributes.get("hidden_size"), info.attributes.get("num_layers", 1)
    if not isinstance(hidden, int) or not isinstance(layers, int):
        raise PredictedFailure("AttributeError: a recurrent layer without its sizes")
    flops = 0
    for layer in range(layers):
        suffix = "" if is_cell else f"_l{layer}"
        for name in (f"weight_ih{suffix}", f"weight_hh{suffix}"):
            weight = info.parameter(name)
            if weight is None:
                raise PredictedFailure(f"AttributeError: '{kind}' object has no attribute '{name}'")
            flops += 2 * weight.numel - weight.shape[0]
            flops += weight.shape[0] if info.attributes.get("bias") else 0
        flops += _ELEMENTWISE[kind.removesuffix("Cell")] * hidden
    if is_cell:
        return flops * source.shape[0]
    return flops * source.shape[0] * source.shape[1] * (2 if info.attributes.get("bidirectional") else 1)


def _enter_params(trace: Trace, terms: Ledger, *, trainable: bool) -> int:
    """Enter every parameter once, take out what is not counted, and return how many parameters there are to find."""
    found = 0
    for parameter, info, layer in parameters.held(trace):
        terms.add(layer, None, params=parameter.numel)
        if parameters.is_packed(info):
            terms.add(layer, "packed_unseen", params=-parameter.numel)
            continue
        found += 1
        if trainable and not parameter.requires_grad:
            terms.add(layer, "trainable_only", params=-parameter.numel)
    return found


def predict(trace: Trace, convention: Convention) -> Prediction:
    """Say what a tool of this convention will answer."""
    if trace.made:
        return Prediction(None, None, failure=no_attribute(trace.made[0], "__flops__"))
    terms = Ledger()
    try:
        times = ways(trace) if convention.every_way else dict.fromkeys(ways(trace), 1)
        walk = _Walk(trace, convention, times, terms, Work(trace, terms))
        walk.walk(trace.root, _Scope(""))
        walk.work.unseen(trace.root, walk.why_unseen)
        macs = terms.macs
        if not _enter_params(trace, terms, trainable=convention.trainable) and convention.first_parameter:
            raise PredictedFailure("StopIteration: it looks for the device of the first parameter, and there is none")
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))
    native = {"flops": walk.flops}
    return Prediction(terms.params, macs, terms.terms(), native=native, fused=fused_modules(trace))


def uninitialised(model: torch.nn.Module) -> bool:
    """Whether the model has trainable parameters whose shapes its first forward pass will tell."""
    from torch.nn.parameter import is_lazy

    return any(is_lazy(parameter) and parameter.requires_grad for parameter in model.parameters())


def check_hooks(model: torch.nn.Module) -> None:
    """Foresee that the hooks of these tools cannot be put on a model, or not be taken away."""
    from torch.jit import ScriptModule

    for module in model.modules():
        if isinstance(module, ScriptModule):
            raise PredictedFailure("RuntimeError: register_forward_pre_hook is not supported on ScriptModules")
        if hasattr(module, "__pre_hook_handle__"):
            # It is taken for the hook that is there already.
            raise PredictedFailure("AttributeError: what a module says is its hook is none")
