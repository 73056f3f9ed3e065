"""Whatever a counter does when it is called costs its own row: it is asked in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from chains import count
from hypothesis import given
from hypothesis import strategies as st
from misbehaving import LATE, NOISE, WAYS, entry_point
from test_counters_robust import Fake, _graph

from convstat.counters import CounterFailure, Prediction, Reported, Term, crew, measure, wire
from convstat.counters.base import Unfit
from convstat.errors import Diagnostic, InternalError, UsageError
from convstat.patches import child, forked
from convstat.patches.room import in_room
from convstat.results.report import CounterRow

HERE = Path(__file__).parent
ENDLESS = [name for name, way in WAYS.items() if way.said == LATE]
"""Those that do not end by themselves."""

SOUND = ("flopcountermode", "torchinfo", "torchsummary")


class Run(NamedTuple):
    """What one command said, with every counter that misbehaves, or with none."""

    code: int
    document: Any
    errors: str
    seconds: float


def _run(folder: Path, names: str, timeout: int = 120) -> Run:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{HERE}"}
    started = time.monotonic()
    done = subprocess.run(
        [
            sys.executable, "-m", "convstat", "analyze", "Conv2d(3, 4, kernel_size=3)", "-i", "3x8x8",
            "--counters", names, "--timeout", str(timeout), "-f", "json",
        ],
        capture_output=True, text=True, check=False, timeout=300, env=environment, cwd=folder, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Run(done.returncode, json.loads(done.stdout), done.stderr, time.monotonic() - started)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The sound counters without the others."""
    return _run(tmp_path_factory.mktemp("alone"), ",".join(SOUND))


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same with every counter that misbehaves and ends, among them."""
    folder = tmp_path_factory.mktemp("together")
    entry_point(folder)
    bad = [name.replace("_", "-") for name in WAYS if name not in ENDLESS]
    middle = len(bad) // 2
    return _run(folder, ",".join([SOUND[0], *bad[:middle], SOUND[1], *bad[middle:], SOUND[2]]))


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Those that do not end, with a second for each."""
    folder = tmp_path_factory.mktemp("endless")
    entry_point(folder)
    return _run(folder, ",".join(name.replace("_", "-") for name in ENDLESS), timeout=1)


def test_counters_that_misbehave_change_nothing_else(alone: Run, together: Run) -> None:
    """Neither the exit code, nor the counts, nor the rows of the others; and standard output is the document alone."""
    assert (0, 0) == (alone.code, together.code), together.errors
    for run in (alone, together):
        # Where the counters ran: one that fails on meta is asked once more on the CPU.
        run.document["model"].pop("device")
    rest = [{**run.document, "counters": None} for run in (alone, together)]
    assert rest[0] == rest[1]
    before = {row["name"]: row for row in alone.document["counters"]}
    after = {row["name"]: row for row in together.document["counters"]}
    assert list(SOUND) == list(before)
    assert before == {name: after[name] for name in SOUND}
    assert NOISE not in json.dumps(together.document)
    assert NOISE in together.errors, "what they write goes to standard error"


@pytest.mark.parametrize("name", WAYS)
def test_a_counter_that_misbehaves_costs_its_own_row(name: str, together: Run, endless: Run) -> None:
    """It answers, where what it did has nothing to do with its answer; else the row says what happened."""
    rows = [row for run in (together, endless) for row in run.document["counters"]]
    (row,) = [row for row in rows if row["name"] == name.replace("_", "-")]
    said = WAYS[name].said
    if said is None:
        assert ("ok", None, 7, 11) == (
            row["status"], row["error"], row["reported"]["params"], row["reported"]["macs"],
        ), row["error"]  # fmt: skip
        return
    assert "failed" == row["status"]
    assert re.search(said, row["error"]), row["error"]
    assert "\n" not in row["error"]
    assert len(row["error"]) < 2_000


def test_those_that_do_not_end_cost_no_more_than_their_time(endless: Run) -> None:
    """And nothing is left of them."""
    assert 6 < len(ENDLESS)
    assert 0 == endless.code
    assert endless.seconds < 60
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert not [line for line in left if line == "sleep 1000"]


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tests are run in parallel, threads that are not ours wait in the process that they are run in."""
    monkeypatch.setattr(crew, "why_not_forked", lambda device: None)


def _rows(*fakes: Any, **options: Any) -> tuple[CounterRow, ...]:
    graph = _graph()
    return measure(graph, count(graph), fakes, **options)


def _row(act: Callable[..., Any], **options: Any) -> CounterRow:
    (row,) = _rows(Fake(act), **options)
    return row


def _is_gone(pid: int) -> bool:
    """Whether a process is over; it may take a moment."""
    for _ in range(200):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("act", ["answers", "leaves"])
def test_what_a_counter_starts_ends_with_it(act: str, tmp_path: Path) -> None:
    """Also what ignores every signal that can be ignored, and that of a counter that gives no answer."""
    place = tmp_path / "pid"

    def run(*_: object) -> Reported:
        pid = os.fork()
        if not pid:
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
            time.sleep(1000)
        place.write_text(str(pid))
        if act == "leaves":
            os._exit(1)
        return Reported(7, 11)

    assert ("ok" if act == "answers" else "failed") == _row(run).status
    assert _is_gone(int(place.read_text()))


def test_an_interruption_ends_the_processes_too(tmp_path: Path) -> None:
    """Ctrl-C comes to the process that waits, at once."""
    place = tmp_path / "pid"

    def run(*_: object) -> None:
        place.write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(1000)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _row(run)
    assert time.monotonic() - started < 30
    assert _is_gone(int(place.read_text()))


def test_an_interruption_at_the_fork_itself_is_not_lost(tmp_path: Path) -> None:
    """What Python calls in the parent after a fork swallows what is raised in it."""
    place = tmp_path / "pid"
    code = f"""
