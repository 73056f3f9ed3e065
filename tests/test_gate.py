"""The gate as continuous integration runs it: exit codes, their order, settings and the documents that it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gitrepo
import jsonschema
import pytest
from gitrepo import NET, PARAMS, Repo

from convstat.cli.run import run
from convstat.commands import check
from convstat.commands import config as config_command
from convstat.config import project
from convstat.errors import ConfigError, ExitCode
from convstat.results.documents.schema import report_schema
from convstat.results.report import Report, Uncounted
from convstat.targets import analysis
from convstat.targets.request import Request

BIGGER = NET.replace("kernel: 3", "kernel: 5")


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repository whose model has grown since main; the command runs in it."""
    made = gitrepo.make(tmp_path / "repo")
    made.commit(net_yaml=NET)
    made.git("checkout", "--quiet", "-b", "feature")
    made.write("net.yaml", BIGGER)
    monkeypatch.chdir(made.path)
    return made


@pytest.fixture
def incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    """No operator of a spec is unknown, so one is claimed to be."""
    count = analysis.count

    def claim(request: Request, **how: Any) -> Report:
        return replace(count(request, **how), uncounted=(Uncounted("aten::fancy", 1, ("stem",)),))

    monkeypatch.setattr(analysis, "count", claim)


GROWN = ["--base", "main", "--max-growth", "params=0"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--max", "params=1M"], ExitCode.OK),
        (["--max", "params=1"], ExitCode.VIOLATION),
        (["--max", "params=1:warn"], ExitCode.OK),
        (["--max", "params=1:warn", "--strict"], ExitCode.VIOLATION),
        (["--max", "params=1:off", "--max", "macs=1G"], ExitCode.OK),
        (["--max", "params=1", "--exit-zero"], ExitCode.OK),
        (["--max", "params=1:warn", "--strict", "--exit-zero"], ExitCode.OK),
        (["--max", "prams=1"], ExitCode.USAGE),
        (["--max", "prams=1", "--exit-zero"], ExitCode.USAGE),
        (GROWN, ExitCode.VIOLATION),
        (["--base", "main", "--max-growth", "params=1M"], ExitCode.OK),
        (["--max-growth", "params=0"], ExitCode.USAGE),
        (["--max-growth", "params=0", "--max", "params=1"], ExitCode.USAGE),
        (["--max-growth", "params=0", "--missing-baseline", "skip"], ExitCode.OK),
        (["--max-growth", "params=0", "--missing-baseline", "skip", "--max", "params=1"], ExitCode.VIOLATION),
        (["--max-growth", "params=0", "--missing-baseline", "ignore"], ExitCode.USAGE),
        ([*GROWN, "--existing", "warn"], ExitCode.VIOLATION),
        (["--max-layer", "stem:params=1"], ExitCode.VIOLATION),
        (["--max-layer", "stme:params=1"], ExitCode.USAGE),
        ([], ExitCode.USAGE),
    ],
)
def test_exit_codes(repo: Repo, arguments: list[str], code: ExitCode) -> None:
    """0 kept, 1 exceeded, 2 a mistake or a base that is missing; 2 beats 1."""
    assert code == run(["check", "net.yaml", *arguments])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--max", "macs=1G"], ExitCode.INCOMPLETE),
        (["--max", "macs=1G", "--exit-zero"], ExitCode.INCOMPLETE),
        (["--max", "macs=1G", "--max", "params=1"], ExitCode.VIOLATION),
        (["--max", "macs=1G", "--max", "params=1", "--exit-zero"], ExitCode.INCOMPLETE),
        (["--max", "macs=1"], ExitCode.VIOLATION),
        (["--min", "macs=1"], ExitCode.OK),
        (["--base", "main", "--max-growth", "macs=0"], ExitCode.INCOMPLETE),
        (["--max", "macs=1G", "--max", "prams=1"], ExitCode.USAGE),
    ],
)
def test_an_incomplete_count_comes_last(repo: Repo, incomplete: None, arguments: list[str], code: ExitCode) -> None:
    """2 beats 1, 1 beats 4, and 4 is never a pass."""
    assert code == run(["check", "net.yaml", *arguments])


