"""Where the gate runs: the action for GitHub, the job for GitLab, the hooks for pre-commit; run where that can be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ACTION = Path(".github/actions/convstat")
SCRIPTS = Path(sys.executable).parent
SPEC = "convstat: 1\nname: net\ninput: [3, 8, 8]\nlayers:\n  - Conv2d: {out_channels: 4, kernel_size: 3}\n"
PARAMS = 4 * 3 * 3 * 3 + 4


def schema_problems(schema: str, path: Path) -> str:
    """What the published schema, as check-jsonschema ships it, has against a file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    if schema == "gitlab-ci":
        command += ["--data-transform", "gitlab-ci"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if answer.returncode == 0 else answer.stdout + answer.stderr


def documented(root: Path, name: str) -> list[str]:
    """The YAML blocks of the pages that are a file of this name."""
    pages = [root / "README.md", *sorted((root / "convstat" / "docs").glob("*.md"))]
    found = [
        block
        for page in pages
        for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        if block.startswith(f"# {name}")
    ]
    assert found, name
    return found


def git(*arguments: str, cwd: Path) -> str:
    """Run git as somebody."""
    identity = (
        "-c",
        "user.name=somebody",
        "-c",
        "user.email=somebody@example.invalid",
        "-c",
        "init.defaultBranch=main",
    )
    return subprocess.run(["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout


def test_the_action_keeps_the_schema_of_github(root: Path, tmp_path: Path) -> None:
    """The published schema has nothing against it, and something against one with a mistake."""
    text = (root / ACTION / "action.yml").read_text("utf-8")
    assert "" == schema_problems("github-actions", root / ACTION / "action.yml")
    (tmp_path / "action.yml").write_text(text.replace("using: composite", "using: compsite"), encoding="utf-8")
    assert "" != schema_problems("github-actions", tmp_path / "action.yml")


@pytest.mark.parametrize(
    ("name", "schema"), [(".github/workflows/", "github-workflows"), (".gitlab-ci.yml", "gitlab-ci")]
)
def test_the_workflows_of_the_documentation_keep_their_schemas(
    name: str, schema: str, root: Path, tmp_path: Path
) -> None:
    """Every workflow of a page can be used as it stands; one with a mistake is refused."""
    path = tmp_path / "file.yml"
    for block in documented(root, name):
        path.write_text(block, encoding="utf-8")
        assert "" == schema_problems(schema, path), block
    path.write_text(block.replace("script:", "scrpt: 5\n  scripts:").replace("steps:", "steps: 5\n    x:"), "utf-8")
    assert "" != schema_problems(schema, path)


def test_the_action_is_documented_input_by_input(root: Path) -> None:
    """The table of inputs has those of the action with their defaults, and the example uses its folder."""
    action = yaml.safe_load((root / ACTION / "action.yml").read_text("utf-8"))
    page = (root / "convstat" / "docs" / "ci.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*?) ?\|", page.partition("| input |")[2].partition("\n\n")[0], re.M))
    assert set(action["inputs"]) == set(rows)
    for name, declared in action["inputs"].items():
        assert not declared["default"] or f"`{declared['default']}`" == rows[name], name
    for name in action["outputs"]:
        assert f"`{name}`" in page
    assert f"uses: OWNER/REPO/{ACTION}@v1" in page


def test_the_action_runs_no_text_from_outside(root: Path) -> None:
    """No expression is in a script: GitHub would paste its value there, whatever is in it."""
    action = yaml.safe_load((root / ACTION / "action.yml").read_text("utf-8"))
    scripts = [step["run"] for step in action["runs"]["steps"]]
    assert len(scripts) == 2
    assert not [script for script in scripts if "${{" in script]
    given = {name for step in action["runs"]["steps"] for name in re.findall(r"inputs\.([\w-]+)", str(step))}
    assert set(action["inputs"]) == given


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a spec in it, a branch, and the main branch of its origin."""
    origin, folder = tmp_path / "origin", tmp_path / "work"
    origin.mkdir()
    (origin / "net.yaml").write_text(SPEC, encoding="utf-8")
    (origin / "pyproject.toml").write_text(
        f'[tool.convstat]\nmodel = "net.yaml"\n[[tool.convstat.budget]]\nmetric = "params"\nmax = {PARAMS}\n', "utf-8"
    )
    git("init", "-q", cwd=origin)
    git("add", ".", cwd=origin)
    git("commit", "-q", "-m", "begin", cwd=origin)
    git("clone", "-q", str(origin), str(folder), cwd=tmp_path)
    git("checkout", "-q", "-b", "change", cwd=folder)
    return folder


def run_action(root: Path, folder: Path, **inputs: str) -> tuple[int, str, dict[str, str], str]:
    """Run the second step of the action as GitHub does; give its code, its log, its outputs and the summary."""
    action = yaml.safe_load((root / ACTION / "action.yml").read_text("utf-8"))
    (step,) = (step for step in action["runs"]["steps"] if step.get("id") == "check")
    written = {name: inputs.get(name.replace("-", "_"), item["default"]) for name, item in action["inputs"].items()}
    output, summary = folder.parent / "output", folder.parent / "summary"
    output.write_text("", "utf-8")
    summary.touch()
    environment = {
        **os.environ,
        **{key: written[name] for key, value in step["env"].items() for name in re.findall(r"inputs\.([\w-]+)", value)},
        "CONVSTAT": str(SCRIPTS / "convstat"),
        "GITHUB_ACTION_PATH": str(root / ACTION),
        "GITHUB_ACTIONS": "true",
        "GITHUB_BASE_REF": inputs.get("ref", "main"),
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_WORKSPACE": str(folder),
    }
    answer = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    outputs = dict(line.split("=", 1) for line in output.read_text("utf-8").splitlines())
    return answer.returncode, answer.stdout + answer.stderr, outputs, summary.read_text("utf-8")


def test_the_action_checks_what_the_settings_say(root: Path, checkout: Path) -> None:
    """A budget that is just kept passes; the comment, the report and the summary are there."""
    code, log, outputs, summary = run_action(root, checkout)
    assert (0, {"exit-code": "0", "comment": "comment.md", "report": "convstat.json"}) == (code, outputs), log
    assert "1 passed" in log
    assert PARAMS == json.loads((checkout / "convstat.json").read_text("utf-8"))["budgets"][0]["actual"]
    assert (checkout / "comment.md").read_text("utf-8").startswith("<!-- convstat:check:")
    assert "params" in summary


def test_the_action_compares_with_the_branch_of_the_pull_request(root: Path, checkout: Path) -> None:
    """Growth is judged against origin/main, annotated at the layer's line, and told by the exit code."""
    (checkout / "net.yaml").write_text(SPEC.replace("out_channels: 4", "out_channels: 8"), encoding="utf-8")
    code, log, outputs, _ = run_action(root, checkout, arguments="--max-growth=params=50%\n\n--max=params=10k\n")
    assert (1, "1") == (code, outputs["exit-code"]), log
    assert "out_channels: 4 -> 8" in log
    assert re.search(r"^::error file=net\.yaml,line=5,", log, re.MULTILINE)
    (result,) = (r for r in json.loads((checkout / "convstat.json").read_text("utf-8"))["budgets"] if r["relative"])
    assert (PARAMS, 2 * PARAMS) == (result["base"], result["actual"])


def test_the_action_says_that_the_base_is_not_in_the_checkout(root: Path, checkout: Path) -> None:
    """Without the branch there is no base: limits that need none are judged, and the log says what is missing."""
    code, log, _, _ = run_action(root, checkout, ref="elsewhere")
    assert 0 == code, log
    assert "origin/elsewhere is not in this checkout" in log
    assert "fetch-depth: 0" in log


def test_the_action_takes_arguments_as_they_are(root: Path, checkout: Path) -> None:
    """Blanks, quotes and what a shell would run are part of an argument; a mistake ends with 2."""
    name = "a 'b' $(touch ran) `touch ran`; touch ran.yaml"
    (checkout / "comment.md").write_text("of another run", encoding="utf-8")
    code, log, outputs, _ = run_action(root, checkout, targets=name, arguments='--max="$(touch ran)"')
    assert (2, {"exit-code": "2"}) == (code, outputs), log
    assert not (checkout / "ran").exists()
    code, log, outputs, _ = run_action(
        root, checkout, targets="Conv2d(3, 4, kernel_size=3)\r\n", arguments="-i\n3x8x8\n--max=params=112",
        comment="", report="", base="none",
    )  # fmt: skip
    assert (0, {"exit-code": "0"}) == (code, outputs), log


def test_the_scripts_of_the_action_are_sound(root: Path) -> None:
    """bash can read them, and they stop at the first failure."""
    for name in ("install.sh", "check.sh"):
        path = root / ACTION / name
        assert 0 == subprocess.run(["bash", "-n", str(path)], check=False).returncode
        assert "set -euo pipefail" in path.read_text("utf-8")


FAKE = """\
#!/usr/bin/env bash
if [ "$2" = venv ]; then
  mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; printf '#!/bin/sh\\n' >"$3/bin/convstat"; chmod +x "$3/bin/"*
else
  printf '%s\\n' "$@" end >>"$LOG"
fi
"""
"""A Python that makes an environment with itself in it, and writes down what pip would be asked for."""


@pytest.mark.parametrize("torch", ["true", "false"])
def test_the_action_installs_the_requirements_of_the_models(root: Path, tmp_path: Path, torch: str) -> None:
    """Each line is a file of requirements; torch comes in its build for the CPU, and in one go with what they ask."""
    fake, log = tmp_path / "python", tmp_path / "log"
    fake.write_text(FAKE, encoding="utf-8")
    fake.chmod(0o755)
    environment = {
        **os.environ,
        "LOG": str(log),
        "CONVSTAT_PYTHON": str(fake),
        "CONVSTAT_TORCH": torch,
        "CONVSTAT_REQUIREMENTS": "requirements.txt\r\nnets/my reqs.txt\n",
        "GITHUB_ACTION_PATH": str(root / ACTION),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "RUNNER_TEMP": str(tmp_path / "temp"),
    }
    script = str(root / ACTION / "install.sh")
    answer = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert 0 == answer.returncode, answer.stderr
    calls = [call.split("\n") for call in log.read_text("utf-8").strip().removesuffix("\nend").split("\nend\n")]
    assert {"--requirement=requirements.txt", "--requirement=nets/my reqs.txt"} <= set(calls[0])
    assert any(word.endswith("/whl/cpu") for word in calls[0])
    assert (1 if torch == "true" else 2) == len(calls)
    assert (str(root) in calls[0]) == (torch == "true")


@pytest.mark.verify
def test_the_action_installs_convstat_without_torch(root: Path, tmp_path: Path) -> None:
    """The first step, from the repository to a command that runs, for real."""
    copy = tmp_path / "repository"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".venv", ".git", "*.egg-info", "__pycache__", ".*_cache"))
    (tmp_path / "output").touch()
    environment = {
        **os.environ,
        "CONVSTAT_PYTHON": sys.executable,
        "CONVSTAT_TORCH": "false",
        "CONVSTAT_REQUIREMENTS": "",
        "GITHUB_ACTION_PATH": str(copy / ACTION),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "RUNNER_TEMP": str(tmp_path / "temp"),
    }
    script = str(copy / ACTION / "install.sh")
    answer = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert 0 == answer.returncode, answer.stderr
    command = (tmp_path / "output").read_text("utf-8").strip().removeprefix("convstat=")
    packages = list((tmp_path / "temp" / "convstat").glob("lib/python*/site-packages/torch"))
    assert [] == packages
    answer = subprocess.run([command, "check", "configs/conv2d.yaml"], cwd=root, check=False, capture_output=True)
    assert 0 == answer.returncode


