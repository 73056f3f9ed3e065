"""Answer kernels on meta from memory.

On the meta device a kernel only says what its result looks like, most of them in Python, and takes longer for it than
a small kernel takes to compute on a CPU. A network asks the same few questions again and again:
the same kernel for arguments of the same shapes. What was answered once is answered from memory from then on.

Only kernels without side effects and views are remembered, with arguments that are plain values and plain tensors on
meta; every other call runs as it always does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from convstat.patches.dispatch import Watching
from convstat.trace.describe import TENSORS

MOST = 20_000
"""Answers that are kept; a network of a thousand layers asks some hundred different questions."""

_META = torch.device("meta")
_empty = torch.empty_strided
_PLAIN_DTYPES = frozenset(
    (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
)
_PLAIN_VALUES = frozenset((int, float, bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format))

_Like = tuple[Any, Any, Any]
_answers: dict[Any, tuple[bool, tuple[_Like, ...]]] = {}
_remembered: dict[Any, bool] = {}


def from_memory(func: Any, args: Any, kwargs: Any, run: Callable[[Any, Any, Any], Any]) -> Any:
    """Run a kernel with ``run(func, args, kwargs)``, or answer as it did before.

    >>> asked = []
    >>> def run(func, args, kwargs):
    ...     asked.append(func)
    ...     return func(*args, **kwargs)
    >>> picture = torch.empty(7, 5, device="meta")
    >>> first, second = (from_memory(torch.ops.aten.exp2.default, (picture,), {}, run) for _ in range(2))
    >>> first is second, second.shape, len(asked)
    (False, torch.Size([7, 5]), 1)
    """
    can_be = _remembered.get(func)
    if can_be is None:
        can_be = _remembered[func] = _is_functional(func)
    key = _question(func, args, kwargs) if can_be else None
    if key is None:
        return run(func, args, kwargs)
    known = _answers.get(key)
    if known is not None:
        is_single, likes = known
        if is_single:
            size, stride, dtype = likes[0]
            return _empty(size, stride, dtype=dtype, device=_META)
        return tuple([_empty(size, stride, dtype=dtype, device=_META) for size, stride, dtype in likes])
    result = run(func, args, kwargs)
    is_single = isinstance(result, torch.Tensor)
    found = [like for value in ((result,) if is_single else result) if (like := _like(value)) is not None]
    if len(found) == len(func._schema.returns):
        if len(_answers) >= MOST:
            _answers.clear()
        _answers[key] = is_single, tuple(found)
    return result


class Remembering(Watching):  # type: ignore[no-untyped-call]
    """Answers from memory every kernel on meta that can be, for as long as it is entered."""

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return from_memory(func, args, kwargs, _run)


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs)


def _is_functional(func: Any) -> bool:
    """Whether an operator only makes new tensors, and nothing else."""
    if not isinstance(func, torch._ops.OpOverload) or func.namespace != "aten":
        return False
    schema = func._schema
    return (
        not schema.is_mutable
        and len(schema.returns) > 0
        and all(value.alias_info is None for value in (*schema.arguments, *schema.returns))
        and all(str(value.type) == "Tensor" for value in schema.returns)
    )


def _question(func: Any, args: Any, kwargs: Any) -> Any:
    """What the answer depends on; None where it may be more than shapes."""
    shapes: list[Any] = [func, torch.get_default_dtype()]
    has_tensor = False
    for values in (args, kwargs.values()) if kwargs else (args,):
        for value in values:
            kind = type(value)
            if kind in TENSORS:
                found = _tensor(value)
                has_tensor = True
            elif value is None or kind in _PLAIN_VALUES:
                found = kind, value
            elif kind is list or kind is tuple:
                found, with_tensors = _sequence(value)
                has_tensor = has_tensor or with_tensors
            else:
                return None
            if found is None:
                return None
            shapes.append(found)
    if not has_tensor:
        # What a kernel makes out of nothing may have values.
        return None
    if kwargs:
        shapes.append(tuple(kwargs))
    return tuple(shapes)


def _tensor(value: Any) -> Any:
    dtype = value.dtype
    if not value.is_meta or dtype not in _PLAIN_DTYPES or value.layout is not torch.strided:
        return None
    return value.shape, value.stride(), dtype


def _sequence(values: Any) -> tuple[Any, bool]:
    found: list[Any] = []
    has_tensor = False
    for value in values:
        kind = type(value)
        if kind in TENSORS:
            has_tensor = True
            tensor = _tensor(value)
            if tensor is None:
                return None, True
            found.append(tensor)
        elif value is None or kind in _PLAIN_VALUES:
            found.append((kind, value))
        else:
            return None, has_tensor
    return tuple(found), has_tensor


def _like(value: Any) -> _Like | None:
    """How to make a tensor that looks the same; None for what is no plain new tensor."""
    if type(value) is not torch.Tensor or _tensor(value) is None or value.storage_offset() != 0:
        return None
    return value.shape, value.stride(), value.dtype
