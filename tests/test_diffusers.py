"""Models and pipelines of diffusers from their configs, where it is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("diffusers") is None or find_spec("transformers") is None:
    pytest.skip("diffusers is not installed: pip install diffusers", allow_module_level=True)

import huggingface_models

import convstat
from convstat.errors import UsageError
from convstat.targets import modules, resolve
from convstat.targets.request import Request

MODELS = {
    "unet": {
        "_class_name": "UNet2DConditionModel", "sample_size": 16, "in_channels": 4, "out_channels": 4,
        "layers_per_block": 1, "block_out_channels": [32, 64], "cross_attention_dim": 32, "attention_head_dim": 8,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    },
    "vae": {
        "_class_name": "AutoencoderKL", "sample_size": 32, "block_out_channels": [32, 64], "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
    },
    "text_encoder": {
        "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_size": 32,
        "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 99,
    },
}  # fmt: skip
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A folder as `save_pretrained` writes it, without weights."""
    for name, fields in MODELS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(fields))
    (tmp_path / "model_index.json").write_text(json.dumps(INDEX))
    return tmp_path


@pytest.mark.parametrize("name", MODELS)
def test_each_model_of_a_pipeline_costs_what_torch_counts(name: str, pipeline: Path) -> None:
    """By its name in the pipeline, and by its own config alike."""
    request = Request(resolve(f"{pipeline}#{name}"))
    recipe = modules.recipe_of(request.target, {})
    subject = modules.prepare(recipe, request)
    assert huggingface_models.really(recipe, subject.stages.example_of) == subject.report.totals.macs > 0
    alone = convstat.analyze(f"{pipeline}/{name}/config.json")
    assert (alone.totals.macs, alone.totals.params) == (subject.report.totals.macs, subject.report.totals.params)


def test_the_denoiser_stands_for_the_pipeline(pipeline: Path) -> None:
    """The others are named, and a name that is none is an error."""
    report = convstat.analyze(str(pipeline))
    assert "UNet2DConditionModel" == report.model.name
    assert any("its other models: #text_encoder, #vae" in note for note in report.model.notes)
    with pytest.raises(UsageError, match="has no model 'une'"):
        convstat.analyze(f"{pipeline}#une")


def test_a_prompt_and_a_picture_have_the_sizes_that_are_asked_for(pipeline: Path) -> None:
    """Of text, each token is projected to keys and values in each cross attention."""
    few, many = (convstat.analyze(str(pipeline), f"tokens {tokens}").totals.macs for tokens in (10, 20))
    # Attention is in one layer on the way down, one in the middle and two up, at 8 x 8 positions of 64 channels: its
    # keys and values are made of 32 channels, and both products are with every position.
    assert 4 * 10 * (2 * 32 * 64 + 2 * 8 * 8 * 64) == many - few
    large = convstat.analyze(str(pipeline), "image 32x32")
    assert (1, 4, 32, 32) == large.model.inputs[0].shape
