"""Parameters stored in integers: bytes beside a sum over torch's own parameters, in specs, models, budgets, sweeps."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import convstat
from convstat.cli.run import run
from convstat.errors import SpecError, UsageError
from convstat.grammar import widths
from convstat.units import UnitError

MIXED = """\
convstat: 1
name: mixed
input: [3, 8, 8]
blocks:
  pair:
    layers:
      - Conv2d: {out_channels: 5, kernel_size: 3, padding: 1}
        name: own
        weights: int16
      - Conv2d: {out_channels: 5, kernel_size: 1}
        name: other
layers:
  - Conv2d: {out_channels: 5, kernel_size: 3, padding: 1}
    name: free
  - pair
  - pair
    name: narrow
    weights: int4
  - residual: {body: [{Conv2d: {out_channels: 5, kernel_size: 1}}]}
    name: around
    weights: int8+int8
"""
MIXED = MIXED.replace("  - pair\n    name", "  - pair: {}\n    name")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec, as the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("mixed.yaml").write_text(MIXED)
    return tmp_path


def net() -> nn.Module:
    """Weights, biases by every name that torch has for them, and odd sizes."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)
            self.norm = nn.BatchNorm2d(5)
            self.lstm = nn.LSTM(5, 3, bidirectional=True, batch_first=True)
            self.attend = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y, _ = self.lstm(self.norm(self.conv(x)).flatten(2).transpose(1, 2))
            return self.attend(y, y, y)[0]

    return Net()


# What biases torch's modules have, by a rule that is not ours: tensors of one size that are no scale of a norm.
def expected(module: nn.Module, weight: int, bias: int) -> int:
    """Sum bytes up over torch's parameters."""
    total = 0
    for name, parameter in module.named_parameters():
        is_bias = parameter.dim() == 1 and not name.endswith("norm.weight")
        width = bias if is_bias else weight
        total += (parameter.numel() * width + 7) // 8
    return total


@pytest.mark.parametrize(
    ("text", "weight", "bias"),
    [
        ("int16", 16, 16),
        ("int8", 8, 32),
        ("int4", 4, 32),
        ("int3+int8", 3, 8),
        ("int8+int64", 8, 64),
        ("float16", 16, 16),
    ],
)
def test_a_model_is_stored_in_the_widths_that_are_asked_for(text: str, weight: int, bias: int) -> None:
    """Each tensor of torch's own module, by its number of elements."""
    report = convstat.analyze(net(), (3, 8, 8), weights=text)
    assert expected(net(), weight, bias) == report.totals.weight_bytes == sum(row.weight_bytes for row in report.layers)
    assert text == report.model.weights
    assert report.totals.params == sum(p.numel() for p in net().parameters())


def test_without_widths_nothing_changes() -> None:
    """Bytes are those of the dtype, and the document says nothing of widths."""
    report = convstat.analyze(net(), (3, 8, 8))
    assert 4 * report.totals.params == report.totals.weight_bytes
    document = report.to_dict()
    assert "weights" not in document["model"]
    assert not any("weights" in row for row in document["layers"])


def test_what_is_in_integers_already_stays_so() -> None:
    """Packed weights of a quantized module are bytes, in any width that is asked for."""
    quantized = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    with torch.no_grad():
        module = torch.ao.quantization.quantize_dynamic(quantized, {nn.Linear}, dtype=torch.qint8)
    plain = convstat.analyze(module, torch.zeros(1, 6))
    wide = convstat.analyze(module, torch.zeros(1, 6), weights="int16")
    # The weight is of bytes; the bias is floating, and is stored as asked for.
    assert 6 * 4 + 4 * 4 == plain.totals.weight_bytes
    assert 6 * 4 + 4 * 2 == wide.totals.weight_bytes


def test_layers_blocks_and_groups_set_their_own(folder: Path) -> None:
    """The innermost width is taken; the option is for what has none."""
    report = convstat.analyze("mixed.yaml", (3, 8, 8), weights="int8")
    found = {row.name: (row.weights, row.weight_bytes) for row in report.layers if row.params}
    assert {
        "free": ("int8", 5 * 3 * 9 + 5 * 4),
        "pair.own": ("int16", 2 * (5 * 5 * 9 + 5)),
        "pair.other": ("int8", 5 * 5 + 5 * 4),
        "narrow.own": ("int16", 2 * (5 * 5 * 9 + 5)),
        # 25 weights of four bits are 12.5 bytes.
        "narrow.other": ("int4", 13 + 5 * 4),
        "around.conv2d": ("int8+int8", 5 * 5 + 5),
    } == found
    alone = convstat.analyze("mixed.yaml", (3, 8, 8))
    assert {row.name: row.weights for row in alone.layers if row.params}["free"] is None
    assert 4 * (5 * 3 * 9 + 5) == alone.layers[0].weight_bytes


