"""Predict torchstat from a trace: its rows, which are the innermost modules, and its crashes.

It gives the class of each of them another ``__call__``. So modules of the same class that hold others are called in
that way too, and have to return a tensor; those of a class that is made of such a one cannot be called at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from convstat.counters import parameters
from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.capture import installed_version
from convstat.counters.layer_work import is_scripted, no_attribute, own_kernels, why_unseen
from convstat.counters.parameters import is_packed
from convstat.counters.passes import products_by_layer
from convstat.counters.products import Kernel, Work, fused_modules
from convstat.counters.torchscan.macs import base_of
from convstat.counters.torchstat.rules import FLOPS, figures
from convstat.trace import ModuleCall, ModuleInfo, TensorInfo, Trace

_BUFFERS = (
    "input_shape",
    "output_shape",
    "parameter_quantity",
    "inference_memory",
    "MAdd",
    "duration",
    "Flops",
    "Memory",
)
_ATTENTION = ("MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer")
_NOT_FLOAT32 = {"float16", "bfloat16", "float64"}


@dataclass(frozen=True, slots=True)
class OtherTrace(Trace):
    """A trace of the run that torchstat makes, where that is another one than was counted.

    ``counted`` is what the layers multiply in the run that was counted, and ``why`` is why they multiply otherwise.
    """

    counted: Mapping[str, int] = field(default_factory=dict)
    why: str = "one_sample"


def of_another_run(trace: Trace, counted: Trace, *, batched: bool) -> OtherTrace:
    """The trace of another run, with what was counted: it is of one sample, or of other values."""
    why = "one_sample" if batched else "other_data"
    return trace.extended(OtherTrace, counted=products_by_layer(counted), why=why)


def predict(trace: Trace) -> Prediction:
    """Say what torchstat will answer."""
    _check(trace)
    walk = _Walk(trace)
    for call in walk.calls:
        walk.call(call)
    walk.leave_out_all_but_the_last()
    walk.work.unseen(trace.root, walk.why_unseen)
    if isinstance(trace, OtherTrace):
        ran = products_by_layer(trace)
        for layer in {**trace.counted, **ran}:
            less = ran.get(layer, 0) - trace.counted.get(layer, 0)
            walk.terms.add(layer, None, macs=-less)
            walk.terms.add(layer, trace.why, macs=less)
    macs = walk.terms.macs
    walk.enter_parameters()
    native = {"Flops": macs, "MAdd": sum(walk.madd.values())}
    return Prediction(walk.terms.params, macs, walk.terms.terms(), native=native, fused=fused_modules(trace))


def depends_on_batch(trace: Trace) -> bool:
    """Whether a batch of one may give rows that this trace does not show: where a first size is not the batch."""
    batch = _batch(trace)
    if batch < 2 or not _takes_an_image(trace):
        return False
    seen = (value for call in _wrapped(trace) for value in (*call.args[:1], call.output))
    return any(isinstance(value, TensorInfo) and value.shape and value.shape[0] != batch for value in seen)


def depends_on_hooks(trace: Trace) -> bool:
    """Whether the trace, which hooks every module, may have chosen other kernels than a run without hooks: on a real
    device, for attention that is frozen.
    """
    found = (info for info in trace.modules if info.type.rpartition(".")[2] in _ATTENTION)
    return trace.device != "meta" and any(not _is_trained(trace, info) for info in found)


def _is_trained(trace: Trace, info: ModuleInfo) -> bool:
    if any(parameter.requires_grad for parameter in info.parameters):
        return True
    return any(_is_trained(trace, trace.modules[child]) for child in info.children)


def _batch(trace: Trace) -> int:
    first = trace.root.args[0] if trace.root.args else None
    return first.shape[0] if isinstance(first, TensorInfo) and first.shape else 1


def _takes_an_image(trace: Trace) -> bool:
    inputs = trace.root.args
    first = inputs[0] if len(inputs) == 1 and not trace.root.kwargs else None
    return isinstance(first, TensorInfo) and len(first.shape) == 4


def _check(trace: Trace) -> None:
    first = trace.root.args[0] if trace.root.args else None
    if not _takes_an_image(trace) or not isinstance(first, TensorInfo):
        raise PredictedFailure("AssertionError: it makes one input, an image of three sizes")
    if trace.device not in ("cpu", "meta"):
        raise PredictedFailure("RuntimeError: it makes its input on the CPU, whatever device the model is on")
    if {p.dtype for info in trace.modules for p in info.parameters} & _NOT_FLOAT32:
        raise PredictedFailure("RuntimeError: it makes a float32 input, and the model's parameters are not float32")
    if first.dtype != "float32" and any(call.op in ("aten.embedding", "aten.index") for call, _ in trace.kernels()):
        raise PredictedFailure("RuntimeError: it makes a floating-point input, and the model takes indices")
    replaced = _replaced(trace)
    for info in trace.modules:
        if info.made and _has_row(info) and info.type not in replaced:
            raise PredictedFailure(no_attribute(info, "input_shape"))
        if _has_row(info) and is_scripted(info):
            raise PredictedFailure("RuntimeError: Can't add a new parameter after ScriptModule construction")
        if _has_row(info):
            buffers = {buffer.name for buffer in info.buffers}
            for name in _BUFFERS:
                if name in info.attributes and name not in buffers:
                    raise PredictedFailure(f"KeyError: attribute '{name}' of {info.path or 'the model'} exists already")


def _has_row(info: ModuleInfo) -> bool:
    return info.registered and not info.children


def _replaced(trace: Trace) -> dict[str, bool]:
    """The classes whose ``__call__`` is replaced, and whether that calls itself: an ancestor's was replaced before."""
    found: dict[str, bool] = {}
    for info in trace.modules:
        had_children = any(not trace.modules[child].made for child in info.children)
        if info.registered and not info.made and not had_children and info.type not in found:
            found[info.type] = any(base in found for base in info.bases)
    return found


