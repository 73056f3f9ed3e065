"""XLA's cost analysis: operators and layers as JAX and Flax answered, and they themselves where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conventions import causes, meta, predicted, row, taps_inside, taps_within
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


class Function(nn.Module):
    """A function of one input."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Recurrent(nn.Module):
    """A recurrent layer without its states."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(6, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def scaled(x: torch.Tensor) -> torch.Tensor:
    """Attention with scores that are divided."""
    return torch.softmax((x @ x.transpose(-1, -2)) / 12**0.5, -1) @ x


IMAGE, TOKENS, E = (1, 4, 10, 12), (2, 5, 8), 4 * 10 * 12
"""A small image and a few tokens, and the elements of the image."""

Jax = Callable[[Any, Any, Any], Any]
"""From jax, jax.numpy and flax.linen to a function of a picture, or a module for one with channels last."""

OPERATORS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int, Jax]] = {
    "relu": (nn.ReLU, IMAGE, E, 0, lambda j, n, f: j.nn.relu),
    "relu6": (nn.ReLU6, IMAGE, 2 * E, 0, lambda j, n, f: j.nn.relu6),
    "sigmoid": (nn.Sigmoid, IMAGE, 3 * E, E, lambda j, n, f: j.nn.sigmoid),
    "tanh": (nn.Tanh, IMAGE, 0, E, lambda j, n, f: n.tanh),
    "silu": (nn.SiLU, IMAGE, 4 * E, E, lambda j, n, f: j.nn.silu),
    "gelu": (nn.GELU, IMAGE, 66 * E, E, lambda j, n, f: lambda x: j.nn.gelu(x, approximate=False)),
    "gelu, tanh": (lambda: nn.GELU("tanh"), IMAGE, 8 * E, E, lambda j, n, f: lambda x: j.nn.gelu(x, approximate=True)),
    "elu": (nn.ELU, IMAGE, 4 * E, E, lambda j, n, f: j.nn.elu),
    "leaky": (nn.LeakyReLU, IMAGE, 3 * E, 0, lambda j, n, f: j.nn.leaky_relu),
    "prelu": (nn.PReLU, IMAGE, 3 * E, 0, lambda j, n, f: f.PReLU()),
    "hard swish": (nn.Hardswish, IMAGE, 5 * E, 0, lambda j, n, f: j.nn.hard_swish),
    "hard sigmoid": (nn.Hardsigmoid, IMAGE, 4 * E, 0, lambda j, n, f: j.nn.hard_sigmoid),
    "softplus": (nn.Softplus, IMAGE, 6 * E, 2 * E, lambda j, n, f: j.nn.softplus),
    "softmax": (lambda: nn.Softmax(-1), IMAGE, 4 * E - 40, E, lambda j, n, f: j.nn.softmax),
    "log softmax": (lambda: nn.LogSoftmax(-1), IMAGE, 4 * E - 40, E + 40, lambda j, n, f: j.nn.log_softmax),
    "add": (lambda: Function(lambda x: x + x), IMAGE, E, 0, lambda j, n, f: lambda x: x + x),
    "mul": (lambda: Function(lambda x: x * 2), IMAGE, E, 0, lambda j, n, f: lambda x: x * 2),
    "div": (lambda: Function(lambda x: x / (x + 1)), IMAGE, 2 * E, 0, lambda j, n, f: lambda x: x / (x + 1)),
    "square": (lambda: Function(lambda x: x**2), IMAGE, E, 0, lambda j, n, f: lambda x: x**2),
    "power": (lambda: Function(lambda x: x**1.7), IMAGE, 0, E, lambda j, n, f: lambda x: x**1.7),
    "exp": (lambda: Function(torch.exp), IMAGE, 0, E, lambda j, n, f: n.exp),
    "rsqrt": (lambda: Function(torch.rsqrt), IMAGE, 0, E, lambda j, n, f: j.lax.rsqrt),
    "mean": (lambda: Function(lambda x: x.mean((2, 3))), IMAGE, E, 0, lambda j, n, f: lambda x: x.mean((2, 3))),
    "sum": (lambda: Function(lambda x: x.sum(1)), IMAGE, E - 120, 0, lambda j, n, f: lambda x: x.sum(1)),
    "largest": (lambda: Function(lambda x: x.amax(1)), IMAGE, E - 120, 0, lambda j, n, f: lambda x: x.max(1)),
    "matmul": (
        lambda: Function(lambda x: x @ x.transpose(-1, -2)),
        IMAGE,
        2 * 4800,
        0,
        lambda j, n, f: lambda x: x @ x.swapaxes(-1, -2),
    ),
    "attention": (
        lambda: Function(scaled),
        IMAGE,
        2 * 9600 + 400 + 4 * 400 - 40,
        400,
        lambda j, n, f: lambda x: j.nn.softmax((x @ x.swapaxes(-1, -2)) / n.sqrt(12.0), -1) @ x,
    ),
    "dense": (lambda: nn.Linear(8, 4), TOKENS, 2 * 10 * 32 + 40, 0, lambda j, n, f: f.Dense(4)),
    "layer norm": (lambda: nn.LayerNorm(8), TOKENS, 7 * 80 + 4 * 10, 10, lambda j, n, f: f.LayerNorm()),
    "layer norm, no bias": (
        lambda: nn.LayerNorm(8, bias=False),
        TOKENS,
        6 * 80 + 4 * 10,
        10,
        lambda j, n, f: f.LayerNorm(use_bias=False),
    ),
}
"""A layer -> its input, the operations and functions that JAX 0.10.2 and Flax 0.12.8 answered, and how to ask them."""

CHANNELS_LAST: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int, Jax]] = {
    "convolution": (
        lambda: nn.Conv2d(4, 6, 3, padding=1),
        IMAGE,
        2 * 4 * 6 * 28 * 34 + 6 * 120,
        0,
        lambda j, n, f: f.Conv(6, (3, 3), padding=1),
    ),
    "convolution in groups": (
        lambda: nn.Conv2d(4, 6, 3, 2, 1, groups=2, bias=False),
        IMAGE,
        2 * 2 * 6 * 14 * 17,
        0,
        lambda j, n, f: f.Conv(6, (3, 3), 2, padding=1, feature_group_count=2, use_bias=False),
    ),
    "holes": (
        lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2, bias=False),
        IMAGE,
        2 * 4 * 6 * 26 * 32,
        0,
        lambda j, n, f: f.Conv(6, (3, 3), padding=2, kernel_dilation=2, use_bias=False),
    ),
    "batch norm": (
        lambda: nn.BatchNorm2d(4),
        IMAGE,
        3 * E + 2 * 4,
        4,
        lambda j, n, f: f.BatchNorm(use_running_average=True),
    ),
    "group norm": (
        lambda: nn.GroupNorm(2, 4),
        IMAGE,
        6 * E + 3 * 2 + 2 * 4,
        4,
        lambda j, n, f: f.GroupNorm(2),
    ),
    "max pool": (
        lambda: nn.MaxPool2d(2),
        IMAGE,
        3 * 120,
        0,
        lambda j, n, f: lambda x: f.max_pool(x, (2, 2), (2, 2)),
    ),
    "average pool": (
        lambda: nn.AvgPool2d(2),
        IMAGE,
        4 * 120,
        0,
        lambda j, n, f: lambda x: f.avg_pool(x, (2, 2), (2, 2)),
    ),
}
"""The same of layers whose channels are last in Flax."""

STEPS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int, Jax]] = {
    "lstm": (lambda: Recurrent(nn.LSTM), (2, 5, 6), 2 * 320 + 21 * 8 + 2, 5 * 8, lambda j, n, f: f.RNN(f.LSTMCell(4))),
    "lstm, longer": (lambda: Recurrent(nn.LSTM), (2, 9, 6), 810, 40, lambda j, n, f: f.RNN(f.LSTMCell(4))),
    "gru": (lambda: Recurrent(nn.GRU), (2, 5, 6), 2 * 240 + 18 * 8 + 2, 3 * 8, lambda j, n, f: f.RNN(f.GRUCell(4))),
}
"""Recurrent layers, whose loop counts once."""

ALL = {**OPERATORS, **CHANNELS_LAST, **STEPS}


@pytest.mark.parametrize("operator", ALL)
def test_every_operator_costs_what_jax_says(operator: str) -> None:
    """Its operations, of which MACs are half, and its transcendental functions."""
    make, shape, operations, functions, _ = ALL[operator]
    found = row("xla", make().to("meta"), meta(*shape))
    assert {"flops": operations, "transcendentals": functions} == found.native
    assert operations // 2 == found.shown.macs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("operator", ALL)
def test_jax_itself_says_so(operator: str) -> None:
    """Where it and Flax are installed."""
    jax, numpy = pytest.importorskip("jax"), pytest.importorskip("jax.numpy")
    linen = pytest.importorskip("flax.linen")
    _, shape, operations, functions, write = ALL[operator]
    layer = write(jax, numpy, linen)
    x = numpy.zeros(shape if operator not in CHANNELS_LAST else (shape[0], *shape[2:], shape[1]))
    if isinstance(layer, linen.Module):
        variables = layer.init(jax.random.key(0), x)
        cost = jax.jit(layer.apply).lower(variables, x).cost_analysis()
    else:
        cost = jax.jit(layer).lower(x).cost_analysis()
    assert (operations, functions) == (int(cost.get("flops", 0)), int(cost.get("transcendentals", 0)))


SIDES = st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))
"""Of a picture and a convolution on it: size, taps, stride, padding, dilation."""


@settings(max_examples=40)
@given(sides=st.lists(SIDES, min_size=1, max_size=3), groups=st.integers(1, 2), transposed=st.booleans())
def test_taps_count_where_they_are_inside(sides: list[tuple[int, ...]], groups: int, transposed: bool) -> None:
    """Of the input, and of a transposed convolution of the output, as naive loops find."""
    size, taps, stride, padding, dilation = (tuple(values) for values in zip(*sides, strict=True))
    kinds: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    reach = [d * (k - 1) + 1 for k, d in zip(taps, dilation, strict=True)]
    shape = (2, 2 * groups, *size)
    if transposed:
        if any((n - 1) * s + r - 2 * p < 1 for n, s, r, p in zip(size, stride, reach, padding, strict=True)):
            return
        layer = kinds[2 + len(sides)](
            2 * groups, 3 * groups, taps, stride, padding, groups=groups, bias=False, dilation=dilation, device="meta"
        )
        expected = taps_within(layer, shape)
    else:
        if any(n + 2 * p < r for n, p, r in zip(size, padding, reach, strict=True)):
            return
        layer = kinds[len(sides) - 1](
            2 * groups, 3 * groups, taps, stride, padding, dilation, groups, bias=False, device="meta"
        )
        expected = taps_inside(layer, shape)
    assert expected == predicted("xla", layer, meta(*shape)).macs


def test_a_loop_counts_once() -> None:
    """A recurrent layer of nine steps costs as much as one of five."""
    found = row("xla", Recurrent(nn.LSTM).to("meta"), meta(2, 9, 6))
    assert -8 * 2 * (6 * 16 + 4 * 16) == causes(found)["loop_once"]
