"""Work that torch's dispatcher does not see is said to be uncounted, and nothing else is."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import counted
import opaque_calls
import pytest
import torch
from opaque_calls import COMPILED, HAS_COMPILER, STYLES, Opaque
from torch import nn
from zoo_classifiers import classifiers

import convstat
from convstat import errors
from convstat.cli.run import run as run_command
from convstat.patches.doors import key_of
from convstat.results.report import Report
from convstat.targets import zoo
from convstat.trace.unseen import Watch, way_of

SEEN_BY_ITS_PARAMETER = {"meta_branch_of_zeros"}
"""What returns constants, without a look at any memory, can be told by a parameter that nothing read, and not else."""

needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="there is no compiler")


def analyze(model: Any, *shape: int, **options: Any) -> Report:
    """Count it on an input of that shape, which is all the input."""
    return convstat.analyze(model, inputs=torch.zeros(shape or (4, 8)), counters="none", **options)


def unseen(report: Report) -> dict[str, tuple[str, ...]]:
    """What is not counted, and in which layers."""
    return {item.op: item.layers for item in report.uncounted}


# Thirty styles and more.


@pytest.mark.parametrize("bare", [False, True], ids=["an activation", "a parameter"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_compiler if name in COMPILED else ()) for name in STYLES]
)
def test_no_style_of_opaque_call_passes_unseen(name: str, bare: bool) -> None:
    """The count is incomplete, names the layer, and holds what was seen: the Linear before it."""
    if name in SEEN_BY_ITS_PARAMETER and not bare:
        pytest.skip("it returns constants and reads nothing")
    report = analyze(Opaque(STYLES[name], bare=bare))
    assert "incomplete" == report.status
    assert 4 * 8 * 8 == report.totals.macs
    assert {"inner", "(root)"} & {layer for layers in unseen(report).values() for layer in layers}


def test_there_are_thirty_styles() -> None:
    """And as many as there are, none twice."""
    assert len(STYLES) >= 30


def test_a_model_without_such_a_call_is_complete() -> None:
    """The same model, with a product that is seen: what the test above finds is what it is meant to find."""
    report = analyze(Opaque(lambda x, w: x @ w, bare=True))
    assert ("complete", 2 * 4 * 8 * 8) == (report.status, report.totals.macs)


def test_a_weight_that_was_moved_to_meta_has_no_address() -> None:
    """Compiled code that asks for it, past what Python can see, gets an exception: at address zero it would crash."""
    asked: list[object] = []

    def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        try:
            asked.append(torch._C.TensorBase.data_ptr(w))
        except RuntimeError as error:
            asked.append(type(error))
        return x

    analyze(Opaque(product, bare=True))
    assert RuntimeError is asked[0]


@needs_compiler
def test_a_compiled_function_that_is_given_tensors_is_seen() -> None:
    """Whatever it does with them: in C++ it needs no function of Python's to come to their memory."""

    def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(4, 8)
        opaque_calls.extension().take(x, y)
        return y

    assert {"opaque_ext.take": ("inner",)} == unseen(analyze(Opaque(product), device="cpu"))


def test_memory_that_is_freed_is_not_taken_for_what_gets_its_address() -> None:
    """The address of a storage is given to no other one while a pass is watched; else it soon is."""

    def addresses(*, watched: bool) -> set[int | None]:
        watch = Watch(int, bool, is_real=True)
        found = set()
        for _ in range(100):
            tensor = torch.ones(3)
            found.add(key_of(tensor))
            if watched:
                watch.writes("aten.ones", way_of(torch.ops.aten.ones.default, "aten.ones"), (), {}, tensor)
            del tensor
        watch.end()
        return found

    assert 100 == len(addresses(watched=True)) > len(addresses(watched=False))


