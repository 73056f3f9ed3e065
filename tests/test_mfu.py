"""``convstat mfu``: which part of a peak a model uses, by each way of counting, and what is said of bad input."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from pathlib import Path

import pytest
import small_gpts
import torch
from jsonschema import Draft202012Validator
from torch import nn

import convstat
from convstat.cli.mfu import complete_card
from convstat.cli.run import run
from convstat.counters import LANGUAGE_MODELS
from convstat.errors import UsageError
from convstat.grammar.cards import DTYPES, cards, peak_of, with_peak
from convstat.results.documents.schema import report_schema

GPT2 = "tests/small_gpts.py:gpt2"
SMALL = "tests/small_gpts.py:small"
TRAINING = 3 * 2 * (12 * (12 * 768**2 + 2 * 1024 * 768) + 50257 * 768) * 1024
"""FLOPs of a step of GPT-2 on 1024 tokens."""


def test_the_share_of_a_peak_is_flops_over_time_and_peak() -> None:
    """nanoGPT's own example: 100 sequences in 0.755 s on an A100 use 37.14 % of it."""
    found = convstat.mfu(GPT2, on="a100", step_time=0.755 / 100)
    assert TRAINING == found.rows[0].flops == 874_944_921_600
    assert Fraction(TRAINING * 100 * 1000, 755 * 312 * 10**12) == found.own
    assert 37.14 == round(float(100 * (found.own or 0)), 2)
    by_name = {row.counter: row for row in found.rows}
    assert ["convstat", "convstat, causal"] == list(by_name)[:2]
    assert {name for name, one in LANGUAGE_MODELS.items() if one.passes == "training"} == set(list(by_name)[2:])
    assert by_name["nanogpt"].utilisation == found.own
    # A token looks at itself and at those before it, in the forward pass and in the backward pass; others halve it.
    pairs = 1024 * 1023 // 2
    assert TRAINING - 3 * 2 * 12 * 2 * pairs * 768 == by_name["convstat, causal"].flops
    assert TRAINING - 3 * 2 * 12 * 1024 * 1024 * 768 == by_name["maxtext"].flops
    assert 875_062_886_400 == by_name["palm"].flops


def test_speeds_are_the_same_in_any_words() -> None:
    """20 tokens in 10 ms are 2,000 tokens and 200 sequences in a second; twice the GPUs halve it."""
    own = [
        convstat.mfu(SMALL, peak=1e12, **{name: value}).own  # type: ignore[arg-type]
        for name, value in (("tokens_per_second", 2000), ("samples_per_second", 200), ("step_time", 0.01))
    ]
    assert own[0] is not None
    assert own[0] == own[1] == own[2]
    assert own[0] == 2 * (convstat.mfu(SMALL, peak="1TFLOPS", gpus=2, step_time=0.01).own or 0)
    assert own[0] == convstat.mfu(SMALL, peak="0.001 PFLOPS", step_time=0.01).own


def test_inference_is_a_forward_pass() -> None:
    """Of the formulas, vLLM's alone is one."""
    found = convstat.mfu(SMALL, on="h100", tokens_per_second=1e6, mode="infer")
    report = convstat.analyze(SMALL)
    assert 2 * report.totals.macs == found.rows[0].flops
    assert ["convstat", "convstat, causal", "vllm"] == [row.counter for row in found.rows]


def test_pictures_have_samples() -> None:
    """No formula for language models is asked, and there is no attention that looks back only."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Flatten(), nn.LazyLinear(5))
    model(torch.rand(1, 3, 6, 6))
    found = convstat.mfu(model, (3, 6, 6), batch=4, on="l4", samples_per_second=1000, dtype="tf32")
    # The convolution has no gradient of its input to compute.
    assert 2 * 4 * (2 * 8 * 3 * 9 * 16 + 3 * 8 * 16 * 5) == found.rows[0].flops
    assert (1, "samples", 4) == (len(found.rows), found.speed.units, found.step_units)
    assert Fraction(found.rows[0].flops or 0, 4) * 1000 / (60 * 10**12) == found.own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--on", "h100"), "nothing says how fast it runs"),
        (("--on", "h100", "--step-time", "1", "--tokens-per-second", "5"), "and --step-time says how fast it runs"),
        (("--step-time", "1"), "neither --on nor --peak say what it runs on"),
        (("--step-time", "1", "--on", "h100", "--peak", "1TFLOPS"), "both --on and --peak"),
        (("--step-time", "1", "--on", "h1000"), "unknown card 'h1000'"),
        (("--step-time", "1", "--on", "t4"), "t4 has no peak for bf16: fp16, int8, fp32"),
        (("--step-time", "1", "--on", "rtx4060"), "rtx4060 has no peak for bf16: no peak of it is known"),
        (("--step-time", "1", "--on", "h100", "--dtype", "fp64"), "unknown type 'fp64' for --dtype"),
        (("--step-time", "0", "--on", "h100"), "--step-time must be more than 0"),
        (("--step-time", "soon", "--on", "h100"), "--step-time: 'soon' is not an amount"),
        (("--step-time", "1", "--peak", "989"), "--peak 989 is less than a GFLOP/s"),
        (("--step-time", "1", "--peak", "fast"), "--peak takes FLOP/s, not 'fast'"),
        (("--step-time", "1", "--on", "h100", "--mode", "sleep"), "unknown --mode 'sleep'"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what would be right, and exit code 2."""
    assert 2 == run(["mfu", SMALL, *arguments])
    shown = capsys.readouterr()
    assert message in shown.err
    assert "help:" in shown.err or "must be more" in message
    assert not shown.out


