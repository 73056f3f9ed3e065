"""The figures of models that take tokens, against arithmetic, real runs and torch's own counter."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import decoders
import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import convstat
from convstat.cli.run import run
from convstat.count.language.attention import kept_pairs
from convstat.errors import UsageError
from convstat.results.documents.schema import report_schema
from convstat.results.language import Language


def ids(length: int, batch: int = 1) -> torch.Tensor:
    """Tokens."""
    return torch.zeros(batch, length, dtype=torch.int64)


class Shown(NamedTuple):
    """What a command gave."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Shown]:
    """Runs a command."""

    def call(*arguments: str) -> Shown:
        code = run(list(arguments))
        return Shown(code, *capsys.readouterr())

    return call


def figures(model: Any, inputs: dict[str, Any], **options: Any) -> Language:
    """What is said of a model that takes tokens."""
    found = convstat.analyze(model, inputs, **options).language
    assert found is not None
    return found


def test_gpt2_small_as_nanogpt_counts_it() -> None:
    """The figures of nanoGPT's own notebook: a model without biases, at its whole context."""
    layers, width, vocabulary, length = 12, 768, 50257, 1024

    def gpt2() -> nn.Module:
        return decoders.GPT(vocab_size=vocabulary, block_size=length, n_layer=layers, n_head=12, n_embd=width)

    found = figures(gpt2, {"idx": ids(length)}, language=True)
    maps = layers * (3 + 1 + 4 + 4) * width * width
    assert found.params == 124_337_664
    assert found.params == maps + vocabulary * width + length * width + (2 * layers + 1) * width
    forward = length * (maps + vocabulary * width) + layers * 2 * length * length * width
    assert 2 * found.macs == 2 * forward == 291_648_307_200
    assert found.training is not None
    assert found.training.flops == 3 * 2 * forward == 874_944_921_600
    assert found.training_flops_per_token == Fraction(874_944_921_600, 1024)
    assert (found.embeddings.token_params, found.embeddings.position_params) == (vocabulary * width, length * width)
    assert found.embeddings.is_tied
    assert not found.embeddings.head_params
    assert found.active_params == found.params
    assert found.scaling is not None
    assert found.scaling.constant == 0
    assert (found.scaling.linear, found.scaling.quadratic) == (maps + vocabulary * width, 2 * layers * width)
    assert found.attention is not None
    assert found.attention.causal_macs == layers * 2 * width * (length * (length + 1) // 2)
    assert found.macs_causal == length * (maps + vocabulary * width) + layers * width * length * (length + 1)


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "tied": (decoders.GPT, "idx"),
    "products": (lambda: decoders.GPT(flash=False), "idx"),
    "LoRA": (decoders.adapted, "idx"),
    "caching": (decoders.Caching, "input_ids"),
    "experts": (lambda: decoders.Mixture(sliced=False), "input_ids"),
    "slices": (lambda: decoders.Mixture(sliced=True), "input_ids"),
}


@pytest.mark.parametrize("name", MODELS)
def test_training_is_what_torch_counts(name: str) -> None:
    """Forward and backward of a real run, as FlopCounterMode counts them."""
    make, argument = MODELS[name]
    torch.manual_seed(0)
    model = make().train()
    with FlopCounterMode(display=False) as counter:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            output = model(**{argument: ids(16, batch=2)})
        forward = counter.get_total_flops()
        (output[0] if isinstance(output, tuple) else output).sum().backward()
    found = figures(make, {argument: ids(16, batch=2)}, batch=2, language=True).training
    assert found is not None
    assert (2 * found.forward_macs, found.flops) == (forward, counter.get_total_flops())


class Last(decoders.GPT):
    """A decoder that computes the logits of the last token alone."""

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        x = self.wte(idx)
        for block in self.h:
            x = block(x)
        return self.lm_head(x[:, -1:])


class Chunks(nn.Module):
    """Products of whole chunks of six tokens: the last one may be shorter and is padded."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 4)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(self.embed(input_ids), (0, 0, 0, -input_ids.size(1) % 6))
        return self.head((x @ x.transpose(1, 2)).softmax(-1) @ x)


class Windowed(nn.Module):
    """Each token looks at the last twelve, so that only long sequences depart from a polynomial."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 4)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        return self.head((x @ x[:, -12:].transpose(1, 2)).softmax(-1) @ x[:, -12:])


