"""torchvision's nets for the classification of images, and what must hold of a counter's row for each of them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from convstat.counters.causes import UNATTRIBUTED
from convstat.results.report import CounterRow
from convstat.targets import zoo

SAMPLE = ("alexnet", "mobilenet_v2", "regnet_y_400mf", "inception_v3", "vit_b_32")
"""One net of each way to be built, for every run of the tests."""

_OTHER_TASKS = "rcnn retinanet fcos ssd deeplab fcn_ lraspp raft quantized r3d_18 mc3_ r2plus1d s3d mvit swin3d"


def classifiers() -> list[str]:
    """Their names, from the list that ships."""
    return [name for name in zoo.names("torchvision") if not re.search("|".join(_OTHER_TASKS.split()), name)]


def each() -> list[Any]:
    """Their names as parameters of a test: a sample in every run, the others where it is verified."""
    return [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.verify) for name in classifiers()]


def answered_or_foreseen(row: CounterRow) -> None:
    """Nothing is unexplained and every cause has a name; or it failed, and that was predicted."""
    if row.status == "failed":
        assert row.is_foreseen, row.error
        return
    assert "ok" == row.status, row.error
    assert row.is_reconciled
    assert UNATTRIBUTED not in {cause.code for cause in row.causes}
    for figure in ("params", "macs"):
        left, difference = getattr(row.unexplained, figure), getattr(row.difference, figure)
        if getattr(row.reported, figure) is None:
            # The tool has no such figure.
            assert (None, None) == (left, difference)
        else:
            assert 0 == left
            assert difference == sum(getattr(cause, figure) for cause in row.causes)
