"""Functions that somebody gave a rule: counters that look inside of them, and those that do not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import nn

import convstat
from convstat.count.ops import register_function
from convstat.counters import COUNTERS
from convstat.formulas.cost import Cost
from convstat.trace import FunctionCall, TensorInfo

INSIDE = 5 * 8 * 8
"""What the function multiplies with torch's operators."""


class Net(nn.Module):
    """A layer, and a function of a library behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc(x)
        return sys.modules["fastlib"].mix(x)  # type: ignore[no-any-return]


def _cost(call: FunctionCall) -> Cost:
    (source,) = call.args
    assert isinstance(source, TensorInfo)
    return Cost(1000 * source.numel, {})


@pytest.fixture
def library() -> Iterator[None]:
    """A library whose function multiplies with torch's operators, and has a rule that says something else."""
    module = ModuleType("fastlib")
    module.mix = lambda x: torch.mm(x, torch.ones(8, 8, device=x.device))  # type: ignore[attr-defined]
    sys.modules["fastlib"] = module
    unregister = register_function("fastlib.mix", _cost)
    yield
    unregister()
    del sys.modules["fastlib"]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["ptflops", "ptflops-aten", "flopcountermode", "torchinfo", "ultralytics-thop"])
def test_a_function_with_a_rule_is_told_from_what_is_inside_of_it(name: str) -> None:
    """convstat counts the rule; who sees the operators inside counts these, and both amounts are named."""
    if COUNTERS[name].version() is None:
        pytest.skip(f"{name} is not installed")
    report = convstat.analyze(Net(), torch.rand(5, 8), counters=name)
    assert 5 * 8 * 8 + 1000 * 5 * 8 == report.totals.macs
    (row,) = report.counters
    assert row.is_explained, row
    amounts = {cause.code: cause.macs for cause in row.causes}
    assert -1000 * 5 * 8 == amounts["functional_unseen"]
    if name in ("ptflops", "ptflops-aten", "flopcountermode"):
        assert INSIDE == amounts["inside_ruled"]
