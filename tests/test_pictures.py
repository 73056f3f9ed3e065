"""Pictures in blocks: held against a loop over the samples of the picture, and a count of every block by itself."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convstat
from convstat.api import load
from convstat.cli.run import run
from convstat.count.blocks import tiles
from convstat.grammar.basis import BlockSize
from convstat.targets import analysis, resolve
from convstat.targets.pictures import candidates_of, picture_of
from convstat.targets.request import Request

SPEC = """\
convstat: 1
name: filter
input: {rec: [1, B + 2*E, B + 2*E], half: [2, (B + 2*E)//2, (B + 2*E)//2], qp: [3]}
per: "block:{B}+{E}"
vars: {B: 8, E: 2}
layers:
  - PixelUnshuffle: 2
    from: rec
    name: down
  - concat: [down, half]
    name: joined
  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}
    from: joined
    name: body
  - PixelShuffle: 2
  - Crop: E
    name: out
  - Linear: 1
    from: qp
    name: strength
outputs: [out, strength]
"""
"""4 x 6 x 3 x 3 MACs for every second position along each axis, and 3 for each block."""


def macs_of(height: int, width: int) -> int:
    """What the filter costs where it reads so many positions."""
    return 4 * 6 * 3 * 3 * (height // 2) * (width // 2) + 3


def by_hand(picture: tuple[int, int], block: BlockSize, edges: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """What every block delivers and reads, by looking at each row and each column of the picture.

    ``clip`` is written as the loop in NNVC was; the blocks are at least as large as the border there.
    """
    found = []
    for top in range(0, picture[0], block.height):
        for left in range(0, picture[1], block.width):
            height = len([y for y in range(top, top + block.height) if y < picture[0]])
            width = len([x for x in range(left, left + block.width) if x < picture[1]])
            rows = range(top - block.border, top + height + block.border)
            columns = range(left - block.border, left + width + block.border)
            if edges == "clip":
                read = len([y for y in rows if 0 <= y < picture[0]]), len([x for x in columns if 0 <= x < picture[1]])
            else:
                read = len(rows), len(columns)
            found.append(((height, width), read))
    return found


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.integers(0, 9), st.booleans())
@settings(deadline=None, max_examples=300)
def test_the_blocks_are_those_of_a_loop_over_the_picture(
    height: int, width: int, block_height: int, block_width: int, border: int, is_clipped: bool
) -> None:
    """Every kind of block once, with the number of its blocks; together they deliver the picture."""
    block, edges = BlockSize(block_height, block_width, border), "clip" if is_clipped else "pad"
    expected = by_hand((height, width), block, edges)
    found = tiles((height, width), block, edges)
    assert len({tile[:2] for tile in found}) == len(found)
    assert sorted(expected) == sorted(kind for *kind_, times in found for kind in [tuple(kind_)] * times)
    assert height * width == sum(tile.size[0] * tile.size[1] * tile.times for tile in found)
    if not is_clipped:
        assert len(found) <= 4


def test_a_block_of_the_first_column_reads_no_more_than_there_is() -> None:
    """A border wider than the blocks ends at the picture on both sides."""
    assert [((2, 2), (6, 6), 9)] == [tuple(tile) for tile in tiles((6, 6), BlockSize(2, 2, 9), "clip")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the spec."""
    (tmp_path / "filter.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("edges", ["pad", "clip"])
@pytest.mark.parametrize("size", ["20x12", "16x8", "6x4", "30x10"])
def test_a_picture_costs_what_its_blocks_cost(folder: Path, size: str, edges: str) -> None:
    """Each block counted by itself, in the order in which it is processed."""
    # What crops a border on every side is for blocks that have one there.
    whole = SPEC.replace("  - Crop: E\n", "") if edges == "clip" else SPEC
    (folder / "filter.yaml").write_text(whole)
    report = analysis.count(Request(resolve("filter.yaml"), picture=size, edges=edges))
    expected = by_hand(picture_of(size), BlockSize(8, 8, 2), edges)
    height, width = picture_of(size)
    assert sum(macs_of(*read) for _, read in expected) == report.totals.macs
    assert height * width == report.totals.pixels
    assert sum(rows * columns for _, (rows, columns) in expected) == report.totals.pixels_read
    assert Fraction(report.totals.pixels_read, height * width) == report.totals.border_overhead
    assert report.blocks is not None
    assert len(expected) == report.blocks.count
    assert {len(expected)} == {row.runs for row in report.layers}
    assert 4 * 6 * 9 + 4 + 4 == report.totals.params
    assert sum(row.macs for row in report.layers) == report.totals.macs


def test_each_shape_is_counted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of many blocks takes at most one count for each of four shapes, and one of the model by itself."""
    counted: list[Request] = []
    prepare = analysis.prepare

    def spy(request: Request, **more: object) -> object:
        counted.append(request)
        return prepare(request, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(analysis, "prepare", spy)
    report = analysis.count(Request(resolve("filter.yaml"), picture="1918x1078"))
    assert report.blocks is not None
    assert 4 == len(report.blocks.shapes)
    assert 4 == len(counted), "the whole block is the model by itself"


def test_a_picture_of_a_model_without_blocks_is_read_as_a_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """At its own size, in one call."""
    layer = "Conv2d(1, 4, 3, padding=1, bias=False)"
    assert 0 == run(["analyze", layer, "-i", "1x8x8", "--picture", "40x30", "-f", "json", "--per", "luma420"])
    document = json.loads(capsys.readouterr().out)
    assert 4 * 9 * 40 * 30 == document["totals"]["macs"]
    assert "luma pixels of 30x40" == document["totals"]["pixel_basis"]
    assert "blocks" not in document


def test_a_python_model_is_counted_in_blocks(folder: Path) -> None:
    """Traced for each shape."""
    (folder / "net.py").write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.PReLU())\n"
    )
    request = Request(resolve("net.py:build"), inputs=("1x12x12",), per="block:8+2", picture="20x12")
    report = analysis.count(request)
    expected = by_hand((12, 20), BlockSize(8, 8, 2), "pad")
    assert sum(36 * height * width for _, (height, width) in expected) == report.totals.macs
    assert 36 + 1 == report.totals.params


def test_python_counts_a_picture_as_the_command_does(folder: Path) -> None:
    """A spec, and a module."""
    from torch import nn

    expected = by_hand((12, 20), BlockSize(8, 8, 2), "pad")
    total = sum(macs_of(*read) for _, read in expected)
    assert total == convstat.analyze("filter.yaml", picture="20x12").totals.macs
    module = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    report = convstat.analyze(module, (1, 12, 12), per="block:8+2", picture="20x12")
    assert sum(36 * height * width for _, (height, width) in expected) == report.totals.macs
    worst = convstat.analyze(module, (1, 12, 12), per="block:8+2", worst_case=["4", "8"])
    assert (36 * 8 * 8, 4 * 4) == (worst.totals.macs, worst.totals.pixels)


def test_the_worst_case_costs_most_per_pixel(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By itself, and with a picture as a tiling of it."""
    command = ["analyze", "filter.yaml", "--worst-case", "4,8x16,32", "--counters", "none", "-f", "json"]
    assert 0 == run(command)
    document = json.loads(capsys.readouterr().out)
    sizes = [(4, 4), (8, 16), (32, 32)]
    expected = [Fraction(macs_of(h + 4, w + 4), h * w) for h, w in sizes]
    assert [float(value) for value in expected] == [c["macs_per_pixel"] for c in document["blocks"]["worst_of"]]
    assert float(max(expected)) == document["totals"]["macs_per_pixel"]
    assert [4, 4] == document["blocks"]["block"]
    assert 0 == run([*command, "--picture", "20x12"])
    document = json.loads(capsys.readouterr().out)
    totals = [sum(macs_of(*read) for _, read in by_hand((12, 20), BlockSize(h, w, 2), "pad")) for h, w in sizes]
    assert totals == [candidate["macs"] for candidate in document["blocks"]["worst_of"]]
    assert max(totals) == document["totals"]["macs"]


def test_a_budget_is_judged_on_the_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the unit, and on the worst case."""
    total = sum(macs_of(*read) for _, read in by_hand((12, 20), BlockSize(8, 8, 2), "pad"))
    check = ["check", "filter.yaml", "--picture", "20x12"]
    assert 0 == run([*check, "--exact", f"macs={total}"])
    assert 1 == run([*check, "--max", f"macs={total - 1}"])
    assert 1 == run([*check, "--max", f"macs_per_pixel={(total - 1) / 240}"])
    assert "240 (picture 20x12 in 6 blocks of up to 8x8, border 2)" in capsys.readouterr().out


def test_pictures_are_swept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture that cannot be is a row with its reason."""
    assert 0 == run(["compare", "filter.yaml", "picture=20x12,21x12", "-f", "json"])
    good, bad = json.loads(capsys.readouterr().out)["rows"]
    assert "ok" == good["status"]
    assert good["totals"]["border_overhead"] > 1
    assert "invalid" == bad["status"]
    assert "half" in bad["reason"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--picture", "1080p"], "--picture takes WIDTHxHEIGHT, not '1080p'"),
        (["--picture", "0x4"], "--picture takes WIDTHxHEIGHT"),
        (["--worst-case", "8,a"], "--worst-case takes block sizes, and 'a' is none"),
        (["--worst-case", "0"], "--worst-case takes block sizes"),
        (["--edges", "clip"], "--edges is about blocks of a picture"),
        (["--picture", "8x8", "--edges", "wrap"], "unknown rule for edges 'wrap'"),
        (["--picture", "8x8", "--counters", "ptflops"], "other counters count one call of a model"),
        (["--picture", "8x8", "--as", "fvcore"], "--as cannot be combined with --picture"),
        (["--picture", "9x8"], "no whole number of positions"),
    ],
)
def test_what_cannot_be_says_why(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    """With an example, or with the block that the model cannot take."""
    assert 2 == run(["analyze", "filter.yaml", *more])
    assert message in capsys.readouterr().err


def test_a_network_for_one_size_is_none_for_blocks(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    """Its parameters would be others; and what takes no pictures has no blocks."""
    (folder / "fixed.yaml").write_text(
        "convstat: 1\nname: fixed\ninput: [1, 8, 8]\nper: block:8\nlayers: [Flatten, Linear: 4]\n"
    )
    assert 2 == run(["analyze", "fixed.yaml", "--picture", "12x8"])
    assert "fixed has 260 params for blocks of 8x8, and 132 for blocks of 8x4" in capsys.readouterr().err
    assert 2 == run(["analyze", "Linear(4, 8)", "-i", "4", "--picture", "12x8"])
    assert "takes no pictures: its first input is 4, not C x H x W" in capsys.readouterr().err


def test_a_report_in_blocks_is_saved_and_read_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, and shown again as it was."""
    assert 0 == run(["analyze", "filter.yaml", "--picture", "20x12", "--worst-case", "8,4", "-o", "r.json", "-q"])
    shown = capsys.readouterr().out
    assert 0 == run(["render", "r.json"])
    assert shown == capsys.readouterr().out
    report = load("r.json")
    assert report.blocks is not None
    assert (12, 20) == report.blocks.picture
    assert report == convstat.api.Report.from_dict(report.to_dict())
    for line in shown.splitlines():
        assert len(line) <= 120


def test_a_saved_report_is_not_counted_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has its pixels already."""
    assert 0 == run(["analyze", "filter.yaml", "--counters", "none", "-o", "r.json", "-qq"])
    for command in ("analyze", "compare", "check"):
        assert 2 == run([command, "r.json", "--picture", "20x12"])
        assert "r.json is a saved report: it takes no --picture" in capsys.readouterr().err


def test_sizes_are_read() -> None:
    """A border of its own, or that of the basis."""
    assert [BlockSize(8, 8, 3), BlockSize(4, 16, 0), BlockSize(2, 2, 3)] == candidates_of(["8, 4x16+0", "2"], 3)
    assert (1080, 1920) == picture_of(" 1920x1080 ")
