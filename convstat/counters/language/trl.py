"""TRL: the FLOPs per token from which its trainers log their MFU."""

from __future__ import annotations

from convstat.counters.base import PredictedFailure, Prediction
from convstat.counters.language.base import (
    Formula,
    backward,
    core,
    head,
    other_parts,
    prediction,
    projections,
)
from convstat.counters.language.parts import EXPERTS, MLP, ROUTER, SHARED, Parts

_READ = ("hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads", "num_key_value_heads")
_READ_OF_EXPERTS = ("num_local_experts", "moe_intermediate_size", "intermediate_size", "decoder_sparse_step")


class Trl(Formula):
    """``compute_flops_per_token``, from a transformers config."""

    name = "trl"
    short = "3 x products, MLPs gated"
    unit = "FLOPs of a step of training, halved: three times the products, by the config"
    source = "TRL 1.16.0, compute_flops_per_token in trainer/utils.py, with transformers 5.1 or later"
    counts = (
        "by the config, the products of projections, attention to all positions, MLPs of three matrices, the experts "
        "that a token is sent to with their router, and logits; the backward pass costs twice that"
    )
    defects = (
        "Every MLP has three matrices, also one without a gate.",
        "Shared experts cost nothing, and of a mixture the first layer in each decoder_sparse_step has the experts.",
        "Latent attention is priced as projections of every head.",
    )

    def apply(self, parts: Parts) -> Prediction:
        """It reads fields of the config, and fails where one is missing."""
        decoder = parts.decoder
        mixed = decoder.has("num_experts_per_tok")
        missing = [
            name for name in (*_READ, *(_READ_OF_EXPERTS if mixed else ("intermediate_size",))) if not decoder.has(name)
        ]
        if missing:
            raise PredictedFailure(
                f"AttributeError: '{type(decoder.config).__name__}' object has no attribute '{missing[0]}'"
            )
        # Where a config of latent attention has a head_dim, it is that of the rotary part alone.
        width = decoder.heads * decoder.head_dim
        weights = decoder.hidden * (2 * width + 2 * decoder.kv_heads * decoder.head_dim)
        projections(parts, weights, ("latent_attention", weights - decoder.projections))
        core(parts, 2 * width, ("latent_attention", 2 * width - decoder.query_width - decoder.value_width))
        self._mlps(parts, mixed)
        head(parts)
        other_parts(parts)
        backward(parts)
        macs = parts.terms.macs
        tokens = decoder.every_token
        return prediction(parts, **({"training_flops_per_token": 2 * macs // tokens} if not 2 * macs % tokens else {}))

    def _mlps(self, parts: Parts, mixed: bool) -> None:
        decoder = parts.decoder
        tokens, hidden = decoder.every_token, decoder.hidden
        dense = 3 * hidden * decoder.ffn
        step = getattr(decoder.config, "decoder_sparse_step", 1) if mixed else 1
        sparse = len(range(0, decoder.layers, step)) if mixed else 0
        own, of_experts = parts.times(MLP), parts.times(EXPERTS)
        parts.price(
            MLP,
            tokens * (decoder.layers - sparse) * dense,
            ("gated_mlp", tokens * own * (3 - parts.matrices) * hidden * decoder.ffn),
            ("expert_layers", tokens * (decoder.layers - sparse - own) * dense),
        )
        one = decoder.chosen * 3 * hidden * decoder.expert_ffn
        parts.price(
            EXPERTS,
            tokens * sparse * one,
            ("gated_mlp", tokens * of_experts * decoder.chosen * (3 - parts.matrices) * hidden * decoder.expert_ffn),
            ("expert_layers", tokens * (sparse - of_experts) * one),
        )
        router = hidden * decoder.experts
        parts.price(ROUTER, tokens * sparse * router, ("expert_layers", tokens * (sparse - of_experts) * router))
        parts.leave_out(SHARED, "shared_experts")


TRL = Trl()
