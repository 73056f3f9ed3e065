"""One layer is explained: its formula comes to its count, and every counter's part of it sums up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import counted
import pytest
from counted import explain
from jsonschema import Draft202012Validator

from convstat.cli.run import run
from convstat.commands.explain import choose
from convstat.counters import COUNTERS
from convstat.errors import UsageError
from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.results.documents.schema import report_schema
from convstat.results.explanation import Explanation
from convstat.results.report import Figures

ROOT = Path(__file__).resolve().parent.parent
RESNET = str(ROOT / "configs" / "resnet50.yaml")
VIT = str(ROOT / "configs" / "vit_b_16.yaml")
SPECS = sorted(str(path) for path in (ROOT / "configs").glob("*.yaml"))


def _consistent(explanation: Explanation) -> None:
    """What every explanation must hold: steps sum up to the counts, and causes to the differences."""
    for layer in explanation.layers:
        assert layer.macs.value == sum(step.value * step.times for step in layer.macs.steps), layer.name
        assert layer.params.value == sum(step.value * step.times for step in layer.params.steps), layer.name
        other = [step for derived in layer.other.values() for step in derived.steps]
        for step in (*layer.macs.steps, *layer.params.steps, *other):
            if step.formula is not None:
                assert step.value == step.formula.value == eval(step.formula.numbers)
        for name, derived in layer.other.items():
            assert {name} == {step.about for step in derived.steps}
            assert derived.value == sum(step.value * step.times for step in derived.steps)
        for view in layer.views:
            for figure in ("params", "macs"):
                if (counted := getattr(view.predicted or Figures(), figure)) is not None:
                    difference = sum(getattr(cause, figure) for cause in view.causes)
                    assert getattr(view.difference, figure) == difference
                    assert getattr(layer, figure).value + difference == counted


def test_the_formula_has_its_values() -> None:
    """The stem of ResNet-50: 64 x 112 x 112 outputs of 3 x 7 x 7 products."""
    (layer,) = explain(RESNET, "conv1", counters="none").layers
    assert ["out_channels * out_h * out_w * in_channels/groups * k_h * k_w = 64*112*112*3*7*7 = 118,013,952"] == [
        str(step.formula) for step in layer.macs.steps
    ]
    assert 118_013_952 == layer.macs.value
    assert ["out_channels * in_channels/groups * k_h * k_w = 64*3*7*7 = 9,408"] == [
        str(step.formula) for step in layer.params.steps
    ]


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: Path(path).stem)
def test_every_layer_of_every_example_has_a_formula_for_its_macs(spec: str) -> None:
    """Nothing is left without one; and all layers together are the whole."""
    explanation = explain(spec, "**", counters="none")
    _consistent(explanation)
    assert all(step.formula is not None for layer in explanation.layers for step in layer.macs.steps)
    report = counted.analyze(spec, counters="none")
    assert report.totals.macs == sum(layer.macs.value for layer in explanation.layers)
    assert report.totals.params == sum(layer.params.value for layer in explanation.layers)


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "mobilenet_v3_small", "densenet121", "swin_t"])
def test_every_layer_of_python_models_has_a_formula_for_its_macs(name: str, torchvision: ModuleType) -> None:
    """From the kernels that ran, with the parameters that the modules hold."""
    explanation = explain(f"torchvision/{name}", "**", counters="none")
    _consistent(explanation)
    assert all(step.formula is not None for layer in explanation.layers for step in layer.macs.steps)


@pytest.mark.parametrize("spec", [RESNET, VIT], ids=["resnet50", "vit_b_16"])
def test_the_layers_of_each_counter_sum_up_to_its_prediction(spec: str) -> None:
    """What no layer has, such as a rounding, is all that may be missing."""
    explanation = explain(spec, "**")
    _consistent(explanation)
    rows = {row.name: row for row in counted.analyze(spec, counters="all", predict=True).counters}
    assert set(COUNTERS) == set(rows)
    for place, name in enumerate(rows):
        views = [layer.views[place] for layer in explanation.layers]
        assert {name} == {view.name for view in views}
        predicted = rows[name].predicted
        if predicted is None:
            assert all(view.error for view in views)
            continue
        for figure in ("params", "macs"):
            if (expected := getattr(predicted, figure)) is not None:
                assert expected == sum(getattr(view.predicted, figure) for view in views), (name, figure)


def test_a_spec_and_its_torch_model_have_the_same_macs_layer_by_layer(torchvision: ModuleType) -> None:
    """The formula of the layer, and that of the kernel that it runs."""
    (spec,) = explain(RESNET, "layer1.0.conv2", counters="none").layers
    (module,) = explain("torchvision/resnet50", "layer1.0.conv2", counters="none").layers
    assert spec.macs.steps[0].formula == module.macs.steps[0].formula
    assert spec.params.steps == module.params.steps


def test_a_shared_layer_is_explained_once_with_all_its_calls(tmp_path: Path) -> None:
    """Its MACs are those of both calls, its parameters its own."""
    path = tmp_path / "shared.yaml"
    path.write_text(
        "convstat: 1\nname: shared\ninput: [4, 8, 8]\nlayers:\n"
        "  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}\n    name: conv\n"
        "  - ReLU\n  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}\n    name: again\n    share: conv\n",
        encoding="utf-8",
    )
    explanation = explain(str(path), "conv")
    _consistent(explanation)
    (layer,) = explanation.layers
    assert ["conv", "again"] == [row.name for row in layer.calls]
    assert 2 * (4 * 8 * 8 * 4 * 3 * 3) == layer.macs.value
    assert (2, 4 * 8 * 8 * 4 * 3 * 3) == (layer.macs.steps[0].times, layer.macs.steps[0].value)
    assert 4 * 4 * 3 * 3 + 4 == layer.params.value


def test_a_model_of_one_layer_needs_no_name() -> None:
    """An inline layer is all that there is."""
    (layer,) = explain("Conv2d(64, 128, kernel_size=3, groups=4)", inputs=("64x56x56",), counters="none").layers
    assert 128 * 54 * 54 * (64 // 4) * 3 * 3 == layer.macs.value


@pytest.mark.parametrize(
    ("pattern", "message", "help"),
    [
        ("conv11", "has no layer 'conv11'", "did you mean 'conv1'"),
        ("conv11", "has no layer 'conv11'", f"see all: convstat analyze {RESNET} --flat"),
        ("layer1", "'layer1' is a block of 32 layers", "'layer1.**'"),
        ("conv2", "has no top-level layer 'conv2'", "'**.conv2'"),
        (None, "175 layers: which one?", "for example: conv1"),
    ],
)
def test_a_layer_that_is_not_there_is_refused_with_what_was_meant(pattern: str | None, message: str, help: str) -> None:
    """A near name, the layers of a block, the same name inside of blocks."""
    with pytest.raises(UsageError, match=message) as caught:
        explain(RESNET, pattern, counters="none")
    assert any(help in text for text in caught.value.diagnostics[0].help)


def test_a_name_is_taken_as_it_is_before_it_is_a_pattern() -> None:
    """A name may have brackets in it."""
    assert ["a.(Conv2d)[1]"] == choose(["a.(Conv2d)[1]", "a.(Conv2d)1"], "a.(Conv2d)[1]", "net")
    assert ["layer1.conv"] == choose(["layer1.conv", "fc"], "layer1.conv#2", "net")


def test_a_saved_report_cannot_be_explained(tmp_path: Path) -> None:
    """It has figures, and no layers to ask counters about."""
    with pytest.raises(UsageError, match="is a saved report"):
        explain(str(tmp_path / "report.json"), "conv1")


@pytest.mark.parametrize("counters", ["none", "ptflops,thop,torchsummary"])
def test_every_format_shows_it(counters: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The document is as the schema says, and the others have the formula and the causes."""
    explanation = explain(RESNET, "layer1.0.**", counters=counters)
    Draft202012Validator(report_schema()).validate(explanation.to_dict())
    text = {
        name: RENDERERS.named(name).render([explanation], Options()) for name in ("table", "json", "csv", "markdown")
    }
    assert explanation.to_dict() == json.loads(text["json"])
    assert "64*56*56*64*3*3 = 115,605,504" in text["table"]
    assert "115,605,504" in text["markdown"]
    assert "115605504" in text["csv"]
    if counters != "none":
        assert "+802,816 MACs: counts normalisation: two operations per element" in text["table"]
    for width in (40, 80, 120):
        lines = RENDERERS.named("table").render([explanation], Options(width=width)).splitlines()
        assert max(map(len, lines)) <= max(width, 60)


def test_the_command_sets_parameters_in_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    """As KEY=VALUE, and with -s."""
    layer = "Conv2d(4, 8, kernel_size=3)"
    shown = []
    for arguments in (["-s", "kernel_size=5"], ["kernel_size=5"]):
        assert 0 == run(["explain", layer, "conv2d", *arguments, "-i", "4x8x8", "--counters", "none", "-f", "json"])
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert 8 * 4 * 4 * 4 * 5 * 5 == json.loads(shown[0])["layers"][0]["macs"]["value"]


def test_without_counters_a_spec_is_explained_without_torch() -> None:
    """In a process of its own."""
    code = (
        "import sys; from convstat.cli.run import run; "
        f"run(['explain', {RESNET!r}, 'conv1', '--counters', 'none', '-qq']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "False\n" == done.stdout, done.stderr
