"""Standard output carries the result alone, whatever else is run, and whatever it writes wherever it can."""

from __future__ import annotations

import csv
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convstat.patches import streams

NOISE = "NOISE"

NOISY = """
import atexit, builtins, ctypes, decimal, fractions, json, locale, logging, os, subprocess, sys, threading, time
import torch
from torch import nn

print("NOISE import")


def everywhere():
    print("NOISE print")
    sys.stdout.write("NOISE stdout")
    sys.__stdout__.write("NOISE real stdout")
    sys.__stdout__.flush()
    os.write(1, b"NOISE descriptor")
    os.system("echo NOISE program")
    subprocess.run(["echo", "NOISE", "process"])
    libc = ctypes.CDLL(None)
    libc.puts(b"NOISE compiled code")
    with open("/dev/stdout", "w") as stream:
        stream.write("NOISE device")
    with open(1, "w", closefd=False) as stream:
        stream.write("NOISE opened")


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        everywhere()
        atexit.register(everywhere)
        ctypes.CDLL(None).printf(b"NOISE that is flushed at exit")
        logging.basicConfig(stream=sys.__stdout__, level=logging.DEBUG, force=True)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        everywhere()
        logging.error("NOISE log")
        return self.conv(x)

    def extra_repr(self):
        everywhere()
        return ""


class Talks(nn.Module):
    def __init__(self, daemon=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        threading.Thread(target=self.talk, daemon=daemon).start()

    def talk(self):
        while True:
            print("NOISE thread")
            os.write(1, b"NOISE thread")
            time.sleep(0.001)

    def forward(self, x):
        time.sleep(0.1)
        return self.conv(x)
"""

