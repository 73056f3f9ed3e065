"""Activations: the elements of the outputs of convolutions and products, of convolutions alone, and of all layers."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from counted import analyze, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st
from live import ask
from torch import nn
from zoo_classifiers import each

import convstat
from convstat.cli.run import run
from convstat.results.sums import total
from convstat.trace.build import build, example_inputs

CONFIGS = sorted(Path("configs").glob("*.yaml"))
CONFIG = "configs/mobilenet_v1.yaml"


def test_of_each_kind_by_hand() -> None:
    """A convolution, a transposed one, a linear layer, what has no MACs, and the products of attention."""

    def figures(model: nn.Module, *shape: int) -> tuple[int | None, int | None, int | None]:
        totals = convstat.analyze(model, shape).totals
        return totals.activations, totals.conv_activations, totals.output_elements

    assert figures(nn.Conv2d(3, 8, 3), 3, 10, 10) == (8 * 8 * 8, 8 * 8 * 8, 8 * 8 * 8)
    assert figures(nn.ConvTranspose2d(3, 8, 2, stride=2), 3, 5, 5) == (8 * 10 * 10,) * 3
    assert figures(nn.Linear(6, 4), 7, 6) == (7 * 4, 0, 7 * 4)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    assert figures(net, 3, 10, 10) == (512 + 10, 512, 4 * 512 + 10)
    # The queries, the keys and the values, the scores of 2 heads, the weighted sums, and the output.
    attention = 3 * 5 * 8 + 2 * 5 * 5 + 5 * 8 + 5 * 8
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert figures(encoder, 5, 8)[:2] == (attention + 5 * 16 + 5 * 8, 0)
    # Four gates of 6, from the input and from the state, for each of 7 steps; the projection has 3.
    lstm = nn.LSTM(5, 6, proj_size=3, batch_first=True)
    assert figures(lstm, 7, 5)[:2] == (7 * (4 * 6 + 4 * 6 + 3), 0)


def test_activations_of_the_papers() -> None:
    """Radosavovic et al., Designing Network Design Spaces, tables 2 and 4: millions, on 224x224."""
    if find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    published = {"regnet_y_400mf": 3.9, "regnet_x_800mf": 5.1, "resnet50": 11.1, "resnet101": 16.2}
    for name, millions in published.items():
        found = analyze(f"torchvision/{name}", counters="none").totals
        assert found.activations is not None
        assert found.conv_activations == found.activations - 1000
        assert round(found.activations / 1e6, 1) == millions, name


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_spec_and_its_model_have_the_same(config: Path) -> None:
    """Layer by layer, and as a whole."""
    graph = graph_of(str(config))
    spec = analyze(str(config), counters="none")
    model = build(graph, device="meta", dtype="float32")
    traced = convstat.analyze(model, example_inputs(graph, device="meta", dtype="float32"), counters="none")
    for name in ("activations", "conv_activations"):
        assert getattr(traced.totals, name) == getattr(spec.totals, name), name
        of = {row.name: getattr(row, name) for row in traced.layers}
        for row in spec.layers:
            assert of.get(row.name, 0) == getattr(row, name), row.name
    assert spec.totals == total(spec.layers, spec.totals.pixels, spec.totals.pixel_basis)


@given(
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from([nn.RNN, nn.GRU, nn.LSTM]),
    st.integers(1, 2),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_recurrent_stacks_have_the_same_in_a_spec_and_in_torch(
    batch: int, steps: int, size: int, kind: type[nn.RNNBase], layers: int, bidirectional: bool
) -> None:
    """Whichever kernels run: one for the stack, or several for each step."""
    options = f"num_layers={layers}, bidirectional={str(bidirectional).lower()}, batch_first=true"
    written = f"{kind.__name__}(hidden_size={size + 1}, {options})"
    spec = analyze(written, inputs=(f"{steps}x{size}",), batch=batch, counters="none").totals
    module = kind(size, size + 1, layers, bidirectional=bidirectional, batch_first=True)
    for device in ("cpu", "meta"):
        traced = convstat.analyze(module.to(device), torch.zeros(batch, steps, size, device=device), counters="none")
        assert traced.totals.activations == spec.activations


def test_a_backward_pass_has_none() -> None:
    """Training has those of the forward pass."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    once, twice = (
        convstat.analyze(model, (3, 10, 10), mode=mode, counters="none").totals for mode in ("eval", "train")
    )
    assert twice.macs > once.macs
    assert (twice.activations, twice.output_elements) == (once.activations, once.output_elements)


