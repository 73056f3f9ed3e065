"""What is added and lacks something says so as it is loaded, with the place; other packages add layer kinds too."""

from __future__ import annotations

import ast
import importlib.metadata
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import counted
import pytest
from test_docs import ROOT, apply, blocks, run

from convstat import layers
from convstat.cli.run import run as run_command
from convstat.counters import COUNTERS, Registry
from convstat.errors import UsageError
from convstat.formulas.cost import Cost, Shape
from convstat.layers.base import Argument, Count, Layer, last_axis
from convstat.render.base import Renderer, Renderers
from convstat.render.formats.registry import RENDERERS
from convstat.spec import read

PATCHES = [
    block.text
    for block in blocks((ROOT / "convstat" / "docs" / "contributing.md").read_text(encoding="utf-8"))
    if block.language == "diff"
]


class Scaled(Layer):
    """A product with one learned number for each feature, and a sum."""

    family = "learned"
    aliases = ("scaled",)

    features = Argument(Count(), infer=last_axis)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return inputs[0][:-1]

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return Cost(inputs[0][0] * self.features)

    def parameters(self) -> dict[str, Shape]:
        return {"weight": (self.features,)}

    def build(self) -> Any:
        import torch
        from torch import nn

        class Twin(nn.Module):
            def __init__(self, features: int) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.ones(features))

            def forward(self, input: torch.Tensor) -> torch.Tensor:
                return input @ self.weight

        return Twin(self.features)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points as installed distributions would name them; what they add is taken out again."""
    points: list[EntryPoint] = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        return points if group == layers.GROUP else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    before = [(table, dict(table)) for table in (layers._names, layers._kinds)]
    layers.load_plugins.cache_clear()
    yield points
    for table, kinds in before:
        table.clear()
        table.update(kinds)
    layers.load_plugins.cache_clear()


def test_another_package_adds_a_layer_kind(offered: list[EntryPoint]) -> None:
    """It is found by its name and its alias, counted like ours, listed, and run by the other counters."""
    offered.append(EntryPoint("Scaled", "test_adding:Scaled", layers.GROUP))
    report = counted.analyze("Scaled()", inputs=["5"], batch=3, counters="flopcountermode")
    assert (5, 3 * 5) == (report.totals.params, report.totals.macs)
    [row] = report.counters
    assert "failed" != row.status
    assert layers.NAMES["scaled"] is Scaled
    assert 0 == run_command(["list", "layers", "Scaled"])


@pytest.mark.parametrize(
    "layer", ["Scaled", "scaled: {}", "{scaled: null, name: last}", "last"], ids=["bare", "alias", "item", "variable"]
)
def test_a_spec_finds_the_layer_kind_of_another_package(offered: list[EntryPoint], layer: str) -> None:
    """By its name or alias, and where a variable names it; a plugin is not looked for while all names are ours."""
    spec = "input: [5]\nvars: {last: LAST}\nlayers: [Linear: 5, LAYER]\n"
    ours = read(spec.replace("LAST", "ReLU").replace("LAYER", "last"), "net.yaml")
    assert 5 * 5 + 5 == ours.measure().params
    offered.append(EntryPoint("Scaled", "test_adding:Scaled", layers.GROUP))
    theirs = read(spec.replace("LAST", "Scaled").replace("LAYER", layer), "net.yaml")
    assert (5 * 5 + 5) + 5 == theirs.measure().params


def test_ours_are_found_without_looking_for_others(offered: list[EntryPoint]) -> None:
    """Looking for entry points takes time, so a name that is ours does not start it; nor does a block."""
    offered.append(EntryPoint("Broken", "no_such_module:Broken", layers.GROUP))
    assert (
        9 * 4 * 6 * 6 == counted.analyze("Conv2d(1, 4, 3, bias=False)", inputs=["1x8x8"], counters="none").totals.macs
    )
    counted.analyze("DepthwiseSeparableConv(8)", inputs=["4x8x8"], counters="none")
    read("input: [5]\nvars: {act: ReLU, out: 3 + 1}\nlayers: [Linear: out, act]\n", "net.yaml").measure()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("Broken", "no_such_module:Broken", "plugin 'Broken' of convstat.layers failed: ModuleNotFoundError"),
        ("Other", "test_adding:Scaled", "an entry point is named as its kind"),
        ("ROOT", "test_adding:ROOT", "is no subclass of convstat.layers.base.Layer"),
    ],
)
def test_a_broken_layer_kind_of_another_package_is_named(
    offered: list[EntryPoint], name: str, value: str, said: str
) -> None:
    """With the entry point that it is from."""
    offered.append(EntryPoint(name, value, layers.GROUP))
    with pytest.raises(UsageError, match="uninstall or repair it") as caught:
        counted.analyze("Unknown(3)", inputs=["5"], counters="none")
    assert said in str(caught.value)


def bare(name: str, **fields: Any) -> type[Layer]:
    """A layer kind that has these things alone."""
    return type(name, (Layer,), fields)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (bare("A", family="x", __doc__="x", cost=Scaled.cost), "here: the layer kind A has no output_shape()"),
        (bare("B", family="x", __doc__="x", output_shape=Scaled.output_shape), "has no cost()"),
        (bare("C", __doc__="x", cost=Scaled.cost, output_shape=Scaled.output_shape), "has no family: the heading"),
        (bare("D", family="x", cost=Scaled.cost, output_shape=Scaled.output_shape), "has no docstring"),
        (
            bare("Linear", family="x", __doc__="x", cost=Scaled.cost, output_shape=Scaled.output_shape),
            "two layer kinds",
        ),
    ],
)
def test_a_layer_kind_says_what_it_lacks(kind: type[Layer], said: str) -> None:
    """And where it is."""
    with pytest.raises(ValueError, match="here: ") as caught:
        layers.add_kind(kind, "here")
    assert said in str(caught.value)


def test_a_layer_kind_without_a_twin_says_where_one_is_written() -> None:
    """It can be counted, and not built."""

    class Unbuilt(Scaled):
        """No twin."""

        build = Layer.build

    layer = Unbuilt.create({}, ((1, 4),))
    pytest.importorskip("torch")
    with pytest.raises(NotImplementedError, match=r"no class Unbuilt in torch.nn or convstat/layers/twins.py"):
        layer.build()


def test_a_format_says_what_it_lacks() -> None:
    """As it is loaded."""
    table = Renderers({"half": "test_adding:Half"})
    with pytest.raises(RuntimeError, match="the format test_adding:Half has no suffixes, about"):
        table["half"]


class Half(Renderer):
    """A format that is not done."""

    name: ClassVar[str] = "half"


def test_every_format_stands_in_the_table() -> None:
    """A class that nobody can name with -f is of no use."""
    listed = {f"{kind.__module__}:{kind.__name__}" for kind in RENDERERS.values()}
    for path in (ROOT / "convstat" / "render").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Renderer" for base in node.bases):
                place = f"{module}:{node.name}"
                is_used = place in listed or any(f"({node.name})" in text for text in _texts(path.parent))
                assert is_used, f"{place} stands not in convstat/render/formats/registry.py"


def _texts(folder: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]


def test_a_counter_says_what_it_lacks() -> None:
    """As it is put into the table."""

    class Half:
        name = "half"
        variant = unit = help = ""

    with pytest.raises(TypeError, match=r"the counter test_adding.Half has no version, run, predict"):
        Registry([Half()])  # type: ignore[list-item]
    assert len(COUNTERS) > 10


FORGOTTEN = {
    "a layer kind without a family": (
        0, "+class LowRankLinear(Linear)", "+class LowRankLinear(Layer)",
        "convstat/layers/linear.py: the layer kind LowRankLinear has no family",
    ),
    "a counter without a method": (2, "+    def walk(", "+    def forgotten(", "Numel has no walk"),
    "a format without a line on what it is for": (1, "+    about: ClassVar", "+    forgot: ClassVar", "has no about"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGOTTEN)
def test_what_a_recipe_forgets_is_said(what: str, tmp_path: Path) -> None:
    """By the first command that comes across it."""
    number, right, wrong, said = FORGOTTEN[what]
    assert right in PATCHES[number]
    apply(PATCHES[number].replace(right, wrong), tmp_path)
    imports = "from convstat.cli import main; import convstat.counters, convstat.layers"
    command = f"python -c '{imports}; main()' list formats"
    text, code = run(command, tmp_path, 0)
    assert code != 0
    assert said in " ".join(text.split())
