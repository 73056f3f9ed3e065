"""paddle.flops, mmengine and the NTIRE challenge: the figures of their documentation, and mmengine itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
from conventions import causes, meta, predicted, row
from torch import nn
from torch.nn.functional import interpolate, max_pool2d, relu


def lenet() -> nn.Module:
    """The network of paddle's docstring."""
    return nn.Sequential(
        nn.Sequential(
            *(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2, 2)),
        ),
        nn.Flatten(),
        nn.Sequential(nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)),
    )


def test_lenet_in_paddle() -> None:
    """347560 and 61610, as its docstring prints; the layers are 47040, 241600, 48000, 10080 and 840."""
    found = row("paddle", lenet().to("meta"), meta(1, 1, 28, 28))
    assert found.predicted is not None
    assert (347_560, 61_610) == (found.predicted.macs, found.predicted.params)
    assert 347_560 == 6 * 28 * 28 * (9 + 1) + 16 * 100 * (6 * 25 + 1) + 400 * 120 + 120 * 84 + 84 * 10
    assert {"bias": 6 * 28 * 28 + 16 * 100} == causes(found)


PADDLE: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "batch norm": (nn.BatchNorm2d(6), (2, 6, 5, 5), 2 * 2 * 6 * 25),
    "batch norm of vectors": (nn.BatchNorm1d(6), (2, 6), 0),
    "leaky": (nn.LeakyReLU(), (2, 6), 12),
    "average": (nn.AvgPool2d(3, 2), (1, 4, 9, 9), 4 * 4 * 4),
    "adaptive average": (nn.AdaptiveAvgPool2d(2), (1, 4, 9, 9), (4 * 4 + 1) * 4 * 2 * 2),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, 2), (1, 4, 5, 5), 6 * 10 * 10 * (4 * 4 + 1)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (1, 4, 5, 5), 6 * 3 * 3 * 2 * 9),
    "softmax": (nn.Softmax(-1), (2, 6), 0),
}


@pytest.mark.parametrize("layer", PADDLE)
def test_every_rule_of_paddle(layer: str) -> None:
    """Written out; a layer is looked at where it is part of a network."""
    module, shape, count = PADDLE[layer]
    assert count == row("paddle", nn.Sequential(module).to("meta"), meta(*shape)).shown.macs
    assert 0 == row("paddle", module, meta(*shape)).shown.macs


def test_paddle_sees_the_projections_of_attention() -> None:
    """There, they are four linear layers; the two products are functions."""

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, need_weights=True)[0]

    found = row("paddle", Attending().to("meta"), meta(1, 5, 8))
    assert 4 * 5 * 8 * 8 == found.shown.macs
    assert 4 * (8 * 8 + 8) == found.shown.params
    assert -2 * 5 * 5 * 8 == sum(causes(found).values())


class Documented(nn.Module):
    """The network of mmengine's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.conv, self.act = nn.Linear(1000, 10), nn.Conv2d(3, 10, 1), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.act(self.conv(x)).flatten(1))


def test_the_network_of_mmengines_docstring() -> None:
    """13000, and 1010 activations."""
    found = row("mmengine", Documented(), torch.rand(1, 3, 10, 10))
    assert (13_000, {"activations": 1010}) == (found.shown.macs, found.native)


class Products(nn.Module):
    """Products of several kinds, with vectors among them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = x @ x.transpose(-1, -2)
        return torch.einsum("bij,bjk->bik", square, x) + torch.bmm(square, x) + (x @ x[0, 0])[..., None]


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "documented": (Documented, (1, 3, 10, 10)),
    "lenet": (lenet, (2, 1, 28, 28)),
    "norms": (lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8)), (2, 4, 9, 9)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2), nn.Upsample(scale_factor=2)), (1, 4, 5, 5)),
    "bilinear": (lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(3, 2, 3)), (1, 3, 6, 6)),
    "one dimension": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3, stride=2), nn.InstanceNorm1d(4)), (2, 3, 17)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    "pooled": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)), (2, 3, 8, 8)),
    "recurrent": (lambda: nn.GRU(6, 4), (5, 2, 6)),
    "products": (Products, (2, 5, 6)),
    "tokens": (lambda: nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 6)), (2, 7, 6)),
    "volumes": (lambda: nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool3d(2)), (1, 2, 6, 6, 6)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_mmengine_itself_says_so(name: str) -> None:
    """Where it is installed: its operations, activations and parameters."""
    analysis = pytest.importorskip("mmengine.analysis")
    make, shape = MODELS[name]
    model, inputs = make().eval(), torch.rand(shape)
    with redirect_stdout(StringIO()):
        flops = analysis.FlopAnalyzer(model, (inputs,)).unsupported_ops_warnings(False)
        activations = analysis.ActivationAnalyzer(model, (inputs,)).unsupported_ops_warnings(False)
        expected = flops.total(), {"activations": activations.total()}, analysis.parameter_count(model)[""]
    prediction = predicted("mmengine", model, inputs)
    assert expected == (prediction.macs, prediction.native, prediction.params)


