"""What MACs/pixel divide by: said by a spec, a budget or a sweep, with the values of variables."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convstat
from convstat.cli.run import run
from convstat.errors import UsageError
from convstat.grammar.basis import BASES, block_of, check, fill, holes, place
from convstat.spec import read
from convstat.testing import assert_budget

SPEC = """\
convstat: 1
name: filter
input: [1, B + 2*E, B + 2*E]
per: "block:{B}+{E}"
vars: {B: 128, E: 8}
layers:
  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1, bias: false}
  - Crop: E
models:
  bare: {E: 0}
  by_input: {per: input}
budget: ["macs_per_pixel<=100", "macs_per_pixel[input]<=36", "macs_per_pixel[block:{B+2*E}]<=36"]
"""
"""4 x 3 x 3 MACs for each of the (B + 2E)^2 positions that are read."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the spec, and nothing of a project around it."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "filter.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_spec_says_what_its_pixels_are(folder: Path) -> None:
    """With the values of its variables, also of a variant and of an override."""
    totals = convstat.analyze("filter.yaml").totals
    assert (128 * 128, "block 128x128, border 8") == (totals.pixels, totals.pixel_basis)
    assert Fraction(4 * 3 * 3 * 144 * 144, 128 * 128) == totals.macs_per_pixel
    assert "block 128x128, border 0" == convstat.analyze("filter.yaml#bare").totals.pixel_basis
    assert "input 144x144" == convstat.analyze("filter.yaml#by_input").totals.pixel_basis
    assert Fraction(36 * 80 * 80, 64 * 64) == convstat.analyze("filter.yaml", B=64).totals.macs_per_pixel


def test_who_says_it_last(folder: Path) -> None:
    """The command, the settings of the model, the spec, the settings of all models."""

    def basis(*more: str) -> str:
        assert 0 == run(["analyze", "filter.yaml", "--counters", "none", "-q", "-o", "r.json", "-qq", *more])
        return str(json.loads(Path("r.json").read_text())["totals"]["pixel_basis"])

    assert basis() == "block 128x128, border 8"
    (folder / "convstat.toml").write_text('per = "element"\n')
    assert basis() == "block 128x128, border 8"
    (folder / "convstat.toml").write_text('[[models]]\nmodel = "filter.yaml"\nper = "luma420"\n')
    assert basis() == "luma pixels of 144x144"
    assert basis("--per", "block:{B}+{E}") == "block 128x128, border 8"
    (folder / "convstat.toml").write_text('per = "element"\n')
    (folder / "filter.yaml").write_text(SPEC.replace('per: "block:{B}+{E}"\n', ""))
    assert basis() == "elements of input 1x144x144"
    assert basis("--per", "input") == "input 144x144"


