"""On a code host, in a pipe, without colours, without a repository: every format is written, the same everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from convstat.cli.run import run
from convstat.render.formats.registry import RENDERERS

SPEC = """\
convstat: 1
name: net
input: [3, 32, 32]
layers:
  - Conv2d: {out_channels: 16, kernel_size: 3, padding: 1}
    name: stem
  - Conv2d: {out_channels: 32, kernel_size: 3, padding: 1}
    name: body
"""
STEM = 16 * (3 * 3 * 3)
BODY = 32 * (16 * 3 * 3)
MACS = (STEM + BODY) * 32 * 32

FORMATS = [name for name in RENDERERS.able("check") if name not in ("png", "svg")]

ENVIRONMENTS = {
    "plain": {},
    "NO_COLOR": {"NO_COLOR": "1", "FORCE_COLOR": "1"},
    "dumb": {"TERM": "dumb"},
    "narrow": {"COLUMNS": "60"},
    "github": {"GITHUB_ACTIONS": "true", "CI": "true"},
    "gitlab": {"GITLAB_CI": "true", "CI": "true"},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside any repository, with one spec; the working directory."""
    (tmp_path / "net.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convstat(
    *arguments: str, folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with nothing but this environment."""
    plain = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "convstat", *arguments],
        cwd=folder,
        env={**plain, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def every_output(out: Path) -> list[str]:
    """Ask for a file in each format that can say a check."""
    return [argument for name in FORMATS for argument in ("-o", f"{name}={out / name}")]


def test_every_format_is_the_same_wherever_it_is_written(folder: Path) -> None:
    """Files hold the same bytes in every environment, no output has an escape byte, and the exit code stays."""
    first: dict[str, bytes] = {}
    for name, environment in ENVIRONMENTS.items():
        out = folder / name
        out.mkdir()
        answer = convstat("check", "net.yaml", "--max", f"macs={MACS - 1}", *every_output(out), folder=folder,
                          environment=environment)  # fmt: skip
        assert 1 == answer.returncode, answer.stderr
        assert "\x1b" not in answer.stdout + answer.stderr
        assert ("::error" in answer.stderr) == (name == "github")
        assert f"{MACS:,}" in answer.stdout
        # A folder of a code host is no root unless the host says so.
        written = {format: (out / format).read_bytes() for format in FORMATS}
        first = first or written
        assert first == written
        if name == "narrow":
            assert max(len(line) for line in answer.stdout.splitlines()) <= 60


def test_nothing_needs_to_be_written_to_the_working_directory(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every format comes in a folder that nobody can write to."""
    folder.chmod(0o555)
    out = tmp_path_factory.mktemp("out")
    try:
        answer = convstat("check", "net.yaml", "--max", f"macs={MACS}", *every_output(out), folder=folder)
    finally:
        folder.chmod(0o755)
    assert (0, "") == (answer.returncode, answer.stderr)
    assert set(FORMATS) == {path.name for path in out.iterdir()}
    # Whoever may write everywhere has not done so.
    assert ["net.yaml"] == [path.name for path in folder.iterdir()]


def test_annotations_come_by_themselves_on_github(folder: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """With the table, on standard error, at the line of the layer that costs most; the result stays as it is."""
    command = ["check", "net.yaml", "--max", f"macs={MACS - 1}"]
    assert 1 == run(command)
    plain, _ = capsys.readouterr()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder.parent))
    assert 1 == run(command)
    out, error = capsys.readouterr()
    assert plain == out
    assert error.startswith(
        f"::error file={folder.name}/net.yaml,line=7,title=convstat macs::macs is {MACS:,}, not <= "
    )
    assert 1 == len(error.splitlines())


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_what_grew_since_the_base_is_what_is_annotated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The layer that a change made larger, with the argument that changed, in a check and in a diff."""
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    stem = "{out_channels: 16, kernel_size: 3, padding: 1}"
    (folder / "net.yaml").write_text(SPEC.replace(stem, "{out_channels: 16, kernel_size: 5, padding: 2}"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert 1 == run(["check", "net.yaml", "--max-growth", "macs=0%", "--base", "HEAD", "-o", "comment.md"])
    error = capsys.readouterr().err
    # The larger one, body, is at line 7 and did not change.
    assert error.startswith("::error file=net.yaml,line=5,title=convstat macs::")
    growth = 16 * 3 * (5 * 5 - 3 * 3) * 32 * 32
    assert f"%0Astem +{growth:,} macs, kernel_size: 3 -> 5, padding: 1 -> 2, net.yaml:5" in error
    assert f"+{growth:,}" in (folder / "comment.md").read_text()
    assert 0 == run(["diff", "HEAD:net.yaml", "net.yaml", "-o", "diff.sarif"])
    assert "::notice file=net.yaml,line=5,title=convstat diff::net.yaml: params" in capsys.readouterr().err
    (result,) = json.loads((folder / "diff.sarif").read_text())["runs"][0]["results"]
    assert ("note", 5) == (result["level"], result["locations"][0]["physicalLocation"]["region"]["startLine"])


@pytest.mark.parametrize("more", [["-f", "json"], ["-f", "github"], ["-qq"], ["-o", "json=-"]], ids=" ".join)
def test_annotations_do_not_come_uncalled(folder: Path, monkeypatch: pytest.MonkeyPatch, more: Sequence[str],
                                          capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """Where standard output is for a program, or holds them already, or nothing was to be said."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert 1 == run(["check", "net.yaml", "--max", f"macs={MACS - 1}", *more])
    out, error = capsys.readouterr()
    assert "::error" not in error
    assert ("::error" in out) == ("github" in more)


