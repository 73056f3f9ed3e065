"""Config objects are made from overrides and from files, and what cannot be made is said with what to write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import counted
import pytest

from convstat.cli.run import run
from convstat.config import project
from convstat.errors import ConvstatError, UsageError
from convstat.targets.configured import Settings, read

MODELS = """\
from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.args = args
        self.fc = nn.Linear(args.width, args.head.size)
        if args.get("extra"):
            self.more = nn.Linear(1, 1)

    def forward(self, x):
        return self.fc(x) * self.args["scale"]


@dataclass
class Head:
    size: int
    bias: bool = True


@dataclass
class Config:
    width: int
    head: Head
    depth: int = 1


@dataclass
class Small:
    width: int = 4
    head: Head = field(default_factory=lambda: Head(2))


class Typed(nn.Module):
    def __init__(self, cfg: Config, *, scale: float = 1.0):
        super().__init__()
        assert type(cfg) is Config
        self.layers = nn.ModuleList(nn.Linear(cfg.width, cfg.head.size, bias=cfg.head.bias) for _ in range(cfg.depth))

    def forward(self, x):
        return [layer(x) for layer in self.layers]


class Optional(nn.Module):
    def __init__(self, cfg: Small | None = None):
        super().__init__()
        self.fc = nn.Linear((cfg or Small()).width, 2)

    def forward(self, x):
        return self.fc(x)


class Defaulted(nn.Module):
    def __init__(self, cfg: Small):
        super().__init__()
        self.fc = nn.Linear(cfg.width, cfg.head.size)

    def forward(self, x):
        return self.fc(x)


class Keywords(nn.Module):
    def __init__(self, width, size=2):
        super().__init__()
        self.fc = nn.Linear(width, size)

    def forward(self, x):
        return self.fc(x)


def by_dict(cfg: dict):
    assert type(cfg) is dict
    return nn.Linear(cfg["width"], cfg["head"]["size"])


def by_stars(hparams):
    return Keywords(**hparams)


def by_vars(opt):
    return Keywords(**vars(opt))


class BertConfig:
    def __init__(self, hidden_size=6, **others):
        self.hidden_size = hidden_size
        self.others = others


class BertModel(nn.Module):
    config_class = BertConfig

    def __init__(self, config, add_pooling_layer=True):
        super().__init__()
        self.fc = nn.Linear(config.hidden_size, 3)

    def forward(self, x):
        return self.fc(x)


def needs_module(backbone: nn.Module, width: int):
    return backbone
