"""Counters on operators that take functions, on derivatives that go forward, and on runs that values decide."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from torch import nn

from convstat.api import analyze
from convstat.counters.causes import UNATTRIBUTED
from convstat.results.report import CounterRow

pytestmark = pytest.mark.filterwarnings("ignore")

Inputs = tuple[torch.Tensor, ...]


class Net(nn.Module):
    """Two linear layers, and what is done with them."""

    def __init__(self, forward: Callable[..., object]) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        self.second = nn.Linear(8, 8, bias=False)
        self.do = forward

    def forward(self, *args: torch.Tensor) -> object:
        return self.do(self, *args)


def operator(name: str) -> Callable[..., object]:
    """An operator of torch's that takes functions."""
    module = pytest.importorskip(f"torch._higher_order_ops.{name}")
    return getattr(module, name)  # type: ignore[no-any-return]


def mapped(net: Net, x: torch.Tensor) -> object:
    """A layer inside, and one outside."""
    return operator("map")(lambda row: net.first(row), net.second(x))


def mapped_first(net: Net, x: torch.Tensor) -> object:
    """The outer layer takes what the operator gives."""
    return net.second(operator("map")(lambda row: net.first(row), x))


def scanned(net: Net, x: torch.Tensor) -> object:
    """Steps that need each other."""
    return operator("scan")(lambda carry, row: (net.first(carry) + row, row * 1), torch.zeros(8), x)


def turned(net: Net, x: torch.Tensor) -> object:
    """Three turns."""
    start = (torch.tensor(0), x)
    return operator("while_loop")(lambda i, x: i < 3, lambda i, x: (i + 1, net.first(x)), start)


def chosen(net: Net, x: torch.Tensor) -> object:
    """One layer or two, by values."""
    return torch.cond(x.sum() > 0, lambda x: net.first(x), lambda x: net.second(net.first(x)), (x,))


def attended(_: Net, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> object:
    """Attention of a form of its own."""
    return import_module("torch.nn.attention.flex_attention").flex_attention(query, key, value)


def derived(net: Net, x: torch.Tensor) -> object:
    """The layer, and its derivative along x."""
    return torch.func.jvp(lambda x: torch.tanh(net.first(x)), (x,), (torch.ones_like(x),))


def multiplied(net: Net, x: torch.Tensor) -> object:
    """A product, and its derivative."""
    return torch.func.jvp(lambda x: torch.matmul(net.first(x), net.second.weight), (x,), (torch.ones_like(x),))


def converged(net: Net, x: torch.Tensor) -> object:
    """As many turns as it takes."""
    turns = 0
    while float(x.norm()) > 1e-3 and turns < 30:
        x, turns = net.first(x) * 0.5, turns + 1
    return x


def picked(net: Net, x: torch.Tensor) -> object:
    """The rows of which the sum is positive."""
    x = net.first(x)
    return net.second(x[x.sum(-1) > 0])


ROWS = (torch.ones(5, 8),)
HEADS = tuple(torch.rand(2, 4, 128, 16) for _ in range(3))
CASES: dict[str, tuple[Callable[..., object], Inputs]] = {
    "map": (mapped, ROWS),
    "map first": (mapped_first, ROWS),
    "scan": (scanned, ROWS),
    "while_loop": (turned, ROWS),
    "cond": (chosen, ROWS),
    "flex_attention": (attended, HEADS),
    "jvp of a layer": (derived, ROWS),
    "jvp of a product": (multiplied, ROWS),
    "converges": (converged, ROWS),
    "picks rows": (picked, ROWS),
}
UNFORESEEN = dict.fromkeys(("jvp of a layer", "jvp of a product"), ("fvcore", "torchprofile"))
"""Two of them run where their prediction, which traces the model once more, cannot be made."""


def rows(name: str) -> tuple[CounterRow, ...]:
    """All counters on a case."""
    torch.manual_seed(0)
    forward, inputs = CASES[name]
    return analyze(Net(forward), inputs, counters="all").counters


@pytest.mark.parametrize("name", CASES)
def test_all_of_a_difference_has_a_name(name: str) -> None:
    """A counter that answers is predicted to the unit, and each part of its difference is computed."""
    for row in rows(name):
        if row.status != "ok" or row.name in UNFORESEEN.get(name, ()):
            continue
        assert row.unexplained is not None
        assert (0, 0) == (row.unexplained.macs or 0, row.unexplained.params or 0), row.name
        assert UNATTRIBUTED not in {cause.code for cause in row.causes}, row.name
        assert row.predicted is not None, row.name


@pytest.mark.parametrize("name", ["map", "map first", "scan", "while_loop", "cond", "flex_attention"])
def test_counters_that_are_modes_fail_at_operators_that_take_functions(name: str) -> None:
    """And are predicted to."""
    answers = rows(name)
    said = " ".join(row.error or "" for row in answers)
    assert not [word for word in ("0x", "<class", "object at", "Hint") if word in said]
    failed = {row.name: row.is_foreseen for row in answers if row.status == "failed"}
    for counter in ("ptflops-aten", "torchscan"):
        assert failed.get(counter, True), counter
    assert failed.get("flopcountermode", name in ("map", "while_loop", "cond"))


def test_flopcountermode_sees_nothing_in_a_map() -> None:
    """5 rows of 8 x 8 are unseen, and as many outside are seen."""
    (row,) = (row for row in rows("map") if row.name == "flopcountermode")
    assert row.reported is not None
    assert row.reported.macs == 5 * 8 * 8
    assert [(cause.code, cause.macs) for cause in row.causes] == [("higher_order", -5 * 8 * 8)]


def test_the_derivatives_of_a_layer_are_a_cause_of_their_own() -> None:
    """Of three products of 5 x 8 x 8, counters of modules see one."""
    (row,) = (row for row in rows("jvp of a layer") if row.name == "ultralytics-thop")
    assert [(cause.code, cause.macs) for cause in row.causes] == [("derivative", -2 * 5 * 8 * 8)]
