"""The torch twins of the layers that ``torch.nn`` has no class for; imported only when a model is built.

The operators stand here as people write them in a ``forward``: ``a + b`` and not ``torch.add(a, b)``.
That matters: some counters see the one and not the other.
"""

from __future__ import annotations

import torch
from torch import nn


class Add(nn.Module):
    """``a + b + ...``"""

    def forward(self, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        for other in others:
            first = first + other
        return first


class Mul(nn.Module):
    """``a * b * ...``"""

    def forward(self, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        for other in others:
            first = first * other
        return first


class Concat(nn.Module):
    """``torch.cat([a, b, ...], dim)``"""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat(inputs, self.dim)


class Reshape(nn.Module):
    """``x.reshape(x.shape[0], *shape)``"""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], *self.shape)


class Permute(nn.Module):
    """``x.permute(dims)``"""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(self.dims)


class Select(nn.Module):
    """``x.select(dim, index)``"""

    def __init__(self, dim: int, index: int) -> None:
        super().__init__()
        self.dim = dim
        self.index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.select(self.dim, self.index)