import os, signal, time
from convstat.patches.forked import Call
def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass
os.register_at_fork(after_in_parent=interrupt)
def run():
    open({str(place)!r}, "w").write(str(os.getpid()))
    time.sleep(1000)
try:
    Call(run, 0)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ("interrupted", 0) == (done.stdout.strip(), done.returncode), done.stderr
    # It may have been ended before it began.
    assert not place.exists() or not place.read_text() or _is_gone(int(place.read_text()))


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    """Also where that one is killed, and can do nothing about it."""
    place = tmp_path / "pid"
    code = f"""
import os, time
from convstat.patches.forked import Call
def run():
    open({str(place)!r}, "w").write(str(os.getpid()))
    time.sleep(1000)
call = Call(run, 0)
while not os.path.exists({str(place)!r}) or not os.path.getsize({str(place)!r}):
    time.sleep(0.01)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert -signal.SIGKILL == done.returncode
    assert _is_gone(int(place.read_text()))


def test_nothing_is_left_of_a_call() -> None:
    """No descriptor, no process that nobody has waited for, no child in the table."""
    _row(lambda *_: Reported(7, 11))
    before = sorted(os.listdir("/proc/self/fd"))
    for act in (lambda *_: Reported(7, 11), lambda *_: os._exit(3), lambda *_: os.kill(os.getpid(), 9)):
        _row(act)
    assert before == sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_counter_reads_nothing_and_writes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Its descriptor 0 is empty, and 1 and 2 are standard error."""
    row = _row(lambda *_: Reported(len(os.read(0, 9)) + os.write(1, b"one") + os.write(2, b"two"), None))
    assert 6 == row.reported.params
    assert ("", "onetwo") == capfd.readouterr()


def test_in_process_is_this_process() -> None:
    """For debugging; else it is another one each time."""
    pids = [_row(lambda *_: Reported(os.getpid()), in_process=in_process).reported.params for in_process in (0, 0, 1)]
    assert os.getpid() == pids[2]
    assert 3 == len(set(pids))


def test_a_process_with_threads_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child would not have them, and what they do it would wait for; those of ours and of tqdm do nothing for it."""
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.current_thread()])
    assert child.why_not_forked("meta") is None
    for name, said in (("theirs", "other threads run in this process: theirs"), (f"{child.OURS}x", None)):
        thread = threading.Thread(name=name)
        monkeypatch.setattr(threading, "enumerate", lambda thread=thread: [threading.current_thread(), thread])
        assert said == child.why_not_forked("meta")


def test_a_process_that_uses_cuda_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its driver does not work in a child."""
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.current_thread()])
    assert "CUDA is in use" in str(child.why_not_forked("cuda"))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert "CUDA is in use" in str(child.why_not_forked("cpu"))


def test_a_system_without_fork_asks_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where processes are only started anew."""
    monkeypatch.delattr(os, "fork")
    assert "on this system" in str(child.why_not_forked("meta"))
    monkeypatch.setattr(crew, "why_not_forked", child.why_not_forked)
    assert os.getpid() == _row(lambda *_: Reported(os.getpid())).reported.params


def test_computing_with_threads_goes_on_in_a_child(tmp_path: Path) -> None:
    """OpenMP's threads are not in a child; one that waited for them would wait for ever. Those for jit.fork neither."""
    code = """
import os, sys, torch
from convstat.patches.forked import Call, wait
from convstat.patches.child import why_not_forked
big = torch.rand(700, 700)
big @ big
assert torch.get_num_threads() == 2
x = torch.rand(3, requires_grad=True)
torch.autograd.grad((x * x).sum(), x)

def run():
    torch.autograd.grad((x * x).sum(), x)
    (big @ big).sum().item()
    return str(len([t for t in os.listdir("/proc/self/task")])).encode()

for _ in range(3):
    call = Call(run, 20)
    while not call.is_over:
        wait([call])
    call.reap()
    assert int(call.answer()) >= 2
    (big @ big).sum().item()
assert why_not_forked("cpu") is None

@torch.jit.script
def forks(x: torch.Tensor):
    return torch.jit.wait(torch.jit.fork(torch.mm, x, x))

forks(big)
print(why_not_forked("cpu"))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, timeout=100, check=False
    )
    assert (0, "threads of torch run in this process, as for torch.jit.fork\n") == (done.returncode, done.stdout), (
        done.stderr
    )


def test_one_computes_on_real_tensors_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They fill memory; those on meta do not wait for them."""
    monkeypatch.setattr(crew, "_processors", lambda: 8)

    def real(*_: object) -> Reported:
        started = time.monotonic_ns()
        time.sleep(0.2)
        return Reported(started, time.monotonic_ns())

    for device, is_alone in (("cpu", True), ("meta", False)):
        one, two = _rows(Fake(real), Fake(real), device=device)
        assert is_alone == (one.reported.macs < two.reported.params or two.reported.macs < one.reported.params)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_what_is_written_is_read(value: Any) -> None:
    """Numbers exactly, texts with what is no character, and nothing of another type."""
    assert value == wire.read(wire.written(value))
    assert wire.written(value) == wire.written(wire.read(wire.written(value)))


