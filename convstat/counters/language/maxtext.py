"""MaxText: products alone, attention halved, sliding windows in the families that it knows them of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from convstat.counters.base import Prediction
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
    router,
)
from convstat.counters.language.parts import Parts

_PATTERNS: Mapping[str, int] = MappingProxyType({"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "gpt_oss": 2})
"""A family -> one layer in so many looks at all positions; the others look through a window."""


class MaxText(Formula):
    """``calculate_tflops_training_per_device``."""

    name = "maxtext"
    short = "3 x products, attention halved"
    unit = "FLOPs of a step of training, halved: three times the products, attention to the positions before a token"
    source = "MaxText e591f30, calculate_tflops_training_per_device in src/maxtext/utils/maxtext_utils.py"
    counts = (
        "the products of projections, MLPs, the experts that a token is sent to with their router, and logits, and "
        "half of attention's, less where a window is slid; the backward pass costs twice that"
    )
    defects = ("A window is known of Gemma 2, Gemma 3 and gpt-oss alone; their layers are taken to come in turns.",)

    def apply(self, parts: Parts) -> Prediction:
        """A window of w positions costs T w - w²/2 pairs instead of T²/2."""
        only_attention(parts)
        decoder = parts.decoder
        projections(parts, decoder.projections)
        core(parts, decoder.query_width + decoder.value_width, halved=True, windows=_windows(parts))
        mlp(parts, parts.matrices * decoder.hidden * decoder.ffn)
        experts(parts)
        router(parts)
        head(parts)
        other_parts(parts)
        backward(parts)
        return prediction(parts)


def _windows(parts: Parts) -> int:
    """What sliding windows take away from the MACs of causal attention."""
    decoder = parts.decoder
    pattern = _PATTERNS.get(getattr(decoder.config, "model_type", ""), 0)
    window = min(decoder.window, decoder.tokens)
    if not pattern or not window:
        return 0
    local = decoder.layers - decoder.layers // pattern
    width = decoder.query_width + decoder.value_width
    # Both are twice the pairs: half a pair is none.
    twice = decoder.tokens**2 - (2 * decoder.tokens * window - window**2)
    return -(decoder.batch * local * width * twice // 2)


MAXTEXT = MaxText()
