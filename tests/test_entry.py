"""Python entry points: what they may name, how they are imported, and what is said of mistakes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import counted
import pytest

from convstat.errors import ConvstatError, Diagnostic
from convstat.results.report import Report

NET = """
import torch
from torch import nn
from .layers import Layer
import pkg.settings

print("imported")

class Net(nn.Module):
    def __init__(self, width=pkg.settings.WIDTH, act: str = "relu", drop=None, ratio=1.5, flags=(1, 2), bias=True):
        super().__init__()
        print("made", repr(width), repr(act), repr(drop), repr(ratio), repr(flags), repr(bias))
        self.conv = Layer(3, width, 3, bias=bias)
    def forward(self, x):
        print("run")
        return self.conv(x)
    @classmethod
    def build(cls):
        return cls(8)

net = Net(5)
number = 3
def pair():
    return Net(), torch.zeros(2, 3, 8, 8)
def named():
    return Net(), {"x": torch.zeros(2, 3, 8, 8)}
def needs(width, bias=True):
    return Net(width)
def takes_any(**settings):
    return Net(**settings)
def wrong():
    return 3
def breaks():
    raise ValueError("it broke\\nbadly")
"""

PICTURE = ["3x8x8"]
PIXELS = 6 * 6


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a package, and another one under src/."""
    write(tmp_path, "pkg/__init__.py", "")
    write(tmp_path, "pkg/layers.py", "from torch import nn\nclass Layer(nn.Conv2d): pass\n")
    write(tmp_path, "pkg/settings.py", "WIDTH = 4\n")
    write(tmp_path, "pkg/net.py", NET)
    write(tmp_path, "src/deep/__init__.py", "")
    write(tmp_path, "src/deep/er/__init__.py", "")
    write(
        tmp_path,
        "src/deep/er/net.py",
        "from torch import nn\nfrom deep.er import net\nNet = lambda: nn.Conv2d(3, 6, 3)\n",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file, and the folders that it lies in."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def analyze(target: str, inputs: list[str] | None = None, **overrides: object) -> Report:
    """Count a target without peers."""
    return counted.analyze(target, overrides, inputs=PICTURE if inputs is None else inputs, counters="none")


def problem(target: str, inputs: list[str] | None = None, **overrides: object) -> Diagnostic:
    """The one problem of a target."""
    with pytest.raises(ConvstatError) as caught:
        analyze(target, inputs, **overrides)
    (found,) = caught.value.diagnostics
    assert caught.value.exit_code == 2
    return found


@pytest.mark.parametrize(
    ("target", "width"),
    [
        ("pkg.net:Net", 4),
        ("pkg/net.py:Net", 4),
        ("pkg.net:Net.build", 8),
        ("pkg/net.py:Net.build", 8),
        ("pkg.net:net", 5),
        ("pkg/net.py:net", 5),
        ("deep.er.net:Net", 6),
        ("src/deep/er/net.py:Net", 6),
    ],
)
def test_classes_methods_modules_and_functions_can_be_named(here: Path, target: str, width: int) -> None:
    """By file and by dotted name, in packages, under src/, with relative neighbours."""
    report = analyze(target)
    assert width * 3 * 9 * PIXELS == report.totals.macs
    assert target == report.model.source


@pytest.mark.parametrize("target", ["pkg.net:pair", "pkg.net:named"])
def test_inputs_come_with_the_model(here: Path, target: str) -> None:
    """As a tensor, or by name; they are run as they are, and another one can be asked for."""
    assert ("x", (2, 3, 8, 8)) == (lambda info: (info.name, info.shape))(analyze(target, []).model.inputs[0])
    assert (1, 3, 16, 16) == analyze(target, ["3x16x16"]).model.inputs[0].shape
    assert (1, 3, 16, 16) == analyze(target, ["x=3x16x16"]).model.inputs[0].shape


def test_a_batch_does_not_change_inputs_that_come_with_the_model(here: Path) -> None:
    """It would be silently left out; the batch that they have may be said."""
    with pytest.raises(ConvstatError, match="provides its own inputs, and none has a batch of 4"):
        counted.analyze("pkg.net:pair", batch=4, counters="none")
    assert 2 * 4 * 3 * 9 * PIXELS == counted.analyze("pkg.net:pair", batch=2, counters="none").totals.macs


def test_overrides_keep_their_types(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On the command line: an int, a word, None, a float that is whole, a list, a flag; and nothing on stdout."""
    from convstat.cli.run import run

    arguments = ["width=6", "act=gelu", "drop=null", "ratio=1.0", "flags=[3,4.5]", "bias=false"]
    assert 0 == run(["analyze", "pkg.net:Net", "-i", "3x8x8", *arguments, "--counters", "none", "-f", "csv"])
    captured = capfd.readouterr()
    assert "made 6 'gelu' None 1.0 [3, 4.5] False\n" in captured.err
    assert "imported\n" in captured.err
    assert "run\n" in captured.err
    assert captured.out.startswith("row,model,")
    assert "\nmade" not in captured.out


@pytest.mark.parametrize("name", ["random", "types", "torch", "torchsummary", "ptflops", "numpy", "my-net", "test"])
def test_a_file_may_be_called_anything(here: Path, name: str) -> None:
    """It stands in for no module of that name, and its neighbours do not either."""
    write(here, f"{name}.py", "from torch import nn\nNet = lambda: nn.Sequential(nn.Conv2d(3, 7, 3))\n")
    known = {name: sys.modules.get(name) for name in ("random", "types", "torch", "torchsummary", "ptflops", "numpy")}
    report = counted.analyze(f"{name}.py:Net", inputs=PICTURE)
    assert 7 * 3 * 9 * PIXELS == report.totals.macs
    assert ["ok", "ok"] == [row.status for row in report.counters]
    for key, module in known.items():
        assert module is None or module is sys.modules[key]
        assert str(here) not in str(getattr(sys.modules.get(key), "__file__", ""))


def test_neighbours_of_a_file_are_those_of_that_file(here: Path) -> None:
    """Two versions of a net, each beside its own layers; and a file that changed is read again."""
    for folder, width in (("old", 4), ("new", 9)):
        write(here, f"{folder}/parts.py", f"WIDTH = {width}\n")
        write(
            here, f"{folder}/net.py", "from torch import nn\nimport parts\nNet = lambda: nn.Conv2d(3, parts.WIDTH, 3)\n"
        )
    for folder, width in (("old", 4), ("new", 9), ("old", 4)):
        assert width * 3 * 9 * PIXELS == analyze(f"{folder}/net.py:Net").totals.macs
    write(here, "old/parts.py", "WIDTH = 5\n")
    assert 5 * 3 * 9 * PIXELS == analyze("old/net.py:Net").totals.macs


def test_importing_leaves_nothing_behind(here: Path) -> None:
    """No compiled files, nothing on sys.path, no finder."""
    before = list(sys.path), list(sys.meta_path)
    analyze("pkg.net:Net")
    assert before == (sys.path, sys.meta_path)
    assert [] == list(here.rglob("__pycache__"))


def test_modules_can_be_imported_as_the_model_runs(here: Path) -> None:
    """In its constructor and in its forward."""
    write(here, "late/parts.py", "WIDTH = 4\n")
    write(
        here,
        "late/net.py",
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        import parts\n        self.conv = nn.Conv2d(3, parts.WIDTH, 3)\n    def forward(self, x):\n"
        "        import more\n        return self.conv(x) * more.TWO\n",
    )
    write(here, "late/more.py", "TWO = 2\n")
    assert 4 * 3 * 9 * PIXELS == analyze("late/net.py:Net").totals.macs


def test_torchvision_can_be_imported_whatever_its_build(here: Path) -> None:
    """Its compiled part may not fit this torch; what is named is its Python."""
    pytest.importorskip("torch")
    write(here, "tv.py", "import torchvision\nNet = lambda: torchvision.ops.Conv2dNormActivation(3, 4, 3)\n")
    code = "import convstat; print(convstat.analyze('tv.py:Net', '3x8x8').totals.macs)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (f"{4 * 3 * 9 * 64}\n", 0) == (done.stdout, done.returncode), done.stderr


INPUTS = """
import torch
from dataclasses import dataclass
from torch import nn

@dataclass(frozen=True)
class Batch:
    ids: torch.Tensor
    more: dict

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 2, bias=False)
    def forward(self, ids, mask=None, *, scale=None, step=None):
        y = self.head(self.embed(ids))
        assert ids.dtype is torch.int64
        for factor in (mask, scale, step):
            y = y if factor is None else y * factor
        return y

class Nested(Net):
    def forward(self, batch, pair):
        assert type(batch) is Batch
        return self.head(self.embed(batch.ids)) + batch.more["a"][0] * pair[1]["b"]

class Any(nn.Module):
    def forward(self, *args, **kwargs):
        return sum(args) + sum(kwargs.values())

class Nothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3, 4))
    def forward(self, scale=1.0):
        return self.table @ self.table.T

