"""Peers on Python models: every one is a row, every difference has named causes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import counted
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from odd_models import ODD, Branches, Conv
from torch import nn

from convstat.counters.base import CounterFailure
from convstat.counters.inputs import Inputs, by_name, by_position, keywords_of
from convstat.results.report import CounterRow, Report
from convstat.trace.recipe import Example, Recipe

PEERS = ("ptflops", "ptflops-aten", "torchsummary")


def analyze(make: Callable[[], Any], *inputs: str, example: Callable[[], Example] | None = None) -> Report:
    """Count what a function makes, with all peers."""
    recipe = Recipe("net", "net.py:net", "module", lambda: (make(), example() if example else None))
    return counted.traced(recipe, inputs=inputs, counters="all")


def check(report: Report, *, but: tuple[str, ...] = ()) -> dict[str, CounterRow]:
    """All peers have rows; a failed one has a reason, and of the others nothing is unexplained."""
    rows = {row.name: row for row in report.counters}
    assert set(PEERS) <= set(rows)
    for row in rows.values():
        if row.status != "ok":
            assert row.error
            continue
        assert row.unexplained is not None
        assert row.difference is not None
        if row.name in but:
            continue
        assert (0, 0) == (row.unexplained.params or 0, row.unexplained.macs or 0), row.name
        assert "unattributed" not in [cause.code for cause in row.causes], (row.name, row.causes)
        for figure in ("params", "macs"):
            difference = getattr(row.difference, figure)
            assert difference is None or difference == sum(getattr(cause, figure) for cause in row.causes), row.name
    return rows


NETS = (
    "resnet18",
    "vit_b_16",
    "swin_t",
    "densenet121",
    "googlenet",
    "inception_v3",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "regnet_y_400mf",
    "convnext_tiny",
    "maxvit_t",
    "efficientnet_b0",
)


@pytest.mark.parametrize("name", NETS)
def test_causes_sum_to_the_difference_on_torchvision(name: str) -> None:
    """Functional forms, shared modules, containers with parameters of their own: nothing is unattributed."""
    report = counted.analyze(f"torchvision/{name}")
    rows = {row.name: row for row in report.counters}
    assert {"ptflops", "torchsummary"} == set(rows)
    assert "ok" == rows["ptflops"].status
    for row in rows.values():
        if row.status == "ok":
            assert row.unexplained is not None
            assert (0, 0) == (row.unexplained.params or 0, row.unexplained.macs or 0), row.name
            assert "unattributed" not in [cause.code for cause in row.causes], row.name
        else:
            assert row.error


SEES_LESS = {
    # The real tool sees an operator that only stands for others, and prices none of those.
    "SwitchesModes": ("ptflops-aten",),
    # Its modes are of one thread.
    "RunsInAThread": ("ptflops-aten", "flopcountermode"),
    # Not predicted: what these make of packed weights, and of modules that torch.jit has compiled.
    "Quantizes": ("torchinfo", "ultralytics-thop"),
    "scripted": ("ultralytics-thop",),
    "traced": ("ultralytics-thop",),
}


@pytest.mark.parametrize("name", [name for name in ODD if name != "Deforms"])
def test_no_odd_model_ends_it(name: str) -> None:
    """Where a peer fails, its row says why; where it answers, the difference is explained."""
    odd = ODD[name]
    check(analyze(odd.make, *odd.inputs), but=SEES_LESS.get(name, ()))


class KeywordsOnly(nn.Module):
    """Takes its inputs by name only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, *, x: torch.Tensor, scale: torch.Tensor | None = None) -> Any:
        return self.layer(x) * scale


def test_inputs_by_name_only_reach_the_peers_that_take_names() -> None:
    """ptflops does; torchsummary says that it does not."""
    rows = check(analyze(KeywordsOnly, "x=4", "scale=[4]"))
    assert ("ok", "ok", "failed") == tuple(rows[name].status for name in PEERS)
    assert "it passes positional inputs, but 'x' of this model is keyword-only" == rows["torchsummary"].error


