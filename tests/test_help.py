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
    assert "train.yaml is not a spec" in err
    assert "--config train.yaml" in err


@pytest.mark.parametrize("text", ["input: [3, 8, 8]\nlayrs: []\n", "convstat: 1\nepochs: 3\n", "name: x\n"])
def test_a_spec_with_mistakes_is_still_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Its mistakes are told one by one."""
    (tmp_path / "net.yaml").write_text(text)
    assert 2 == run(["analyze", str(tmp_path / "net.yaml")])
    assert "is not a spec" not in capsys.readouterr().err


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


GPU_ONLY = """\
import torch
from torch import nn

lib = torch.library.Library("convstat_gpu_only", "DEF")
lib.define("act(Tensor x) -> Tensor")
lib.impl("act", lambda x: x, "CUDA")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return torch.ops.convstat_gpu_only.act(self.fc(x))
"""
ODD = """\
import torch
from torch import nn


def on_gpu():
    torch.set_default_device("cuda")
    return nn.Sequential(nn.Linear(4, 4))


class Odd(nn.Module):
    def forward(self, x):
        raise ValueError(f"cannot do with {object()}")
"""


@pytest.fixture
def gpu_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models that would rather run elsewhere."""
    (tmp_path / "gpu_only.py").write_text(GPU_ONLY)
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_operator_that_runs_elsewhere_only_is_named_with_what_to_write(
    gpu_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fake kernel, or one for the CPU; with the first, as help writes it, the model is counted."""
    assert 2 == run(["analyze", "gpu_only.py:Net", "-i", "4", "--counters", "none"])
    err = capsys.readouterr().err
    assert "convstat_gpu_only::act has no kernel that runs here" in err
    assert "@torch.library.register_kernel('convstat_gpu_only::act', 'cpu')" in err
    assert "Unsupported" not in err
    fake = "@torch.library.register_fake('convstat_gpu_only::act')"
    assert fake in err
    text = GPU_ONLY.replace("convstat_gpu_only", "convstat_with_fake").replace(
        "\n\nclass Net", f"\n\n{fake.replace('gpu_only', 'with_fake')}\ndef fake(x):\n    return x\n\n\nclass Net", 1
    )
    (gpu_only / "with_fake.py").write_text(text)
    assert 0 == run(["analyze", "with_fake.py:Net", "-i", "4", "--counters", "none"])


def test_a_default_device_is_not_the_models_to_set(gpu_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is counted where it can be, and no class of torch's stack of modes is shown."""
    import torch

    before = torch.get_default_device()
    assert 0 == run(["analyze", "odd.py:on_gpu", "-i", "4", "--counters", "none"])
    assert "DeviceContext" not in "".join(capsys.readouterr())
    assert before == torch.get_default_device()


def test_no_address_reaches_the_user(gpu_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is another in each run."""
    assert 2 == run(["analyze", "odd.py:Odd", "-i", "4", "--counters", "none"])
    err = capsys.readouterr().err
    assert "cannot do with object" in err
    assert "0x" not in err


# --- views --------------------------------------------------------------------------------------------------------


def test_inputs_are_named_and_those_inside_of_others_stand_together() -> None:
    """A decoder's token, its cache of keys and values, and its conditions."""
    import torch
    from torch import nn

    class Cache:
        def __init__(self) -> None:
            self.keys = [torch.zeros(1, 2, 4, 8) for _ in range(3)]
            self.values = [torch.zeros(1, 2, 4, 8) for _ in range(3)]

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, 4)

        def forward(self, ids: torch.Tensor, cache: Cache | None = None, cond: object = None) -> torch.Tensor:
            return self.embedding(ids)

    ids = torch.zeros(1, 1, dtype=torch.int64)
    alone = convstat.analyze(Decoder(), (ids,))
    assert "input    ids 1 int64, batch 1" in alone.to_text()
    report = convstat.analyze(Decoder(), {"ids": ids, "cache": Cache(), "cond": {"noise": torch.zeros(1, 5)}})
    names = [item.name for item in report.model.inputs]
    assert ["ids", *(f"cache.{kind}[{i}]" for kind in ("keys", "values") for i in range(3)), "cond.noise"] == names
    text = " ".join(report.to_text().split())
    assert "ids 1 int64, cache.keys[*] 3 x 1x2x4x8, cache.values[*] 3 x 1x2x4x8, cond.noise 1x5, batch 1" in text


def test_a_figure_that_is_a_product_of_inputs_says_so() -> None:
    """torchsummary multiplies the sizes of two inputs of 3 x 64 x 64; that stands beside its memory."""
    import torch
    from torch import nn

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.conv(x + y)

    remark = "which multiplies the sizes of several inputs"
    both = convstat.analyze(Two(), [(3, 64, 64), (3, 64, 64)], counters="torchsummary")
    assert remark in " ".join(both.to_text().split())
    one = convstat.analyze(nn.Sequential(nn.Conv2d(3, 4, 3)), (3, 64, 64), counters="torchsummary")
    assert remark not in " ".join(one.to_text().split())


def test_what_a_block_does_itself_is_called_so_in_html_too() -> None:
    """No two rows of one name at one level."""
    import re

    import torch
    from torch import nn

    from convstat.render.base import Options
    from convstat.render.formats.registry import RENDERERS

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 4))
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x @ self.weight)

    report = convstat.analyze(nn.Sequential(Inner(), nn.Linear(4, 2)), (4,))
    page = RENDERERS.named("html").render([report], Options())
    names = re.findall(r'<tr id="\w*r\d+" data-l="(\d)".*?<td[^>]*>([^<]*)</td>', page)
    assert ("1", "(itself)") in names
    assert len(names) == len(set(names))


def test_a_reason_is_cut_at_its_end_and_names_in_their_middle() -> None:
    """What changed is read from its beginning; no word of it is cut."""
    from convstat.text.printable import cut_off

    text = "kernel_size: 3 -> 5, padding: 1 -> 2, out_channels: 16 -> 32"
    for width in range(12, len(text) + 2):
        short = cut_off(text, width)
        assert len(short) <= width
        assert text.startswith(short.removesuffix("…"))
    assert text == cut_off(text, len(text))