def test_growth_has_a_constant_where_something_is_computed_once() -> None:
    """Logits of one token; and what no polynomial gives is told as it is."""
    found = figures(Last, {"idx": ids(16)}, language=True).scaling
    assert found is not None
    assert (found.constant, found.linear, found.quadratic) == (65 * 32, 2 * 12 * 32 * 32, 2 * 2 * 32)
    assert found.share(16) == Fraction(16 * 16 * 128, 65 * 32 + 16 * 2 * 12 * 32 * 32 + 16 * 16 * 128)
    for model in (Chunks, Windowed):
        other = figures(model, {"input_ids": ids(16)}, language=True)
        assert other.scaling is None
        assert any("no polynomial" in note for note in other.notes)


def test_frozen_bases_have_no_gradients_of_weights() -> None:
    """Of a frozen map none, below the first adapter none at all, and of an adapter both."""
    width, length, rank = 32, 16, 2
    whole = figures(decoders.GPT, {"idx": ids(length)}, language=True).training
    part = figures(decoders.adapted, {"idx": ids(length)}, language=True).training
    assert whole is not None
    assert part is not None
    low = 2 * length * rank * (width + 3 * width)
    assert part.forward_macs == whole.forward_macs + low
    maps = length * (2 * 12 * width * width + 65 * width)
    # What is in front of the first adapter is not gone back through: its base and the first map of the adapter.
    before = length * (width * 3 * width + rank * width)
    attention = whole.backward_macs - 2 * maps
    assert part.backward_macs == maps + 2 * low - before + attention


def test_adapters_alone_have_gradients_and_states() -> None:
    """What is trained takes memory for that: two states for each trainable parameter, and no more gradients."""
    totals = convstat.analyze(decoders.adapted, {"idx": ids(16)}).totals
    assert totals.trainable_params == 2 * 2 * (32 + 3 * 32)
    found = convstat.memory(decoders.adapted, {"idx": ids(16)}, optimizer="adamw")
    assert found.kinds["optimizer"] == 2 * 4 * totals.trainable_params
    assert found.kinds["weights"] == 4 * totals.params
    kept = convstat.memory(decoders.adapted, {"idx": ids(16)}, optimizer="none")
    assert max(point.kinds["gradients"] for point in kept.curve) == 4 * totals.trainable_params


def test_checkpointed_layers_run_again() -> None:
    """All layers run a second time, but what follows the last tensor that is needed in each."""
    found = figures(decoders.GPT, {"idx": ids(16)}, checkpoint="h.*").training
    assert found is not None
    assert found.checkpoint == ("h.*",)
    layer = 16 * 12 * 32 * 32 + 2 * 16 * 16 * 32
    last = 16 * 4 * 32 * 32
    assert found.recomputed_macs == 2 * (layer - last)


def test_train_mode_tells_training_apart() -> None:
    """The figures per token are those of the forward pass, also where both passes are counted."""
    report = convstat.analyze(decoders.GPT, {"idx": ids(16)}, mode="train")
    language = report.language
    assert language is not None
    assert language.training is not None
    assert language.macs == figures(decoders.GPT, {"idx": ids(16)}).macs
    assert report.totals.macs == language.training.macs


@given(queries=st.integers(1, 9), before=st.integers(0, 9), window=st.none() | st.integers(1, 12))
def test_causal_pairs(queries: int, before: int, window: int | None) -> None:
    """Against a mask that is made and counted."""
    keys = queries + before
    rows, columns = torch.arange(before, keys).unsqueeze(1), torch.arange(keys).unsqueeze(0)
    mask = columns <= rows
    if window is not None:
        mask &= columns > rows - window
    assert kept_pairs(queries, keys, window) == Fraction(int(mask.sum()), queries * keys)


