"""Running models for their traces: every way, every kind of odd model, and nothing left behind."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import counted
import numpy
import pytest
import torch
from odd_models import ODD, Branches, ChangesTheWorld, Conv
from torch import nn

from convstat.errors import ConvstatError, SourceError
from convstat.patches import limits
from convstat.results.report import Report
from convstat.targets import entry, trying
from convstat.trace import bounds, failures, placing, run
from convstat.trace.answers import Answers
from convstat.trace.recipe import Recipe

HERE = Path(__file__).resolve().parent
ODD_FILE = HERE / "odd_models.py"


def analyze(make: Callable[[], Any], *inputs: str, **options: Any) -> Report:
    """Count what a function makes."""
    recipe = Recipe("net", "net.py:net", "module", lambda: (make(), None), is_made=options.pop("is_made", False))
    return counted.traced(recipe, inputs=inputs or ("3x8x8",), counters="none", **options)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_model_takes_its_way_and_costs_what_it_costs(name: str) -> None:
    """Each is loaded as users load theirs, from its file; the way is said in one short note."""
    odd = ODD[name]
    report = counted.traced(entry.recipe(f"{ODD_FILE}:{name}", {}), inputs=odd.inputs, counters="none")
    assert odd.macs == report.totals.macs
    starts = {run.STRIPPED: "traced on meta; its constructor ran on the CPU without weights: "}
    starts |= {run.FAKE: "traced with fake tensors: ", "cpu": "run on the CPU: "}
    said = [note for note in report.model.notes if note.startswith(tuple(starts.values()))]
    expected = [] if odd.way == "meta" else [starts[odd.way]]
    assert expected == [note[: note.index(": ") + 2] for note in said]
    assert all(len(note) < 250 for note in report.model.notes)


def test_the_note_gives_the_reason_and_the_line() -> None:
    """Not a line of torch's: the user's own."""
    report = counted.traced(entry.recipe(f"{ODD_FILE}:Branches", {}), inputs=["3x8x8"], counters="none")
    note, *_ = report.model.notes
    line = next(i for i, text in enumerate(ODD_FILE.read_text().splitlines(), 1) if "y.mean().item()" in text)
    assert note.startswith("run on the CPU: it reads values of tensors (")
    assert note.endswith(f"odd_models.py:{line})")


@pytest.mark.parametrize("name", [name for name, odd in ODD.items() if odd.way == "meta" and odd.inputs == ("3x8x8",)])
def test_meta_counts_what_a_real_run_counts(name: str) -> None:
    """The same model in a real run, where it can run: the way does not change the count."""
    if name == "WantsAGpu" or name == "Deforms":
        pytest.skip("it does not run for real without a GPU, or without torchvision's operators")
    recipe = entry.recipe(f"{ODD_FILE}:{name}", {})
    report = counted.traced(recipe, inputs=["3x8x8"], counters="none", device="cpu")
    assert ODD[name].macs == report.totals.macs


def test_a_gpu_that_is_not_there_is_not_needed() -> None:
    """Moving to one is left out, and said."""
    report = counted.traced(entry.recipe(f"{ODD_FILE}:WantsAGpu", {}), inputs=["3x8x8"], counters="none")
    if torch.cuda.is_available():
        assert () == report.model.notes
    else:
        assert ("it requests a GPU, and there is none; it was not moved",) == report.model.notes


# What was handed in stays as it was.


class Busy(nn.Module):
    """Writes to everything that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.plain = torch.zeros(4)
        self.seen: list[Any] = []
        self.cache: dict[str, Any] = {"first": torch.zeros(2), "inner": [1]}
        self.conv.register_forward_hook(lambda module, args, output: output * 2)

    def forward(self, x: torch.Tensor) -> Any:
        self.seen.append(x)
        self.cache["x"] = x
        self.cache["inner"].append(2)
        self.cache["first"].add_(1)
        self.calls.add_(1)
        self.plain.add_(1)
        self.extra = x
        self.conv.stride = (1, 1)
        self.conv.weight.data.mul_(2)
        self.norm.register_forward_hook(lambda *_: None)
        return self.norm(self.conv(x))