def test_a_fault_of_ours_beats_everything(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3, whatever else there is."""
    monkeypatch.setattr(check, "judge", lambda *a, **k: 1 / 0)
    assert ExitCode.INTERNAL == run(["check", "net.yaml", "--max", "params=1"])


def test_the_mistakes_of_several_models_are_told_at_once(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """One run, all there is to mend."""
    repo.write("bad.yaml", NET.replace("ReLU", "Relu"))
    assert ExitCode.USAGE == run(["check", "none.yaml", "net.yaml", "bad.yaml", "--max", "params=1"])
    error = capsys.readouterr().err
    assert "no file none.yaml" in error
    assert "bad.yaml:8:" in error


@pytest.mark.parametrize("growth", ["0", "1M"])
def test_the_document_of_a_check_with_a_base_is_what_the_schema_says(
    repo: Repo, growth: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found, new and missing bases, growth and all."""
    repo.write("new.yaml", NET)
    arguments = ["--base", "main", "--max-growth", f"params={growth}", "--missing-baseline", "skip"]
    run(["check", "net.yaml", "new.yaml", *arguments, "-f", "json"])
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(report_schema()).validate(document)
    assert ["found", "new"] == [item["base"]["state"] for item in document["models"]]
    assert [PARAMS, None] == [item["base"] for item in document["budgets"]]
    run(["check", "net.yaml", "--base", "nope", *arguments[2:], "-f", "json"])
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(report_schema()).validate(document)
    assert "missing" == document["models"][0]["base"]["state"]


def test_a_failing_check_reads_as_one_would_say_it(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """The layer, the argument with both values, and the line."""
    assert ExitCode.VIOLATION == run(["check", "net.yaml", *GROWN, "--width", "160"])
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("stem"))
    assert "kernel_size: 3 -> 5" in line
    assert "net.yaml:6" in line


def test_diff_has_an_exit_code_and_a_document_for_nothing(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """A difference is no failure; none is an empty list and a sentence."""
    assert ExitCode.OK == run(["diff", "main:net.yaml", "net.yaml", "-f", "json"])
    jsonschema.Draft202012Validator(report_schema()).validate(json.loads(capsys.readouterr().out))
    repo.commit()
    assert ExitCode.OK == run(["diff", "-f", "json"])
    captured = capsys.readouterr()
    assert ([], "note: no spec changed\n") == (json.loads(captured.out), captured.err)
    assert ExitCode.USAGE == run(["diff", "nothing", "at-all"])


def test_saved_reports_take_no_options_that_would_do_nothing(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a model that is counted now, they are for that model."""
    assert ExitCode.OK == run(["analyze", "main:net.yaml", "--counters", "none", "-qq", "-o", "a.json"])
    for option in (["width=3"], ["-i", "3x4x4"], ["--batch", "2"], ["--per", "output"]):
        assert ExitCode.USAGE == run(["diff", "a.json", "a.json", *option])
    assert ExitCode.OK == run(["diff", "a.json", "net.yaml", "width=32"])
    assert ExitCode.OK == run(["diff", "a.json", "a.json"])
    assert "layers: 3 unchanged." in capsys.readouterr().out


# --- settings -----------------------------------------------------------------------------------------------------

SETTINGS = """\
model = "net.yaml"
base = "main"
missing-baseline = "skip"
budget = ["params<=+0", "macs<=1G:warn:a reason"]
"""


def test_the_settings_are_enough(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three lines in a file, and one command without an argument."""
    repo.write("convstat.toml", SETTINGS)
    assert ExitCode.VIOLATION == run(["check"])
    monkeypatch.setenv("CONVSTAT_BASE", "HEAD")
    assert ExitCode.VIOLATION == run(["check"])
    repo.commit()
    assert ExitCode.OK == run(["check"])
    assert ExitCode.VIOLATION == run(["check", "--base", "main"])


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[object, str]]:
    """The settings as ``config show`` tells them."""
    capsys.readouterr()
    assert ExitCode.OK == run(["config", "show", "-f", "json"])
    return {entry["key"]: (entry["value"], entry["from"]) for entry in json.loads(capsys.readouterr().out)}


def test_config_show_says_where_each_value_is_from(
    repo: Repo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of a file, a variable of the environment, or the default; every key is there."""
    repo.write("pyproject.toml", "".join(["[project]\nname = 'x'\n[tool.convstat]\n", SETTINGS]))
    monkeypatch.setenv("CONVSTAT_BASE", "HEAD~1")
    found = shown(capsys)
    assert set(project.KEYS) == set(found)
    assert ("net.yaml", "pyproject.toml:4") == found["model"]
    assert ("HEAD~1", "CONVSTAT_BASE") == found["base"]
    assert ("skip", "pyproject.toml:6") == found["missing-baseline"]
    assert ("float32", "default") == found["dtype"]
    assert ("macs<=1G:warn:a reason", "pyproject.toml:7") == found["budget"]


def test_config_show_names_what_is_not_read(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """A second file with settings is no cascade, and is not passed over in silence."""
    repo.write("convstat.toml", SETTINGS)
    repo.write("pyproject.toml", "[tool.convstat]\nbatch = 2\n")
    assert ("1", "default") == tuple(map(str, shown(capsys)["batch"]))
    run(["config", "show"])
    assert "pyproject.toml also has a table [tool.convstat], which is ignored" in capsys.readouterr().err
    assert ExitCode.OK == run(["config", "path"])
    assert "convstat.toml\n" == capsys.readouterr().out
    assert ExitCode.USAGE == run(["config", "shwo"])


def test_a_file_can_be_named_by_the_environment(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then no other is looked for; one that is not there is an error."""
    repo.write("convstat.toml", SETTINGS)
    other = tmp_path / "other.toml"
    other.write_text("batch = 3\n")
    monkeypatch.setenv("CONVSTAT_CONFIG", str(other))
    assert "3" == str(shown(capsys)["batch"][0])
    monkeypatch.setenv("CONVSTAT_CONFIG", "none.toml")
    with pytest.raises(ConfigError, match=r"CONVSTAT_CONFIG names none\.toml, which does not exist"):
        project.load()


@pytest.mark.parametrize("text", ['bsae = "main"\n', 'existing = "warm"\n', 'budget = ["prams<=1"]\n', "budget = []\n"])
def test_a_mistake_in_the_settings_stops_the_gate(repo: Repo, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With its line, before anything is judged."""
    repo.write("convstat.toml", text)
    assert ExitCode.USAGE == run(["check", "net.yaml", "--max", "params=1M"])
    assert "convstat.toml:1:" in capsys.readouterr().err
    assert ExitCode.USAGE == run(["config", "show"])


def test_the_defaults_that_are_shown_are_the_defaults(repo: Repo) -> None:
    """What config show calls a default is a key without a value."""
    assert set(config_command.DEFAULTS) <= set(project.KEYS)
    assert ["default"] * len(project.KEYS) == [entry["from"] for entry in config_command.entries(project.Config())]


def test_the_gate_works_where_nothing_can_be_written(repo: Repo) -> None:
    """It reads; it leaves no file behind."""
    before = sorted(str(path) for path in repo.path.rglob("*") if ".git/" not in str(path))
    assert ExitCode.VIOLATION == run(["check", "net.yaml", *GROWN])
    assert before == sorted(str(path) for path in repo.path.rglob("*") if ".git/" not in str(path))
