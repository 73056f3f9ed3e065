"""Models in parts: the sum of their parts, each counted by itself and taken as often as it is called."""

from __future__ import annotations

import json
from math import ceil
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import convstat
from convstat.api import load
from convstat.cli.run import run
from convstat.errors import SpecError
from convstat.spec import Spec, read
from convstat.spec.schema import spec_schema
from convstat.targets import analysis, resolve
from convstat.targets.request import Request

PARTS = {
    "encoder": "[{Conv2d: {out_channels: M, kernel_size: 5, stride: 4, padding: 2}, name: down}, unit]",
    "plane": "[{Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}}, PReLU]",
    "decoder": "[unit, {ConvTranspose2d: {out_channels: 3, kernel_size: 4, stride: 4, bias: false}, name: up}]",
}
SPEC = f"""\
convstat: 1
name: codec
vars: {{H: 16, W: 32, M: 8}}
blocks:
  unit: [{{Conv2d: {{out_channels: cin, kernel_size: 3, padding: 1}}}}, BatchNorm2d]
parts:
  encoder:
    input: [3, H, W]
    layers: {PARTS["encoder"]}
  plane:
    input: [1, H, W]
    layers: {PARTS["plane"]}
  chroma:
    same: plane
    input: [1, H//2, W//2]
    calls: 2
  decoder:
    input: [M, H//4, W//4]
    calls: ceil(W/10)
    layers: {PARTS["decoder"]}
models: {{wide: {{M: 12}}}}
"""


def alone(name: str, sizes: str, h: int, w: int, m: int) -> Spec:
    """A part as a spec of its own."""
    block = "blocks: {unit: [{Conv2d: {out_channels: cin, kernel_size: 3, padding: 1}}, BatchNorm2d]}\n"
    used = block if "unit" in PARTS[name] else ""
    return read(
        f"convstat: 1\nname: {name}\ninput: {sizes}\nvars: {{H: {h}, W: {w}, M: {m}}}\n{used}layers: {PARTS[name]}\n",
        f"{name}.yaml",
    )


SIZES = {"encoder": "[3, H, W]", "plane": "[1, H, W]", "chroma": "[1, H//2, W//2]", "decoder": "[M, H//4, W//4]"}


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_a_model_is_the_sum_of_its_parts(h: int, w: int, m: int, batch: int) -> None:
    """In every figure, each part as often as it is called; what is the same has its weights once."""
    h, w = 4 * h, 4 * w
    calls = {"encoder": 1, "plane": 1, "chroma": 2, "decoder": ceil(w / 10)}
    parts = {
        name: alone("plane" if name == "chroma" else name, SIZES[name], h, w, m).expand(batch=batch) for name in calls
    }
    spec = read(SPEC, "codec.yaml")
    given_ = {"H": h, "W": w, "M": m}
    graph, measured = spec.expand(given_, batch=batch), spec.measure(given_, batch=batch)
    macs = {name: sum(node.cost.macs for node in part.nodes) for name, part in parts.items()}
    params = {name: sum(node.layer.params() for node in part.nodes) for name, part in parts.items()}
    assert sum(calls[name] * macs[name] for name in calls) == measured.macs
    assert sum(calls[name] * macs[name] for name in calls) == sum(node.runs * node.cost.macs for node in graph.nodes)
    assert sum(params[name] for name in ("encoder", "plane", "decoder")) == measured.params
    assert measured.params == sum(node.layer.params() for node in graph.nodes if not node.is_shared)
    assert [name for name in calls for _ in parts[name].nodes] == [node.name.partition(".")[0] for node in graph.nodes]
    assert list(calls.values()) == [part.runs for part in graph.parts]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the spec."""
    (tmp_path / "codec.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


MACS = {
    "encoder": 8 * 3 * 25 * 4 * 8 + 8 * 8 * 9 * 4 * 8,
    "plane": 4 * 9 * 16 * 32,
    "chroma": 2 * (4 * 9 * 8 * 16),
    "decoder": 4 * (8 * 8 * 9 * 4 * 8 + 8 * 3 * 16 * 4 * 8),
}
PARAMS = {
    "encoder": 8 * 3 * 25 + 8 + 8 * 8 * 9 + 8 + 16,
    "plane": 4 * 9 + 4 + 1,
    "chroma": 0,
    "decoder": 8 * 8 * 9 + 8 + 16 + 8 * 3 * 16,
}


def test_a_report_has_the_total_and_each_part(folder: Path) -> None:
    """By arithmetic; layers add up, and are saved and read back."""
    report = convstat.analyze("codec.yaml")
    assert MACS == {part.name: part.macs for part in report.parts}
    assert PARAMS == {part.name: part.params for part in report.parts}
    assert {"encoder": 1, "plane": 1, "chroma": 2, "decoder": 4} == {part.name: part.calls for part in report.parts}
    assert (sum(MACS.values()), sum(PARAMS.values())) == (report.totals.macs, report.totals.params)
    assert sum(MACS.values()) == sum(row.macs for row in report.layers)
    assert 16 * 32 == report.totals.pixels
    assert 4 == {row.name: row.runs for row in report.layers}["decoder.up"]
    assert 0 == run(["analyze", "codec.yaml", "-o", "r.json", "-qq"])
    assert report.parts == load("r.json").parts


@pytest.mark.parametrize("format", ["table", "tree", "markdown", "latex", "csv", "html"])
def test_each_part_is_shown(folder: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    """In every format that people read, and within 80 columns."""
    assert 0 == run(["analyze", "codec.yaml", "--counters", "none", "-f", format, "--width", "80"])
    out = capsys.readouterr().out.replace(",", "")
    for name, macs in MACS.items():
        assert name in out
        assert str(macs) in out
    if format in ("table", "tree"):
        assert max(map(len, out.splitlines())) <= 80


def test_a_comparison_has_each_part_below_its_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the table and in JSON; a point that cannot be is a row."""
    assert 0 == run(["compare", "codec.yaml", "codec.yaml#wide", "--width", "80"])
    out = capsys.readouterr().out
    assert 2 == out.count("decoder x 4")
    assert max(map(len, out.splitlines())) <= 80
    assert 0 == run(["compare", "codec.yaml", "W=32,40,2", "-f", "json"])
    first, second, bad = json.loads(capsys.readouterr().out)["rows"]
    assert MACS == {part["name"]: part["macs"] for part in first["parts"]}
    assert sum(part["macs"] for part in second["parts"]) == second["totals"]["macs"]
    assert "invalid" == bad["status"]


