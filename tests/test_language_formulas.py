"""Formulas for the FLOPs of language models: what they give, to the unit, and why that is not what is multiplied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import counted
import pytest
import small_gpts
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_gpts import Config, Decoder, GPTConfig
from torch import nn

from convstat.cli.run import run
from convstat.count import traces
from convstat.counters import LANGUAGE_MODELS, select
from convstat.counters.causes import CAUSES, UNATTRIBUTED
from convstat.counters.language import parts as parts_module
from convstat.counters.language.parts import spread
from convstat.counters.measure import predict
from convstat.counters.reconcile import foreseen
from convstat.results.report import CounterRow
from convstat.trace.record import record

NAMES = tuple(LANGUAGE_MODELS)

Made = tuple[nn.Module, tuple[torch.Tensor, ...]]


def gpt2() -> Made:
    """GPT-2 small, with nothing allocated."""
    with torch.device("meta"):
        return small_gpts.gpt2()


def small(*args: Any, **fields: Any) -> Made:
    """A small decoder, with nothing allocated."""
    with torch.device("meta"):
        return small_gpts.small(*args, **fields)


def row(name: str, made: Made) -> CounterRow:
    """The row of a formula beside convstat's count of the same model."""
    model, inputs = made
    trace = record(model.eval(), inputs)
    prediction = predict(LANGUAGE_MODELS[name], model, inputs, trace)
    layers = traces.count(trace, name="", source="", inputs=()).layers
    return foreseen(layers, prediction, status="predicted", name=name)


def flops(name: str, made: Made) -> int:
    """What a tool prints."""
    found = row(name, made)
    assert found.predicted is not None, found.error
    assert found.predicted.macs is not None
    return 2 * found.predicted.macs


def causes(name: str, made: Made) -> Mapping[str, int]:
    """The MACs of each cause."""
    return {cause.code: cause.macs for cause in row(name, made).causes if cause.macs}


GPT2 = {
    # 2 x (12 x (12 x 768² + 2 x 1024 x 768) + 50257 x 768) x 1024, and three times that.
    "nanogpt": 3 * 2 * (12 * (12 * 768**2 + 2 * 1024 * 768) + 50257 * 768) * 1024,
    # N has no positions: 50257 x 768 + 12 x (12 x 768² + 2 x 768) + 768.
    "palm": (6 * (50257 * 768 + 12 * (12 * 768**2 + 2 * 768) + 768) + 12 * 12 * 12 * 64 * 1024) * 1024,
    # Attention is halved, and 50257 is padded to 50304.
    "megatron": 3 * 2 * (12 * (12 * 768**2 + 1024 * 768) + 50304 * 768) * 1024,
    "maxtext": 3 * 2 * (12 * (12 * 768**2 + 1024 * 768) + 50257 * 768) * 1024,
    # N has the positions, and nothing is subtracted of a tied embedding.
    "torchtitan": (6 * 124_337_664 + 6 * 12 * 12 * 2 * 64 * 1024) * 1024,
    "6nd": 6 * 124_337_664 * 1024,
    # The tied matrix vanishes, and so do the positions.
    "hf-trainer": 6 * (124_337_664 - 50257 * 768 - 1024 * 768) * 1024,
    # Attention, 4 x 12 x 768 x 1024², five times.
    "litgpt": 3 * 2 * 124_337_664 * 1024 + 5 * 4 * 12 * 768 * 1024**2,
    # Three matrices for each of the 12 MLPs, and the logits are those of all tokens.
    "trl": 3 * 2 * (12 * (4 * 768**2 + 3 * 4 * 768**2 + 2 * 1024 * 768) + 50257 * 768) * 1024,
    # Four times, the logits and four FLOPs for each channel of the embedding once.
    "cookbook": (4 * 2 * 12 * (12 * 768**2 + 2 * 1024 * 768) + 2 * 50257 * 768 + 4 * 768) * 1024,
    # Forward, three matrices for each MLP, one token's logits.
    "vllm": 2 * 12 * (4 * 768**2 + 3 * 4 * 768**2 + 2 * 1024 * 768) * 1024 + 2 * 50257 * 768,
}


