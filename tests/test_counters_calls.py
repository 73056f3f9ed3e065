"""Counters that price functions or operators: what they say of small models differs by named amounts only.

The amounts are computed from what ran; what convstat counts is not known to them, so where convstat were wrong, the
difference would have no name. That is tried too.
"""

from __future__ import annotations

from threading import Thread
from typing import Any

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from live import ask, installed
from probe_pool import Calls
from test_counters_deepspeed import equations
from torch import nn

from convstat.count import traces
from convstat.counters import COUNTERS, Prediction, products
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.einsum import contracted
from convstat.counters.measure import predict
from convstat.counters.reconcile import foreseen
from convstat.results.report import CounterRow, Report
from convstat.trace import Trace
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")


def counted(trace: Trace) -> Report:
    """What convstat counts."""
    return traces.count(trace, name="model", source="", inputs=())


def row_of(name: str, report: Report, prediction: Prediction) -> CounterRow:
    """How a counter is foreseen to differ from convstat."""
    return foreseen(report.layers, prediction, status="predicted", name=name)


def check(name: str, model: nn.Module, inputs: tuple[Any, ...], trace: Trace) -> None:
    """All of the difference has names."""
    prediction = predict(COUNTERS[name], model, inputs, trace)
    if prediction.failure is None:
        row = row_of(name, counted(trace), prediction)
        assert UNATTRIBUTED not in {cause.code for cause in row.causes}, row.causes
        assert (row.difference.macs or 0) == sum(cause.macs for cause in row.causes)


def amounts(prediction: Prediction) -> dict[tuple[str, str | None], int]:
    """The MACs by layer and cause."""
    return {(term.layer, term.code): term.macs for term in prediction.terms if term.macs}


@torch.library.custom_op("convstat_tests::project", mutates_args=())
def project(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """An operator that is written in Python."""
    return (x @ weight) * 1


@project.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


@torch.library.custom_op("convstat_tests::gated", mutates_args=())
def gated(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """An operator that is written in Python, of functions that peers patch."""
    return torch.matmul(torch.nn.functional.relu(x), weight)


@gated.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


def test_ptflops_looks_inside_a_custom_operator() -> None:
    """3 rows of 8 x 5 and the activation before them; on meta, something else is called."""
    model, inputs = Calls(lambda m, x: gated(m.m0(x), m.w), nn.Linear(8, 8, bias=False), w=(8, 5)), (torch.rand(3, 8),)
    trace = record(model, inputs)
    assert "convstat_tests.gated" in str(COUNTERS["ptflops"].why_not_meta(trace))
    answer = ask(model, *inputs, only=("ptflops",))["ptflops"]
    answer.check("ptflops")
    assert answer.prediction.macs == 8 * 8 + 3 * 8 * 5 + 3 * 8
    assert sum(term.macs for term in answer.prediction.terms if term.code == "inside_operator") == 3 * 8 * 5


def test_deepspeed_looks_inside_a_custom_operator() -> None:
    """It replaces what the operator calls, and calflops does not replace that; on meta, something else is called."""
    model, inputs = Calls(lambda m, x: project(m.m0(x), m.w), nn.Linear(8, 8), w=(8, 5)), (torch.rand(3, 8),)
    linear, inside = 3 * 8 * 8, 3 * 8 * 5
    trace = record(model, inputs)
    assert "convstat_tests.project" in str(COUNTERS["deepspeed"].why_not_meta(trace))
    of = {name: amounts(predict(COUNTERS[name], model, inputs, trace)) for name in ("deepspeed", "calflops")}
    assert {("m0", None): linear, ("", "inside_operator"): inside} == of["deepspeed"]
    assert {("m0", None): linear} == of["calflops"]
    for name in of:
        ask(model, *inputs, only=(installed(name),))[name].check(name)


def test_what_is_forked_is_a_graph_of_its_own() -> None:
    """Of three layers one is seen; one that is forked and waited for in vain is dead."""

    def forward(model: Calls, x: torch.Tensor) -> torch.Tensor:
        first, second = (torch.jit.fork(layer, x) for layer in (model.m0, model.m1))
        torch.jit.wait(second)
        return model.m2(torch.jit.wait(first))  # type: ignore[no-any-return]

    model, inputs = Calls(forward, *(nn.Linear(8, 8) for _ in range(3))), (torch.rand(4, 8),)
    trace, each = record(model, inputs), 4 * 8 * 8
    for name in ("fvcore", "torchprofile"):
        prediction = predict(COUNTERS[name], model, inputs, trace)
        assert each == prediction.macs
        own = {(f"m{place}", None): each for place in range(3)}
        assert own | {("m0", "inside_function"): -each, ("m1", "dead_code"): -each} == amounts(prediction)
        ask(model, *inputs, only=(installed(name),))[name].check(name)


def test_a_model_that_takes_another_way_where_it_is_traced() -> None:
    """The run that is priced and the one that convstat counts multiply otherwise, and that is the cause."""
    model = Calls(lambda m, x: m.m0(m.m1(x) if torch.jit.is_tracing() else x), nn.Linear(8, 8), nn.Linear(8, 8))
    inputs = (torch.rand(4, 8),)
    trace, each = record(model, inputs), 4 * 8 * 8
    for name in ("fvcore", "torchprofile"):
        prediction = predict(COUNTERS[name], model, inputs, trace)
        assert {("m0", None): each, ("m1", "other_when_traced"): each} == amounts(prediction)
        ask(model, *inputs, only=(installed(name),))[name].check(name)


def test_other_threads_are_not_part_of_the_graph() -> None:
    """What they give is a constant in it, where no gradient goes through."""

    def forward(model: Calls, x: torch.Tensor) -> torch.Tensor:
        found: list[torch.Tensor] = []
        thread = Thread(target=lambda: found.append(model.m0(x).detach()))
        thread.start()
        thread.join()
        return model.m1(x + found[0])  # type: ignore[no-any-return]

    model, inputs = Calls(forward, nn.Linear(8, 8), nn.Linear(8, 8)), (torch.rand(4, 8),)
    trace, each = record(model, inputs), 4 * 8 * 8
    for name in ("fvcore", "torchprofile"):
        prediction = predict(COUNTERS[name], model, inputs, trace)
        assert {("m0", None): each, ("m0", "other_threads"): -each, ("m1", None): each} == amounts(prediction)
        ask(model, *inputs, only=(installed(name),))[name].check(name)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_an_einsum_multiplies_what_its_kernels_do(data: st.DataObject) -> None:
    """Of up to four operands, with dots, with sizes of one that are stretched, in any order of contraction."""
    equation, shapes = data.draw(equations())
    operands = [torch.zeros(shape, device="meta") for shape in shapes]
    path: list[int] = []
    if len(shapes) > 2 and data.draw(st.booleans()):
        for left in range(len(shapes), 1, -1):
            path += data.draw(st.permutations(range(left)))[:2]
    model = Calls(lambda _, *inputs: torch._VF.einsum(equation, inputs, path=path or None))  # type: ignore[attr-defined]
    try:
        model.function(model, *operands)
    except RuntimeError:
        reject()
    model.forward = lambda *inputs: model.function(model, *inputs)  # type: ignore[method-assign]
    ran = sum(products.products(call) for call, _ in record(model, tuple(operands)).kernels())
    assert ran == contracted(equation, shapes, path)
