"""torchprofile: what it said of every probe, what its rules are, and the real one on whatever can be traced."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from counted import analyze
from live import ask, installed
from probe_pool import Calls
from test_counters_fvcore import amounts
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convstat.counters import COUNTERS, Prediction
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.jit import torchprofile_walk as torchprofile_walk
from convstat.counters.measure import predict
from convstat.results.report import CounterRow
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")


def predicted(model: nn.Module, *inputs: torch.Tensor) -> Prediction:
    """Predict it, whether it is installed or not."""
    return predict(COUNTERS["torchprofile"], model, inputs, record(model, inputs))


def explained(row: CounterRow) -> None:
    """It answered, has no parameters, and the causes of the difference have names and come to the unit."""
    assert ("ok", None, 0) == (row.status, row.unexplained.params, row.unexplained.macs)
    assert UNATTRIBUTED not in {cause.code for cause in row.causes}
    assert row.difference.macs == sum(cause.macs for cause in row.causes)


def test_sizes_that_are_multiplied_cost_one_each() -> None:
    """Attention multiplies batch and heads three times for queries, keys and values, and rows and batch once."""
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    model, x = nn.Sequential(attention), torch.rand(2, 7, 16)
    model.forward = lambda x: attention(x, x, x)[0]  # type: ignore[method-assign]
    products = 2 * 7 * 16 * 3 * 16 + 2 * 4 * 7 * 7 * 4 * 2 + 2 * 7 * 16 * 16
    assert {None: products, "elementwise": 2 * 7 * 16, "size_products": 4} == amounts(predicted(model, x))


def _same(size: int, stride: int) -> int:
    """What is missing for a window of three: of tensors one way, of numbers another, as some do it."""
    if isinstance(size, torch.Tensor):
        return torch.clamp(((size / stride).ceil() - 1) * stride + 3 - size, min=0)  # type: ignore[unreachable]
    return max((math.ceil(size / stride) - 1) * stride + 3 - size, 0)


class _PaddedAsTensorFlow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = (_same(size, 2) for size in x.size()[-2:])
        return self.conv(F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)))


def test_a_size_is_taken_for_a_tensor() -> None:
    """As it is one in the graph: then paddings are computed of tensors, and each multiplies once."""
    image = torch.rand(1, 3, 11, 12)
    # Strides of two over eleven, of which two are missing, and over twelve, of which one is.
    macs = 6 * 6 * 4 * 3 * 3 * 3
    assert {None: macs, "size_products": 2} == amounts(predicted(_PaddedAsTensorFlow(), image))
    ask(_PaddedAsTensorFlow(), image, only=(installed("torchprofile"),))["torchprofile"].check("padding")


def _tensor(size: Any) -> torch.Tensor:
    return size if isinstance(size, torch.Tensor) else torch.tensor(size)


FRACTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "half of a size": lambda x: x[:, : int(x.shape[1] / 2)] * 2,
    "a size by a fraction": lambda x: x * (x.shape[1] * 0.5),
    "a fraction that is rounded": lambda x: x.new_zeros(int(torch.ceil(_tensor(x.shape[1] / 3)) * 2)) + x.mean(),
    "a number by a size": lambda x: x * (3 / x.shape[1] * x.shape[2]),
    "the root of a size": lambda x: x / math.sqrt(x.shape[1]) * torch.sqrt(_tensor(x.shape[2] / 4)),
    "limits of sizes": lambda x: x[:, : torch.clamp(torch.abs(_tensor(x.shape[1] * 2 - 20)), max=5)] * 2,
}


@pytest.mark.parametrize("how", FRACTIONS)
def test_arithmetic_on_sizes_is_that_of_tensors(how: str) -> None:
    """Each product of theirs costs one, if it stays part of the graph; the real one says which do."""
    model = Calls(lambda _, x: FRACTIONS[how](x))
    only = (installed("torchprofile"),)
    ask(model, torch.rand(1, 8, 10, 10), only=only)["torchprofile"].check(how)


def test_a_transposed_convolution_is_told_by_its_channels() -> None:
    """With as many in as out, it is taken for a plain one, and its groups count; else they do not."""
    image, places = torch.rand(1, 8, 5, 5), 10 * 10
    square = predicted(nn.ConvTranspose2d(8, 8, 2, stride=2, groups=4), image)
    other = predicted(nn.ConvTranspose2d(8, 16, 2, stride=2, groups=4), image)
    assert (8 * places * 2 * 2 * 2, 16 * places * 8 * 2 * 2) == (square.macs, other.macs)
    true = 8 * 5 * 5 * 2 * 2 * 2, 8 * 5 * 5 * 4 * 2 * 2
    assert {None: true[0], "transposed_output": 8 * places * 2 * 2 * 2 - true[0]} == amounts(square)
    assert {None: true[1], "transposed_output": 16 * places * 8 * 2 * 2 - true[1]} == amounts(other)


def test_a_norm_costs_one_where_it_scales() -> None:
    """And nothing where it does not."""
    image = torch.rand(2, 8, 5, 5)
    assert {"norm_affine": 2 * 8 * 5 * 5} == amounts(predicted(nn.BatchNorm2d(8), image))
    assert {} == amounts(predicted(nn.BatchNorm2d(8, affine=False), image))


def test_a_projected_state_is_taken_for_the_state() -> None:
    """Gates are as wide as the state, which it takes to be as narrow as the output."""
    sequence = torch.rand(5, 2, 8)
    projected = predicted(nn.LSTM(8, 12, proj_size=6), sequence)
    taken, true = 5 * 2 * 4 * 6 * (8 + 6), 5 * 2 * (4 * 12 * (8 + 6) + 6 * 12)
    assert {None: true, "projected_state": taken - true} == amounts(projected)
    assert 5 * 2 * 4 * 12 * (8 + 12) == predicted(nn.LSTM(8, 12), sequence).macs


def test_a_cell_multiplies_at_its_gates_as_far_as_they_are_used() -> None:
    """Of the three products of an LSTM cell one is for the hidden state alone, which may be left unused."""
    cell, x = nn.LSTMCell(8, 12), torch.rand(3, 8)
    both = amounts(predicted(cell, x))
    assert {None: 3 * 4 * 12 * (8 + 12), "rnn_elementwise": 3 * 3 * 12} == both
    model = nn.Sequential(cell)
    model.forward = lambda x: cell(x)[1]  # type: ignore[method-assign]
    assert {**both, "rnn_elementwise": 2 * 3 * 12} == amounts(predicted(model, x))


def test_a_wrong_rule_of_torchprofile_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear layer that costs seven is contradicted by the real tool."""
    installed("torchprofile")
    wrong = {**torchprofile_walk.RULES, "linear": lambda call: [(None, 7)]}
    monkeypatch.setattr(torchprofile_walk, "RULES", wrong)
    row = analyze("Linear(8, 16)", inputs=["8"], counters="torchprofile").counters[0]
    assert 8 * 16 - 7 == row.unexplained.macs
    assert UNATTRIBUTED in {cause.code for cause in row.causes}


def test_an_assertion_without_a_message_is_told_in_words() -> None:
    """Its rule for attention asserts as many heads; the row says so, and what would get an answer."""
    installed("torchprofile")

    class Grouped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True)

    answer = ask(Grouped(), torch.ones(1, 4, 3, 8), only=("torchprofile",))["torchprofile"]
    assert "the same number of heads" in str(answer.failure)
    assert "(AssertionError in _scaled_dot_product_attention); repeat keys" in str(answer.failure)
    assert "heads of queries, keys and values" in str(answer.prediction.failure)
