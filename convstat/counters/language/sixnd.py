"""6ND: six FLOPs for each parameter and token (Kaplan et al. 2020; Hoffmann et al. 2022)."""

from __future__ import annotations

from convstat.counters.base import Prediction
from convstat.counters.language.base import Formula, backward, by_parameters, enter_params, prediction
from convstat.counters.language.parts import CORE, Parts


class SixND(Formula):
    """C = 6ND with all parameters, as it is used to estimate what a training run costs."""

    name = "6nd"
    short = "6 x params a token"
    unit = "FLOPs of a step of training, halved: 6 for each parameter and token"
    source = "Hoffmann et al. 2022, C = 6ND; N as in nanoGPT 3adf61e, transformer_sizing.ipynb"
    counts = "six FLOPs for each parameter and each token, and nothing for attention"
    defects = ("What attention multiplies grows with the length of the sequence, and is left out.",)

    def apply(self, parts: Parts) -> Prediction:
        """Every parameter counts."""
        counted = by_parameters(parts)
        parts.leave_out(CORE, "attention_left_out")
        backward(parts)
        enter_params(parts)
        return prediction(parts, params=counted, training_flops_per_token=6 * counted)


SIXND = SixND()
