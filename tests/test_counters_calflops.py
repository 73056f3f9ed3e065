"""calflops, and where it and DeepSpeed's flops profiler fail or leave things behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest
import torch
from live import ask, installed
from probe_pool import PROBES, Calls, is_a
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convstat.counters import COUNTERS, CounterFailure, Prediction
from convstat.counters.deepspeed import load as deepspeed_load
from convstat.counters.inputs import Inputs
from convstat.counters.measure import predict
from convstat.patches.imports import given
from convstat.trace import Trace
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")

IMAGE = (1, 8, 10, 10)


@pytest.fixture(params=["calflops", "deepspeed"])
def peer(request: pytest.FixtureRequest) -> str:
    """The name of one of the two, if it is installed."""
    return installed(request.param)


def predicted(model: nn.Module, *shapes: tuple[int, ...]) -> Prediction:
    """What is predicted of calflops."""
    inputs = tuple(torch.rand(shape) for shape in shapes)
    return predict(COUNTERS["calflops"], model, inputs, record(model, inputs))


def test_a_transposed_convolution_is_divided_by_its_groups_twice() -> None:
    """Of 16 channels in four groups each weight has four, and calflops goes on with one; eight of eight make one."""
    macs = 10 * 10 * 8 * 3 * 3
    assert macs * 1 == predicted(is_a(nn.ConvTranspose2d(8, 16, 3, groups=4)), IMAGE).macs
    assert macs * 16 == predicted(is_a(nn.ConvTranspose2d(8, 16, 3)), IMAGE).macs
    depthwise = predicted(is_a(nn.ConvTranspose2d(8, 8, 3, groups=8)), IMAGE)
    (term,) = (term for term in depthwise.terms if term.code)
    assert (0, "m0", "transposed_groups", -10 * 10 * 8 * 3 * 3) == (depthwise.macs, term.layer, term.code, term.macs)


def test_a_module_of_two_parents_counts_twice() -> None:
    """The second time has a name, and parameters are counted once."""
    make, shapes = PROBES["shared by two parents"]
    prediction = predicted(make(), *shapes)
    macs = 2 * 10 * 10 * 8 * 8 * 3 * 3
    assert (2 * macs, 8 * 8 * 3 * 3 + 8) == (prediction.macs, prediction.params)
    assert [macs] == [term.macs for term in prediction.terms if term.code == "shared_parents"]


def test_frozen_parameters_are_none() -> None:
    """They are what its sentence on parameters leaves out."""
    make, shapes = PROBES["partly frozen"]
    prediction = predicted(make(), *shapes)
    assert [-16 * 8 * 3 * 3] == [term.params for term in prediction.terms if term.code == "trainable_only"]
    assert 16 + 16 + 16 == prediction.params


def test_scale_factors_that_differ_work_where_the_batch_is_as_long_as_they_are() -> None:
    """The batch is taken for the dimensions; a single factor changes nothing in what is counted."""
    upsample = Calls(lambda model, x: F.interpolate(x, scale_factor=(2.0, 1.5)) * model.w, w=(1,))
    assert "TypeError" in str(predicted(upsample, IMAGE).failure)
    assert {"flops": 2 * 8 * 10 * 10} == predicted(upsample, (2, 8, 10, 10)).native
    single = Calls(lambda model, x: F.interpolate(x, scale_factor=3) * model.w, w=(1,))
    assert {"flops": 8 * 10 * 10} == predicted(single, IMAGE).native


def test_what_cannot_be_moved_to_a_device_is_foreseen() -> None:
    """It moves every input by position, or every one by name where there are some of these."""
    installed("calflops")
    model = Calls(lambda model, x, how: model.m0(x) * (how or 1), nn.Linear(3, 4))
    tensor = torch.rand(2, 3)
    for inputs in (Inputs((tensor, 2.0)), Inputs((tensor, [1]))):
        assert "has no attribute 'to'" in str(predict(COUNTERS["calflops"], model, inputs, _any_trace()).failure)
        with pytest.raises(CounterFailure, match="has no attribute 'to'"):
            COUNTERS["calflops"].run(model, inputs)


def _any_trace() -> Trace:
    return record(nn.Linear(3, 4), (torch.rand(2, 3),))


def _by_name() -> nn.Module:
    return Calls(lambda model, a, b: torch.mm(a, mat2=b))


def _listed_strides() -> nn.Module:
    return Calls(lambda model, x: F.conv2d(x, model.w, stride=[2, 2]), w=(4, 8, 3, 3))


def _scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Conv2d(8, 4, 3)))  # type: ignore[no-any-return]


FAILURES: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...], str]] = {
    "an argument by another name": (_by_name, ((2, 3), (3, 4)), "TypeError"),
    "strides in a list": (_listed_strides, (IMAGE,), "TypeError"),
    "no batch": (lambda: is_a(nn.Conv2d(8, 4, 3)), ((8, 10, 10),), "AssertionError"),
    "a cell without batch": (lambda: is_a(nn.RNNCell(8, 4)), ((8,),), "IndexError"),
    "weight norm, old, of an LSTM": (
        lambda: is_a(nn.utils.weight_norm(nn.LSTM(8, 4), "weight_hh_l0")),
        ((5, 2, 8),),
        "AttributeError",
    ),
    "a packed sequence": (
        lambda: Calls(lambda m, x: m.m0(nn.utils.rnn.pack_padded_sequence(x, [5, 5]))[1], nn.GRU(8, 4)),
        ((5, 2, 8),),
        "AttributeError",
    ),
    "a scripted module": (_scripted, (IMAGE,), "RuntimeError"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_failures_are_foreseen(how: str, peer: str) -> None:
    """With the type of the error that the tool raises."""
    make, shapes, kind = FAILURES[how]
    (answer,) = ask(make(), *(torch.rand(shape) for shape in shapes), only=(peer,)).values()
    assert answer.failure is not None
    assert answer.prediction.failure is not None
    if not (peer == "calflops" and answer.failure.startswith("StopIteration")):
        assert kind == answer.failure.partition(":")[0] == answer.prediction.failure.partition(":")[0]


def test_a_model_without_shapes_as_yet_fails_in_calflops_alone() -> None:
    """It sums up parameters before it runs the model; DeepSpeed's profiler is given a run before."""
    model, inputs = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU()), (torch.rand(IMAGE),)
    assert "no shape yet" in str(predict(COUNTERS["calflops"], model, inputs, _any_trace()).failure)
    installed("calflops")
    with pytest.raises(CounterFailure, match="uninitialized parameter"):
        COUNTERS["calflops"].run(model, inputs)
    reported = COUNTERS[installed("deepspeed")].run(model, inputs)
    assert (8 * 8 * 4 * 8 * 3 * 3, 4 * 8 * 3 * 3 + 4) == (reported.macs, reported.params)