def test_a_budget_limits_a_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the names of its layers, to the unit, per pixel and as a share."""
    limits = [f"macs@decoder.**<={MACS['decoder']}", f"params@chroma.**<={0}", "macs(share)@plane.**<=10%"]
    (folder / "codec.yaml").write_text(SPEC + "budget: [" + ", ".join(f'"{limit}"' for limit in limits) + "]\n")
    assert 0 == run(["check", "codec.yaml"])
    capsys.readouterr()
    (folder / "codec.yaml").write_text(SPEC + f'budget: ["macs@decoder.**<={MACS["decoder"] - 1}"]\n')
    assert 1 == run(["check", "codec.yaml"])
    assert "over by 1" in capsys.readouterr().out


def test_a_diff_says_that_a_part_is_called_more_often(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For each layer of it, as its reason."""
    (folder / "more.yaml").write_text(SPEC.replace("calls: 2", "calls: 3"))
    assert 0 == run(["diff", "codec.yaml", "more.yaml", "-f", "json"])
    changed = [row for row in json.loads(capsys.readouterr().out)["layers"] if row["status"] == "changed"]
    assert {"chroma.conv2d", "chroma.prelu"} == {row["name"] for row in changed}
    assert 0 == run(["diff", "codec.yaml", "more.yaml"])
    assert "calls: 2 -> 3" in capsys.readouterr().out


def test_what_is_set_reaches_the_parts(folder: Path) -> None:
    """A variable every part, a path one part, an input the variables that it is made of, a picture too."""
    wide = convstat.analyze("codec.yaml", M=12)
    assert wide.totals == convstat.analyze("codec.yaml#wide").totals
    up = convstat.analyze("codec.yaml", **{"decoder.up.out_channels": 1})
    assert MACS["decoder"] - 4 * (8 * 2 * 16 * 4 * 8) == {part.name: part.macs for part in up.parts}["decoder"]
    expected = convstat.analyze("codec.yaml", H=32, W=64)
    assert expected.totals == convstat.analyze("codec.yaml", (3, 32, 64)).totals
    assert expected.totals == convstat.analyze("codec.yaml", picture="64x32").totals
    assert expected.parts == convstat.analyze("codec.yaml", picture="64x32").parts


def test_a_picture_in_blocks_has_each_part(folder: Path) -> None:
    """Its calls and its MACs are those of all blocks, also where these differ."""
    request = Request(resolve("codec.yaml"), per="block:16x32", picture="72x32")
    report = analysis.count(request)
    # Two rows of blocks: two of 16x32 and one of 16x8 in each.
    whole, narrow = convstat.analyze("codec.yaml"), convstat.analyze("codec.yaml", W=8)
    expected = {a.name: 4 * a.macs + 2 * b.macs for a, b in zip(whole.parts, narrow.parts, strict=True)}
    assert expected == {part.name: part.macs for part in report.parts}
    assert {"encoder": 6, "plane": 6, "chroma": 12, "decoder": 4 * 4 + 2} == {p.name: p.calls for p in report.parts}
    assert sum(expected.values()) == report.totals.macs
    assert PARAMS == {part.name: part.params for part in report.parts}
    assert {part.name: part.calls for part in report.parts} == {
        row.name.partition(".")[0]: row.runs for row in report.layers
    }
    assert {None} == {part.macs_of_one for part in report.parts}
    one = analysis.count(Request(resolve("codec.yaml"), per="block:16x32", picture="64x32"))
    assert {part.name: part.macs_of_one for part in whole.parts} == {p.name: p.macs_of_one for p in one.parts}


