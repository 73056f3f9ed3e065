"""Networks too large for the machine: made on the meta device, counted, never held."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RotaryAttention(nn.Module):
    """Causal attention with fewer heads for keys and values, and rotated queries and keys."""

    def __init__(self, dim: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, dim // heads
        self.wq = nn.Linear(dim, heads * self.size, bias=False)
        self.wk = nn.Linear(dim, kv_heads * self.size, bias=False)
        self.wv = nn.Linear(dim, kv_heads * self.size, bias=False)
        self.wo = nn.Linear(heads * self.size, dim, bias=False)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """Attend."""
        batch, length, _ = x.shape
        q = self.wq(x).view(batch, length, self.heads, self.size).transpose(1, 2)
        k = self.wk(x).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        v = self.wv(x).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        q, k = (part * turn.cos() + part.roll(self.size // 2, -1) * turn.sin() for part in (q, k))
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.wo(out.transpose(1, 2).reshape(batch, length, -1))


class Decoder(nn.Module):
    """A block of a Llama-style decoder."""

    def __init__(self, dim: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm, self.ffn_norm = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.attention = RotaryAttention(dim, heads, kv_heads)
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """Run the block."""
        x = x + self.attention(self.attention_norm(x), turn)
        y = self.ffn_norm(x)
        return x + self.w2(functional.silu(self.w1(y)) * self.w3(y))


class Llama(nn.Module):
    """A Llama-style language model; the defaults are those of the 405 B one (arXiv:2407.21783, table 3)."""

    def __init__(
        self,
        dim: int = 16384,
        layers: int = 126,
        heads: int = 128,
        kv_heads: int = 8,
        hidden: int = 53248,
        vocabulary: int = 128256,
    ) -> None:
        super().__init__()
        self.size = dim // heads
        self.embedding = nn.Embedding(vocabulary, dim)
        self.layers = nn.ModuleList(Decoder(dim, heads, kv_heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(dim)
        self.output = nn.Linear(dim, vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Give the logits."""
        positions = torch.arange(ids.shape[1], dtype=torch.float32)
        frequencies = 500000.0 ** (-torch.arange(0, self.size, 2) / self.size)
        turn = torch.outer(positions, frequencies).repeat(1, 2)
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, turn)
        return self.output(self.norm(x))


def llama_8b() -> Llama:
    """Llama 3.1 8B (arXiv:2407.21783, table 3)."""
    return Llama(4096, 32, 32, 8, 14336)


def llama_70b() -> Llama:
    """Llama 3.1 70B."""
    return Llama(8192, 80, 64, 8, 28672)


class LlamaThatReads(Llama):
    """Reads a value of what it computed, and decides by it."""

    def forward(self, ids: Tensor) -> Tensor:
        """Give the logits, scaled where they are large."""
        logits = super().forward(ids)
        largest = logits.abs().max().item()
        return logits / largest if largest > 100 else logits


def llama_8b_that_reads() -> Llama:
    """The same sizes as ``llama_8b``."""
    return LlamaThatReads(4096, 32, 32, 8, 14336)


def llama_70b_that_reads() -> Llama:
    """The same sizes as ``llama_70b``."""
    return LlamaThatReads(8192, 80, 64, 8, 28672)


class DropsPaths(Llama):
    """Reads values while it is made, as whoever spaces rates out by ``torch.linspace``."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, sizes[1])]


def llama_70b_that_reads_as_it_is_made() -> Llama:
    """The same sizes as ``llama_70b``."""
    return DropsPaths(8192, 80, 64, 8, 28672)


class Sixty(nn.Module):
    """A gigaparameter in sixty layers, and one value read."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(4096, 4096) for _ in range(60)))

    def forward(self, x: Tensor) -> Tensor:
        """Run them, and scale."""
        x = self.layers(x)
        return x * x.sum().item()


class KeepsTables(nn.Module):
    """Keeps large constants, and parameters that are drawn before any is registered; reads values as it is made."""

    def __init__(self) -> None:
        super().__init__()
        assert torch.ones(3).tolist() == [1.0, 1.0, 1.0]
        self.caches = [torch.zeros(4000, 4000) for _ in range(100)]
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(4096, 4096) * 0.02) for _ in range(60)])

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        for weight in self.weights:
            x = x @ weight
        return x


class ParallelBlock(nn.Module):
    """A block that attends and thinks at once, with normalised queries and keys (ViT-22B, arXiv:2302.05442)."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.size = heads, dim // heads
        self.norm = nn.LayerNorm(dim, bias=False)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_norm, self.k_norm = nn.LayerNorm(self.size, bias=False), nn.LayerNorm(self.size, bias=False)
        self.out = nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        batch, length, dim = x.shape
        y = self.norm(x)
        q, k, v = self.qkv(y).view(batch, length, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        attended = attended.transpose(1, 2).reshape(batch, length, dim)
        return x + self.out(attended) + self.down(functional.gelu(self.up(y)))


class ViT22B(nn.Module):
    """A vision transformer with the sizes of ViT-22B (arXiv:2302.05442, table 1)."""

    def __init__(
        self, dim: int = 6144, layers: int = 48, heads: int = 48, hidden: int = 24576, patch: int = 14
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, patch, stride=patch)
        self.positions = nn.Parameter(torch.zeros(1, (224 // patch) ** 2, dim))
        self.layers = nn.Sequential(*(ParallelBlock(dim, heads, hidden) for _ in range(layers)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 1000)

    def forward(self, image: Tensor) -> Tensor:
        """Give the logits."""
        x = self.patches(image).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.layers(x)).mean(1))


class Chain(nn.Module):
    """So many convolutions in a row."""

    def __init__(self, depth: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Run them."""
        return self.layers(x)
