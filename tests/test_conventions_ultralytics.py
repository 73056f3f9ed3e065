"""ultralytics extrapolates from a small picture: compared with what its steps give, by ultralytics-thop itself."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from conventions import causes, meta, predicted, row
from live import installed
from torch import nn


def backbone() -> nn.Module:
    """Convolutions down to a stride of 32, as in every detector."""
    widths = (3, 4, 8, 8, 16, 16)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()]
    return nn.Sequential(*layers)


class Attending(nn.Module):
    """Attention between the places of the last feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = backbone()

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        tokens = self.backbone(picture).flatten(2)
        return tokens.transpose(1, 2) @ tokens


class Headed(nn.Module):
    """A linear head on the mean over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = backbone(), nn.Linear(16, 10)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(picture).mean((2, 3)))


class Strided(nn.Module):
    """A model with strides of its own, as detectors have."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.stride = backbone(), torch.tensor([8.0, 16.0, 64.0])

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.backbone(picture)


class Fixed(nn.Module):
    """A head that takes one size only, so that the small picture fails."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = backbone(), nn.Linear(16 * 4 * 6, 10)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(picture).flatten(1))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (backbone, (1, 3, 640, 640)),
    "attention": (Attending, (1, 3, 320, 192)),
    "a head": (Headed, (1, 3, 640, 640)),
    "a stride of its own": (Strided, (1, 3, 128, 192)),
    "a fixed size": (Fixed, (1, 3, 128, 192)),
    "odd sides": (backbone, (1, 3, 100, 75)),
    "a batch": (Headed, (4, 3, 64, 64)),
    "no picture": (lambda: nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4)), (2, 6)),
    "a bare convolution": (lambda: nn.Conv2d(3, 4, 3), (1, 3, 40, 40)),
    "up": (lambda: nn.Sequential(backbone(), nn.Upsample(scale_factor=2)), (1, 3, 96, 96)),
}


def printed(model: nn.Module, height: int, width: int) -> float:
    """The GFLOPs by the steps that are published, with the real thop: small and multiplied up, or whole, or none."""
    from thop import profile

    try:
        first = next(model.parameters())
        try:
            side = max(int(model.stride.max()), 32) if hasattr(model, "stride") else 32  # type: ignore[operator, union-attr]
            small = torch.empty((1, first.shape[1], side, side), device=first.device)
            gflops = profile(deepcopy(model), inputs=[small], verbose=False)[0] / 1e9 * 2
            return float(gflops * height / side * width / side)
        except Exception:
            whole = torch.empty((1, first.shape[1], height, width), device=first.device)
            return float(profile(deepcopy(model), inputs=[whole], verbose=False)[0] / 1e9 * 2)
    except Exception:
        return 0.0


@pytest.mark.parametrize("name", MODELS)
def test_its_steps_give_the_figure(name: str) -> None:
    """With ultralytics-thop as it is installed; every unit of the difference to convstat has a cause."""
    installed("ultralytics-thop")
    make, shape = MODELS[name]
    model = make().to("meta").eval()
    found = row("ultralytics", model, meta(*shape))
    height, width = shape[-2:] if len(shape) == 4 else (640, 640)
    assert found.shown.macs is not None
    assert abs(printed(model, height, width) - 2 * found.shown.macs / 1e9) <= 4e-9
    assert sum(p.numel() for p in model.parameters()) == found.shown.params


def test_attention_is_too_small_and_a_head_too_large() -> None:
    """At 640 and a stride of 32, by 400 each."""
    scale = (640 // 32) ** 2
    attention = row("ultralytics", Attending().to("meta"), meta(1, 3, 640, 640))
    true = scale**2 * 16
    assert true // scale - true == causes(attention)["area_scaled"]
    head = row("ultralytics", Headed().to("meta"), meta(1, 3, 640, 640))
    assert (scale - 1) * 16 * 10 == causes(head)["area_scaled"]


def test_convolutions_are_exact() -> None:
    """They grow with the area."""
    assert "area_scaled" not in causes(row("ultralytics", backbone().to("meta"), meta(1, 3, 640, 640)))
    assert 0 == predicted("ultralytics", nn.Sequential(nn.Linear(6, 4)).to("meta"), meta(2, 6)).macs
