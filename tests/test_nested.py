"""Nested tensors: samples of different lengths in one tensor, jagged or strided."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convstat.api import analyze
from convstat.patches.dispatch import is_question
from convstat.patches.guard import EndlessError
from convstat.trace.placing import Counting

LENGTHS = (5, 9)


def nested(layout: torch.layout, width: int = 16) -> torch.Tensor:
    """One sample of each length."""
    return torch.nested.nested_tensor([torch.randn(length, width) for length in LENGTHS], layout=layout)


class Projected(nn.Module):
    """A linear layer on whatever comes."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(16, 16, bias=False)

    def forward(self, n: torch.Tensor) -> torch.Tensor:
        return self.q(n)


class Attending(nn.Module):
    """Attention of two heads among the positions of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(16, 16, bias=False)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        n = torch.nested.nested_tensor([a, b], layout=torch.jagged)
        q = self.q(n).unflatten(-1, [2, 8]).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(q, q, q)


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_a_linear_layer_multiplies_each_position_of_each_sample(layout: torch.layout) -> None:
    """(5 + 9) positions, each 16 x 16."""
    report = analyze(Projected(), nested(layout), counters="none")
    assert report.totals.macs == (5 + 9) * 16 * 16
    assert not report.uncounted


def test_attention_stays_inside_each_sample() -> None:
    """The scores of a sample are its length squared, and not that of all samples."""
    report = analyze(Attending(), (torch.randn(5, 16), torch.randn(9, 16)), counters="none")
    assert report.totals.macs == (5 + 9) * 16 * 16 + 2 * (5 * 5 + 9 * 9) * (8 + 8)
    assert not report.uncounted


def test_the_samples_are_the_inputs() -> None:
    """Each sample is shown with its own shape, by its place."""
    report = analyze(Projected(), nested(torch.strided), counters="none")
    assert [(each.name, each.shape) for each in report.model.inputs] == [("n[0]", (5, 16)), ("n[1]", (9, 16))]


MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(16, 16, bias=False)

    def forward(self, n):
        return self.q(n)


def net():
    return Net(), (torch.nested.nested_tensor([torch.randn(5, 16), torch.randn(9, 16)], layout=torch.jagged),)
"""


def test_the_process_outlives_a_jagged_tensor_with_every_counter(tmp_path: Path) -> None:
    """Its sizes are asked for by compiled code, which an exception cannot leave."""
    (tmp_path / "net.py").write_text(MODEL)
    command = [sys.executable, "-m", "convstat", "analyze", "net.py:net", "--counters", "default"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, "3,584" in done.stdout) == (0, True), done.stderr


class Asked(torch.Tensor):
    """A wrapper that is asked for all that it looks like."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Asked:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), device=inner.device, dispatch_sizes_strides_policy="sizes", dispatch_device=True
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inner = [value.inner if isinstance(value, Asked) else value for value in args]
        if func is torch.ops.prim.device.default:
            return inner[0].device
        return func(*inner, **(kwargs or {}))


def ask(tensor: torch.Tensor) -> list[Any]:
    """Ask a tensor for what it looks like."""
    return [
        *(tensor.dim(), tensor.size(), tensor.stride(), tensor.numel(), tensor.storage_offset()),
        *(tensor.is_contiguous(), tensor.is_contiguous(memory_format=torch.channels_last), tensor.device),
    ]


def ask_at_the_limit() -> None:
    """Ask while not one more kernel may run."""
    for tensor in (nested(torch.jagged), Asked(torch.ones(2, 3, 4, 5))):
        before = str(ask(tensor))
        with Counting("nothing", most=0):
            assert str(ask(tensor)) == before


def test_no_limit_is_reached_in_a_question_of_compiled_code() -> None:
    """The exception would end the process; so it is asked in one of its own."""
    code = "from tests.test_nested import ask_at_the_limit; ask_at_the_limit()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_a_kernel_is_no_question() -> None:
    """A limit is reached at a kernel."""
    assert is_question(torch.ops.aten.sym_size.default)
    assert not is_question(torch.ops.aten.mm.default)
    with pytest.raises(EndlessError, match="nothing"), Counting("nothing", most=0):
        torch.ones(2) + 1