@pytest.mark.parametrize("name", NAMES)
def test_each_gives_its_figure_for_gpt2(name: str) -> None:
    """At 1024 tokens, from the arithmetic of its formula."""
    assert GPT2[name] == flops(name, gpt2())


def test_figures_that_are_published() -> None:
    """Those that the outputs of nanoGPT's notebook show."""
    nanogpt, palm = row("nanogpt", gpt2()), row("palm", gpt2())
    assert nanogpt.predicted is not None
    assert (124_337_664, 874_944_921_600) == (nanogpt.predicted.params, flops("nanogpt", gpt2()))
    assert {"forward_flops": 291_648_307_200} == nanogpt.native
    assert 875_062_886_400 == flops("palm", gpt2())
    # get_num_params subtracts the positions.
    assert palm.predicted is not None
    assert 124_337_664 - 1024 * 768 == palm.predicted.params


def test_vllm_scales_as_its_own_tests_say() -> None:
    """Its tests/v1/metrics/test_perf_metrics.py has no figures, but these relations between them.

    MLPs cost twice as much with twice the width, two experts twice as much as one dense MLP of their width, attention
    twice as much in twice as many layers, and the logits twice as much for twice as many words.
    """

    def cost(**fields: object) -> int:
        return flops("vllm", small(gated=True, **fields))

    width, layers, words = 48, 2, 40
    usual = {"intermediate_size": width, "num_hidden_layers": layers, "vocab_size": words}
    dense = cost(**usual)
    mlps = cost(**{**usual, "intermediate_size": 2 * width}) - dense
    assert mlps == cost(**{**usual, "intermediate_size": 3 * width}) - dense - mlps > 0
    assert cost(**usual, num_local_experts=4, num_experts_per_tok=2) - (dense - mlps) == 2 * mlps
    logits = cost(**{**usual, "vocab_size": 2 * words}) - dense
    assert dense - logits == cost(**{**usual, "num_hidden_layers": 2 * layers}) - dense
    assert logits == 2 * 2 * words * Config().hidden_size


BACKWARD = {"vllm": 0, "cookbook": 2}

