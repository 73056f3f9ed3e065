"""The forms of JVET and NTIRE: figures to the unit, in three ways of writing, and nothing that nobody said."""

from __future__ import annotations

import csv
import io
import re
from fractions import Fraction
from math import exp
from pathlib import Path

import pytest

from convstat.cli.run import run
from convstat.errors import UsageError
from convstat.render.templates.nnvc import TRAINING
from convstat.render.templates.ntire import WEIGHTS, read_score

EFDN = """\
convstat: 1
name: EFDN
note: the deployed form, in which each edge-enhanced block is one convolution
input: [3, H, W]
vars: {H: 64, W: 64, c: 48}
blocks:
  act: {params: {k: 3}, layers: [{Conv2d: {out_channels: cin, kernel_size: k, padding: k//2}}, {PReLU: cin}]}
  esa:
    layers:
      - Conv2d: {out_channels: cin//4, kernel_size: 1}
        name: conv1
      - Conv2d: {out_channels: cin, kernel_size: 3, stride: 2}
        name: conv2
      - MaxPool2d: {kernel_size: 7, stride: 3}
      - Conv2d: {out_channels: cin, kernel_size: 3, padding: 1}
        name: conv_max
      - ReLU
      - Conv2d: {out_channels: cin, kernel_size: 3, padding: 1}
        name: conv3
      - ReLU
      - Conv2d: {out_channels: cin, kernel_size: 3, padding: 1}
        name: conv3_
      - Upsample: {size: [H, W], mode: bilinear, align_corners: false}
        name: up
      - Conv2d: {out_channels: cin, kernel_size: 1}
        from: conv1
        name: conv_f
      - add: [up, conv_f]
      - Conv2d: {out_channels: 4*cin, kernel_size: 1}
        name: conv4
      - Sigmoid:
        name: gate
      - mul: [input, gate]
  cell:
    layers:
      - act: {k: 1}
        name: a
      - act:
        name: b
      - act:
        name: d
      - Conv2d: {out_channels: cin//2, kernel_size: 1}
        from: input
        name: branch0
      - Conv2d: {out_channels: cin//2, kernel_size: 1}
        from: a
        name: branch1
      - Conv2d: {out_channels: cin//2, kernel_size: 1}
        from: b
        name: branch2
      - Conv2d: {out_channels: cin//2, kernel_size: 1}
        from: d
        name: branch3
      - concat: [branch0, branch1, branch2, branch3]
      - Conv2d: {out_channels: cin//2, kernel_size: 1}
        name: fuse
      - esa:
        name: att
      - add: [att, input]
  joined:
    inputs: [x, y]
    layers:
      - concat: [x, y]
      - Conv2d: {out_channels: cin//2, kernel_size: 1}
layers:
  - Conv2d: {out_channels: c, kernel_size: 3, padding: 1}
    name: head
  - cell:
    name: cell1
  - cell:
    name: cell2
  - joined:
    from: [cell1, cell2]
    name: fuse2
  - cell:
    name: cell3
  - joined:
    from: [cell2, cell3]
    name: fuse3
  - cell:
    name: cell4
  - joined:
    from: [cell2, cell4]
    name: fuse4
  - add: [fuse4, head]
  - Conv2d: {out_channels: 48, kernel_size: 3, padding: 1}
    name: tail
  - PixelShuffle: 4
"""
"""The network that the challenges of 2023 to 2025 compare with: four cells of 48 channels, for a scale of 4."""

FILTER = """\
convstat: 1
name: filter
input: [1, B + 2*E, B + 2*E]
per: "block:{B}+{E}"
vars: {B: 128, E: 8}
layers:
  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}
  - Conv2d: {out_channels: 1, kernel_size: 3, padding: 1}
  - Crop: E
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the specs."""
    (tmp_path / "efdn.yaml").write_text(EFDN)
    (tmp_path / "filter.yaml").write_text(FILTER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records(text: str) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(text)))


def test_the_baseline_of_ntire_has_its_published_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """EFDN: 0.2762 M params, 16.7035 G, 111.1167 M activations, 65 convolutions, on 3x256x256 without saying so."""
    assert 0 == run(["analyze", "efdn.yaml", "H=256", "W=256", "-f", "ntire-csv"])
    (row,) = records(capsys.readouterr().out)
    assert ("0.2762", "16.7035", "111.1167", "65") == (
        row["Params [M]"], row["FLOPs [G]"], row["Acts [M]"], row["#Conv"]
    )  # fmt: skip
    assert {""} == {row[name] for name in ("Val PSNR", "Test PSNR", "Time [ms]", "Mem [M]")}