OTHERS = """
import builtins, decimal, json, locale, sys
from torch import nn


def nonsense(*_, **__):
    return "NOISE"


class Replaces(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        json.dumps = json.dump = nonsense
        json.JSONEncoder.default = json.JSONEncoder.encode = json.JSONEncoder.iterencode = nonsense
        json.encoder.encode_basestring_ascii = json.encoder.c_make_encoder = nonsense
        builtins.print = builtins.repr = builtins.sorted = builtins.round = nonsense
        sys.stdout = sys.__stdout__ = sys.stderr = sys.__stderr__ = None
        decimal.getcontext().prec = 1
        sys.set_int_max_str_digits(640)
        sys.setrecursionlimit(300)
        locale.setlocale(locale.LC_ALL, "C")
        return self.conv(x)


class Closes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        sys.stdout.close()
        return self.conv(x)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models that write."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "noisy.py").write_text(NOISY)
    (folder / "models.py").write_text(OTHERS)
    return folder


def _run(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "convstat", "analyze", *arguments, "-i", "3x8x8", "--counters", "none"],
        capture_output=True, text=True, cwd=folder, timeout=120, check=False, stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip


MACS = 4 * 3 * 3 * 3 * 6 * 6


def test_what_a_model_writes_goes_to_standard_error(folder: Path) -> None:
    """As it is imported, made and run, by a thread and at exit; by Python, the system, C and other programs."""
    done = _run(folder, "noisy.py:Noisy", "-f", "json")
    assert 0 == done.returncode, done.stderr
    assert MACS == json.loads(done.stdout)["totals"]["macs"]
    assert NOISE not in done.stdout
    for how in ("import", "print", "stdout", "real stdout", "descriptor", "program", "process", "compiled code", "log"):
        assert f"{NOISE} {how}" in done.stderr, how
    for how in ("device", "opened", "that is flushed at exit"):
        assert f"{NOISE} {how}" in done.stderr, how


@pytest.mark.parametrize("daemon", ["true", "false"])
def test_a_thread_that_a_model_leaves_ends_with_the_command(daemon: str, folder: Path) -> None:
    """It is neither waited for, nor does it write into the result."""
    done = _run(folder, "noisy.py:Talks", f"daemon={daemon}", "-f", "json")
    assert 0 == done.returncode, done.stderr
    assert MACS == json.loads(done.stdout)["totals"]["macs"]
    assert f"{NOISE} thread" in done.stderr


@pytest.mark.parametrize("name", ["Replaces", "Closes"])
def test_what_a_model_replaces_changes_no_document(name: str, folder: Path) -> None:
    """Neither its own nor that of the one after it."""
    done = _run(folder, f"models.py:{name}", "models.py:Plain", "-f", "json")
    assert 0 == done.returncode, done.stderr
    own, after = json.loads(done.stdout)
    alone = json.loads(_run(folder, "models.py:Plain", "-f", "json").stdout)
    assert alone == after
    own["model"].update(name=alone["model"]["name"], source=alone["model"]["source"], notes=alone["model"]["notes"])
    own["layers"][0]["source"] = alone["layers"][0]["source"]
    assert alone == own


WAYS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "as it is called": lambda folder: ("csv=/dev/stdout",),
    "by its number": lambda folder: ("csv=/dev/fd/1",),
    "by its process": lambda folder: ("csv=/proc/self/fd/1",),
    "by a link": lambda folder: (f"csv={folder / 'link'}",),
}


@pytest.mark.parametrize("is_file", [False, True], ids=["pipe", "file"])
@pytest.mark.parametrize("way", WAYS)
def test_standard_output_can_be_named_as_a_file(way: str, is_file: bool, folder: Path, tmp_path: Path) -> None:
    """It is that of the command, and not where a model writes meanwhile."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    command = [
        sys.executable, "-m", "convstat", "analyze", "noisy.py:Noisy", "-i", "3x8x8", "--counters", "none", "-qq",
        "-o", *WAYS[way](tmp_path),
    ]  # fmt: skip
    with open(tmp_path / "out", "w+b") as out:
        done = subprocess.run(
            command, stdout=out if is_file else subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, timeout=120,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        out.seek(0)
        written = out.read() if is_file else done.stdout
    assert 0 == done.returncode, done.stderr
    assert NOISE.encode() not in written
    rows = list(csv.DictReader(written.decode().splitlines()))
    assert str(MACS) in {row["macs"] for row in rows}


@pytest.mark.parametrize(
    ("redirections", "code"),
    [(">/dev/full", 2), (">&-", 2), ("| true", 0), ("2>&-", 0), ("2>/dev/full", 0), ("2>&1 >/dev/null", 0)],
)
def test_streams_that_cannot_be_written_end_as_for_any_result(redirections: str, code: int, folder: Path) -> None:
    """A full disk, a closed stream, a reader that is gone; and standard error, which is not the result."""
    command = "-m convstat analyze models.py:Plain -i 3x8x8 --counters none"
    shell = f"'{sys.executable}' {command} {redirections}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=folder, timeout=120, check=False)
    assert code == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert done.stderr.startswith("error: cannot write to standard output: ")


def test_a_pipe_that_waits_for_nobody_is_written_to_its_end(root: Path) -> None:
    """Whoever shares it may have made it so; a pipe holds 64 KiB, and its reader takes its time."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    command = [sys.executable, "-m", "convstat", "analyze", "configs/resnet50.yaml", "--counters", "none", "-f", "json"]
    with subprocess.Popen(command, cwd=root, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        select.select([reader], [], [], 60)
        time.sleep(0.3)
        with open(reader, "rb") as stream:
            written = stream.read()
        assert process.stderr is not None
        assert (b"", 0) == (process.stderr.read(), process.wait())
    assert len(written) > 2**16
    assert "resnet50" == json.loads(written)["model"]["name"]


def test_the_streams_of_a_caller_are_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    """Only the command line owns its process; in another one, descriptor 1 stays what it is."""
    import convstat

    before = os.fstat(1).st_ino, sys.stdout, sys.__stdout__
    convstat.analyze("Conv2d(3, 4, kernel_size=3)", (3, 8, 8), counters="flopcountermode")
    streams.keep_standard_output()
    assert before == (os.fstat(1).st_ino, sys.stdout, sys.__stdout__)
    assert streams.result_stream() is sys.stdout
    assert "/dev/stdout" == streams.result_path("/dev/stdout")
