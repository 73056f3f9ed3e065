"""Baseline files are byte-stable, one for each model, and written by people and not by continuous integration."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import counted
import pytest
from gitrepo import GROWN, NET, PARAMS
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat.cli.run import run
from convstat.commands import baseline as baseline_command
from convstat.commands import check
from convstat.commands import diff as diff_command
from convstat.commands.diff import Sides
from convstat.config.project import Config
from convstat.config.requests import Requests
from convstat.errors import ConvstatError, ExitCode, SourceError, UsageError
from convstat.history import baseline, changes
from convstat.history.baseline import Baselines, file_name
from convstat.targets import analysis
from convstat.targets.request import Request

MODEL = """\
import torch

def build(width=4, kernel=3):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, width, kernel, padding=kernel // 2), torch.nn.ReLU(), torch.nn.Conv2d(width, 2, 1)
    )
    return net, torch.zeros(1, 3, 8, 8)
"""
TARGET = "nets/tiny.py:build"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Python model and a spec, outside of git, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "tiny.py").write_text(MODEL)
    (tmp_path / "net.yaml").write_text(NET)
    return tmp_path


def files(folder: Path) -> list[Path]:
    """The baseline files."""
    return sorted((folder / ".convstat" / "baselines").iterdir())


def test_saving_twice_gives_the_same_bytes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in the file changes by itself: no time, no commit, no version, no path of a machine."""
    assert ExitCode.OK == run(["baseline", "save", TARGET])
    [path] = files(project)
    first = path.read_bytes()
    stamp = path.stat().st_mtime_ns
    assert ExitCode.OK == run(["baseline", "save", TARGET])
    assert ExitCode.OK == run(["baseline", "update"])
    assert (first, stamp) == (path.read_bytes(), path.stat().st_mtime_ns)
    path.unlink()
    assert ExitCode.OK == run(["baseline", "save", f"./{TARGET}"])
    assert first == path.read_bytes()
    text = first.decode()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert "version" not in text
    assert str(project) not in text
    assert "unchanged" in capsys.readouterr().out


def test_a_file_holds_what_a_diff_needs(project: Path) -> None:
    """Read back, it is the same model, layer by layer, arguments included."""
    report = counted.analyze(TARGET, counters="none")
    baseline_command.write(Baselines(Path(".")), [TARGET], Requests(), update=False)
    read = analysis.load_report(str(files(project)[0]))
    assert "unchanged" == changes.compare(read, report).state
    assert (report.totals, report.model.inputs) == (read.totals, read.model.inputs)


def test_one_layer_is_one_line(project: Path) -> None:
    """A change of one layer is a change of a few lines in a review."""
    baseline_command.write(Baselines(Path(".")), [TARGET], Requests(), update=False)
    [path] = files(project)
    before = path.read_text().splitlines()
    (project / "nets" / "tiny.py").write_text(MODEL.replace("(width, 2, 1)", "(width, 2, 1, bias=False)"))
    baseline_command.write(Baselines(Path(".")), [TARGET], Requests(), update=True)
    after = path.read_text().splitlines()
    assert len(before) == len(after)
    # The layer and the totals.
    assert 2 == sum(old != new for old, new in zip(before, after, strict=True))


def test_a_python_model_is_compared_with_its_file(project: Path) -> None:
    """The layer that grew is named with the argument that changed."""
    baseline_command.write(Baselines(Path(".")), [TARGET], Requests(), update=False)
    [same] = check.check([TARGET], max_growth=["params=0"]).results
    assert ("pass", 3 * 4 * 9 + 4 + 4 * 2 + 2) == (same.status, same.base)
    (project / "nets" / "tiny.py").write_text(MODEL.replace("kernel=3", "kernel=5"))
    [result] = check.check([TARGET], max_growth=["params=0"]).results
    assert ("fail", 3 * 4 * (25 - 9)) == (result.status, -(result.headroom or 0))
    assert ("0", "changed", 3 * 4 * 16) == (result.growth[0].layer, result.growth[0].status, result.growth[0].delta)
    assert "kernel_size: " in result.growth[0].why
    [found] = diff_command.differences([TARGET], Sides(Requests()))
    assert 3 * 4 * 16 == found.delta("params")


