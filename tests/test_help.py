"""What is offered as help can be typed, and is about what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

import convstat
from convstat.cli.run import run
from convstat.layers import NAMES
from convstat.spec import shipped

TRAINING = "model: resnet50\noptimizer: {name: sgd, lr: 0.1}\nepochs: 90\ndata: {path: x, batch_size: 256}\n"


@pytest.mark.parametrize(
    "text", [TRAINING, "services: {web: {image: x}}\n", "- repo: x\n" * 0 + "name: x\nsteps: []\n"]
)
def test_a_yaml_of_another_kind_is_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error, and not one for every key that a spec has not."""
    monkeypatch.chdir(tmp_path)
    Path("train.yaml").write_text(text)
    assert 2 == run(["analyze", "train.yaml"])
    err = capsys.readouterr().err
    assert 1 == err.count("error:")
    assert "train.yaml is no spec" in err
    assert "--config train.yaml" in err


@pytest.mark.parametrize("text", ["input: [3, 8, 8]\nlayrs: []\n", "convstat: 1\nepochs: 3\n", "name: x\n"])
def test_a_spec_with_mistakes_is_still_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Its mistakes are told one by one."""
    (tmp_path / "net.yaml").write_text(text)
    assert 2 == run(["analyze", str(tmp_path / "net.yaml")])
    assert "is no spec" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("depthwise", "DepthwiseSeparableConv"),
        ("depthwise_conv", "DepthwiseSeparableConv"),
        ("separable", "DepthwiseSeparableConv"),
        ("MBConv", "InvertedResidual"),
        ("squeeze", "SqueezeExcitation"),
        ("attention", "MultiheadAttention"),
        ("transposed", "ConvTranspose2d"),
        ("Cnov2d", "Conv2d"),
        ("lstmm", "LSTM"),
    ],
)
def test_a_word_of_the_field_finds_the_layer(capsys: pytest.CaptureFixture[str], word: str, meant: str) -> None:
    """Under which name it is here; the name that is offered is one."""
    assert meant in (*NAMES, *shipped.NAMES)
    assert 2 == run(["formula", word])
    offered = [line for line in capsys.readouterr().err.splitlines() if "did you mean" in line]
    assert offered
    assert f"'{meant}'" in offered[0]


def test_every_page_of_the_documentation_has_a_word_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Its name, and what it is about."""
    assert 0 == run(["docs"])
    lines = capsys.readouterr().out.splitlines()
    pages = sorted(path.stem for path in (Path(convstat.__file__).parent / "docs").glob("*.md"))
    assert pages == [line.split()[0] for line in lines]
    assert all(len(line.split()) > 3 for line in lines)


def test_init_makes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in a folder that is not there yet; one that cannot be made is an error."""
    monkeypatch.chdir(tmp_path)
    assert 0 == run(["init", "nets/small/tiny.yaml"])
    assert 0 == run(["analyze", "nets/small/tiny.yaml", "--counters", "none"])
    Path("file").write_text("")
    assert 2 == run(["init", "file/tiny.yaml"])


def test_python_predicts_as_the_command_does() -> None:
    """Nothing is run, the default counters are told; with names, those."""
    from convstat.counters import DEFAULT

    report = convstat.analyze("Conv2d(3, 8, kernel_size=3)", (3, 10, 10), predict=True)
    assert list(DEFAULT) == [row.name for row in report.counters]
    assert {"predicted"} == {row.status for row in report.counters}
    [row] = convstat.analyze("Conv2d(3, 8, 3)", (3, 10, 10), predict=True, counters="fvcore").counters
    # fvcore counts the products alone: 8 x 8 positions, 8 x 3 x 3 x 3 each
    assert (8 * 8 * 8 * 3 * 3 * 3, None) == (row.predicted and row.predicted.macs, row.reported.macs)