MODELS: dict[str, dict[str, object]] = {
    "tied": {},
    "untied": {"tied": False},
    "biases": {"bias": True},
    "grouped": {"num_key_value_heads": 2, "gated": True, "tied": False, "positions": False},
    "wide heads": {"head_dim": 10},
    "another width": {"intermediate_size": 50},
    "experts": {"num_local_experts": 4, "num_experts_per_tok": 2, "gated": True},
    "last logits": {"last_only": True},
    "one sequence": {"batch": 1, "tokens": 7},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", MODELS)
def test_every_unit_has_a_cause(model: str, name: str) -> None:
    """The causes sum up to the difference, are known, and nothing is left over; no layer costs less than nothing."""
    made = small(**MODELS[model])  # type: ignore[arg-type]
    found = row(name, made)
    if found.predicted is None or found.predicted.macs is None:
        # TRL reads a field of mixtures that this config does not have.
        assert (name, model) == ("trl", "experts"), found.error
        assert "has no attribute 'moe_intermediate_size'" in str(found.error)
        return
    codes = {cause.code for cause in found.causes}
    assert UNATTRIBUTED not in codes, found.causes
    assert codes <= set(CAUSES)
    for figure in ("params", "macs"):
        difference = getattr(found.difference, figure)
        assert difference in (None, sum(getattr(cause, figure) for cause in found.causes))


@settings(max_examples=8, deadline=None)
@given(
    heads=st.sampled_from([(1, 1), (2, 1), (4, 4), (6, 2)]),
    head_dim=st.integers(1, 9),
    hidden=st.integers(1, 6),
    layers=st.integers(1, 3),
    ffn=st.integers(1, 70),
    vocabulary=st.integers(2, 400),
    tokens=st.integers(2, 9),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
def test_whatever_the_hyperparameters_are(
    heads: tuple[int, int],
    head_dim: int,
    hidden: int,
    layers: int,
    ffn: int,
    vocabulary: int,
    tokens: int,
    flags: tuple[bool, bool, bool, bool],
) -> None:
    """Nothing is left over, for any of the formulas."""
    gated, bias, tied, positions = flags
    made = small(
        tokens,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=head_dim,
        hidden_size=hidden * heads[0],
        num_hidden_layers=layers,
        intermediate_size=ffn,
        vocab_size=vocabulary,
        gated=gated,
        bias=bias,
        tied=tied,
        positions=positions,
    )
    for name in NAMES:
        found = row(name, made)
        assert found.predicted is not None, (name, found.error)
        assert UNATTRIBUTED not in {cause.code for cause in found.causes}, name


B, T, V, H, L, N, K, D, FFN = 2, 10, 300, 24, 3, 4, 2, 6, 96
"""The hyperparameters of the small decoders; K heads of keys where they are grouped."""


CAUSED: dict[tuple[str, str], dict[str, int]] = {
    ("palm", "untied"): {
        "embedding_params": B * T * V * H,
        "norm_params": B * T * (2 * L + 1) * H,
    },
    ("palm", "biases"): {
        "norm_params": B * T * (2 * L + 1) * H,
        "bias_params": B * T * (L * (4 * H + FFN + H + 2 * H) + H),
    },
    ("hf-trainer", "tied"): {
        "tied_head": -B * T * V * H,
        "attention_left_out": -L * B * N * T * T * 2 * D,
        "norm_params": B * T * (2 * L + 1) * H,
    },
    ("6nd", "experts"): {
        "all_experts": B * T * L * 2 * 3 * H * FFN,
        "attention_left_out": -L * B * N * T * T * 2 * D,
        "position_params": B * T * 40 * H,
        "norm_params": B * T * (2 * L + 1) * H,
    },
    ("megatron", "tied"): {
        "causal_half": -L * B * N * T * T * 2 * D // 2,
        "padded_vocabulary": B * T * (384 - 300) * H,
    },
    ("megatron", "experts"): {
        "causal_half": -L * B * N * T * T * 2 * D // 2,
        "padded_vocabulary": B * T * (384 - 300) * H,
        "router": -L * B * T * H * 4,
    },
    ("maxtext", "experts"): {"causal_half": -L * B * N * T * T * 2 * D // 2},
    ("torchtitan", "experts"): {
        "position_params": B * T * 40 * H,
        "norm_params": B * T * (2 * L + 1) * H,
    },
    ("trl", "tied"): {"gated_mlp": L * B * T * H * FFN},
    ("trl", "grouped"): {},
    ("nanogpt", "grouped"): {
        "grouped_queries": L * B * T * H * 2 * D * (N - K),
        "gated_mlp": -L * B * T * H * FFN,
    },
    ("nanogpt", "wide heads"): {
        "attention_width": L * B * T * 4 * H * (H - N * 10) + L * B * T * T * 2 * (H - N * 10),
    },
    ("nanogpt", "another width"): {"mlp_width": L * B * T * 2 * H * (4 * H - 50)},
    ("maxtext", "last logits"): {
        "all_logits": B * (T - 1) * V * H,
        "causal_half": -L * B * N * T * T * 2 * D // 2,
    },
    ("litgpt", "tied"): {
        "attention_again": 2 * L * B * N * T * T * 2 * D,
        "position_params": B * T * 40 * H,
        "norm_params": B * T * (2 * L + 1) * H,
    },
    ("cookbook", "tied"): {
        "embedding_ops": 2 * B * T * H,
        "recomputation": L * B * (T * 12 * H**2 + T * T * 2 * N * D),
    },
    ("vllm", "tied"): {"last_logits": -B * (T - 1) * V * H, "gated_mlp": L * B * T * H * FFN},
    ("vllm", "last logits"): {"gated_mlp": L * B * T * H * FFN},
}


@pytest.mark.parametrize(("name", "model"), CAUSED)
def test_causes_are_what_their_rules_come_to(name: str, model: str) -> None:
    """To the unit, and the backward pass is twice what the forward pass was priced at."""
    made = small(**MODELS[model])  # type: ignore[arg-type]
    found = dict(causes(name, made))
    backward = found.pop("backward_pass", 0)
    assert CAUSED[name, model] == found
    if name not in ("vllm", "cookbook", "litgpt"):
        assert 0 == backward % 2
        assert 3 * backward == flops(name, made)


def test_frozen_parameters_have_one_backward_pass_in_litgpt() -> None:
    """Two FLOPs for each of them and each token less."""
    model, inputs = small()
    before = flops("litgpt", (model, inputs))
    model.get_parameter("h.0.mlp.up.weight").requires_grad_(False)
    assert {"frozen_params": -B * T * H * FFN}.items() <= causes("litgpt", (model, inputs)).items()
    assert before - 2 * B * T * H * FFN == flops("litgpt", (model, inputs))


def test_a_rule_that_is_wrong_leaves_something_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cause is computed, and is not what is left: a third instead of half of attention is noticed."""
    from convstat.counters.language import base, megatron

    def priced(parts: Any, width: int, *reasons: Any, **_: Any) -> None:
        decoder = parts.decoder
        whole = decoder.every_token * decoder.tokens * width * decoder.layers
        parts.price(parts_module.CORE, whole // 3, ("causal_half", -(whole // 2)))

    assert base.core is megatron.core
    monkeypatch.setattr(megatron, "core", priced)
    whole = L * B * N * T * T * 2 * D
    assert whole // 3 - whole // 2 == causes("megatron", small())[UNATTRIBUTED]


def test_a_config_that_is_not_the_models_leaves_something_over() -> None:
    """Products are the model's, whatever its config says."""
    model, inputs = small()
    model.config = replace(Config(), num_hidden_layers=4)  # type: ignore[assignment]
    found = causes("vllm", (model, inputs))
    # The MLP's width is right, and it is priced where there is one; attention is said to be in four layers.
    assert {"layers_without_attention"} == set(found) - set(causes("vllm", small()))
    model.config = replace(Config(), num_key_value_heads=2)  # type: ignore[assignment]
    assert -L * B * T * H * 2 * D * 2 == causes("megatron", (model, inputs))[UNATTRIBUTED]


def test_layers_may_have_something_else_than_attention() -> None:
    """It is left out with a cause; Megatron-LM and MaxText have formulas of their own for such layers."""
    model, inputs = small(bias=True)
    width = 2 * H
    model.h[1].attn = nn.Sequential(  # type: ignore[index, union-attr]
        nn.Linear(H, width, device="meta"), nn.Linear(width, H, device="meta")
    )
    found = causes("vllm", (model, inputs))
    assert -B * T * 2 * H * width == found["mixers"]
    assert B * T * (4 * H * N * D + T * 2 * N * D) == found["layers_without_attention"]
    assert UNATTRIBUTED not in found
    for name in ("megatron", "maxtext"):
        error = row(name, (model, inputs)).error
        assert "it needs attention in every layer, and 1 of 3 have something else" == error


def test_names_of_other_configs_are_read() -> None:
    """nanoGPT's own, and one in a dict; the config may hang in a module that is wrapped."""
    model, inputs = small(intermediate_size=96)
    expected = flops("nanogpt", (model, inputs))
    for holder, config in (("config", GPTConfig()), ("cfg", vars(GPTConfig()))):
        other, _ = small(intermediate_size=96)
        del other.config
        setattr(other, holder, config)
        assert expected == flops("nanogpt", (nn.Sequential(other), inputs))


REFUSED: dict[str, tuple[Made, str]] = {
    "no config": ((nn.Linear(3, 4), (torch.zeros(2, 3),)), "this model has no config"),
    "an incomplete one": (
        (nn.Sequential(small()[0].wte), (torch.zeros(2, 3, dtype=torch.int64),)),  # type: ignore[arg-type]
        "this model has no config",
    ),
}


@pytest.mark.parametrize("model", REFUSED)
@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_is_no_decoder_is_refused(name: str, model: str) -> None:
    """With what is needed."""
    made, said = REFUSED[model]
    found = row(name, made)
    assert found.predicted is None or found.predicted.macs is None
    assert said in str(found.error)
    assert "will fail" not in str(found.error)


def test_what_a_config_lacks_is_named() -> None:
    """By the names under which it is looked for."""
    model, inputs = small()
    model.config = SimpleNamespace(hidden_size=24, num_attention_heads=4, vocab_size=300)  # type: ignore[assignment]
    error = str(row("palm", (model, inputs)).error)
    assert "config has no num_hidden_layers/n_layer" in error
    model.config = SimpleNamespace(**vars(Config()), is_encoder_decoder=True)  # type: ignore[assignment]
    assert "it needs a decoder alone" in str(row("palm", (model, inputs)).error)

    class Continuous(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = Config()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    assert "it needs token ids" in str(row("palm", (Continuous(), (torch.zeros(1, 2, 3),))).error)


def test_each_is_listed_documented_and_completed(capsys: pytest.CaptureFixture[str]) -> None:
    """With where its rules are from."""
    from pathlib import Path

    from convstat.cli.options import COUNTER_NAMES

    assert 0 == run(["list", "counters"])
    listed = capsys.readouterr().out
    page = (Path(__file__).resolve().parent.parent / "convstat/docs/counters.md").read_text(encoding="utf-8")
    for name, formula in LANGUAGE_MODELS.items():
        assert f"{name} " in listed
        assert formula.source.split()[0] in listed
        assert f"`{name}`" in page
    assert set(NAMES) <= set(COUNTER_NAMES)
    assert list(NAMES) == [counter.name for counter in select("llm")]
    assert not set(NAMES) & {counter.name for counter in select("all,conventions")}


GPT = "tests/small_gpts.py:small"


def test_a_report_can_be_in_one_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Its layers sum up to the figure, and none costs less than nothing."""
    for name in NAMES:
        report = counted.express(GPT, name)
        assert report.totals.macs == sum(layer.macs for layer in report.layers)
        assert flops(name, small()) == 2 * report.totals.macs
        assert all(layer.macs >= 0 for layer in report.layers), name
    assert 2 == run(["analyze", "ReLU()", "--input", "3x4x4", "--as", "palm"])
    assert "--as palm: it needs the config of a language model" in capsys.readouterr().err


def test_a_figure_is_identified() -> None:
    """874.9 GFLOPs of GPT-2 are nanoGPT's, and of a picture's network nobody speaks of language models."""
    found = counted.identify("874.9GFLOPs", "tests/small_gpts.py:gpt2", counters="llm")
    assert {"nanogpt"} == {match.counter for match in found.matches}
    assert "FLOPs: 2 x MACs of a step of training" == found.matches[0].figure
    found = counted.identify("875.06GFLOPs", "tests/small_gpts.py:gpt2", counters="llm")
    assert {"palm"} == {match.counter for match in found.matches}
    silent = {one.counter for one in counted.identify("875.06GFLOPs", "configs/depthwise_separable.yaml").silent}
    assert not silent & set(NAMES)
    named = counted.identify("875.06GFLOPs", "configs/depthwise_separable.yaml", counters="palm")
    assert ["palm"] == [one.counter for one in named.silent]


def test_layers_are_explained_by_each() -> None:
    """Those of the head are priced by all, and a layer of a picture's network by none of them."""
    explanation = counted.explain(GPT, "lm_head")
    views = {view.name: view for view in explanation.layers[0].views}
    assert set(NAMES) <= set(views)
    predicted = views["megatron"].predicted
    assert predicted is not None
    assert 3 * B * T * 384 * H == predicted.macs
    others = counted.explain("ReLU()", inputs=["3x4x4"]).layers[0].views
    assert not {view.name for view in others} & set(NAMES)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_figure_does_not_depend_on_the_device(device: str) -> None:
    """Attention runs other kernels on each."""
    for name in NAMES:
        report = counted.analyze(GPT, counters=name, device=device)
        (found,) = report.counters
        assert found.predicted is not None, name
        assert flops(name, small()) == 2 * (found.predicted.macs or 0), name


@given(st.integers(-(10**6), 10**6), st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_an_amount_is_shared_out_to_the_unit(amount: int, weights: list[int]) -> None:
    """In proportion, as far as whole numbers go."""
    over = {str(place): weight for place, weight in enumerate(weights)}
    found = spread(amount, over)
    assert amount == sum(found.values())
    if whole := sum(weights):
        for layer, part in found.items():
            assert abs(part - amount * over[layer] / whole) <= 1


def test_decoders_by_hand_are_not_run_for_nothing() -> None:
    """The small ones give the logits that they are counted for."""
    logits = Decoder(replace(Config(), num_local_experts=4, num_experts_per_tok=2))(
        torch.zeros(2, 10, dtype=torch.int64)
    )
    assert (2, 10, 300) == tuple(logits.shape)
