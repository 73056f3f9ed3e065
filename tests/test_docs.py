"""The documentation is executed: every console block is run and compared, every YAML block counted.

In a ``console`` block, a line that starts with ``$ `` is a command, and what follows is what it prints.
A line ``...`` stands for any number of lines.
``CONVSTAT_GOLDEN=1`` (``make golden``) writes what the commands print into the blocks that have no such line.
A YAML or Python block that starts with a comment ``# name.yaml`` is a file that later commands can use;
one without the head of a spec is taken as a part of one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "convstat" / "docs").glob("*.md"))]
GOLDEN = bool(os.environ.get("CONVSTAT_GOLDEN"))
WIDTH = "100"

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEAD = "convstat: 1\nname: part\ninput: [16, 32, 32]\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, and where the text stands in the page."""

    language: str
    text: str
    start: int
    end: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(match[1], match[2], match.start(2), match.end(2)) for match in BLOCK.finditer(page)]


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    assert "" == parts[0], "a console block starts with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def is_as_printed(expected: str, actual: str) -> bool:
    """Whether a text is the one in the page, where a line ``...`` stands for any number of lines."""
    pieces = re.split(r"^\.\.\.\n", expected, flags=re.MULTILINE)
    return bool(re.fullmatch("(?:.*\n)*?".join(map(re.escape, pieces)), actual))


def run(command: str, folder: Path, last: int) -> tuple[str, int]:
    """Run a command as a shell would, in the folder of the page; give what it prints, and its exit code.

    A copy of the package in that folder is used in the place of ours.
    """
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "COLUMNS": WIDTH}
    if (folder / "convstat").is_dir():
        environment["PYTHONPATH"] = str(folder)
    answer = subprocess.run(
        ["bash", "-c", f"(exit {last}); {command}"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = [line.rstrip() for line in answer.stdout.splitlines()]
    return "".join(f"{line}\n" for line in lines), answer.returncode


def apply(patch: str, folder: Path) -> None:
    """Apply a patch to the copy of the package in a folder, which is made where there is none."""
    if not (folder / "convstat").is_dir():
        shutil.copytree(ROOT / "convstat", folder / "convstat", ignore=shutil.ignore_patterns("__pycache__"))
    command = ["git", "apply", "--whitespace=nowarn", "--unidiff-zero", "-"]
    answer = subprocess.run(command, input=patch, cwd=folder, capture_output=True, text=True, check=False)
    assert 0 == answer.returncode, answer.stderr
    assert len(re.findall(r"^\+\+\+ ", patch, re.MULTILINE)) <= 2, "a recipe touches at most two files"


def count_yaml(text: str) -> None:
    """Count a spec or a part of one, or read it where it is no spec at all."""
    from convstat import spec

    if "jobs:" in text or text.startswith("# ."):
        # Tests of its own hold it against the schemas of GitHub and GitLab.
        assert isinstance(yaml.safe_load(text), dict)
        return
    if not re.search(r"^convstat:", text, re.MULTILINE):
        text = HEAD + (text if re.search(r"^layers:", text, re.MULTILINE) else f"layers:\n{text}")
    document = spec.read(text, "block")
    assert document.expand().nodes
    for variant in document.variants:
        assert document.expand(variant=variant).nodes


@pytest.mark.parametrize("path", DOCS, ids=[path.name for path in DOCS])
def test_golden_documentation_is_what_really_happens(path: Path, tmp_path: Path) -> None:
    """Each command of a page prints what the page says, and each YAML block can be counted."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    page = path.read_text(encoding="utf-8")
    written = page
    last = 0
    wrong = []
    for block in blocks(page):
        if title := re.match(r"# (\S+\.(?:yaml|py))\n", block.text):
            (tmp_path / title[1]).write_text(block.text, encoding="utf-8")
        if block.language == "yaml":
            count_yaml(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "diff":
            apply(block.text, tmp_path)
        elif block.language == "console":
            result = ""
            for command, expected in commands(block.text):
                actual, last = run(command, tmp_path, last)
                if is_as_printed(expected, actual):
                    actual = expected
                elif "...\n" in expected or not GOLDEN:
                    wrong.append(f"$ {command}\n{actual}")
                result += f"$ {command}\n{actual}"
            written = written.replace(f"```console\n{block.text}```", f"```console\n{result}```", 1)
    if GOLDEN and written != page:
        path.write_text(written, encoding="utf-8")
    assert [] == wrong, "run `make golden` and review, or change the page:\n" + "\n".join(wrong)


def test_the_comparison_of_a_page_can_fail() -> None:
    """Another figure, a missing line and a line too many are seen, also around an elision."""
    assert is_as_printed("a\nb\n", "a\nb\n")
    assert is_as_printed("a\n...\nd\n", "a\nb\nc\nd\n")
    assert is_as_printed("a\n...\nd\n", "a\nd\n")
    assert not is_as_printed("a\nb\n", "a\nc\n")
    assert not is_as_printed("a\n", "a\nb\n")
    assert not is_as_printed("a\n...\nd\n", "a\nb\nc\n")
    assert not is_as_printed("a.b\n", "axb\n")


def test_every_fence_is_closed_and_of_a_known_language() -> None:
    """No block escapes execution by a misspelt language or a fence left open."""
    for path in DOCS:
        page = path.read_text(encoding="utf-8")
        assert page.count("```") == 2 * len(blocks(page)), path.name
        assert {"console", "diff", "yaml", "toml", "json", "sh", "python", ""} >= {
            block.language for block in blocks(page)
        }


def test_what_is_not_macs_is_documented_entry_by_entry() -> None:
    """The table of `other` in how-it-counts.md is the table that the layers use."""
    from convstat.formulas.cost import OTHER_ENTRIES

    page = (ROOT / "convstat" / "docs" / "how-it-counts.md").read_text(encoding="utf-8")
    section = page.partition("## What is not MACs")[2].partition("\n## ")[0]
    assert list(OTHER_ENTRIES) == re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_the_bases_of_macs_per_pixel_are_documented() -> None:
    """Every basis that --per takes is in the table, and no other."""
    from convstat.grammar.basis import BASES

    page = (ROOT / "convstat" / "docs" / "how-it-counts.md").read_text(encoding="utf-8")
    section = page.partition("## Pixels")[2].partition("\n## ")[0]
    assert list(BASES) == re.findall(r"^\| `([\w:+]+)` \|", section, re.MULTILINE)


def test_the_metrics_of_budgets_are_documented() -> None:
    """Every metric that a budget can limit is named in budgets.md."""
    from convstat.budgets.limits import METRICS

    page = (ROOT / "convstat" / "docs" / "budgets.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\| metric \| (.*) \|$", page, re.MULTILINE)
    assert list(METRICS) == re.findall(r"`(\w+)`", line)