class Nested(nn.Module):
    """Takes a dict and a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, batch: dict[str, torch.Tensor], more: list[torch.Tensor]) -> Any:
        return self.layer(batch["x"]) @ more[0]


def test_nested_inputs_reach_the_peers_that_take_them() -> None:
    """As they are; a peer that makes its inputs itself says what it cannot make."""
    rows = check(analyze(Nested, example=lambda: Example(({"x": torch.zeros(2, 4)}, [torch.zeros(4, 3)]))))
    assert ("ok", "ok", "failed") == tuple(rows[name].status for name in PEERS)
    assert rows["torchsummary"].error is not None
    assert "takes a dict" in rows["torchsummary"].error


def test_arguments_stand_where_forward_has_them() -> None:
    """Names become places, with the defaults between them, and places names, each where a tool wants it so."""

    class Net(nn.Module):
        """Has everything."""

        def forward(self, a: Any, b: Any = 2, c: Any = 3, *, d: Any = 4) -> None:
            pass

    class Unnamed(nn.Module):
        """Has no names for what it takes."""

        def forward(self, a: Any, /, *rest: Any) -> None:
            pass

    assert (1, 2, 30) == by_position(Net(), Inputs.of((1,), {"c": 30}))
    assert (1, 20) == by_position(Net(), (1, 20))
    assert {"a": 1, "b": 20, "d": 40} == dict(keywords_of(by_name(Net(), Inputs.of((1, 20), {"d": 40}))))
    for inputs, name in ((Inputs.of((1,), {"c": 30, "d": 40}), "d"), (Inputs.of((), {"c": 30}), "c")):
        with pytest.raises(CounterFailure, match=f"'{name}' of this model is keyword-only"):
            by_position(Net(), inputs)
    for values in ((1,), (1, 2)):
        with pytest.raises(CounterFailure, match="positional-only"):
            by_name(Unnamed(), values)


def test_peers_run_for_real_where_the_model_does() -> None:
    """The model reads values, so they run on the CPU."""
    rows = check(analyze(Branches, "3x8x8"))
    assert {"cpu"} == {row.device for row in rows.values() if row.status == "ok"}


def test_a_model_that_cannot_be_made_again_is_a_row() -> None:
    """ptflops' aten backend needs attention on the CPU, and there the model does not get made."""

    class Once(nn.Module):
        """Only made on meta."""

        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            if self.attention.in_proj_weight.device.type != "meta":
                raise ValueError("too large for a real device")

        def forward(self, x: torch.Tensor) -> Any:
            return self.attention(x, x, x)[0]

    rows = check(analyze(Once, "Nx4x8"))
    assert ("ok", "failed") == (rows["ptflops"].status, rows["ptflops-aten"].status)
    assert "the model cannot be created on the cpu: " in str(rows["ptflops-aten"].error)
    assert "too large for a real device" in str(rows["ptflops-aten"].error)


class Functional(nn.Module):
    """The functional forms of all that a net is made of, and operators."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(4, 3, 3, 3))
        self.weight = nn.Parameter(torch.zeros(5, 4), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, x: torch.Tensor) -> Any:
        y = F.relu(F.conv2d(x, self.kernel, padding=1))
        y = F.interpolate(F.max_pool2d(y, 2), scale_factor=2)
        y = F.linear(y.mean((2, 3)), self.weight, self.bias)
        return F.softmax(y @ self.weight @ self.weight.T, -1) * 2 + torch.matmul(y, self.weight).sum()


class Shared(nn.Module):
    """One layer called three times, once by its other name, and one held twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.again = self.first
        self.block = nn.Sequential(nn.BatchNorm2d(3), self.first)
        self.frozen = nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.never = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.frozen(self.block(self.again(self.first(x))))


class Wider(nn.Conv2d):
    """A subclass, which tools that compare types do not see."""


class Subclasses(nn.Module):
    """Subclasses of layers, one nested in a container with a parameter of its own."""

    class Holder(nn.Sequential):
        """A container that holds a parameter."""

        def __init__(self, *parts: nn.Module) -> None:
            super().__init__(*parts)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x) * self.scale

    def __init__(self) -> None:
        super().__init__()
        self.stem = Wider(3, 4, 3)
        self.body = self.Holder(Wider(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self.stem(x))


class Hidden(nn.Module):
    """A layer in a plain list, and one that is made as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.hidden = [nn.Conv2d(3, 3, 3)]

    def forward(self, x: torch.Tensor) -> Any:
        return nn.Conv2d(3, 2, 1)(self.hidden[0](self.conv(x)))


@pytest.mark.parametrize("make", [Conv, Functional, Shared, Subclasses, Hidden])
@pytest.mark.parametrize("batch", [1, 3])
def test_hand_written_models_are_explained(make: type[nn.Module], batch: int) -> None:
    """Functional forms, shared modules, frozen weights, subclasses, what is not registered; whatever the batch."""
    recipe = Recipe("net", "net.py:net", "module", lambda: (make(), None))
    rows = check(counted.traced(recipe, inputs=["3x8x8"], counters="all", batch=batch))
    assert ("ok", "ok") == (rows["ptflops"].status, rows["ptflops-aten"].status)