class Attention(nn.Module):
    """Enhanced spatial attention, on a quarter of the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        few = width // 4
        self.squeeze, self.skip, self.widen = nn.Conv2d(width, few, 1), nn.Conv2d(few, few, 1), nn.Conv2d(few, width, 1)
        self.shrink = nn.Conv2d(few, few, 3, stride=2)
        self.inner = nn.ModuleList(nn.Conv2d(few, few, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        few = self.squeeze(x)
        y = max_pool2d(self.shrink(few), 7, 3)
        y = self.inner[2](relu(self.inner[1](relu(self.inner[0](y)))))
        y = interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.widen(y + self.skip(few)))


class Cell(nn.Module):
    """A block of EFDN as it is deployed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kernels = (1, 3, 3)
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, k, padding=k // 2), nn.PReLU(width)) for k in kernels
        )
        self.branches = nn.ModuleList(nn.Conv2d(width, width // 2, 1) for _ in range(4))
        self.fuse, self.attention = nn.Conv2d(2 * width, width, 1), Attention(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for step in self.steps:
            seen.append(step(seen[-1]))
        both = zip(self.branches, seen, strict=True)
        return self.attention(self.fuse(torch.cat([branch(y) for branch, y in both], 1))) + x


class Efdn(nn.Module):
    """The baseline of the challenge of 2025: four cells of 48 channels, and four times the size."""

    def __init__(self, width: int = 48, scale: int = 4) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        self.cells = nn.ModuleList(Cell(width) for _ in range(4))
        self.fuse = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(3))
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        head = self.head(x)
        before = self.cells[0](head)
        y = before
        for cell, fuse in zip(list(self.cells)[1:], self.fuse, strict=True):
            after = cell(y)
            y, before = fuse(torch.cat([before, after], 1)), after
        return self.shuffle(self.tail(y + head))


def test_the_baseline_of_ntire() -> None:
    """EFDN: 0.2762 M parameters, 16.7035 G, 111.1167 M activations, 65 convolutions."""
    found = row("ntire", Efdn().to("meta"), meta(1, 3, 256, 256))
    assert found.native is not None
    assert found.shown.macs is not None
    assert found.shown.params is not None
    assert ("0.2762", "16.7035") == (f"{found.shown.params / 10**6:.4f}", f"{found.shown.macs / 10**9:.4f}")
    assert ("111.1167", 65) == (f"{found.native['activations'] / 10**6:.4f}", found.native["convolutions"])


def test_activations_of_ntire_are_those_of_two_classes() -> None:
    """Conv2d and its transposed form, at each call; no other convolution and no linear layer."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.up = nn.Conv2d(3, 3, 3, padding=1), nn.ConvTranspose2d(3, 2, 2, 2)
            self.line, self.linear = nn.Conv1d(2, 2, 3), nn.Linear(10, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.line(self.up(self.conv(self.conv(x))).mean(2)))

    found = row("ntire", Twice().to("meta"), meta(1, 3, 6, 6))
    assert {"activations": 2 * 3 * 36 + 2 * 12 * 12, "convolutions": 3} == found.native
