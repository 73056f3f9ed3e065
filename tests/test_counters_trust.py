"""No cause is a label: where convstat's own count is wrong, no counter comes out explained.

Each closed form, each rule for a kernel and each parameter count of ours is doubled in turn. All of them are found by
listing. That each coded term of each prediction is needed is tried on the small models.
"""

from __future__ import annotations

import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

import pytest
import torch
from chains import Chain, count, sample
from test_counters_products import CALLS

from convstat import formulas
from convstat.count import ops, traces
from convstat.counters import COUNTERS, Prediction, measure
from convstat.counters.causes import CAUSES, UNATTRIBUTED
from convstat.counters.jit.graph import JitTrace
from convstat.counters.measure import predict
from convstat.counters.reconcile import reconcile
from convstat.errors import InternalError
from convstat.formulas.cost import Cost
from convstat.graph import Graph
from convstat.layers import KINDS
from convstat.layers.base import Layer
from convstat.results.report import CounterRow, LayerRow, Report
from convstat.trace import KernelCall, ModuleCall, ModuleInfo, Trace
from convstat.trace.build import build, example_inputs
from convstat.trace.record import record

NAMES = tuple(COUNTERS)
WITH_MACS = tuple(name for name in NAMES if name != "torchsummary")


def row(layers: tuple[LayerRow, ...], prediction: Prediction) -> CounterRow:
    """The row of a counter that answers just what is predicted."""
    from convstat.counters import Reported

    reported = Reported(prediction.params, prediction.macs)
    return reconcile(layers, reported, replace(prediction, memory_mib=None), name="peer")


