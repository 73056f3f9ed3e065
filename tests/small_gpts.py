"""Small decoders that are written by hand, with the configs that formulas for language models read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Config:
    """The hyperparameters of a decoder, under the names that transformers gives them."""

    vocab_size: int = 300
    hidden_size: int = 24
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    head_dim: int = 6
    intermediate_size: int = 96
    max_position_embeddings: int = 40
    gated: bool = False
    bias: bool = False
    tied: bool = True
    positions: bool = True
    num_local_experts: int | None = None
    num_experts_per_tok: int | None = None
    last_only: bool = False


@dataclass(frozen=True)
class GPTConfig:
    """The names that nanoGPT gives them."""

    block_size: int = 40
    vocab_size: int = 300
    n_layer: int = 3
    n_head: int = 4
    n_embd: int = 24


class Attention(nn.Module):
    """Causal attention in which several heads may share keys and values."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.q = nn.Linear(c.hidden_size, c.num_attention_heads * c.head_dim, bias=c.bias)
        self.k = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=c.bias)
        self.v = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=c.bias)
        self.out = nn.Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=c.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        c = self.c
        q = self.q(x).view(batch, tokens, c.num_attention_heads, c.head_dim).transpose(1, 2)
        k, v = (
            p(x)
            .view(batch, tokens, c.num_key_value_heads, c.head_dim)
            .transpose(1, 2)
            .repeat_interleave(c.num_attention_heads // c.num_key_value_heads, 1)
            for p in (self.k, self.v)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, -1))


class Mlp(nn.Module):
    """Two matrices, or three with a gate."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.gate = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.bias) if c.gated else None
        self.up = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.bias)
        self.down = nn.Linear(c.intermediate_size, c.hidden_size, bias=c.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up = self.up(x)
        return self.down(functional.gelu(up) if self.gate is None else functional.silu(self.gate(x)) * up)


class Mixture(nn.Module):
    """Experts, each of which gets its share of the tokens: as many as if they were balanced."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        assert c.num_local_experts is not None
        self.c = c
        self.router = nn.Linear(c.hidden_size, c.num_local_experts, bias=False)
        self.experts = nn.ModuleList(Mlp(c) for _ in range(c.num_local_experts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.c.num_local_experts is not None
        assert self.c.num_experts_per_tok is not None
        weights = self.router(x).softmax(-1)
        flat = x.flatten(0, 1)
        share = len(flat) * self.c.num_experts_per_tok // self.c.num_local_experts
        for expert in self.experts:
            flat = flat + functional.pad(expert(flat[:share]), (0, 0, 0, len(flat) - share))
        return flat.view_as(x) * weights.sum(-1, keepdim=True)


class Block(nn.Module):
    """A decoder layer."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(c.hidden_size, bias=c.bias)
        self.attn = Attention(c)
        self.ln_2 = nn.LayerNorm(c.hidden_size, bias=c.bias)
        self.mlp = Mixture(c) if c.num_local_experts else Mlp(c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Decoder(nn.Module):
    """A language model."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.last_only = config.last_only
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.wpe = nn.Embedding(config.max_position_embeddings, config.hidden_size) if config.positions else None
        self.h = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.ln_f = nn.LayerNorm(config.hidden_size, bias=config.bias)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.wte(input_ids)
        if self.wpe is not None:
            x = x + self.wpe(torch.arange(input_ids.shape[1], device=input_ids.device))
        for block in self.h:
            x = block(x)
        x = self.ln_f(x)
        return self.lm_head(x[:, -1:] if self.last_only else x)


def gpt2(tokens: int = 1024) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """GPT-2 small without biases, as nanoGPT trains it."""
    return Decoder(Config(50257, 768, 12, 12, 12, 64, 3072, 1024)), (torch.zeros(1, tokens, dtype=torch.int64),)


def small(tokens: int = 10, batch: int = 2, **fields: object) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A small decoder with other hyperparameters."""
    model = Decoder(replace(Config(), **fields))  # type: ignore[arg-type]
    return model, (torch.zeros(batch, tokens, dtype=torch.int64),)