def test_other_counters_count_one_call_of_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So they are run where there is no more than one, and what they would be compared with is not made up."""
    assert 0 == run(["analyze", "codec.yaml"])
    assert "they count one call of each part" in capsys.readouterr().out
    assert 2 == run(["analyze", "codec.yaml", "--as", "fvcore"])
    assert "codec.yaml has parts that are called several times" in capsys.readouterr().err
    (folder / "once.yaml").write_text(SPEC.replace("    calls: 2\n", "").replace("    calls: ceil(W/10)\n", ""))
    report = convstat.analyze("once.yaml", counters="ptflops", predict=True)
    (row,) = report.counters
    assert row.predicted is not None
    assert row.is_explained


def test_the_expanded_spec_counts_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its parts, their calls, and what is the same."""
    assert 0 == run(["expand", "codec.yaml"])
    expanded = read(capsys.readouterr().out, "expanded.yaml")
    first, second = read(SPEC, "codec.yaml").measure(), expanded.measure()
    assert (first.params, first.macs, first.other, first.layers) == (
        second.params, second.macs, second.other, second.layers
    )  # fmt: skip


def test_formulas_and_explanations_are_of_all_calls(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The closed form times the number of calls."""
    assert 0 == run(["explain", "codec.yaml", "decoder.up", "--counters", "none"])
    assert "4 x (" in capsys.readouterr().out
    assert 0 == run(["formula", "codec.yaml", "-f", "json"])
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert sum(MACS.values()) == sum(layer["macs"]["value"] for layer in layers)


@pytest.mark.parametrize(
    ("old", "new", "message", "line"),
    [
        ("calls: 2", "calls: 0", "calls of part 'chroma' must be an integer of at least 1, not 0", 16),
        ("calls: 2", "calls: H/5", "calls of part 'chroma' must be an integer of at least 1, not 16/5", 16),
        ("calls: 2", "calls: K", "undefined variable 'K'", 16),
        ("same: plane", "same: plain", "no part 'plain' above", 14),
        ("same: plane", "same: decoder", "no part 'decoder' above", 14),
        ("    input: [1, H, W]\n", "", "part 'plane' has no input", 10),
        ("    calls: 2\n", "    cals: 2\n", "unknown key 'cals'", 16),
        ("    calls: 2\n", "    layers: [ReLU]\n", "a part that is the same as another has its layers", 16),
        ("name: codec\n", "name: codec\ninput: [3, 4, 4]\n", "a model in parts has no 'input' of its own", 3),
        ("models: {wide: {M: 12}}", "models: {wide: {input: [3, 4, 4]}}", "has no 'input' of its own", 21),
        ("  plane:\n", "  3plane:\n", "a key must be a word, not '3plane'", 10),
    ],
)
def test_a_mistake_has_its_place(old: str, new: str, message: str, line: int) -> None:
    """As every mistake in a spec."""
    assert old in SPEC
    with pytest.raises(SpecError) as caught:
        read(SPEC.replace(old, new, 1), "codec.yaml").expand()
    places = [d.mark.line for d in caught.value.diagnostics if message in d.message and d.mark]
    assert line in places, caught.value


def test_a_part_that_only_looks_the_same_is_refused() -> None:
    """Its weights would be others: those of Linear depend on the size of its input."""
    spec = read(
        "convstat: 1\nname: net\nparts:\n  a: {input: [1, 4, 4], layers: [Flatten, Linear: 2]}\n"
        "  b: {input: [1, 8, 8], same: a}\n",
        "net.yaml",
    )
    with pytest.raises(SpecError, match="part 'b' cannot be the same as 'a': its layer 'linear' has other weights"):
        spec.expand()


def test_the_parts_together_are_limited() -> None:
    """As any model is: a small file cannot stand for millions of layers."""
    parts = "".join(f"  p{n}: {{input: [1, 4], layers: [{{ReLU: , repeat: 30000}}]}}\n" for n in range(9))
    spec = read(f"convstat: 1\nname: big\nparts:\n{parts}", "big.yaml")
    with pytest.raises(SpecError, match="more than 100,000 layers in all parts"):
        spec.measure()


def test_an_input_that_others_depend_on_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is no variable, the other parts would keep their sizes."""
    assert 2 == run(["analyze", "codec.yaml", "-i", "decoder=8x8x8"])
    err = capsys.readouterr().err
    assert "the size H//4 of the input of part 'decoder' is 4, not 8" in err
    assert 2 == run(["analyze", "codec.yaml", "foo=1"])
    assert "no variable 'foo'" in capsys.readouterr().err
    assert 2 == run(["analyze", "codec.yaml", "decoder.up.kernel=1"])
    assert "kernel" in capsys.readouterr().err
    assert 2 == run(["analyze", "codec.yaml", "--fuse"])
    assert "--fuse takes one network" in capsys.readouterr().err


def test_the_schema_takes_parts() -> None:
    """And refuses what the reader refuses."""
    validator = jsonschema.Draft202012Validator(spec_schema())
    document = yaml.safe_load(SPEC)
    assert validator.is_valid(document)
    document["parts"]["chroma"]["cals"] = 1
    assert not validator.is_valid(document)
    assert not validator.is_valid({"convstat": 1, "name": "x"})
