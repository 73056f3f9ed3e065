"""Small decoders, written by hand as trainers write theirs, so that no package is needed to try them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass
class Config:
    """The sizes of a GPT, named as its authors name them; small unless said otherwise."""

    vocab_size: int = 65
    block_size: int = 32
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 32
    flash: bool = True


class Attention(nn.Module):
    """Causal attention, by the fused function, or by products under a triangle that is a buffer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.n_head, self.n_embd, self.flash = config.n_head, config.n_embd, config.flash
        if not self.flash:
            size = config.block_size
            self.register_buffer("bias", torch.tril(torch.ones(size, size)).view(1, 1, size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        heads = (part.view(batch, length, self.n_head, -1).transpose(1, 2) for part in self.c_attn(x).split(width, 2))
        q, k, v = heads
        if self.flash:
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
            scores = scores.masked_fill(self.bias[:, :, :length, :length] == 0, float("-inf"))
            y = nn.functional.softmax(scores, dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """Attention and two linear maps."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=False)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd, bias=False),
            nn.GELU(),
            nn.Linear(4 * config.n_embd, config.n_embd, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """A decoder with learned positions, whose head is the table of tokens."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        config = Config(**sizes)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=False)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class Experts(nn.Module):
    """Experts that are modules, with one that is shared, or that are slices of parameters."""

    def __init__(self, width: int, hidden: int, experts: int, chosen: int, *, sliced: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.shared = nn.Linear(width, width, bias=False)
        self.chosen, self.sliced = chosen, sliced
        if sliced:
            self.up = nn.Parameter(torch.randn(experts, width, hidden) / 10)
            self.up_bias = nn.Parameter(torch.zeros(experts, hidden))
            self.down = nn.Parameter(torch.randn(experts, hidden, width) / 10)
        else:
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width)) for _ in range(experts)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(-1, x.size(-1))
        weights, places = self.gate(tokens).softmax(-1).topk(self.chosen, dim=-1)
        result = self.shared(tokens)
        if self.sliced:
            up, down = self.up[places], self.down[places]
            inner = nn.functional.silu(torch.einsum("td,tkdh->tkh", tokens, up) + self.up_bias[places])
            result = result + (torch.einsum("tkh,tkhd->tkd", inner, down) * weights.unsqueeze(-1)).sum(1)
            return result.reshape(x.shape)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(places == number)
            result = result.index_add(0, token, expert(tokens[token]) * weights[token, place].unsqueeze(-1))
        return result.reshape(x.shape)


class Mixture(nn.Module):
    """A table, layers of experts, and a head of its own."""

    def __init__(self, *, sliced: bool, experts: int = 8, chosen: int = 2, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.layers = nn.ModuleList(Experts(16, 24, experts, chosen, sliced=sliced) for _ in range(layers))
        self.head = nn.Linear(16, 50, bias=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


class Caching(nn.Module):
    """One layer of attention with grouped queries and a window, which gives its keys and values back.

    The mask is made in the forward pass: a query sees at most ``window`` keys, the last of them its own.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.q, self.kv = nn.Linear(32, 32), nn.Linear(32, 2 * 16)
        self.head = nn.Linear(32, 50)
        self.window = window

    def forward(
        self, input_ids: torch.Tensor, past: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        x = self.embed(input_ids)
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, 4, 8).transpose(1, 2)
        k, v = self.kv(x).view(batch, length, 2, 2, 8).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat((past[0][0], k), 2), torch.cat((past[0][1], v), 2)
        rows = torch.arange(k.size(2) - length, k.size(2), device=x.device).unsqueeze(1)
        columns = torch.arange(k.size(2), device=x.device).unsqueeze(0)
        seen = columns <= rows
        if self.window is not None:
            seen = seen & (columns > rows - self.window)
        mask = torch.zeros(seen.shape, device=x.device).masked_fill(~seen, torch.finfo(torch.float32).min)
        scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) + mask
        y = scores.softmax(-1) @ v.repeat_interleave(2, 1)
        return self.head(y.transpose(1, 2).reshape(batch, length, 32)), [(k, v)]


class LoRA(nn.Module):
    """A frozen linear map with a trainable one of low rank beside it."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Linear(base.in_features, rank, bias=False)
        self.b = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.b(self.a(x))


def adapted(rank: int = 2, **sizes: Any) -> GPT:
    """A frozen GPT, with adapters beside the first maps of its attention."""
    model = GPT(**sizes).requires_grad_(False)
    for block in model.h:
        block.attn.c_attn = LoRA(block.attn.c_attn, rank)
    return model
