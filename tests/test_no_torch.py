"""Counting a spec needs no torch: shown by what a process has loaded when it is done, whatever it was asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "ptflops", "torchsummary", "torchvision", "numpy")

PROGRAM = f"""
import sys
from convstat.cli import main
try:
    main()
except SystemExit as done:
    code = done.code or 0
print("LOADED", *(name for name in {HEAVY!r} if name in sys.modules), "EXIT", code, file=sys.stderr)
"""

SPEC = "configs/mobilenet_v1.yaml"

COMMANDS = (
    ["--help"],
    ["--version"],
    ["analyze", "--help"],
    ["analyze", SPEC, "--counters", "none"],
    ["analyze", SPEC, "--counters", "none", "-f", "json"],
    ["analyze", "Conv2d(4, 8, kernel_size=3)", "--input", "4x64x64", "--counters", "none"],
    ["compare", "groups=1,2,4"],
    ["compare", SPEC, "alpha=0.5,1.0"],
    ["check", SPEC, "--max", "params=5M"],
    ["memory", SPEC],
    ["memory", SPEC, "--fits", "64MiB", "-f", "json"],
    ["memory", "MultiheadAttention(64, 8)", "--input", "16x64", "--device", "cpu", "--dtype", "bfloat16"],
    ["check", SPEC, "--max", "peak_memory_bytes=1GiB", "--max", "activation_bytes=1GiB"],
    ["expand", SPEC],
    ["list", "layers"],
    ["list", "counters"],
    ["schema", "spec"],
    ["schema", "report"],
    ["docs", "spec"],
)


def loaded(arguments: list[str], root: Path, *, first: str = "") -> tuple[list[str], int]:
    """Run convstat in a process of its own; give the heavy packages it has loaded, and its exit code."""
    command = [sys.executable, "-c", f"{first}\n{PROGRAM}", *arguments]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    last = answer.stderr.rstrip().rpartition("\n")[2].split()
    assert ["LOADED", "EXIT"] == [last[0], last[-2]], answer.stderr
    return last[1:-2], int(last[-1])


@pytest.mark.parametrize("arguments", COMMANDS, ids=[" ".join(command) for command in COMMANDS])
def test_nothing_on_the_way_from_a_spec_to_its_count_loads_torch(arguments: list[str], root: Path) -> None:
    """The command succeeds, and neither torch nor a peer nor numpy has been imported."""
    assert ([], 0) == loaded(arguments, root)


def test_a_mistake_is_reported_without_torch(root: Path) -> None:
    """Exit code 2, and no torch either."""
    assert ([], 2) == loaded(["analyze", "configs/no_such_file.yaml"], root)


def test_the_proof_can_fail(root: Path) -> None:
    """A process that does import torch, by itself or for a peer, is seen to have done so."""
    names, _ = loaded(["--version"], root, first="import torch")
    assert "torch" in names
    names, code = loaded(["analyze", "Conv2d(4, 8, 3)", "-i", "4x8x8", "--counters", "ptflops", "--in-process"], root)
    assert ({"torch", "ptflops"}, 0) == ({"torch", "ptflops"} & set(names), code)
