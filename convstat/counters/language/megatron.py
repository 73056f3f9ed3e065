"""Megatron-LM: products alone, core attention halved, a padded vocabulary."""

from __future__ import annotations

from convstat.counters.base import PredictedFailure, Prediction
from convstat.counters.language.base import (
    Formula,
    backward,
    core,
    experts,
    head,
    mlp,
    only_attention,
    other_parts,
    prediction,
    projections,
)
from convstat.counters.language.parts import ROUTER, Parts

DIVISOR = 128
"""``--make-vocab-size-divisible-by``; tensor parallelism, of which there is none here, multiplies it."""


class Megatron(Formula):
    """``num_floating_point_operations`` for a transformer in sequences of one length."""

    name = "megatron"
    short = "3 x products, attention halved"
    unit = "FLOPs of a step of training, halved: three times the products, core attention for half of the positions"
    source = "Megatron-LM d98e8a6, num_floating_point_operations in megatron/training/training.py"
    counts = (
        "the products of projections, MLPs, the experts that a token is sent to and logits, and half of attention's; "
        "the vocabulary is padded to a multiple of 128, and the backward pass costs twice that"
    )
    defects = (
        "A router costs nothing.",
        "Latent attention also pays a multiply-accumulate per channel for the norms of its latents.",
    )

    def apply(self, parts: Parts) -> Prediction:
        """``--swiglu`` is taken from the MLP that was traced, and which layers have experts from where they are."""
        only_attention(parts)
        decoder = parts.decoder
        if decoder.latent and decoder.kv_heads != decoder.heads:
            raise PredictedFailure("AssertionError: latent attention does not go with --group-query-attention")
        norms = decoder.latent + decoder.query_rank
        projections(parts, decoder.projections + norms, ("latent_norms", norms))
        core(parts, decoder.query_width + decoder.value_width, halved=True)
        mlp(parts, parts.matrices * decoder.hidden * decoder.ffn)
        experts(parts)
        parts.leave_out(ROUTER, "router")
        head(parts, -(-decoder.vocabulary // DIVISOR) * DIVISOR)
        other_parts(parts)
        backward(parts)
        return prediction(parts)


MEGATRON = Megatron()
