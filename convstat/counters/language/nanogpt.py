"""nanoGPT: the FLOPs and parameters of a GPT-2, in its notebook on the sizing of transformers."""

from __future__ import annotations

from convstat.counters.base import Prediction
from convstat.counters.language.base import (
    Formula,
    backward,
    core,
    head,
    kinds,
    other_parts,
    prediction,
    projections,
)
from convstat.counters.language.parts import EXPERTS, MLP, ROUTER, SHARED, Parts


class NanoGpt(Formula):
    """``flops()`` and ``params()`` of ``transformer_sizing.ipynb``: what a GPT-2 without biases multiplies."""

    name = "nanogpt"
    short = "3 x products of a GPT-2"
    unit = "FLOPs of a step of training, halved: three times the products of a GPT-2"
    source = "nanoGPT 3adf61e, flops() and params() in transformer_sizing.ipynb"
    counts = (
        "the products of a GPT-2's projections, attention, MLPs of four times the hidden size, and logits; the "
        "backward pass costs twice that"
    )
    defects = ("Other hyperparameters than layers, heads, hidden size, vocabulary and length are not read.",)

    def apply(self, parts: Parts) -> Prediction:
        """Four hidden x hidden projections, two MLP matrices of 4 x hidden, every key with every query."""
        decoder = parts.decoder
        hidden, width = decoder.hidden, decoder.heads * decoder.head_dim
        whole = 4 * hidden * width
        grouped = whole - hidden * 2 * decoder.head_dim * (decoder.heads - decoder.kv_heads)
        projections(
            parts,
            4 * hidden**2,
            ("attention_width", 4 * hidden**2 - whole),
            ("grouped_queries", whole - grouped),
            ("latent_attention", grouped - decoder.projections),
        )
        core(parts, 2 * hidden, ("attention_width", 2 * hidden - decoder.query_width - decoder.value_width))
        dense = parts.times(MLP)
        tokens, square = decoder.every_token, 8 * hidden**2
        parts.price(
            MLP,
            tokens * decoder.layers * square,
            ("gated_mlp", tokens * dense * (2 - parts.matrices) * hidden * decoder.ffn),
            ("mlp_width", tokens * dense * (square - 2 * hidden * decoder.ffn)),
            ("dense_layers", tokens * (decoder.layers - dense) * square),
        )
        for part, code in ((EXPERTS, "experts_left_out"), (SHARED, "shared_experts"), (ROUTER, "router")):
            parts.leave_out(part, code)
        head(parts)
        other_parts(parts)
        forward = 2 * parts.terms.macs
        backward(parts)
        return prediction(parts, params=self._params(parts), forward_flops=forward)

    def _params(self, parts: Parts) -> int | None:
        """Without biases: of a model that is no GPT-2, it would be no count."""
        decoder = parts.decoder
        is_gpt2 = (
            kinds(parts, "position_params")
            and parts.is_tied
            and parts.matrices == 2
            and not decoder.experts
            and (decoder.projections, decoder.ffn) == (4 * decoder.hidden**2, 4 * decoder.hidden)
        )
        if not is_gpt2:
            return None
        for owned in parts.parameters:
            parts.terms.add(owned.layer, None, params=owned.parameter.numel)
            if owned.parameter.name.endswith("bias"):
                parts.terms.add(owned.layer, "biases_left_out", params=-owned.parameter.numel)
        hidden = decoder.hidden
        tables, block = hidden * (decoder.positions + decoder.vocabulary), 12 * hidden**2 + 2 * hidden
        return tables + decoder.layers * block + hidden


NANOGPT = NanoGpt()