def nested():
    batch = Batch(torch.zeros(1, 5, dtype=torch.int64), {"a": (torch.ones(1, 5, 2),)})
    return Nested(), (batch, [None, {"b": torch.ones(2)}])
"""


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["Nx5:int64"], [("ids", (1, 5), "int64")]),
        (["ids=Nx5:int64", "mask=[5,1]"], [("ids", (1, 5), "int64"), ("mask", (5, 1), "float32")]),
        (["Nx5:int64", "[5,1]"], [("ids", (1, 5), "int64"), ("mask", (5, 1), "float32")]),
        (["scale=[2]", "ids=Nx5:int64"], [("scale", (2,), "float32"), ("ids", (1, 5), "int64")]),
        (
            ["Nx5:int64", "step=scalar:int64", "scale=[1]:bfloat16"],
            [("ids", (1, 5), "int64"), ("step", (), "int64"), ("scale", (1,), "bfloat16")],
        ),
    ],
)
def test_inputs_are_given_in_order_or_by_name(here: Path, inputs: list[str], expected: list[object]) -> None:
    """With dtypes, as scalars, to arguments that can only be named; optional ones may be left out."""
    write(here, "net.py", INPUTS)
    report = analyze("net.py:Net", inputs)
    assert 5 * 4 * 2 == report.totals.macs
    assert expected == [(info.name, info.shape, info.dtype) for info in report.model.inputs]


def test_nested_inputs_are_named_by_their_place(here: Path) -> None:
    """A dataclass, a dict, a list and None, as the entry point gives them."""
    write(here, "net.py", INPUTS)
    report = analyze("net.py:nested", [])
    assert 5 * 4 * 2 == report.totals.macs
    assert ["batch.ids", "batch.more.a[0]", "pair[1].b"] == [info.name for info in report.model.inputs]


def test_a_forward_that_takes_anything_is_given_it(here: Path) -> None:
    """Any name goes where forward takes any."""
    write(here, "net.py", INPUTS)
    report = analyze("net.py:Any", ["[3]", "[3]", "a=[3]", "b=[1]"])
    assert ["input0", "input1", "a", "b"] == [info.name for info in report.model.inputs]


def test_a_forward_that_needs_nothing_is_given_nothing(here: Path) -> None:
    """Its arguments all have defaults."""
    write(here, "net.py", INPUTS)
    assert 3 * 4 * 3 == analyze("net.py:Nothing", []).totals.macs


@pytest.mark.parametrize(
    ("target", "inputs", "message", "help"),
    [
        ("pkg.net:nett", None, "pkg.net has no 'nett'", "did you mean 'Net'?"),
        ("pkg.net:Net.bild", None, "pkg.net:Net has no 'bild'", "did you mean 'build'?"),
        ("pkg/nett.py:Net", None, "no such file: pkg/nett.py", "did you mean 'pkg/net.py'"),
        ("pgk.net:Net", None, "no module named 'pgk'", "did you mean 'pkg'?"),
        ("pkg.nett:Net", None, "no module named 'pkg.nett'", "name a file by its path: pkg/nett.py:..."),
        (
            "pkg.net:number",
            None,
            "pkg.net:number is of type int, which is neither a module nor a callable that returns one",
            None,
        ),
        ("pkg.net:wrong", None, "pkg.net:wrong returned a int, expected a module or (module, inputs)", None),
        ("pkg.net:needs", None, "pkg.net:needs needs width", "pass them as overrides: pkg.net:needs width=..."),
        ("pkg.net:Net", [], "pkg.net:Net provides no inputs, and none are given", "for example: --input 3x224x224"),
        ("pkg.net:Net", ["y=3x8x8"], "the forward of pkg.net:Net has no argument 'y'", "it takes (x)"),
        ("pkg.net:Net", ["3x8x8:flaot16"], "unknown dtype 'flaot16' in --input 3x8x8:flaot16", "for example float32"),
        ("pkg.net:Net", ["3x8x8:save"], "unknown dtype 'save' in --input 3x8x8:save", "for example float32"),
    ],
)
def test_a_mistake_is_said_with_what_would_be_right(
    here: Path, target: str, inputs: list[str] | None, message: str, help: str | None
) -> None:
    """One message, one help."""
    found = problem(target, inputs)
    assert message == found.message
    assert help is None or any(help in line for line in found.help), found.help


def test_unknown_overrides_are_refused_before_anything_is_made(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With what the callable takes; one that takes any is given any, and says itself what is wrong."""
    found = problem("pkg.net:Net", widht=3)
    assert ("pkg.net:Net has no argument 'widht'", "did you mean 'width'?") == (found.message, found.help[0])
    assert "it takes no overrides such as width=..." in problem("pkg.net:net", width=3).message
    found = problem("pkg.net:takes_any", widht=3)
    assert "pkg.net:takes_any could not be created: TypeError: " in found.message
    assert found.mark is not None
    assert "return Net(**settings)" == found.mark.text.strip()


