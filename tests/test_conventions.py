"""What holds for every convention that is predicted only: never run, known everywhere, explained to the unit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import counted
import pytest
import torch
from conventions import meta, predicted, row
from counted import explain, express, identify
from jsonschema import Draft202012Validator
from small_models import MODELS, made
from torch import nn

from convstat.cli.options import COUNTER_NAMES
from convstat.cli.run import run
from convstat.commands.convention import NO_LAYER
from convstat.count import traces
from convstat.counters import CONVENTIONS, COUNTERS, CounterFailure, Registry, select
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.measure import predict
from convstat.counters.reconcile import foreseen
from convstat.errors import UsageError
from convstat.results.documents.schema import report_schema
from convstat.results.report import Report
from convstat.trace.record import record

ROOT = Path(__file__).resolve().parent.parent
NAMES = tuple(CONVENTIONS)
SPECS = ("mobilenet_v1", "unet", "vit_b_16")


def test_each_is_named_documented_and_completed() -> None:
    """And `all` are the counters that run, to which none of them belongs."""
    page = (ROOT / "convstat/docs/counters.md").read_text(encoding="utf-8")
    assert [] == [name for name in NAMES if f"`--counters {name}`" not in page]
    assert set(NAMES) <= set(COUNTER_NAMES)
    assert not set(NAMES) & set(COUNTERS)
    assert list(NAMES) == [counter.name for counter in select("conventions")]
    assert not set(NAMES) & {counter.name for counter in select("all")}
    for convention in CONVENTIONS.values():
        assert (True, True, True) == (bool(convention.counts), bool(convention.unit), bool(convention.source))
        assert [] == [sentence for sentence in convention.defects if sentence[-1] != "." or "\n" in sentence]
        assert None is convention.version()
        with pytest.raises(CounterFailure, match="predicted only"):
            convention.run(None, ())  # type: ignore[arg-type]


def test_no_counter_of_another_package_takes_the_name_of_one() -> None:
    """As it must not take that of a counter."""
    with pytest.raises(ValueError, match="two counters are called"):
        Registry((CONVENTIONS[NAMES[0]],), taken=CONVENTIONS)
    with pytest.raises(UsageError, match="unknown counter 'sadle'") as caught:
        select("sadle")
    assert "sadl" in str(caught.value.diagnostics[0].help)


@pytest.mark.parametrize("name", SPECS)
def test_their_rows_are_predicted_beside_counters_that_run(name: str) -> None:
    """Each has a figure, causes that sum up to the difference, and a valid document."""
    report = counted.analyze(str(ROOT / "configs" / f"{name}.yaml"), counters=f"ptflops,{','.join(NAMES)}")
    first, *rows = report.counters
    assert ("ptflops", "ok") == (first.name, first.status)
    assert list(NAMES) == [row.name for row in rows]
    for one in rows:
        assert ("predicted", None, None) == (one.status, one.version, one.reported.macs), one.name
        assert one.is_prediction, one.error
        assert "unattributed" not in {cause.code for cause in one.causes}, one.name
        for figure in ("params", "macs"):
            difference = getattr(one.difference, figure)
            assert difference in (None, sum(getattr(cause, figure) for cause in one.causes)), one.name
    Draft202012Validator(report_schema()).validate(report.to_dict())
    assert report == Report.from_dict(json.loads(json.dumps(report.to_dict())))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spec", SPECS)
def test_a_whole_report_can_be_in_one_of_them(spec: str, name: str) -> None:
    """The layers sum up to the figure, and no layer costs less than nothing."""
    target = str(ROOT / "configs" / f"{spec}.yaml")
    (predicted,) = counted.analyze(target, counters=name).counters
    report = express(target, name)
    assert predicted.shown.macs == report.totals.macs == sum(layer.macs for layer in report.layers)
    assert all(layer.macs >= 0 for layer in report.layers if layer.name != NO_LAYER)
    assert CONVENTIONS[name].unit in report.model.counts


@pytest.mark.parametrize("name", NAMES)
def test_their_figures_are_identified(name: str) -> None:
    """With all digits, those of the counter's own unit included."""
    target = str(ROOT / "configs" / "mobilenet_v1.yaml")
    (one,) = counted.analyze(target, counters=name).counters
    for value in (one.shown.macs, *(one.native or {}).values()):
        assert name in {match.counter for match in identify(f"{value}", target).matches}, value