def test_without_its_file_a_python_model_has_no_base(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that writes it can be pasted, with everything that was asked for."""
    arguments = [TARGET, "width=8", "-i", "3x8x8", "--batch", "2"]
    assert ExitCode.USAGE == run(["check", *arguments, "--max-growth", "params=0"])
    error = capsys.readouterr().err
    assert "there is no baseline file .convstat/baselines/" in error
    line = next(line for line in error.splitlines() if "baseline save" in line)
    command = line.removeprefix("help: convstat ").split()
    assert ["baseline", "save", TARGET, "width=8", "-i", "3x8x8", "--batch", "2"] == command
    assert ExitCode.OK == run(command)
    assert ExitCode.OK == run(["check", *arguments, "--max-growth", "params=0"])
    assert ExitCode.OK == run(["check", TARGET, "--max-growth", "params=0", "--missing-baseline", "skip"])


def test_a_file_is_not_overwritten_by_saving(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is accepted is accepted by an update, which says by how much it grew."""
    assert ExitCode.OK == run(["baseline", "save", TARGET])
    before = files(project)[0].read_bytes()
    (project / "nets" / "tiny.py").write_text(MODEL.replace("kernel=3", "kernel=5"))
    assert ExitCode.USAGE == run(["baseline", "save", TARGET])
    assert before == files(project)[0].read_bytes()
    assert f"help: to accept the current figures: convstat baseline update {TARGET}" in capsys.readouterr().err
    assert ExitCode.OK == run(["baseline", "update"])
    assert f"({3 * 4 * 16:+,})" in capsys.readouterr().out
    assert before != files(project)[0].read_bytes()


@pytest.mark.parametrize("action", ["update", "save", "prune"])
def test_continuous_integration_writes_nothing(
    project: Path, action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A build that accepts what it finds checks nothing; --yes says that it is meant."""
    run(["baseline", "save", "net.yaml"])
    before = files(project)[0].read_bytes()
    (project / "net.yaml").write_text(NET.replace("kernel: 3", "kernel: 5"))
    monkeypatch.setenv("CI", "true")
    target = TARGET if action == "save" else "net.yaml"
    assert ExitCode.USAGE == run(["baseline", action, target])
    assert "--yes" in capsys.readouterr().err
    assert [before] == [path.read_bytes() for path in files(project)]
    assert ExitCode.OK == run(["baseline", "show"])
    assert ExitCode.OK == run(["baseline", action, target, "--yes"])
    assert [before] != [path.read_bytes() for path in files(project)]
    monkeypatch.setenv("CI", "false")
    assert ExitCode.USAGE != run(["baseline", "save", "Conv2d(3, 8, 1)", "-i", "3x4x4"])


def test_renaming_a_model_is_one_file_less_and_one_more(project: Path) -> None:
    """Each model has a file of its own; that of one that is gone is pruned."""
    kept = Baselines(Path("."))
    baseline_command.write(kept, [TARGET, "net.yaml"], Requests(), update=False)
    old = set(files(project))
    (project / "nets" / "tiny.py").rename(project / "nets" / "better.py")
    settings = Config(models=("nets/better.py:build", "net.yaml"))
    baseline_command.write(kept, settings.models, Requests(), update=False)
    baseline_command.prune(kept, settings, ())
    new = set(files(project))
    assert (1, 1, 1) == (len(old - new), len(new - old), len(old & new))
    assert [str(next(iter(old - new)))] == [str(path) for path in old if "tiny" in path.name]


def test_showing_lists_the_files(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With exact figures, also as JSON; a model without a file is an error."""
    assert ExitCode.OK == run(["baseline", "save", "net.yaml", "net.yaml#wide"])
    capsys.readouterr()
    assert ExitCode.OK == run(["baseline", "show", "-f", "json"])
    entries = json.loads(capsys.readouterr().out)
    assert {"net.yaml": PARAMS, "net.yaml#wide": 2 * (PARAMS - 160) + 320} == {e["model"]: e["params"] for e in entries}
    assert ExitCode.OK == run(["baseline", "show", "net.yaml"])
    assert f"{PARAMS:,} params" in capsys.readouterr().out
    assert ExitCode.USAGE == run(["baseline", "show", TARGET])
    assert ExitCode.USAGE == run(["baseline", "shwo"])
    assert "did you mean 'show'?" in capsys.readouterr().err


def test_a_file_is_found_from_a_folder_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its root is the folder of the settings, else the top of the repository."""
    (project / "convstat.toml").write_text('model = "net.yaml"\n')
    assert ExitCode.OK == run(["baseline", "save", TARGET])
    (project / "convstat.toml").unlink()
    (project / ".git").mkdir()
    monkeypatch.chdir(project / "nets")
    assert ExitCode.OK == run(["check", "tiny.py:build", "--max-growth", "params=0"])
    assert ExitCode.OK == run(["baseline", "update"])
    assert 1 == len(files(project))


def test_nothing_is_written_where_one_model_cannot_be_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All problems are told, and there are no half measures."""
    assert ExitCode.USAGE == run(["baseline", "save", "net.yaml", "none.yaml", "nets/none.py:build"])
    assert 2 == capsys.readouterr().err.count("error: ")
    assert not (project / ".convstat").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.pop("totals"), ": 'totals' is missing"),
        (lambda d: d.update(layers=[3]), ": layers[0]: 3 where an object belongs"),
        (lambda d: d.update(convention="other"), "by the convention 'other'"),
        (lambda d: d.update(target="else.yaml"), "is the baseline of else.yaml, not of net.yaml"),
    ],
)
def test_a_damaged_file_is_refused(project: Path, spoil: Callable[[dict[str, object]], object], message: str) -> None:
    """It is named, and never taken for another model's."""
    baseline_command.write(Baselines(Path(".")), ["net.yaml"], Requests(), update=False)
    [path] = files(project)
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document))
    with pytest.raises((SourceError, UsageError), match="baselines") as caught:
        check.check(["net.yaml"], max_growth=["params=0"])
    assert message in str(caught.value)


