"""The process is left as it was, whatever else it does: other threads, interruptions, what is imported meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import convstat

# Limits of the whole process.

SHOWS_LIMITS = """import resource
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.show("made")

    def forward(self, x):
        self.show("runs")
        return x

    def show(self, what):
        print(what, [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")])
"""


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_library_sets_no_limit_on_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], device: str
) -> None:
    """Whatever is imported, made and run inside ``convstat.analyze`` finds all limits of the process as they were."""
    resource = pytest.importorskip("resource")
    (tmp_path / "shows.py").write_text(SHOWS_LIMITS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    convstat.analyze("shows.py:Net", "8", device=device, counters="all")
    shown = capfd.readouterr().err.splitlines()
    assert {"made", "runs"} == {line.partition(" ")[0] for line in shown}
    assert {str(limits)} == {line.partition(" ")[2] for line in shown}


def test_the_command_line_limits_its_own_process(tmp_path: Path) -> None:
    """The same model sees a limit on its memory there, where the system tells how much a process uses."""
    resource = pytest.importorskip("resource")
    status = Path("/proc/self/status")
    if not status.is_file() or "VmData" not in status.read_text():
        pytest.skip("this system does not tell how much a process uses")
    (tmp_path / "shows.py").write_text(SHOWS_LIMITS, encoding="utf-8")
    command = (sys.executable, "-m", "convstat", "analyze", "shows.py:Net", "-i", "8", "--counters", "none")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    before = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    (made, *_) = (line for line in done.stderr.splitlines() if line.startswith("made"))
    assert str(before) != made.partition(" ")[2]
