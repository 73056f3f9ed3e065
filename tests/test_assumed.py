"""Large models that read values: counted without their weights where the values do not matter, and honestly where
they do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import counted
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convstat.errors import SourceError
from convstat.results.report import Report
from convstat.trace import bounds, failures, run
from convstat.trace.assumed import SETS
from convstat.trace.recipe import Recipe

LAYER = 4 * 4


def analyze(make: Callable[[], Any], **options: Any) -> Report:
    """Count what a function makes, on four features."""
    recipe = Recipe("net", "net.py:net", "module", lambda: (make(), None))
    return counted.traced(recipe, inputs=("4",), **{"counters": "none", **options})


@pytest.fixture(autouse=True)
def every_model_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that none has to be."""
    monkeypatch.setattr(failures, "SMALL_WEIGHTS", 0)


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real run fits."""
    for owner in (bounds, run):
        monkeypatch.setattr(owner, "available_memory", lambda: 1)


class Two(nn.Module):
    """Two layers; ``decide`` says what happens between them."""

    def __init__(self, decide: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.decide = decide

    def forward(self, x: Tensor) -> Tensor:
        """Run them."""
        return self.second(self.decide(self.first, self.first(x)))


def scaled(layer: nn.Linear, x: Tensor) -> Tensor:
    """Scale by a value."""
    return x * x.sum().item()


def logged(layer: nn.Linear, x: Tensor) -> Tensor:
    """Write values into a text."""
    f"{x.mean().item():.3f} {float(x.std()):g} {x.argmax().item():d}"
    return x


def checked(layer: nn.Linear, x: Tensor) -> Tensor:
    """Refuse values that are no numbers."""
    if torch.isnan(x).any():
        raise ValueError("not a number")
    if not x.abs().max() < 1e30:
        raise OverflowError
    return x


def clamped(layer: nn.Linear, x: Tensor) -> Tensor:
    """Decide between two ways that cost the same."""
    return x.abs() if x.min() < -3.5 else x.neg()


class Named(nn.Module):
    """Chooses one of two layers by a name with a value in it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({f"layer_{index}": nn.Linear(4, 4, bias=False) for index in range(3)})

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer that has the name."""
        chosen: Tensor = self.layers[f"layer_{x.argmax():d}"](x)
        return chosen


def test_a_value_in_a_text_is_read(no_room: None) -> None:
    """On meta torch would write what the tensor looks like."""
    assert LAYER == analyze(Named).totals.macs
    assert "the count does not depend on them" in analyze(Named).model.notes
    assert "tensor(..., device='meta', size=())" == f"{torch.zeros((), device='meta')}"


def test_the_line_that_reads_is_the_models_and_not_that_of_who_counts(no_room: None) -> None:
    """The one that is deepest in what was called."""
    namespace: dict[str, Any] = {}
    code = "def read(layer, x):\n    return x * x.sum().item()\n"
    exec(compile(code, "model.py", "exec"), namespace)
    said, _ = analyze(lambda: Two(namespace["read"])).model.notes
    assert f"test_assumed.py:{Two.forward.__code__.co_firstlineno + 2})" in said


def listed(layer: nn.Linear, x: Tensor) -> Tensor:
    """Read all values at once."""
    assert [] == x[:0].tolist()
    rows = x.tolist()
    assert (1, 4) == (len(rows), len(rows[0]))
    assert [[], []] == x.new_empty(2, 0).tolist()
    return x * sum(rows[0])


def branched(layer: nn.Linear, x: Tensor) -> Tensor:
    """Run a layer again, or not."""
    return layer(x) if x.max() > 1e3 else x


def looped(layer: nn.Linear, x: Tensor) -> Tensor:
    """Run a layer as often as a value says."""
    for _ in range(int(x.abs().sum().long())):
        x = layer(x)
    return x


def converged(layer: nn.Linear, x: Tensor) -> Tensor:
    """Run a layer until a value is small enough."""
    while x.norm() > 1e-3:
        x = layer(x) * 0
    return x


@pytest.mark.parametrize("decide", [scaled, logged, checked, clamped, listed])
def test_values_that_do_not_matter_need_no_weights(decide: Any, no_room: None) -> None:
    """The count is what it is, and the note says that nothing rests on them."""
    report = analyze(lambda: Two(decide))
    assert 2 * LAYER == report.totals.macs
    said, verdict = report.model.notes
    line = decide.__code__.co_firstlineno
    assert said.startswith("traced on meta with assumed values: it reads values of tensors (")
    assert line < int(said.rpartition(":")[2].rstrip(")")) < line + 5
    assert "the count does not depend on them" == verdict
    assert "meta" == report.model.device


@pytest.mark.parametrize("decide", [branched, looped, converged])
def test_values_that_matter_are_computed(decide: Any) -> None:
    """Real runs decide, where they fit, on zeros and on drawn values: the largest is given, and said to be that."""
    ran: list[list[nn.Module]] = []

    def watched(layer: nn.Linear, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            ran.append([])
            layer.register_forward_hook(lambda module, args, output: ran[-1].append(module))
        return decide(layer, x)

    report = analyze(lambda: Two(watched))
    # The first layer ran before it was watched, and the second one after; the first of all are fake tensors.
    costs = [(2 + len(calls)) * LAYER for calls in ran[1:]]
    assert 3 == len(costs)
    assert max(costs) == report.totals.macs
    assert ("upper_bound" if len({*costs}) > 1 else "complete") == report.status
    assert (len({*costs}) > 1) == (decide is not branched)
    assert "cpu" == report.model.device
    assert report.model.notes[0].startswith("run on the CPU: it reads values of tensors (")


@pytest.mark.parametrize(("decide", "macs"), [(branched, "32 to 48"), (looped, "32 to 64")])
def test_values_that_matter_and_cannot_be_computed_are_said_to_matter(decide: Any, macs: str, no_room: None) -> None:
    """The most that was seen is given, and the least."""
    report = analyze(lambda: Two(decide))
    assert f"the count depends on them: {macs} MACs; the largest is reported" == report.model.notes[1]
    assert int(macs.split()[-1]) == report.totals.macs


def test_a_loop_that_a_value_ends_is_said_not_to_end(no_room: None) -> None:
    """With some values it goes on for ever; it is not followed far."""
    report = analyze(lambda: Two(converged))
    assert "with some of them the forward pass fails or does not end; the MACs of the others are the same" in (
        report.model.notes
    )


def test_a_check_that_no_value_passes_is_the_models_own_error(no_room: None) -> None:
    """It fails for every value, and says why."""

    def refused(layer: nn.Linear, x: Tensor) -> Tensor:
        answer = bool(x.sum() > 0)
        if answer in (True, False):
            raise ValueError("always")
        return x

    with pytest.raises(SourceError) as caught:
        analyze(lambda: Two(refused))
    assert "net.py:net does not run: ValueError: always" == caught.value.diagnostics[0].message


def test_small_models_are_run_for_real_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own values decide, and cost nothing."""
    monkeypatch.setattr(failures, "SMALL_WEIGHTS", 2**20)
    report = analyze(lambda: Two(branched))
    assert ("cpu", 2 * LAYER) == (report.model.device, report.totals.macs)


