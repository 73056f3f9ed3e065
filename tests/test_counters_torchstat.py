"""torchstat: what it said of every probe, what its rules are, and the real one, which runs without its pandas."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from counted import analyze
from live import Answer, ask, installed
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convstat.api import analyze as analyze_module
from convstat.counters import COUNTERS, CounterFailure, Prediction
from convstat.counters.measure import predict as predict_from
from convstat.counters.torchstat import walk as torchstat_walk
from convstat.counters.torchstat.rules import FLOPS
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")

IMAGE = (1, 8, 10, 10)

SPOILED = {"subclass_conv", "param_weight_norm"}
"""They were measured in a process in which torchstat had left its ``__call__`` on Conv2d, and so they failed."""


def predict(model: nn.Module, *inputs: torch.Tensor) -> Prediction:
    """Predict it, whether it is installed or not."""
    return predict_from(COUNTERS["torchstat"], model, inputs, record(model, inputs))


def live(model: nn.Module, *inputs: torch.Tensor) -> Answer:
    """Ask the real one as well, and compare."""
    answer = ask(model, *inputs, only=(installed("torchstat"),))["torchstat"]
    answer.check("torchstat")
    return answer


def amounts(prediction: Prediction) -> dict[str | None, int]:
    """The MACs by cause."""
    found: dict[str | None, int] = {}
    for term in prediction.terms:
        if term.macs:
            found[term.code] = found.get(term.code, 0) + term.macs
    return found


class _Wider(nn.Conv2d):
    """A class that is made of another layer's."""


class _Twice(nn.Module):
    """Calls a layer on images of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.max_pool2d(self.norm(self.conv(x)), 2))


def test_only_the_last_call_of_a_layer_counts() -> None:
    """The first one is on an image of four times the size, and is lost."""
    prediction = predict(_Twice(), torch.rand(IMAGE))
    first, last = 10 * 10 * 8 * 8 * 9, 5 * 5 * 8 * 8 * 9
    assert {None: first + last, "last_call": -first, "norm": 2 * 8 * 10 * 10} == amounts(prediction)
    live(_Twice(), torch.rand(IMAGE))


def test_the_batch_is_always_one() -> None:
    """Three samples cost three times as much, and it says one."""
    prediction = predict(nn.Conv2d(8, 4, 1, bias=False), torch.rand(3, 8, 10, 10))
    assert {None: 3 * 4 * 10 * 10 * 8, "one_sample": -2 * 4 * 10 * 10 * 8} == amounts(prediction)
    assert {"Flops": 4 * 10 * 10 * 8, "MAdd": 4 * 10 * 10 * (2 * 8 - 1)} == prediction.native
    live(_Twice(), torch.rand(3, 8, 10, 10))


class _Folds(nn.Module):
    """Puts the batch where no size is a multiple of it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x[:, :, 0, 0].sum(0, keepdim=True))


def test_a_batch_that_is_gone_is_looked_for_with_a_batch_of_one() -> None:
    """One row whatever the batch: the trace with three samples does not say what one would give."""
    assert torchstat_walk.depends_on_batch(record(_Folds(), (torch.rand(3, 8, 10, 10),)))
    assert 8 * 4 == live(_Folds(), torch.rand(3, 8, 10, 10)).prediction.macs


def test_upsampling_is_priced_without_its_channels() -> None:
    """400 of 3200 elements."""
    prediction = predict(nn.Upsample(scale_factor=2), torch.rand(IMAGE))
    assert {"upsample": 8 * 20 * 20, "upsample_one_channel": -7 * 20 * 20} == amounts(prediction)


class _Holds(nn.Module):
    """Holds some modules and calls them one after the other."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            x = part(x)
        return x * self.scale


class _Block(nn.Sequential):
    """A class that is made of Sequential."""


class _Keyword(nn.Module):
    """Calls a layer by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(input=x)


class _Named(nn.ReLU):
    """Has an attribute of a name that torchstat wants."""

    duration = 3

    def __init__(self) -> None:
        super().__init__()
        self.duration = 4


def _conv() -> nn.Conv2d:
    return nn.Conv2d(8, 8, 1)


