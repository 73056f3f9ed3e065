"""Asking all counters that are installed costs less than asking each of them by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from limits import Limits
from processes import ENVIRONMENT, ROOT, convstat, interleaved

HERE = Path(__file__).parent

NAMES = {"ptflops": "ptflops,ptflops-aten", "thop": "thop,ultralytics-thop"}
"""What convstat calls the counters of a library; of the two that share a name, one is there."""


def test_all_counters_cost_less_than_each_by_hand(limits: Limits) -> None:
    """Whole processes, on resnet50; only those that answer by hand take part, so neither side does more."""
    by_hand = (sys.executable, str(HERE / "all_by_hand.py"), "resnet50")
    done = subprocess.run(by_hand, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    answered = done.stdout.splitlines()[-1].split()
    assert {"ptflops", "torchsummary", "flopcountermode"} <= set(answered)
    names = ",".join(NAMES.get(name, name) for name in answered)
    costs = interleaved(
        {"by hand": by_hand, "analyze": convstat("analyze", "torchvision/resnet50", "--counters", names)}, runs=3
    )
    ratio = costs["analyze"].seconds / costs["by hand"].seconds
    limits.at_most(f"analyze with {len(answered)} libraries / each by hand", ratio, 0.6)
