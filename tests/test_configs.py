"""Every shipped spec: read, counted, as cheap as its comment says, built, and reconciled with the live counters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from built import verify
from counted import analyze, graph_of

from convstat.targets import resolve

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

EXPECTED = {
    "alexnet",
    "asymmetric",
    "conv1d",
    "conv2d",
    "conv3d",
    "depthwise_separable",
    "dilated",
    "group_conv",
    "in_loop_filter",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "multi_channel_reference",
    "resnet50",
    "spatially_separable",
    "super_resolution",
    "transposed",
    "unet",
    "vit_b_16",
}

FIGURES = re.compile(
    r"#   (?P<file>\w+\.yaml)(?:#(?P<variant>\w+))?(?P<overrides>(?: \w+=\S+)*)"
    r" +(?P<params>[\d,]+) params +(?P<macs>[\d,]+) MACs"
)
MODELINE = "# yaml-language-server: $schema=../.convstat/spec.schema.json"


FAILURES = {("torchsummary", "vit_b_16"): "None"}
"""Counters that cannot run a spec, and what their reason must name: here the weights that attention does not return."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the comment at the head of a spec: what to count, and what must come out."""

    target: str
    overrides: dict[str, Any]
    params: int
    macs: int

    def __str__(self) -> str:
        return " ".join([Path(self.target).name, *(f"{name}={value}" for name, value in self.overrides.items())])


def figures(path: Path) -> list[Figure]:
    """The figures in the comment of a spec."""
    found = []
    for match in FIGURES.finditer(path.read_text(encoding="utf-8")):
        assert path.name == match["file"]
        target = f"{path}#{match['variant']}" if match["variant"] else str(path)
        overrides = dict(part.split("=") for part in match["overrides"].split())
        found.append(
            Figure(
                target,
                {name: yaml.safe_load(value) for name, value in overrides.items()},
                int(match["params"].replace(",", "")),
                int(match["macs"].replace(",", "")),
            )
        )
    return found


FIGURE_LINES = [figure for path in CONFIGS for figure in figures(path)]
CASES = pytest.mark.parametrize("figure", FIGURE_LINES, ids=str)
FILES = pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])


def test_the_configs_are_those_that_are_promised() -> None:
    """Nothing is missing, and nothing lies about that no test knows of."""
    assert EXPECTED == {path.stem for path in CONFIGS}
    # Those of other libraries lie in a folder of their own, and have tests of their own.
    assert {*CONFIGS, ROOT / "configs" / "hf"} == {*(ROOT / "configs").iterdir()}


@FILES
def test_a_spec_says_what_it_shows_and_where_its_figures_come_from(path: Path) -> None:
    """A modeline for editors, then a comment with its figures: one line for the spec and one for each variant."""
    text = path.read_text(encoding="utf-8")
    first, second, *_ = text.splitlines()
    assert MODELINE == first
    assert second.startswith("# ")
    assert "# Figures: " in text
    variants = {figure.target.partition("#")[2] for figure in figures(path)}
    assert {"", *yaml.safe_load(text).get("models", {})} == variants


@FILES
def test_a_spec_is_read_without_a_warning(path: Path) -> None:
    """No name is unused and nothing is computed for nothing."""
    assert () == tuple(resolve(str(path)).load().warnings)


@CASES
def test_the_figures_in_the_comment_are_true(figure: Figure) -> None:
    """What the comment promises is what is counted."""
    totals = analyze(figure.target, figure.overrides, counters="none").totals
    assert (figure.params, figure.macs) == (totals.params, totals.macs)


@FILES
def test_a_spec_keeps_its_own_budget(path: Path) -> None:
    """`convstat check` passes on the spec as it is."""
    command = [sys.executable, "-m", "convstat", "check", str(path), "-f", "json"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == answer.returncode, answer.stderr + answer.stdout
    assert {"pass"} == {row["status"] for row in json.loads(answer.stdout)["budgets"]}


@FILES
def test_a_spec_is_valid_by_the_schema(path: Path, schema: dict[str, Any]) -> None:
    """An editor that checks the spec against the printed JSON Schema finds nothing."""
    import jsonschema

    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_the_schema_can_refuse(schema: dict[str, Any]) -> None:
    """The check above can fail: on a layer that does not exist and on an argument that it does not have."""
    import jsonschema

    validator = jsonschema.Draft202012Validator(schema)
    head = {"convstat": 1, "name": "x", "input": [3, 8, 8]}
    assert validator.is_valid({**head, "layers": [{"Conv2d": {"out_channels": 8, "kernel_size": 3}}]})
    assert not validator.is_valid({**head, "layers": [{"Conv2d": {"out_channels": 8, "kernel_sise": 3}}]})
    assert not validator.is_valid({**head, "layer": []})


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """What `convstat schema spec` prints."""
    command = [sys.executable, "-m", "convstat", "schema", "spec"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


@CASES
def test_the_torch_model_of_a_spec_is_its_graph_layer_by_layer(figure: Figure) -> None:
    """Built and run on meta, every layer has the shapes, parameters and buffers that were counted."""
    from convstat.trace import build

    graph = graph_of(figure.target, figure.overrides)
    module = build.build(graph, device="meta")
    assert () == verify(graph, module)
    assert figure.params == sum(parameter.numel() for parameter in module.parameters())


@CASES
def test_the_live_counters_are_explained_to_the_unit(figure: Figure) -> None:
    """ptflops and torchsummary answer, or fail as predicted, and no part of their difference is without a name."""
    rows = analyze(figure.target, figure.overrides, counters="ptflops,torchsummary").counters
    assert ["ptflops", "torchsummary"] == [row.name for row in rows]
    for row in rows:
        if (row.name, Path(figure.target).stem) in FAILURES:
            assert "failed" == row.status
            assert FAILURES[row.name, Path(figure.target).stem] in str(row.error)
            continue
        assert ("ok", None) == (row.status, row.error)
        assert 0 == row.unexplained.params
        assert row.unexplained.macs == (None if row.reported.macs is None else 0)
        assert row.difference.params == sum(cause.params for cause in row.causes)


@pytest.mark.verify
@FILES
def test_the_counters_answer_the_same_on_real_tensors(path: Path) -> None:
    """What ptflops and torchsummary say on meta tensors, where nothing is computed, they say of a real run too."""
    on_meta, on_cpu = (
        analyze(str(path), counters="ptflops,torchsummary", device=device).counters for device in ("meta", "cpu")
    )
    assert ["meta", "cpu"] == [rows[0].device for rows in (on_meta, on_cpu)]
    for meta, cpu in zip(on_meta, on_cpu, strict=True):
        assert (meta.status, meta.reported, meta.causes) == (cpu.status, cpu.reported, cpu.causes)


@pytest.mark.verify
@FILES
def test_the_torch_model_of_a_spec_runs_on_real_tensors(path: Path) -> None:
    """Layer by layer, for one sample and for two, the shapes are those that were counted."""
    from convstat.trace import build

    for batch in (1, 2):
        graph = graph_of(str(path), batch=batch)
        assert () == verify(graph, build.build(graph, device="cpu"))