def _wrapped(trace: Trace) -> Iterator[ModuleCall]:
    replaced = _replaced(trace)
    for call in trace.module_calls():
        info = trace.modules[call.module]
        if any(kind in replaced for kind in (info.type, *info.bases)):
            yield call


class _Walk:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.batch = _batch(trace)
        self.replaced = _replaced(trace)
        self.calls = tuple(_wrapped(trace))
        self.terms = Ledger()
        self.work = Work(trace, self.terms)
        self.rows: dict[int, list[int]] = {}
        self.madd: dict[int, int] = {}

    def call(self, call: ModuleCall) -> None:
        """Make a row of a call, or fail as torchstat does."""
        info = self.trace.modules[call.module]
        name = info.path or "the model"
        if info.type not in self.replaced:
            raise PredictedFailure(f"AssertionError: the class of {name} is made of one that it has changed")
        if self.replaced[info.type]:
            raise PredictedFailure(f"RecursionError: the class of {name} is made of one that it has changed before")
        source, output = _tensors(call, name)
        if not _numpy_has_long():
            raise PredictedFailure("AttributeError: module 'numpy' has no attribute 'long'")
        parts, madd = figures(info, call.args, self._one(source), self._one(output))
        if not _has_row(info):
            return
        for code, amount in parts:
            if code is None:
                self.work.price(call, info.path, amount * self.batch, own_kernels(self.work, call))
                self.terms.add(info.path, "one_sample", macs=amount - amount * self.batch)
            else:
                self.terms.add(info.path, code, macs=amount)
        self.rows.setdefault(info.index, []).append(sum(amount for _, amount in parts))
        self.madd[info.index] = madd

    def _one(self, tensor: TensorInfo) -> tuple[int, ...]:
        """The shape for a batch of one."""
        return (tensor.shape[0] // self.batch, *tensor.shape[1:]) if tensor.shape else ()

    def leave_out_all_but_the_last(self) -> None:
        """A module's row is written anew at each call."""
        for index, amounts in self.rows.items():
            earlier = amounts[:-1]
            self.terms.add(self.trace.modules[index].path, "last_call", macs=-sum(earlier), calls=len(earlier))

    def why_unseen(self, kernel: Kernel) -> str:
        """Why nothing has priced a kernel."""
        info = self.trace.modules[kernel.module]
        is_known = base_of(info, FLOPS) is not None
        if info.registered and is_known and not _has_row(info):
            return "holds_others"
        return why_unseen(kernel, self.work, ruled=lambda info: is_known)

    def enter_parameters(self) -> None:
        """Enter every parameter once, and then what the rows miss and repeat."""
        parameters.enter(self.trace, self.terms)
        counted: set[int] = set()
        for index in self.rows:
            info = self.trace.modules[index]
            for parameter in () if is_packed(info) else info.parameters:
                if parameter.key in counted:
                    self.terms.add(info.path, "tied_per_module", params=parameter.numel)
                counted.add(parameter.key)
        for parameter, info, _ in parameters.held(self.trace):
            if parameter.key not in counted:
                code = "packed_params" if is_packed(info) else "outer_params" if info.children else "uncalled"
                self.terms.add(info.path, code, params=-parameter.numel)


def _tensors(call: ModuleCall, name: str) -> tuple[TensorInfo, TensorInfo]:
    """What goes in first and what comes out: it takes the one to numpy and asks the other for its size."""
    if not call.args:
        raise PredictedFailure(f"IndexError: tuple index out of range ({name} is called with keywords only)")
    source = call.args[0]
    if not isinstance(source, TensorInfo) or source.is_sparse or source.dtype == "bfloat16":
        raise PredictedFailure(f"AttributeError: it takes the input of {name} to numpy, and it is no plain tensor")
    if not isinstance(call.output, TensorInfo):
        raise PredictedFailure(f"AttributeError: it asks the output of {name} for its size, and it is no tensor")
    return source, call.output


def _numpy_has_long() -> bool:
    """numpy.long went with numpy 1.24, and came back, as another type, with 2.0; without numpy, the newest counts."""
    version = installed_version("numpy")
    parts = (version or "2.0").split(".")
    return not (1, 24) <= (int(parts[0]), int(parts[1])) < (2, 0)
