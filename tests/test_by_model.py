"""Settings of single models, patterns of targets, and overrides of one side: what each command makes of them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import gitrepo
import pytest
from gitrepo import NET, PARAMS, WIDE

from convstat.cli.run import run
from convstat.commands import check, compare, diff
from convstat.commands.diff import Sides
from convstat.config import project as project_module
from convstat.config.requests import Requests
from convstat.errors import ConfigError, UsageError
from convstat.grammar.patterns import files, pattern
from convstat.history.baseline import Baselines
from convstat.targets import resolve
from convstat.targets.selection import select

MODEL = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv1d(4, width, 3)

    def forward(self, x):
        return self.conv(x)
"""
"""width x 4 x 3 weights and width biases; without a width and an input of 4 channels it does not run."""

SETTINGS = """\
[tool.convstat]
model = "net.yaml"

[[tool.convstat.models]]
model = "audio.py:Net"
input = "Nx4x18"
overrides = {width = 5}
per = "output"
device = "cpu"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec and a Python model that cannot be run without settings of its own."""
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "audio.py").write_text(MODEL)
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read() -> project_module.Config:
    """The settings of the working directory."""
    return project_module.load()


@pytest.mark.parametrize("command", ["analyze", "check", "compare", "expand", "baseline save", "formula", "explain"])
def test_every_command_counts_a_model_as_its_settings_say(
    project: Path, capsys: pytest.CaptureFixture[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named or not, the model has its input and its parameters; 5 x 4 x 3 + 5 = 65 params."""
    monkeypatch.delenv("CI", raising=False)
    more = {"analyze": ["--counters", "none"], "check": ["--max", "params=65"]}.get(command, [])
    form = [] if command in ("expand",) else ["-f", "json"]
    named = [*command.split(), "audio.py:Net", *more, *form]
    assert (2 if command == "expand" else 0) == run(named)
    found = capsys.readouterr()
    if command == "expand":
        assert "only a spec can be expanded" in found.err
    else:
        assert "65" in found.out
        assert command in ("explain", "baseline save") or "width" in found.out


def test_the_gate_works_for_models_that_need_an_input(project: Path) -> None:
    """Without a target all models are checked, each in its own way."""
    checked = check.check([], Requests(config=read()), max=["params=592"])
    assert [PARAMS, 5 * 4 * 3 + 5] == [result.actual for result in checked.results]
    assert ["net.yaml", "audio.py:Net"] == [result.model for result in checked.results]
    # 16 positions of the output, 5 x 4 x 3 products at each
    [audio] = check.check(["audio.py:Net"], Requests(config=read()), max=["macs_per_pixel=60"]).results
    assert (60, "pass") == (audio.actual, audio.status)


def test_what_the_command_says_goes_before_the_settings(project: Path) -> None:
    """Overrides add up, inputs are replaced, and the rest is that of the option."""
    asking = Requests({"depth": 2}, ("1x4x9",), 3, None, "input", config=read())
    asked = asking.of(resolve("audio.py:Net"))
    assert ({"width": 5, "depth": 2}, ("1x4x9",), 3, "float32", "input", "cpu") == (
        asked.overrides, asked.inputs, asked.batch, asked.dtype, asked.per, asked.device
    )  # fmt: skip
    assert {"width": 7} == Requests({"width": 7}, config=read()).of(resolve("./audio.py:Net")).overrides


def test_a_model_of_the_settings_is_found_from_a_folder_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is relative to the settings, as every path there."""
    monkeypatch.chdir(project / "sub")
    settings = read()
    assert ("../net.yaml", "../audio.py:Net") == settings.models
    assert {"width": 5} == settings.of("../audio.py:Net").overrides


def test_variants_have_the_settings_of_their_file_unless_they_have_their_own() -> None:
    """A table of a variant goes before that of its file."""
    text = '[[models]]\nmodel = "n.yaml"\nbatch = 2\n[[models]]\nmodel = "n.yaml#w"\nbatch = 3\n'
    settings = project_module.parse(text, "convstat.toml")
    assert [2, 2, 3, None] == [settings.of(name).batch for name in ("n.yaml", "n.yaml#x", "n.yaml#w", "m.yaml")]


@pytest.mark.parametrize(
    ("lines", "place", "message"),
    [
        ('model = "a.py:N"\nshape = 3', 3, "unknown key 'shape' of a model"),
        ("batch = 2", 1, "a table of models needs a model"),
        ('model = "a.py:N"\nbatch = 0', 3, "batch must be an integer of at least 1, not 0"),
        ('model = "a.py:N"\noverrides = 3', 3, "overrides must be a table: {width = 32}, not 3"),
        ('model = "what"', 2, "cannot recognise 'what'"),
        ('model = "a.py:N"\n[[models]]\nmodel = "a.py:N"', 4, "'a.py:N' has two tables"),
    ],
)
def test_a_mistake_in_a_table_is_shown_at_its_line(lines: str, place: int, message: str) -> None:
    """As of every other key."""
    with pytest.raises(ConfigError) as caught:
        project_module.parse(f"[[models]]\n{lines}\n", "convstat.toml")
    [problem] = caught.value.diagnostics
    assert (message, place) == (problem.message, problem.mark and problem.mark.line)


def test_the_settings_can_be_read_off(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each table in one row, as one would type it."""
    assert 0 == run(["config", "show", "-f", "json"])
    rows = json.loads(capsys.readouterr().out)
    [row] = [row for row in rows if row["key"] == "models"]
    assert "audio.py:Net --input Nx4x18 width=5 --device cpu --per output" == row["value"]
    assert "pyproject.toml:5" == row["from"]


# --- patterns -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Specs at several depths."""
    for name in ("a.yaml", "b.yaml", "nets/c.yaml", "nets/deep/d.yaml", ".hidden/e.yaml", "nets/note.txt", "x[1].yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    ["*.yaml", "?.yaml", "**/*.yaml", "nets/**", "nets/*.yaml", "nets/**/*.yaml", "**/d.yaml", "*/c.yaml", "x[1].*"],
)
def test_files_are_found_by_the_grammar_that_matches_names(tree: Path, text: str) -> None:
    """What a walk finds is what the pattern matches, among all files that are not hidden."""
    every = [str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()]
    expected = [name for name in every if pattern(text, "/").fullmatch(name) and not name.startswith(".")]
    assert expected
    assert sorted(expected) == files(text)


def test_patterns_stand_for_files_variants_and_models_of_a_zoo(tree: Path) -> None:
    """The same wildcards everywhere; what has none is itself."""
    assert ["a.yaml", "b.yaml"] == select(["?.yaml"])
    assert ["a.yaml", "a.yaml#wide"] == select(["a.yaml#*"])
    assert ["a.yaml#wide"] == select(["a.yaml#w*"])
    assert ["a.yaml", "a.yaml#wide", "b.yaml", "b.yaml#wide"] == select(["?.yaml#*"])
    assert {"torchvision/resnet18", "torchvision/resnet34"} == set(select(["torchvision/resnet??"])) - {
        "torchvision/resnet50"
    }
    assert ["Conv2d(3, 8, (3, 3))", "m:f"] == select(["Conv2d(3, 8, (3, 3))", "m:f"])
    for wrong in ("*.yml", "torchvision/nosuch*", "a.yaml#x*"):
        with pytest.raises(UsageError, match="matches no"):
            select([wrong])


@pytest.mark.parametrize("command", [["check", "--max", "params=1G"], ["analyze", "--counters", "none"], ["compare"]])
def test_every_command_takes_all_variants(tree: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """net.yaml#* is the file and each of its variants, wherever several models may be named."""
    assert 0 == run([command[0], "a.yaml#*", *command[1:]])
    out = capsys.readouterr().out
    assert f"{PARAMS:,}" in out
    assert f"{WIDE:,}" in out


# --- one side -----------------------------------------------------------------------------------------------------


def grown(*arguments: str, capsys: pytest.CaptureFixture[str]) -> int:
    """How many params the head has more than the base."""
    assert 0 == run(["diff", *arguments, "-f", "json"])
    delta: int = json.loads(capsys.readouterr().out)["delta"]["params"]
    return delta


def test_an_override_of_one_side_is_no_override_of_both(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one model named twice it is for the head; between the two it is for the base."""
    wide = 3 * 32 * 9 + 32 * 10 - PARAMS
    assert wide == grown("a.yaml", "a.yaml", "width=32", capsys=capsys)
    assert -wide == grown("a.yaml", "width=32", "a.yaml", capsys=capsys)
    assert 0 == grown("a.yaml", "width=32", "b.yaml", "width=32", capsys=capsys)
    assert 0 == grown("a.yaml", "b.yaml", "width=32", capsys=capsys)
    assert 0 == grown("width=32", "a.yaml", "a.yaml", capsys=capsys)
    assert 0 == run(["diff", "a.yaml", "a.yaml", "width=32"])
    assert "width=32" in capsys.readouterr().out


# --- points -------------------------------------------------------------------------------------------------------


def test_a_point_that_does_not_fit_the_basis_is_a_row(tree: Path) -> None:
    """The others are counted: 8 + 2 x 4 is the only input with a border of 4 around 8x8."""
    found = compare.compare(["a.yaml"], ["input=3x16x16,3x17x17"], Requests(per="block:8+4"))
    assert ["ok", "invalid"] == [row.status for row in found.rows]
    assert "needs a first input of 16x16" in str(found.rows[1].reason)
    none = compare.compare(["a.yaml"], ["input=3x17x17,3x18x18"], Requests(per="block:8+4"))
    assert ["invalid", "invalid"] == [row.status for row in none.rows]
    with pytest.raises(UsageError, match="needs a first input of 16x16"):
        compare.compare(["a.yaml"], requests=Requests(per="block:8+4"))


def test_the_size_of_a_block_is_swept_with_its_basis(tree: Path) -> None:
    """Of a block of B with a border of 4: 592 MACs at each of (B + 8)^2 positions, over B^2 pixels."""
    found = compare.compare(["a.yaml"], ["input=3x16x16,3x24x24", "per=block:8+4,block:16+4"], zip=True)
    assert [Fraction(592 * (b + 8) ** 2, b**2) for b in (8, 16)] == [
        row.totals.macs_per_pixel for row in found.rows if row.totals
    ]


@pytest.mark.parametrize("text", ["128,512", "ids=128,512:int64", "3, 8, 8"])
def test_a_comma_in_a_shape_is_not_guessed_at(text: str) -> None:
    """In a sweep it could part shapes; the two readings are offered."""
    with pytest.raises(UsageError, match="one shape or several") as caught:
        compare.compare(["a.yaml"], [], Requests(inputs=(text,)))
    one, several = caught.value.diagnostics[0].help
    assert "x" in one.partition("--input ")[2]
    assert several.partition(": ")[2].startswith("input")


def test_the_dtype_behind_a_sweep_of_shapes_is_that_of_all() -> None:
    """ids=4,6:int64 are two inputs of integers; 4 and 6 rows of a table of 5 are read, and 2 outputs made of each."""
    spec = "Embedding(5, 2)"
    found = compare.compare([spec], ["input=4,6:int64"])
    assert ["ok", "ok"] == [row.status for row in found.rows]
    assert ["4:int64", "6:int64"] == [row.values["input"] for row in found.rows]


# --- models that no text describes --------------------------------------------------------------------------------


def test_a_diff_without_targets_has_the_python_models_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a baseline file they are compared; without one, that is said."""
    repo = gitrepo.make(tmp_path / "repo")
    repo.write("audio.py", MODEL)
    repo.write("pyproject.toml", SETTINGS.replace('model = "net.yaml"\n', ""))
    repo.commit()
    monkeypatch.chdir(repo.path)
    monkeypatch.delenv("CI", raising=False)
    assert 0 == run(["diff"])
    assert "audio.py:Net is not compared: there is no baseline file" in " ".join(capsys.readouterr().err.split())
    assert 0 == run(["baseline", "save", "audio.py:Net"])
    repo.write("pyproject.toml", SETTINGS.replace('model = "net.yaml"\n', ""))
    repo.write("audio.py", MODEL.replace("width, 3)", "width, 5)"))
    capsys.readouterr()
    [found] = diff.differences([], Sides(Requests(config=read()), files=Baselines.of(None)))
    # 5 filters of 4 channels, from 3 to 5 taps
    assert 5 * 4 * 2 == found.delta("params")
    assert 0 == run(["diff", "HEAD", "HEAD"])
    assert "cannot be read at HEAD" in " ".join(capsys.readouterr().err.split())
