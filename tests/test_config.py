"""Settings are found upward, read strictly, and every problem has its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from convstat.config import project
from convstat.config.project import Config
from convstat.errors import ConfigError, ExitCode

FULL = """\
[project]
name = "net"
model = "not ours"

[tool.convstat]
model = ["configs/net.yaml#small", "Conv2d(4, 8, kernel_size=3)"]
input = "3x224x224"
batch = 2
device = "meta"
dtype = "float16"
counters = ["ptflops", "torchsummary"]
per = "luma420"
format = "json"

[[tool.convstat.budget]]
metric = "macs"
max = "300M"
why = "phone target"

[tool.other]
model = "not ours"

[[tool.convstat.budget]]
metric = "params"
  exact = 288
model = "configs/*.yaml"
"""


def problems(text: str, name: str = "pyproject.toml") -> list[str]:
    """Give the messages of a file that must be refused, with their places."""
    with pytest.raises(ConfigError) as caught:
        project.parse(text, name)
    assert ExitCode.USAGE == caught.value.exit_code
    return [f"{d.mark}: {d.message}" for d in caught.value.diagnostics]


def test_every_key_is_read() -> None:
    """A list and a single text are both accepted where there can be several."""
    read = project.parse(FULL, "pyproject.toml")
    assert ("configs/net.yaml#small", "Conv2d(4, 8, kernel_size=3)") == read.models
    assert (("3x224x224",), 2, "meta", "float16") == (read.inputs, read.batch, read.device, read.dtype)
    assert ("ptflops,torchsummary", "luma420", "json") == (read.counters, read.per, read.format)
    assert [{"metric": "macs", "max": "300M", "why": "phone target"}] == [read.budgets[0].written]
    assert "pyproject.toml:6:1" == str(read.models_mark)


def test_a_budget_knows_its_line_and_the_lines_of_its_keys() -> None:
    """The n-th header of the text is the n-th budget, whatever stands between."""
    first, second = project.parse(FULL, "pyproject.toml").budgets
    assert ("pyproject.toml:15:1", "pyproject.toml:17:1") == (str(first.mark), str(first.marks["max"]))
    assert ("pyproject.toml:23:1", "pyproject.toml:25:3") == (str(second.mark), str(second.marks["exact"]))


def test_short_budgets_know_their_lines() -> None:
    """Each text of the list is found on its own line, not in a comment above it."""
    text = '[tool.convstat]\n# params<=5M\nbudget = [\n  # macs<=1G\n  "params<=5M",\n  "macs<=1G",\n]\n'
    read = project.parse(text, "pyproject.toml")
    assert ["params<=5M", "macs<=1G"] == [entry.written for entry in read.budgets]
    assert ["pyproject.toml:5:4", "pyproject.toml:6:4"] == [str(entry.mark) for entry in read.budgets]


def test_the_keys_stand_at_the_top_of_our_own_file() -> None:
    """convstat.toml has the same keys, without the table."""
    read = project.parse('model = "net.yaml"\n[[budget]]\nmetric = "params"\nmax = 10\n', "convstat.toml")
    assert ("net.yaml",) == read.models
    assert "convstat.toml:2:1" == str(read.budgets[0].mark)
    found = problems('[tool.convstat]\nmodel = "net.yaml"\n', "convstat.toml")
    assert ["convstat.toml:1:1: unknown key 'tool'"] == found


def test_paths_are_relative_to_the_file() -> None:
    """A path can be used from the working directory; what is no path is left alone."""
    read = project.parse(FULL, "sub/pyproject.toml")
    assert ("sub/configs/net.yaml#small", "Conv2d(4, 8, kernel_size=3)") == read.models
    assert isinstance(read.budgets[1].written, dict)
    assert "sub/configs/*.yaml" == read.budgets[1].written["model"]
    assert ("net.yaml",) == project.parse('model = "../net.yaml"', "sub/convstat.toml").models


def test_a_pattern_stands_for_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their names, from the folder of the settings; one that matches nothing is a mistake."""
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a", "c/d"):
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert ("configs/a.yaml", "configs/b.yaml") == project.parse('model = "configs/*.yaml"', "convstat.toml").models
    every = project.parse('model = ["configs/**/*.yaml", "x.yaml#*"]', "convstat.toml").models
    assert ("configs/a.yaml", "configs/b.yaml", "configs/c/d.yaml", "x.yaml#*") == every
    assert ("configs/a.yaml#wide",) == project.parse('model = "*/a.yaml#wide"', "convstat.toml").models
    assert ["convstat.toml:1:1: model 'none/*.yaml' matches no file"] == problems(
        'model = "none/*.yaml"\n', "convstat.toml"
    )


