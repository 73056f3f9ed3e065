"""Predict torchsummary from a trace: its rows, its parameters, its four memory figures, and its crashes.

It hooks every module except the model itself and Sequential and ModuleList, and makes a row for every *call*,
or several, because a module that two others hold is hooked twice;
a row's parameters are the sizes of the module's ``weight`` and ``bias``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from convstat.counters import parameters
from convstat.counters.base import Ledger, PredictedFailure, Prediction, Term
from convstat.counters.layer_work import is_scripted
from convstat.counters.products import fused_modules
from convstat.trace import (
    DictInfo,
    FunctionCall,
    ListInfo,
    ModuleCall,
    ModuleInfo,
    ObjectInfo,
    TensorInfo,
    Trace,
    Value,
)
from convstat.trace.walks import ways

_CONTAINERS = ("torch.nn.modules.container.Sequential", "torch.nn.modules.container.ModuleList")
BATCH = 2
"""The batch that torchsummary makes, whatever is asked for."""


def is_hooked(info: ModuleInfo) -> bool:
    """Whether calls of the module get a row."""
    return info.index != 0 and info.registered and not _is_container(info)


def _is_container(info: ModuleInfo) -> bool:
    return info.type in _CONTAINERS or any(base in _CONTAINERS for base in info.bases)


def predict(trace: Trace) -> Prediction:
    """Say what torchsummary will answer."""
    calls = [call for call in trace.module_calls() if is_hooked(trace.module_of(call))]
    hooks = ways(trace)
    if any(is_hooked(info) and is_scripted(info) for info in trace.modules):
        raise PredictedFailure("RuntimeError: register_forward_hook is not supported on ScriptModules")
    _check_inputs(trace)
    elements = 0
    for call in calls:
        _check_input(call, trace)
        elements += hooks[call.module] * _elements(call, trace)
    if not any(_tensors(trace.module_of(call)) for call in calls):
        raise PredictedFailure(
            "AttributeError: 'int' object has no attribute 'numpy' (no layer inside the model has a weight or a bias)"
        )
    memory = _memory(trace, calls, hooks, elements)
    terms = _params(trace, calls, hooks)
    return Prediction(
        terms.params,
        None,
        terms.terms(),
        memory_mib=memory,
        remarks=tuple(_remarks(trace, calls)),
        fused=fused_modules(trace),
    )


def _tensors(info: ModuleInfo) -> list[tuple[str, TensorInfo]]:
    found = ((name, info.attributes.get(name)) for name in ("weight", "bias"))
    return [(name, value) for name, value in found if isinstance(value, TensorInfo)]


def _check_inputs(trace: Trace) -> None:
    inputs = [value for value in trace.root.args if isinstance(value, TensorInfo)]
    if any(value.dtype != "float32" for value in inputs):
        for call, _ in trace.kernels():
            if call.op in ("aten.embedding", "aten.index"):
                raise PredictedFailure("RuntimeError: it makes floating-point inputs, and the model takes indices")
    if is_of_other_type(trace):
        raise PredictedFailure("RuntimeError: it makes float32 inputs, and the model's parameters are not float32")
    if len({len(value.shape) for value in inputs}) > 1:
        raise PredictedFailure("ValueError: its input size is computed from inputs of one number of dimensions")


def is_of_other_type(trace: Trace) -> bool:
    """Whether the model got other numbers than those of float32, which torchsummary makes."""
    given = {value.dtype for value in trace.root.args if isinstance(value, TensorInfo)}
    return bool(given & {"float16", "bfloat16", "float64", "complex32", "complex64", "complex128"})


def _check_input(call: ModuleCall, trace: Trace) -> None:
    name = trace.module_of(call).path
    if not call.args:
        raise PredictedFailure(f"IndexError: tuple index out of range ({name} is called with keywords only)")
    first = call.args[0]
    if not isinstance(first, TensorInfo):
        raise PredictedFailure(f"AttributeError: {_kind(first)} object has no attribute 'size' (the input of {name})")
    if not first.shape:
        raise PredictedFailure(f"IndexError: the input of {name} has no dimensions")


def _kind(value: Value) -> str:
    match value:
        case None:
            return "'NoneType'"
        case DictInfo():
            return "'dict'"
        case ListInfo():
            return "'list'"
        case ObjectInfo():
            return f"'{value.type.rpartition('.')[2]}'"
        case _:
            return f"'{type(value).__name__}'"


def _elements(call: ModuleCall, trace: Trace) -> int:
    """What a row adds to the sum of output elements: minus its size for a batch of -1, oddities included."""
    name, output = trace.module_of(call).path, call.output
    if isinstance(output, ListInfo):
        output = output.items
    if isinstance(output, tuple):
        for item in output:
            if not isinstance(item, TensorInfo):
                raise PredictedFailure(
                    f"AttributeError: {_kind(item)} object has no attribute 'size' (in the output of {name})"
                )
        shapes = [(-1, *item.shape[1:]) for item in output if isinstance(item, TensorInfo)]
        if len({len(shape) for shape in shapes}) > 1:
            raise PredictedFailure(f"ValueError: the outputs of {name} differ in their number of dimensions")
        return _int64(prod(prod(shape) for shape in shapes))
    if not isinstance(output, TensorInfo):
        raise PredictedFailure(f"AttributeError: {_kind(output)} object has no attribute 'size' (the output of {name})")
    if not output.shape:
        raise PredictedFailure(f"IndexError: the output of {name} has no dimensions")
    return -_int64(prod(output.shape[1:]))


def _int64(value: int) -> int:
    """Wrap around as numpy's products of integers do."""
    return (value + 2**63) % 2**64 - 2**63