@pytest.mark.parametrize(
    ("code", "line", "column", "message"),
    [
        ("def f(:\n    pass\n", 1, 7, "SyntaxError: invalid syntax"),
        ("x = 1\nimport nosuchthing\n", 2, 1, "ModuleNotFoundError: No module named 'nosuchthing'"),
        ("from torch import nosuchthing\n", 1, 1, "ImportError: cannot import name 'nosuchthing' from 'torch'"),
        ("import sys\n\nsys.exit(3)\n", 3, 1, "it called sys.exit(3)"),
        ("raise SystemExit\n", 1, 1, "it called sys.exit()"),
        ("import json\ndef f(): return json.loads('{')\nf()\n", 2, 17, "JSONDecodeError: "),
        ("x = [1, 2,\n  3][7]\n", 1, 5, "IndexError: list index out of range"),
        ("from . import layers\n", 1, 1, "ImportError: attempted relative import with no known parent package"),
    ],
)
def test_a_file_that_does_not_import_is_shown_at_its_own_line(
    here: Path, code: str, line: int, column: int, message: str
) -> None:
    """The innermost line that is the user's, with the column where Python knows it."""
    write(here, "broken.py", code)
    found = problem("broken.py:f")
    assert found.message.startswith(f"cannot import broken.py: {message}")
    assert found.mark is not None
    assert ("broken.py", line, column) == (found.mark.file, found.mark.line, found.mark.column)


