"""What counters would say is told without them, and a wrong rule is seen at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import counted
import pytest
import torch
from live import installed
from test_counters_robust import Fake
from versions import has_torch, since

from convstat.counters import COUNTERS, Counter, Prediction, Reported, Term
from convstat.counters.base import PredictedFailure
from convstat.counters.measure import Asking, foresee, measure_on
from convstat.errors import UsageError
from convstat.results.documents.schema import report_schema
from convstat.results.report import CounterRow, Report
from convstat.targets.subject import Subject
from convstat.trace import Trace

NAMES = tuple(COUNTERS)

NET = """
convstat: 1
name: small
input: [3, 16, 16]
layers:
  - Conv2d: {out_channels: 8, kernel_size: 3, padding: 1}
    name: conv
  - BatchNorm2d
  - ReLU
  - MaxPool2d: 2
  - Conv2d: {out_channels: 8, kernel_size: 1, groups: 2, bias: false}
  - AdaptiveAvgPool2d: 1
  - Flatten
  - Linear: 10
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    """The path of a small net."""
    path = tmp_path / "small.yaml"
    path.write_text(NET, encoding="utf-8")
    return str(path)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No distribution but torch has a version, and no peer can be imported."""
    version = metadata.version

    def of_torch(name: str) -> str:
        if name != "torch":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", of_torch)
    for counter in COUNTERS.values():
        # Some look at their files, too.
        if counter.name != "flopcountermode":
            monkeypatch.setattr(type(counter), "version", lambda self: None)
    for name in ("ptflops", "torchsummary", "torchinfo", "thop", "fvcore", "calflops", "torchprofile", "torchscan"):
        monkeypatch.setitem(sys.modules, name, None)


def _valid(report: Report) -> None:
    if find_spec("jsonschema"):
        from jsonschema import Draft202012Validator

        Draft202012Validator(report_schema()).validate(report.to_dict())
    assert report == Report.from_dict(json.loads(json.dumps(report.to_dict())))


def _closes(row: CounterRow) -> None:
    for figure in ("params", "macs"):
        difference = getattr(row.difference, figure)
        assert difference in (None, sum(getattr(cause, figure) for cause in row.causes)), row.name


@pytest.mark.usefixtures("nothing_installed")
def test_predictions_need_no_counter_installed(net: str) -> None:
    """Every row is there, predicted, with causes that sum up; and none is run."""
    report = counted.analyze(net, counters="all", predict=True)
    assert list(NAMES) == [row.name for row in report.counters]
    for row in report.counters:
        assert ("predicted", None, None) == (row.status, row.reported.params, row.reported.macs), row.name
        assert row.is_prediction != row.is_foreseen, row.error
        _closes(row)
    assert sum(row.is_prediction for row in report.counters) >= len(NAMES) - 1
    assert "none" == report.model.device
    _valid(report)


@pytest.mark.usefixtures("nothing_installed")
def test_a_counter_that_is_not_installed_shows_what_it_would_say(net: str) -> None:
    """Its row stays unavailable, with its reason; the figures are those of the prediction."""
    foreseen = {row.name: row for row in counted.analyze(net, counters="all", predict=True).counters}
    report = counted.analyze(net, counters="all")
    for row in report.counters:
        if row.name == "flopcountermode":
            continue
        assert ("unavailable", None) == (row.status, row.version)
        assert "installed" in str(row.error)
        assert not row.is_reconciled
        assert (foreseen[row.name].predicted, foreseen[row.name].causes) == (row.predicted, row.causes)
    _valid(report)


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_is_what_the_installed_counter_says(net: str, name: str) -> None:
    """The row of a run and that of a prediction have the same figures and the same causes."""
    installed(name)
    (ran,), (foreseen,) = (counted.analyze(net, counters=name, predict=predict).counters for predict in (False, True))
    if ran.status == "ok":
        assert ran.reported == foreseen.predicted == ran.predicted
        assert (ran.difference, ran.causes) == (foreseen.difference, foreseen.causes)
    else:
        assert ran.is_foreseen
        assert foreseen.is_foreseen


def test_a_prediction_alone_is_reconciled_unless_it_has_no_cause(net: str) -> None:
    """``--strict`` holds a prediction to its causes: there is nothing else."""
    assert counted.analyze(net, counters="ptflops,thop", predict=True).is_explained
    graph = counted.prepare(net)
    fake = Fake(predict=lambda trace: Prediction(1, 2, (Term("conv", 2, 1),)))
    (row,) = measure_on(graph.stages, graph.report, (fake,), Asking(predict=True))
    assert "predicted" == row.status
    assert not replace(graph.report, counters=(row,)).is_explained


def test_a_predicted_failure_has_its_reason(net: str) -> None:
    """There are no figures, and the row says why there would be none."""

    def fails(trace: Trace) -> Prediction:
        raise PredictedFailure("it cannot read this")

    subject = counted.prepare(net)
    (row,) = measure_on(subject.stages, subject.report, (Fake(predict=fails),), Asking(predict=True))
    assert ("predicted", None, True) == (row.status, row.predicted, row.is_foreseen)
    assert "it will fail: it cannot read this" == row.error


GROUPED = since("2.5", "attention with fewer heads for keys than for queries")
BIG = ("big_models.py:Llama", ("ids=1x2048:int64",))


@GROUPED
@pytest.mark.usefixtures("nothing_installed")
def test_a_model_of_405_billion_parameters_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is allocated: where a counter would have to run on the CPU, its row says what it says on meta."""
    monkeypatch.chdir(Path(__file__).parent)
    report = counted.analyze(BIG[0], {}, inputs=BIG[1], counters="all", predict=True)
    assert 405_853_388_800 == report.totals.params
    rows = {row.name: row for row in report.counters}
    assert list(NAMES) == list(rows)
    for row in rows.values():
        assert row.is_prediction or row.is_foreseen, row.error
        _closes(row)
    assert 405_853_388_800 == rows["ptflops"].shown.params
    assert "on the CPU it may report something else" in str(rows["flopcountermode"].note)
    assert None is rows["ptflops"].note
    _valid(report)