HOOK_KEYS = {"id", "name", "description", "entry", "language", "files", "types", "pass_filenames", "require_serial"}


def hooks(root: Path) -> dict[str, dict[str, Any]]:
    """The hooks by their ids."""
    return {item["id"]: item for item in yaml.safe_load((root / ".pre-commit-hooks.yaml").read_text("utf-8"))}


def test_the_hooks_are_what_pre_commit_takes(root: Path) -> None:
    """Every hook has what is required, no key that pre-commit does not know, and runs a command that there is."""
    from convstat.cli.app import COMMANDS

    for name, hook in hooks(root).items():
        assert {"id", "name", "entry", "language"} <= set(hook) <= HOOK_KEYS, name
        # An environment of its own would be made with torch.
        assert "system" == hook["language"]
        program, command = hook["entry"].split()
        assert "convstat" == program
        assert command in COMMANDS
    page = (root / "convstat" / "docs" / "ci.md").read_text("utf-8")
    assert set(hooks(root)) == set(re.findall(r"^\| `(convstat-\w+)` \|", page, re.MULTILINE))
    for block in documented(root, ".pre-commit-config.yaml"):
        used = [hook["id"] for repo in yaml.safe_load(block)["repos"] for hook in repo["hooks"]]
        assert set(used) <= set(hooks(root))


