"""Receptive fields of Python models: those of the spec of the same network, and the support of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import convstat
from convstat.spec import read
from convstat.trace import extents
from convstat.trace.build import build, example_inputs

NETWORKS = [
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet50",
    "unet",
    "in_loop_filter",
    "super_resolution",
    "dilated",
    "transposed",
    "asymmetric",
    "conv1d",
    "conv3d",
    "alexnet",
    "vit_b_16",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_spec_and_its_torch_model_have_the_same(name: str) -> None:
    """Layer by layer: what the layer says that it reads, and what its kernels read."""
    path = Path("configs") / f"{name}.yaml"
    graph = read(path.read_text(), path.name).expand()

    def make() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        place = torch.get_default_device().type
        return build(graph, device=place), example_inputs(graph, device=place)

    spec = convstat.analyze(str(path), receptive_field=True)
    traced = convstat.analyze(make, receptive_field=True)
    found = {row.name: row.extent for row in traced.layers if row.name in {node.name for node in graph.nodes}}
    said = {row.name: row.extent for row in spec.layers if row.name in found}
    assert len(found) > len(said) / 2
    for layer, extent in said.items():
        other = found[layer]
        assert extent is not None, layer
        assert other is not None, layer
        assert (extent.size, extent.jump, extent.unit) == (other.size, other.jump, other.unit), layer
        assert (extent.halo, extent.offset) == (other.halo, other.offset), layer


class Made(nn.Module):
    """Convolutions with positive weights, which a function puts together."""

    def __init__(self, put: Callable[[Made, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, (5, 1), padding=(2, 0), stride=(1, 2))
        self.narrow = nn.Conv2d(2, 2, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1)
        self.dense, self.shuffle, self.unshuffle = nn.Linear(4, 4), nn.PixelShuffle(2), nn.PixelUnshuffle(2)
        torch.manual_seed(0)
        for parameter in self.parameters():
            parameter.data.uniform_(0.1, 1)
        self.put = put

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.put(self, x)


def written_through_a_view(m: Made, x: torch.Tensor) -> torch.Tensor:
    """A tensor that is filled by parts."""
    y = torch.zeros_like(x)
    y[:, :2] = m.one(x)[:, :2]
    return y + x


def attention(x: torch.Tensor) -> torch.Tensor:
    """Tokens that look at each other."""
    return nn.functional.scaled_dot_product_attention(x, x, x)


FORMS: dict[str, Callable[[Made, torch.Tensor], torch.Tensor]] = {
    "in a row": lambda m, x: m.two(nn.functional.relu(m.one(x))),
    "in place": lambda m, x: m.one(m.one(x).add_(1).relu()),
    "parts of the channels": lambda m, x: torch.cat([m.narrow(part) for part in x.chunk(2, 1)][::-1], 1) * x,
    "padding by hand": lambda m, x: m.one(nn.functional.pad(x, (3, 1, 0, 2))),
    "cropping by hand": lambda m, x: m.one(x)[:, :, 2:-1, 1:] + m.one(x[:, :, 2:-1, 1:]),
    "every other position": lambda m, x: m.one(x[..., ::2, 1::2]),
    "up": lambda m, x: m.one(m.up(x)),
    "interpolation": lambda m, x: m.one(nn.functional.interpolate(m.two(x), scale_factor=(1, 2), mode="bilinear")),
    "nearest": lambda m, x: m.one(nn.functional.interpolate(x, scale_factor=1.5)),
    "pixels into channels": lambda m, x: m.shuffle(m.one(m.unshuffle(x[:, :1]))) + x[:, :1],
    "channels last": lambda m, x: m.one(m.dense(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
    "tokens and back": lambda m, x: m.one(m.dense(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)),
    "pooling": lambda m, x: m.one(nn.functional.avg_pool2d(x, 3, 2, 1)),
    "moved around": lambda m, x: m.one(torch.roll(x, (2, 1), (2, 3))) + x,
    "planes put together": lambda m, x: m.one(torch.cat([x[:, i].unsqueeze(1) for i in range(4)], 1)),
    "planes stacked": lambda m, x: m.one(torch.stack(x.unbind(1), 1)[:, :, None].squeeze(2)),
    "a gate": lambda m, x: torch.where(m.one(x) > 0, x, 2 * x),
}


@pytest.mark.parametrize("name", FORMS)
def test_it_is_the_support_of_the_gradient(name: str) -> None:
    """Position by position, in the middle of the picture."""
    model = Made(FORMS[name]).double().eval()
    shape = (1, 4, 40, 32)
    found, axes = extents.extents(model, (torch.empty(shape, dtype=torch.float64),), {})
    along = found[extents.ROOT].along()
    assert 2 == axes == len(along), found[extents.ROOT]
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    output = model(x)
    for step in range(2):
        place = [size // 2 + step for size in output.shape[2:]]
        [gradient] = torch.autograd.grad(output[(0, slice(None), *place)].sum(), x, retain_graph=True)
        touched = gradient[0].abs().sum(0)
        for axis in range(2):
            reached = set(touched.sum(1 - axis).nonzero()[:, 0].tolist())
            expected = along[axis].positions(place[axis])
            # A condition has no gradient, and is read all the same.
            assert reached <= expected if name == "a gate" else reached == expected


@pytest.mark.parametrize(
    ("put", "note"),
    [
        (lambda m, x: m.one(x).mean((2, 3)), "the whole input"),
        (lambda m, x: m.one(x) * torch.sigmoid(nn.functional.adaptive_avg_pool2d(x, 1)), "the whole input"),
        (lambda m, x: attention(x.flatten(2).transpose(1, 2)), "the whole input"),
        (lambda m, x: nn.functional.group_norm(x, 2), "the whole input"),
        (lambda m, x: torch.linalg.inv(x @ x.transpose(2, 3)), "the whole input"),
        (lambda m, x: torch.flip(x, (3,)), "not known: flip is not followed"),
        (lambda m, x: nn.functional.conv2d(x, x[:, :, :3, :3]), "not known: convolution with weights that are"),
        (written_through_a_view, "not known: a part of a tensor is written in place by copy_"),
        (
            lambda m, x: nn.functional.interpolate(x, (50, 50), mode="bilinear", align_corners=True),
            "not known: with aligned corners",
        ),
        (lambda m, x: nn.functional.adaptive_avg_pool2d(x, 7), "not known: its windows are of different sizes"),
    ],
)  # fmt: skip
def test_what_is_whole_or_not_known_says_so(put: Callable[[Made, torch.Tensor], torch.Tensor], note: str) -> None:
    """With the reason."""
    report = convstat.analyze(Made(put), torch.rand(1, 4, 40, 40), receptive_field=True)
    assert report.extent is not None
    assert report.extent.note is not None
    assert report.extent.note.startswith(note)


def test_a_model_of_timm_and_a_module_that_is_called_twice() -> None:
    """ResNet-18 by the sum of the literature; each call of a module has its own."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x))  # type: ignore[no-any-return]

    model = Twice()
    report = convstat.analyze(model, torch.rand(1, 3, 16, 16), receptive_field=True)
    assert [(3, 3), (5, 5)] == [row.extent.size for row in report.layers if row.extent is not None]
    assert model.training
    zoo = convstat.analyze("torchvision/resnet18", receptive_field=True)
    # 7x7, a pool of 3, then two convolutions in each of two blocks of four stages; the first of a stage has the stride.
    size = 1 + 6 + 2 * 2 + 2 * 4 * 4 + (2 * 4 + 2 * 8 * 3) + (2 * 8 + 2 * 16 * 3) + (2 * 16 + 2 * 32 * 3)
    last = [row.extent for row in zoo.layers if row.name == "layer4.1.conv2"]
    assert last[0] is not None
    assert (size, size) == last[0].size


def test_a_model_that_cannot_be_followed_is_counted_all_the_same() -> None:
    """A note says why there are no receptive fields."""

    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return y if y.sum().item() > 0 else -y

    report = convstat.analyze(Asks(), torch.rand(1, 3, 16, 16), receptive_field=True)
    assert report.totals.macs == 3 * 3 * 9 * 14 * 14
    assert report.extent is not None or any("receptive fields are not known" in note for note in report.model.notes)