@GROUPED
def test_a_model_without_room_is_predicted_where_it_would_run_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row is skipped and says how much is missing; what runs on meta runs."""
    monkeypatch.chdir(Path(__file__).parent)
    report = counted.analyze(f"{BIG[0]}", {"layers": 4}, inputs=BIG[1], counters="flopcountermode")
    weights = report.totals.weight_bytes
    from convstat.trace import bounds

    monkeypatch.setattr(bounds, "room", lambda: weights // 2)
    report = counted.analyze(f"{BIG[0]}", {"layers": 4}, inputs=BIG[1], counters="flopcountermode")
    (row,) = report.counters
    assert ("skipped", None) == (row.status, row.reported.macs)
    assert "it would have to run on the cpu, which has too little memory for the model" in str(row.error)
    assert f"its weights take {weights / 2**30:,.1f} GiB" in str(row.error)
    assert None is not row.predicted
    _valid(report)


def test_a_spec_without_room_is_predicted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU that was not asked for; asked for, it is the user's mistake."""
    from convstat.errors import DeviceError
    from convstat.trace import bounds

    path = tmp_path / "attention.yaml"
    layer = "MultiheadAttention: {num_heads: 4, batch_first: true}"
    path.write_text(f"convstat: 1\nname: it\ninput: [9, 64]\nlayers:\n  - {layer}\n", encoding="utf-8")
    monkeypatch.setattr(bounds, "room", lambda: 1000)
    (row,) = counted.analyze(str(path), counters="flopcountermode").counters
    assert "skipped" == row.status
    assert "of memory are free for them" in str(row.error)
    assert row.is_prediction
    with pytest.raises(DeviceError, match="the cpu cannot run it"):
        counted.analyze(str(path), counters="flopcountermode", device="cpu")


@GROUPED
def test_a_small_model_is_predicted_for_the_device_that_it_would_run_on(tmp_path: Path) -> None:
    """Before torch 2.15, FlopCounterMode does not see fused attention on a CPU; on meta it is seen."""
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.nn.functional.scaled_dot_product_attention(x, x, x)\n",
        encoding="utf-8",
    )
    products = 2 * 3 * 7 * 7 * 8
    on_cpu = products if has_torch("2.15") else 0
    for device, macs in (("auto", on_cpu), ("cpu", on_cpu), ("meta", products)):
        report = counted.analyze(
            f"{path}:Net", inputs=("1x3x7x8",), counters="flopcountermode", predict=True, device=device
        )
        (row,) = report.counters
        assert macs == row.shown.macs, device
        assert None is row.note


def _subject(net: str) -> Subject:
    return counted.prepare(net)