def test_a_model_made_on_meta_is_counted_too() -> None:
    """There is nothing to run for real."""
    with torch.device("meta"):
        model = Two(scaled)
    recipe = Recipe("net", "net.py:net", "module", lambda: (model, None), is_made=True)
    assert 2 * LAYER == counted.traced(recipe, inputs=("4",), counters="none").totals.macs


def test_counters_run_on_the_same_values(no_room: None) -> None:
    """What was assumed for the count is assumed for them."""
    pytest.importorskip("torchinfo")
    report = analyze(lambda: Two(scaled), counters="torchinfo,flopcountermode")
    assert ["ok", "ok"] == [row.status for row in report.counters]
    assert [2 * LAYER] * 2 == [row.reported.macs for row in report.counters if row.reported is not None]


@settings(deadline=None, max_examples=30)
@given(
    thresholds=st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=3),
    above=st.booleans(),
    turns=st.integers(1, 3),
)
def test_whatever_a_value_is_compared_with_both_answers_are_tried(
    thresholds: list[float], above: bool, turns: int
) -> None:
    """A layer that runs on one side of a threshold is seen, wherever the threshold is."""

    def decide(layer: nn.Linear, x: Tensor) -> Tensor:
        for threshold in thresholds:
            value = x.sum().item()
            if (value > threshold) is above:
                for _ in range(turns):
                    x = layer(x)
        return x

    with pytest.MonkeyPatch.context() as patched:
        for owner in (bounds, run):
            patched.setattr(owner, "available_memory", lambda: 1)
        report = analyze(lambda: Two(decide))
    most = 2 + turns * len(thresholds)
    assert f"the count depends on them: {2 * LAYER} to {most * LAYER} MACs; the largest is reported" in (
        report.model.notes
    )


def test_the_sets_answer_every_question_both_ways() -> None:
    """Comparisons of bools, of sizes with 0 to 2, and of numbers with anything between their ends."""
    assert {False, True} == {values.truth for values in SETS}
    assert {0, 1, 2} == {values.size for values in SETS}
    numbers = sorted({values.number for values in SETS})
    assert numbers[0] < 0 < numbers[-1]
    assert all(low < high for low, high in itertools.pairwise(numbers))