def closed_forms() -> Iterator[tuple[str, Callable[..., int]]]:
    """Every closed form of MACs that there is, by its name."""
    for info in pkgutil.iter_modules(formulas.__path__):
        module = import_module(f"convstat.formulas.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.endswith("_macs") and function.__module__ == module.__name__:
                yield name, function


FORMS = dict(closed_forms())


@contextmanager
def doubled(function: Callable[..., int]) -> Iterator[None]:
    """Let a closed form give twice as much, wherever it was imported to."""
    holders = [
        (module, name)
        for module in list(sys.modules.values())
        if module is not None and module.__name__.startswith("convstat.")
        for name, value in list(vars(module).items())
        if value is function
    ]

    def twice(*args: Any, **kwargs: Any) -> int:
        return 2 * function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for module, name in holders:
            patch.setattr(module, name, twice)
        yield


def graph_of(kind: str) -> Graph:
    """A net of one layer, as the pool of samples has it."""
    written, shapes = sample(kind)
    chain = Chain(*shapes, dtype="int64" if kind == "Embedding" else "float32")
    return chain.add(kind, "layer", sources=tuple(chain.shapes), **written).graph()


@cache
def foreseen(kind: str) -> dict[str, Prediction]:
    """What every counter says of the torch twin of a kind."""
    graph = graph_of(kind)
    model, inputs = build(graph, device="meta"), example_inputs(graph, device="meta")
    trace = record(model, inputs)
    return {name: predict(COUNTERS[name], model, inputs, trace) for name in NAMES}


def explained(report: Report, predictions: dict[str, Prediction], figure: str) -> list[str]:
    """The counters that have such a figure, and come out explained."""
    answers = {
        name: prediction
        for name, prediction in predictions.items()
        if prediction.failure is None and getattr(prediction, figure) is not None
    }
    assert answers, "nobody has an answer"
    return [name for name, prediction in answers.items() if row(report.layers, prediction).is_explained]


MULTIPLYING = tuple(kind for kind in KINDS if count(graph_of(kind)).totals.macs)


@pytest.mark.parametrize("kind", MULTIPLYING)
def test_every_counter_is_explained_on_a_layer_of_every_kind(kind: str) -> None:
    """As long as nothing is doubled."""
    predictions = foreseen(kind)
    answers = [name for name in NAMES if predictions[name].failure is None]
    assert answers == [name for name in answers if row(count(graph_of(kind)).layers, predictions[name]).is_explained]


@pytest.mark.parametrize("form", FORMS)
def test_no_counter_is_explained_where_a_closed_form_is_doubled(form: str) -> None:
    """On a layer of every kind that the form is for."""
    found = 0
    for kind in MULTIPLYING:
        right = count(graph_of(kind))
        with doubled(FORMS[form]):
            wrong = count(graph_of(kind))
        if wrong.totals.macs != right.totals.macs:
            found += 1
            assert [] == explained(wrong, foreseen(kind), "macs"), f"{kind} with {form} doubled"
    assert found, f"no layer uses {form}"


def test_every_kind_that_multiplies_does_so_by_a_closed_form() -> None:
    """So that the list above is whole."""
    right = {kind: count(graph_of(kind)).totals.macs for kind in MULTIPLYING}
    derived: set[str] = set()
    for function in FORMS.values():
        with doubled(function):
            derived |= {kind for kind in MULTIPLYING if count(graph_of(kind)).totals.macs != right[kind]}
    assert set(MULTIPLYING) == derived


@pytest.mark.parametrize("kind", [kind for kind in KINDS if count(graph_of(kind)).totals.params])
def test_no_counter_is_explained_where_parameters_are_doubled(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that has twice the parameters that it has."""
    predictions = foreseen(kind)
    params = Layer.params
    monkeypatch.setattr(Layer, "params", lambda layer: 2 * params(layer))
    assert [] == explained(count(graph_of(kind)), predictions, "params")


def _trace_of(call: KernelCall) -> Trace:
    """A pass in which one kernel runs, in the model itself."""
    root = ModuleInfo(0, ("",), "net.Net", (), (), {}, ())
    return JitTrace(ModuleCall(0, call.args[:1], children=(call,)), (root,), "cpu")


@pytest.mark.parametrize("op", CALLS)
def test_no_counter_is_explained_where_the_rule_of_a_kernel_is_doubled(
    op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace in which that kernel runs, whether a counter prices it or does not see it."""
    trace = _trace_of(CALLS[op][0])
    predictions = {name: COUNTERS[name].predict(trace) for name in WITH_MACS if name not in JIT}

    def report() -> Report:
        return traces.count(trace, name="net", source="net", inputs=())

    rule = ops.RULES[op]
    assert [] != explained(report(), predictions, "macs"), "a check that cannot fail"

    def twice(call: KernelCall) -> Cost:
        cost = rule(call)
        return Cost(2 * cost.macs, cost.other)

    monkeypatch.setitem(ops._RULES, op, twice)
    assert [] == explained(report(), predictions, "macs")


JIT = ("fvcore", "torchprofile")
"""Counters of operators, which are recorded in a run of their own."""


def _reported(params: int | None, macs: int | None) -> Any:
    from convstat.counters import Reported

    return Reported(params, macs)


def test_an_unattributed_part_is_no_explanation() -> None:
    """Its verdict says so, and a row that has one is not explained."""
    assert "unexplained" == CAUSES[UNATTRIBUTED][0]


class _Broken:
    """A counter of ours whose predictor has a fault."""

    name, variant, unit, help, counts, defects = "broken", "default", "MACs", "", "", ()

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run

    def version(self) -> str:
        """A version."""
        return "1"

    def run(self, model: object, inputs: object) -> Any:
        """Answer, or fail."""
        return self._run()

    def predict(self, trace: object) -> Prediction:
        """Have a fault."""
        return {}["a rule that is not there"]  # type: ignore[no-any-return]

    def why_not_meta(self, trace: object) -> None:
        """Run on meta."""

    def retrace(self, model: object, inputs: object, trace: Any) -> Any:
        """Take the trace that is there."""
        return trace


_Broken.__module__ = "convstat.counters.broken"


@pytest.mark.parametrize("alone", [False, True])
def test_a_fault_of_ours_is_not_the_peers(alone: bool) -> None:
    """Its answer stands, nothing of it is explained, and the row says who failed and where."""
    graph = graph_of("Linear")
    broken: Any = _Broken(lambda: _reported(40, 210))
    (found,) = measure(graph, count(graph), (broken,), predict=alone)
    said = "convstat cannot predict broken: KeyError: 'a rule that is not there' (test_counters_trust.py:"
    if alone:
        assert "failed" == found.status
        assert (found.error or "").startswith(said)
    else:
        assert ("ok", 40, 210, None) == (found.status, found.reported.params, found.reported.macs, found.error)
        assert (found.note or "").startswith(said)
    assert not found.is_explained
    assert not found.is_foreseen


def test_a_peer_that_fails_beside_a_fault_of_ours_fails_for_its_own_reason() -> None:
    """And it was not foreseen."""

    def fails() -> Any:
        raise ValueError("it broke")

    graph = graph_of("Linear")
    broken: Any = _Broken(fails)
    (found,) = measure(graph, count(graph), (broken,))
    assert ("failed", "ValueError: it broke", False) == (found.status, found.error, found.is_foreseen)


def test_a_missing_twin_is_our_fault_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No counter gets a row of it: there is nothing that could be asked."""

    def build(layer: Layer) -> torch.nn.Module:
        raise AttributeError("module 'torch.nn' has no attribute 'Linear'")

    graph = graph_of("Linear")
    report = count(graph)
    monkeypatch.setattr(type(graph.nodes[0].layer), "build", build)
    with pytest.raises(InternalError, match=r"convstat cannot build \S+ in torch: AttributeError: module 'torch.nn'"):
        measure(graph, report, (COUNTERS["ptflops"],))