@settings(max_examples=10, deadline=None)
@given(length=st.integers(2, 20), past=st.integers(0, 8), window=st.none() | st.integers(2, 9))
def test_masks_are_followed(length: int, past: int, window: int | None) -> None:
    """A mask that the model makes of positions, on a model without values: the pairs that it keeps are counted."""
    inputs: dict[str, Any] = {"input_ids": ids(length)}
    if past:
        inputs["past"] = [(torch.zeros(1, 2, past, 8), torch.zeros(1, 2, past, 8))]
    found = figures(lambda: decoders.Caching(window), inputs)
    assert found.attention is not None
    assert found.attention.known_from == "mask"
    keys = past + length
    assert found.attention.macs == 2 * length * keys * 32
    kept = sum(min(past + i + 1, window or keys) for i in range(length))
    assert found.attention.causal_macs == 2 * kept * 32
    assert found.cache is not None
    # Two groups of keys and two of values, 8 wide, in four bytes each.
    assert found.cache.bytes == 2 * 2 * 8 * 4 * keys
    assert found.cache.bytes_per_token == 2 * 2 * 8 * 4


@pytest.mark.parametrize("is_live", [False, True], ids=["made", "live"])
def test_masks_of_constructors_are_followed(is_live: bool) -> None:
    """A triangle that is a buffer discards what ``is_causal`` does."""
    model: Any = decoders.GPT(flash=False) if is_live else lambda: decoders.GPT(flash=False)
    found = figures(model, {"idx": ids(16)}).attention
    fused = figures(decoders.GPT, {"idx": ids(16)}).attention
    assert found is not None
    assert fused is not None
    assert (found.known_from, fused.known_from) == ("mask", "kernel")
    assert (found.macs, found.causal_macs) == (fused.macs, fused.causal_macs)


class Unknown(nn.Module):
    """Attention under a mask that is an input."""

    is_causal = True

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.is_causal = True

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        scores = (x @ x.transpose(1, 2)).masked_fill(mask == 0, float("-inf"))
        return scores.softmax(-1) @ x


def test_masks_that_are_not_known_are_as_the_module_says() -> None:
    """Values of inputs are not there: what is left is what the module says of itself, and this is said."""
    found = figures(Unknown, {"input_ids": ids(6), "mask": torch.ones(1, 6, 6)}).attention
    assert found is not None
    assert found.known_from == "module"
    assert found.causal_macs == 2 * 8 * 21


def touched(model: nn.Module, inputs: dict[str, torch.Tensor]) -> int:
    """The parameters that one real token touches: those with a gradient; of a table of embeddings all."""
    output = model(**inputs)
    (output[0] if isinstance(output, tuple) else output).square().sum().backward()
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    found = 0
    for parameter in model.parameters():
        if parameter.grad is None:
            continue
        if id(parameter) in tables or parameter.dim() < 3:
            found += parameter.numel() if id(parameter) in tables or bool(parameter.grad.any()) else 0
        else:
            found += sum(part.numel() for part, slope in zip(parameter, parameter.grad, strict=True) if slope.any())
    return found


@pytest.mark.parametrize(("experts", "chosen"), [(8, 2), (5, 1), (6, 5)])
def test_active_params_of_modules(experts: int, chosen: int) -> None:
    """What one token touches on a real run is what the widths of routing say."""
    torch.manual_seed(1)

    def make() -> nn.Module:
        return decoders.Mixture(sliced=False, experts=experts, chosen=chosen)

    expert = 16 * 24 + 24 + 24 * 16 + 16
    found = figures(make, {"input_ids": ids(12)})
    assert found.active_params == touched(make(), {"input_ids": ids(1)})
    assert found.params - found.active_params == 2 * (experts - chosen) * expert
    (routing,) = found.routing
    assert (routing.experts, routing.chosen, routing.layers) == (experts, chosen, 2)
    assert (routing.params, routing.active_params) == (2 * experts * expert, 2 * chosen * expert)


def test_active_params_of_slices() -> None:
    """Slices of parameters, with a bias for each that is one dimension lower."""
    found = figures(lambda: decoders.Mixture(sliced=True), {"input_ids": ids(12)})
    assert found.params - found.active_params == 2 * (8 - 2) * (16 * 24 + 24 + 24 * 16)
    # It does not depend on how many tokens there are.
    assert found.active_params == figures(lambda: decoders.Mixture(sliced=True), {"input_ids": ids(3)}).active_params


