"""Counters of modules: every unit of a difference has a cause whose amount was computed, on every probe."""

from __future__ import annotations

import pytest
import torch
from live import to_meta
from measured_probes import MEASURED, example
from probe_pool import MORE, PROBES
from torch import nn

from convstat import tally
from convstat.counters import COUNTERS, Prediction
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.measure import predict
from convstat.reconcile import foreseen
from convstat.report import CounterRow
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")

MODULE_COUNTERS = ("torchinfo", "ultralytics-thop", "thop", "torchscan", "torchstat", "torchsummary")
POOL = {**PROBES, **MORE}


def line_up(name: str, model: nn.Module, *inputs: torch.Tensor) -> tuple[Prediction, CounterRow]:
    """Predict a counter, and line it up with what convstat counts on the same trace."""
    trace = record(model, inputs)
    report = tally.count(trace, name="model", source="model", inputs=())
    prediction = predict(COUNTERS[name], model, inputs, trace)
    return prediction, foreseen(report.layers, prediction, status="predicted", name=name)


def understood(name: str, model: nn.Module, *inputs: torch.Tensor) -> dict[str, tuple[int, int]]:
    """The causes, as (params, MACs), none of which is unattributed; a failure that is foreseen has none."""
    prediction, row = line_up(name, model, *inputs)
    if prediction.failure is not None:
        return {}
    causes = {cause.code: (cause.params, cause.macs) for cause in row.causes}
    assert UNATTRIBUTED not in causes, (name, row.causes)
    assert row.difference.params == sum(params for params, _ in causes.values())
    assert row.difference.macs in (None, sum(macs for _, macs in causes.values()))
    return causes


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", MODULE_COUNTERS)
@pytest.mark.parametrize("probe", POOL)
def test_nothing_is_unattributed_on_the_probes(probe: str, name: str, device: str) -> None:
    """Layer by layer: what the counter prices is what the layer multiplies, and the rest has a name."""
    make, shapes = POOL[probe]
    torch.manual_seed(0)
    model = make() if device == "cpu" else to_meta(make())
    understood(name, model, *(torch.rand(shape, device=device) for shape in shapes))


@pytest.mark.parametrize("name", MODULE_COUNTERS)
@pytest.mark.parametrize("probe", MEASURED)
def test_nothing_is_unattributed_on_what_was_measured(probe: str, name: str) -> None:
    """The probes that every peer was measured on once."""
    model, inputs = example(probe)
    understood(name, model, *inputs)