def test_a_check_that_is_kept_annotates_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """Nothing is written that would have to be looked at."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert 0 == run(["check", "net.yaml", "--max", f"macs={MACS}"])
    assert "" == capsys.readouterr().err


def test_the_summary_of_the_step_is_added_to(folder: Path, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """By check and compare, one after the other; analyze leaves it alone."""
    summary = folder / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    run(["check", "net.yaml", "--max", f"macs={MACS - 1}"])
    run(["compare", "net.yaml", "-qq"])
    run(["analyze", "net.yaml", "--counters", "none"])
    text = summary.read_text()
    assert text.startswith("before\n### convstat: 1 of 1 budget exceeded\n")
    assert 1 == text.count("### convstat")
    assert f"{MACS:,}" in text.partition("</details>")[2]
    assert "" == capsys.readouterr().err


def test_a_full_summary_and_one_that_cannot_be_written_stop_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are warnings; the check has its result and its exit code. What GitHub takes is never exceeded."""
    summary = folder / "summary.md"
    summary.write_bytes(b"x" * 899_000)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert 1 == run(["check", "net.yaml", "--max", f"macs={MACS - 1}"])
    assert "warning: the summary of this step is full; nothing was added" in capsys.readouterr().err
    assert 899_000 == summary.stat().st_size
    summary.write_bytes(b"x" * 890_000)
    assert 1 == run(["check", "net.yaml", *(f"--max=macs(each)@stem={MACS + i}" for i in range(200)), "--max=macs=1"])
    assert 890_000 < summary.stat().st_size <= 900_000
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "nowhere" / "summary.md"))
    capsys.readouterr()
    assert 1 == run(["check", "net.yaml", "--max", f"macs={MACS - 1}"])
    assert "warning: the summary of this step cannot be written" in capsys.readouterr().err


def test_a_format_is_refused_before_anything_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The spec of this command could not even be read."""
    (folder / "net.yaml").write_text("convstat: [")
    for command in (
        ["analyze", "net.yaml", "-f", "junit"],
        ["compare", "net.yaml", "-o", "out.xml"],
        ["check", "net.yaml", "-o", "out.tree"],
    ):
        assert 2 == run(command)
        error = capsys.readouterr().err
        assert re.match(r"error: the format (junit|tree) cannot represent a (report|comparison|check)", error)
        assert "help: formats that can: table, " in error
    assert ["net.yaml"] == [path.name for path in folder.iterdir()]


def test_several_files_in_one_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each in the format of its suffix; the title of a comment is the name of its file; the table is printed still."""
    names = ("a.json", "b.md", "c.csv", "d.html", "mobile.comment.md", "e.sarif", "f.xml", "g.jsonl", "h.tex",
             "gl-code-quality-report.json")  # fmt: skip
    assert 0 == run(["check", "net.yaml", "--max", f"macs={MACS}", *(part for name in names for part in ("-o", name))])
    assert "1 passed." in capsys.readouterr().out
    assert "<!-- convstat:check:mobile -->" == (folder / "mobile.comment.md").read_text().splitlines()[0]
    assert [] == json.loads((folder / "gl-code-quality-report.json").read_text())
    assert "convstat/check/e/" == json.loads((folder / "e.sarif").read_text())["runs"][0]["automationDetails"]["id"]
    assert all((folder / name).stat().st_size for name in names)


def test_a_path_that_cannot_be_written_fails_before_anything_is_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And none of the other files is written."""
    (folder / "net.yaml").write_text("convstat: [")
    assert 2 == run(["check", "net.yaml", "-o", "a.html", "-o", "nowhere/b.sarif"])
    assert "cannot write 'nowhere/b.sarif'" in capsys.readouterr().err
    assert ["net.yaml"] == [path.name for path in folder.iterdir()]


def test_the_list_of_formats_says_what_each_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Its name, its purpose, what it can express, and its suffixes."""
    assert 0 == run(["list", "formats", "-f", "json"])
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(RENDERERS) <= set(entries)
    assert "check" == entries["junit"]["expresses"]
    assert "report" == entries["tree"]["expresses"]
    assert all(entry["about"] for entry in entries.values())
