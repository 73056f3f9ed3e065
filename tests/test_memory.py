"""``convstat memory``: what it takes, what it says, and what fits."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import torch
from torch import nn

import convstat
from convstat.cli.run import run
from convstat.commands.memory import fit, limit_of, memory
from convstat.errors import UsageError
from convstat.grammar.cards import cards
from convstat.results.documents.schema import report_schema
from convstat.results.memory import KINDS, Run
from convstat.targets import resolve
from convstat.targets.request import Request

CONFIG = "configs/mobilenet_v1.yaml"


def test_a_linear_layer_by_hand() -> None:
    """Inference: weights, input and output. Training: a gradient for each weight, and one for the output."""
    found = convstat.memory("Linear(16, 4, bias=False)", (16,), batch=8)
    assert found.peak.bytes == 4 * (16 * 4 + 8 * 16 + 8 * 4)
    assert found.kinds["weights"] == 4 * 16 * 4
    trained = convstat.memory("Linear(16, 4, bias=False)", (16,), batch=8, optimizer="momentum", device="cpu")
    # The output is alive while the backward pass makes a gradient of the weight from its gradient and the input.
    assert trained.kinds["optimizer"] == 4 * 16 * 4
    assert trained.peak.bytes == 4 * (3 * 16 * 4 + 8 * 16 + 2 * 8 * 4)


def test_kinds_layers_and_curve_add_up() -> None:
    """To the peak, each of them."""
    found = memory(Request(resolve(CONFIG)), Run("train", "cuda", "adamw"))
    assert tuple(found.kinds) == KINDS
    assert sum(found.kinds.values()) == found.peak.bytes
    assert sum(alive.bytes for alive in found.alive) == found.peak.bytes
    assert max(point.bytes for point in found.curve) == found.peak.bytes
    for kind in KINDS:
        assert sum(alive.bytes for alive in found.alive if alive.kind == kind) == found.kinds[kind]
    assert {moment.phase for moment in found.phases} == {"forward", "backward", "step"}
    assert max(moment.bytes for moment in found.phases) == found.peak.bytes


def test_the_weights_are_those_of_the_report() -> None:
    """Parameters of four bytes each; AdamW keeps two states of as many."""
    found = memory(Request(resolve(CONFIG)), Run("train", "cuda", "adamw"))
    params = convstat.analyze(CONFIG).totals.params
    assert found.kinds["weights"] == 4 * params
    assert found.kinds["optimizer"] == 2 * 4 * params


@pytest.mark.parametrize("limit", ["96MiB", "1GiB", "200MB"])
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_the_largest_batch_fits_and_the_next_does_not(mode: str, limit: str) -> None:
    """Both were counted."""
    request, asked = Request(resolve(CONFIG)), Run(mode)
    found = fit(request, asked, limit)
    assert found.fit is not None
    assert found.fit.largest is not None
    most, _ = limit_of(limit)

    def peak(batch: int) -> int:
        return memory(Request(resolve(CONFIG), batch=batch), asked).peak.bytes

    assert found.peak.bytes == found.fit.bytes == peak(found.fit.largest) <= most
    assert found.fit.next_bytes == peak(found.fit.largest + 1) > most


def test_a_batch_that_fills_the_limit_fits() -> None:
    """The limit is what the peak may be, and not what it has to stay below."""
    for batch in (3, 5, 8):
        peak = memory(Request(resolve(CONFIG), batch=batch), Run()).peak.bytes
        for limit, largest in ((peak, batch), (peak - 1, batch - 1)):
            found = fit(Request(resolve(CONFIG)), Run(), f"{limit}B")
            assert found.fit is not None
            assert found.fit.largest == largest


def test_the_largest_picture(tmp_path: Path) -> None:
    """Sizes that a stride does not divide are passed over where the model refuses them."""
    spec = tmp_path / "net.yaml"
    spec.write_text(
        "convstat: 1\nname: net\nvars: {H: 64}\ninput: [3, H, H]\nlayers:\n"
        "  - Conv2d: {out_channels: 8, kernel_size: 3, padding: 1}\n  - PixelUnshuffle: 4\n"
    )
    found = fit(Request(resolve(str(spec))), Run(), "8MiB", "H")
    assert found.fit is not None
    side = found.fit.largest
    assert side is not None
    assert side % 4 == 0
    weights = 4 * (3 * 8 * 9 + 8)

    def peak(side: int) -> int:
        # The input is the caller's; the convolution's output and what is rearranged are both alive.
        return weights + 4 * side**2 * (3 + 8 + 8)

    assert found.peak.bytes == peak(side) <= 8 * 2**20 < peak(side + 4)


def test_what_does_not_fit_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even a batch of one: that is exit code 1."""
    assert run(["memory", CONFIG, "--fits", "1MiB"]) == 1
    assert "Not even batch = 1 fits into 1.00 MiB" in capsys.readouterr().out
    found = fit(Request(resolve(CONFIG), batch=4), Run(), "1MiB")
    assert found.fit is not None
    assert found.fit.largest is None


