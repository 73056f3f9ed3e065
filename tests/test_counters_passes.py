"""Counters on passes that convstat follows further than they do: generators, and what a pass makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from live import CPU_ONLY, NAMES, PEERS, ask, to_meta
from torch import nn

from convstat.api import analyze
from convstat.counters import COUNTERS
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.measure import predict
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")


class Model(nn.Module):
    """Two layers, of which ``forward`` makes what it likes."""

    def __init__(self, first: nn.Module, second: nn.Module | None) -> None:
        super().__init__()
        self.first = first
        if second is not None:
            self.second = second


class Yields(Model):
    """A generator: nothing runs before somebody takes what it yields."""

    def forward(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        x = self.first(x)
        yield x
        yield self.second(x)


class Maps(Model):
    """One layer runs at once, the other when somebody looks."""

    def forward(self, x: torch.Tensor) -> Iterable[torch.Tensor]:
        return map(self.second, [self.first(x)])


class Awaits(Model):
    """Runs when somebody waits for it."""

    async def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))  # type: ignore[no-any-return]


class Takes(Model):
    """Holds a generator, and takes what it yields."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *_, last = self.first(x)
        return self.second(last)  # type: ignore[no-any-return]


class Makes(Model):
    """Makes its second layer in its first pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if not hasattr(self, "second"):
            self.second = self.make()
        return self.second(x)  # type: ignore[no-any-return]

    make: Callable[[], nn.Module]


class Own(nn.Module):
    """A layer of a kind that no counter knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.matmul(x, self.weight)


