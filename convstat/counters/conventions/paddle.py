"""``paddle.flops``: hooks on the innermost layers of exactly known classes, as for the same network in PaddlePaddle."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from convstat.counters import parameters
from convstat.counters.base import Ledger, Prediction
from convstat.counters.conventions.base import Convention
from convstat.counters.innermost import is_innermost
from convstat.counters.layer_work import ATTENTION, first_input, own_kernels, weight_shape, why_unseen
from convstat.counters.products import Kernel, Work, fused_modules
from convstat.counters.uthop.modules import Part, Rule, integer, output_of
from convstat.trace import ModuleCall, ModuleInfo

if TYPE_CHECKING:
    from convstat.trace import Trace


def _nothing(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return []


def _each(code: str, times: int) -> Rule:
    return lambda call, info: [(code, times * first_input(call, info).numel)]


def _convolution(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return _convolved(call, info, output_of(call).numel)


def _transposed(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return _convolved(call, info, first_input(call, info).numel)


def _convolved(call: ModuleCall, info: ModuleInfo, places: int) -> list[Part]:
    """Each output element sums the channels of a group and the taps; the second size is that of the channels."""
    source, output, weight = first_input(call, info).shape, output_of(call), weight_shape(info)
    each = source[1] // integer(info, "groups") * prod(weight[2:])
    own = places * prod(weight[1:])
    batch = len(source) == len(weight)
    bias = output.numel if info.parameter("bias") is not None else 0
    code = "transposed_output" if _is_transposed(info) and batch else "unbatched"
    return [(None, own), (code, output.numel * each - own), ("bias", bias)]


def _is_transposed(info: ModuleInfo) -> bool:
    return "Transpose" in info.type


def _linear(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return [(None, integer(info, "in_features") * output_of(call).numel)]


def _average(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return [("pool_outputs", output_of(call).numel)]


def _adaptive(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    source, output = first_input(call, info).shape, output_of(call)
    window = prod(size // places for size, places in zip(source[2:], output.shape[2:], strict=True))
    return [("pool_steps", (window + 1) * output.numel)]


def _table() -> Mapping[str, Rule]:
    table: dict[str, Rule] = {
        "batchnorm.BatchNorm2d": _each("norm_affine_two", 2),
        "activation.ReLU": _nothing,
        "activation.ReLU6": _nothing,
        "activation.LeakyReLU": _each("activation", 1),
        "linear.Linear": _linear,
        "dropout.Dropout": _nothing,
    }
    for dims in "123":
        table[f"conv.Conv{dims}d"] = _convolution
        table[f"conv.ConvTranspose{dims}d"] = _transposed
        table[f"pooling.AvgPool{dims}d"] = _average
        table[f"pooling.AdaptiveAvgPool{dims}d"] = _adaptive
    return MappingProxyType({f"torch.nn.modules.{name}": rule for name, rule in table.items()})


RULES = _table()
"""Full name of the exact class -> what a call adds."""

_PROJECTIONS = ("aten.mm", "aten.addmm", "aten.linear")
"""The kernels of the projections of attention; those of its two products are others."""


class Paddle(Convention):
    """``paddle.flops`` of a network in dynamic graph mode."""

    name = "paddle"
    unit = "MACs and bias additions of convolutions, MACs of linear layers, and operations of norms and average pooling"
    source = "PaddlePaddle, python/paddle/hapi/dynamic_flops.py"
    counts = (
        "MACs and bias additions of convolutions, MACs of linear layers, two operations per element of a BatchNorm2D, "
        "one per element of a LeakyReLU and per output of an average pooling, and the parameters of innermost layers"
    )
    defects = (
        "Prices transposed convolutions at their output positions.",
        "Does not see functions, the products of attention, and recurrent layers.",
        "Counts BatchNorm2D, but not BatchNorm1D and BatchNorm3D, layer norms and group norms.",
        "Does not look at a network that is a single layer.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Price each call of a layer that has a rule and holds no others."""
        terms = Ledger()
        work = Work(trace, terms)
        called: set[int] = set()
        for call in trace.module_calls():
            info = trace.modules[call.module]
            if info.index and info.type == ATTENTION:
                # In PaddlePaddle, attention is made of four linear layers.
                called.add(info.index)
                work.claim(call, lambda kernel: kernel.call.op in _PROJECTIONS)
                continue
            if not _is_seen(info, trace):
                continue
            called.add(info.index)
            if (rule := RULES.get(info.type)) is None:
                continue
            for code, amount in rule(call, info):
                if code is None:
                    work.price(call, info.path, amount, own_kernels(work, call))
                else:
                    terms.add(info.path, code, macs=amount)
        work.unseen(trace.root, lambda kernel: _why(kernel, work))
        macs = terms.macs
        _enter_params(trace, terms, called)
        return Prediction(terms.params, macs, terms.terms(), fused=fused_modules(trace))


def _is_seen(info: ModuleInfo, trace: Trace) -> bool:
    return bool(info.index) and info.registered and is_innermost(info, trace.modules)


def _why(kernel: Kernel, work: Work) -> str:
    info = work.trace.modules[kernel.module]
    if info.index == 0 and info.type in RULES:
        return "root_itself"
    if info.type not in RULES and any(base in RULES for base in info.bases):
        return "subclass_unseen"
    return why_unseen(kernel, work, ruled=lambda info: info.type in RULES)


def _enter_params(trace: Trace, terms: Ledger, called: set[int]) -> None:
    """Enter every parameter once, and then what is counted otherwise."""
    parameters.enter(trace, terms)
    seen: set[int] = set()
    for info in trace.modules:
        if info.index not in called:
            continue
        held = [*info.parameters]
        if info.type == ATTENTION:
            held += [each for child in info.children for each in trace.modules[child].parameters]
        for parameter in held:
            if parameter.key in seen:
                terms.add(info.path, "tied_per_module", params=parameter.numel)
            seen.add(parameter.key)
    for parameter, info, _ in parameters.held(trace):
        if parameter.key not in seen:
            code = "root_unseen" if info.index == 0 else "outer_params" if _holds_others(info, trace) else "uncalled"
            terms.add(info.path, code, params=-parameter.numel)


def _holds_others(info: ModuleInfo, trace: Trace) -> bool:
    return not is_innermost(info, trace.modules)


PADDLE = Paddle()