CRASHES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a class after the one that it is made of": (lambda: _Holds(_conv(), _Wider(8, 8, 1)), "RecursionError"),
    "a class that holds others, made of one that holds none": (
        lambda: _Holds(nn.Sequential(), _Block(_conv())),
        "AssertionError",
    ),
    "parametrized beside a plain one": (
        lambda: _Holds(_conv(), nn.utils.parametrizations.weight_norm(_conv())),
        "AssertionError",
    ),
    "called by keyword": (_Keyword, "IndexError"),
    "two outputs": (lambda: _Holds(nn.MaxPool2d(2, return_indices=True)), "AttributeError"),
    "a linear layer on an image": (lambda: nn.Sequential(nn.Linear(10, 4)), "AssertionError"),
    "a name that is taken": (lambda: _Holds(_Named()), "KeyError"),
    "weights of double precision": (lambda: _conv().double(), "RuntimeError"),
}


@pytest.mark.parametrize("what", CRASHES)
def test_its_crashes_are_foreseen(what: str) -> None:
    """The prediction names the error that the real one raises."""
    make, error = CRASHES[what]
    dtype = torch.float64 if "double" in what else torch.float32
    image = torch.rand(IMAGE, dtype=dtype)
    failure = predict(make(), image).failure if what != "two outputs" else "AttributeError"
    assert str(failure).startswith(error)
    if COUNTERS["torchstat"].version() is not None:
        with pytest.raises(CounterFailure, match=error):
            COUNTERS["torchstat"].run(make(), (image,))


def test_the_reason_of_a_crash_is_in_words() -> None:
    """Its assertions say nothing; where they stand does."""
    installed("torchstat")
    said = {
        "a linear layer on an image": "it supports linear layers on two dimensions only (AssertionError in compute_L",
        "a class after the one that it is made of": "the class of a layer is derived from that of an earlier layer",
        "parametrized beside a plain one": "the class of a module is derived from that of an innermost layer",
        "called by keyword": "it reads the first positional input of each layer",
    }
    for what, words in said.items():
        with pytest.raises(CounterFailure) as caught:
            COUNTERS["torchstat"].run(CRASHES[what][0](), (torch.rand(IMAGE),))
        assert caught.value.reason.startswith(words)


class _Attends(nn.Module):
    """A transformer layer on the pixels of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.conv(x).flatten(2).mT)


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_attention_runs_in_one_kernel_because_nothing_is_hooked(frozen: bool) -> None:
    """Then no linear layer is called, and nothing fails; a hook, as the usual trace has, would change that."""
    model = _Attends()
    model.requires_grad_(not frozen)
    answer = live(model.eval(), torch.rand(IMAGE))
    assert frozen == (answer.reported is not None)


SOUND: dict[str, Callable[[], nn.Module]] = {
    "a class before the one that it is made of": lambda: _Holds(_Wider(8, 8, 1), _conv()),
    "an empty Sequential among others": lambda: _Holds(nn.Sequential(), nn.Sequential(_conv())),
    "a parametrized layer alone": lambda: _Holds(nn.utils.parametrizations.weight_norm(_conv())),
    "parameters of a module that holds others": lambda: _Holds(nn.BatchNorm2d(8)),
    "tied weights": lambda: _tied(),
    "a layer that is never called": lambda: _Idle(),
}


def _tied() -> nn.Module:
    first, second = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
    second.weight = first.weight
    return nn.Sequential(first, second)


class _Idle(nn.Module):
    """Has a layer too many."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.idle = _conv(), _conv()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


@pytest.mark.parametrize("what", SOUND)
def test_what_looks_like_a_crash_or_a_parameter_is_told_apart(what: str) -> None:
    """The same classes in another order, and parameters that its rows do not have, or have twice."""
    answer = live(SOUND[what](), torch.rand(IMAGE))
    assert answer.reported is not None
    assert answer.reported.params == answer.prediction.params


def test_parameters_are_those_of_rows() -> None:
    """A tied weight stands in two rows; that of an idle layer and that of a module that holds others in none."""
    by_code = {
        what: {term.code: term.params for term in predict(SOUND[what](), torch.rand(IMAGE)).terms if term.code}
        for what in ("tied weights", "a layer that is never called", "parameters of a module that holds others")
    }
    assert 8 * 8 == by_code["tied weights"]["tied_per_module"]
    assert -(8 * 8 + 8) == by_code["a layer that is never called"]["uncalled"]
    assert -8 == by_code["parameters of a module that holds others"]["outer_params"]