def test_tokens_of_what_takes_none(capsys: pytest.CaptureFixture[str]) -> None:
    """A picture's network has samples."""
    assert 2 == run(["mfu", "Conv2d(3, 4, 3)", "--input", "3x8x8", "--on", "h100", "--tokens-per-second", "5"])
    assert "takes no token ids" in capsys.readouterr().err


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_page_fits_and_says_what_was_counted(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """At every width: the peak, the speed and a line for each way of counting."""
    arguments = ["mfu", SMALL, "--on", "h100", "--gpus", "8", "--tokens-per-second", "3.2G", "--width", str(width)]
    assert 0 == run(arguments)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    words = " ".join(out.split())
    assert "8 x h100, bf16: 989.4 TFLOP/s" in words
    assert "3,200,000,000 tokens/s" in words
    for name, formula in LANGUAGE_MODELS.items():
        assert (f"\n{name} " in out) == (formula.passes == "training"), name


def test_more_than_the_peak_is_noticed() -> None:
    """That cannot be."""
    found = convstat.mfu(SMALL, peak="1GFLOPS", step_time=1e-6)
    assert any("more than 100 % of the peak" in note for note in found.model.notes)


def test_documents_are_exact_and_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON by the schema, and a record of CSV for each way of counting."""
    arguments = ["mfu", SMALL, "--peak", "1TFLOPS", "--step-time", "10ms"]
    assert 0 == run([*arguments, "-f", "json"])
    document = json.loads(capsys.readouterr().out)
    assert "convstat.mfu/1" == document["schema"]
    Draft202012Validator(report_schema()).validate(document)
    assert {"card": None, "dtype": "bf16", "peak_flops": 10**12, "gpus": 1, "source": None} == document["hardware"]
    assert 0 == run([*arguments, "-f", "csv"])
    records = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["counter"] for row in document["rows"]] == [record["counter"] for record in records]
    assert [str(row["flops"]) for row in document["rows"]] == [record["flops"] for record in records]
    for suffix in ("md", "jsonl", "html", "svg"):
        assert 0 == run([*arguments, "-o", str(tmp_path / f"out.{suffix}"), "-qq"]), suffix


def test_a_backward_pass_that_fails_is_a_row_without_a_figure() -> None:
    """The formulas have theirs."""

    class NoGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, _ = small_gpts.small()
            self.config = self.decoder.config

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return NoGradient.apply(self.decoder(ids))  # type: ignore[no-any-return]

    found = convstat.mfu(Head(), torch.zeros(2, 10, dtype=torch.int64), on="h100", step_time=1)
    assert found.own is None
    assert found.rows[0].error
    assert any(row.counter == "megatron" and row.flops for row in found.rows)


def test_the_table_of_cards_is_sound() -> None:
    """Each type is one that --dtype takes, peaks fall as operands widen, and a peak has a source."""
    for card in cards().values():
        assert card.memory > 0
        assert set(card.peaks) <= set(DTYPES.values()), card.name
        assert bool(card.peaks) == bool(card.source), card.name
        for narrow, wide in (("fp8", "bf16"), ("bf16", "tf32"), ("tf32", "fp32"), ("int8", "fp16")):
            if narrow in card.peaks and wide in card.peaks:
                assert card.peaks[narrow] >= card.peaks[wide], card.name
    assert 989_400_000_000_000 == with_peak("H100", "bf16")[1]
    assert 756_000_000_000_000 == with_peak("H100 PCIe", "bf16")[1]
    assert 312 * 10**12 == with_peak("a100", "bf16")[1] == peak_of("312 TFLOPS")
    with pytest.raises(UsageError, match="unknown card 'a1000'") as caught:
        with_peak("a1000", "bf16")
    assert "a100-40gb" in str(caught.value.diagnostics[0].help)


def test_cards_are_completed() -> None:
    """By the beginning of their names."""
    assert ["h100", "h100-pcie", "h100-nvl"] == complete_card("h100")
    assert {"tpu-v5e", "tpu-v5p"} <= set(complete_card("TPU"))