def test_an_expanded_spec_keeps_its_widths(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The flat spec has the same bytes."""
    assert 0 == run(["expand", "mixed.yaml"])
    Path("flat.yaml").write_text(capsys.readouterr().out)
    before, after = (convstat.analyze(name, (3, 8, 8), weights="int8") for name in ("mixed.yaml", "flat.yaml"))
    assert before.totals.weight_bytes == after.totals.weight_bytes


def test_a_budget_limits_the_memory_in_these_widths(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inclusive, to the byte; and a sweep has the same bytes as the analysis of each point."""
    size = convstat.analyze("mixed.yaml", (3, 8, 8), weights="int8").totals.weight_bytes
    for limit, code in ((size, 0), (size - 1, 1)):
        assert code == run(["check", "mixed.yaml", "--weights", "int8", "--max", f"weight_bytes={limit}B", "-q"])
    capsys.readouterr()
    assert 0 == run(["compare", "mixed.yaml", "free.kernel_size=1,3", "--weights", "int8", "-f", "json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [size - 5 * 3 * 8, size] == [row["totals"]["weight_bytes"] for row in rows]


def test_megabytes_are_exact() -> None:
    """MB is 10^6 bytes and MiB 2^20, both derived from the same bytes."""
    document = convstat.analyze("Linear(out_features=1000)", (2048,), weights="int8+int8").to_dict()["totals"]
    assert 2048 * 1000 + 1000 == document["weight_bytes"]
    assert document["weight_bytes"] / 10**6 == document["weight_mb"]
    assert document["weight_bytes"] / 2**20 == document["weight_mib"]


def test_a_report_is_read_back_with_its_widths(folder: Path) -> None:
    """Also one that was saved before there were any."""
    report = convstat.analyze("mixed.yaml", (3, 8, 8), weights="int8", activations="int8")
    Path("saved.json").write_text(json.dumps(report.to_dict()))
    assert report == convstat.load("saved.json")
    assert "int8" == convstat.load("saved.json").model.activations
    document = convstat.analyze("mixed.yaml", (3, 8, 8)).to_dict()
    del document["totals"]["weight_mb"], document["totals"]["weight_mib"]
    Path("old.json").write_text(json.dumps(document))
    assert convstat.analyze("mixed.yaml", (3, 8, 8)) == convstat.load("old.json")


def test_a_baseline_is_of_its_widths(folder: Path) -> None:
    """Two widths of one model have two files, and each can be updated from what stands in it."""
    assert 0 == run(["baseline", "save", "mixed.yaml", "-qq"])
    assert 0 == run(["baseline", "save", "mixed.yaml", "--weights", "int8", "-qq"])
    files = sorted(Path(".convstat/baselines").glob("*.json"))
    assert 2 == len(files)
    assert 0 == run(["baseline", "update", "-qq"])
    assert {None, "int8"} == {json.loads(file.read_text())["asked"].get("weights") for file in files}


@pytest.mark.parametrize(
    "text", ["int0", "int65", "int08", "uint8", "8", "int8+", "+int8", "int8+int8+int8", "INT8", ""]
)
def test_what_is_no_width_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what would be right, wherever it is written."""
    with pytest.raises(UnitError):
        widths.parse(text)
    with pytest.raises(UsageError, match="--weights: unknown width"):
        convstat.analyze("Linear(out_features=3)", (4,), weights=text)
    assert 2 == run(["analyze", "Linear(out_features=3)", "-i", "4", f"--weights={text}"])
    assert "int16, int8, int4" in capsys.readouterr().err


def test_a_width_in_a_spec_and_in_settings_is_refused_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``file:line:col``."""
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text("convstat: 1\ninput: [3]\nlayers:\n  - Linear: 3\n    weights: eight\n")
    with pytest.raises(SpecError) as caught:
        convstat.analyze("net.yaml", (3,))
    mark = caught.value.diagnostics[0].mark
    assert mark is not None
    assert (5, 14) == (mark.line, mark.column)
    Path("convstat.toml").write_text('weights = "int99"\n')
    assert 2 == run(["config", "show"])
    assert "convstat.toml:1:1: error: weights: unknown width 'int99'" in capsys.readouterr().err


def test_settings_and_a_saved_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The settings hold where the command line says nothing, and a saved report is what it is."""
    monkeypatch.chdir(tmp_path)
    Path("convstat.toml").write_text('weights = "int8"\nactivations = "int8"\n')
    assert 0 == run(["analyze", "Linear(out_features=3)", "-i", "4", "--counters", "none", "-f", "json"])
    document = json.loads(capsys.readouterr().out)
    assert 3 * 4 + 3 * 4 == document["totals"]["weight_bytes"]
    assert ("int8", "int8") == (document["model"]["weights"], document["model"]["activations"])
    Path("saved.json").write_text(json.dumps(document))
    assert 2 == run(["analyze", "saved.json", "--weights", "int8"])
    assert "takes no --weights" in capsys.readouterr().err


@given(
    bits=st.integers(1, 64),
    bias=st.integers(1, 64),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
)
def test_bytes_are_bits_rounded_up(bits: int, bias: int, shape: tuple[int, ...]) -> None:
    """Of every tensor: the bits written out one after the other, cut into bytes."""
    found = widths.parse(f"int{bits}+int{bias}")
    for name, width in (("weight", bits), ("bias", bias)):
        assert len(range(0, width * prod(shape), 8)) == found.size(name, shape)
    assert widths.parse(str(found)) == found