def test_numpy_without_its_long_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy.long went with 1.24 and came back with 2.0; what is predicted depends on the one that is installed."""
    image = torch.rand(IMAGE)
    for version, fails in {"1.23.5": False, "1.24.0": True, "1.26.4": True, "2.0.0": False, "2.4.6": False}.items():
        monkeypatch.setattr(torchstat_walk, "installed_version", lambda _, version=version: version)
        assert fails == (predict(_conv(), image).failure is not None)


def test_the_classes_of_layers_are_as_they_were() -> None:
    """torchstat leaves another ``__call__`` on them, for every model to come; and its stand-in for pandas goes too."""
    installed("torchstat")
    before = set(sys.modules)
    live(_Twice(), torch.rand(IMAGE))
    assert [] == [kind for kind in (nn.Conv2d, nn.BatchNorm2d) if "__call__" in vars(kind)]
    assert "torchstat" in before or "pandas" in sys.modules or "torchstat" not in sys.modules
    make, _ = CRASHES["a class after the one that it is made of"]
    with pytest.raises(CounterFailure, match="RecursionError"):
        COUNTERS["torchstat"].run(make(), (torch.rand(IMAGE),))
    assert [] == [kind for kind in (nn.Conv2d, _Wider) if "__call__" in vars(kind)]


def test_it_is_predicted_from_meta_as_it_answers_on_the_cpu() -> None:
    """Nothing is allocated for a prediction."""
    with torch.device("meta"):
        model = _Twice()
    prediction = predict(model, torch.rand(IMAGE, device="meta"))
    assert predict(_Twice(), torch.rand(IMAGE)).native == prediction.native
    assert COUNTERS["torchstat"].why_not_meta(record(model, (torch.rand(IMAGE, device="meta"),)))


def test_a_wrong_rule_of_torchstat_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Linear that costs seven is contradicted by the real tool."""
    installed("torchstat")
    wrong = {**FLOPS, "torch.nn.modules.conv.Conv2d": lambda info, source, output: [(None, 7)]}
    monkeypatch.setattr("convstat.counters.torchstat.rules.FLOPS", wrong)
    row = analyze("Conv2d(8, 4, 1, bias=False)", inputs=["8x5x5"], counters="torchstat").counters[0]
    assert 4 * 5 * 5 * 8 - 7 == row.unexplained.macs


class Batched(nn.Module):
    """Two layers, and a forward pass in which the batch does not stay where it is."""

    def __init__(self, forward: Callable[..., torch.Tensor], first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.do = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.do(self.first, self.second, x)


def conv(inputs: int = 4, outputs: int = 4, size: int = 3) -> nn.Conv2d:
    """A convolution that keeps the sizes of an image."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


BATCHED: dict[str, tuple[Callable[..., torch.Tensor], nn.Module, nn.Module]] = {
    "each sample on its own": (lambda a, b, x: torch.stack([b(a(one[None]))[0] for one in x]), conv(), conv()),
    "the first sample": (lambda a, b, x: b(a(x)[:1]), conv(), conv()),
    "the mean of the batch": (lambda a, b, x: b(a(x).mean(0, keepdim=True)), conv(), conv()),
    "twice the batch": (lambda a, b, x: b(torch.cat([a(x), x])), conv(), conv()),
    "batch and height": (lambda a, b, x: b(a(x).permute(2, 1, 0, 3)), conv(), conv(size=1)),
    "one long image": (lambda a, b, x: b(a(x).permute(1, 0, 2, 3).reshape(1, 4, -1, 6)), conv(), conv(size=1)),
    "rows of all samples": (lambda a, b, x: b(a(x).flatten(1).reshape(-1, 12)), conv(), nn.Linear(12, 5)),
    "a row for all": (lambda a, b, x: b(a(x).mean((0, 2, 3))[None]), conv(), nn.Linear(4, 5)),
    "a product over the batch": (
        lambda a, b, x: b(torch.matmul(a(x).flatten(1), a(x).flatten(1).T).sum()[None, None]),
        conv(),
        nn.Linear(1, 5),
    ),
    "patches as samples": (
        lambda a, b, x: b(F.unfold(a(x), 2, stride=2).permute(0, 2, 1).reshape(-1, 4, 2, 2)),
        conv(),
        conv(size=1),
    ),
    "as it should be": (lambda a, b, x: b(F.relu(a(x))), conv(), conv()),
}


@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_of_which_it_runs_one_sample_is_a_cause(name: str, batch: int) -> None:
    """Wherever the batch stands: all of the difference has a name, and none is left over or not understood."""
    model, x = Batched(*BATCHED[name]).eval(), torch.rand(batch, 4, 6, 6)
    live(model, x)
    report = analyze_module(model, x, counters="torchstat")
    (row,) = report.counters
    assert row.status == "ok", row.error
    assert row.unexplained is not None
    assert (0, 0) == (row.unexplained.macs, row.unexplained.params)
    codes = {cause.code: cause.macs for cause in row.causes}
    assert "unattributed" not in codes, codes
    assert row.difference is not None
    assert row.difference.macs == sum(codes.values())