"""
BASE = {"width": 8, "head": {"size": 5}, "scale": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models that take config objects, and settings for them in three formats."""
    (tmp_path / "nets.py").write_text(MODELS)
    (tmp_path / "base.json").write_text(json.dumps(BASE))
    (tmp_path / "base.yaml").write_text("width: 8\nhead:\n  size: 5\nscale: 2\n")
    (tmp_path / "base.toml").write_text("width = 8\nscale = 2\n[head]\nsize = 5\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def params(name: str, overrides: dict[str, object], width: int = 8) -> int:
    """The parameters of a model."""
    return counted.analyze(f"nets.py:{name}", overrides, inputs=[str(width)], counters="none").totals.params


FIELDS = {"args.width": 8, "args.head.size": 5, "args.scale": 2}


@pytest.mark.parametrize("name", ["base.json", "base.yaml", "base.toml"])
def test_a_file_and_fields_say_the_same(folder: Path, name: str) -> None:
    """8 x 5 weights and 5 biases; a field that is set goes before the file."""
    assert 8 * 5 + 5 == params("Net", {"--config": name}) == params("Net", FIELDS)
    assert 8 * 3 + 3 == params("Net", {"--config": name, "args.head.size": 3})
    assert 8 * 5 + 5 == params("Net", {"--config": f"args={name}"})


@pytest.mark.parametrize("name", ["by_dict", "by_stars", "by_vars", "Keywords", "Typed", "Optional"])
def test_every_way_to_read_a_config_object_works(folder: Path, name: str) -> None:
    """As a dict, by attributes, with stars, as a dataclass with one inside it, as keywords."""
    argument = {"by_dict": "cfg", "by_stars": "hparams", "by_vars": "opt", "Typed": "cfg", "Optional": "cfg"}.get(name)
    fields = {"width": 8, "head.size": 5} if name in ("by_dict", "Typed") else {"width": 8, "size": 5}
    if name == "Optional":
        assert 8 * 2 + 2 == params(name, {"cfg.width": 8})
        assert 4 * 2 + 2 == params(name, {}, width=4)
        return
    given = {f"{argument}.{key}" if argument else key: value for key, value in fields.items()}
    assert 8 * 5 + 5 == params(name, given)


def test_a_file_of_keywords_is_that_of_the_arguments(folder: Path) -> None:
    """Where no argument is a config object, the keys of the file are the arguments."""
    (folder / "kw.yaml").write_text("width: 8\nsize: 3\n")
    assert 8 * 3 + 3 == params("Keywords", {"--config": "kw.yaml"})


def test_a_config_that_has_defaults_is_made_and_named(folder: Path) -> None:
    """As transformers' models have them: nothing has to be given, and what was assumed is said."""
    for name, width, out in (("BertModel", 6, 3), ("Defaulted", 4, 2)):
        report = counted.analyze(f"nets.py:{name}", inputs=[str(width)], counters="none")
        assert width * out + out == report.totals.params
        assert "with its defaults" in " ".join(report.model.notes)
    assert 9 * 3 + 3 == params("BertModel", {"config.hidden_size": 9}, width=9)


def refused(name: str, overrides: dict[str, object]) -> UsageError:
    """The error that must come."""
    with pytest.raises(ConvstatError) as caught:
        params(name, overrides)
    return caught.value  # type: ignore[return-value]


def test_the_fields_that_are_read_are_named_and_the_function_is_written_out(folder: Path) -> None:
    """What is to be typed is there, and with values in place of the dots it runs."""
    [problem] = refused("Net", {}).diagnostics
    assert "nets.py:Net needs args" == problem.message
    typed, file, function = problem.help
    assert "nets.py:Net args.width=... args.head.size=..." in typed
    assert "args.scale=..." in typed
    assert "nets.py:Net --config args=base.yaml" in file
    assert "    return Net(args=SimpleNamespace(width=..., head=SimpleNamespace(size=...), scale=...))" in function
    assert "from nets import Net" in function
    [typed] = [text for text in refused("Typed", {}).diagnostics[0].help if "overrides" in text]
    assert "cfg.width=... cfg.head=..." in typed


def test_the_function_that_is_written_out_runs(folder: Path) -> None:
    """Of a class of settings: with numbers for the dots it makes the model."""
    [problem] = refused("Typed", {}).diagnostics
    code = "\n".join(line[4:] for line in problem.help[-1].split("\n\n", 1)[1].splitlines())
    code = "from nets import Head\n" + code.replace("width=...", "width=8").replace("head=...", "head=Head(5)")
    (folder / "build.py").write_text(code)
    assert 8 * 5 + 5 == counted.analyze("build.py:build", inputs=["8"], counters="none").totals.params


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("Net", {"args.width": 8, "args.head.size": 5}, "args.scale is not set"),
        ("Net", {"args.width": 8}, "args.head is not set"),
        ("Net", {"args": 3, "args.width": 3}, "given both as a whole and by its fields"),
        ("Typed", {"cfg.width": 8, "cfg.head.size": 2, "cfg.dpth": 2}, "Config has no field 'dpth'"),
        ("Typed", {"cfg.width": 8}, "Config needs head"),
        ("Typed", {"cfg.width": 8, "cfg.head.bias": False}, "Head needs size"),
        ("Net", {"--config": "nosuch.yaml"}, "cannot read nosuch.yaml"),
        ("Net", {"--config": "nets.py"}, "nets.py is not a settings file"),
        ("Net", {"--config": "cfg=base.yaml"}, "has no argument 'cfg'"),
        ("Keywords", {"--config": "base.yaml"}, "which argument is --config base.yaml for?"),
        ("Keywords", {"args.width": 3}, "has no argument 'args.width'"),
    ],
)
def test_a_mistake_in_a_config_says_what_is_wrong(
    folder: Path, name: str, overrides: dict[str, object], message: str
) -> None:
    """No traceback, and no class of ours."""
    text = str(refused(name, overrides))
    assert message in text
    assert "Settings" not in text