@pytest.mark.parametrize(
    "value",
    [
        Reported(1, 10**5000, {"total": 0.1}, {"flops": -3}),
        Prediction(1, None, (Term("a", 1, 2, "bias", 3),), None, "it fails", (Term("", calls=2),), {"x": 1}, ("b",)),
        "\ud800\x00",
    ],
    ids=["answer", "prediction", "text"],
)
def test_answers_are_read_as_they_were(value: Any) -> None:
    """Every field."""
    assert value == wire.read(wire.written(value))
    assert value == wire.answer(wire.outcome(lambda: value))


FAILURES = {
    "failure": (CounterFailure("it broke", "mend it"), CounterFailure, "it broke; mend it"),
    "unfit": (Unfit("no room"), Unfit, "no room"),
    "ours": (UsageError("wrong", help="right"), UsageError, "error: wrong\nhelp: right"),
    "fault": (InternalError("convstat cannot"), InternalError, "convstat cannot"),
    "theirs": (ValueError("no"), CounterFailure, "ValueError: no"),
    "no exception": (SystemExit(3), CounterFailure, "SystemExit: 3"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_raised_as_they_were(name: str) -> None:
    """With what they say."""
    error, kind, said = FAILURES[name]

    def ask() -> None:
        raise error

    with pytest.raises(kind) as found:
        wire.answer(wire.outcome(ask))
    assert kind is type(found.value)
    assert said == str(found.value)


HOSTILE = (
    b"", b"null", b"[]", b"7", b'["int","7"]', b'["int",7]', b'["int","x"]', b'["float","1e"]', b'["str",[]]',
    b'["tuple",{}]', b'["tuple",[["str","answer"]]]', b'["dict",[["str","a"]]]', b'["dict",[[["tuple",[]],null],1]]',
    b'["Reported",[]]', b'["Reported",[1,2,3,4]]', b'["object",[]]', b'["os.system",[["str","echo"]]]', b"\xff",
    b"[" * 100_000, b'["tuple",' * 50_000, b'["tuple",[["str","error"],["tuple",[["str","ExitCode"],["tuple",[]]]]]]',
    b'["tuple",[["str","error"],["tuple",[["str","ConvstatError"],["tuple",[["str","x"]]]]]]]', b"NaN", b"1e999",
    b'["tuple",[["str","failure"],["tuple",[["int","1"],null]]]]', b'["tuple",[["str","fault"],null]]',
)  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_nonsense_is_no_answer(data: bytes) -> None:
    """Whatever comes is an answer, a failure, or refused."""
    with pytest.raises(ValueError, match=r"."):
        wire.answer(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    """Nothing else is raised."""
    for candidate in (data, b'["tuple",[["str","answer"],' + data + b"]]"):
        try:
            wire.answer(candidate)
        except (ValueError, CounterFailure):
            continue


@pytest.mark.parametrize("length", [0, 5, 2**40, 2**63])
def test_an_answer_that_is_no_answer_is_a_row(length: int) -> None:
    """What a process writes by itself, before it ends: too short, too long, or in no form."""

    def run(*_: object) -> None:
        from misbehaving import _answering

        os.write(_answering(), length.to_bytes(8, "big") + b"[null")
        os._exit(0)

    row = _row(run)
    assert "failed" == row.status
    assert "no readable answer" in str(row.error) or "exit code 0" in str(row.error)


def test_problems_keep_their_texts() -> None:
    """All lines of all problems, without the places, which are of texts that are not here."""
    problems = [Diagnostic("one", notes=("n",), help=("h", "i")), Diagnostic("two")]

    def ask() -> None:
        raise UsageError(problems)

    with pytest.raises(UsageError) as found:
        wire.answer(wire.outcome(ask))
    assert problems == list(found.value.diagnostics)


def test_memory_that_a_counter_takes_goes_with_it() -> None:
    """It is limited meanwhile, also where this process is somebody else's."""

    def takes(*_: object) -> Reported:
        bytearray(2**45)
        return Reported(1)

    assert "MemoryError" in str(_row(takes).error)


def test_a_call_can_be_nested_in_the_room() -> None:
    """A child of who has the room has it too."""

    def run() -> bytes:
        with in_room():
            return b"in"

    with in_room():
        call = forked.Call(run, 20)
        while not call.is_over:
            forked.wait([call])
    assert b"in" == call.answer()
    call.reap()
