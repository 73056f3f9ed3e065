"""Values as the graph of ``torch.jit.trace`` has them: what goes in, what comes out, what is remembered of the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from convstat.counters.base import PredictedFailure
from convstat.counters.jit.sizes import TracedInt
from convstat.trace import ListInfo, Value
from convstat.trace.describe import describe

_NAMES = {
    # As the graph is normalised: operators that have several names get the first one.
    "multiply": "mul",
    "multiply_": "mul_",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__imul__": "mul_",
    "__matmul__": "matmul",
    "__rmatmul__": "matmul",
    "linalg_matmul": "matmul",
}


def as_tensors(value: Any) -> Any:
    """Numbers go in as tensors; besides, there may be tuples, lists, dicts, words and nothing."""
    if isinstance(value, (bool, int, float)):
        return torch.tensor(value, device="cpu")
    if isinstance(value, tuple):
        return tuple([as_tensors(item) for item in value])
    if isinstance(value, list):
        return [as_tensors(item) for item in value]
    if isinstance(value, dict):
        return {key: as_tensors(item) for key, item in value.items()}
    if value is None or isinstance(value, (torch.Tensor, str)):
        return value
    raise PredictedFailure(f"RuntimeError: {_UNSUPPORTED} an input of unsupported type: {type(value).__name__}")


_UNSUPPORTED = (
    "Only tuples, lists and Variables are supported as JIT inputs/outputs. Dictionaries and strings are also accepted,"
    " but their usage is not recommended. Here, received"
)


NO_DEPENDENCE = (
    "RuntimeError: an output of traced region did not have observable data dependence with trace inputs; "
    "this probably indicates your program cannot be understood by the tracer."
)

UNRECORDED = frozenset({"data", "grad", "_base", "requires_grad_", "is_contiguous", "__len__", "_fix_weakref"})
"""What gives a tensor that the graph takes for a constant, or none."""


def name_of(func: Any) -> str:
    """The name of an operator, of a method, or of an attribute that is read."""
    if isinstance(func, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        packet = func.overloadpacket if isinstance(func, torch._ops.OpOverload) else func
        namespace, _, name = str(packet._qualified_op_name).partition("::")
        return _NAMES.get(name, name) if namespace == "aten" else f"{namespace}::{name}"
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        name = str(getattr(func.__self__, "__name__", name))
    return _NAMES.get(name, name)


def holds_tensor(value: Any) -> bool:
    """Whether a result is a tensor or holds some."""
    return isinstance(value, torch.Tensor) or (
        isinstance(value, (tuple, list)) and any(isinstance(item, torch.Tensor) for item in tree_leaves(value))
    )


def plain(value: Any) -> Value:
    """What is remembered of a value; of traced sizes, the size."""
    if isinstance(value, torch.Tensor):
        return describe(value)
    if type(value) is TracedInt:
        return int(value)
    if isinstance(value, tuple):
        return tuple([plain(item) for item in value])
    if isinstance(value, list):
        return ListInfo(tuple([plain(item) for item in value]))
    return describe(value)


def storage_of(tensor: torch.Tensor) -> int:
    """What tells the storage of a tensor from all others as long as it lives; 0 where it has none."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return 0


def outputs_of(value: Any, *, tensors_only: bool) -> list[Any]:
    """The tensors among the outputs, in tuples, lists and dicts; what else there is, torch.jit.trace refuses."""
    found: list[Any] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, (torch.Tensor, TracedInt)):
            found.append(item)
        elif isinstance(item, (tuple, list)):
            stack.extend(item)
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif tensors_only or item is None or isinstance(item, str):
            continue
        elif isinstance(item, (bool, int, float)):
            # It becomes a tensor that comes from nowhere.
            raise PredictedFailure(NO_DEPENDENCE)
        else:
            raise PredictedFailure(f"RuntimeError: {_UNSUPPORTED} an input of unsupported type: {type(item).__name__}")
    return found
