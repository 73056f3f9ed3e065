"""Hugging Face: ``floating_point_ops`` of the Trainer, which is what ``total_flos`` sums up."""

from __future__ import annotations

from convstat.counters.base import Prediction
from convstat.counters.language.base import Formula, backward, by_parameters, prediction
from convstat.counters.language.parts import CORE, Parts


class HfTrainer(Formula):
    """``Trainer.floating_point_ops``: 6 x tokens x parameters without embeddings."""

    name = "hf-trainer"
    short = "6 x params without embeddings"
    unit = "FLOPs of a step of training, halved: 6 for each token and each parameter that is no embedding"
    source = "transformers 5.24, Trainer.floating_point_ops and PreTrainedModel.num_parameters"
    counts = "six FLOPs for each token and each parameter outside of embeddings"
    defects = (
        "A head that shares its matrix with the embedding vanishes with it.",
        "What attention multiplies is left out.",
        "Every expert counts, wherever a token is sent.",
    )

    def apply(self, parts: Parts) -> Prediction:
        """``named_parameters`` gives a shared matrix once, under the name that comes first."""
        embeddings = frozenset(
            parameter.key
            for info in parts.trace.modules
            if "torch.nn.modules.sparse.Embedding" in (info.type, *info.bases)
            for parameter in info.parameters
            if parameter.name == "weight" and self._first(parts, parameter.key) == info.path
        )
        counted = by_parameters(parts, without=embeddings, excluded="tied_head")
        parts.leave_out(CORE, "attention_left_out")
        backward(parts)
        return prediction(parts, training_flops_per_token=6 * counted)

    def _first(self, parts: Parts, key: int) -> str:
        return next(owned.path for owned in parts.parameters if owned.parameter.key == key)


HF_TRAINER = HfTrainer()
