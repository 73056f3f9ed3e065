"""Run the core of the suite beside other versions of torch and Python, each in an environment of its own.

``make compat`` runs this: the oldest torch that pyproject.toml allows, the one of constraints.txt and the newest
that can be had, with each Python; and thop, which cannot lie beside the ultralytics-thop of the development
environment, with the tests that are skipped there. Exit code 1 if a test failed.

The environments lie in ``.compat``. uv makes them, because it links the files that they share: the builds of torch
that Linux gets from PyPI bring some 5 GB of CUDA each, which no test uses and without which they do not load.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".compat"
TOOLS = HOME / "tools"

PYTHONS = ("3.11", "3.12", "3.13")

CORE = (
    "test_api.py",
    "test_build.py",
    "test_counters_hygiene.py",
    "test_counters_predict.py",
    "test_counters_small_models.py",
    "test_counters_torchprofile.py",
    "test_kernels.py",
    "test_layers_torch.py",
    "test_lifetimes.py",
    "test_lifetimes_specs.py",
    "test_memory.py",
    "test_memtracker.py",
    "test_reconcile.py",
    "test_spec_grammar.py",
    "test_trace.py",
)
"""What the versions of torch and Python can break, and what needs no counter besides those that convstat depends on."""

TESTS = ("pytest", "pytest-xdist", "hypothesis", "jsonschema")
"""What the core is run with."""

THOP = (
    "test_counters_small_models.py",
    "test_counters_peers.py",
    "test_counters_modules.py",
    "test_counters_predict.py",
)


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed, and which tests run in it."""

    torch: str
    """A version, or empty for the newest."""
    python: str
    packages: tuple[str, ...] = ()
    tests: tuple[str, ...] = CORE
    keyword: str = ""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        more = "".join(f"-{package}" for package in self.packages[:1])
        return HOME / f"torch{self.torch or '-newest'}-python{self.python}{more}"


@dataclass(frozen=True, slots=True)
class Row:
    """What came out of an environment: numbers of tests, or why there are none."""

    torch: str
    python: str
    what: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    why: str = ""

    def __str__(self) -> str:
        counts = self.why or f"{self.passed:>7} {self.failed:>7} {self.skipped:>8}"
        return f"{self.torch:<14} {self.python:<7} {self.what:<6} {counts}"


def oldest() -> str:
    """The oldest torch that is allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (version,) = (found[1] for need in project["dependencies"] if (found := re.fullmatch(r"torch>=([\d.]+)", need)))
    return f"{version}.0" if version.count(".") == 1 else version


def pinned(package: str) -> str:
    """The version of a package that the figures were made with."""
    (version,) = re.findall(
        rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    return version


def interpreter(version: str) -> str | None:
    """A Python of that version: on the path, or installed by pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}*/bin/python{version}")))]
    for candidate in filter(None, candidates):
        # A shim of pyenv is there for each version that it could choose, and fails for those that it does not.
        done = subprocess.run(
            [candidate, "-c", "import ssl, sys; print(sys.executable)"], capture_output=True, text=True
        )
        if done.returncode == 0:
            return done.stdout.strip()
    return None


def uv(*arguments: str) -> None:
    """Run uv, which is put into an environment of its own first; its progress goes to standard error."""
    if not (TOOLS / "bin" / "uv").exists():
        subprocess.run([sys.executable, "-m", "venv", TOOLS], check=True)
        subprocess.run([TOOLS / "bin" / "python", "-m", "pip", "install", "uv"], check=True, stdout=sys.stderr)
    environment = {"UV_CACHE_DIR": str(HOME / "cache"), "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run([TOOLS / "bin" / "uv", *arguments], check=True, cwd=ROOT, env={**os.environ, **environment})


def install(environment: Environment, python: str) -> str:
    """Make an environment; the version of torch that is then in it."""
    shutil.rmtree(environment.folder, ignore_errors=True)
    uv("venv", "--quiet", "--python", python, str(environment.folder))
    torch = f"torch=={environment.torch}" if environment.torch else "torch"
    inside = ("pip", "install", "--python", str(environment.folder / "bin" / "python"))
    uv(*inside, torch, *TESTS, "--editable", ".")
    if environment.packages:
        uv(*inside, "--no-deps", *environment.packages)
    script = "from importlib.metadata import version; print(version('torch'))"
    done = subprocess.run(
        [environment.folder / "bin" / "python", "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def run(environment: Environment, jobs: int) -> Row:
    """Run the tests in an environment that is made for them."""
    asked, what = environment.torch or "newest", "thop" if environment.keyword else "core"
    python = interpreter(environment.python)
    if python is None:
        return Row(asked, environment.python, what, why="this Python is not installed")
    try:
        found = install(environment, python)
    except subprocess.CalledProcessError:
        return Row(asked, environment.python, what, why="this torch is not to be had for this Python")
    report = environment.folder / "report.xml"
    options = ["-m", "not verify", "-n", str(jobs), "--junit-xml", str(report), "-k", environment.keyword]
    command = [environment.folder / "bin" / "python", "-m", "pytest", *options]
    with (environment.folder / "log.txt").open("w", encoding="utf-8") as log:
        subprocess.run([*command, *(f"tests/{name}" for name in environment.tests)], cwd=ROOT, stdout=log, stderr=log)
    if not report.exists():
        return Row(found, environment.python, what, why=f"the tests did not run: see {log.name}")
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    total, skipped, *failed = (int(suite.attrib[key]) for key in ("tests", "skipped", "failures", "errors"))
    for case in suite.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            print(f"  failed: {case.attrib['classname']}::{case.attrib['name']}", flush=True)
    return Row(found, environment.python, what, total - skipped - sum(failed), sum(failed), skipped)


def environments(torches: list[str], pythons: list[str]) -> list[Environment]:
    """All that are to be run."""
    chosen = [Environment(torch, python) for torch in torches for python in pythons]
    # It needs distutils, which Python 3.12 no longer has.
    if PYTHONS[0] in pythons:
        packages = ("thop", f"torchvision=={pinned('torchvision')}", "pillow")
        keyword = "every_counter_says or the_peers or (thop and not ultralytics and not uthop)"
        chosen.append(Environment(pinned("torch"), PYTHONS[0], packages, THOP, keyword))
    return chosen


def main() -> int:
    """Run all environments and print the table."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", help="versions of torch instead of the oldest, the pinned and the newest")
    parser.add_argument("--python", help="versions of Python instead of all")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    torches = arguments.torch.split() if arguments.torch else [oldest(), pinned("torch"), ""]
    pythons = arguments.python.split() if arguments.python else list(PYTHONS)
    rows = []
    for environment in environments(torches, pythons):
        print(f"torch {environment.torch or 'newest'}, Python {environment.python}", flush=True)
        rows.append(run(environment, arguments.jobs))
        print(f"  {rows[-1]}", flush=True)
    print(f"\n{'torch':<14} {'Python':<7} {'tests':<6} {'passed':>7} {'failed':>7} {'skipped':>8}")
    print(*rows, sep="\n")
    return int(any(row.failed or row.why.startswith("the tests did not run") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
