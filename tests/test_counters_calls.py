"""Counters that price functions or operators: what they say of small models differs by named amounts only.

The amounts are computed from what ran; what convstat counts is not known to them, so where convstat were wrong, the
difference would have no name. That is tried too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from jit_probes import JIT
from live import to_meta
from measured_probes import MEASURED
from probe_pool import MORE, PROBES
from torch import nn

from convstat import tally
from convstat.counters import COUNTERS, Prediction
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.measure import predict
from convstat.reconcile import foreseen
from convstat.report import CounterRow, Report
from convstat.trace import Trace
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")

PEERS = ("calflops", "deepspeed", "fvcore", "torchprofile")
Probe = tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]
POOLS: dict[str, Mapping[str, Probe]] = {"probes": PROBES, "more": MORE, "measured": MEASURED, "jit": JIT}
MODELS = [(pool, name) for pool, probes in POOLS.items() for name in probes]


def made(pool: str, name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A model and its inputs."""
    torch.manual_seed(0)
    make, shapes = POOLS[pool][name]
    if (pool, name) == ("measured", "Embedding"):
        return make(), (torch.randint(0, 20, *shapes),)
    return make(), tuple(torch.rand(shape) for shape in shapes)


def counted(trace: Trace) -> Report:
    """What convstat counts."""
    return tally.count(trace, name="model", source="", inputs=())


def row_of(name: str, report: Report, prediction: Prediction) -> CounterRow:
    """How a counter is foreseen to differ from convstat."""
    return foreseen(report.layers, prediction, status="predicted", name=name)


def check(name: str, model: nn.Module, inputs: tuple[Any, ...], trace: Trace) -> None:
    """All of the difference has names."""
    report = counted(trace)
    prediction = predict(COUNTERS[name], model, inputs, trace)
    row = row_of(name, report, prediction)
    if prediction.failure is None and UNKNOWN.get(name) is None:
        assert UNATTRIBUTED not in {cause.code for cause in row.causes}, row.causes
        assert (row.difference.macs or 0) == sum(cause.macs for cause in row.causes)


UNKNOWN: dict[str, str] = {}


@pytest.mark.parametrize(("pool", "name"), MODELS)
def test_every_difference_has_names(pool: str, name: str) -> None:
    """On the CPU, where some kernels are fused."""
    model, inputs = made(pool, name)
    trace = record(model, inputs)
    for peer in PEERS:
        check(peer, model, inputs, trace)


@pytest.mark.parametrize(("pool", "name"), MODELS)
def test_every_difference_has_names_on_meta(pool: str, name: str) -> None:
    """There are other kernels."""
    model, inputs = made(pool, name)
    model, inputs = to_meta(model), tuple(tensor.to("meta") for tensor in inputs)
    try:
        trace = record(model, inputs)
    except (RuntimeError, NotImplementedError):
        pytest.skip("it needs values")
    for peer in PEERS:
        check(peer, model, inputs, trace)