def test_a_model_without_tokens_has_no_such_figures() -> None:
    """Pictures are not tokens; who asks is told."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    assert convstat.analyze(net, (3, 8, 8)).language is None
    with pytest.raises(UsageError, match="takes no tokens"):
        convstat.analyze(lambda: nn.Bilinear(3, 4, 5), [torch.zeros(3), torch.zeros(4)], language=True)


def test_embedded_tokens_have_figures_where_they_are_asked_for() -> None:
    """torch's own encoder takes what is embedded already: batch x sequence x features."""
    found = figures(lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), {"src": torch.zeros(3, 8, 16)},
                    batch=3, language=True)  # fmt: skip
    assert (found.tokens, found.basis) == (3 * 8, "3 x 8 of src")
    assert found.macs_per_token == 4 * 16 * 16 + 2 * 16 * 32 + 2 * 8 * 16


PROGRAM = """
import torch
from decoders import GPT, Caching, Mixture
def gpt(T=16): return GPT(), {"idx": torch.zeros(1, T, dtype=torch.int64)}
def cache(T=16): return Caching(), {"input_ids": torch.zeros(1, T, dtype=torch.int64)}
def mixture(): return Mixture(sliced=True), {"input_ids": torch.zeros(1, 16, dtype=torch.int64)}
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A file with entry points."""
    path = tmp_path / "nets.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return str(path)


def test_document_and_back(program: str, tmp_path: Path, cli: Callable[..., Shown]) -> None:
    """What is saved is what was found."""
    saved = tmp_path / "report.json"
    first = cli("analyze", f"{program}:cache", "--language", "--counters", "none", "-o", str(saved))
    assert first.exit_code == 0, first.stderr
    document = json.loads(saved.read_text(encoding="utf-8"))
    told = document["language"]
    assert told["macs_per_token"] == told["macs"] / 16
    assert told["kv_cache_bytes"] == told["cache"]["bytes"] == 16 * 2 * 2 * 8 * 4
    assert convstat.load(saved).to_dict() == document
    jsonschema.validate(document, report_schema())
    for format in ("table", "html", "markdown"):
        shown = cli("analyze", str(saved), "-f", format)
        assert shown.exit_code == 0
        assert "KV cache" in shown.stdout, format
    assert all(len(line) <= 80 for line in cli("analyze", str(saved), "--width", "80").stdout.splitlines())


def test_budgets_and_comparison(program: str, cli: Callable[..., Shown]) -> None:
    """Each figure can be limited, and stands beside those of other lengths."""
    language = convstat.analyze(decoders.GPT, {"idx": ids(16)}, language=True).language
    assert language is not None
    metrics = ("macs_per_token", "active_params", "macs_causal", "training_flops_per_token")
    for metric in metrics:
        exact = getattr(language, metric)
        for amount, code in ((exact, 0), (exact - 1, 1)):
            result = cli("check", f"{program}:gpt", "--max", f"{metric}={amount}")
            assert result.exit_code == code, (metric, result.stdout, result.stderr)
    assert cli("check", f"{program}:cache", "--max", f"kv_cache_bytes={16 * 128}").exit_code == 0
    assert cli("check", f"{program}:cache", "--max", f"kv_cache_bytes={16 * 128 - 1}").exit_code == 1
    missing = cli("check", f"{program}:gpt", "--max", "kv_cache_bytes=1KiB")
    assert "the model gives no cache back" in missing.stdout
    compared = cli("compare", f"{program}:cache", "T=8,16", "-f", "json")
    rows = json.loads(compared.stdout)["rows"]
    assert [row["language"]["kv_cache_bytes"] for row in rows] == [8 * 128, 16 * 128]
    table = cli("compare", f"{program}:cache", "T=8,16", "--width", "200").stdout
    assert "MACs/token" in table
    assert "KV cache bytes" in table


def test_text_tells_what_is_active(program: str, cli: Callable[..., Shown]) -> None:
    """A mixture of experts says how many are chosen."""
    shown = cli("analyze", f"{program}:mixture", "--counters", "none", "--width", "120").stdout
    assert "2 of 8 experts in 2 layers" in shown