class MakesParameter(Model):
    """Makes a parameter in its first pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "weight"):
            self.weight = nn.Parameter(torch.ones(8, 4))
        return torch.matmul(self.first(x), self.weight)


def linear(columns: int) -> nn.Module:
    """A layer of eight inputs."""
    return nn.Linear(8, columns)


def making(make: Callable[[], nn.Module], first: nn.Module) -> Makes:
    """A model that makes its second layer so."""
    model = Makes(first, None)
    model.make = make
    return model


def convolutions() -> nn.Module:
    """Layers inside a layer."""
    return nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1))


ROWS, IMAGE = (2, 8), (2, 8, 6, 6)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "yields": (lambda: Yields(linear(8), linear(4)), ROWS),
    "yields images": (lambda: Yields(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)), IMAGE),
    "maps": (lambda: Maps(linear(8), linear(4)), ROWS),
    "awaits": (lambda: Awaits(linear(8), linear(4)), ROWS),
    "takes": (lambda: Takes(Yields(linear(8), linear(8)), linear(4)), ROWS),
    "makes a layer": (lambda: making(lambda: linear(4), linear(8)), ROWS),
    "makes a layer of its own": (lambda: making(Own, linear(8)), ROWS),
    "makes layers in a layer": (lambda: making(convolutions, nn.Conv2d(8, 8, 3)), IMAGE),
    "makes a layer of another kind": (lambda: making(nn.ReLU, nn.Conv2d(8, 8, 3)), IMAGE),
    "makes a parameter": (lambda: MakesParameter(linear(8), None), ROWS),
}


@pytest.mark.parametrize("name", CASES)
def test_every_counter_says_what_is_predicted(name: str) -> None:
    """Failures too, on both devices; each is asked about a model that has not run."""
    make, shape = CASES[name]
    for counter in (*NAMES, *PEERS):
        if COUNTERS[counter].version() is None:
            continue
        ask(make(), torch.rand(shape), only=(counter,))[counter].check(f"{counter} on {name}")
        if counter not in CPU_ONLY:
            with torch.device("meta"):
                ask(to_meta(make()), torch.empty(shape), only=(counter,))[counter].check(
                    f"{counter} on {name}, on meta"
                )


@pytest.mark.parametrize("name", CASES)
def test_all_of_a_difference_has_a_name(name: str) -> None:
    """The layers of the prediction are those of the count, also where the counter has no place for them."""
    make, shape = CASES[name]
    report = analyze(make(), torch.rand(shape), counters="all")
    for row in report.counters:
        if row.status != "ok":
            continue
        unexplained = row.unexplained
        assert unexplained is not None
        assert not unexplained.macs, row.name
        assert not unexplained.params, row.name
        assert UNATTRIBUTED not in {cause.code for cause in row.causes}, row.name


def test_what_nobody_takes_is_a_cause_of_its_own() -> None:
    """Both layers of a generator; of a map the second: 2 rows, of 8 x 8 and 8 x 4."""
    for name, unread in (("yields", 2 * 8 * 8 + 2 * 8 * 4), ("maps", 2 * 8 * 4)):
        make, shape = CASES[name]
        model, inputs = make(), (torch.rand(shape),)
        prediction = predict(COUNTERS["flopcountermode"], model, inputs, record(model, inputs))
        assert prediction.macs == 2 * 8 * 8 + 2 * 8 * 4 - unread
        assert sum(term.macs for term in prediction.terms if term.code == "generator_unread") == -unread


def test_what_is_made_later_is_a_cause_of_its_own() -> None:
    """torchinfo has hooks on the first layer alone: 2 rows of 8 x 8, and the bias."""
    make, shape = CASES["makes a layer"]
    model, inputs = make(), (torch.rand(shape),)
    prediction = predict(COUNTERS["torchinfo"], model, inputs, record(model, inputs))
    late = [term for term in prediction.terms if term.code == "made_later"]
    assert sum(term.macs for term in late) == -2 * 8 * 4
    assert sum(term.params for term in late) == -(8 * 4 + 4)


class Pooled(Model):
    """Runs its layers in threads of its own, which take turns.

    Where two layers overlap, the assertion of ptflops-aten fails that the module which ends is the one that began last,
    or does not, as the threads happen to run.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (self._in_a_thread(layer, x) for layer in (self.first, self.second))
        return torch.matmul(first, second.mT)

    @staticmethod
    def _in_a_thread(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(layer, x).result()


def test_what_other_threads_do_is_a_cause_of_its_own() -> None:
    """2 rows of 8 x 8, twice, are not in the thread of the mode; 2 x 8 x 2 are."""
    model, inputs = Pooled(linear(8), linear(8)), (torch.rand(2, 8),)
    answers = ask(model, *inputs, only=tuple(name for name in (*NAMES, *PEERS) if COUNTERS[name].version()))
    for name, answer in answers.items():
        answer.check(name)
    for name, bias in (("flopcountermode", 0), ("ptflops-aten", 0)):
        terms = answers[name].prediction.terms
        assert sum(term.macs for term in terms if term.code == "other_threads") == -2 * 2 * 8 * 8 + bias
        assert answers[name].prediction.macs == 2 * 8 * 2


class Recursive(Model):
    """Calls itself three times more."""

    def forward(self, x: torch.Tensor, times: int = 3) -> torch.Tensor:
        return self(self.first(x), times - 1) if times else self.second(x)


def test_a_model_that_calls_itself_is_a_batch_for_ptflops_each_time() -> None:
    """4 calls of a batch of 2: 8 samples, of (3 x 8 x 8 + 8 x 4) x 2 MACs and as many biases as outputs."""
    answer = ask(Recursive(linear(8), linear(4)), torch.rand(2, 8), only=("ptflops",))["ptflops"]
    answer.check("ptflops")
    assert answer.prediction.macs == (3 * (8 * 8 + 8) + 8 * 4 + 4) * 2 // 8


def test_a_model_that_refuses_to_be_switched_to_eval_mode() -> None:
    """An exported one; counters that switch it fail, and those that do not answer."""
    exported = torch.export.export(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (torch.rand(2, 8),)).module()
    answers = ask(exported, torch.rand(2, 8), only=tuple(n for n in (*NAMES, *PEERS) if COUNTERS[n].version()))
    for name, answer in answers.items():
        answer.check(name)
    assert {"flopcountermode", "fvcore", "torchprofile"} <= {n for n, answer in answers.items() if answer.reported}


def test_a_model_that_is_made_on_a_gpu_that_is_not_there_is_made_without_it_for_counters_too() -> None:
    """Those that run on the CPU alone answer as well, and nothing is said in words of ours."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    report = analyze(lambda: nn.Sequential(nn.Linear(8, 8)).cuda(), torch.rand(2, 8), counters="all")
    assert {"fvcore", "torchprofile"} <= {row.name for row in report.counters if row.status == "ok"}
    assert not any("SourceError" in (row.error or "") for row in report.counters)


def test_a_model_is_made_once_for_each_device_whatever_the_number_of_counters() -> None:
    """On meta to be counted, and on the CPU for all that need values; its weights are drawn once."""
    made = []

    def build() -> nn.Module:
        made.append(None)
        return nn.Sequential(nn.Linear(8, 8))

    report = analyze(build, torch.rand(2, 8), counters="all")
    assert {row.device for row in report.counters if row.status == "ok"} == {"meta", "cpu"}
    assert len(made) == 2


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_jagged_tensors_have_elements_and_a_last_size(device: str) -> None:
    """14 rows of 8 x 8: for counters that ask for these, and not for those that see kernels from outside."""
    rows = [torch.rand(5, 8), torch.rand(9, 8)]
    ragged = torch.nested.nested_tensor(rows, layout=torch.jagged)
    report = analyze(nn.Sequential(nn.Linear(8, 8, bias=False)), ragged, counters="all", device=device)
    assert report.totals.macs == 14 * 8 * 8
    answered = {}
    for row in report.counters:
        if row.status == "ok":
            assert row.unexplained is not None
            assert not row.unexplained.macs, row.name
            assert row.reported is not None
            answered[row.name] = row.reported.macs
    for name in ("ultralytics-thop", "calflops", "deepspeed"):
        assert answered.get(name, 14 * 8 * 8) == 14 * 8 * 8
    assert answered["ptflops-aten"] == 0