class Corrupted:
    """A counter whose answer is right, and whose prediction is not."""

    def __init__(self, counter: Counter, answer: Reported, corrupt: Callable[[Prediction], Prediction]) -> None:
        self._counter = counter
        self._answer = answer
        self._corrupt = corrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._counter, name)

    def version(self) -> str:
        """As if it were installed."""
        return "1"

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """The answer of the real tool: asked, or else what the sound prediction foresees, as other tests hold."""
        return self._answer

    def predict(self, trace: Trace) -> Prediction:
        """Corrupted."""
        return self._corrupt(self._counter.predict(trace))

    def why_not_meta(self, trace: Trace) -> None:
        """Its answer is there already."""


def _answer(counter: Counter, subject: Subject) -> Reported:
    (row,) = measure_on(subject.stages, subject.report, (counter,))
    if row.status == "ok":
        assert not row.unexplained.params
        assert not row.unexplained.macs
        return Reported(row.reported.params, row.reported.macs)
    prediction = foresee(counter, subject.report, subject.stages).prediction
    if prediction.failure:
        pytest.skip(f"{counter.name} would give no answer: {prediction.failure}")
    return Reported(prediction.params, prediction.macs)


def _without(place: int) -> Callable[[Prediction], Prediction]:
    def corrupt(prediction: Prediction) -> Prediction:
        terms = prediction.terms[:place] + prediction.terms[place + 1 :]
        lost = prediction.terms[place]
        return replace(
            prediction,
            terms=terms,
            params=None if prediction.params is None else prediction.params - lost.params,
            macs=None if prediction.macs is None else prediction.macs - lost.macs,
        )

    return corrupt


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_that_is_missing_is_unexplained(net: str, name: str) -> None:
    """Each thing that each counter counts, forgotten in turn, is exactly what is left over."""
    subject = _subject(net)
    counter = COUNTERS[name]
    answer = _answer(counter, subject)
    terms = foresee(counter, subject.report, subject.stages).prediction.terms
    assert terms
    for place, term in enumerate(terms):
        fake = Corrupted(counter, answer, _without(place))
        (row,) = measure_on(subject.stages, subject.report, (fake,))
        assert "ok" == row.status, row.error
        expected = (
            None if answer.params is None else term.params,
            None if answer.macs is None else term.macs,
        )
        assert expected == (row.unexplained.params, row.unexplained.macs)
        assert term.params or term.macs
        assert not row.is_reconciled
        for figure in ("params", "macs"):
            causes, left = sum(getattr(cause, figure) for cause in row.causes), getattr(row.unexplained, figure)
            assert getattr(row.difference, figure) in (None, causes + (left or 0))


@pytest.mark.parametrize("name", NAMES)
def test_a_predictor_that_reads_the_trace_wrongly_is_unexplained(net: str, name: str, tmp_path: Path) -> None:
    """The prediction follows from the trace and from nothing else: of another model, it is another."""
    path = tmp_path / "other.yaml"
    path.write_text(NET.replace("out_channels: 8", "out_channels: 10"), encoding="utf-8")
    subject, other = _subject(net), _subject(str(path))
    counter = COUNTERS[name]
    answer = _answer(counter, subject)

    class Misread(Corrupted):
        def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
            return self._counter.retrace(*other.stages.model("meta"), other.stages.trace("meta"))

    fake = Misread(counter, answer, lambda prediction: prediction)
    (row,) = measure_on(subject.stages, subject.report, (fake,))
    assert "ok" == row.status, row.error
    assert row.unexplained.params or row.unexplained.macs
    assert not row.is_reconciled


@pytest.mark.parametrize("figure", ["memory_mib", "native"])
def test_a_wrong_figure_in_another_unit_is_unexplained(net: str, figure: str) -> None:
    """Memory and a tool's own unit are held to their predictions as well."""
    subject = _subject(net)
    right = {"params": 7, "macs": 11, figure: {"it": 1}}
    terms = (Term("conv", 11, 7),)
    for amount, is_sound in ((1, True), (2, False)):
        wrong = {**right, figure: {"it": amount}}
        fake = Fake(
            lambda model: Reported(**right),  # type: ignore[arg-type]
            predict=lambda trace, wrong=wrong: Prediction(**wrong, terms=terms),
        )
        (row,) = measure_on(subject.stages, subject.report, (fake,))
        assert is_sound == row.is_reconciled
        assert is_sound == (row.note is None)


def test_an_unknown_counter_is_refused_with_predict_too(net: str) -> None:
    """With what was probably meant."""
    with pytest.raises(UsageError) as caught:
        counted.analyze(net, counters="ptflop", predict=True)
    assert any("'ptflops'" in help for help in caught.value.diagnostics[0].help)
