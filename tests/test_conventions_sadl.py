"""SADL counts the multiplications that its loops execute."""

from __future__ import annotations

import torch
from conventions import causes, meta, predicted, row, taps_inside
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


class Sample(nn.Module):
    """The sample network of SADL's README, on a picture of 3x16x16."""

    def __init__(self) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1)

        self.first, self.second = conv(3, 8), conv(8, 8)
        self.left = nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8), nn.ReLU())
        self.widen = nn.Sequential(nn.MaxPool2d(2), conv(8, 16), nn.ReLU())
        self.right = nn.Sequential(conv(16, 16), nn.ReLU(), conv(16, 16), nn.ReLU())
        self.last = nn.Sequential(nn.MaxPool2d(2), conv(16, 32), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = self.second(nn.functional.max_pool2d(self.first(picture), 2))
        x = self.widen(self.left(x) + x)
        return self.last(self.right(x) + x)


def test_the_sample_of_its_readme() -> None:
    """216160 MACs, as the README prints; later versions count the taps on padding too."""
    found = row("sadl", Sample().to("meta"), meta(1, 3, 16, 16))
    # Of 3 taps at n places, one at each end falls outside.
    inside = {n: (3 * n - 2) ** 2 for n in (16, 8, 4, 2)}
    by_hand = 3 * 8 * inside[16] + 3 * 8 * 8 * inside[8] + (8 + 2 * 16) * 16 * inside[4] + 16 * 32 * inside[2] + 128 * 2
    assert found.predicted is not None
    assert (216_160, 216_160) == (by_hand, found.predicted.macs)
    whole = 9 * (3 * 8 * 256 + 3 * 8 * 8 * 64 + (8 + 2 * 16) * 16 * 16 + 16 * 32 * 4) + 128 * 2
    assert (276_736, {"macs_with_padding": 276_736}) == (whole, found.native)
    assert {"padding_taps": 216_160 - 276_736} == causes(found)


SIDES = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3))
"""Of a picture and a convolution on it: size, taps, stride, padding, dilation."""


@settings(max_examples=60)
@given(
    sides=st.lists(SIDES, min_size=1, max_size=3),
    batch=st.integers(1, 2),
    groups=st.integers(1, 3),
    widths=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    bias=st.booleans(),
)
def test_a_tap_counts_where_it_is_inside_of_the_picture(
    sides: list[tuple[int, ...]], batch: int, groups: int, widths: tuple[int, int], bias: bool
) -> None:
    """As naive loops find; whatever the stride, the dilation, the padding and the groups."""
    size, taps, stride, padding, dilation = (tuple(values) for values in zip(*sides, strict=True))
    if any(n + 2 * p < d * (k - 1) + 1 for n, k, p, d in zip(size, taps, padding, dilation, strict=True)):
        return
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(sides) - 1]
    inputs, outputs = (groups * width for width in widths)
    layer = kind(inputs, outputs, taps, stride, padding, dilation, groups, bias, device="meta")  # type: ignore[arg-type]
    shape = (batch, inputs, *size)
    assert taps_inside(layer, shape) == predicted("sadl", layer, meta(*shape)).macs


def test_transposed_convolutions_are_scattered_before_they_are_cropped() -> None:
    """Every tap of every value is multiplied."""
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, device="meta")
    assert 4 * 5 * 7 * 3 * 9 == predicted("sadl", layer, meta(1, 4, 5, 7)).macs


def test_multiplications_count_and_sums_do_not() -> None:
    """A bias, a sum, a pooling and a ReLU multiply nothing; PReLU depends on the values."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.prelu = nn.Linear(8, 4), nn.PReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.prelu(torch.relu(self.linear(x * 2) + 1) * 0.5)

    found = row("sadl", Scaled().to("meta"), meta(3, 8))
    assert {"multiplications": 3 * 8 + 3 * 4} == causes(found)
    assert {"macs_with_padding": 3 * 8 * 4 + 3 * 8 + 3 * 4 + 3 * 4} == found.native


def test_sampling_counts_its_coefficients() -> None:
    """Four values of each channel for a bilinear point, and sixteen for a bicubic one."""
    for mode, each in (("bilinear", 4), ("bicubic", 16), ("nearest", 0)):
        layer = nn.Upsample(scale_factor=2, mode=mode).to("meta")
        assert each * 3 * 8 * 8 == row("sadl", layer, meta(1, 3, 4, 4)).shown.macs
