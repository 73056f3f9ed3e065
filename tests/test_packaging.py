"""What is built of this repository holds what it needs, outside a clone too."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

EXAMPLES = sorted(path.name for path in (Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source distribution and the wheel that is built from it."""
    pytest.importorskip("setuptools")
    source, dist = tmp_path_factory.mktemp("source") / "convstat", tmp_path_factory.mktemp("dist")
    ignore = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "dist")
    shutil.copytree(root, source, symlinks=True, ignore=ignore)
    _python("import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])", str(dist), cwd=source)
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(dist, filter="data")
    (unpacked,) = (path for path in dist.iterdir() if path.is_dir())
    _python("import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])", str(dist), cwd=unpacked)
    return dist


def _python(code: str, *arguments: str, cwd: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr


def test_the_examples_are_in_what_is_built(built: Path) -> None:
    """In the source distribution, and in the wheel that is built of it and not of a clone."""
    (archive,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(archive) as packed:
        files = [member.name for member in packed.getmembers() if member.isfile()]
    prefix = f"{archive.name.removesuffix('.tar.gz')}/convstat/configs/"
    assert EXAMPLES == sorted(name.removeprefix(prefix) for name in files if name.startswith(prefix))
    with ZipFile(wheel) as zipped:
        names = zipped.namelist()
    assert EXAMPLES == sorted(name.rpartition("/")[2] for name in names if name.startswith("convstat/configs/"))
    assert {"convstat", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"} == {name.partition("/")[0] for name in names}


def test_an_installed_wheel_lists_and_writes_the_examples(built: Path, tmp_path: Path) -> None:
    """In a folder where there is nothing, and nothing of the clone is found."""
    (wheel,) = built.glob("*.whl")
    with ZipFile(wheel) as zipped:
        zipped.extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def convstat(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "convstat", *arguments],
            cwd=tmp_path / "empty", env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert 0 == done.returncode, done.stderr
        return done.stdout

    assert str(tmp_path) in subprocess.run(
        [sys.executable, "-P", "-c", "import convstat; print(convstat.__file__)"],
        cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert EXAMPLES == [f"{entry['name']}.yaml" for entry in json.loads(convstat("list", "configs", "-f", "json"))]
    convstat("init", "--from", "resnet50")
    (report,) = [json.loads(convstat("analyze", "resnet50.yaml", "--counters", "none", "-f", "json"))]
    assert 25_557_032 == report["totals"]["params"]


def test_no_hint_takes_convstat_for_a_package_in_an_index(root: Path) -> None:
    """It is installed from a path or from git; what it needs besides is named as itself, and not as an extra of it."""
    pages = [root / "README.md", *(root / ".github").rglob("*.*"), *(root / ".ci").iterdir()]
    pages += [path for ending in ("py", "md", "yaml") for path in (root / "convstat").rglob(f"*.{ending}")]
    hints = [
        (page.relative_to(root), hint)
        for page in pages
        for hint in re.findall(r"pip install[^`\n&|;]*", page.read_text(encoding="utf-8"))
    ]
    assert len(hints) > 20
    assert [] == [(page, hint) for page, hint in hints if re.search(r"(?<![\w/.-])convstat(?![\w/-])", hint)]
