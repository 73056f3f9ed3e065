"""timm, where it is installed: its names, its inputs, its counts."""

from __future__ import annotations

import counted
import pytest

from convstat.errors import SourceError, UsageError
from convstat.patches.operators import torchvision_compat
from convstat.targets import zoo

torchvision_compat()
timm = pytest.importorskip("timm", reason="timm is not installed: it changes what ptflops counts", exc_type=ImportError)

SAMPLE = (
    "botnet26t_256",
    "convnext_femto",
    "crossvit_15_dagger_240",
    "ecaresnet50t",
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "regnety_004",
    "resnet50",
    "swin_tiny_patch4_window7_224",
    "vit_small_patch32_384",
)


def test_the_names_that_ship_can_be_made() -> None:
    """Every name in the list is one of timm's."""
    assert [] == [name for name in zoo.names("timm") if not timm.is_model(name)]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_model_of_timm_counts_as_torch_counts_it(name: str) -> None:
    """Parameters and MACs are those of torch's own counter, at the input of the published weights."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    report = counted.analyze(f"timm/{name}", counters="none")
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False).eval()
        size = timm.get_pretrained_cfg(name).input_size
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, *size))
    assert ((1, *size),) == tuple(item.shape for item in report.model.inputs)
    assert sum(parameter.numel() for parameter in model.parameters()) == report.totals.params
    assert counter.get_total_flops() == report.totals.flops
    assert "complete" == report.status


def test_overrides_go_to_the_builder() -> None:
    """The size of the picture, its channels and the number of classes; the input follows."""
    report = counted.analyze("timm/vit_small_patch32_384", {"img_size": 224, "in_chans": 1, "num_classes": 10})
    assert (1, 1, 224, 224) == report.model.inputs[0].shape
    plain = counted.analyze("timm/vit_small_patch32_384", {"num_classes": 10}, counters="none").totals.params
    tokens = (384 // 32) ** 2 - (224 // 32) ** 2
    width = 384
    assert plain - tokens * width - 2 * 32 * 32 * width == report.totals.params


def test_weights_are_not_loaded() -> None:
    """Asking for them is refused, as is a tag, which names weights."""
    with pytest.raises(UsageError, match="weights are never loaded"):
        counted.analyze("timm/resnet18", {"pretrained": True})
    with pytest.raises(UsageError, match="timm names its weights in the name"):
        counted.analyze("timm/resnet18#a1")
    with pytest.raises(SourceError, match="timm has no model 'resnet81'"):
        counted.analyze("timm/resnet81")
