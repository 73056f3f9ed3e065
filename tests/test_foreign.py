"""Code that is not convstat's may raise anything, never come back, and leave modes on: it costs a sentence, no more."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

import convstat
from convstat.cli.run import run
from convstat.errors import SourceError, UsageError
from convstat.patches import plugins
from convstat.patches.room import alone
from convstat.patches.time_limit import Overtime, time_limit
from convstat.render import base
from convstat.trace.nesting import why_endless

ROOT = Path(__file__).resolve().parent.parent
MACS = 4 * 4


class Odd(BaseException):
    """No Exception."""


class Silent(BaseException):
    """Cannot even be asked for its text."""

    def __str__(self) -> str:
        raise Odd


class Base(nn.Module):
    """A layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        return self.fc(x)


RAISED: dict[str, Callable[[], BaseException]] = {
    "Odd": lambda: Odd("odd"),
    "Silent": Silent,
    "GeneratorExit": GeneratorExit,
    "SystemExit": lambda: SystemExit(3),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("some", [Odd()]),
    "StopIteration": StopIteration,
    "RecursionError": RecursionError,
}

DESCRIBED = (
    *("modules", "named_modules", "children", "named_children", "parameters", "named_parameters", "buffers"),
    *("named_buffers", "train", "state_dict", "extra_repr", "__repr__", "__len__", "__iter__", "__getattr__"),
)
"""What a model says of itself, and what is asked of it."""


def kind_with(**attributes: Any) -> type[nn.Module]:
    """A model of which something is another."""
    return type("Hostile", (Base,), attributes)


def raising(make: Callable[[], BaseException]) -> Callable[..., Any]:
    """A method that raises."""

    def method(*_: object, **__: object) -> Any:
        raise make()

    return method


def is_counted(model: Any, **options: Any) -> bool:
    """Whether it is counted, and rightly; else it is an error that says why, and nothing else leaves."""
    try:
        report = convstat.analyze(model, (4,), **options)
    except SourceError:
        return False
    assert report.totals.macs == MACS
    return True


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("place", ["__init__", "forward"])
@pytest.mark.parametrize("options", [{}, {"device": "cpu"}, {"mode": "train"}], ids=str)
def test_whatever_a_model_raises_is_an_error_at_its_line(name: str, place: str, options: dict[str, str]) -> None:
    """By its name, SystemExit by what it does; and not as often as there are ways of running it."""
    calls: list[None] = []

    def method(*_: object) -> Any:
        calls.append(None)
        raise RAISED[name]()

    with pytest.raises(SourceError) as caught:
        convstat.analyze(kind_with(**{place: method}), (4,), **options)
    (problem,) = caught.value.diagnostics
    assert ("it called sys.exit(3)" if name == "SystemExit" else name) in problem.message
    assert problem.mark is not None
    assert Path(problem.mark.file).name == Path(__file__).name
    assert "raise RAISED[name]()" in problem.mark.text
    assert type(caught.value.__cause__).__name__ == name
    if name not in ("StopIteration", "RecursionError"):
        # For a real run it is made without weights first, to see whether there is room for them.
        assert len(calls) == (2 if options == {"device": "cpu"} and place == "__init__" else 1)


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("method", DESCRIBED)
def test_a_model_that_cannot_say_what_it_is(name: str, method: str) -> None:
    """Where nobody asks, it is counted; where somebody does, it is an error."""
    kind = kind_with(**{method: raising(RAISED[name])})
    assert is_counted(kind) == is_counted(kind)


def test_a_property_in_the_place_of_forward() -> None:
    """It runs code where it is looked up."""
    for make in RAISED.values():
        assert not is_counted(kind_with(forward=property(raising(make))))


@pytest.mark.parametrize("place", ["__init__", "forward", "modules"])
def test_an_interruption_is_one_whoever_raises_it(place: str) -> None:
    """As in Python: who catches it keeps people from ending a program."""
    with pytest.raises(KeyboardInterrupt):
        convstat.analyze(kind_with(**{place: raising(KeyboardInterrupt)}), (4,))


# What does not come back.


def endless(*_: object, **__: object) -> Iterator[Any]:
    """Give things without end."""
    for number in itertools.count():
        yield str(number), nn.Identity()


def spinning(*_: object, **__: object) -> Any:
    """Never come back."""
    while True:
        pass


def sleeping(*_: object, **__: object) -> Any:
    """Never come back, and do nothing."""
    time.sleep(1000)


def swallowing(*_: object, **__: object) -> Any:
    """Take the first exception that comes."""
    try:
        spinning()
    except BaseException:
        return torch.zeros(1, 4)