def test_a_file_of_settings_is_a_mapping(tmp_path: Path) -> None:
    """Anything else is refused."""
    for text in ("[1, 2]", "3", "{1: 2}", "a: [1", "", "a: &x [*x]" * 0 + "!!python/object:os.system {}"):
        path = tmp_path / "x.yaml"
        path.write_text(text)
        with pytest.raises(UsageError, match="not a settings file"):
            read(str(path))


def test_settings_are_read_as_a_namespace_and_as_a_mapping() -> None:
    """hasattr, getattr with a default, in, dict(), vars() and stars all do what one expects."""
    made = Settings("args", {"a": 1, "b": {"c": 2}})
    assert (1, 2, 1, 9, None) == (made.a, made.b.c, made["a"], getattr(made, "z", 9), made.get("z"))
    assert "a" in made
    assert "z" not in made
    assert not hasattr(made, "z")
    assert {"a", "b"} == set(made) == set(dict(**made)) == set(vars(made)) == set(made.keys())
    made.z = 3
    made["y"] = 4
    assert (3, 4, 4) == (made["z"], made.y, len(made))


def test_a_model_in_place_of_a_value_is_for_a_function(folder: Path) -> None:
    """An override cannot give a module: only the rest is offered as one."""
    help = refused("needs_module", {}).diagnostics[0].help
    assert "width=..." in help[0]
    assert "backbone=..." not in help[0]
    assert "def build():" in help[-1]


def test_the_command_and_the_settings_take_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command that counts a Python model; a sweep sets a field beside it."""
    for command in (["analyze", "--counters", "none"], ["check", "--max", "params=45"], ["explain", "fc"], ["formula"]):
        assert 0 == run([command[0], "nets.py:Net", *command[1:], "--config", "base.yaml", "-i", "8"]), command
    capsys.readouterr()
    assert 0 == run(["compare", "nets.py:Net", "--config", "base.yaml", "-i", "8", "args.head.size=5,6", "-f", "json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [45, 54] == [row["totals"]["params"] for row in rows]
    (folder / "sub").mkdir()
    text = '[[models]]\nmodel = "nets.py:Net"\nconfig = "base.yaml"\noverrides = {args = {scale = 3}}\ninput = "8"\n'
    (folder / "convstat.toml").write_text(text)
    assert 0 == run(["check", "--max", "params=45"])
    loaded = project.parse(text, "../convstat.toml")
    assert {"--config": "../base.yaml", "args.scale": 3} == loaded.by_model[0].overrides
    assert 2 == run(["analyze", "Conv2d(3, 4, 3)", "-i", "3x8x8", "--config", "base.yaml"])
    assert "takes no --config" in capsys.readouterr().err


# --- what a module sees on import ---------------------------------------------------------------------------------


def test_argparse_at_import_sees_no_command_line_of_ours(tmp_path: Path) -> None:
    """A module that parses its arguments as it is imported has none; ours are what they were afterwards."""
    (tmp_path / "script.py").write_text(
        "import argparse\nfrom torch import nn\n\nparser = argparse.ArgumentParser()\n"
        'parser.add_argument("--width", type=int, default=7)\nargs = parser.parse_args()\n\n\n'
        "def build():\n    return nn.Linear(parser.parse_args().width, args.width)\n"
    )
    program = "import sys; from convstat.cli import main; main()"
    options = ["analyze", "script.py:build", "-i", "7", "--counters", "none", "-f", "json"]
    answer = subprocess.run(
        [sys.executable, "-c", program, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert 0 == answer.returncode, answer.stderr
    assert 7 * 7 + 7 == json.loads(answer.stdout)["totals"]["params"]


def test_names_in_any_script_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes them, so modules, classes, arguments and inputs do."""
    (tmp_path / "模型.py").write_text(
        "from torch import nn\n\n\nclass 网络(nn.Module):\n    def __init__(self, 宽=3):\n        super().__init__()\n"
        "        self.层 = nn.Linear(宽, 2)\n\n    def forward(self, 输入):\n        return self.层(输入)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert 0 == run(["analyze", "模型:网络", "宽=5", "-i", "输入=5", "--counters", "none", "-o", "out.json"])
    document = json.loads((tmp_path / "out.json").read_text())
    assert (5 * 2 + 2, ["层"], ["输入"]) == (
        document["totals"]["params"],
        [row["name"] for row in document["layers"]],
        [item["name"] for item in document["model"]["inputs"]],
    )