def test_nothing_of_the_tools_stays_imported(peer: str) -> None:
    """What they are loaded from is taken away, under whatever name."""
    before = set(sys.modules)
    COUNTERS[peer].run(nn.Linear(3, 4), (torch.rand(2, 3),))
    assert not {name for name in set(sys.modules) - before if "calflops" in name or "deepspeed" in name}


def test_what_a_tool_is_given_nobody_else_gets() -> None:
    """A module of its own is answered from the table, and all others import what there is."""
    tool, other = {"__name__": "tool.part"}, {"__name__": "tools"}
    with given("tool", {"json": {"dumps": 1}, "nowhere.at_all": {"value": 2}}):
        exec("from json import dumps\nfrom nowhere.at_all import value", tool)
        exec("from json import dumps", other)
        with pytest.raises(ModuleNotFoundError):
            exec("import nowhere.at_all", other)
    assert (1, 2, json.dumps) == (tool["dumps"], tool["value"], other["dumps"])
    assert "nowhere" not in sys.modules


def test_what_the_tool_collects_is_emptied_after_a_failure(peer: str) -> None:
    """Its lists are globals, and would grow."""
    with pytest.raises(CounterFailure):
        COUNTERS[peer].run(nn.Linear(3, 4), (torch.rand(2, 5),))
    state = deepspeed_load.deepspeed() if peer == "deepspeed" else deepspeed_load.calflops()[1]
    assert ([], [], {}) == (state.module_flop_count, state.module_mac_count, state.old_functions)