LONG = "it did not end within 0.2 seconds"


@pytest.mark.parametrize("method", ["__init__", "forward", *DESCRIBED])
@pytest.mark.parametrize("way", [endless, spinning, sleeping], ids=lambda way: way.__name__)
def test_one_time_limit_holds_for_all_that_a_model_does(method: str, way: Callable[..., Any]) -> None:
    """Its constructor, its forward pass, and what it says of itself: as soon as the time is over, and not later."""
    began, said = time.monotonic(), ""
    try:
        convstat.analyze(kind_with(**{method: way}), (4,), timeout=0.2)
    except SourceError as error:
        said = str(error)
    # A busy machine may take its time; the limit of the model itself, without end, would be five minutes.
    assert time.monotonic() - began < 100
    # What gives things without end may be given without an end being asked for; what is not asked is not run.
    is_run = (
        method in ("__init__", "forward", "modules", "parameters", "named_parameters", "train") and way is not endless
    )
    assert LONG in said or not is_run


def test_the_time_limit_on_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the line that is running; with more time it is imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text(
        "import time\nfrom torch import nn\ntime.sleep(0.5)\nnet = nn.Linear(4, 4, bias=False)\n"
    )
    with pytest.raises(SourceError, match=r"^slow\.py:3:1: error: cannot import slow\.py: " + LONG):
        convstat.analyze("slow.py:net", "4", timeout=0.2)
    for seconds in (None, 0, 100):
        assert convstat.analyze("slow.py:net", "4", timeout=seconds).totals.macs == MACS


