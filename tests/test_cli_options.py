"""Options that would do nothing, or that contradict each other, are refused; what does nothing is said."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convstat.cli.run import run
from convstat.config.project import ENVIRONMENT
from convstat.results.report import Answer, CounterRow, Figures

SPEC = """\
convstat: 1
name: tiny
input: [4, 8, 8]
layers:
  - Conv2d: {out_channels: 8, kernel_size: 3, padding: 1, bias: false}
    name: stem
"""

TWO_INPUTS = """\
convstat: 1
input: {left: [4, 8, 8], right: [4, 8, 8]}
layers:
  - add: [left, right]
"""

ATTENTION = """\
convstat: 1
input: [5, 8]
layers:
  - MultiheadAttention: {embed_dim: 8, num_heads: 2}
"""

BROKEN = '[tool.convstat]\nmodle = "tiny.yaml"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec and its saved report, as the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(SPEC)
    assert 0 == run(["analyze", "tiny.yaml", "--counters", "none", "-qq", "-o", "saved.json"])
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; give its exit code, its standard output and its standard error."""
    capsys.readouterr()
    code = run(arguments)
    out, error = capsys.readouterr()
    return code, out, error


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["analyze", "saved.json", "-b", "2"], "no --batch"),
        (["analyze", "saved.json", "--device", "cpu", "--counters", "all"], "no --device and no --counters"),
        (["analyze", "saved.json", "--mode", "eval"], "no --mode"),
        (["compare", "saved.json", "-b", "4"], "no --batch"),
        (
            ["check", "saved.json", "-b", "4", "--dtype", "float16", "--per", "element", "--max", "macs=1"],
            "no --batch, no --dtype and no --per",
        ),
    ],
)
def test_a_saved_report_takes_no_option_that_would_change_it(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], options: str
) -> None:
    """What was counted is counted: the option is refused, and named."""
    code, out, error = call(capsys, *arguments)
    assert (2, "") == (code, out)
    assert f"saved.json is a saved report: it takes {options}\n" in error


def test_settings_do_not_count_as_options_of_a_saved_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A project with a batch in its settings can still show its reports."""
    (folder / "convstat.toml").write_text('batch = 4\ndtype = "float16"\ncounters = "all"\nper = "element"\n')
    for arguments in (
        ["analyze", "saved.json"],
        ["compare", "saved.json"],
        ["check", "saved.json", "--max", "macs=1G"],
    ):
        assert 0 == call(capsys, *arguments)[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "metrics"],
        ["render", "saved.json"],
        ["docs"],
        ["schema", "report"],
        ["schema", "config"],
        ["init", "-"],
    ],
)
def test_broken_settings_stop_no_command_that_needs_none(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """They are at most a warning with its place, and an error for what counts."""
    (folder / "pyproject.toml").write_text(BROKEN)
    code, out, error = call(capsys, *arguments)
    assert 0 == code
    assert out
    assert error == "" or error.startswith("pyproject.toml:2:1: warning: unknown key 'modle'")
    assert 2 == call(capsys, "analyze", "tiny.yaml", "--counters", "none")[0]


@pytest.mark.parametrize("counters", ["all,none", "none,ptflops", "none,default"])
def test_no_counters_and_some_counters_is_a_contradiction(
    folder: Path, capsys: pytest.CaptureFixture[str], counters: str
) -> None:
    """None means none."""
    code, _, error = call(capsys, "analyze", "tiny.yaml", "--counters", counters)
    assert 2 == code
    assert "contradicts itself" in error


@pytest.mark.parametrize("twice", [["-f", "json", "-f", "csv"], ["-b", "1", "--batch", "2"], ["--per=input"] * 2])
def test_an_option_with_one_value_is_given_once(
    folder: Path, capsys: pytest.CaptureFixture[str], twice: list[str]
) -> None:
    """The last one does not win in silence; what adds up may be given again."""
    code, _, error = call(capsys, "analyze", "tiny.yaml", "--counters", "none", *twice)
    assert 2 == code
    assert "it is given twice" in error
    assert 0 == call(capsys, "analyze", "tiny.yaml", "--counters", "none", "-v", "-v", "--flat", "--flat")[0]


@pytest.mark.parametrize("format", ["json", "csv"])
@pytest.mark.parametrize("option", [["--top", "1"], ["--depth", "1"], ["--sort", "macs"], ["--flat"]])
def test_what_is_shown_cannot_be_chosen_where_everything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], format: str, option: list[str]
) -> None:
    """The option is refused where no output would heed it, and taken where one does."""
    code, _, error = call(capsys, "analyze", "tiny.yaml", "--counters", "none", "-f", format, *option)
    assert 2 == code
    assert f"{option[0]} selects what is shown, but {format} always contains every layer" in error
    both = ("analyze", "tiny.yaml", "--counters", "none", "-o", f"out.{format}", *option)
    assert 0 == call(capsys, *both)[0]


def test_a_shape_without_a_name_says_where_it_went(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With several inputs it is not obvious; with one it is."""
    (folder / "two.yaml").write_text(TWO_INPUTS)
    shapes = ("-i", "4x16x16", "-i", "right=4x16x16")
    code, _, error = call(capsys, "analyze", "two.yaml", "--counters", "none", *shapes)
    assert 0 == code
    assert error.startswith("note: --input 4x16x16 is for 'left'")
    assert 1 == error.count("note:")
    assert "" == call(capsys, "analyze", "tiny.yaml", "--counters", "none", "-i", "4x16x16")[2]