@pytest.mark.parametrize("name", each())
def test_fvcore_counts_the_same_on_the_networks_of_torchvision(name: str) -> None:
    """``ActivationCountAnalysis``, run live, gives what is predicted: all but attention that is one kernel."""
    if find_spec("torchvision") is None or find_spec("fvcore") is None:
        pytest.skip("needs torchvision and fvcore")
    from convstat.patches.operators import torchvision_compat

    torchvision_compat()
    import torchvision

    model = torchvision.models.get_model(name, weights=None).eval()
    side = 299 if "inception" in name else 224 if any(word in name for word in ("vit", "swin")) else 96
    answer = ask(model, torch.zeros(1, 3, side, side), only=("fvcore",))["fvcore"]
    answer.check(name)
    assert answer.reported is not None
    assert answer.reported.native is not None
    own = convstat.analyze(model, (3, side, side), counters="none")
    unseen = 0
    if name.startswith("vit"):
        # Scores and weighted sums of each head, in each block.
        tokens = (side // model.patch_size) ** 2 + 1
        blocks, width = len(model.encoder.layers), model.hidden_dim
        heads = model.encoder.layers[0].num_heads
        unseen = blocks * (heads * tokens * tokens + tokens * width)
    assert answer.reported.native["activations"] == (own.totals.activations or 0) - unseen


def test_what_fvcore_does_not_count() -> None:
    """Its rules to the letter: padding in words is another operator, and so is a product with a sum."""
    if find_spec("fvcore") is None:
        pytest.skip("needs fvcore")

    class Products(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.baddbmm(x, x, x) + torch.einsum("bij,bjk->bik", x, x) + torch.bmm(x, x) + x @ x

    words = ask(nn.Conv2d(3, 4, 3, padding="same"), torch.zeros(1, 3, 8, 8), only=("fvcore",))["fvcore"]
    words.check("padding")
    assert words.reported is not None
    assert words.reported.native == {"flops": 0, "activations": 0}
    products = ask(Products(), torch.zeros(2, 4, 4), only=("fvcore",))["fvcore"]
    products.check("products")
    assert products.reported is not None
    assert products.reported.native is not None
    assert products.reported.native["activations"] == 3 * 2 * 4 * 4
    own = convstat.analyze(Products(), torch.zeros(2, 4, 4), counters="none").totals
    assert own.activations == 4 * 2 * 4 * 4


def test_they_are_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON, CSV, columns, comparisons, budgets, and the list of metrics; a saved report keeps them."""
    found = analyze(CONFIG, counters="none").totals
    expected = {name: getattr(found, name) for name in ("activations", "conv_activations", "output_elements")}
    saved, table = tmp_path / "report.json", tmp_path / "report.csv"
    assert run(["analyze", CONFIG, "--counters", "none", "-o", str(saved), "-o", str(table), "-qq"]) == 0
    document = json.loads(saved.read_text())
    assert {name: document["totals"][name] for name in expected} == expected
    assert sum(layer.get("activations", 0) for layer in document["layers"]) == expected["activations"]
    rows = list(csv.DictReader(table.open()))
    for name, value in expected.items():
        assert [int(row[name]) for row in rows if row["row"] == "total"] == [value]
        assert sum(int(row[name]) for row in rows if row["row"] == "layer") == value
    capsys.readouterr()
    assert run(["analyze", str(saved), "--columns", "activations,output elements"]) == 0
    out = capsys.readouterr().out
    assert f"{expected['activations']:,}" in out
    assert f"{expected['output_elements']:,}" in out
    assert "MACs/pixel" not in out
    for options in ([], ["--weights", "int8"]):
        assert run(["compare", CONFIG, "batch=1,2", "-f", "json", *options]) == 0
        first, second = json.loads(capsys.readouterr().out)["rows"]
        assert {name: first["totals"][name] for name in expected} == expected
        assert {name: second["totals"][name] for name in expected} == {n: 2 * value for n, value in expected.items()}
    assert run(["compare", CONFIG, "batch=1,2", "--columns", "activations,conv activations"]) == 0
    assert f"{2 * expected['activations']:,}" in capsys.readouterr().out
    for name, value in expected.items():
        for target in (CONFIG, str(saved)):
            assert run(["check", target, "--max", f"{name}={value}"]) == 0
            assert run(["check", target, "--max", f"{name}={value - 1}"]) == 1
    assert run(["check", CONFIG, "--max", "conv_activations(each)@stem=400k"]) == 1
    assert "401,408" in capsys.readouterr().out
    assert run(["check", CONFIG, "--max", "acts=5M"]) == 2
    assert "did you mean 'activations'?" in capsys.readouterr().err
    assert run(["list", "metrics"]) == 0
    assert set(expected) <= set(capsys.readouterr().out.split())


def test_a_report_of_an_earlier_version_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on them has no verdict, as it has none in the convention of another counter."""
    saved = tmp_path / "report.json"
    assert run(["analyze", CONFIG, "--counters", "none", "-o", str(saved), "-qq"]) == 0
    document = json.loads(saved.read_text())
    for name in ("activations", "conv_activations", "output_elements"):
        del document["totals"][name]
        for layer in document["layers"]:
            layer.pop(name, None)
    saved.write_text(json.dumps(document))
    assert convstat.load(saved).totals.activations is None
    assert run(["check", str(saved), "--max", "activations=1"]) == 0
    assert "the report has no activations" in capsys.readouterr().out
    assert run(["check", CONFIG, "--base", str(saved), "--max-growth", "activations=2%"]) == 0
    assert "the base has no activations" in capsys.readouterr().out


def test_totals_that_are_not_the_sum_of_the_layers_are_refused(tmp_path: Path) -> None:
    """As all others are."""
    saved = tmp_path / "report.json"
    assert run(["analyze", CONFIG, "--counters", "none", "-o", str(saved), "-qq"]) == 0
    document = json.loads(saved.read_text())
    document["totals"]["activations"] += 1
    saved.write_text(json.dumps(document))
    assert run(["render", str(saved)]) == 2
