"""git is asked, and nothing of the repository's is run, whatever its configuration says; garbage is no answer."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import gitrepo
import pytest
from gitrepo import BIGGER, NET, Repo

from convstat.cli.run import run
from convstat.commands import check as check_command
from convstat.targets import revisions
from convstat.targets.revisions import Repository


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repository with one model on main, left by the branch feature; the command runs in it."""
    made = gitrepo.with_a_branch(tmp_path / "repo")
    monkeypatch.chdir(made.path)
    return made


HOOKS = (
    "fsmonitor-watchman", "post-checkout", "post-index-change", "pre-auto-gc", "query-watchman",
    "reference-transaction",
)  # fmt: skip
TRAPS = (
    "core.fsmonitor", "core.pager", "core.sshCommand", "core.gitProxy", "core.askPass", "core.editor",
    "core.alternateRefsCommand", "credential.helper", "diff.external", "diff.trap.command", "diff.trap.textconv",
    "filter.trap.clean", "filter.trap.smudge", "filter.trap.process", "merge.trap.driver", "gpg.program", "pager.diff",
    "pager.cat-file", "remote.origin.uploadpack", "uploadpack.packObjectsHook",
)  # fmt: skip
"""What of a repository's own configuration git may run."""


@pytest.fixture
def trap(repo: Repo) -> Path:
    """A file that is there once anything of the repository's was run: everything that can be is set to make it."""
    ran = repo.path.parent / "ran"
    script = repo.path.parent / "trap.sh"
    script.write_text(f"#!/bin/sh\necho $0 $@ >> {ran}\nexec cat\n")
    script.chmod(0o755)
    for hook in HOOKS:
        place = repo.path / ".git" / "hooks" / hook
        place.parent.mkdir(exist_ok=True)
        place.write_text(script.read_text())
        place.chmod(0o755)
    for key in TRAPS:
        repo.git("config", key, str(script))
    (repo.path / ".gitattributes").write_text("*.yaml filter=trap diff=trap merge=trap\n")
    return ran


COMMANDS = (
    ("check", "--base", "main", "--max-growth", "macs=900%", "net.yaml", "new.yaml"),
    ("check", "--base", "feature~0", "--max-growth", "macs=900%", "renamed.yaml"),
    ("diff",),
    ("diff", "main"),
    ("diff", "main...feature"),
    ("diff", "main", "feature"),
    ("diff", "main", "net.yaml"),
    ("diff", "main:net.yaml", "net.yaml"),
    ("analyze", "main:net.yaml", "--counters", "none"),
    ("hook", "net.yaml", "new.yaml", "--base", "main"),
)
"""Every way to git."""