def test_the_time_limit_in_another_thread() -> None:
    """Where no signal arrives."""
    found: list[bool] = []

    def work() -> None:
        try:
            convstat.analyze(kind_with(forward=spinning), (4,), timeout=0.2)
        except SourceError as error:
            found.append(LONG in str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert found == [True]


def test_who_catches_the_end_of_the_time_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is over, even if the model goes on as if nothing were."""
    monkeypatch.setattr("convstat.patches.time_limit.AGAIN", 0.2)
    began = time.monotonic()
    with pytest.raises(SourceError):
        convstat.analyze(kind_with(forward=lambda *_: [swallowing(), spinning()]), (4,), timeout=0.1)
    assert time.monotonic() - began < 10


def test_a_limit_that_is_none() -> None:
    """Of the library and of the command."""
    with pytest.raises(UsageError, match="timeout must not be negative: -1"):
        convstat.analyze(nn.Linear(4, 4), (4,), timeout=-1)
    assert run(["analyze", "Conv2d(4, 8, kernel_size=3)", "--timeout", "-1"]) == 2


@alone
def _limited(inner: float) -> list[bool]:
    with time_limit(0.1) as outermost, time_limit(inner) as innermost:
        found = [outermost, innermost]
        with pytest.raises(Overtime):
            spinning()
        return found


def test_a_limit_in_a_limit() -> None:
    """The earlier one holds."""
    assert _limited(1000) == [True, False]
    assert _limited(0.01) == [True, True]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_no_exception_comes_up_while_torch_asks_what_a_tensor_looks_like() -> None:
    """The caller is ``noexcept``: it would end the process. The time is over a moment later."""
    answered: list[bool] = []

    def __torch_dispatch__(kind: type, func: Any) -> None:  # noqa: N807 - that is what torch calls it
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
        answered.append(True)

    @alone
    def ask(func: Any) -> None:
        answered.clear()
        with time_limit(0.02):
            __torch_dispatch__(torch.Tensor, func)
            spinning()

    with pytest.raises(Overtime):
        ask(torch.ops.aten.sym_size.default)
    assert answered == [True]
    with pytest.raises(Overtime):
        ask(torch.ops.aten.relu.default)
    assert answered == []


STUBBORN = """
import sys, time
from convstat.patches import time_limit
from convstat.patches.limits import own_process
from convstat.cli.run import run
time_limit.PATIENCE = 0.5
own_process()
sys.exit(run(["analyze", "stubborn.py:Net", "-i", "4", "--counters", "none", "--timeout", "1"]))
"""

DEAF = """
import signal
from torch import nn
class Net(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)
    def forward(self, x):
        signal.setitimer(signal.ITIMER_REAL, 0)
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
"""


def test_a_process_of_our_own_ends_when_nothing_else_helps(tmp_path: Path) -> None:
    """With a sentence and exit code 2; in that of somebody else's nothing is ended."""
    (tmp_path / "stubborn.py").write_text(DEAF)
    command = [sys.executable, "-c", STUBBORN]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "error: stubborn.py:Net does not run: it did not end within 1 second" in answer.stderr


# Modes.


class Functions(TorchFunctionMode):
    """A mode of functions."""

    def __init__(self, raised: Callable[[], BaseException] | None = None) -> None:
        super().__init__()
        self.raised = raised

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let pass, or raise."""
        if self.raised is not None:
            raise self.raised()
        return func(*args, **(kwargs or {}))


class Dispatching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode of kernels."""

    def __init__(self, raised: Callable[[], BaseException] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.raised = raised

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let pass, or raise."""
        if self.raised is not None:
            raise self.raised()
        return func(*args, **(kwargs or {}))


MODES: dict[str, Callable[[], Any]] = {
    "functions": Functions,
    "functions that raise": lambda: Functions(lambda: RuntimeError("no")),
    "functions that raise oddly": lambda: Functions(lambda: Odd("no")),
    "kernels": Dispatching,
    "kernels that raise": lambda: Dispatching(lambda: RuntimeError("no")),
    "kernels that raise oddly": lambda: Dispatching(lambda: Odd("no")),
    "autocast": lambda: torch.autocast("cpu"),
    "device": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "hooks": lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x),
    "forward derivatives": torch.autograd.forward_ad.dual_level,
}

kept: list[Any] = []
"""Who holds what is entered keeps it from being left as it is forgotten."""


def modes() -> tuple[list[Any], list[Any], bool]:
    """What is entered."""
    overrides: Any = torch.overrides
    stacks = _get_current_dispatch_mode_stack(), list(overrides._get_current_function_mode_stack())
    return *stacks, torch.is_inference_mode_enabled()


class Enters(Base):
    """Enters a mode and does not leave it: as it is made, before its layer runs, after, or before it fails."""

    def __init__(self, make: Callable[[], Any], when: str) -> None:
        super().__init__()
        self.make, self.when = make, when
        self.enter("made")

    def enter(self, when: str) -> None:
        """Enter it, if it is time."""
        if self.when == when:
            kept.append(self.make())
            kept[-1].__enter__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        self.enter("before")
        x = self.fc(x)
        self.enter("after")
        if self.when == "failing":
            kept.append(self.make())
            kept[-1].__enter__()
            raise ValueError("after all")
        return x


@pytest.mark.parametrize("when", ["made", "before", "after", "failing"])
@pytest.mark.parametrize("name", MODES)
def test_a_mode_that_is_not_left(name: str, when: str) -> None:
    """It is left for the model, and what it does meanwhile is the model's own affair."""
    before = modes()
    raises = "raise" in name
    counted = is_counted(lambda: Enters(MODES[name], when))
    assert modes() == before
    assert counted or when == "failing" or (raises and when != "made") or name == "inference"
    assert is_counted(Base)


def test_a_mode_that_is_left_on_is_said() -> None:
    """Once, by its name; and one that is left is not."""
    for when, make in itertools.product(("made", "before", "after"), (Functions, Dispatching)):
        report = convstat.analyze(lambda make=make, when=when: Enters(make, when), (4,))
        (note,) = report.model.notes
        assert note == f"it enters {make.__name__} and does not leave it; convstat left it instead"
    assert convstat.analyze(Base, (4,)).model.notes == ()


class Pops(Base):
    """Takes down what others have entered."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        from torch.utils import _python_dispatch

        x = self.fc(x)
        while _get_current_dispatch_mode_stack():
            _python_dispatch._pop_mode(None)
        return x


def test_modes_of_others_that_a_model_leaves() -> None:
    """They are entered again."""
    before = modes()
    report = convstat.analyze(Pops, (4,))
    assert report.totals.macs == MACS
    assert report.model.notes == ("it leaves modes of torch that it did not enter; convstat entered them again",)
    assert modes() == before


# Inputs and results without an end.


@dataclass
class Batch:
    """Inputs in a dataclass."""

    inside: Any = None


def looping_list() -> Any:
    """A list in itself."""
    found: list[Any] = [torch.zeros(1, 4)]
    found.append(found)
    return found


def looping_dict() -> Any:
    """A dict in itself, some levels below."""
    found: dict[str, Any] = {}
    found["a"] = [(1, {"b": found})]
    return found


def looping_dataclass() -> Any:
    """A dataclass in itself."""
    found = Batch()
    found.inside = found
    return found


def deep() -> Any:
    """Nested deeper than Python goes."""
    found: Any = torch.zeros(1, 4)
    for _ in range(5000):
        found = [found]
    return found


def wide() -> Any:
    """Sixty lists, in which one stands two to the power of sixty times."""
    found: Any = torch.zeros(1, 4)
    for _ in range(60):
        found = [found, found]
    return found


class Unending(dict[str, int]):
    """A mapping of which there is always more."""

    def items(self) -> Any:
        """Give pairs without end."""
        return ((str(number), number) for number in itertools.count())


NESTS: dict[str, tuple[Callable[[], Any], str]] = {
    "list": (looping_list, "inputs[1][1] is inputs[1] itself"),
    "dict": (looping_dict, "inputs[1]['a'][0][1]['b'] is inputs[1] itself"),
    "dataclass": (looping_dataclass, "inputs[1].inside is inputs[1] itself"),
    "deep": (deep, "inputs is nested more than 100 deep"),
    "wide": (wide, "inputs holds more than 250,000 values"),
    "mapping": (Unending, "inputs holds more than 250,000 values"),
}


class Second(Base):
    """Takes something beside, and gives something back; calls a layer with it."""

    def __init__(self, result: Callable[[], Any] = list) -> None:
        super().__init__()
        self.result = result
        self.inner = Base()
        self.inner.forward = lambda x: x  # type: ignore[method-assign, assignment]

    def forward(self, x: torch.Tensor, beside: Any = None) -> Any:
        """Run."""
        self.inner(self.result())
        return [self.fc(x), self.result()]


@pytest.mark.parametrize("name", NESTS)
def test_inputs_without_an_end_are_refused(name: str) -> None:
    """With the place, from an entry point and from who calls the library."""
    make, reason = NESTS[name]
    with pytest.raises(SourceError, match="infinite inputs") as caught:
        convstat.analyze(lambda: (Second(), (torch.zeros(1, 4), make())))
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", NESTS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_results_without_an_end_are_counted(name: str, mode: str) -> None:
    """A model may give what it likes, and pass it on."""
    make, _ = NESTS[name]
    report = convstat.analyze(Second(make), (4,), mode=mode)
    assert report.totals.macs == MACS * (1 if mode == "eval" else 2)


def test_what_has_an_end() -> None:
    """One thing in two places, and a hundred levels, are no reason."""
    shared = [1, 2]
    nested: Any = 1
    for _ in range(100):
        nested = (nested,)
    assert why_endless([shared, shared, {"a": shared, "b": Batch(shared)}], "it") is None
    assert why_endless(nested, "it") is None
    assert why_endless([nested], "it") == "it is nested more than 100 deep"
    assert why_endless(list(range(250_000)), "it") is None
    assert why_endless(list(range(250_001)), "it") == "it holds more than 250,000 values"


# Rules and formats of others.


@pytest.mark.parametrize("name", RAISED)
def test_a_rule_that_raises_is_a_note(name: str) -> None:
    """The function has no cost then, and the rest of the model its own."""
    take_back = convstat.register_function(f"{__name__}.beside", raising(RAISED[name]))
    try:
        report = convstat.analyze(kind_with(forward=lambda self, x: beside(self.fc(x))), (4,))
    finally:
        take_back()
    assert report.totals.macs == MACS
    assert any(f"the rule for {__name__}.beside failed: {name}" in note for note in report.model.notes)


def beside(x: torch.Tensor) -> torch.Tensor:
    """A function that has a rule."""
    return x


def test_a_rule_that_never_comes_back() -> None:
    """Its time is that of the model."""
    take_back = convstat.register_function(f"{__name__}.beside", spinning)
    try:
        with pytest.raises(SourceError, match=LONG):
            convstat.analyze(kind_with(forward=lambda self, x: beside(self.fc(x))), (4,), timeout=0.2)
    finally:
        take_back()


@pytest.mark.parametrize("name", RAISED)
def test_a_format_that_raises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is loaded and as it writes: it is told which it was."""
    mine = SimpleNamespace(name="mine", value="mine:made", load=raising(RAISED[name]))
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [mine])
    with pytest.raises(UsageError, match=f"plugin 'mine' of convstat.renderers failed: {name}"):
        next(plugins.offered(base.ENTRY_POINTS, base.Renderer))

    class Mine(base.Renderer):
        name = "mine"

        def render(self, results: Any, options: Any) -> str:
            raise RAISED[name]()

    with pytest.raises(UsageError, match=rf"the format mine \({__name__}\) failed: {name}"):
        Mine().encode([], base.Options())


def test_nothing_leaves_the_command_line_but_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is raised where nobody thought of it."""
    monkeypatch.setattr("convstat.cli.run._call", raising(lambda: Odd("odd")))
    assert run(["--version"]) == 3
    assert "internal error: Odd: odd" in capsys.readouterr().err
