"""TensorFlow Lite's arithmetic count, operator by operator, as in the test of its converter."""

from __future__ import annotations

import pytest
import torch
from conventions import causes, meta, row
from torch import nn


class Function(nn.Module):
    """A function of one input."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "add":
            return x + x
        if self.kind == "add a vector":
            return x + x[0, 0]
        return {"sub": torch.sub, "mul": torch.mul, "div": torch.div}[self.kind](x, x)


def conv(inputs: int, outputs: int, groups: int = 1) -> nn.Module:
    """A convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)


CUBE = (10, 10, 10)
OPERATORS = {
    "conv_2d": (conv(3, 16), (256, 3, 32, 32), 230_686_720),
    "depthwise_conv_2d": (conv(32, 32, groups=32), (1, 32, 112, 112), 7_626_752),
    "fully_connected": (nn.Linear(37, 40), (1, 37), 3000),
    "add": (Function("add"), CUBE, 1000),
    "add, broadcast": (Function("add a vector"), CUBE, 1000),
    "sub": (Function("sub"), CUBE, 1000),
    "mul": (Function("mul"), CUBE, 1000),
    "div": (Function("div"), CUBE, 1000),
    "logistic": (nn.Sigmoid(), (10, 10), 6400),
    "log_softmax": (nn.LogSoftmax(-1), (10, 10), 6400),
    "softmax": (nn.Softmax(-1), (10, 10), 6400),
    "tanh": (nn.Tanh(), (10, 10), 6400),
    "max_pool_2d": (nn.MaxPool2d(3, 1, 1), (1, 3, 10, 10), 2700),
    "average_pool_2d": (nn.AvgPool2d(3, 1, 1), (1, 3, 10, 10), 2700),
    "transpose_conv": (nn.ConvTranspose2d(128, 32, 4, 2, 1, bias=False), (1, 128, 32, 42), 176_160_768),
}
"""Every operator of get-arithmetic-count.mlir that a network of torch has, and what is written there."""


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_counts_what_the_converters_test_says(operator: str) -> None:
    """To the operation; the MACs are half of that."""
    layer, shape, count = OPERATORS[operator]
    found = row("tflite", layer.to("meta"), meta(*shape))
    assert {"arithmetic_ops": count} == found.native
    assert count // 2 == found.shown.macs


def test_a_convolution_has_a_bias_after_conversion() -> None:
    """Its own, zeros, or that of the batch norm that follows it; ReLU costs nothing."""
    plain = 2 * 9 * 3 * 8 * 36
    for layers in (
        [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(3, 8, 3, padding=1, bias=False)],
        [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()],
    ):
        found = row("tflite", nn.Sequential(*layers).to("meta"), meta(1, 3, 6, 6))
        assert {"arithmetic_ops": plain + 8 * 36} == found.native


def test_a_batch_norm_that_follows_nothing_is_a_multiplication_and_an_addition() -> None:
    """It has no weights to be folded into."""
    found = row("tflite", nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)).to("meta"), meta(1, 3, 5, 5))
    assert {"arithmetic_ops": 2 * 3 * 25} == found.native


def test_halves_of_several_layers_add_up() -> None:
    """Three times five operations are fifteen, and seven MACs and a half."""
    model = nn.Sequential(*(nn.Linear(4, 5) for _ in range(1)), nn.Linear(5, 5), nn.Linear(5, 5)).to("meta")
    found = row("tflite", model, meta(1, 4))
    assert {"arithmetic_ops": 2 * (4 * 5 + 5 * 5 + 5 * 5) + 3 * 5} == found.native
    assert 4 * 5 + 2 * 5 * 5 + 7 == found.shown.macs
    assert {"bias": 3 * 2, "half_operations": 1} == causes(found)
