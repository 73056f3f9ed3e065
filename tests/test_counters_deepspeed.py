"""DeepSpeed's flops profiler and calflops, which share most rules: real ones, where installed, and kept answers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy
import pytest
import torch
from counted import analyze
from hypothesis import given, settings
from hypothesis import strategies as st
from live import installed
from probe_pool import PROBES, Calls, is_a
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convstat.counters import COUNTERS, Prediction
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.deepspeed import load as deepspeed_load
from convstat.counters.deepspeed import rules as deepspeed_rules
from convstat.counters.deepspeed.adapter import convention
from convstat.counters.einsum import printed_flops
from convstat.counters.measure import predict
from convstat.patches.functions import PATCHED
from convstat.targets import zoo
from convstat.trace import ListInfo, TensorInfo
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")

COLUMNS = {"calflops": "calflops", "deepspeed": "ds0198"}
RULES = {"calflops": deepspeed_rules.CALFLOPS, "deepspeed": deepspeed_rules.DEEPSPEED}
IMAGE = (1, 8, 10, 10)


@pytest.fixture(params=COLUMNS, scope="module")
def peer(request: pytest.FixtureRequest) -> str:
    """The name of one of the two, if it is installed."""
    return installed(request.param)


def predicted(name: str, model: nn.Module, *inputs: Any) -> Prediction:
    """What is predicted of a counter, from a trace on the device of the inputs."""
    return predict(COUNTERS[name], model, inputs, record(model, inputs))


def flops(prediction: Prediction) -> int:
    """The FLOPs of a prediction."""
    assert prediction.native is not None
    return prediction.native["flops"]


SAMPLE = ("resnet18", "vit_b_32", "swin_t", "googlenet", "shufflenet_v2_x0_5")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.verify) for name in zoo.names("torchvision")],
)
def test_every_net_of_torchvision_is_explained(name: str, peer: str, torchvision: ModuleType) -> None:
    """Parameters and MACs to the unit; calflops moves its inputs itself, and fails on lists of pictures."""
    (row,) = analyze(f"torchvision/{name}", counters=peer).counters
    if peer == "calflops" and row.status == "failed":
        assert row.error is not None
        assert (True, True) == (row.is_foreseen, "'list' object has no attribute 'to'" in row.error)
        return
    assert ("ok", 0, 0) == (row.status, row.unexplained.params, row.unexplained.macs)
    assert UNATTRIBUTED not in {cause.code for cause in row.causes}


def _replaced(name: str) -> dict[str, Callable[..., Any]]:
    """Which functions the installed tool replaces, and by which of its own each is priced."""
    found: dict[str, Callable[..., Any]] = {}
    functions = {
        id(getattr(owner, attribute)): f"{where}.{attribute}"
        for where, (owner, attributes) in PATCHED.items()
        for attribute in attributes
    }

    def note(function: Any, rule: Callable[..., Any], *_: Any) -> Any:
        if id(function) in functions:
            found[functions[id(function)]] = rule
        return function

    owner, arguments = (
        (deepspeed_load.deepspeed(), ()) if name == "deepspeed" else (deepspeed_load.calflops()[2], ({}, [], []))
    )
    before = vars(owner)["wrapFunc"]
    try:
        owner.wrapFunc = note  # type: ignore[attr-defined]
        owner._patch_functionals(*arguments)
        owner._patch_tensor_methods(*arguments)
    finally:
        owner.wrapFunc = before  # type: ignore[attr-defined]
    return found


def test_the_functions_that_have_rules_are_those_that_the_tool_replaces(peer: str) -> None:
    """All of them, no others, and each is called in the ways in which the tool's own rule can be called."""
    functions = _replaced(peer)
    assert set(functions) == set(RULES[peer])
    for name, function in functions.items():
        theirs, ours = (
            [(p.name, p.kind, p.default) for p in inspect.signature(rule).parameters.values()]
            for rule in (function, RULES[peer][name])
        )
        assert theirs == ours, name


def _both(peer: str, name: str, *args: Any, **kwargs: Any) -> tuple[object, object]:
    """What the tool's rule and ours give for a call, or the kind of error that they raise."""

    def real(value: Any) -> Any:
        if isinstance(value, ListInfo):
            return list(value.items)
        return torch.empty(value.shape, device="meta") if isinstance(value, TensorInfo) else value

    def result(rule: Callable[..., Any], args: Any, kwargs: Any) -> object:
        try:
            return rule(*args, **kwargs)
        except Exception as error:
            return type(error)

    theirs = _replaced(peer)[name], [real(v) for v in args], {key: real(v) for key, v in kwargs.items()}
    return result(*theirs), result(RULES[peer][name], args, kwargs)


