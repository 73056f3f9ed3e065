"""Python models and zoo names on the command line: analyze, compare, check, expand, list, completion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from golden_files import assert_golden

from convstat.cli.options import complete_target
from convstat.cli.run import run
from convstat.patches.operators import NOTE
from convstat.targets import zoo

NET = '''\
"""A module, a class and functions that make modules."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width: int = 8, groups: int = 1):
        super().__init__()
        self.a = nn.Conv2d(4, width, 3, groups=groups, bias=False)

    def forward(self, x):
        return self.a(x)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(3)])
        self.again = nn.Linear(8, 8)
        self.unused = nn.Linear(8, 2)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        for _ in range(4):
            x = self.again(x)
        return x


def unknown(width=4):
    if not hasattr(torch.ops.convstat_targets_test, "odd"):
        library = torch.library.Library("convstat_targets_test", "FRAGMENT")
        library.define("odd(Tensor x) -> Tensor")
        library.impl("odd", lambda x: x.new_empty(x.shape), "Meta")
        torch.kept_for_the_tests = library
    return Odd(width)


class Odd(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.line = nn.Linear(width, width)

    def forward(self, x):
        return torch.ops.convstat_targets_test.odd(self.line(x))


_hidden = Net
'''

CONV = 4 * 3 * 3
"""MACs and parameters of one output channel at one position."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Python file, as the working directory."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; give its exit code, its standard output and its standard error."""
    code = run(arguments)
    return (code, *capsys.readouterr())


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """Run a command that succeeds, and read its JSON."""
    code, out, error = call(capsys, *arguments, "-f", "json")
    assert (0, "") == (code, error)
    return json.loads(out)  # type: ignore[no-any-return]


def test_compare_sets_python_models_side_by_side(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row is what analyze says of that model, and a spec can stand among them."""
    (folder / "net.yaml").write_text("convstat: 1\nname: n\ninput: [4, 8, 8]\nlayers:\n  - Conv2d: {out: 2, k: 3}\n")
    rows = document(capsys, "compare", "net.py:Net", "net.yaml", "net.py:_hidden", "-i", "4x8x8")["rows"]
    assert isinstance(rows, list)
    assert [8 * CONV * 36, 2 * CONV * 36, 8 * CONV * 36] == [row["totals"]["macs"] for row in rows]
    rows = document(capsys, "compare", "torchvision/resnet18", "torchvision/resnet50#*")["rows"]
    assert isinstance(rows, list)
    assert [1_814_073_344, 4_089_184_256, 4_089_184_256] == [row["totals"]["macs"] for row in rows]


def test_keyword_arguments_can_be_swept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every combination is made and traced; where the constructor raises, the row says why and where."""
    result = document(capsys, "compare", "net.py:Net", "width=8,16,18", "groups=1,4", "-i", "4x8x8")
    rows = result["rows"]
    assert isinstance(rows, list)
    assert [8 * CONV * 36, 8 * CONV * 9, 16 * CONV * 36, 16 * CONV * 9, 18 * CONV * 36, None] == [
        row["totals"]["macs"] if row["totals"] else None for row in rows
    ]
    assert "invalid" == rows[5]["status"]
    assert "out_channels must be divisible by groups" in rows[5]["reason"]
    assert {"width": 18, "groups": 4} == rows[5]["values"]
    code, out, _ = call(capsys, "compare", "net.py:Net", "width=8,18", "groups=4", "-i", "4x8x8")
    assert 0 == code
    assert "net.py:10: net.py:Net could not be created" in out


def test_the_input_and_the_batch_can_be_swept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As for a spec."""
    rows = document(capsys, "compare", "net.py:Net", "input=4x8x8,4x18x18", "batch=1,3")["rows"]
    assert isinstance(rows, list)
    assert [positions * 8 * CONV * batch for positions in (36, 256) for batch in (1, 3)] == [
        row["totals"]["macs"] for row in rows
    ]


def test_counters_can_run_at_every_point(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What ptflops says is in the row."""
    rows = document(capsys, "compare", "net.py:Net", "width=8,16", "-i", "4x8x8", "--counters", "ptflops")["rows"]
    assert isinstance(rows, list)
    for row in rows:
        (counter,) = row["counters"]
        assert ("ok", row["totals"]["macs"]) == (counter["status"], counter["reported"]["macs"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "net.py:Net", "wdth=8,16", "-i", "4x8x8"), "has no argument 'wdth'"),
        (("compare", "net.py:Net", "width=8,16", "-i", "3x8x8"), "to have 4 channels, but got 3"),
        (("compare", "net.py:Nte", "width=8,16"), "net.py has no 'Nte'"),
        (("expand", "net.py:Net"), "only a spec can be expanded"),
        (("expand", "torchvision/resnet18"), "only a spec can be expanded"),
        (("check", "net.py:Net", "-i", "4x8x8"), "has no budget to check"),
        (("analyze", "torchvision/resnet81"), "torchvision has no model 'resnet81'"),
        (("analyze", "torchvision/resnet18#IMAGENET1K_V9"), "has no weights 'IMAGENET1K_V9'"),
        (("analyze", "torchvision/resnet18", "depth=3"), "torchvision/resnet18 could not be created"),
        (("compare", "timm/resnet18#*"), "has no variants"),
        (("list", "zoo", "no_such_model_at_all"), "no name in the list of zoo matches"),
        (("analyze", "net.py:Net", "-i", "4x8x8", "--mode", "trian"), "unknown mode 'trian'"),
    ],
)
def test_a_mistake_is_one_message(
    arguments: tuple[str, ...], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the reason, and no traceback."""
    code, out, error = call(capsys, *arguments)
    assert (2, "") == (code, out)
    assert message in error
    assert "Traceback" not in error


def test_budgets_hold_for_python_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit is inclusive; what was not counted keeps a verdict from being given."""
    limit = f"macs={8 * CONV * 36}"
    assert 0 == call(capsys, "check", "net.py:Net", "-i", "4x8x8", "--max", limit)[0]
    assert 1 == call(capsys, "check", "net.py:Net", "width=9", "-i", "4x8x8", "--max", limit)[0]
    code, out, _ = call(capsys, "check", "net.py:unknown", "-i", "4", "--max", "macs=1M")
    assert 4 == code
    assert "convstat_targets_test.odd" in out


def test_a_comparison_says_what_was_not_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An operator without a rule is named below the table."""
    _, out, _ = call(capsys, "compare", "net.py:unknown", "width=4,8", "--zip", "input=4,8")
    assert "incomplete: convstat_targets_test.odd has no rule" in out


def test_repeats_and_calls_of_shared_modules_are_folded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three equal blocks are one, three more calls of one module are one, and the unused module is marked."""
    code, out, _ = call(capsys, "analyze", "net.py:Shared", "-i", "8", "--counters", "none", "--width", "120")
    assert 0 == code
    lines = [line.split() for line in out.partition("\nlayers\n")[2].splitlines()]
    assert ["0-2", "3", "x", "Sequential"] in lines
    assert ["0", "3", "x", "Linear", "8"] == next(line for line in lines if line[:2] == ["0", "3"])[:5]
    assert ["again#2-4", "3", "x", "Linear", "(=", "again)", "8", "0", "192"] == next(
        line for line in lines if line[:1] == ["again#2-4"]
    )[:9]
    assert ["unused", "Linear", "(never", "called)"] == next(line for line in lines if line[:1] == ["unused"])[:4]
    _, out, _ = call(capsys, "analyze", "net.py:Shared", "-i", "8", "--counters", "none", "--flat")
    assert all(name in out for name in ("blocks.0.0", "blocks.1.0", "blocks.2.1", "again#2", "again#3", "again#4"))
    _, out, _ = call(capsys, "analyze", "net.py:Shared", "-i", "8", "--counters", "none", "--depth", "1")
    assert "3 x Linear" in out
    assert "Sequential" not in out


def test_training_has_a_block_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The backward pass stands apart from the forward pass, and both add up."""
    code, out, error = call(capsys, "analyze", "net.py:Shared", "-i", "8", "--mode", "train", "--depth", "1")
    assert (0, "") == (code, error)
    assert "(backward)" in out
    assert "a forward and a backward pass" in out
    assert "other counters were not run" in out


@pytest.mark.parametrize(
    ("name", "depth"), [("resnet50", None), ("resnet50", "2"), ("raft_small", None), ("fasterrcnn_resnet50_fpn", "2")]
)
def test_golden_module_trees(name: str, depth: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """The reports of torchvision's nets look as they did when somebody last looked at them."""
    options = () if depth is None else ("--depth", depth)
    code, out, error = call(capsys, "analyze", f"torchvision/{name}", "--counters", "none", *options, "--width", "100")
    assert (0, "") == (code, error)
    assert_golden(f"zoo/{name}{'' if depth is None else f'-depth-{depth}'}.txt", out)


def test_the_names_of_zoos_need_no_torch(root: Path) -> None:
    """Listing and completing them loads neither torch nor a zoo."""
    program = (
        "import sys\n"
        "from convstat.cli.options import complete_target\n"
        "from convstat.cli.run import run\n"
        "assert len(complete_target('timm/')) > 1000\n"
        "run(['list', 'zoo', 'resnet50'])\n"
        "print({'torch', 'torchvision', 'timm', 'numpy'} & set(sys.modules))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert "set()" == answer.stdout.splitlines()[-1]


def test_the_list_of_names_is_filtered_by_words_and_by_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    """A word is looked for anywhere in a name, a pattern matches the whole of it; the case does not matter."""
    names = [f"{name}/{model}" for name in zoo.ZOOS for model in zoo.names(name)]
    for pattern, expected in (
        ("ResNet50", [name for name in names if "resnet50" in name]),
        ("torchvision/*_fpn", [n for n in names if n.startswith("torchvision/") and n.endswith("_fpn")]),
        ("vit_b_1?", ["torchvision/vit_b_16"]),
        ("resnet18", [name for name in names if "resnet18" in name]),
    ):
        listed = document(capsys, "list", "zoo", pattern)
        assert isinstance(listed, list)
        assert expected == [entry["name"] for entry in listed]
    assert names == [entry["name"] for entry in document(capsys, "list", "zoo")]  # type: ignore[index]


def test_completion_offers_models(folder: Path) -> None:
    """Zoos and the names in them, Python files, and the public names in a file, which is not run."""
    assert ["torchvision/", "timm/", "transformers/", "net.py:"] == complete_target("")
    assert ["torchvision/"] == complete_target("tor")
    assert ["transformers/mixtral"] == complete_target("transformers/mixt")
    assert ["torchvision/vit_b_16", "torchvision/vit_b_32"] == complete_target("torchvision/vit_b")
    assert ["net.py:Net", "net.py:Shared", "net.py:unknown", "net.py:Odd"] == complete_target("net.py:")
    assert ["net.py:Shared"] == complete_target("net.py:S")
    (folder / "broken.py").write_text("raise SystemExit(")
    assert [] == complete_target("broken.py:")
    assert [] == complete_target("none.py:")
    assert [] == complete_target("no/such/folder/")


def test_what_is_special_about_an_installation_is_said_once_and_only_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That torchvision's operators were declared changes no count: it is in JSON, and with -v on standard error."""
    from convstat.patches import operators

    monkeypatch.setattr(operators, "_done", [NOTE])
    targets = ("torchvision/alexnet", "torchvision/vgg11")
    _, out, error = call(capsys, "analyze", *targets, "--counters", "none")
    assert ("", False) == (error, NOTE in out)
    _, out, error = call(capsys, "analyze", *targets, "--counters", "none", "-v")
    assert (1, False) == (" ".join(error.split()).count(NOTE), NOTE in out)
    _, out, _ = call(capsys, "analyze", *targets, "--counters", "none", "-f", "json")
    assert [[NOTE], [NOTE]] == [report["model"]["notes"] for report in json.loads(out)]


@pytest.mark.parametrize(
    ("arguments", "shape", "macs"),
    [
        (("torchvision/resnet18", "-i", "3x448x448"), [1, 3, 448, 448], None),
        (("torchvision/resnet18", "-b", "3"), [3, 3, 224, 224], 3 * 1_814_073_344),
        (("torchvision/resnet18", "num_classes=10"), [1, 3, 224, 224], 1_814_073_344 - 990 * 512),
        (("torchvision/r3d_18", "-i", "3x8x64x64"), [1, 3, 8, 64, 64], None),
        (("torchvision/ssdlite320_mobilenet_v3_large", "-i", "3x512x512", "-b", "2"), [3, 512, 512], 2 * 583_171_904),
        (("torchvision/raft_small", "-i", "3x128x128", "-i", "3x128x128"), [1, 3, 128, 128], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_inputs_of_zoo_models_can_be_chosen(
    arguments: tuple[str, ...], shape: list[int], macs: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shape of one sample is enough, for pictures, videos, pairs and lists of pictures."""
    report = document(capsys, "analyze", *arguments, "--counters", "none")
    assert shape == report["model"]["inputs"][0]["shape"]  # type: ignore[index]
    assert macs in (None, report["totals"]["macs"])  # type: ignore[index]


def test_pixels_of_detectors_are_those_of_their_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures in a list have no batch; each counts."""
    target = ("torchvision/ssdlite320_mobilenet_v3_large", "-i", "3x100x200", "--counters", "none")
    for batch in (1, 2):
        totals = document(capsys, "analyze", *target, "-b", str(batch))["totals"]
        assert isinstance(totals, dict)
        assert (batch * 100 * 200, "input 100x200") == (totals["pixels"], totals["pixel_basis"])


@pytest.mark.parametrize(
    "target", ["alexnet", "vit_b_32", "regnet_y_400mf", "lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"]
)
def test_peers_are_explained_on_zoo_models(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What ptflops says of a net of torchvision is predicted to the unit, at any batch."""
    for batch in ("1", "2"):
        report = document(capsys, "analyze", f"torchvision/{target}", "--counters", "ptflops", "-b", batch)
        (counter,) = report["counters"]  # type: ignore[misc]
        assert ("ok", {"params": 0, "macs": 0}) == (counter["status"], counter["unexplained"])


def test_timm_that_is_not_installed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The message says how to get it; a name that is not in it gets a suggestion where it is."""
    code, out, error = call(capsys, "analyze", "timm/resnet18_", "--counters", "none")
    assert (2, "") == (code, out)
    assert "timm is not installed" in error or "timm has no model 'resnet18_'" in error
    assert "pip install timm" in error or "did you mean 'resnet18" in error
