"""The real peers, really run, against what their conventions predict."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from live import ask, check_on_both_devices
from probe_pool import IMAGE, is_a
from random_nets import CHANNELS, nets
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("masked", [False, True])
def test_deformable_convolutions_are_predicted(masked: bool, torchvision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ptflops adds 24 operations a tap for the sampling, 25 with a mask."""

    def zeros(image: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return image.new_zeros((image.shape[0], weight.shape[0], *offset.shape[2:]))

    # torchvision's compiled operator may not load beside this torch; only the shapes matter here.
    monkeypatch.setattr("torchvision.ops.deform_conv.deform_conv2d", zeros)
    inputs = [torch.rand(IMAGE), torch.rand(1, 18, 8, 8), torch.rand(1, 9, 8, 8)][: 2 + masked]
    answer = ask(is_a(torchvision.ops.DeformConv2d(8, 6, 3)), *inputs, only=("ptflops",))["ptflops"]
    answer.check("ptflops")
    assert 3 * 3 * (8 * 6 + 24 + masked) * 8 * 8 + 6 * 8 * 8 == answer.prediction.macs


def test_embeddings_fail_in_torchsummary_and_nowhere_else() -> None:
    """Indices go into ptflops as they are; torchsummary makes floating-point inputs, and says so."""
    answers = ask(nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 4)), torch.zeros(2, 5, dtype=torch.int64))
    for name, answer in answers.items():
        answer.check(name)
    assert "float32 inputs" in str(answers["torchsummary"].failure)
    assert 2 * 5 * (8 * 4 + 4) == answers["ptflops-aten"].prediction.macs


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(net=nets(), batch=st.integers(1, 3), size=st.integers(3, 6))
def test_the_peers_are_predicted_on_nets_put_together_at_random(net: nn.Module, batch: int, size: int) -> None:
    """Whatever is combined with whatever, on both devices, in every batch."""
    image = torch.rand(batch, CHANNELS, size, size)
    try:
        with torch.no_grad():
            outputs = net.eval()(image)
    except RuntimeError:
        reject()  # The layers do not fit together: a window larger than the image.
    assert isinstance(outputs, torch.Tensor)
    check_on_both_devices(net, image)


ZOO = ("resnet18", "mobilenet_v3_small", "googlenet", "shufflenet_v2_x0_5", "swin_t", "vit_b_16", "densenet121")


@pytest.mark.parametrize("name", ZOO)
def test_the_peers_are_predicted_on_networks_people_use(name: str, torchvision: Any) -> None:
    """torchvision's networks, on both devices; small images keep it quick."""
    kwargs = {"init_weights": False} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(**kwargs)
    size = 224 if name == "vit_b_16" else 64
    only = ("ptflops", "torchsummary") if name == "vit_b_16" else ("ptflops", "ptflops-aten", "torchsummary")
    check_on_both_devices(model, torch.zeros(1, 3, size, size), only=only)
