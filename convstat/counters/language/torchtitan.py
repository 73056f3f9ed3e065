"""torchtitan: 6 x the parameters that multiply, and attention that is not halved."""

from __future__ import annotations

from convstat.counters.base import Prediction
from convstat.counters.language.base import Formula, backward, by_parameters, core, enter_params, prediction
from convstat.counters.language.parts import Parts


class Torchtitan(Formula):
    """``get_dense_model_nparams_and_flops`` and ``get_moe_model_nparams_and_flops``."""

    name = "torchtitan"
    short = "6 x active params, attention"
    unit = "FLOPs of a step of training, halved: 6 for each active parameter, and attention"
    source = "torchtitan 0.3.0, models/utils.py"
    counts = (
        "for each token six FLOPs per active parameter, those of an embedding left out unless it is the head too, and "
        "6 per layer, head, channel of its queries and values and position of the sequence"
    )
    defects = ("Parameters of norms and biases count as if they were multiplied.",)

    def apply(self, parts: Parts) -> Prediction:
        """Of the routed experts k of E count; with a tied head nothing is left out."""
        decoder = parts.decoder
        embeddings = frozenset(
            parameter.key
            for info in parts.trace.modules
            if not parts.is_tied and "torch.nn.modules.sparse.Embedding" in (info.type, *info.bases)
            for parameter in info.parameters
        )
        counted = by_parameters(parts, without=embeddings, active=True)
        width = decoder.query_width + decoder.value_width
        core(parts, width)
        backward(parts)
        params = enter_params(parts)
        per_token = 6 * counted + 6 * decoder.layers * width * decoder.tokens
        return prediction(parts, params=params, training_flops_per_token=per_token)


TORCHTITAN = Torchtitan()
