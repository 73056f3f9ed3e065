"""litgpt: 2 x all parameters and attention, three times where they are trained, twice where they are frozen."""

from __future__ import annotations

from convstat.counters.base import Prediction
from convstat.counters.language.base import Formula, by_parameters, core, enter_params, prediction
from convstat.counters.language.parts import CORE, Parts


class Litgpt(Formula):
    """``estimate_flops``."""

    name = "litgpt"
    short = "6 x params, attention 5 times"
    unit = "FLOPs of a step of training, halved: 2 for each parameter and token and attention, with the backward pass"
    source = "litgpt 0.5.13, estimate_flops and flops_per_param in utils.py"
    counts = (
        "two FLOPs for each parameter and token, and 4 x layers x hidden size x length for each token's attention; "
        "three times for trained parameters, twice for frozen ones"
    )
    defects = (
        "Attention is counted for trained parameters and for frozen ones, also where none are frozen: five times in "
        "all, instead of three.",
        "Parameters of embeddings, norms and biases count as if they were multiplied, and every expert does.",
    )

    def apply(self, parts: Parts) -> Prediction:
        """A frozen parameter has one backward pass instead of two: no gradient of its own is computed."""
        decoder = parts.decoder
        tokens = decoder.every_token
        counted = by_parameters(parts)
        width = 2 * decoder.hidden
        core(parts, width, ("attention_width", width - decoder.query_width - decoder.value_width))
        attention = tokens * decoder.layers * width * decoder.tokens
        frozen = {owned.parameter.key: owned for owned in parts.parameters if not owned.parameter.requires_grad}
        parts.pass_again("backward_pass", 2)
        for owned in frozen.values():
            parts.terms.add(owned.layer, "frozen_params", macs=-tokens * owned.parameter.numel)
        for layer, macs in parts.priced(CORE).items():
            parts.terms.add(layer, "attention_again", macs=2 * macs)
        enter_params(parts)
        forward = 2 * (tokens * counted + 2 * attention)
        return prediction(parts, params=counted, inference_flops=forward)


LITGPT = Litgpt()
