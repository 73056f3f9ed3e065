"""Every counter on every net of torchvision for the classification of images: what it says is what was predicted."""

from __future__ import annotations

import pytest
from live import PEERS, installed, pair
from zoo_classifiers import answered_or_foreseen, each

from convstat import analyze
from convstat.counters import COUNTERS

COUNTERS_WITH_A_ROW = tuple(COUNTERS)

FAIL_ON_ATTENTION = {"torchsummary": ("vit_",), "torchstat": ("vit", "swin", "convnext")}
"""The nets on which a tool fails: torchsummary cannot read None, torchstat knows Linear on two dimensions only."""


def test_every_counter_takes_part() -> None:
    """A counter that is added later does too."""
    assert {"ptflops", "ptflops-aten", "torchsummary", *PEERS} == set(COUNTERS_WITH_A_ROW)


@pytest.mark.parametrize("name", each())
@pytest.mark.parametrize("counter", COUNTERS_WITH_A_ROW)
def test_a_counter_says_what_was_predicted(counter: str, name: str) -> None:
    """Parameters and MACs to the unit, at the net's own size, and the causes sum to the difference; or it fails as
    foreseen, and only where its reason holds.
    """
    installed(counter)
    with pair(counter):
        (row,) = analyze(f"torchvision/{name}", counters=counter).counters
        answered_or_foreseen(row)
        fails = any(kind in name for kind in FAIL_ON_ATTENTION.get(counter, ()))
        assert ("failed" if fails else "ok") == row.status
