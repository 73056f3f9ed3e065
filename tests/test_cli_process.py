"""The command as a process: signals, pipes, terminals and completion."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from convstat.cli.progress import Progress

CONVSTAT = [sys.executable, "-m", "convstat"]
LAYER = ["analyze", "Conv2d(4, 8, 3)", "-i", "4x8x8"]

SLOW = """
import sys, time
from convstat.targets import analysis
def analyze(*_, listener, **__):
    listener.progress("counting very slowly")
    print("ready", file=sys.stderr, flush=True)
    time.sleep({seconds})
    {end}
analysis.analyze = analyze
sys.argv = ["convstat", "analyze", "net.yaml"]
from convstat.cli import main
main()
"""
"""A run whose work takes long."""


def run(
    *arguments: str, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command and wait."""
    return subprocess.run(
        [*CONVSTAT, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        check=False,
        timeout=120,
    )


TAKEN_AWAY = "\x1b[?25h\r\x1b[1A\x1b[2K"
"""What shows the cursor again and clears the line of progress."""


def on_a_terminal(command: list[str], environment: Mapping[str, str], interrupt: bool = False) -> tuple[int, str]:
    """Run a command with a terminal as its three streams; give its exit code and all that the terminal got."""
    main, other = pty.openpty()
    process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env={**os.environ, **environment})
    os.close(other)
    seen = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ready, _, _ = select.select([main], [], [], 0.1)
        if ready:
            try:
                piece = os.read(main, 65536)
            except OSError:
                break
            if not piece:
                break
            seen += piece
            if interrupt and b"slowly ..." in seen:
                process.send_signal(signal.SIGINT)
                interrupt = False
        elif process.poll() is not None:
            break
    os.close(main)
    return process.wait(timeout=60), seen.decode()


