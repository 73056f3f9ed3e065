"""Installed without torch, as for a gate on specs: the wheel beside typer, rich and pyyaml, and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

GATE = ("typer", "rich", "pyyaml")
"""What the documentation has installed beside convstat."""

SPEC = "configs/mobilenet_v1.yaml"


def with_requirements(names: tuple[str, ...]) -> list[str]:
    """Distributions with all that they require, as they are installed here."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found[name] = None
        for line in importlib.metadata.requires(name) or ():
            requirement, _, marker = line.partition(";")
            needed = re.match(r"[\w.-]+", requirement)
            if needed and "extra" not in marker and _is_installed(needed[0]):
                waiting.append(needed[0])
    return list(found)


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: building leaves its traces."""
    copy = tmp_path_factory.mktemp("source") / "convstat"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    shutil.copytree(root / "convstat", copy / "convstat", ignore=shutil.ignore_patterns("__pycache__"))
    folder = copy.parent / "dist"
    command = ["pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", *command, str(copy)], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and with what the documentation installs beside it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.unpack_archive(wheel, folder, "zip")
    for name in with_requirements(GATE):
        for file in importlib.metadata.files(name) or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    return folder


def convstat(site: Path, root: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed command where only that folder and the standard library can be imported."""
    program = "from convstat.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-S", "-P", "-c", program, *arguments],
        cwd=cwd or root, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_torch_cannot_be_imported_there(site: Path, root: Path) -> None:
    """The proof below is about a place without torch, numpy, matplotlib and pytest, where convstat is the wheel's."""
    program = (
        "import importlib.util as u, convstat; "
        "print(convstat.__file__, *(n for n in ('torch', 'numpy', 'matplotlib', 'pytest', 'yaml') if u.find_spec(n)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    answer = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{site / 'convstat' / '__init__.py'} yaml\n" == answer.stdout


COMMANDS = (
    (["--version"], "convstat "),
    (["--help"], "Usage"),
    (["check", "--help"], "--max-growth"),
    (["analyze", SPEC], "568,740,352"),
    (["analyze", SPEC, "alpha=0.5", "--counters", "none", "-f", "json"], '"macs": 149497088'),
    (["analyze", "Conv2d(4, 8, kernel_size=3)", "--input", "4x64x64", "--counters", "none", "-f", "csv"], "1107072"),
    (["compare", "groups=1,2,4"], "294,912"),
    (["compare", SPEC, "alpha=0.5,1", "-f", "markdown"], "| 568,740,352 |"),
    (["check", SPEC, "--max", "params=5M"], "3 passed"),
    (["check", SPEC, "-f", "junit"], "<testsuite"),
    (["diff", "configs/mobilenet_v1.yaml", "configs/mobilenet_v2.yaml"], "mobilenet_v2"),
    (["memory", SPEC], "24,040,312 bytes"),
    (["memory", SPEC, "--fits", "64MiB"], "The largest batch that fits"),
    (["check", SPEC, "--max", "activation_bytes=8MiB"], "3 passed"),
    (["expand", SPEC], "# configs/mobilenet_v1.yaml, expanded"),
    (["explain", SPEC, "stem", "--counters", "none"], "10,838,016"),
    (["hook", SPEC], "2 passed"),
    (["list", "layers"], "Conv2d"),
    (["list", "counters"], "not installed"),
    (["list", "formats"], "sarif"),
    (["list", "zoo", "resnet"], "torchvision/resnet50"),
    (["schema", "spec"], "$schema"),
    (["schema", "report"], "convstat.report/1"),
    (["schema", "config"], "$schema"),
    (["docs", "ci"], "# CI, pre-commit"),
    (["config", "show"], "model"),
)


@pytest.mark.parametrize(("arguments", "expected"), COMMANDS, ids=[" ".join(command) for command, _ in COMMANDS])
def test_what_is_about_specs_runs_without_torch(arguments: list[str], expected: str, site: Path, root: Path) -> None:
    """The command succeeds, and prints what it prints elsewhere."""
    answer = convstat(site, root, *arguments)
    assert 0 == answer.returncode, answer.stderr
    assert expected in answer.stdout


def test_a_saved_report_is_rendered_and_checked_without_torch(site: Path, root: Path, tmp_path: Path) -> None:
    """A report can be written on one machine and judged on another that has no torch."""
    path, page = tmp_path / "net.json", tmp_path / "net.html"
    assert 0 == convstat(site, root, "analyze", SPEC, "-o", str(path), "-o", str(page), "-qq").returncode
    assert 568_740_352 == json.loads(path.read_text("utf-8"))["totals"]["macs"]
    assert "568,740,352" in page.read_text("utf-8")
    assert "568,740,352" in convstat(site, root, "render", str(path)).stdout
    assert 1 == convstat(site, root, "check", str(path), "--max", "macs=568740351").returncode
    assert 0 == convstat(site, root, "check", str(path), "--max", "macs=568740352").returncode


def test_a_counter_that_is_not_there_is_a_row(site: Path, root: Path) -> None:
    """Asked for by name or by default, ptflops and torchsummary say that they are missing; the count stands."""
    report = json.loads(convstat(site, root, "analyze", SPEC, "-f", "json").stdout)
    assert {"ptflops": "unavailable", "torchsummary": "unavailable"} == {
        row["name"]: row["status"] for row in report["counters"]
    }


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["analyze", "torchvision/resnet50"], "torchvision/resnet50 is a Python model: counting it"),
        (["check", "timm/resnet50", "--max", "params=1M"], "timm/resnet50 is a Python model: counting it"),
        (["compare", "package.module:build", "width=1,2"], "package.module:build is a Python model: counting it"),
        (["diff", SPEC, "torchvision/vgg11"], "torchvision/vgg11 is a Python model: counting it"),
        (["analyze", SPEC, "--as", "ptflops"], "--as ptflops"),
        (["analyze", SPEC, "--mode", "train"], "this"),
        (["memory", SPEC, "--mode", "train"], "this"),
        (["analyze", SPEC, "--device", "cpu"], "this"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_torch_says_so(arguments: list[str], what: str, site: Path, root: Path) -> None:
    """Exit code 2, nothing on standard output, the command to install it, and no traceback."""
    answer = convstat(site, root, *arguments)
    assert (2, "") == (answer.returncode, answer.stdout), answer.stderr
    assert f"error: {what} needs torch, which is not installed\nhelp: pip install torch\n" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "internal error" not in answer.stderr


def test_a_mistake_is_a_mistake_without_torch_too(site: Path, root: Path) -> None:
    """Another missing module is not blamed on torch, and a wrong layer is what it is elsewhere."""
    answer = convstat(site, root, "analyze", "Cnov2d(3, 8, 3)", "-i", "3x8x8", "--counters", "none")
    assert 2 == answer.returncode
    assert "did you mean 'Conv2d'" in answer.stderr
    assert "torch" not in answer.stderr.replace("torch.nn", "")


def test_the_page_says_how_it_is_installed(root: Path) -> None:
    """README and ci.md name the three packages that the folder above was made of."""
    for page in ("README.md", "convstat/docs/ci.md"):
        assert f"pip install {' '.join(GATE)}" in (root / page).read_text("utf-8")
    assert "--no-deps" in (root / "README.md").read_text("utf-8")


@pytest.mark.verify
def test_the_gate_is_installed_and_run_in_seconds(wheel: Path, root: Path, tmp_path: Path) -> None:
    """The two lines of the documentation, in an environment of their own, and the command that they give."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    scripts = tmp_path / "venv" / "bin"
    pip = [str(scripts / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    began = time.monotonic()
    subprocess.run([*pip, *GATE], check=True, capture_output=True)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, capture_output=True)
    assert time.monotonic() - began < 120
    command = str(scripts / "convstat")
    for arguments, expected in COMMANDS:
        answer = subprocess.run([command, *arguments], cwd=root, capture_output=True, text=True, check=False)
        assert (0, True) == (answer.returncode, expected in answer.stdout), (arguments, answer.stderr)
    began = time.monotonic()
    answer = subprocess.run([command, "check", SPEC], cwd=root, capture_output=True, text=True, check=False)
    assert (0, True) == (answer.returncode, time.monotonic() - began < 10)
    assert [] == list((tmp_path / "venv").glob("lib/python*/site-packages/torch"))
