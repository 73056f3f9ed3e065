"""The taps of a convolution, one by one: which of them fall on values of the input, and not on padding."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from convstat.counters.base import PredictedFailure
from convstat.trace import KernelCall, ListInfo, TensorInfo, Value

KERNELS = ("aten.convolution", "aten._convolution", "aten.convolution_overrideable")
"""The kernels with the arguments of ``aten.convolution``."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with all that its kernel was called with; ``weight`` is (channels, taps of a group...)."""

    source: tuple[int, ...]
    weight: tuple[int, ...]
    output: tuple[int, ...]
    has_bias: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    is_transposed: bool
    groups: int

    @classmethod
    def of(cls, call: KernelCall) -> Convolution:
        """Read a call; raises PredictedFailure where its operands are no tensors."""
        source, weight, output = call.args[0], call.args[1], call.output
        if not all(isinstance(value, TensorInfo) for value in (source, weight, output)):
            raise PredictedFailure(f"{call.op} has operands that are no tensors")
        assert isinstance(source, TensorInfo)
        assert isinstance(weight, TensorInfo)
        assert isinstance(output, TensorInfo)
        spatial = len(weight.shape) - 2
        groups = call.args[8]
        return cls(
            source.shape,
            weight.shape,
            output.shape,
            isinstance(call.args[2], TensorInfo),
            _sizes(call.args[3], spatial),
            _sizes(call.args[4], spatial),
            _sizes(call.args[5], spatial),
            call.args[6] is True,
            groups if isinstance(groups, int) else 1,
        )

    @property
    def products(self) -> int:
        """One for each weight of a channel and each place: of the output, or of the input where it is transposed."""
        places = self.source if self.is_transposed else self.output
        return prod(places) * prod(self.weight[1:])

    @property
    def products_inside(self) -> int:
        """Those whose tap falls on a value of the input and, where it is transposed, on one of the output."""
        small, large = (self.source, self.output) if self.is_transposed else (self.output, self.source)
        inside = 1
        for places, limit, taps, stride, padding, dilation in zip(
            small[2:], large[2:], self.weight[2:], self.stride, self.padding, self.dilation, strict=True
        ):
            inside *= sum(_inside(places, limit, stride, tap * dilation - padding) for tap in range(taps))
        return self.source[0] * self.weight[0] * self.weight[1] * inside


def _inside(places: int, limit: int, stride: int, offset: int) -> int:
    """How many of the first ``places`` multiples of the stride fall, with an offset, in ``range(limit)``.

    >>> [_inside(4, 4, 1, offset) for offset in (-1, 0, 1)]
    [3, 4, 3]
    """
    first = max(0, -(offset // stride))
    last = min(places - 1, (limit - 1 - offset) // stride)
    return max(0, last - first + 1)


def _sizes(value: Value, spatial: int) -> tuple[int, ...]:
    """A size for each dimension; one stands for all of them."""
    items = value.items if isinstance(value, ListInfo) else value if isinstance(value, tuple) else (value,)
    sizes = tuple(item for item in items if isinstance(item, int))
    return sizes * spatial if len(sizes) == 1 else sizes