def test_an_interrupt_ends_the_process_with_130() -> None:
    """SIGINT during the work: one word, no traceback, no result."""
    command = [sys.executable, "-c", SLOW.format(seconds=60, end="pass")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "ready\n" == process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (130, "", "interrupted\n") == (process.returncode, out, error)


def test_an_interrupt_leaves_the_terminal_as_it_was() -> None:
    """The progress line is taken away before the last word."""
    command = [sys.executable, "-c", SLOW.format(seconds=60, end="pass")]
    code, seen = on_a_terminal(command, {"TERM": "xterm", "NO_COLOR": "1"}, interrupt=True)
    assert 130 == code
    assert "counting very slowly ..." in seen
    assert seen.endswith(f"{TAKEN_AWAY}interrupted\r\n")


@pytest.mark.parametrize(
    ("seconds", "term", "shown"), [(1.5, "xterm", True), (0, "xterm", False), (1.5, "dumb", False)]
)
def test_progress_comes_late_and_goes(seconds: float, term: str, shown: bool) -> None:
    """It is shown after half a second, on a terminal that can take it away again, and then it is gone."""
    command = [sys.executable, "-c", SLOW.format(seconds=seconds, end="import typer; raise typer.Exit(0)")]
    code, seen = on_a_terminal(command, {"TERM": term, "NO_COLOR": "1"})
    line = "counting very slowly ..."
    assert 0 == code
    assert shown == (line in seen)
    assert not shown or re.search(rf"(\S) {re.escape(line)} 0:00:0\d\r\x1b\[2K(?!\1)\S {re.escape(line)}", seen)
    assert not shown or seen.endswith(TAKEN_AWAY)
    # The cursor moves, and nothing has a colour.
    assert not re.search(r"\x1b\[[\d;]*m", seen)
    assert shown or "\x1b" not in seen


def test_progress_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that wraps could not be taken away."""
    main, other = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(other, "w") as stream, Progress(stream=stream, delay=0) as progress:
        progress("running " + ", ".join(["counters"] * 20))
        time.sleep(1)
        seen = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", os.read(main, 65536).decode())
    os.close(main)
    lines = re.split(r"[\r\n]+", seen.strip())
    assert lines
    # Short of room, words go, and neither the spinner nor the time.
    assert all(re.fullmatch(r"\S running.* \.\.\. 0:00:0\d", line) and len(line) <= 30 for line in lines), lines


def test_a_pipe_gets_no_progress() -> None:
    """Standard error that is not a terminal has notes and errors only."""
    command = [sys.executable, "-c", SLOW.format(seconds=1, end="import typer; raise typer.Exit(0)")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "ready\n" == answer.stderr


def test_a_reader_that_goes_away_changes_nothing() -> None:
    """`| head -1` gets its line; no complaint, and the exit code is that of the result."""
    pipe = f"{sys.executable} -m convstat list layers -f json | head -1; echo ${{PIPESTATUS[0]}}"
    answer = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False, timeout=60)
    assert ("[\n0\n", "") == (answer.stdout, answer.stderr)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_is_2_with_a_reason() -> None:
    """Standard output and a file alike."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        answer = subprocess.run(
            [*CONVSTAT, "list", "formats"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert 2 == answer.returncode
    assert "error: cannot write to standard output: No space left on device\n" == answer.stderr
    answer = run(*LAYER, "--counters", "none", "-o", "json=/dev/full")
    assert 2 == answer.returncode
    assert "cannot write '/dev/full': No space left on device" in answer.stderr


def test_a_closed_standard_output_is_2() -> None:
    """`>&-` is a mistake with a name."""
    answer = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m convstat list formats >&-"], capture_output=True, text=True, check=False
    )
    assert (2, "error: cannot write to standard output: it is closed\n") == (answer.returncode, answer.stderr)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb", "FORCE_COLOR": "1"}])
@pytest.mark.parametrize("command", [["--help"], ["compare", "groups=1,3"], ["anlyze"], ["docs", "budgets"], []])
def test_no_escape_byte_on_a_terminal_that_wants_none(command: list[str], environment: dict[str, str]) -> None:
    """Help, results, mistakes and pages alike."""
    _, seen = on_a_terminal([*CONVSTAT, *command], environment)
    assert seen
    assert "\x1b" not in seen


def test_a_terminal_gets_colours() -> None:
    """The check above can fail: with colours allowed, there are escape bytes."""
    _, seen = on_a_terminal([*CONVSTAT, "compare", "groups=1,3"], {"TERM": "xterm-256color"})
    assert "\x1b[" in seen


def test_standard_output_parses_with_the_real_counters() -> None:
    """Whatever the counters print themselves, and at -vv, JSON is alone on standard output."""
    answer = run(*LAYER, "-f", "json", "-vv")
    assert 0 == answer.returncode, answer.stderr
    document = json.loads(answer.stdout)
    assert 8 * 4 * 9 * 6 * 6 == document["totals"]["macs"]
    assert {"ptflops", "torchsummary"} == {counter["name"] for counter in document["counters"]}


def test_completion_knows_commands_files_and_words(tmp_path: Path) -> None:
    """The shell is offered what fits, without torch."""
    (tmp_path / "net.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    for words, expected, not_expected in (
        ("convstat ana", "analyze", "compare"),
        ("convstat analyze n", "net.yaml", "notes.txt"),
        ("convstat analyze net.yaml -f j", "json", "csv"),
        ("convstat list lay", "layers", "blocks"),
    ):
        environment = {
            "_CONVSTAT_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        answer = run(environment=environment, folder=tmp_path)
        assert expected in answer.stdout, (words, answer.stdout, answer.stderr)
        assert not_expected not in answer.stdout


def test_the_command_is_installed() -> None:
    """The script and the module are the same."""
    script = Path(sys.executable).with_name("convstat")
    answer = subprocess.run([script, "--version"], capture_output=True, text=True, check=False, timeout=60)
    assert (answer.returncode, answer.stdout) == (0, run("--version").stdout)
    assert answer.stdout.startswith("convstat ")


def test_nothing_heavy_is_imported_for_a_count() -> None:
    """Counting a layer imports neither torch nor rich nor pydantic, and asking for the version not even yaml."""
    program = (
        "import sys\nfrom convstat.cli.run import run\nassert run({arguments!r}) == 0\n"
        "print([name for name in {names!r} if name in sys.modules], file=sys.stderr)"
    )
    for arguments, names in (
        ([*LAYER, "--counters", "none"], ["torch", "numpy", "rich", "pydantic", "ptflops", "torchsummary"]),
        (["compare", "groups=1,2"], ["torch", "numpy", "rich", "pydantic"]),
        (["--version"], ["torch", "yaml", "convstat.results.report", "pydantic"]),
    ):
        answer = subprocess.run(
            [sys.executable, "-c", program.format(arguments=arguments, names=names)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "[]\n" == answer.stderr


def test_the_check_of_imports_can_fail() -> None:
    """A count with a counter does import torch."""
    program = "import sys\nfrom convstat.cli.run import run\nrun(sys.argv[1:])\nassert 'torch' in sys.modules"
    answer = subprocess.run(
        [sys.executable, "-c", program, *LAYER, "--counters", "ptflops"], capture_output=True, check=False, timeout=120
    )
    assert 0 == answer.returncode
