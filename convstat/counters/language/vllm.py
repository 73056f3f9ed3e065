"""vLLM: the FLOPs of a forward pass behind ``--enable-mfu-metrics``."""

from __future__ import annotations

from convstat.counters.base import Prediction
from convstat.counters.language.base import Formula, core, experts, last_logits, other_parts, prediction, projections
from convstat.counters.language.parts import MLP, ROUTER, Parts


class Vllm(Formula):
    """``ModelMetrics.get_num_flops``, on one device."""

    name = "vllm"
    short = "products, last logits"
    passes = "forward"
    unit = "FLOPs of a forward pass, halved: products, with the logits of the last token of a prompt alone"
    source = "vLLM of September 2026 (with #55624), v1/metrics/perf.py"
    counts = (
        "the products of projections, attention of each token to the whole context or its window, MLPs of three "
        "matrices, the experts that a token is sent to and shared ones, and the logits of a prompt's last token"
    )
    defects = ("Every MLP has three matrices, also one without a gate.", "A router costs nothing.")

    def apply(self, parts: Parts) -> Prediction:
        """A request's context is what is in the cache and its own tokens."""
        decoder = parts.decoder
        projections(parts, decoder.projections)
        core(
            parts,
            decoder.query_width + decoder.value_width,
            windows=0 if decoder.latent else _windows(parts),
            cache=True,
        )
        tokens, hidden = decoder.every_token, decoder.hidden
        layers, width = parts.times(MLP), decoder.ffn
        parts.price(
            MLP,
            tokens * layers * 3 * hidden * width,
            ("gated_mlp", tokens * layers * (3 - parts.matrices) * hidden * width),
        )
        experts(parts, 3)
        parts.leave_out(ROUTER, "router")
        last_logits(parts)
        other_parts(parts)
        return prediction(parts)


def _windows(parts: Parts) -> int:
    """What sliding windows take away: a token meets the window at most, not the positions before itself."""
    decoder = parts.decoder
    context = max(found.keys for found in parts.keys.values())
    if not decoder.window or decoder.window >= context:
        return 0
    kinds = getattr(decoder.config, "layer_types", None)
    if isinstance(kinds, list):
        slid = sum("sliding" in kind.lower() for kind in kinds[: decoder.layers])
    elif getattr(decoder.config, "model_type", "") == "gemma2":
        slid = (decoder.layers + 1) // 2
    else:
        slid = decoder.layers
    width = decoder.query_width + decoder.value_width
    return -decoder.every_token * (context - decoder.window) * width * slid


VLLM = Vllm()