def test_the_list_and_the_header_say_that_they_are_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The list says where the rules are from."""
    assert 0 == run(["list", "counters"])
    listed = capsys.readouterr().out
    for name, convention in CONVENTIONS.items():
        assert f"{name} " in listed
        assert convention.source.split()[0] in listed
    assert 0 == run(["analyze", "ReLU()", "--input", "3x4x4", "--counters", "torchscan,sadl", "--width", "200"])
    assert "sadl not run: the figures are predicted" in capsys.readouterr().out


EVERY = 24
"""One small model in so many is tried at once, all of them by ``make verify``."""


@pytest.mark.parametrize(
    ("pool", "model"),
    [pytest.param(*model, marks=[pytest.mark.verify] if place % EVERY else []) for place, model in enumerate(MODELS)],
)
def test_every_small_model_is_explained_by_each(pool: str, model: str) -> None:
    """Convolutions, attention, recurrent layers, functions, and what else there is; no figure is less than nothing."""
    module, inputs = made(pool, model)
    for name in NAMES:
        found = row(name, module, *inputs)
        assert (found.shown.macs or 0) >= 0, name


DEVICES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    "recurrent": (lambda: nn.LSTM(6, 4, num_layers=2, bidirectional=True), (5, 2, 6)),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)),
        (1, 3, 32, 32),
    ),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2), (1, 4, 10, 12)),
}


@pytest.mark.parametrize("model", DEVICES)
def test_a_figure_does_not_depend_on_the_device(model: str) -> None:
    """On a CPU, attention and recurrent layers run other kernels than on meta."""
    make, shape = DEVICES[model]
    for name in NAMES:
        on_meta, on_cpu = predicted(name, make().to("meta"), meta(*shape)), predicted(name, make(), torch.rand(shape))
        assert (on_meta.macs, on_meta.native, on_meta.params) == (on_cpu.macs, on_cpu.native, on_cpu.params), name


def test_each_explains_every_layer() -> None:
    """The layers of a view sum up to the prediction; explain asks all of them where none is named."""
    target = str(ROOT / "configs" / "mobilenet_v1.yaml")
    explanation = explain(target, "**")
    rows = {one.name: one for one in counted.analyze(target, counters=",".join(NAMES)).counters}
    for name in NAMES:
        views = [view for layer in explanation.layers for view in layer.views if view.name == name]
        assert len(explanation.layers) == len(views)
        total = sum(view.predicted.macs or 0 for view in views if view.predicted is not None)
        # What belongs to no layer is a rounding of less than one for each.
        assert 0 <= (rows[name].shown.macs or 0) - total < len(views), name


def test_no_convention_is_explained_where_convstat_counts_twice() -> None:
    """The causes are computed from the trace, and not from what is left."""
    layer = nn.Conv2d(3, 8, 3, padding=1, device="meta").eval()
    trace = record(layer, (meta(1, 3, 6, 6),))
    layers = traces.count(trace, name="", source="", inputs=()).layers
    twice = tuple(replace(layer, macs=2 * layer.macs) for layer in layers)
    for name in NAMES:
        prediction = predict(CONVENTIONS[name], layer, (meta(1, 3, 6, 6),), trace)
        codes = [
            {cause.code for cause in foreseen(rows, prediction, status="predicted", name=name).causes}
            for rows in (layers, twice)
        ]
        assert [False, True] == [UNATTRIBUTED in found for found in codes], name