def test_a_spec_uses_its_file_where_no_base_is_named(project: Path) -> None:
    """That is for projects outside of git; where a base is named in git, it goes before."""
    baseline_command.write(Baselines(Path(".")), ["net.yaml"], Requests(), update=False)
    (project / "net.yaml").write_text(NET.replace("kernel: 3", "kernel: 5"))
    [result] = check.check(["net.yaml"], max_growth=[f"params={GROWN - PARAMS - 1}"]).results
    assert ("fail", PARAMS) == (result.status, result.base)


def test_a_saved_report_needs_no_file(project: Path) -> None:
    """It can be a base itself."""
    (project / "saved.json").write_text(json.dumps(counted.analyze("net.yaml", counters="none").to_dict()))
    with pytest.raises(ConvstatError, match="it can be used as a base directly"):
        baseline_command.write(Baselines(Path(".")), ["saved.json"], Requests(), update=False)


texts = st.sampled_from(
    ["a", "A", "a-b", "a/b", "a:b", "a--b", "torchvision/a", "x.py:Net", "x.py:net", "é", "a b", "-", ""]
)


def how(overrides: dict[str, object] | None = None, **options: Any) -> Request:
    """A request for some target."""
    return counted.request("net.yaml", overrides, **options)


@settings(deadline=None, max_examples=200)
@given(
    texts,
    texts,
    st.sampled_from([how(), how(batch=2), how({"k": 1}), how({"k": Fraction(1, 2)})]),
    st.booleans(),
)
def test_different_models_have_different_files(one: str, other: str, asked: Request, same: bool) -> None:
    """Also where a file system does not tell upper from lower case; and no name leaves the folder."""
    names = file_name(one, asked), file_name(other, asked if same else how(dtype="float16"))
    assert (one == other and same) == (names[0] == names[1])
    if one != other:
        assert names[0].lower() != names[1].lower()
    assert all("/" not in name and not name.startswith(".") for name in names)


def test_odd_arguments_are_written_without_addresses() -> None:
    """An object has another address each time, and a fraction is a number."""
    assert '{\n "a": [\n  {"k": 0.5},\n  {"k": "<object object>"}\n ]\n}\n' == baseline.to_text(
        {"a": [{"k": Fraction(1, 2)}, {"k": object()}]}
    )
