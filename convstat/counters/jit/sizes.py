"""The sizes of tensors as the graph of ``torch.jit.trace`` has them: numbers that know where they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch


class Recorder(Protocol):
    """What is told of arithmetic on sizes."""

    def of_sizes(self, op: str, operands: tuple[Any, ...], result: int) -> Any:
        """Enter an operator on sizes, and give its result."""

    def mark(self, tensor: torch.Tensor, node: int) -> None:
        """Remember on a tensor which node made it."""


class TracedInt(int):
    """A size of a tensor, or what was computed of sizes: an int that remembers the node that made it.

    In the graph it is a tensor, and where a tensor differs from an int, so does this.
    """

    node: int
    recorder: Recorder

    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(torch.Tensor, name):
            raise AttributeError(name)
        return getattr(self.tensor(), name)

    def tensor(self) -> torch.Tensor:
        """What it is in the graph."""
        with torch._C.DisableTorchFunction():
            tensor = torch.tensor(int(self), device="cpu")
            self.recorder.mark(tensor, self.node)
        return tensor


def traced(value: Any, node: int, recorder: Recorder) -> Any:
    """A size that is made by a node; anything else as it is."""
    if type(value) is not int:
        return value
    size = TracedInt(value)
    size.node, size.recorder = node, recorder
    return size


def _arithmetic(method: str, op: str) -> Callable[..., Any]:
    plain = getattr(int, method)

    def compute(self: TracedInt, *others: Any) -> Any:
        if any(type(other) is float for other in others):
            return _fraction(method, self, *others)
        result = plain(self, *others)
        return result if type(result) is not int else self.recorder.of_sizes(op, (self, *others), result)

    return compute


def _fraction(method: str, size: TracedInt, *others: Any) -> Any:
    """A fraction of a size is no size: it is a tensor, and is called like one."""
    return getattr(size.tensor(), method)(*map(as_tensor, others))


def _division(method: str) -> Callable[..., Any]:
    def compute(self: TracedInt, other: Any) -> Any:
        return _fraction(method, self, other) if isinstance(other, (int, float)) else NotImplemented

    return compute


def _no_divmod(self: TracedInt, other: Any) -> Any:
    raise TypeError(f"unsupported operand type(s) for divmod(): 'Tensor' and '{type(other).__name__}'")


_OPERATORS = {"mul": "mul", "add": "add", "sub": "sub", "floordiv": "floor_divide", "mod": "remainder", "pow": "pow"}

for _method, _op in _OPERATORS.items():
    setattr(TracedInt, f"__{_method}__", _arithmetic(f"__{_method}__", _op))
    setattr(TracedInt, f"__r{_method}__", _arithmetic(f"__r{_method}__", _op))
setattr(TracedInt, "__truediv__", _division("__truediv__"))  # noqa: B010 - for mypy, as in the loop
setattr(TracedInt, "__rtruediv__", _division("__rtruediv__"))  # noqa: B010
setattr(TracedInt, "__neg__", _arithmetic("__neg__", "neg"))  # noqa: B010 - for mypy, as in the loop
setattr(TracedInt, "__divmod__", _no_divmod)  # noqa: B010


def as_tensor(value: Any) -> Any:
    """The tensor that a size is in the graph; anything else as it is."""
    return value.tensor() if type(value) is TracedInt else value


def is_instance(value: Any, kinds: Any) -> bool:
    """``isinstance`` as it answers in a model that is traced, where a size is a tensor."""
    return isinstance(_TENSOR if type(value) is TracedInt else value, kinds)


_TENSOR = torch.empty((), dtype=torch.int64)