def test_limits_are_amounts_or_cards() -> None:
    """In GiB, as the makers say."""
    assert limit_of("24GiB") == (24 * 2**30, "")
    assert limit_of("RTX 4090") == (24 * 2**30, "rtx4090")
    assert limit_of("16GB") == (16 * 10**9, "")
    assert all(limit_of(name) == (card.memory * 2**30, name) for name, card in cards().items())
    with pytest.raises(UsageError, match="takes an amount of memory or a card"):
        limit_of("rtx4091")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "adamm"], "unknown optimizer 'adamm'"),
        (["--mode", "training"], "unknown --mode 'training'"),
        (["--device", "tpu"], "unknown --device 'tpu'"),
        (["--amp", "float64"], "unknown dtype 'float64' for --amp"),
        (["--checkpoint", "stem"], "--checkpoint is for training"),
        (["--grad-accumulation", "2"], "--grad-accumulation is for training"),
        (["--mode", "train", "--checkpoint", "stage9"], "--checkpoint stage9 matches no module"),
        (["--fits", "lots"], "--fits takes an amount of memory or a card"),
        (["--fits", "24"], "--fits takes an amount of memory"),
        (["--fits", "0GiB"], "--fits takes more than no memory"),
        (["--over", "H"], "--over says what --fits varies"),
        (["--fits", "1GiB", "--over", "H"], "has no whole number of that name"),
        (["--fits", "1GiB", "--over", "resolutoin"], "did you mean 'resolution'?"),
        (["--fits", "1GiB", "--counters", "memtracker"], "--counters is about one batch"),
        (["--batch", "0"], "batch"),
    ],
)
def test_bad_input_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what would be right, and exit code 2."""
    assert run(["memory", CONFIG, *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out


def test_the_document_follows_its_schema_and_every_format_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON is what is declared; pages and pictures name the peak."""
    names = ("a.json", "a.csv", "a.jsonl", "a.html", "a.svg", "a.md")
    outputs = [argument for name in names for argument in ("-o", str(tmp_path / name))]
    assert run(["memory", CONFIG, "--optimizer", "sgd", "--fits", "1GiB", *outputs]) == 0
    document = json.loads((tmp_path / "a.json").read_text())
    jsonschema.validate(document, report_schema())
    assert document["schema"] == "convstat.memory/1"
    assert document["fit"]["largest"] >= 1
    assert "peak" in (tmp_path / "a.svg").read_text()
    assert "<svg" in (tmp_path / "a.html").read_text()
    assert f"{document['peak']['bytes']:,} bytes" in capsys.readouterr().out


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_page_is_as_wide_as_it_may_be(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers are not cut."""
    assert run(["memory", CONFIG, "--width", str(width)]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= width
    assert "22.93" in page


def test_a_model_of_ones_own_is_left_as_it_is() -> None:
    """Its weights, gradients and mode."""
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).train()
    model(torch.rand(4, 8)).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = convstat.memory(model, torch.rand(4, 8), optimizer="adam", checkpoint="0", amp="bfloat16")
    assert found.run.checkpoint == ("0",)
    assert all(one is parameter.grad for one, parameter in zip(gradients, model.parameters(), strict=True))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert "forward" not in vars(model[0])


def test_reports_comparisons_and_budgets_have_the_same_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The peak of inference, the activations in it, and the peak of training with AdamW."""
    inference = memory(Request(resolve(CONFIG)), Run())
    training = memory(Request(resolve(CONFIG)), Run("train", "cuda", "adamw"))
    kept = sum(inference.kinds[kind] for kind in ("weights", "buffers", "inputs"))
    expected = {
        "peak_memory_bytes": inference.peak.bytes,
        "activation_bytes": inference.peak.bytes - kept,
        "training_bytes": training.peak.bytes,
    }
    saved = tmp_path / "report.json"
    assert run(["analyze", CONFIG, "--memory", "--counters", "none", "-o", str(saved), "-qq"]) == 0
    document = json.loads(saved.read_text())
    assert {name: document["totals"][name] for name in expected} == expected
    assert run(["compare", CONFIG, "batch=1,2", "--memory", "-f", "json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["rows"]
    assert {name: first["totals"][name] for name in expected} == expected
    assert second["totals"]["activation_bytes"] == 2 * expected["activation_bytes"]
    for name, value in expected.items():
        assert run(["check", CONFIG, "--max", f"{name}={value}"]) == 0
        assert run(["check", CONFIG, "--max", f"{name}={value - 1}"]) == 1
        # A saved report is judged by what it says.
        assert run(["check", str(saved), "--max", f"{name}={value - 1}"]) == 1
    assert "peak_memory_bytes" not in convstat.analyze(CONFIG).to_dict()["totals"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("peak_memory_bytes@stem=24MB", "peak_memory_bytes is a figure of the whole model"),
        ("peak_memory_bytes(each)=24MB", "peak_memory_bytes is a figure of the whole model"),
        ("training_bytes=+2%", "training_bytes has no base to grow from"),
        ("memory=24MB", "did you mean 'peak_memory_bytes'?"),
    ],
)
def test_budgets_of_memory_are_of_the_whole_model(
    budget: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And absolute."""
    assert run(["check", CONFIG, "--max", budget]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["memory"], ["analyze", "--memory"], ["check", "--max", "training_bytes=1GiB"]])
def test_a_model_in_parts_is_refused(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its parts run at different times."""
    spec = tmp_path / "codec.yaml"
    part = "{input: [3, 8, 8], layers: [{Conv2d: {out_channels: 3, kernel_size: 1}}]}"
    spec.write_text(f"convstat: 1\nname: codec\nparts:\n  encoder: {part}\n  decoder: {part}\n")
    assert run([command[0], str(spec), *command[1:]]) == 2
    assert "has parts: encoder, decoder" in capsys.readouterr().err
