"""Nets put together at random, of layers that keep the channels of an image."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.functional import relu as stored_relu

CHANNELS = 4

SIDE = 6
"""The longest side of an image that the nets are for."""

PIXELS = 1024
"""What no layer of theirs gets more of: attention among them takes the square, and upsamplings multiply."""


class OwnConv(nn.Conv2d):
    """A subclass that changes nothing."""


def _conv(draw: st.DrawFn) -> nn.Module:
    kernel = draw(st.integers(1, 3))
    kind = draw(st.sampled_from([nn.Conv2d, OwnConv]))
    groups = draw(st.sampled_from([1, 2, 4]))
    return kind(CHANNELS, CHANNELS, kernel, padding=1, groups=groups, bias=draw(st.booleans()))


def _transposed(draw: st.DrawFn) -> nn.Module:
    return nn.ConvTranspose2d(CHANNELS, CHANNELS, draw(st.integers(1, 3)), stride=draw(st.integers(1, 2)))


def _pool(draw: st.DrawFn) -> nn.Module:
    window = draw(st.integers(1, 3))
    pools = [nn.MaxPool2d(window, 1), nn.AvgPool2d(window, 1), nn.AdaptiveAvgPool2d(3), nn.LPPool2d(2, window, 1)]
    return draw(st.sampled_from([*pools, nn.AdaptiveMaxPool2d(4)]))


def _upsample(draw: st.DrawFn) -> nn.Module:
    ways = [
        nn.Upsample(scale_factor=draw(st.sampled_from([1, 1.5, 2, (1.5, 2.0)]))),
        nn.Upsample(size=draw(st.sampled_from([5, (4, 6)])), mode="bilinear"),
        nn.UpsamplingNearest2d(scale_factor=2),
    ]
    return draw(st.sampled_from(ways))


class _Function(nn.Module):
    FUNCTIONS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda x: F.relu(x),
        lambda x: torch.add(x, x),
        lambda x: x.mul(x[:, :, :1, :1]),
        lambda x: F.softmax(x, dim=1),
        lambda x: x @ x.mT,
        lambda x: torch.matmul(x, x.mT),
        lambda x: F.interpolate(x, scale_factor=1.5),
        lambda x: F.avg_pool2d(x, 1),
        lambda x: stored_relu(x),
        lambda x: x + 1,
    )

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call one of the functions."""
        return self.FUNCTIONS[self.index](x)


class _Pixels(nn.Module):
    """Runs a layer of sequences over the pixels of an image."""

    def __init__(self, layer: nn.Module, weights: bool) -> None:
        super().__init__()
        self.layer = layer
        self.weights = weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Flatten, run, and put back."""
        sequence = x.flatten(2).mT
        if isinstance(self.layer, nn.MultiheadAttention):
            sequence, _ = self.layer(sequence, sequence, sequence, need_weights=self.weights)
        else:
            sequence = self.layer(sequence)
            sequence = sequence[0] if isinstance(sequence, tuple) else sequence
        return sequence.mT.reshape(x.shape)


def _pixels(draw: st.DrawFn) -> nn.Module:
    layers = [
        nn.MultiheadAttention(CHANNELS, 2, batch_first=draw(st.booleans()), bias=draw(st.booleans())),
        nn.LSTM(CHANNELS, CHANNELS, batch_first=draw(st.booleans()), bias=draw(st.booleans())),
        nn.GRU(CHANNELS, CHANNELS, num_layers=2),
        nn.Linear(CHANNELS, CHANNELS),
        nn.LayerNorm(CHANNELS),
        nn.TransformerEncoderLayer(CHANNELS, 2, 8, batch_first=draw(st.booleans()), norm_first=draw(st.booleans())),
    ]
    return _Pixels(draw(st.sampled_from(layers)), draw(st.booleans()))


def _other(draw: st.DrawFn) -> nn.Module:
    norms = [nn.BatchNorm2d(CHANNELS), nn.GroupNorm(2, CHANNELS), nn.InstanceNorm2d(CHANNELS), nn.LocalResponseNorm(2)]
    activations = [nn.ReLU(), nn.ReLU6(), nn.PReLU(), nn.GELU(), nn.SiLU(), nn.LeakyReLU(), nn.Hardswish(), nn.ELU()]
    return draw(st.sampled_from([*norms, *activations, nn.Softmax(dim=1), nn.Dropout(), nn.Identity()]))


@st.composite
def nets(draw: st.DrawFn) -> nn.Module:
    """A net of layers that keep the channels: nested, shared, frozen, subclassed, called as functions."""
    makers = (_conv, _conv, _transposed, _pool, _upsample, _pixels, _other, _other)

    def layer() -> nn.Module:
        if draw(st.integers(0, 3)) == 0:
            return _Function(draw(st.integers(0, len(_Function.FUNCTIONS) - 1)))
        return draw(st.sampled_from(makers))(draw)

    def block(depth: int) -> nn.Module:
        made: list[nn.Module] = []
        for _ in range(draw(st.integers(1, 4))):
            if made and draw(st.integers(0, 4)) == 0:
                made.append(draw(st.sampled_from(made)))
            elif depth and draw(st.integers(0, 2)) == 0:
                made.append(block(depth - 1))
            else:
                made.append(layer())
            if draw(st.integers(0, 5)) == 0:
                made[-1].requires_grad_(False)
        return nn.Sequential(*made)

    net = block(2)
    assume(_stays_small(net))
    return net


def _stays_small(net: nn.Module) -> bool:
    """Whether no layer gets too many pixels; one that does not run is small, and its test will see that."""

    def check(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].numel() > CHANNELS * PIXELS:
            raise OverflowError

    trial = deepcopy(net).to("meta").eval()
    for module in trial.modules():
        module.register_forward_pre_hook(check)
    try:
        with torch.no_grad():
            trial(torch.empty(1, CHANNELS, SIDE, SIDE, device="meta"))
    except OverflowError:
        return False
    except (RuntimeError, ValueError):
        pass
    return True