def state(model: nn.Module) -> dict[str, Any]:
    """All that can be seen of a model, with the identities and the values of its tensors."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            place = f"{name}.{key}"
            items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            found[place] = type(module), id(value), [(k, id(v)) for k, v in items]
    tensors = [*model.parameters(), *model.buffers(), *(v for v in vars(model).values() if torch.is_tensor(v))]
    found["values"] = [(id(t), t.device, t.dtype, t.tolist(), t.requires_grad, t.grad) for t in tensors]
    if isinstance(model, Busy):
        found["cached"] = model.cache["first"].tolist(), list(model.cache["inner"])
    return found


WAYS = ("auto", "meta", "cpu")


@pytest.mark.parametrize("device", WAYS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_model_is_left_as_it_was(device: str, mode: str) -> None:
    """Parameters, buffers, plain attributes, lists, dicts, hooks, modes and gradients, after a run that changes all."""
    model = Busy().train()
    model.norm.eval()
    before = state(model)
    if mode == "train" and device == "cpu":
        pytest.skip("autograd refuses to go back through a weight that was written to")
    assert analyze(lambda: model, device=device, mode=mode, is_made=True).totals.macs > 0
    assert before == state(model)


@pytest.mark.parametrize("device", WAYS)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_the_model_is_left_as_it_was_when_it_fails(device: str, error: type[BaseException]) -> None:
    """Also where a run is broken off in the middle."""
    model = Busy()
    before = state(model)

    def fail(module: nn.Module, args: Any) -> None:
        raise error("stop")

    handle = model.norm.register_forward_pre_hook(fail)
    during = state(model)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else ConvstatError):
        analyze(lambda: model, device=device, is_made=True)
    assert during == state(model)
    handle.remove()
    assert before == state(model)


def test_a_lazy_model_stays_lazy() -> None:
    """What it became for the run is not kept."""
    model = nn.Sequential(nn.LazyConv2d(4, 3, padding=1), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5))
    report = analyze(lambda: model, is_made=True)
    assert 4 * 3 * 9 * 64 + 4 * 64 * 5 == report.totals.macs
    assert 4 * 27 + 4 + 2 * 4 + 4 * 64 * 5 + 5 == report.totals.params
    kinds = [nn.LazyConv2d, nn.LazyBatchNorm2d, nn.Flatten, nn.LazyLinear]
    assert kinds == [type(module) for module in model]
    assert all(nn.parameter.is_lazy(parameter) for parameter in model.parameters())
    assert (2, 5) == model(torch.zeros(2, 3, 8, 8)).shape


def test_another_dtype_does_not_change_the_model() -> None:
    """The weights of a model that is there are cast for the run only."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False))
    weight = model[0].weight
    report = analyze(lambda: model, is_made=True, dtype="float16")
    assert 2 * 4 * 27 == report.totals.weight_bytes
    assert model[0].weight is weight
    assert torch.float32 is weight.dtype


def test_the_process_is_left_as_it_was() -> None:
    """Random states, the default dtype and the grad mode, whatever the model does to them."""

    def world() -> tuple[Any, ...]:
        return (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_rng_state().tolist(),
            random.getstate(),
            numpy.random.get_state()[1].tolist(),
            torch.nn.functional.conv2d,
            nn.Module.__call__,
        )

    before = world()
    analyze(ChangesTheWorld)
    assert before == world()


def test_hooks_of_the_user_run() -> None:
    """They are part of the model: one multiplies the output by a matrix."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    extra = torch.ones(4, 4)
    model[0].register_forward_hook(lambda module, args, output: output @ extra)
    assert 2 * 4 * 4 == analyze(lambda: model, "4", is_made=True).totals.macs


# Bounds.


class Forever(Conv):
    """Calls its convolution without end."""

    def forward(self, x: torch.Tensor) -> Any:
        while True:
            self.conv(x)


class SwallowsErrors(Conv):
    """Goes on whatever happens."""

    def forward(self, x: torch.Tensor) -> Any:
        while True:
            try:
                self.conv(x)
            except Exception:
                continue


class GrowsForever(nn.Module):
    """Makes layers without end."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        while True:
            self.layers.append(nn.Linear(2, 2))