def _work(repo: Repo) -> None:
    repo.write("net.yaml", BIGGER)
    repo.write("new.yaml", NET.replace("net", "new"))
    repo.write("renamed.yaml", NET.replace("width: 16", "width: 24"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_git_is_not_changed_and_runs_nothing_of_the_repository(
    repo: Repo, trap: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """No hook, filter, monitor, diff or pager of a repository that somebody else wrote; the index stays as it is."""
    index = (repo.path / ".git" / "index").read_bytes()
    _work(repo)
    assert 0 == run(command), capsys.readouterr().err
    assert not trap.exists(), trap.read_text()
    assert index == (repo.path / ".git" / "index").read_bytes()


def test_the_traps_can_spring(repo: Repo, trap: Path) -> None:
    """Asked as one asks git for a diff, it runs what the repository says."""
    _work(repo)
    subprocess.run(
        ["git", "-C", str(repo.path), "diff", "main"], env=gitrepo.ENVIRONMENT, capture_output=True, check=False
    )
    assert "trap.sh" in trap.read_text()


def test_a_partial_clone_fetches_nothing(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text that is not there is said to be missing, and not to be new; what the remote would run is not run."""
    repo.git("config", "uploadpack.allowFilter", "true")
    url = f"file://{repo.path}"
    clone = tmp_path / "clone"
    repo.git("clone", "--quiet", "--filter=blob:none", "--no-checkout", url, str(clone))
    ran = tmp_path / "ran"
    script = tmp_path / "trap.sh"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    Repo(clone).git("config", "remote.origin.uploadpack", str(script))
    monkeypatch.chdir(clone)
    Path("net.yaml").write_text(BIGGER)
    commands = (
        ("check", "--base", "origin/main", "--max-growth", "macs=1%", "net.yaml"),
        ("diff", "origin/main"),
        ("diff", "origin/main", "net.yaml"),
        ("analyze", "origin/main:net.yaml", "--counters", "none"),
    )
    for command in commands:
        assert 2 == run(command)
        assert "this clone does not have" in capsys.readouterr().err
    assert not ran.exists()
    answer = subprocess.run(
        ["git", "show", "origin/main:net.yaml"], env=gitrepo.ENVIRONMENT, check=False, capture_output=True
    )
    assert (answer.returncode != 0, ran.exists()) == (True, True)


ANSWERS = (
    b"", b"\n", b"x", b"\0", b"\xff\xfe", b"0" * 40, b"0" * 40 + b"\n", b"0" * 40 + b" blob 5\nab", b"x missing\n",
    b"0" * 40 + b" blob 99999999999999999999\n", b"100644 blob zz\tnet.yaml\0",
    b"100644 blob " + b"0" * 40 + b"\tnet.yaml\0",
    b"symlink 3\nabc\n", b"loop x\n", b"A\0", b"true\n",
)  # fmt: skip
"""What something that is not git may say."""


def test_garbage_for_git_is_2(repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is called git, and whatever it answers to whichever question: no crash."""
    attack(repo, monkeypatch, capsys, range(100))


@pytest.mark.verify
def test_much_garbage_for_git_is_2(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The long run."""
    attack(repo, monkeypatch, capsys, range(1_000, 4_000))


def attack(repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seeds: range) -> None:
    """Answer like git at first, then with garbage."""
    _work(repo)
    real = subprocess.run
    for seed in seeds:
        chance = random.Random(seed)
        left, status = chance.randrange(5), chance.choice((0, 0, 0, 1, 128))

        def answer(arguments: list[str], **how: Any) -> Any:
            nonlocal left
            left -= 1
            if left >= 0:
                return real(arguments, **how)
            out = b"".join(chance.choice(ANSWERS) for _ in range(chance.randrange(3)))  # noqa: B023
            return subprocess.CompletedProcess(arguments, status, out, chance.choice(ANSWERS))  # noqa: B023

        command = chance.choice(COMMANDS)
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "run", answer)
            code = run(command)
        error = capsys.readouterr().err
        assert code in (0, 1, 2), (seed, command, error)
        assert "internal" not in error, (seed, command, error)


def test_a_name_of_two_lines_is_a_name(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """git asks for names line by line, and a file may be called anything."""
    name = "two\nlines.yaml"
    repo.write(name, NET)
    repo.commit()
    repo.write(name, BIGGER)
    assert NET.encode() == revisions.read("HEAD", name)
    assert 0 == run(["diff", "HEAD"])
    assert "two\\nlines.yaml" in capsys.readouterr().out
    [result] = check_command.check([name], base="HEAD", max_growth=["params=0"]).results
    assert "fail" == result.status


@pytest.mark.parametrize("renamed", [True, False])
def test_renames_are_those_of_git(repo: Repo, renamed: bool) -> None:
    """The same pairs as with git's own comparison, between commits and with the working tree."""
    lines = NET.splitlines(keepends=True)
    repo.commit(a_yaml=NET, b_yaml=NET.replace("net", "b").replace("16", "99"), c_yaml="other: yaml\n" * 9)
    old = repo.git("rev-parse", "HEAD")
    repo.git("mv", "a.yaml", "x.yaml")
    repo.git("mv", "b.yaml", "deep.yaml")
    kept = len(lines) - 2 if renamed else 2
    repo.write("deep.yaml", "".join([*lines[:1], "# more\n" * (len(lines) - kept), *lines[1:kept]]))
    new = repo.commit("moved")
    said = repo.git("diff", "--name-status", "--find-renames", old, new, "--", "*.yaml").splitlines()
    expected = {(line[0], *line.split("\t")[1:]) for line in said}
    for moved in (Repository(str(repo.path)).moved(old, new), Repository(str(repo.path)).moved(old)):
        assert expected == {(m.status, m.old, m.new) if m.status == "R" else (m.status, m.new) for m in moved}