@pytest.mark.verify
@needs_compiler
def test_a_function_of_pybind_that_takes_addresses_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled against torch: it makes its own zeros, by an operator, and writes to them by hand."""
    pytest.importorskip("ninja", reason="torch compiles extensions with ninja")
    from torch.utils import cpp_extension

    extension = cpp_extension.load_inline(
        "convstat_opaque_pybind",
        """
        at::Tensor product(at::Tensor x, at::Tensor w) {
            auto y = at::zeros({4, 8}, x.options());
            const float *a = x.data_ptr<float>(), *b = w.data_ptr<float>();
            float *c = y.data_ptr<float>();
            for (int i = 0; i < 4; i++) for (int j = 0; j < 8; j++) for (int k = 0; k < 8; k++)
                c[8 * i + j] += a[8 * i + k] * b[8 * k + j];
            return y;
        }
        """,
        functions=["product"],
        build_directory=str(tmp_path),
    )
    report = analyze(Opaque(extension.product))
    assert unseen(report) == {"convstat_opaque_pybind.product": ("inner",)}


# What is said, and what it does.


def test_the_function_and_the_layer_are_named() -> None:
    """By its dotted name, under which it can be given a rule."""
    report = analyze(Opaque(STYLES["numpy_and_back"]))
    (item,) = report.uncounted
    assert ("torch.Tensor.numpy in opaque_calls._numpy_and_back", 2, ("inner",)) == (item.op, item.calls, item.layers)


def test_a_parameter_that_nothing_read_is_named_by_its_path() -> None:
    """On meta too, where a function may only say what its result looks like."""
    report = analyze(Opaque(STYLES["meta_branch_of_zeros"], bare=True))
    assert {"unseen read of inner.weight": ("inner",)} == unseen(report)
    assert "meta" == report.model.device


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("name", ["item", "tolist"])
def test_values_that_are_answered_for_do_not_come_back_unseen(name: str, on_device: bool) -> None:
    """Of a model that is too large for a real run: each number read, and a tensor made of them."""

    class Large(nn.Module):
        """Has 4.8 GB of weights, and reads 32 numbers."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.large = nn.Parameter(torch.empty(60_000, 20_000))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Read them."""
            y = self.linear(x)
            numbers = y.tolist() if name == "tolist" else [2 * value.item() for value in y.flatten()]
            return torch.tensor(numbers, device=x.device if on_device else None) + 1

    report = convstat.analyze(Large, inputs=torch.zeros(4, 8), counters="none")
    assert ["meta", "incomplete"] == [report.model.device, report.status]
    (item,) = report.uncounted
    assert item.op.startswith(f"torch.Tensor.{name} in ")


NET = """
import numpy, torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)

    def forward(self, x):
        return torch.from_numpy(self.first(x).detach().numpy() ** 2) + 1
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the command line; its exit code, and all that it wrote."""
    code = run_command(arguments)
    out = capsys.readouterr()
    return code, out.out + out.err


