"""Real git repositories for tests, made and changed by the real git."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

NET = """\
convstat: 1
name: net
input: [3, 8, 8]
vars: {width: 16, kernel: 3}
layers:
  - Conv2d: {out_channels: width, kernel_size: kernel, padding: kernel // 2, bias: false}
    name: stem
  - ReLU
  - Conv2d: {out_channels: 10, kernel_size: 1, bias: false}
    name: head
models:
  wide: {width: 32}
"""
"""3 x 16 x 9 + 16 x 10 = 592 params; each is used on 8 x 8 pixels."""

PARAMS = 3 * 16 * 9 + 16 * 10
WIDE = 3 * 32 * 9 + 32 * 10
GROWN = 3 * 16 * 25 + 16 * 10
"""With a kernel of 5."""

BIGGER = NET.replace("kernel: 3", "kernel: 5")

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_AUTHOR_NAME": "tester",
    "GIT_AUTHOR_EMAIL": "tester@example.invalid",
    "GIT_COMMITTER_NAME": "tester",
    "GIT_COMMITTER_EMAIL": "tester@example.invalid",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository in a folder."""

    path: Path

    def git(self, *arguments: str) -> str:
        """Run git; give what it says."""
        answer = subprocess.run(
            ["git", "-C", str(self.path), *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=True
        )
        return answer.stdout.strip()

    def write(self, name: str, text: str) -> None:
        """Write a file of the working tree."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def commit(self, message: str = "change", **files: str) -> str:
        """Write files (``net_yaml`` is net.yaml), commit everything, and give the commit."""
        for name, text in files.items():
            self.write(name.replace("__", "/").replace("_yaml", ".yaml").replace("_toml", ".toml"), text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")


def make(path: Path) -> Repo:
    """Make an empty repository with the branch main."""
    path.mkdir(parents=True, exist_ok=True)
    repo = Repo(path)
    repo.git("init", "--quiet", "--initial-branch=main")
    return repo


def with_a_branch(path: Path) -> Repo:
    """Make a repository with one model on main, left by the branch feature."""
    made = make(path)
    made.commit(net_yaml=NET)
    made.git("checkout", "--quiet", "-b", "feature")
    return made
