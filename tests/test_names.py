"""A file may have any name, and patterns of files end somewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from convstat.cli.run import run
from convstat.config import project
from convstat.errors import ConfigError, UsageError
from convstat.grammar import patterns
from convstat.grammar.paths import as_target, split_file, split_variant
from convstat.targets import resolve

NET = """\
convstat: 1
input: [4, 8, 8]
layers: [{Conv2d: {out_channels: 8, kernel_size: 3, bias: false}}]
models: {m: {}}
"""
MACS = 8 * 4 * 9 * 6 * 6
NAMES = (
    "a=b.yaml",
    "a#b.yaml",
    "a:b.yaml",
    "c#d=e:f.yaml",
    "#.yaml",
    "=.yml",
    "x#y.json.yaml",
    "[a]b.yaml",
    "a b.yaml",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a spec of every name."""
    for name in NAMES:
        (tmp_path / name).write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variant", ["", "#m"])
def test_a_file_of_any_name_can_be_named(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, variant: str
) -> None:
    """With its folder in front, by every command that takes a spec; its report and its baseline as well."""
    target = f"./{name}{variant}"
    assert (resolve(target).path, resolve(target).variant) == (f"./{name}", variant[1:] or None)
    assert (f"./{name}", variant) == split_file(target)
    for command in ("analyze", "check", "compare", "formula", "expand", "explain"):
        more = {"check": ["--max", f"macs={MACS}"], "explain": ["conv2d"]}.get(command, [])
        assert 0 == run([command, target, *more]), capsys.readouterr().err
    capsys.readouterr()
    assert 0 == run(["analyze", target, "--counters", "none", "-q", "-f", "json", "-o", f"json=./{name}.json"])
    assert MACS == json.loads(capsys.readouterr().out)["totals"]["macs"]
    assert 0 == run(["diff", f"./{name}.json", target])
    assert 0 == run(["baseline", "save", target])
    assert 0 == run(["check", target, "--max-growth", "macs=0"]), capsys.readouterr().err
    assert 0 == run(["baseline", "update"])
    assert "1 " not in capsys.readouterr().err


def test_settings_and_patterns_name_them_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a pattern stands for is written so that it can be named."""
    settings = 'model = "*"\nbudget = [{metric = "macs", max = "1", model = "./a=b.yaml"}]\n'
    (folder / "convstat.toml").write_text(settings.replace('"*"', '["*.yaml", "./a:b.yaml", "=.yml"]'))
    assert set(project.load().models) == {as_target(name) for name in NAMES}
    assert 1 == run(["check"])
    out = capsys.readouterr().out
    assert 1 == out.count("FAIL") == out.count("./a=b.yaml  macs")


def test_a_name_that_ends_as_files_do_has_no_variant() -> None:
    """A variant is a word of a spec."""
    assert ("net.yaml#small.yaml", None) == split_variant("net.yaml#small.yaml")
    assert ("a#b.yaml", "c") == split_variant("a#b.yaml#c")
    assert "main" == resolve("main:a#b.yaml#c").revision


@pytest.mark.parametrize("written", ["../**/*.yaml", "../../../**/*.yaml", "/**/*.yaml", "sub/../../*.yaml"])
def test_a_pattern_of_the_settings_stays_in_the_project(folder: Path, written: str) -> None:
    """It is refused where it stands, before anything is searched."""
    (folder / "convstat.toml").write_text(f'base = "main"\nmodel = "{written}"\n')
    with pytest.raises(ConfigError, match=r"convstat\.toml:2:1: error: model '.*' is a pattern of files outside"):
        project.load()


def test_settings_below_the_top_of_a_repository_may_look_beside_themselves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project is the repository."""
    (folder / ".git").mkdir()
    (folder / "sub").mkdir()
    (folder / "sub" / "convstat.toml").write_text('model = "../a?b.yaml"\n')
    monkeypatch.chdir(folder / "sub")
    assert {"../a=b.yaml", "../a#b.yaml", "../a:b.yaml", "../a b.yaml"} == set(project.load().models)


def test_a_pattern_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that lead back are not followed, and one that goes through too much is refused rather than cut off."""
    (folder / "deep").mkdir()
    (folder / "deep" / "net.yaml").write_text(NET)
    os.symlink(folder, folder / "deep" / "back")
    assert ["deep/net.yaml"] == patterns.files("deep/**/*.yaml")
    monkeypatch.setattr(patterns, "MOST_ENTRIES", 5)
    with pytest.raises(UsageError, match="goes through more than 5 files and folders"):
        patterns.files("**/*.yaml")
