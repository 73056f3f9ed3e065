"""Counting a Python model costs less than running it, and grows with the number of its kernels and no faster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from limits import Limits
from processes import ENVIRONMENT, ROOT, convstat, interleaved

HERE = Path(__file__).parent


def test_a_trace_costs_less_than_a_count_on_real_tensors(limits: Limits) -> None:
    """Trace and count on meta, against FlopCounterMode running the same model on CPU with one picture."""
    command = [sys.executable, str(HERE / "trace_rate.py")]
    found = json.loads(
        subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    )
    missed = []
    for name, ratio in found["ratios"].items():
        try:
            limits.at_most(f"trace {name} / FlopCounterMode on CPU", ratio, 0.6)
        except AssertionError as error:
            missed.append(str(error))
    assert not missed
    per_layer = found["per_layer"]
    # Small nets carry what every call costs; so growth is measured from a hundred layers on.
    for depth in ("1000", "10000"):
        limits.at_most(f"a layer of {depth} / a layer of 100", per_layer[depth] / per_layer["100"], 2.0)


def test_a_zoo_model_is_counted_in_little_more_than_the_import_of_its_zoo(limits: Limits) -> None:
    """Whole processes."""
    costs = interleaved(
        {
            "import": (sys.executable, str(HERE / "import_zoo.py")),
            "analyze": convstat("analyze", "torchvision/resnet50", "--counters", "none"),
        },
        runs=5,
    )
    ratio = costs["analyze"].seconds / costs["import"].seconds
    limits.at_most("analyze torchvision/resnet50 / import torch, torchvision", ratio, 1.3)
