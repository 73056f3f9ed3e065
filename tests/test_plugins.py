"""Packages that end everything, or never come back, when they are imported: each is told of, and ends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WAYS = {
    "exits": ("os._exit(7)", "it exited its process with exit code 7, as it was loaded"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "its process was killed by SIGSEGV, as it was loaded"),
    "aborts": ("os.abort()", "its process was killed by SIGABRT, as it was loaded"),
    "kills": ("os.kill(os.getpid(), 9)", "its process was killed by SIGKILL"),
    "hangs": ("import time; time.sleep(1000)", "it gave no answer within 3 seconds, as it was loaded"),
    "leaves": ("sys.exit(3)", "SystemExit: 3"),
    "raises": ("1 / 0", "ZeroDivisionError: division by zero"),
}
"""What a module does on import, and what is said of it."""

MODEL = """
import torch
from torch import nn

@torch.library.custom_op("bad::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor:
    return x * 2

@op.register_fake
def _(x):
    return torch.empty_like(x)

class Net(nn.Module):
    def forward(self, x):
        return torch.ops.bad.op(x)
"""


TWO = """
import os

class Sound:
    name, variant, unit, help = "sound", "default", "MACs of two", "none"

    def version(self):
        return "1"

    run = predict = why_not_meta = retrace = version

class Odd(Sound):
    name = "odd"
    unit = property(lambda self: os._exit(9))
"""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What is installed in a folder: a counter, a layer, a format and a rule, of a package that ends everything."""
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    groups = {"counters": "bad", "layers": "Bad", "renderers": "bad", "kernels": "bad::op"}
    lines = [f"[convstat.{group}]\n{name} = bad:THING\n" for group, name in groups.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    (tmp_path / "bad.py").write_text(f"import os, sys\nos.write(1, b'heard\\n')\n{WAYS[request.param][0]}\n")
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "net.yaml").write_text("convstat: 1\ninput: [3, 8, 8]\nlayers: [{Conv2d: {out: 4, kernel_size: 3}}]\n")
    (tmp_path / "bad.yaml").write_text("convstat: 1\ninput: [3, 8, 8]\nlayers: [Bad]\n")
    return str(request.param)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder whose packages are installed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "1000"}
    command = [sys.executable, "-m", "convstat", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_counter_that_ends_everything_on_import_is_a_row(way: str, tmp_path: Path) -> None:
    """The others are predicted as ever; what it wrote is heard once, and not in the result."""
    done = run(tmp_path, "analyze", "net.yaml", "--counters", "all", "--predict", "--timeout", "3")
    assert 0 == done.returncode, done.stderr
    assert WAYS[way][1] in done.stdout
    assert "ptflops" in done.stdout
    assert "heard" not in done.stdout
    assert 1 == done.stderr.count("heard")
    assert "Traceback" not in done.stderr


def test_an_attribute_that_ends_everything_is_met_as_it_is_loaded(tmp_path: Path) -> None:
    """Its module may be imported by then, for another counter in it."""
    info = tmp_path / "two-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: two\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[convstat.counters]\nsound = two:Sound\nodd = two:Odd\n")
    (tmp_path / "two.py").write_text(TWO)
    done = run(tmp_path, "list", "counters")
    assert 0 == done.returncode, done.stderr
    assert "MACs of two" in done.stdout
    assert "it exited its process with exit code 9, as it was loaded" in done.stdout


def test_the_list_of_counters_names_it(way: str, tmp_path: Path) -> None:
    """With the reason in the place of how to install it."""
    if way == "hangs":
        pytest.skip("it is waited for as long as is usual")
    done = run(tmp_path, "list", "counters")
    assert 0 == done.returncode, done.stderr
    assert WAYS[way][1] in done.stdout


@pytest.mark.parametrize(
    ("words", "group"), [(("analyze", "bad.yaml"), "layers"), (("analyze", "net.yaml", "-f", "bad"), "renderers")]
)
def test_what_cannot_do_without_it_says_so(way: str, words: tuple[str, ...], group: str, tmp_path: Path) -> None:
    """A layer or a format of a broken package is a mistake of the user's environment."""
    done = run(tmp_path, *words, "--timeout", "3")
    assert 2 == done.returncode
    assert "" == done.stdout
    assert f"of convstat.{group} failed: {WAYS[way][1]}" in done.stderr
    assert "help: uninstall or repair it" in done.stderr
    assert 1 == done.stderr.count("heard")


def test_a_rule_that_ends_everything_is_no_rule(way: str, tmp_path: Path) -> None:
    """Its operator is not counted, and a note says why."""
    if way == "hangs":
        pytest.skip("the time is then that of the model, too")
    done = run(tmp_path, "analyze", "model.py:Net", "-i", "3x8x8", "--counters", "none")
    assert 0 == done.returncode, done.stderr
    assert f"the rule for bad.op could not be loaded: {WAYS[way][1]}" in done.stdout
    assert "incomplete" in done.stdout
