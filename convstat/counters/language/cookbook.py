"""EleutherAI's cookbook: ``calc_transformer_flops.py``, with activation checkpointing unless it is told otherwise."""

from __future__ import annotations

from fractions import Fraction

from convstat.counters.base import Inapplicable, Prediction
from convstat.counters.language.base import (
    Formula,
    backward,
    core,
    head,
    other_parts,
    prediction,
    projections,
)
from convstat.counters.language.parts import EXPERTS, HEAD, MLP, ROUTER, SHARED, Parts

EXPANSION = 4
"""``--ffn-expansion-factor`` where the MLP's width is no whole multiple of the hidden size: it takes integers alone."""


class Cookbook(Formula):
    """``calc_flops``, by its options for the hyperparameters of a model."""

    name = "cookbook"
    short = "4 x products, recomputed"
    unit = "FLOPs of a step of training with activation checkpointing, halved: four times the products of the layers"
    source = "EleutherAI cookbook 827ee3b, calc/calc_transformer_flops.py"
    counts = (
        "the products of projections, attention, MLPs and experts four times: forward, backward and recomputed; those "
        "of the logits once, and four FLOPs for each channel of an embedding"
    )
    defects = (
        "--ffn-hidden-size is read and not used: an MLP is a whole multiple of the hidden size wide.",
        "The logits have no backward pass.",
        "Projections are hidden x hidden, whatever the width of a head.",
        "Of a mixture, layers without experts cost nothing where a token is sent to several.",
    )

    def apply(self, parts: Parts) -> Prediction:
        """Ratios of heads are exact here, and floating-point numbers there."""
        decoder = parts.decoder
        hidden, tokens = decoder.hidden, decoder.every_token
        ratio = Fraction(decoder.kv_heads, decoder.heads)
        weights = int((2 + 2 * ratio) * hidden**2)
        own = decoder.heads * decoder.head_dim
        standard = hidden * (2 * own + 2 * decoder.kv_heads * decoder.head_dim)
        projections(
            parts,
            weights,
            ("attention_width", weights - standard),
            ("latent_attention", standard - decoder.projections),
        )
        core(parts, 2 * hidden, ("attention_width", 2 * hidden - decoder.query_width - decoder.value_width))
        self._mlps(parts)
        parts.leave_out(SHARED, "shared_experts")
        other_parts(parts)
        head(parts)
        layers = parts.terms.macs - sum(parts.priced(HEAD).values())
        embedding = next((one.layer for one in parts.parameters if "Embedding" in one.kind), "")
        parts.add(HEAD, "embedding_ops", {embedding: 2 * hidden * tokens})
        rest = sum(parts.priced(HEAD).values())
        backward(parts, but=(HEAD,))
        parts.pass_again("recomputation", 1, but=(HEAD,))
        return prediction(
            parts,
            training_flops_without_checkpointing=2 * (3 * layers + rest),
            inference_flops=2 * (layers + rest),
        )

    def _mlps(self, parts: Parts) -> None:
        decoder = parts.decoder
        hidden, tokens, matrices = decoder.hidden, decoder.every_token, parts.matrices
        dense, mixed = parts.times(MLP), parts.times(EXPERTS)
        width = decoder.expert_ffn if mixed else decoder.ffn
        factor = width // hidden if width % hidden == 0 and width else EXPANSION
        one = matrices * factor * hidden**2
        if not mixed:
            parts.price(
                MLP,
                tokens * decoder.layers * one,
                ("mlp_width", tokens * dense * (one - matrices * hidden * decoder.ffn)),
                ("dense_layers", tokens * (decoder.layers - dense) * one),
            )
            return
        if decoder.layers % mixed:
            raise Inapplicable(f"it needs experts in every so many layers, and {mixed} of {decoder.layers} have some")
        every = matrices * hidden * decoder.expert_ffn
        if decoder.chosen > 1:
            parts.leave_out(MLP, "dense_layers_left_out")
        else:
            parts.price(
                MLP, tokens * dense * one, ("mlp_width", tokens * dense * (one - matrices * hidden * decoder.ffn))
            )
        parts.price(
            EXPERTS,
            tokens * mixed * decoder.chosen * one,
            ("mlp_width", tokens * mixed * decoder.chosen * (one - every)),
        )
        parts.price(ROUTER, tokens * mixed * hidden * decoder.experts)


COOKBOOK = Cookbook()