def test_unknown_keys_are_errors_with_what_was_meant() -> None:
    """All of them in one run, each at its line."""
    text = '[tool.convstat]\nmodell = "a.yaml"\nbtch = 1\n[[tool.convstat.budget]]\nmetrik = "params"\nmax = 1\n'
    with pytest.raises(ConfigError) as caught:
        project.parse(text, "pyproject.toml")
    assert ["pyproject.toml:2:1", "pyproject.toml:3:1", "pyproject.toml:5:1"] == [
        str(d.mark) for d in caught.value.diagnostics
    ]
    assert [("did you mean 'model' or 'models'?",), ("did you mean 'batch'?",), ("did you mean 'metric'?",)] == [
        d.help for d in caught.value.diagnostics
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("batch = 0", "batch must be an integer of at least 1, not 0"),
        ("batch = true", "batch must be an integer of at least 1, not true"),
        ('batch = "2"', "batch must be an integer of at least 1, not '2'"),
        ("model = 3", "model must be a string or a list of strings, not 3"),
        ("model = []", "model must be a string or a list of strings, not a list"),
        ('model = "what"', "cannot recognise 'what'"),
        ('device = "gpu"', "unknown device 'gpu'"),
        ('dtype = "float8"', "unknown dtype 'float8'"),
        ("per = 1", "per must be a text, not 1"),
        ('per = "inptu"', "unknown basis 'inptu' for MACs/pixel"),
        ('budget = "params<=5M"', "budget must be a list of strings or tables, not 'params<=5M'"),
        ("budget = []", "budget is an empty list"),
        ("budget = [3]", "a budget is a string or a table, not 3"),
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_at_its_line(line: str, message: str) -> None:
    """Nothing is converted silently."""
    assert [f"convstat.toml:2:1: {message}"] == problems(f"# settings\n{line}\n", "convstat.toml")


def test_a_file_that_is_not_toml_is_an_error_at_its_line() -> None:
    """The parser's own line and column are used."""
    [found] = problems('a = "b"\nmodel = x y\n', "convstat.toml")
    assert found.startswith("convstat.toml:2:9: not TOML: ")


def test_the_nearest_file_wins(tmp_path: Path) -> None:
    """Upward from the folder; a pyproject.toml without the table is passed over."""
    (tmp_path / ".git").mkdir()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.convstat]\nmodel = "top.yaml"\n')
    (deep / "pyproject.toml").write_text('[project]\nname = "tool.convstat"\n[tool.convstatistics]\nx = 1\n')
    assert tmp_path / "pyproject.toml" == project.find(deep)
    (tmp_path / "a" / "convstat.toml").write_text('model = "middle.yaml"\n')
    assert tmp_path / "a" / "convstat.toml" == project.find(deep)


def test_our_own_file_goes_before_the_shared_one(tmp_path: Path) -> None:
    """There is no cascade: one file holds all settings."""
    (tmp_path / "pyproject.toml").write_text('[tool.convstat]\nmodel = "a.yaml"\n')
    (tmp_path / "convstat.toml").write_text('model = "b.yaml"\n')
    assert tmp_path / "convstat.toml" == project.find(tmp_path)


def test_the_search_ends_at_the_root_of_the_repository(tmp_path: Path) -> None:
    """A file above the repository belongs to somebody else."""
    (tmp_path / "convstat.toml").write_text('model = "a.yaml"\n')
    inside = tmp_path / "repository" / "folder"
    inside.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    assert project.find(inside) is None


def test_a_damaged_table_is_found_and_refused(tmp_path: Path) -> None:
    """A syntax error in a file that has our table is not the same as having no settings."""
    (tmp_path / "pyproject.toml").write_text("[tool.convstat]\nmodel = \n")
    found = project.find(tmp_path)
    assert tmp_path / "pyproject.toml" == found
    with pytest.raises(ConfigError, match="not TOML"):
        project.load(found)


def test_a_table_written_in_another_way_is_found_too(tmp_path: Path) -> None:
    """TOML has several spellings of one table; the place may then be the first line only."""
    for text in ('[tool]\nconvstat = {model = "a.yaml"}\n', 'tool.convstat.model = "a.yaml"\n'):
        (tmp_path / "pyproject.toml").write_text(text)
        assert project.find(tmp_path) is not None
        assert "a.yaml" == Path(project.load(tmp_path / "pyproject.toml").models[0]).name


def test_no_file_means_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything has its default."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Config() == project.load()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Missing, not text, or too large: each says so."""
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        project.load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8: the byte 0xff"):
        project.load(tmp_path / "bytes.toml")
    (tmp_path / "large.toml").write_text("#" * 1_000_001)
    with pytest.raises(ConfigError, match="is larger than"):
        project.load(tmp_path / "large.toml")
