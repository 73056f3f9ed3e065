"""PaLM: 6N + 12 L H Q T FLOPs a token, as nanoGPT's ``estimate_mfu`` and many trainers after it have it."""

from __future__ import annotations

from convstat.counters.base import Prediction
from convstat.counters.language.base import Formula, backward, by_parameters, core, enter_params, kinds, prediction
from convstat.counters.language.parts import Parts


class Palm(Formula):
    """PaLM (Chowdhery et al. 2022), appendix B, with the N of nanoGPT's ``get_num_params``."""

    name = "palm"
    short = "6N + 12 L H Q T a token"
    unit = "FLOPs of a step of training, halved: 6N + 12 L H Q T for each token"
    source = "nanoGPT 3adf61e, estimate_mfu and get_num_params in model.py, after PaLM, appendix B"
    counts = (
        "for each token six FLOPs per parameter, those of position embeddings left out, and 12 per layer, head, "
        "channel of a head and position of the sequence"
    )
    defects = (
        "Parameters of norms and biases count as if they were multiplied; those of an embedding too, which are only "
        "right where it is the head as well.",
        "Every expert counts, wherever a token is sent.",
    )

    def apply(self, parts: Parts) -> Prediction:
        """Six FLOPs for each parameter are three multiply-accumulates: one forward and two backward."""
        decoder = parts.decoder
        positions = kinds(parts, "position_params")
        counted = by_parameters(parts, without=positions)
        width = 2 * decoder.heads * decoder.head_dim
        core(parts, width, ("attention_width", width - decoder.query_width - decoder.value_width))
        backward(parts)
        params = enter_params(parts, "positions_left_out", positions)
        per_token = 6 * counted + 6 * decoder.layers * width * decoder.tokens
        return prediction(parts, params=params, training_flops_per_token=per_token)


PALM = Palm()
