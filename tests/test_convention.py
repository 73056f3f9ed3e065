"""A report in another counter's convention: its sums are what that counter says."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import counted
import pytest
from counted import express
from jsonschema import Draft202012Validator

from convstat.cli.run import run
from convstat.commands.convention import NO_LAYER
from convstat.counters import COUNTERS
from convstat.errors import UsageError
from convstat.results.documents.schema import report_schema
from convstat.results.report import Report

ROOT = Path(__file__).resolve().parent.parent
RESNET = str(ROOT / "configs" / "resnet50.yaml")
TARGETS = {
    "resnet50": (RESNET, 1),
    "resnet50 in a batch": (RESNET, 3),
    "vit_b_16": (str(ROOT / "configs" / "vit_b_16.yaml"), 1),
    "unet": (str(ROOT / "configs" / "unet.yaml"), 2),
    "python": ("torchvision/shufflenet_v2_x0_5", 1),
}


@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.parametrize("target", TARGETS)
def test_totals_are_those_of_the_prediction_and_layers_sum_up(target: str, name: str) -> None:
    """What the counter does not count stays convstat's, and is said."""
    argument, batch = TARGETS[target]
    if argument.startswith("torchvision") and find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    (row,) = counted.analyze(argument, counters=name, predict=True, batch=batch).counters
    if row.predicted is None:
        with pytest.raises(UsageError, match="the counter would give no answer"):
            express(argument, name, batch=batch)
        return
    report = express(argument, name, batch=batch)
    own = counted.analyze(argument, counters="none", batch=batch)
    for figure in ("params", "macs"):
        expected = getattr(row.predicted, figure)
        expected = getattr(own.totals, figure) if expected is None else expected
        assert expected == getattr(report.totals, figure)
        assert expected == sum(getattr(layer, figure) for layer in report.layers)
    missing = [figure for figure in ("params", "macs") if getattr(row.predicted, figure) is None]
    assert len(missing) == sum("convstat's" in note for note in report.model.notes)
    assert (name, True) == (report.model.convention, report.is_foreign)
    assert COUNTERS[name].unit in report.model.counts
    names = [layer.name for layer in report.layers]
    assert len(names) == len(set(names))
    assert all(layer.macs >= 0 for layer in report.layers if layer.name != NO_LAYER)
    Draft202012Validator(report_schema()).validate(report.to_dict())
    assert report == Report.from_dict(json.loads(json.dumps(report.to_dict())))


def test_a_layer_is_priced_as_the_counter_prices_it() -> None:
    """ptflops counts a ReLU twice, and a norm with scale and shift twice."""
    report = express(RESNET, "ptflops")
    macs = {layer.name: layer.macs for layer in report.layers}
    assert 2 * 64 * 112 * 112 == macs["relu"] == macs["bn1"]
    assert 118_013_952 == macs["conv1"]


def test_the_header_says_whose_figures_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody takes them for convstat's."""
    assert 0 == run(["analyze", RESNET, "--as", "ptflops", "-d", "1", "--width", "100"])
    out = capsys.readouterr().out
    assert "as ptflops" in out
    assert "predicted, not run" in " ".join(out.split())
    assert "MACs are the multiply-accumulates" not in out
    assert "4,132,436,968" in out
    assert "\nconvstat " not in out


def test_convstat_is_a_convention_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own, which changes nothing."""
    assert express(RESNET, "convstat") == counted.analyze(RESNET, counters="none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--as", "ptflop"), "unknown counter 'ptflop' in --as"),
        (("--as", "ptflops", "--counters", "thop"), "--as cannot be combined with --counters"),
        (("--as", "ptflops", "--predict"), "--as cannot be combined with --predict"),
        (("--as", "ptflops", "--strict"), "--as cannot be combined with --strict"),
        (("--as", "ptflops", "--mode", "train"), "--as cannot be combined with --mode train"),
        (("--counter-timeout", "-1"), "--timeout must not be negative"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason."""
    assert 2 == run(["analyze", RESNET, *arguments])
    shown = capsys.readouterr()
    assert message in shown.err
    assert "help:" in shown.err
    assert not shown.out


def test_a_saved_report_cannot_be_counted_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no prediction in it; but one that was saved so can be shown."""
    path = tmp_path / "report.json"
    assert 0 == run(["analyze", RESNET, "--as", "thop", "-o", str(path), "-qq"])
    assert 2 == run(["analyze", str(path), "--as", "thop"])
    assert "is a saved report" in capsys.readouterr().err
    assert 0 == run(["render", str(path)])
    assert "as thop" in capsys.readouterr().out