def _memory(trace: Trace, calls: list[ModuleCall], hooks: Mapping[int, int], elements: int) -> Mapping[str, float]:
    # All sizes of all inputs in one product, as the tool has it.
    inputs = _int64(prod(prod(value.shape[1:]) for value in trace.root.args if isinstance(value, TensorInfo)))
    params = sum(hooks[call.module] * tensor.numel for call in calls for _, tensor in _tensors(trace.module_of(call)))
    input_size = abs(inputs * -1 * 4.0 / (1024**2.0))
    output_size = abs(2.0 * elements * 4.0 / (1024**2.0))
    params_size = abs(params * 4.0 / (1024**2.0))
    total = params_size + output_size + input_size
    sizes = {"input": input_size, "forward_backward": output_size, "params": params_size, "total": total}
    # To the digits that it prints, because those are what it reports.
    return {name: float("%0.2f" % size) for name, size in sizes.items()}  # noqa: UP031 - the tool's own format


def _remarks(trace: Trace, calls: list[ModuleCall]) -> Iterator[Term]:
    """What is to be known about the memory figures."""
    for call in calls:
        info = trace.module_of(call)
        yield Term(info.path, code="forward_backward")
        if info.children:
            yield Term(info.path, code="containers_again")
        output = call.output.items if isinstance(call.output, ListInfo) else call.output
        if isinstance(output, tuple) and len(output) > 1:
            yield Term(info.path, code="tuple_product")
    if sum(isinstance(value, TensorInfo) for value in trace.root.args) > 1:
        yield Term("", code="input_product")


def _params(trace: Trace, calls: list[ModuleCall], hooks: Mapping[int, int]) -> Ledger:
    """Start from every parameter once, then enter what the rows add and miss."""
    terms = Ledger()
    called = [0] * len(trace.modules)
    for call in calls:
        called[call.module] += 1
    parameters.enter(trace, terms)
    counted: set[int] = set()
    for info in trace.modules:
        if not info.registered:
            continue
        rows = dict(_tensors(info))
        for parameter in info.parameters:
            times = called[info.index] if parameter.name in rows else 0
            rows.pop(parameter.name, None)
            if times == 0:
                continue
            again = parameter.key in counted
            counted.add(parameter.key)
            terms.add(info.path, "tied_per_module", params=parameter.numel if again else 0)
            terms.add(info.path, "shared_per_call", params=(times - 1) * parameter.numel, calls=times - 1)
            parents = hooks[info.index] - 1
            terms.add(info.path, "shared_parents", params=times * parents * parameter.numel, calls=times * parents)
        for tensor in rows.values():
            amount = called[info.index] * hooks[info.index] * tensor.numel
            terms.add(info.path, "not_a_parameter", params=amount)
    for parameter, info, _ in parameters.held(trace):
        if parameter.key not in counted:
            terms.add(info.path, _why_missed(info, parameter.name, called), params=-parameter.numel)
    return terms


def _why_missed(info: ModuleInfo, name: str, called: list[int]) -> str:
    if info.index == 0:
        return "root_unseen"
    if _is_container(info):
        return "container_unseen"
    return "not_weight_or_bias" if called[info.index] else "uncalled"


def depends_on_batch(trace: Trace) -> bool:
    """Whether a batch of two may give rows that this trace does not show.

    It may where a row's first size is not the batch: then the batch stands elsewhere.
    And it may where a convolution takes a sample without a batch, as its first size are channels then.
    """
    batches = {value.shape[0] for value in trace.root.args if isinstance(value, TensorInfo) and value.shape}
    if batches == {BATCH}:
        return False
    if any(_is_without_batch(call) for call in trace.functions()):
        return True
    for call in trace.module_calls():
        outputs = call.output if isinstance(call.output, tuple) else (call.output,)
        for value in outputs:
            if isinstance(value, TensorInfo) and value.shape and {value.shape[0]} != batches:
                return True
    return False


def _is_without_batch(call: FunctionCall) -> bool:
    shapes = [value.shape for value in call.args[:2] if isinstance(value, TensorInfo)]
    return ".conv" in call.name and len(shapes) == 2 and len(shapes[0]) < len(shapes[1])
