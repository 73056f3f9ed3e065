"""The families of transformers at their default sizes, each with inputs that its forward pass takes, where they can be
guessed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

TOKENS = 16
SAMPLES = 16_000
FRAMES = 3000


def families() -> list[str]:
    """The names of all that have a base model."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    return [name for name in CONFIG_MAPPING if name in MODEL_MAPPING_NAMES]


def make(family: str) -> nn.Module:
    """The base model of a family, at its default size."""
    from transformers import AutoConfig, AutoModel

    return AutoModel.from_config(AutoConfig.for_model(family))


def inputs_of(model: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Inputs that the model may take, the most usual ones first."""
    names = inspect.signature(model.forward).parameters
    ids = torch.ones(1, TOKENS, dtype=torch.int64)
    known = {
        "input_ids": [ids],
        "decoder_input_ids": [ids],
        "pixel_values": [_picture(model.config)],
        "input_values": [torch.zeros(1, SAMPLES), torch.zeros(1, 1, SAMPLES)],
        "input_features": [torch.zeros(1, bins, FRAMES) for bins in (80, 128)] + [torch.zeros(1, FRAMES, 80)],
    }
    main = getattr(model, "main_input_name", "input_ids")
    decoder = {"decoder_input_ids": ids} if "decoder_input_ids" in names else {}
    given = [name for name in known if name in names and name != "decoder_input_ids"]
    for first in known.get(main, []):
        yield {main: first, **decoder}
        yield {main: first}
    for name in given:
        for value in known[name]:
            yield {name: value, **decoder}
    yield {name: known[name][0] for name in given} | decoder


def _picture(config: Any) -> torch.Tensor:
    """A picture of the size that a model, or its part that sees, is made for."""
    parts = [config, *(getattr(config, name, None) for name in ("vision_config", "backbone_config"))]
    size = next((found for part in parts if (found := getattr(part, "image_size", None))), 224)
    channels = next((found for part in parts if (found := getattr(part, "num_channels", None))), 3)
    if isinstance(size, dict):
        size = size.get("height", 224)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return torch.zeros(1, channels, height, width)
