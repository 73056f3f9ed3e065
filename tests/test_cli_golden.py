"""Golden outputs of the command line on the example specs, the real counters included."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden_files import assert_golden

from convstat.cli.run import run

COMMANDS = {
    "resnet50-depth-1": ["analyze", "configs/resnet50.yaml", "--depth", "1"],
    "mobilenet_v1-depth-2": ["analyze", "configs/mobilenet_v1.yaml", "--depth", "2"],
    "conv2d": ["analyze", "Conv2d(4, 8, kernel_size=3, padding=1)", "-i", "4x64x64"],
    "in_loop_filter": ["analyze", "configs/in_loop_filter.yaml", "--counters", "none", "--depth", "1"],
    "compare-groups": ["compare", "groups=1,2,3,4"],
    "compare-mobilenets": [
        "compare",
        "configs/mobilenet_v1.yaml",
        "configs/mobilenet_v3_small.yaml",
        "configs/resnet50.yaml",
    ],
    "compare-two-axes": ["compare", "configs/mobilenet_v1.yaml", "alpha=1,0.5", "resolution=224,160"],
    "check-over": ["check", "configs/mobilenet_v1.yaml", "--max", "macs=500M", "--max", "params=4231976"],
}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_golden_commands_at_every_width(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, width: int
) -> None:
    """Standard output is what it was when somebody last looked at it, and standard error is empty."""
    monkeypatch.chdir(root)
    code = run([*COMMANDS[name], "--width", str(width)])
    out, error = capsys.readouterr()
    assert "" == error
    assert (1 if name == "check-over" else 0) == code
    assert_golden(f"cli/{name}-{width}.txt", out)


MISTAKES = {
    "unknown-layer": ["analyze", "Cnov2d(4, 8, 3)", "-i", "4x8x8"],
    "groups": ["analyze", "Conv2d(4, 8, 3, groups=3)", "-i", "4x8x8"],
    "no-input": ["analyze", "Conv2d(4, 8, 3)"],
    "three-ways": ["analyze", "configs/conv2d.yaml", "k=1,3,5"],
    "no-variable": ["analyze", "configs/mobilenet_v1.yaml", "alhpa=0.5"],
    "no-file": ["analyze", "configs/resnet5.yaml"],
    "no-format": ["analyze", "configs/conv2d.yaml", "-f", "jsn"],
    "no-metric": ["check", "configs/conv2d.yaml", "--max", "prams=5M"],
    "no-unit": ["check", "configs/conv2d.yaml", "--max", "params=5m"],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_golden_mistakes(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Standard error is what it was; nothing is on standard output."""
    monkeypatch.chdir(root)
    assert 2 == run(MISTAKES[name])
    out, error = capsys.readouterr()
    assert "" == out
    assert_golden(f"mistakes/{name}.txt", error)
