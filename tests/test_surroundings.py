"""What the process stands on may fail: descriptors, disks, pipes, folders. Each is one sentence, at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from convstat.text.reading import read_file

CONVSTAT = [sys.executable, "-m", "convstat"]
NET = "convstat: 1\ninput: [4, 8, 8]\nlayers: [{Conv2d: {out_channels: 8, kernel_size: 3}}]\n"

EXHAUSTED = """
import os, resource, sys
from convstat.cli import main
free = int(sys.argv[1])
sys.argv[:2] = ["convstat"]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for _ in range(free):
    os.close(held.pop())
main()
"""
"""A process that has so many descriptors left."""

GREEDY = """
import os, resource
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
    def forward(self, x):
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        try:
            while True:
                os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return self.fc(x)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a spec in a git repository."""
    (tmp_path / "net.yaml").write_text(NET)
    author = ["-c", "user.name=tester", "-c", "user.email=tester@example.invalid"]
    for words in (["init", "-q"], ["add", "net.yaml"], [*author, "commit", "-q", "-m", "net"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, shell: str | None = None, **environment: str) -> tuple[int, str]:
    """Run the command, or a line of bash with the command in $C; give the exit code and what it complained of."""
    command = ["bash", "-c", shell] if shell is not None else [*CONVSTAT, *arguments]
    variables = {**os.environ, "C": f"{sys.executable} -m convstat", **environment}
    answer = subprocess.run(command, capture_output=True, text=True, env=variables, check=False, timeout=60)
    return answer.returncode, answer.stderr


def says(answer: tuple[int, str], message: str, code: int = 2) -> None:
    """One sentence, and no internal error."""
    assert code == answer[0], answer
    assert message in answer[1]
    assert "internal error" not in answer[1]
    assert "Traceback" not in answer[1]


@pytest.mark.parametrize("free", [0, 1, 2, 4, 6])
@pytest.mark.parametrize(
    "command",
    ["--help", "analyze net.yaml --counters none", "diff HEAD", "check net.yaml --base HEAD --max-growth macs=1%"],
)
def test_without_descriptors(folder: Path, free: int, command: str) -> None:
    """It works, or says that it cannot: git needs some for its pipes, a spec one."""
    answer = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, str(free), *command.split()],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    is_enough = free and not command.startswith(("diff", "check"))
    if is_enough or answer.returncode != 0:
        says((answer.returncode, answer.stderr), "" if is_enough else "oo many open files", 0 if is_enough else 2)
    assert free or answer.returncode == 2


def test_a_model_that_takes_every_descriptor(folder: Path) -> None:
    """What is left to do needs one."""
    (folder / "greedy.py").write_text(GREEDY)
    says(
        run("analyze", "greedy.py:Net", "-i", "4", "--counters", "none"), "error: cannot continue: too many open files"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("command", ["--help", "analyze --help", "--version", "docs spec", "list layers -f json"])
def test_a_full_disk(command: str) -> None:
    """Help and pages are output too."""
    says(run(shell=f"$C {command} >/dev/full"), "o space left on device")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_for_messages_and_completion(folder: Path) -> None:
    """Nobody can be told, and the exit code says it."""
    assert 2 == run(shell="$C analyze nope.yaml 2>/dev/full")[0]
    request = {"_CONVSTAT_COMPLETE": "complete_bash", "COMP_WORDS": "convstat ", "COMP_CWORD": "1"}
    says(run(shell="$C >/dev/full", **request), "no space left on device")


@pytest.mark.parametrize(
    "command",
    [
        "analyze net.yaml --counters none -o new/report.json",
        "analyze net.yaml --counters none -o report.html",
        "check net.yaml --max macs=1G -o check.xml",
        "baseline save net.yaml",
        "init other.yaml",
        "init new/net.yaml",
    ],
)
def test_a_disk_that_is_full_before_a_file_is_whole(folder: Path, command: str) -> None:
    """Nothing of it is left, under no name; what was there is as it was."""
    (folder / "new").mkdir()
    (folder / "report.json").write_text("mine")
    # A file may have no bytes at all: the system says that it would be too large, where a disk says that it is full.
    code, said = run(shell=f"ulimit -f 0; $C {command}")
    assert (2, 1) == (code, said.count("\n")), said
    assert "error: cannot write" in said
    files = {path.name for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert {"net.yaml", "report.json"} == files
    assert "mine" == (folder / "report.json").read_text()


@pytest.mark.parametrize("command", ["--help", "analyze --help", "docs spec", "analyze net.yaml --counters none"])
def test_a_pipe_whose_reader_is_gone(folder: Path, command: str) -> None:
    """No complaint, and no internal error."""
    code, error = run(shell=f"$C {command} | true; exit ${{PIPESTATUS[0]}}")
    assert (code in (0, 1), error) == (True, "")


@pytest.mark.parametrize("command", ["analyze", "check", "expand", "compare groups=1"])
def test_a_closed_standard_input(folder: Path, command: str) -> None:
    """``-`` cannot be read then; nothing else minds."""
    says(run(shell=f"$C {command} - <&-"), "error: cannot read standard input: it is closed")
    assert 0 == run(shell="$C analyze net.yaml --counters none <&-")[0]


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_files_do_not_take_the_place_of_a_closed_stream(folder: Path, closed: str) -> None:
    """The lowest free number is given to the file that is opened next, and what is said would end up in it."""
    assert 0 == run(shell=f"$C analyze net.yaml --counters none -q -o json=r.json >out {closed}")[0]
    assert 0 == run("render", "r.json")[0]


@pytest.mark.parametrize("command", ["analyze net.yaml", "check", "diff HEAD", "compare groups=1", "baseline show"])
def test_a_working_directory_that_was_removed(folder: Path, command: str) -> None:
    """There is nothing to be found from it."""
    shell = f"mkdir gone && cd gone && rmdir ../gone && $C {command}"
    says(run(shell=shell), "error: the working directory no longer exists")


@pytest.mark.parametrize(
    "variables",
    [
        {"_CONVSTAT_COMPLETE": "complete_bash"},
        {"_CONVSTAT_COMPLETE": "complete_bash", "COMP_WORDS": "convstat", "COMP_CWORD": "x"},
        {"_CONVSTAT_COMPLETE": "complete_bash", "COMP_WORDS": "", "COMP_CWORD": ""},
        {"_CONVSTAT_COMPLETE": "complete_bash", "COMP_WORDS": "convstat 'a", "COMP_CWORD": "1"},
        {"_CONVSTAT_COMPLETE": "complete_bash", "COMP_WORDS": "convstat", "COMP_CWORD": "-99"},
        {"_CONVSTAT_COMPLETE": "complete_none", "COMP_WORDS": "convstat", "COMP_CWORD": "1"},
        {"_CONVSTAT_COMPLETE": "source_none"},
        {"_CONVSTAT_COMPLETE": "garbage"},
    ],
)
def test_a_broken_request_for_completion(folder: Path, variables: dict[str, str]) -> None:
    """A shell that asks wrongly gets a sentence."""
    code, error = run(**variables)
    assert code in (0, 1, 2)
    assert "internal" not in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "command",
    [
        "analyze pipe.yaml",
        "render pipe.json",
        "analyze pipe.py:Net",
        "hook pipe.yaml",
        "check net.yaml --base pipe.json --max-growth macs=1",
    ],
)
def test_a_pipe_without_a_writer(folder: Path, command: str) -> None:
    """Opening it would wait for ever."""
    for suffix in ("yaml", "json", "py"):
        os.mkfifo(folder / f"pipe.{suffix}")
    start = time.monotonic()
    answer = run(*command.split())
    says(answer, "is not a file that contains a module" if "py:" in command else "it is a pipe without a writer")
    assert time.monotonic() - start < 20


def test_a_pipe_without_a_reader(folder: Path) -> None:
    """It is told before the work starts; with a reader, the whole result goes through."""
    os.mkfifo(folder / "out")
    command = ("analyze", "net.yaml", "--counters", "none", "-q", "-o", "json=out")
    says(run(*command), "error: cannot write 'out': it is a pipe without a reader")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((folder / "out").read_bytes()))
    reader.start()
    time.sleep(0.2)
    assert 0 == run(*command)[0]
    reader.join(30)
    assert read[0].endswith(b"}\n")


def test_a_pipe_with_a_writer_is_read_whole(folder: Path) -> None:
    """One that comes a moment later, writes slowly, or has ended already."""
    path = folder / "pipe"
    os.mkfifo(path)

    def write(pieces: list[bytes]) -> None:
        time.sleep(0.2)
        with path.open("wb", buffering=0) as stream:
            for piece in pieces:
                stream.write(piece)
                time.sleep(0.7)

    for pieces in ([b"a", b"bc"], [b""], [b"x" * 200_000]):
        writer = threading.Thread(target=write, args=(pieces,))
        writer.start()
        assert b"".join(pieces) == read_file(path, 1_000_000)
        writer.join()
    shell = "$C analyze net.yaml --counters none -q -o json=>(cat >copy.json) >out; sleep 0.5; $C render copy.json"
    assert (0, "") == run(shell=shell)
    assert 0 == run(shell="$C analyze net.yaml --counters none -q -o csv=/dev/stdout | grep -q ^total,")[0]


def test_reading_has_a_limit(folder: Path) -> None:
    """Of what never ends, one byte more than the limit is read."""
    assert b"\0" * 11 == read_file("/dev/zero", 10)
    with pytest.raises(IsADirectoryError):
        read_file(folder, 10)
