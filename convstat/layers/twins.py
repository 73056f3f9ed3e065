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


class Crop(nn.Module):
    """Cuts amounts off each side, the last dimension first; one amount is for all sides after the channels."""

    def __init__(self, cropping: int | tuple[int, ...]) -> None:
        super().__init__()
        self.cropping = cropping

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        amounts = self.cropping
        if isinstance(amounts, int):
            amounts = (amounts,) * (2 * (x.dim() - 2))
        index: list[slice] = [slice(None)] * (x.dim() - len(amounts) // 2)
        for low, high in reversed(list(zip(amounts[::2], amounts[1::2], strict=True))):
            index.append(slice(low, x.shape[len(index)] - high))
        return x[tuple(index)]


class ClassToken(nn.Module):
    """Puts a learned token before a sequence."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, embed_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)


class PositionalEmbedding(nn.Module):
    """Adds a learned vector at each position."""

    def __init__(self, num_positions: int, embed_dim: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, num_positions, embed_dim).normal_(std=0.02))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.pos_embedding


class LayerScale(nn.Module):
    """Multiplies each channel with a learned factor."""

    def __init__(self, num_channels: int, init_value: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((num_channels,), init_value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() > 3:
            return x * self.gamma.view(-1, *(1,) * (x.dim() - 2))
        return x * self.gamma