numbers = st.integers(1, 3)
each = st.one_of(numbers, st.tuples(numbers, numbers), st.builds(lambda a: ListInfo((a, a)), numbers))
sizes = st.integers(1, 6)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), groups=st.sampled_from([1, 2, 4]), has_bias=st.booleans())
def test_convolutions_are_priced_as_the_tool_does(peer: str, data: st.DataObject, groups: int, has_bias: bool) -> None:
    """Whatever the strides, paddings and dilations are, numbers, tuples, lists and words; errors included."""
    shape = (data.draw(numbers), 4, data.draw(sizes), data.draw(sizes))[data.draw(st.sampled_from([0, 0, 0, 1])) :]
    kernel = (data.draw(numbers), data.draw(numbers))
    transposed = data.draw(st.booleans())
    weight = (4, 8 // groups, *kernel) if transposed else (8, 4 // groups, *kernel)
    written = {"stride": data.draw(each), "dilation": data.draw(each), "groups": groups}
    if transposed:
        written |= {"padding": data.draw(each), "output_padding": data.draw(each)}
    else:
        written["padding"] = data.draw(st.one_of(each, st.sampled_from(["same", "valid"])))
    bias = TensorInfo((8,)) if has_bias else None
    name = f"torch.nn.functional.conv{'_transpose' if transposed else ''}2d"
    theirs, ours = _both(peer, name, TensorInfo(shape), TensorInfo(weight), bias, **written)
    assert theirs == ours


scales = st.sampled_from([1, 2, 1.5, 0.5, 3.0])


@settings(deadline=None, max_examples=200)
@given(
    shape=st.one_of(st.tuples(numbers, numbers, sizes), st.tuples(numbers, numbers, sizes, sizes)),
    size=st.one_of(st.none(), sizes, st.tuples(sizes, sizes), st.builds(lambda a: ListInfo((a, a)), sizes)),
    scale=st.one_of(st.none(), scales, st.tuples(scales, scales), st.builds(lambda a: ListInfo((a, a)), scales)),
    by_name=st.booleans(),
)
def test_interpolations_are_priced_as_the_tool_does(
    peer: str, shape: tuple[int, ...], size: Any, scale: Any, by_name: bool
) -> None:
    """To a size, by a scale, by neither; errors included."""
    name, source = "torch.nn.functional.interpolate", TensorInfo(shape)
    if by_name:
        theirs, ours = _both(peer, name, source, size=size, scale_factor=scale)
    else:
        theirs, ours = _both(peer, name, source, size, scale)
    assert theirs == ours


@settings(deadline=None, max_examples=200)
@given(first=st.lists(sizes, max_size=3), second=st.lists(sizes, max_size=3), data=st.data())
def test_products_and_sums_are_priced_as_the_tool_does(
    peer: str, first: list[int], second: list[int], data: st.DataObject
) -> None:
    """Of tensors of any shapes that go together, and of numbers."""
    try:
        torch.broadcast_shapes(first, second)
    except RuntimeError:
        second = first
    values = [data.draw(st.sampled_from([TensorInfo(tuple(shape)), 2.0])) for shape in (first, second)]
    for name in ("torch.add", "torch.Tensor.mul"):
        theirs, ours = _both(peer, name, *values)
        assert theirs == ours
    tensors = TensorInfo(tuple(first)), TensorInfo(tuple(second))
    theirs, ours = _both(peer, "torch.matmul", *tensors)
    assert theirs == ours


@st.composite
def equations(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """An einsum that numpy understands, and the shapes of its operands."""
    letters = "abcde"
    size = {letter: draw(st.integers(1, 9)) for letter in letters}
    batch = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    terms, shapes = [], []
    for _ in range(draw(st.integers(1, 4))):
        term = draw(st.lists(st.sampled_from(letters), min_size=1, max_size=4, unique=True))
        shape = [1 if draw(st.integers(0, 5)) == 0 else size[letter] for letter in term]
        if draw(st.booleans()) and batch:
            cut = draw(st.integers(0, len(batch)))
            place = draw(st.integers(0, len(term)))
            shape[place:place] = batch[cut:]
            term[place:place] = ["..."]
        terms.append("".join(term))
        shapes.append(tuple(shape))
    equation = ", ".join(terms)
    if draw(st.booleans()):
        used = sorted({letter for term in terms for letter in term if letter != "."})
        dots = "..." if "..." in equation and draw(st.integers(0, 3)) else ""
        kept = "".join(letter for letter in used if draw(st.booleans()))
        if "..." in equation and not dots:
            kept = "..." + kept
        equation += f"->{dots}{kept}"
    return equation, shapes


@settings(deadline=None, max_examples=300)
@given(written=equations())
def test_an_einsum_costs_what_numpy_prints(written: tuple[str, list[tuple[int, ...]]]) -> None:
    """With dots and without, with results that are written and that are not, of up to four terms."""
    equation, shapes = written
    arrays = [numpy.zeros(shape) for shape in shapes]
    printed = numpy.einsum_path(equation.replace(" ", ""), *arrays, optimize="optimal")[1]
    (line,) = (line for line in printed.split("\n") if "Optimized FLOP" in line)
    assert int(float(line.split(":")[-1])) == printed_flops(equation, shapes)


def test_an_einsum_that_numpy_refuses_fails() -> None:
    """Sizes that contradict each other, terms that do not fit, and more letters than the alphabet has."""
    with pytest.raises(ValueError, match="Size of label"):
        printed_flops("ij,jk->ik", [(2, 3), (4, 5)])
    with pytest.raises(ValueError, match="number of operands"):
        printed_flops("ij,jk->ik", [(2, 3)])
    with pytest.raises(ValueError, match="not a valid symbol"):
        printed_flops("".join(map(chr, (*range(97, 123), 65))), [(1,) * 27])


def test_versions_before_the_mending_count_in_the_old_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 0.19.7 on, transposed convolutions, broadcasting and modules of two parents are right."""
    old, new = convention("0.19.6"), convention("0.19.7")
    assert (True, False) == (old.every_way, new.every_way)
    assert convention("0.20.1+cpu") == convention("0.19.8") == convention(None) == new
    depthwise = is_a(nn.ConvTranspose2d(8, 8, 3, groups=8, bias=False))
    shared, shapes = PROBES["shared by two parents"]
    added = Calls(lambda model, a, b: torch.mul(a, b))
    asked = {"0.19.6": [0, 4 * 10 * 10 * 8 * 8 * 9, 8 * 8 * 10 * 10], "0.19.8": [7200, 2 * 10 * 10 * 8 * 8 * 9, 800]}
    for version, (depth, macs, elements) in asked.items():
        monkeypatch.setattr(type(COUNTERS["deepspeed"]), "version", lambda self, known=version: known)
        assert depth == predicted("deepspeed", depthwise, torch.rand(IMAGE)).macs
        assert macs == predicted("deepspeed", shared(), *(torch.rand(shape) for shape in shapes)).macs
        assert elements == flops(predicted("deepspeed", added, torch.rand(IMAGE), torch.rand(8, 1, 1)))


def test_recurrent_layers_cost_flops_and_no_macs() -> None:
    """Two products without their first additions, ten operations a unit, two biases; and the cause has a name."""
    layer = nn.LSTM(8, 12, batch_first=True)
    prediction = predicted("deepspeed", is_a(layer), torch.rand(2, 5, 8))
    step = 2 * 48 * 8 - 48 + 2 * 48 * 12 - 48 + 10 * 12 + 2 * 48
    assert (2 * 5 * step, 0) == (flops(prediction), prediction.macs)
    report = analyze("LSTM(8, 12)", inputs=["5x8"], counters="none")
    assert report.totals.macs == 5 * 48 * (8 + 12)
    (missed,) = (term for term in prediction.terms if term.code == "rnn_no_macs")
    assert -2 * 5 * 48 * (8 + 12) == missed.macs


def test_products_are_named_by_whom_they_are_missed() -> None:
    """DeepSpeed's profiler sees attention, and calflops does not: it replaces fewer functions."""
    model = Calls(lambda model, q: F.scaled_dot_product_attention(model.m0(q), q, q), nn.Linear(8, 8))
    answers = {name: predicted(name, model, torch.rand(2, 4, 7, 8)) for name in COLUMNS}
    linear, attention = 2 * 4 * 7 * 8 * 8, 2 * 4 * 7 * 7 * (8 + 8)
    assert (linear, linear + attention) == (answers["calflops"].macs, answers["deepspeed"].macs)
    codes = {name: {term.code: term.macs for term in answer.terms if term.macs} for name, answer in answers.items()}
    # The linear layer has a path, and what is seen there is its own.
    assert -attention == codes["calflops"].pop("unpatched")
    assert {None} == set(codes["calflops"]) == set(codes["deepspeed"])


WHOLE = """
import sys, torch
sys.modules.setdefault("torch", torch)
from deepspeed.profiling.flops_profiler import get_model_profile
model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
print(*get_model_profile(model, args=[torch.zeros(2, 3, 8, 8)], print_profile=False, as_string=False))
"""


def test_the_profiler_alone_counts_as_in_its_package() -> None:
    """The rest of DeepSpeed changes nothing."""
    installed("deepspeed")
    for needed in ("hjson", "einops", "msgpack", "cpuinfo"):
        pytest.importorskip(needed)
    done = subprocess.run([sys.executable, "-c", WHOLE], capture_output=True, text=True, check=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    reported = COUNTERS["deepspeed"].run(model, (torch.zeros(2, 3, 8, 8),))
    assert reported.native is not None
    assert [reported.native["flops"], reported.macs, reported.params] == [int(n) for n in done.stdout.split()[-3:]]


def test_a_wrong_rule_is_seen(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Linear that costs seven is contradicted by the real tool."""
    table = {"deepspeed": "DEEPSPEED", "calflops": "CALFLOPS"}[peer]
    wrong = {**RULES[peer], "torch.nn.functional.linear": lambda *_: (14, 7)}
    monkeypatch.setattr(deepspeed_rules, table, wrong)
    row = analyze("Linear(8, 16)", inputs=["8"], counters=peer).counters[0]
    assert 8 * 16 - 7 == row.unexplained.macs
