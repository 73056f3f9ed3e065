"""The report of ST's tools for microcontrollers, as published for whole networks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from conventions import causes, meta, row
from torch import nn


def dense(*widths: int, last: nn.Module | None = None) -> nn.Sequential:
    """Linear layers, with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *([last] if last else []))


def separable(inputs: int, outputs: int) -> list[nn.Module]:
    """A depthwise and a pointwise convolution with ReLU."""
    return [nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs), nn.Conv2d(inputs, outputs, 1), nn.ReLU()]


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "a dense layer of 1120 x 128": (nn.Linear(40 * 28, 128), (1, 40 * 28), 128 * 40 * 28 + 128),
    # conv2d_1 4,968 nl 992 pool 992 conv2d_7 23,056 nl 960 pool 960 gemm 7,696 nl 16 gemm 51 nl 45
    "convolutions over time, in float32": (
        nn.Sequential(
            *(nn.Conv1d(1, 8, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 16, 3), nn.ReLU(), nn.MaxPool1d(2)),
            *(nn.Flatten(), nn.Linear(480, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(-1)),
        ),
        (1, 1, 128),
        39_736,
    ),
    # gemm 384 nl 64 gemm 4,160 nl 64 gemm 325 nl 75
    "three dense layers and a softmax": (dense(5, 64, 64, 5, last=nn.Softmax(-1)), (1, 5), 5_072),
    # dense 192 nl 32 dense 2,112 nl 64 dense 8,320 nl 128 dense 645 nl 75
    "four dense layers and a softmax": (dense(5, 32, 64, 128, 5, last=nn.Softmax(-1)), (1, 5), 11_568),
    # dense 32, dense 1088, nl 64, dense 65, sigmoid 10
    "a sigmoid": (
        nn.Sequential(nn.Linear(1, 16), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid()),
        (1, 1),
        1_259,
    ),
}
"""Networks whose reports are published, layer by layer, with their MACC."""


@pytest.mark.parametrize("network", NETWORKS)
def test_a_published_report_comes_out(network: str) -> None:
    """To the operation."""
    model, shape, count = NETWORKS[network]
    assert count == row("stm32", model.to("meta"), meta(*shape)).shown.macs


def test_separable_convolutions_are_as_in_their_report() -> None:
    """Layer by layer; what the report also counts for a change of the layout is no operator of the network."""
    report = {
        "0": 7_057, "1-3": 37_648, "4": 28_240, "5-7": 84_696, "8": 10_608, "9": 37_664, "10": 1_568, "12": 200_832,
        "13": 128, "14": 8_256, "15": 64, "16": 650,
    }  # fmt: skip
    model = nn.Sequential(
        *(*separable(1, 16), nn.MaxPool2d(2), *separable(16, 24), nn.MaxPool2d(2), *separable(24, 32), nn.Flatten()),
        *dense(32 * 7 * 7, 128, 64, 10),
    )
    total = row("stm32", model.to("meta"), meta(1, 1, 28, 28)).shown.macs
    assert sum(report.values()) == total


def test_a_batch_norm_becomes_the_bias_of_the_convolution_before_it() -> None:
    """One operation per channel, whether the convolution had a bias or not."""
    for bias in (True, False):
        model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8)).to("meta")
        found = row("stm32", model, meta(1, 3, 6, 6))
        assert {"bias_channels": 8} == causes(found)
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)).to("meta")
    assert {"bias": 4} == causes(row("stm32", model, meta(1, 6)))