def test_a_sweep_has_a_divisor_for_each_point(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table; a point that does not fit is a row with its reason."""
    assert 0 == run(["compare", "filter.yaml", "B=64,128,256", "--per", "block:{B}+8", "-f", "json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [36 * (size + 16) ** 2 / size**2 for size in (64, 128, 256)] == [
        row["totals"]["macs_per_pixel"] for row in rows
    ]
    assert 0 == run(["compare", "filter.yaml", "E=7,8", "--per", "block:{B}+8", "-f", "json"])
    bad, good = json.loads(capsys.readouterr().out)["rows"]
    assert "ok" == good["status"]
    assert "invalid" == bad["status"]
    assert "needs a first input of 144x144" in bad["reason"]
    assert 0 == run(["compare", "filter.yaml", "B=64,65", "--per", "block:{B/2}+24", "-f", "json"])
    good, bad = json.loads(capsys.readouterr().out)["rows"]
    assert "an integer from 0 to 999,999, and B/2 is 65/2" in bad["reason"]
    assert 36 * 80 * 80 / 32**2 == good["totals"]["macs_per_pixel"], "an input of 80 is a block of 32, border 24"


def test_a_sweep_of_a_python_model_has_a_divisor_for_each_point(folder: Path) -> None:
    """The parameters that are set have values; another name is a mistake."""
    (folder / "net.py").write_text(
        "from torch import nn\n\ndef build(B):\n    return nn.Conv2d(1, 4, 3, padding=1, bias=False)\n"
    )
    command = ["compare", "net.py:build", "B=8,12", "-i", "1x12x12", "-o", "c.json", "-qq"]
    assert 0 == run([*command, "--per", "block:{B}+{(12-B)//2}"])
    rows = json.loads(Path("c.json").read_text())["rows"]
    assert [36 * 12 * 12 / 64, 36] == [row["totals"]["macs_per_pixel"] for row in rows]


def test_a_budget_names_what_it_divides_by(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is judged by its own pixels, and every format says which; the layers too."""
    assert 0 == run(["check", "filter.yaml"])
    out = capsys.readouterr().out
    assert "pixels  16,384 (block 128x128, border 8)" in out
    assert "pixels  20,736 (input 144x144)" in out
    more = ["--max", "macs_per_pixel[block:{B}+{E}]=45.5", "--max-layer", "conv2d:macs_per_pixel[element]=35.9"]
    assert 1 == run(["check", "filter.yaml", *more, "-f", "json"])
    found = {b["per"]: b for b in json.loads(capsys.readouterr().out)["budgets"] if b["status"] == "fail"}
    assert {"block:{B}+{E}", "element"} == set(found)
    assert 36 * 144 * 144 / 128 / 128 == found["block:{B}+{E}"]["actual"]
    assert 16_384 == found["block:{B}+{E}"]["pixels"]
    assert 36 == found["element"]["actual"]
    for format in ("comment", "github", "sarif", "junit", "gitlab", "markdown", "csv"):
        assert 1 == run(["check", "filter.yaml", *more, "-f", format])
        assert "block 128x128, border 8" in capsys.readouterr().out.replace("\\", ""), format


def test_a_comment_says_what_is_divided_by(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where every budget is kept."""
    assert 0 == run(["check", "filter.yaml", "-f", "comment"])
    assert "MACs/pixel divide by 16,384 (block 128x128, border 8)" in capsys.readouterr().out
    assert 0 == run(["check", "filter.yaml#by_input", "--max", "params=36", "-f", "comment"])
    assert "block 128x128, border 8" not in capsys.readouterr().out


def test_assert_budget_takes_a_basis() -> None:
    """The model is counted once for each; a report has been counted already."""
    layer = "Conv2d(1, 4, 3, padding=1, bias=False)"
    assert_budget(layer, "macs_per_pixel[block:8+2]==81", "macs_per_pixel==36", inputs=(1, 12, 12))
    with pytest.raises(AssertionError, match="block:8"):
        assert_budget(layer, "macs_per_pixel[block:8+2]<=80", inputs=(1, 12, 12))
    with pytest.raises(UsageError, match="already counted"):
        assert_budget(convstat.analyze(layer, (1, 12, 12)), "macs_per_pixel[input]<=80")


@pytest.mark.parametrize(
    ("written", "message", "column"),
    [
        ('"block:{D}+{E}"', "undefined variable 'D'", 14),
        ('"block:{B"', "unknown basis 'block:{B'", 6),
        ('"blok:{B}"', "unknown basis 'blok:{B}'", 6),
        ('"block:{}+1"', "missing value", 6),
        ("[1, 2]", "per is the divisor of MACs/pixel", 6),
        ("null", "unknown basis 'null'", 6),
        ("block:0", "at least 1x1", 6),
    ],
)
def test_a_mistake_in_the_key_has_its_place(written: str, message: str, column: int) -> None:
    """As every mistake in a spec."""
    with pytest.raises(convstat.errors.SpecError) as caught:
        read(SPEC.replace('"block:{B}+{E}"', written), "filter.yaml")
    (problem,) = [d for d in caught.value.diagnostics if message in d.message]
    assert problem.mark is not None
    assert (4, column) == (problem.mark.line, problem.mark.column)


def test_a_value_that_is_no_size_has_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the spec, and on the command line."""
    (folder / "filter.yaml").write_text(SPEC.replace("{B}+{E}", "{B/3}+{E}"))
    assert 2 == run(["analyze", "filter.yaml", "--counters", "none"])
    err = capsys.readouterr().err
    assert "filter.yaml:4:14: error: a size of a block must be an integer from 0 to 999,999, and B/3 is 128/3" in err
    assert 2 == run(["analyze", "filter.yaml", "--counters", "none", "--per", "block:{C}+1"])
    err = capsys.readouterr().err
    assert "filter.yaml has no variable 'C'" in err
    assert "help: it has B, E" in err
    assert 2 == run(["check", "filter.yaml", "--max", "macs[input]=1"])
    assert "macs is not divided by pixels" in capsys.readouterr().err
    (folder / "filter.yaml").write_text(SPEC)
    assert 2 == run(["check", "filter.yaml", "--max", "macs_per_pixel[block:64+8]=1"])
    assert (
        "--max macs_per_pixel[block:64+8]=1: error: block:64+8 needs a first input of 80x80" in capsys.readouterr().err
    )


@given(st.integers(1, 10**6 - 1), st.integers(1, 10**6 - 1), st.integers(0, 10**6 - 1))
@settings(deadline=None)
def test_every_block_is_read_back(height: int, width: int, border: int) -> None:
    """Written with numbers or with expressions."""
    per = f"block:{height}x{width}+{border}"
    check(per)
    assert (height, width, border) == block_of(per)
    written = "block:{h}x{w}+{e}"
    check(written)
    values = {"h": height, "w": width, "e": border}
    assert per == fill(written, lambda text, offset: values[text], lambda at, length: place(written, at, length))
    assert [("h", 7), ("w", 11), ("e", 15)] == list(holes(written))


def test_the_schema_takes_what_is_read() -> None:
    """The pattern of the key per."""
    import re

    from convstat.grammar.basis import pattern

    for good in (*(name for name in BASES if name != "block:B+E"), "block:8", "block:8x4+2", "block:{B}x{W//2}+{E}"):
        check(good)
        assert re.match(pattern(), good), good
    for bad in ("block", "block:", "block:B+E", "inputs", "block:8+", "block:{{B}}"):
        with pytest.raises(UsageError):
            check(bad)
        assert not re.match(pattern(), bad), bad