class StoresForever(nn.Module):
    """Keeps large tensors without end, as it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = []
        while True:
            self.kept.append(torch.zeros(10**9))


class GrowsAsItRuns(Conv):
    """Makes layers without end, as it runs."""

    def forward(self, x: torch.Tensor) -> Any:
        while True:
            self.add_module("layer", nn.Linear(2, 2))


class IdlesForever(nn.Module):
    """Calls a module that runs no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Identity()

    def forward(self, x: torch.Tensor) -> Any:
        while True:
            self.idle(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Forever, "the forward pass ran more than 500 kernels"),
        (SwallowsErrors, "the forward pass ran more than 500 kernels"),
        (GrowsForever, "its constructor made more than 100 parameters"),
        (StoresForever, "its constructor ran more than 500 kernels"),
        (GrowsAsItRuns, "the forward pass made more than 50 parameters"),
        (IdlesForever, "the forward pass called more than 700 modules"),
    ],
)
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_model_without_end_is_refused(
    make: type[nn.Module], message: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the line that goes on, and without trying another way; the limits are lowered to be quick."""
    if device == "cpu" and make is StoresForever:
        pytest.skip("it would really store them")
    for owner in ("convstat.trace.bounds", "convstat.trace.placing", "convstat.trace.record"):
        for name, limit in (("MAX_KERNELS", 500), ("MAX_CALLS", 700), ("MAX_PARAMETERS", 100), ("MAX_MADE", 50)):
            name = "MAX_MADE_IN_FORWARD" if name == "MAX_MADE" else name
            monkeypatch.setattr(f"{owner}.{name}", limit, raising=False)
    with pytest.raises(SourceError) as caught:
        analyze(make, device=device)
    (problem,) = caught.value.diagnostics
    assert f"net.py:net does not terminate: {message}" == problem.message
    assert problem.mark is not None
    assert "test_run.py" in problem.mark.file


def test_the_limits_are_far_above_what_models_are() -> None:
    """A net of ten thousand layers, each of three kernels in forward and as many initialisers, stays below a half."""
    assert 10_000 * 3 * 2 < bounds.MAX_KERNELS
    assert 256 * 61 * 3 < bounds.MAX_PARAMETERS / 2


def test_memory_is_limited_for_as_long_as_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within, an allocation beyond the limit fails; outside, the limit is what it was."""
    resource = pytest.importorskip("resource")
    if bounds._data_bytes() is None:
        pytest.skip("this system does not tell how much a process uses")
    monkeypatch.setattr(limits, "_owned", [True])
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounds.limited_memory(2**28), pytest.raises(MemoryError):
        bytearray(2**30)
    assert before == resource.getrlimit(resource.RLIMIT_DATA)
    assert 2**30 == len(bytearray(2**30))


def test_what_does_not_fit_is_not_run_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how much it takes and how much there is."""
    monkeypatch.setattr(bounds, "available_memory", lambda: 2**30)
    monkeypatch.setattr(run, "available_memory", lambda: 2**30)

    class Large(Conv):
        """Four GiB of weights, and it leaves torch."""

        def __init__(self) -> None:
            super().__init__()
            self.large = nn.Parameter(torch.empty(2**15, 2**15))

        def forward(self, x: torch.Tensor) -> Any:
            return torch.from_numpy(self.conv(x).detach().numpy())

    with pytest.raises(SourceError) as caught:
        analyze(Large)
    (problem,) = caught.value.diagnostics
    assert "a real run was not tried: its weights take 4.0 GiB, and 1.0 GiB of memory are free" in problem.notes
    assert any("--device cpu" in line for line in problem.help)


# Which failure is shown.


class Mismatch(nn.Module):
    """Two layers that do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.second(self.first(x))  # they do not fit


class TwoInputs(nn.Module):
    """Needs two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, *, scale: float | None = None) -> Any:
        return self.layer(x) * mask


class FailsAfterAValue(Conv):
    """Reads a value, and then fails on its own."""

    def forward(self, x: torch.Tensor) -> Any:
        if self.conv(x).sum().item() < 1e9:
            raise KeyError("the real one")


class LacksOperators(Conv):
    """Reads a value before it calls an operator that is declared only."""

    def forward(self, x: torch.Tensor) -> Any:
        x.sum().item()
        raise NotImplementedError("Could not run 'torchvision::nms' with arguments from the 'CPU' backend.")


def problem_of(make: Callable[[], Any], *inputs: str, **options: Any) -> Any:
    """The one problem that an analysis ends in."""
    with pytest.raises(SourceError) as caught:
        analyze(make, *inputs, **options)
    (problem,) = caught.value.diagnostics
    return problem


def test_shapes_that_do_not_fit_are_shown_at_the_users_line() -> None:
    """With what went in, what the forward takes, and an example that works."""
    problem = problem_of(Mismatch, "4")
    assert "return self.second(self.first(x))  # they do not fit" == problem.mark.text.strip()
    assert problem.message.startswith(
        "net.py:net does not run: RuntimeError: mat1 and mat2 shapes cannot be multiplied"
    )
    assert ("its inputs were x 1x4 float32",) == problem.notes
    assert "its forward takes (x)" == problem.help[0]
    # No input at all gets past both of its layers.
    assert not [text for text in problem.help if "for example" in text]


def test_a_forward_that_needs_other_inputs_shows_its_signature() -> None:
    """The line is that of its forward, and the example works."""
    problem = problem_of(TwoInputs, "4")
    assert "def forward(self, x: torch.Tensor, mask" in problem.mark.text
    assert ("its forward takes (x, mask, *, scale=None)", "for example: --input x=4 --input mask=4") == problem.help
    assert 4 * 4 == analyze(TwoInputs, "x=4", "mask=4").totals.macs


def test_no_inputs_at_all_show_the_same() -> None:
    """Nothing is guessed."""
    recipe = Recipe("net", "net.py:net", "module", lambda: (TwoInputs(), None))
    with pytest.raises(SourceError) as caught:
        counted.traced(recipe, counters="none")
    assert "for example: --input x=4 --input mask=4" in caught.value.diagnostics[0].help


def test_the_models_own_failure_is_shown_and_not_that_of_a_way() -> None:
    """On meta it fails for reading a value; the real run shows what is wrong with it."""
    assert "net.py:net does not run: KeyError: 'the real one'" == problem_of(FailsAfterAValue).message


def test_missing_operators_do_not_hide_what_failed_first() -> None:
    """That torchvision's operators are missing here is no news about the model."""
    problem = problem_of(LacksOperators)
    assert "Tensor.item() cannot be called on meta tensors" in problem.message
    assert "x.sum().item()" == problem.mark.text.strip()
    assert any("torchvision's operators cannot be loaded" in line for line in problem.help)


def test_meta_alone_points_to_a_real_run() -> None:
    """Where only meta was allowed, the help names the device that would do."""
    problem = problem_of(Branches, device="meta")
    assert ("omit --device, or run the model with --device cpu",) == problem.help


def test_a_model_that_leaves_python_is_a_message() -> None:
    """sys.exit in a forward does not end the command."""

    class Exits(nn.Module):
        """Leaves."""

        def forward(self, x: torch.Tensor) -> Any:
            raise SystemExit(5)

    assert "net.py:net does not run: it called sys.exit(5)" == problem_of(Exits).message


def test_a_model_that_calls_itself_is_a_message() -> None:
    """Python's own limit, in words."""

    class Endless(nn.Module):
        """Calls itself."""

        def forward(self, x: torch.Tensor) -> Any:
            return self(x)

    problem = problem_of(Endless)
    assert "RecursionError" in problem.message
    assert ("its forward recurses without end, or deeper than Python allows",) == problem.help


def test_exceptions_that_cannot_be_shown_are_named() -> None:
    """A message that fails itself is left out."""

    class Broken(Exception):  # noqa: N818
        """Has no text."""

        def __str__(self) -> str:
            raise RuntimeError("no text")

    class Raises(nn.Module):
        """Raises it."""

        def forward(self, x: torch.Tensor) -> Any:
            raise Broken

    assert "net.py:net does not run: Broken" == problem_of(Raises).message


def test_what_a_model_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is for the result."""

    class Prints(Conv):
        """Says what it does."""

        def __init__(self) -> None:
            super().__init__()
            print("made")

        def forward(self, x: torch.Tensor) -> Any:
            print("run")
            return self.conv(x)

    analyze(Prints)
    captured = capsys.readouterr()
    assert ("", "made\nrun\n") == (captured.out, captured.err)


@pytest.mark.parametrize(
    ("weight", "bias", "is_transposed", "groups"),
    [
        ((4, 3, 3), (5,), False, 1),
        ((4, 3, 3), (1, 4), False, 1),
        ((3, 4, 3), (5,), True, 1),
        ((6, 4, 3), (4,), True, 1),
        ((6, 4, 3), None, True, 3),
        ((3, 2, 3), (2,), True, 3),
    ],
)
def test_meta_refuses_a_convolution_as_the_cpu_does(
    weight: tuple[int, ...], bias: tuple[int, ...] | None, is_transposed: bool, groups: int
) -> None:
    """In the same words; torch's own meta kernel would take these."""
    said = []
    for device in ("cpu", "meta"):
        tensors = [None if shape is None else torch.zeros(shape, device=device) for shape in ((1, 3, 8), weight, bias)]
        convolve = nn.functional.conv_transpose1d if is_transposed else nn.functional.conv1d
        with pytest.raises(RuntimeError) as caught, Answers():
            convolve(*tensors, groups=groups)
        said.append(str(caught.value))
    assert said[0] == said[1]


# What no other way can mend ends the search.


class Raises(Conv):
    """Refuses its input in words of its own."""

    def forward(self, x: torch.Tensor) -> Any:
        if x.shape[-1] == 8:
            raise ValueError("eight is too small")
        return self.conv(x)


class Misspelt(Conv):
    """Has no such layer."""

    def forward(self, x: torch.Tensor) -> Any:
        return self.convolution(x)


class Undivided(Conv):
    """Fails in Python, where it computes with sizes."""

    def forward(self, x: torch.Tensor) -> Any:
        return self.conv(x) / (x.shape[-1] // (x.shape[-1] - 8))


class Asserts(Conv):
    """Checks a size."""

    def forward(self, x: torch.Tensor) -> Any:
        is_right = x.shape[1] == 4
        assert is_right, "four channels"


class RefusedByTorch(nn.Module):
    """A check that torch makes in Python, as it makes a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(7, 2)


class ChecksItsDevice(Conv):
    """Would run where it wants to."""

    def forward(self, x: torch.Tensor) -> Any:
        if x.device.type != "cpu":
            raise ValueError(f"not on {x.device}")
        return self.conv(x)


class HidesWhatItReads(Conv):
    """Says in its own words that a value could not be read."""

    def forward(self, x: torch.Tensor) -> Any:
        try:
            scale = x.sum().item()
        except RuntimeError as error:
            raise ValueError("bad input") from error
        return self.conv(x) * scale


def makings(make: Callable[[], Any]) -> tuple[int, str]:
    """How often a model is made until its error is shown, and the error."""
    made: list[None] = []

    def counted() -> Any:
        made.append(None)
        return make()

    try:
        analyze(counted)
    except SourceError as error:
        return len(made), error.diagnostics[0].message
    return len(made), ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Raises, "ValueError: eight is too small"),
        (Misspelt, "AttributeError: 'Misspelt' object has no attribute 'convolution'"),
        (Undivided, "ZeroDivisionError: "),
        (RefusedByTorch, "AssertionError: embed_dim must be divisible by num_heads"),
        (TwoInputs, "TypeError: TwoInputs.forward() missing 1 required positional argument: 'mask'"),
    ],
)
def test_what_the_model_raises_is_found_at_once(
    make: Callable[[], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made once, and not once for every way; to look for inputs that it runs on comes after that."""
    monkeypatch.setattr(trying, "suggest", lambda *_: ())
    made, found = makings(make)
    assert message in found
    assert made == 1


@pytest.mark.parametrize("make", [ChecksItsDevice, HidesWhatItReads])
def test_what_another_way_mends_does_not_end_the_search(make: Callable[[], Any]) -> None:
    """An error that a device or a missing value is the reason of."""
    made, found = makings(make)
    assert not found
    assert made > 1


def test_the_models_own_error_is_shown_where_no_real_run_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four gigabytes of weights do not hide it, nor does a constructor that reads values."""

    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.size = int(torch.tensor(8).item())
            self.layers = nn.Sequential(*(nn.Linear(4096, 4096) for _ in range(60)))

        def forward(self, x: torch.Tensor) -> Any:
            raise KeyError("the real one")

    monkeypatch.setattr(bounds, "available_memory", lambda: 2**20)
    monkeypatch.setattr(trying, "suggest", lambda *_: ())
    assert (2, "net.py:net does not run: KeyError: 'the real one'") == makings(Large)


def test_shapes_that_do_not_fit_need_no_real_run_of_a_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta says it too."""
    monkeypatch.setattr(failures, "SMALL_WEIGHTS", 0)
    recipe = Recipe("net", "net.py:net", "module", lambda: (Mismatch(), None))
    with pytest.raises(SourceError) as caught:
        counted.traced(recipe, inputs=("4",), counters="none")
    assert "a and b must have same reduction dim, but got [1, 4] X [5, 3]" in caught.value.diagnostics[0].message


def test_a_way_that_takes_too_much_memory_is_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is tried: fake tensors store nothing of what is asked of the CPU by name."""
    if bounds._filled_bytes() is None:
        pytest.skip("this system does not tell how much a process holds")
    monkeypatch.setattr(bounds.Filled, "EVERY", 1)
    monkeypatch.setattr(placing.Counting.__init__, "__defaults__", (2**28,))

    class StoresOnTheCpu(Conv):
        def __init__(self) -> None:
            super().__init__()
            self.tables = [torch.ones(2**22, device="cpu") for _ in range(40)]

    report = analyze(StoresOnTheCpu)
    assert 4 * 8 * 8 * 3 * 3 * 3 == report.totals.macs
    assert any("it needs too much memory" in note for note in report.model.notes)


@pytest.mark.parametrize("folder", ["lib/python3/dist-packages", "anywhere"])
def test_torchs_files_are_never_the_users(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is installed."""
    package = tmp_path / folder / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "functional.py").write_text("def read(x):\n    return x.item()\n")
    spec = importlib.util.spec_from_file_location("elsewhere", package / "functional.py")
    assert spec is not None
    assert spec.loader is not None
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "__file__", str(package / "__init__.py"))

        class Reads(Conv):
            def forward(self, x: torch.Tensor) -> Any:
                elsewhere.read(x.sum())
                return self.conv(x)

        note, *_ = analyze(Reads).model.notes
    assert "it reads values of tensors (" in note
    assert "test_run.py:" in note


SHAPES = {
    "rows": ((10, 16), (3, 16, 32), (3, 6, 10)),
    "slices": ((3, 10, 16), (3, 16, 32), None),
    "columns": ((3, 10, 16), (16, 12), (4, 8, 12)),
    "inner": ((10, 12), (12, 32), (4, 8, 12)),
    "odd strides": ((10, 5), (3, 5, 7), (3, 6, 10)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_grouped_products_are_answered_as_a_cpu_does(name: str, dtype: torch.dtype) -> None:
    """In every dtype that it takes, of which meta takes one; what lies unevenly in memory, both refuse."""
    left, right, ends = SHAPES[name]
    arguments = [torch.zeros(left, dtype=dtype), torch.zeros(right, dtype=dtype)]
    arguments += [] if ends is None else [torch.tensor(ends, dtype=torch.int32)]

    def answer(device: str) -> Any:
        try:
            found = torch._grouped_mm(*(argument.to(device) for argument in arguments))
        except RuntimeError:
            return "refused"
        return found.shape, found.dtype

    with Answers():
        found = answer("meta")
    assert answer("cpu") == found
    assert ("refused" == found) is (name == "odd strides" or (dtype is torch.bfloat16 and 12 in left + right))
