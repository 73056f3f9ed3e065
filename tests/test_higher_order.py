"""Operators that take functions, derivatives that go forward, and what a forward pass makes on its way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from convstat.api import analyze


class Net(nn.Module):
    """A linear layer of 8 x 8, and what is done with it."""

    def __init__(self, forward: Callable[..., object]) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
        self.do = forward

    def forward(self, *args: torch.Tensor) -> object:
        return self.do(self.linear, *args)


def operator(name: str) -> Callable[..., object]:
    """An operator of torch's that takes functions."""
    module = pytest.importorskip(f"torch._higher_order_ops.{name}")
    return getattr(module, name)


def macs(forward: Callable[..., object], *inputs: torch.Tensor, mode: str = "eval") -> int:
    """The MACs of a whole count, of which nothing is left out."""
    report = analyze(Net(forward), inputs, counters="none", mode=mode)
    assert not report.uncounted
    return report.totals.macs


def test_map_runs_its_function_for_each_row() -> None:
    """5 rows of 8 x 8."""
    assert macs(lambda linear, x: operator("map")(lambda row: linear(row), x), torch.rand(5, 8)) == 5 * 8 * 8


def test_scan_runs_its_function_for_each_step() -> None:
    """5 steps of 8 x 8, one after the other."""

    def forward(linear: nn.Module, x: torch.Tensor) -> object:
        def step(carry: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            carry = linear(carry) + row
            return carry, carry * 1

        return operator("scan")(step, torch.zeros(8), x)

    assert macs(forward, torch.rand(5, 8)) == 5 * 8 * 8


def test_cond_runs_a_branch_and_says_that_values_choose_it() -> None:
    """A condition on the input: the larger branch is an upper bound, and the report says what it rests on."""

    def forward(linear: nn.Module, x: torch.Tensor) -> object:
        return torch.cond(x.sum() > 0, lambda x: linear(x), lambda x: linear(linear(x)), (x,))

    report = analyze(Net(forward), torch.rand(5, 8), counters="none")
    assert (report.totals.macs, report.status) == (2 * 5 * 8 * 8, "upper_bound")
    assert any("reads values" in note for note in report.model.notes)


def test_while_loop_takes_as_many_turns_as_its_counter_says() -> None:
    """3 turns of 5 x 8 x 8; a counter that the model makes has values everywhere."""

    def forward(linear: nn.Module, x: torch.Tensor) -> object:
        start = (torch.tensor(0), x)
        return operator("while_loop")(lambda i, x: i < 3, lambda i, x: (i + 1, linear(x)), start)

    assert macs(forward, torch.rand(5, 8)) == 3 * 5 * 8 * 8


def test_flex_attention_is_attention() -> None:
    """Two products of 2 x 4 heads, 128 x 128 x 16; a function of the scores adds none."""
    flex = pytest.importorskip("torch.nn.attention.flex_attention").flex_attention
    given = [torch.rand(2, 4, 128, 16) for _ in range(3)]
    once = 2 * 4 * 128 * 128 * 16
    assert macs(lambda linear, q, k, v: flex(q, k, v), *given) == 2 * once
    causal = lambda score, b, h, q, k: torch.where(q >= k, score, -float("inf"))  # noqa: E731
    assert macs(lambda linear, q, k, v: flex(q, k, v, score_mod=causal), *given) == 2 * once


MAPPED = """
import torch
from torch import nn
from torch._higher_order_ops.map import map


class Mapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)

    def forward(self, x):
        return map(lambda row: self.linear(row), x)


def net():
    return Mapped(), (torch.zeros(5, 8),)
"""


def test_an_operator_that_loads_the_compiler_runs_as_it_is_written(tmp_path: Path) -> None:
    """In a process of its own, where nothing has loaded the compiler before: on meta at once."""
    (tmp_path / "net.py").write_text(MAPPED)
    command = [sys.executable, "-m", "convstat", "analyze", "net.py:net", "--counters", "none", "--device", "meta"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, " 320 " in done.stdout) == (0, True), done.stdout + done.stderr


def test_derivatives_that_go_forward_are_what_torch_multiplies() -> None:
    """The layer, its derivative along x, and that along the weight, which torch multiplies although it is zero."""

    def forward(linear: nn.Module, x: torch.Tensor) -> object:
        return torch.func.jvp(lambda x: torch.tanh(linear(x)), (x,), (torch.ones_like(x),))

    assert macs(forward, torch.rand(1, 8)) == 3 * 8 * 8


def test_what_is_scripted_in_a_forward_pass_is_scripted_as_ever() -> None:
    """Functions that are watched meanwhile are still those that a script knows."""
    module = import_module("odd_models")

    def forward(linear: nn.Module, x: torch.Tensor) -> object:
        return torch.jit.script(module.scriptable)(linear(x))

    assert macs(forward, torch.rand(1, 8)) == 8 * 8 + 8 * 8


def test_a_lazy_layer_that_is_never_called_trains_nothing() -> None:
    """It has no parameters as yet, of which a gradient could be asked."""
    model = Net(lambda linear, x: linear(x))
    model.lazy = nn.LazyLinear(4)
    report = analyze(model, torch.rand(3, 8), counters="none", mode="train")
    assert report.totals.macs == 2 * 3 * 8 * 8


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_a_pass_without_gradients_says_that_there_is_no_backward_pass(context: Callable[[], object]) -> None:
    """In train mode, what returns nothing with a gradient costs the forward pass alone, and a note says so."""

    def forward(linear: nn.Module, x: torch.Tensor) -> object:
        with context():
            return linear(x)

    report = analyze(Net(forward), torch.rand(3, 8), counters="none", mode="train")
    assert report.totals.macs == 3 * 8 * 8
    assert any("no backward pass" in note for note in report.model.notes)


class Late(nn.Module):
    """Makes a layer, and a layer inside a layer, in its first forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        self.late: nn.Module | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.late is None:
            self.late = nn.Sequential(nn.Linear(8, 4, bias=False))
        return self.late(self.first(x))


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_layer_that_the_first_pass_makes_is_the_models(device: str) -> None:
    """Its parameters are counted, and its row has its name."""
    report = analyze(Late(), torch.zeros(1, 8), counters="none", device=device)
    assert report.totals.params == 8 * 8 + 8 * 4
    assert [(row.name, row.params, row.macs) for row in report.layers] == [("first", 64, 64), ("late.0", 32, 32)]


def test_a_forward_that_is_a_generator_runs_to_its_end() -> None:
    """Nothing of it runs before somebody takes what it yields."""

    def forward(linear: nn.Module, x: torch.Tensor) -> Iterator[torch.Tensor]:
        for _ in range(3):
            x = linear(x)
            yield x

    assert macs(forward, torch.rand(2, 8)) == 3 * 2 * 8 * 8


def test_what_runs_inside_an_operator_has_a_backward_pass() -> None:
    """5 rows of 8 x 8 forwards, and as many for the gradient of the weight."""
    forward = lambda linear, x: operator("map")(lambda row: linear(row), x)  # noqa: E731
    assert macs(forward, torch.rand(5, 8), mode="train") == 2 * 5 * 8 * 8


def test_an_operator_that_is_given_what_has_a_gradient_runs_as_it_is_written() -> None:
    """Torch would make a graph of the function and of its derivative: 3 rows of 8 x 8, twice."""
    assert (
        macs(lambda linear, x: operator("map")(lambda row: linear(row), linear(x)), torch.rand(3, 8)) == 2 * 3 * 8 * 8
    )