def test_the_settings_hook_runs_for_specs_and_settings(root: Path) -> None:
    """Its pattern takes what changes a verdict, and leaves other files alone."""
    pattern = re.compile(hooks(root)["convstat-check"]["files"])
    for name in ("net.yaml", "configs/net.yml", "pyproject.toml", "sub/pyproject.toml", "convstat.toml"):
        assert pattern.search(name), name
    for name in ("net.py", "my_pyproject.toml.txt", "yaml", "notconvstat.toml"):
        assert not pattern.search(name), name


def run_hook(folder: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """Run what pre-commit runs."""
    command = [str(SCRIPTS / "convstat"), "hook", *files]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_hook_passes_over_what_is_no_spec(tmp_path: Path) -> None:
    """Workflows, broken YAML of others and no files at all are no business of it."""
    (tmp_path / "workflow.yml").write_text("jobs:\n  convstat: 1\n", encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("a: [1\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("convstat: 1\n", encoding="utf-8")
    for files in ((), ("workflow.yml", "broken.yaml", "notes.txt")):
        answer = run_hook(tmp_path, *files)
        assert (0, "", "") == (answer.returncode, answer.stdout, answer.stderr)


def test_the_hook_counts_every_spec_and_judges_those_with_budgets(tmp_path: Path) -> None:
    """One without a budget passes, one that keeps it passes, one over it fails, one with a mistake ends with 2."""
    (tmp_path / "free.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "kept.yaml").write_text(f'{SPEC}budget: ["params<={PARAMS}"]\n', encoding="utf-8")
    (tmp_path / "over.yaml").write_text(f'{SPEC}budget: ["params<={PARAMS - 1}"]\n', encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(SPEC.replace("Conv2d", "Cnov2d"), encoding="utf-8")
    (tmp_path / "small.yaml").write_text(SPEC.replace("8, 8]", "2, 2]"), encoding="utf-8")
    assert (0, "") == (run_hook(tmp_path, "free.yaml").returncode, run_hook(tmp_path, "free.yaml").stdout)
    assert 0 == run_hook(tmp_path, "free.yaml", "kept.yaml").returncode
    answer = run_hook(tmp_path, "free.yaml", "kept.yaml", "over.yaml")
    assert 1 == answer.returncode
    assert "over by 1" in answer.stdout
    answer = run_hook(tmp_path, "wrong.yaml", "small.yaml", "kept.yaml")
    assert 2 == answer.returncode
    assert "did you mean 'Conv2d'" in answer.stderr
    assert "small.yaml:5" in answer.stderr


def test_the_hook_knows_which_settings_are_for_a_file(tmp_path: Path) -> None:
    """A budget with a model of its own is for that alone."""
    for folder in ("large", "little"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.yaml").write_text(SPEC, encoding="utf-8")
    table = f'[[budget]]\nmodel = "little/*.yaml"\nmetric = "params"\nmax = {PARAMS - 1}\n'
    (tmp_path / "convstat.toml").write_text(table, encoding="utf-8")
    assert 0 == run_hook(tmp_path, "large/net.yaml").returncode
    assert 1 == run_hook(tmp_path, "little/net.yaml").returncode