def test_what_a_callable_raises_is_one_line(here: Path) -> None:
    """The first line of the exception, at the line that raised it."""
    found = problem("pkg.net:breaks")
    assert "pkg.net:breaks could not be created: ValueError: it broke" == found.message
    assert found.mark is not None
    assert 'raise ValueError("it broke\\nbadly")' == found.mark.text.strip()


def test_a_gpu_on_import_gets_help(here: Path) -> None:
    """What runs on import runs as it is; the help says what to do."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    write(here, "gpu.py", "import torch\ntable = torch.zeros(3).cuda()\n")
    found = problem("gpu.py:Net")
    assert found.mark is not None
    assert 2 == found.mark.line
    assert any("torch.cuda.is_available()" in line for line in found.help)


# The whole command.

COMMAND = [sys.executable, "-m", "convstat", "analyze"]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as users do."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("target", "code", "expected"),
    [
        ("net.py:Exits", 2, "net.py:6:9: error: net.py:Exits does not run: it called sys.exit(0)"),
        ("net.py:Stops", 130, "interrupted"),
        ("net.py:StopsAsItIsMade", 130, "interrupted"),
        ("net.py:Keeps", 2, "error: net.py:Keeps needs more than 2 GiB of memory without its weights: MemoryError"),
    ],
)
def test_the_command_ends_as_it_should(here: Path, target: str, code: int, expected: str) -> None:
    """Never with a traceback, and never with anything on stdout; one that takes all memory is stopped early."""
    write(
        here,
        "net.py",
        """import sys
from torch import nn

class Exits(nn.Module):
    def forward(self, x):
        sys.exit(0)

class Stops(nn.Module):
    def forward(self, x):
        raise KeyboardInterrupt

class StopsAsItIsMade(nn.Module):
    def __init__(self):
        raise KeyboardInterrupt

class Keeps(nn.Module):
    def forward(self, x):
        kept = []
        while True:
            kept.append(bytearray(10**7))
""",
    )
    done = command(target, "-i", "8")
    assert (code, "") == (done.returncode, done.stdout)
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_it_in_the_middle(here: Path) -> None:
    """While the model's own code runs: 130, and no traceback."""
    write(
        here,
        "slow.py",
        "import time\nfrom torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n"
        "        print('running', flush=True)\n        time.sleep(60)\n",
    )
    with subprocess.Popen(
        [*COMMAND, "slow.py:Net", "-i", "8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "running" in line:
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (130, "") == (process.returncode, out)
    assert "interrupted" in err
    assert "Traceback" not in err