def test_the_input_of_the_challenge_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where none is given; another one is said."""
    layer = "Conv2d(3, 4, 3, padding=1)"
    assert 0 == run(["analyze", layer, "-f", "ntire-csv"])
    (row,) = records(capsys.readouterr().out)
    assert f"{3 * 4 * 9 * 256 * 256 / 1e9:.4f}" == row["FLOPs [G]"]
    assert f"{4 * 256 * 256 / 1e6:.4f}" == row["Acts [M]"]
    assert 0 == run(["analyze", layer, "-i", "3x8x8", "-f", "ntire"])
    assert "counted on 1x3x8x8, not on 1x3x256x256" in capsys.readouterr().out


def test_scores_are_relative_to_the_first_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A baseline has exp(2) each; the weights of a year are a parameter."""
    models = ["Conv2d(3, 4, 3, padding=1, bias=False)", "Conv2d(3, 8, 3, padding=1, bias=False)"]
    assert 0 == run(["analyze", *models, "-f", "ntire-csv"])
    base, other = records(capsys.readouterr().out)
    assert f"{exp(2):.4f}" == base["FLOPs score"] == base["Params score"] == "7.3891"
    assert f"{exp(4):.4f}" == other["FLOPs score"] == other["Params score"]
    assert f"{0.3 * exp(4):.4f}" == other["weighted, without runtime"]
    score = ["--score", "runtime=0.8,flops=0.15,params=0.05"]
    assert 0 == run(["analyze", *models, "-f", "ntire-csv", *score])
    assert f"{0.2 * exp(4):.4f}" == records(capsys.readouterr().out)[1]["weighted, without runtime"]
    assert 0 == run(["analyze", *models, "-f", "ntire", *score])
    assert "weights: runtime 0.8, flops 0.15, params 0.05" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "0.7,0.15,0.15", "runtime=1", "runtime=0.7,flops=0.2,params=0.2", "runtime=x,flops=0,params=1"]
)
def test_weights_that_make_no_sense_are_refused(text: str) -> None:
    """They are named, and add up to one."""
    with pytest.raises(UsageError, match="--score"):
        read_score(text)
    assert 1 == sum(WEIGHTS)


def test_the_nnvc_form_has_what_a_model_determines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By arithmetic: the figures, their units, and the block."""
    assert 0 == run(["analyze", "filter.yaml", "-f", "nnvc-csv", "--weights", "int16"])
    found = {row["item"]: row["value"] for row in records(capsys.readouterr().out) if "inference" in row["stage"]}
    params = 4 * 9 + 4 + 4 * 9 + 1
    assert f"{params}" == found["Number of parameters (each model)"] == found["Total number of parameters (all models)"]
    assert "16" == found["Parameter precision (bits)"]
    assert found["Memory parameter (MB)"].startswith(f"{2 * params / 1e6:.5f} (10^6 bytes), ")
    kmac = Fraction(2 * 36 * 144 * 144, 128 * 128 * 1000)
    assert found["Multiply accumulate (kMAC/pixel)"].startswith(f"{float(kmac):.4f} (MACs / 16,384: block 128x128")
    assert ("2", "0", "1") == (found["Total conv. layers"], found["Total FC layers"], found["Batch size"])
    assert "144x144 (block 128x128, border 8)" == found["Patch size"]


def test_what_nobody_said_stays_empty(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of the training, and the machine."""
    assert 0 == run(["analyze", "filter.yaml", "efdn.yaml", "-f", "nnvc-csv"])
    rows = records(capsys.readouterr().out)
    training = [row for row in rows if "training" in row["stage"]]
    assert [item for _, item in TRAINING] == [row["item"] for row in training]
    assert {""} == {row["value"] for row in training}
    blank = {"Peak memory usage", "Total memory (MB)", "HW environment: GPU type", "HW environment: framework"}
    assert blank <= {row["item"] for row in rows if not row["value"]}
    each = [row["model"] for row in rows if row["item"] == "Number of parameters (each model)"]
    assert ["filter", "EFDN"] == each


@pytest.mark.parametrize("form", ["nnvc", "ntire"])
def test_each_form_is_written_in_three_ways(folder: Path, form: str) -> None:
    """By the suffix of a file, with the same cells."""
    files = [f"a.{form}.md", f"a.{form}.csv", f"a.{form}.tex"]
    outputs = [word for name in files for word in ("-o", name)]
    assert 0 == run(["analyze", "filter.yaml", "-i", "1x144x144", "-qq", *outputs])
    markdown, table, latex = ((folder / name).read_text() for name in files)
    values = {value for row in records(table) for value in row.values() if re.fullmatch(r"[\d.,]+", value)}
    assert values
    for value in values:
        assert value in markdown
        assert value in latex
    assert r"\begin{tabular}" in latex
    assert "| :-- |" in markdown
