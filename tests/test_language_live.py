"""Formulas for language models beside the functions that they model: what these returned, and what they return here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import counted
import pytest
import torch

from convstat.counters import LANGUAGE_MODELS
from convstat.counters.causes import UNATTRIBUTED
from convstat.results.report import CounterRow

RECORDED = json.loads((Path(__file__).parent / "golden" / "language_formulas.json").read_text(encoding="utf-8"))
needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")


def rows(model: str, fields: Mapping[str, Any], tokens: int, batch: int) -> Mapping[str, CounterRow]:
    """What each formula gives for a model, by name."""
    if model == "small_gpts":
        overrides = {**fields, "tokens": tokens, "batch": batch}
        report = counted.analyze("tests/small_gpts.py:small", overrides, counters="llm")
    else:
        inputs = [f"input_ids={batch}x{tokens}:int64"]
        report = counted.analyze(f"transformers/{model}", fields, inputs=inputs, counters="llm")
    return {row.name: row for row in report.counters}


def _marked(case: Mapping[str, Any]) -> Any:
    marks = [] if case["model"] == "small_gpts" else [needs_transformers]
    return pytest.param(case, id=f"{case['model']}-{len(case['fields'])}", marks=marks)


@pytest.mark.parametrize("case", [_marked(case) for case in RECORDED["cases"]])
def test_figures_are_those_that_the_functions_returned(case: Mapping[str, Any]) -> None:
    """To the unit, or the same error; the file says which version of which function was called."""
    assert set(case["flops"]) <= set(RECORDED["sources"])
    found = rows(case["model"], case["fields"], case["tokens"], case["batch"])
    for name, flops in case["flops"].items():
        one = found[name]
        if isinstance(flops, str):
            # The configs of the functions were of another class.
            assert flops.partition("object")[2] in str(one.error), name
            continue
        assert one.predicted is not None, (name, one.error)
        assert flops == 2 * (one.predicted.macs or 0), name
        assert UNATTRIBUTED not in {cause.code for cause in one.causes}, name


SHRUNK: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 200}
GROUPED = {**SHRUNK, "intermediate_size": 96, "num_key_value_heads": 2}
MODELS: dict[str, Mapping[str, Any]] = {
    "phi3": {**GROUPED, "pad_token_id": 0},
    "olmo2": GROUPED,
    "starcoder2": GROUPED,
    "cohere": GROUPED,
    "gemma": {**GROUPED, "head_dim": 32},
    "qwen3": {**GROUPED, "head_dim": 32},
    "gpt_neox": {**SHRUNK, "intermediate_size": 96},
    "opt": {**SHRUNK, "ffn_dim": 96, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": 2, "hidden_size": 64, "n_head": 4, "vocab_size": 200},
    "falcon": SHRUNK,
    "gpt_bigcode": {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 200},
    "bert": {**SHRUNK, "intermediate_size": 96},
    "albert": {**SHRUNK, "embedding_size": 32, "intermediate_size": 96},
    "olmoe": {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        **GROUPED,
        "moe_intermediate_size": 48,
        "shared_expert_intermediate_size": 80,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
    },
}


@needs_transformers
@pytest.mark.parametrize("model", MODELS)
def test_every_unit_has_a_cause(model: str) -> None:
    """For families of transformers whose layers, heads and experts are made in different ways."""
    found = rows(model, MODELS[model], 16, 2)
    assert set(LANGUAGE_MODELS) == set(found)
    for name, one in found.items():
        if one.predicted is None or one.predicted.macs is None:
            assert name == "trl", one.error
            assert "has no attribute" in str(one.error)
            continue
        assert UNATTRIBUTED not in {cause.code for cause in one.causes}, (name, one.causes)


@needs_transformers
@pytest.mark.parametrize("model", ["gpt2", "llama", "falcon", "olmoe", "gemma", "qwen2_moe"])
def test_total_flos_of_the_trainer(model: str) -> None:
    """``floating_point_ops`` itself, of a model that is built here."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.trainer import Trainer

    fields = MODELS.get(model, GROUPED if model == "llama" else {"n_layer": 2, "n_embd": 64, "n_head": 4})
    with torch.device("meta"):
        config = AutoConfig.for_model(model, **fields)
        made = AutoModelForCausalLM.from_config(config)
        ids = torch.zeros(2, 16, dtype=torch.int64)
    report = counted.analyze(
        f"transformers/{model}",
        fields,
        inputs=["input_ids=2x16:int64"],
        counters="hf-trainer",
    )
    predicted = report.counters[0].predicted
    assert predicted is not None
    live = Trainer.floating_point_ops(SimpleNamespace(model=made), {"input_ids": ids})  # type: ignore[arg-type]
    assert live == 2 * (predicted.macs or 0)


@needs_transformers
def test_a_step_of_decoding_attends_to_the_cache() -> None:
    """vLLM counts the context; a trainer's formula leaves the keys out that are cached."""
    report = counted.analyze("transformers/llama", GROUPED, inputs=["decode 1@31"], counters="vllm,megatron,palm")
    found = {one.name: {cause.code: cause.macs for cause in one.causes} for one in report.counters}
    # 2 layers, 4 heads of 16, scores and values, 31 keys.
    cached = -2 * 4 * 16 * 2 * 31
    assert {} == found["vllm"]
    assert cached == found["megatron"]["cached_keys"] == found["palm"]["cached_keys"]