def test_a_floating_input_is_of_the_dtype_of_the_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON says what the model is given."""
    for dtype in ("float32", "float16", "bfloat16"):
        _, out, _ = call(capsys, "analyze", "tiny.yaml", "--counters", "none", "--dtype", dtype, "-f", "json")
        assert [dtype] == [item["dtype"] for item in json.loads(out)["model"]["inputs"]]


def test_a_counter_is_reconciled_by_its_answer_or_by_its_foreseen_failure() -> None:
    """A failure that nobody predicted explains nothing, and neither does an answer without a prediction."""
    same = Answer(1, 2)
    assert CounterRow("a", "", "1", "ok", same, same, Figures(0, 0), (), Figures(0, 0)).is_reconciled
    assert not CounterRow("a", "", "1", "ok", same, None, Figures(0, 0), (), Figures(0, 0)).is_reconciled
    assert not CounterRow("a", "", "1", "ok", same, same, Figures(0, 1), (), Figures(0, 1)).is_reconciled
    assert CounterRow("a", "", "1", "failed", is_foreseen=True).is_reconciled
    for status in ("failed", "skipped", "unavailable"):
        assert not CounterRow("a", "", "1", status).is_reconciled


def test_strict_lets_a_predicted_failure_pass_and_no_other(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchsummary cannot take attention's tuples, so that it fails is known; that ptflops breaks is not."""
    from convstat.counters import COUNTERS

    (folder / "attention.yaml").write_text(ATTENTION)
    arguments = ("analyze", "attention.yaml", "--strict", "-f", "json", "--counters", "torchsummary")
    code, out, _ = call(capsys, *arguments)
    (row,) = json.loads(out)["counters"]
    assert ("failed", True, 0) == (row["status"], row["foreseen"], code)

    def breaks(*_: object) -> None:
        raise ValueError("something else")

    monkeypatch.setattr(type(COUNTERS["ptflops"]), "run", breaks)
    code, out, _ = call(capsys, "analyze", "tiny.yaml", "--strict", "-f", "json", "--counters", "ptflops")
    (row,) = json.loads(out)["counters"]
    assert ("failed", False, 1) == (row["status"], row["foreseen"], code)


def test_a_terminated_command_leaves_no_file(tmp_path: Path) -> None:
    """Nothing can clean up after that signal's default action, so nothing is made before there is what to write."""
    (tmp_path / "slow.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "convstat", "analyze", "slow.py:Net", "-o", "out.json", "--counters", "none"]
    started = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        time.sleep(4)
        assert started.poll() is None
        started.send_signal(signal.SIGTERM)
        assert -signal.SIGTERM == started.wait(20)
    finally:
        started.kill()
        started.communicate()
    assert not [path for path in tmp_path.iterdir() if "out.json" in path.name]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('format = "tabel"', "unknown format 'tabel'"),
        ('counters = "ptflop"', "unknown counter 'ptflop'"),
        ('per = "inptu"', "unknown basis 'inptu' for MACs/pixel"),
    ],
)
def test_a_setting_that_is_refused_where_it_is_used_is_shown_at_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    """As one that the reader of the settings refuses itself."""
    (folder / "convstat.toml").write_text(f"# settings\n{line}\n")
    code, out, error = call(capsys, "analyze", "tiny.yaml")
    assert (2, "") == (code, out)
    assert error.startswith(f"convstat.toml:2:1: error: {message}\n    2 | {line}\n")
    assert "help: " in error


def test_a_format_of_the_environment_that_does_not_exist_is_shown_with_its_variable(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody typed it in this command; an option goes before it."""
    (folder / "convstat.toml").write_text('format = "table"\n')
    monkeypatch.setenv("CONVSTAT_FORMAT", "tabel")
    code, _, error = call(capsys, "check", "tiny.yaml", "--max", "params=1M")
    assert 2 == code
    assert error.startswith("error: unknown format 'tabel'\nnote: format is from CONVSTAT_FORMAT\n")
    assert 0 == call(capsys, "check", "tiny.yaml", "--max", "params=1M", "-f", "csv")[0]


def test_a_missing_base_is_explained_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its reason says that there is none."""
    _, out, _ = call(capsys, "check", "tiny.yaml", "--max-growth", "params=0", "--missing-baseline", "skip")
    assert "  base   no base is set\n" in out


def test_help_names_the_variables_that_go_before_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that no help shows is a hidden setting."""
    code, out, _ = call(capsys, "check", "--help")
    assert (0, True, True) == (code, "CONVSTAT_FORMAT" in out, "CONVSTAT_BASE" in out)
    code, out, _ = call(capsys, "config", "--help")
    assert (0, True) == (code, all(name in out for name in ENVIRONMENT.values()))
