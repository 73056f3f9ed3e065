"""What one call of a layer costs, and the sizes that it is worked out from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Shape = tuple[int, ...]
"""Sizes of a tensor, the batch first: ``(1, 3, 224, 224)``."""


OTHER_ENTRIES: Mapping[str, str] = MappingProxyType(
    {
        "bias": "additions of a bias, one per output element",
        "norm": "normalised elements",
        "activation": "elements passed through an activation function",
        "softmax": "elements passed through a softmax",
        "pool": "elements read by pooling windows, padding included",
        "resize": "elements read to interpolate",
        "elementwise": "element-wise additions, multiplications and similar operations, one per output element",
        "reduction": "elements read by sums, means, maxima and similar operations over a dimension",
        "fft": "output elements of a Fourier transform",
        "linalg": "multiply-accumulates that solve systems and factorise matrices, by the direct algorithms",
        "complex": "real multiplications in complex products, four per MAC",
    }
)
"""The names under which work that is not MACs is reported, and the unit of each."""


_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Cost:
    """The work of one call: exact multiply-accumulates, and everything else by name."""

    macs: int = 0
    other: Mapping[str, int] = field(default_factory=lambda: _NOTHING)

    def __add__(self, added: Cost) -> Cost:
        other = dict(self.other)
        for name, amount in added.other.items():
            other[name] = other.get(name, 0) + amount
        return Cost(self.macs + added.macs, other)


FREE = Cost()
"""The cost of a layer that only moves or renames data."""