def test_the_command_line_exits_with_4_and_says_how_to_give_a_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check`, and `analyze --strict`; without it `analyze` says the same and exits with 0."""
    (tmp_path / "net.py").write_text(NET)
    target = f"{tmp_path}/net.py:Net"
    options = (target, "--input", "8")
    for arguments, expected in (
        (("analyze", *options, "--counters", "none"), 0),
        (("analyze", *options, "--counters", "none", "--strict"), 4),
        (("check", *options, "--max", "macs=1M"), 4),
    ):
        code, text = run(capsys, *arguments)
        assert expected == code, text
        assert "torch.Tensor.numpy in" in text
        assert "convstat docs rules" in text
    code, text = run(capsys, "analyze", *options, "--counters", "none", "-f", "json")
    found = json.loads(text[text.index("{") :])
    assert "incomplete" == found["status"]
    assert ["(root)"] == found["uncounted"][0]["layers"]


# Nothing else is said.


class Legitimate(nn.Module):
    """Holds parameters and buffers, and does with them what a function of the test does."""

    def __init__(self, forward: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(8))
        self.matrix = nn.Parameter(torch.ones(8, 8))
        self.register_buffer("table", torch.zeros(8, dtype=torch.int64))
        self.plain = torch.ones(8)
        self.kept = {"a": [torch.ones(8)]}
        self.run = forward

    def forward(self, x: torch.Tensor) -> Any:
        """Do it."""
        return self.run(self, x)


@pytest.fixture(scope="module", autouse=True)
def constant() -> None:
    """A constant of this file, made when its tests begin: what was made before they were collected is frozen."""
    globals()["CONSTANT"] = torch.ones(8)


def _with_out(self: Any, x: torch.Tensor) -> Any:
    y = torch.empty_like(x)
    torch.mul(x, 2, out=y)
    return y


def _partly(self: Any, x: torch.Tensor) -> Any:
    y = x.new_empty(4, 16)
    y[:, :8] = x
    y[:, 8:] = 1
    return y


def _random(self: Any, x: torch.Tensor) -> Any:
    return x * x.new_empty(4, 1).bernoulli_(0.5)


def _by_lists(self: Any, x: torch.Tensor) -> Any:
    sizes = self.table.add(1).tolist() if not x.is_meta else [1] * 8
    return torch.cat(x.split(sizes, 1)[:4], 1)


def _threads(self: Any, x: torch.Tensor) -> Any:
    import threading

    found: list[torch.Tensor] = []
    worker = threading.Thread(target=lambda: found.append(x @ self.matrix))
    worker.start()
    worker.join()
    return found[0] + 1


def _copies(self: Any, x: torch.Tensor) -> Any:
    import copy

    return copy.copy(x) + copy.deepcopy(x.detach())


def _set(self: Any, x: torch.Tensor) -> Any:
    return torch.empty(0, device=x.device).set_(x.detach()) * 2


LEGITIMATE: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "a parameter asked for its dtype": lambda self, x: x.to(self.p.dtype),
    "a parameter asked whether it is there": lambda self, x: x * 2 if self.p is not None else x,
    "a parameter that gives its shape": lambda self, x: x.sum(0).expand_as(self.p),
    "a parameter that zeros are like": lambda self, x: x + torch.zeros_like(self.p),
    "a parameter that is not looked up": lambda self, x: x * 2,
    "a view of a parameter": lambda self, x: x @ self.matrix.t()[:, :4],
    "the data of a parameter": lambda self, x: x @ self.matrix.data,
    "a detached parameter": lambda self, x: x * self.p.detach(),
    "a parameter read by a linear": lambda self, x: nn.functional.linear(x, self.matrix, self.p),
    "a row of a parameter": lambda self, x: x + nn.functional.embedding(self.table, self.matrix)[0],
    "numbers": lambda self, x: x + torch.tensor([1.0] * 8),
    "numbers on its device": lambda self, x: x + torch.tensor([1.0] * 8, device=x.device),
    "new numbers": lambda self, x: x + x.new_tensor([1.0] * 8),
    "places": lambda self, x: x[:, [0, 2, 1]],
    "a constant of the module": lambda self, x: x + self.plain.to(x.device) + self.kept["a"][0].to(x.device),
    "a constant of the file": lambda self, x: x + globals()["CONSTANT"].to(x.device),
    "an array": lambda self, x: x + torch.from_numpy(globals()["CONSTANT"].numpy()).to(x.device),
    "an array of a formula": lambda self, x: x + torch.from_numpy(torch.arange(8.0).numpy() ** 2).to(x.device),
    "memory written by out": _with_out,
    "memory written in parts": _partly,
    "memory filled at random": _random,
    "memory that is scaled by zero": lambda self, x: torch.addmm(
        torch.empty(8, device=x.device), x, self.matrix, beta=0
    ),
    "sizes in a list": _by_lists,
    "another thread": _threads,
    "copies": _copies,
    "a storage set": _set,
    "nothing": lambda self, x: torch.cat([x, x.new_empty(4, 0)], 1),
    "an array returned": lambda self, x: None if x.is_meta else (x * 2).detach().numpy(),
    "a masked fill": lambda self, x: x.masked_fill(x > 0, float("-inf")).nan_to_num(),
    "a where": lambda self, x: torch.where(x > 0, x, 0.0),
    "a packed sequence": lambda self, x: nn.utils.rnn.pad_sequence(x.unbind(0)),
}


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("name", LEGITIMATE)
def test_what_is_legitimate_raises_no_alarm(name: str, device: str) -> None:
    """On tensors without values and on real ones."""
    report = analyze(Legitimate(LEGITIMATE[name]), device=device)
    assert ({}, "complete") == (unseen(report), report.status)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "a batch norm": lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)),
    "parametrized": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)),
    "an old weight norm": lambda: nn.utils.weight_norm(nn.Linear(8, 8)),
    "a transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "an LSTM": lambda: nn.LSTM(8, 8),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU())),
    "traced": lambda: torch.jit.trace(nn.Sequential(nn.Linear(8, 8), _AddsConstant()), torch.zeros(4, 8)),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval())),
    "pruned": lambda: _pruned(),
}


class _AddsConstant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tensor([1.0, 2.0] * 4)


def _pruned() -> nn.Module:
    from torch.nn.utils import prune

    linear = nn.Linear(8, 8)
    prune.l1_unstructured(linear, "weight", 0.5)
    return linear


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_torch_raises_no_alarm(name: str, mode: str) -> None:
    """In evaluation, and in training with its backward pass."""
    if name in ("scripted", "traced", "frozen") and mode == "train":
        pytest.skip("it cannot be trained here")
    for device in ("auto", "cpu"):
        assert {} == unseen(analyze(MODULES[name](), device=device, mode=mode))


def test_tied_weights_raise_no_alarm() -> None:
    """What one module reads is read for the other."""
    linear, other = nn.Linear(8, 8), nn.Linear(8, 8)
    other.weight = linear.weight
    assert {} == unseen(analyze(nn.Sequential(linear, other)))


SAMPLE = ("alexnet", "mobilenet_v2", "vit_b_32", "swin_t")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.verify) for name in classifiers()]
)
def test_no_network_of_torchvision_raises_a_false_alarm(name: str, torchvision: Any) -> None:
    """All 79 for the classification of pictures."""
    assert "complete" == counted.analyze(f"torchvision/{name}", counters="none").status


def families() -> list[str]:
    """A hundred models of timm, of as many files as there are: the shortest name of each, then the next."""
    seen: dict[str, list[str]] = {}
    for name in sorted(zoo.names("timm"), key=lambda name: (len(name), name)):
        seen.setdefault(re.split(r"[_\d]", name)[0], []).append(name)
    rounds = [names[turn] for turn in range(20) for names in seen.values() if turn < len(names)]
    return rounds[:100]


@pytest.mark.verify
@pytest.mark.parametrize("name", families())
def test_no_model_of_timm_raises_a_false_alarm(name: str, torchvision: Any) -> None:
    """A hundred, where it is installed."""
    pytest.importorskip("timm", reason="timm is not installed", exc_type=ImportError)
    assert "complete" == counted.analyze(f"timm/{name}", counters="none").status


def test_a_hundred_models_of_timm_are_looked_at() -> None:
    """All of them different."""
    assert 100 == len(set(families()))


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parent.parent.glob("configs/*.yaml")), ids=lambda path: path.stem
)
@pytest.mark.verify
def test_no_example_raises_a_false_alarm(path: Path) -> None:
    """Each, as the torch model that counters run: traced, and so watched."""
    assert "complete" == counted.analyze(str(path), counters="none", mode="train").status


class Told(torch.Tensor):
    """A tensor of a class of its own."""


@pytest.mark.parametrize("kind", [torch.Tensor, nn.Parameter, Told], ids=lambda kind: kind.__name__)
def test_a_constant_of_any_kind_of_tensor_is_known(kind: type[torch.Tensor]) -> None:
    """It was there before the pass, wherever it is kept: nobody need have seen how it was made."""
    constant = nn.Parameter(torch.ones(8)) if kind is nn.Parameter else torch.ones(8).as_subclass(kind)

    class Keeps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * constant

    assert "complete" == analyze(Keeps(), device="cpu").status


# The process is left as it was.


def test_nothing_stays_replaced() -> None:
    """Not what the doors are, and neither a profiler nor a finder."""
    names = ("numpy", "data_ptr", "tolist", "__dlpack__", "__reduce_ex__", "__cuda_array_interface__")
    before = [vars(torch.Tensor).get(name) for name in names], nn.Module.__getattr__, [*sys.meta_path], sys.getprofile()
    with pytest.raises(errors.SourceError):
        analyze(Opaque(lambda x, w: x @ w @ x))
    analyze(Opaque(opaque_calls.STYLES["numpy_and_back"]))
    after = [vars(torch.Tensor).get(name) for name in names], nn.Module.__getattr__, [*sys.meta_path], sys.getprofile()
    assert before == after
