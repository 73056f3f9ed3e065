"""Inputs that are offered have been run: whatever the model, what help says works when it is typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from convstat.cli.run import run

MODELS = '''\
import torch
from torch import nn


class Of(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x
        return x


class Strict(Of):
    """Takes a batch, and nothing else."""

    dims = 3

    def forward(self, x):
        if x.dim() != self.dims:
            raise ValueError(f"{self.dims} dimensions, not {x.dim()}")
        return super().forward(x)


class Volumes(Strict):
    dims = 5


def sound(): return Strict(nn.Conv1d(40, 8, 3))
def volume(): return Volumes(nn.Conv3d(2, 8, 3))
def picture(): return Of(nn.Conv2d(5, 8, 3), nn.ReLU())
def transposed(): return Strict(nn.ConvTranspose1d(6, 2, 3))
def features(): return Of(nn.Linear(17, 3))
def flat_picture(): return Of(nn.Flatten(), nn.Linear(784, 3))
def words(): return Of(nn.Embedding(50, 8), nn.Linear(8, 2))
def recurrent(): return Of(nn.LSTM(9, 4))
def recurrent_first(): return Of(nn.GRU(9, 4, batch_first=True))
def cell(): return Of(nn.GRUCell(9, 4))
def normed(): return Of(nn.BatchNorm1d(6), nn.Conv1d(6, 2, 1))
def layer_normed(): return Of(nn.LayerNorm((4, 6)), nn.Linear(6, 2))
def lazy(): return Of(nn.LazyConv1d(6, 3), nn.ReLU())
def encoder(): return Of(nn.TransformerEncoderLayer(16, 2, batch_first=True))


class Attention(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, kdim=24, vdim=16, batch_first=batch_first)

    def forward(self, query, key, value):
        return self.attention(query, key, value)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)

    def forward(self, input_ids, attention_mask):
        return self.embedding(input_ids) * attention_mask.unsqueeze(-1)


class Listed(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)

    def forward(self, images: list[torch.Tensor], times: int, flag: bool, scale: float = 1.0):
        assert isinstance(images, list) and type(times) is int and type(flag) is bool
        return [self.conv(image) for image in images] * times


class Defaults(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)

    def forward(self, input_ids=None, mask=None):
        if input_ids is None:
            raise ValueError("give input_ids")
        return self.embedding(input_ids)


class Never(nn.Module):
    def forward(self, x, y):
        raise ValueError("never")
'''

NAMES = re.findall(r"^(?:def (\w+)\(|class (Attention|Masked|Listed|Defaults)\b)", MODELS, re.MULTILINE)
ENTRIES = [name or cls for name, cls in NAMES]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models, in a file."""
    (tmp_path / "nets.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def works(folder: Path, help: str, entry: str, *overrides: str) -> None:
    """Type what the help says."""
    if "for example: --input" in help:
        options = shlex.split(re.search(r"for example: (--input.*)", help)[1])  # type: ignore[index]
        assert 0 == run(["analyze", f"nets.py:{entry}", *overrides, *options, "--counters", "none"])
        return
    code = help.partition("build.py:build\n\n")[2]
    lines = [line[4:] for line in code.splitlines() if line.startswith("    ") or not line]
    (folder / "build.py").write_text("\n".join(lines))
    assert "..." not in code
    assert 0 == run(["analyze", "build.py:build", "--counters", "none"])


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_offered_without_inputs_works(folder: Path, capsys: pytest.CaptureFixture[str], entry: str) -> None:
    """As options where they can give it, else as a function."""
    assert 2 == run(["analyze", f"nets.py:{entry}", "--counters", "none"])
    help = capsys.readouterr().err
    assert "its forward takes" in help
    works(folder, help, entry)


@pytest.mark.parametrize(
    ("entry", "shape", "offered"),
    [
        # What was meant is a sample: the batch is missing.
        ("sound", "40x98", "Nx40x98"),
        ("volume", "2x16x32x32", "Nx2x16x32x32"),
        ("recurrent_first", "50x8", None),
        # The type is missing.
        ("words", "12", "Nx12:int64"),
        ("words", "3x5", "Nx3x5:int64"),
        ("picture", "64x64", None),
        ("sound", "3x224x224", None),
        ("Attention", "query=10x32", None),
    ],
)
def test_what_is_offered_for_inputs_that_do_not_fit_works(
    folder: Path, capsys: pytest.CaptureFixture[str], entry: str, shape: str, offered: str | None
) -> None:
    """Nearest to what was asked for."""
    assert 2 == run(["analyze", f"nets.py:{entry}", "-i", shape, "--counters", "none"])
    help = capsys.readouterr().err
    if offered is not None:
        assert f"for example: --input {offered}\n" in help
    works(folder, help, entry)


def test_overrides_stand_in_the_function(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model is made as it was asked for."""
    assert 2 == run(["analyze", "nets.py:Listed", "width=6"])
    help = capsys.readouterr().err
    assert "Listed(width=6)" in help
    works(folder, help, "Listed", "width=6")


def test_where_nothing_fits_nothing_is_claimed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The function is there to be filled in, and no input is said to work."""
    assert 2 == run(["analyze", "nets.py:Never", "-i", "x=3", "-i", "y=3"])
    help = capsys.readouterr().err
    assert "for example" not in help
    assert 'return Never(), {"x": ..., "y": ...}' in help
