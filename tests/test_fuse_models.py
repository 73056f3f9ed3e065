"""The deployed form of Python models: the same outputs, the count of what is really left, and the model untouched."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.utils.flop_counter import FlopCounterMode

import convstat
from convstat.patches.operators import torchvision_compat
from convstat.spec import read
from convstat.trace import fusing
from convstat.trace.build import build, example_inputs

torchvision_compat()

Norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def drawn(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, with norms that do something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, Norms) and module.running_mean is not None:
            assert module.running_var is not None
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.6, 1.4),
                (module.weight, 0.6, 1.4),
                (module.bias, -0.2, 0.2),
            ):
                if tensor is not None:
                    tensor.data.uniform_(low, high)
    return model.eval()


def fused(model: nn.Module, *inputs: torch.Tensor) -> tuple[nn.Module, fusing.Plan]:
    """A fused copy of a model, and what was folded."""
    found, _ = fusing.call_own(copy.deepcopy(model))
    plan = fusing.plan(fusing.on_meta(found), [x.to("meta") for x in inputs], {})
    return plan.apply(found), plan


def gives_the_same(model: nn.Module, *inputs: torch.Tensor) -> fusing.Plan:
    """Assert that a model and its fused copy agree; give what was folded."""
    after, plan = fused(model, *inputs)
    with torch.no_grad():
        apart, largest = fusing.difference(model(*inputs), after(*inputs))
    assert apart <= 1e-5 * max(largest, 1e-6)
    return plan


FAMILIES = {
    "repvgg_a0": 32,
    "mobileone_s0": 32,
    "fastvit_t8": 64,
    "repvit_m0_9": 64,
    "levit_128s": 224,
    "repghostnet_050": 64,
    "efficientnet_b0": 32,
    "resnet18": 32,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_networks_of_timm(name: str) -> None:
    """Outputs are the same, no norm is left, and the count is that of torch's counter on what timm itself makes."""
    timm = pytest.importorskip("timm", reason="timm is not installed", exc_type=ImportError)
    model = drawn(timm.create_model(name, num_classes=10))
    x = torch.rand(1, 3, FAMILIES[name], FAMILIES[name])
    state = {key: value.clone() for key, value in model.state_dict().items()}
    plan = gives_the_same(model, x)
    assert not plan.kept
    report = convstat.analyze(model, x, fuse=True)
    assert report.fusion is not None
    assert report.fusion.check is not None
    assert report.fusion.check.startswith("outputs on the same input differ")
    theirs = timm.utils.reparameterize_model(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        theirs(x)
    assert counter.get_total_flops() == report.totals.flops
    # Of the norms that timm leaves, the scale is gone, and the shift is the bias that the layer before it did not have.
    left = sum(m.num_features for m in theirs.modules() if isinstance(m, Norms))
    biased = [theirs.get_submodule(fold.layer).bias for fold in plan.folds]
    left += sum(bias.numel() for bias in biased if bias is not None)
    assert sum(p.numel() for p in theirs.parameters()) - left == report.totals.params
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())


def test_mobileone_is_what_its_paper_says() -> None:
    """2.1 M params and 275 M MACs (arXiv:2206.04040, table 1); 0.28 G by fvcore with its pooling."""
    pytest.importorskip("timm", reason="timm is not installed", exc_type=ImportError)
    report = convstat.analyze("timm/mobileone_s0", fuse=True, counters="none")
    assert (2.1, 275) == (round(report.totals.params / 1e6, 1), round(report.totals.macs / 1e6))
    assert report.fusion is not None
    assert report.fusion.check is None


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Conv1d": (lambda: (nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6)), (4, 9)),
    "Conv2d": (lambda: (nn.Conv2d(4, 6, 3, bias=False, stride=2), nn.BatchNorm2d(6)), (4, 9, 9)),
    "Conv3d": (lambda: (nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6)), (4, 5, 5, 5)),
    "ConvTranspose2d": (lambda: (nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d(6)), (4, 5, 5)),
    "Linear": (lambda: (nn.Linear(4, 6), nn.BatchNorm1d(6)), (4,)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_pair_is_what_torch_fuses_it_to(kind: str) -> None:
    """The weights are those of ``torch.nn.utils.fusion``."""
    make, size = LAYERS[kind]
    layer, norm = make()
    model = drawn(nn.Sequential(layer, norm))
    plan = gives_the_same(model, torch.rand(2, *size))
    assert (fusing.Fold("1", "0", is_behind=True),) == plan.folds
    after, _ = fused(model, torch.rand(2, *size))
    theirs = (
        fuse_linear_bn_eval(layer, norm)
        if kind == "Linear"
        else fuse_conv_bn_eval(layer, norm, transpose="Transpose" in kind)
    )
    ours = after.get_submodule("0")
    assert torch.allclose(theirs.weight, ours.weight, atol=1e-6)
    assert torch.allclose(theirs.bias, ours.bias, atol=1e-6)


def test_groups_of_a_transposed_convolution() -> None:
    """torch's own function takes one group alone; the outputs say that ours is right."""
    model = drawn(nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)))
    assert 1 == len(gives_the_same(model, torch.rand(2, 4, 5, 5)).folds)


AFTER = (nn.Conv2d(4, 6, 3), nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", groups=2), nn.Conv2d(4, 6, 1))


@pytest.mark.parametrize("after", AFTER)
def test_a_norm_in_front(after: nn.Module) -> None:
    """It is folded into what comes after, where no zeros are padded in between; also if that has one behind it."""
    model = drawn(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), after, nn.BatchNorm2d(6)))
    assert 2 == len(gives_the_same(model, torch.rand(2, 4, 7, 7)).folds)


class Block(nn.Module):
    """Two convolutions and a norm, which a function puts together."""

    def __init__(self, forward: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.put = forward

    def forward(self, x: torch.Tensor) -> Any:
        return self.put(self, x)


KEPT: dict[str, tuple[Any, str]] = {
    "behind a concatenation": (
        lambda m, x: m.norm(torch.cat([m.conv(x)[:, :2], m.other(x)[:, :2]], 1)),
        "its input is not the output of a convolution or a linear layer",
    ),
    "behind what is used twice": (lambda m, x: m.norm(y := m.conv(x)) + y, "the output of conv is also used by add"),
    "behind what is an output": (
        lambda m, x: (y := m.conv(x), m.norm(y)), "the output of conv is also used by the output",
    ),
    "behind what is changed in place": (
        lambda m, x: m.norm(m.conv(x).relu_()), "the output of conv is also used by relu_",
    ),
    "behind what is called twice": (lambda m, x: m.norm(m.conv(m.conv(x))), "the output of conv is also used by conv"),
    "called twice": (lambda m, x: m.norm(m.other(m.norm(m.conv(x)))), "it is called 2 times"),
    "never called": (lambda m, x: m.conv(x), "it is never called"),
    "in front of zeros": (lambda m, x: m.conv(m.norm(x.relu())), "conv pads the output of the norm with zeros"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_folded_stays_and_is_named(name: str) -> None:
    """With the reason, and the outputs are the same."""
    forward, reason = KEPT[name]
    plan = gives_the_same(drawn(Block(forward)), torch.rand(1, 4, 6, 6))
    assert () == plan.folds
    [kept] = plan.kept
    assert kept.reason.startswith(reason)


def test_layers_that_are_not_what_their_class_says() -> None:
    """Tied, parametrized, hooked, and of a class of its own: nothing is folded into them."""

    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) * 2
            return nn.functional.conv2d(x, weight, self.bias)

    def pair(conv: nn.Module) -> nn.Module:
        return drawn(nn.Sequential(conv, nn.BatchNorm2d(4)))

    hooked = nn.Conv2d(4, 4, 3)
    hooked.register_forward_hook(lambda module, args, output: output * 2)
    tied, twin = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    twin.weight = tied.weight
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    assert parametrize.is_parametrized(normed)
    for model, reason in (
        (pair(Standardised(4, 4, 3)), "Standardised is a class of its own"),
        (pair(hooked), "a Conv2d has hooks"),
        (pair(normed), "the weight of a ParametrizedConv2d is computed from others"),
        (drawn(nn.Sequential(tied, nn.BatchNorm2d(4), twin)), "the parameters of 0 are shared"),
    ):
        plan = gives_the_same(model, torch.rand(1, 4, 6, 6))
        assert [reason] == [kept.reason for kept in plan.kept]


def test_methods_of_a_model_are_called() -> None:
    """One without arguments, or with ``verbose``, as ultralytics has it; one that takes arguments is something else."""

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.mixer = Mixer()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.mixer(self.bn(y) if hasattr(self, "bn") else y)  # type: ignore[no-any-return]

        def fuse(self, verbose: bool = True) -> Detector:
            assert not verbose
            self.conv = fuse_conv_bn_eval(self.conv, self.bn)
            del self.bn
            return self

    class Mixer(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fuse(x, x)

        def fuse(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    model = drawn(Detector())
    report = convstat.analyze(model, torch.rand(1, 4, 6, 6), fuse=True)
    assert report.fusion is not None
    assert ("Detector.fuse()",) == report.fusion.called
    assert (4 * 4 + 4 + 8, 4 * 4 + 4) == (report.fusion.trained.params, report.totals.params)
    assert hasattr(model, "bn")


def test_a_wrong_method_is_told_of() -> None:
    """Both forms are run: what is not the same is said, and not passed over."""

    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bn(self.conv(x))  # type: ignore[no-any-return]

        def switch_to_deploy(self) -> None:
            self.bn = nn.Identity()

    report = convstat.analyze(drawn(Wrong()), torch.rand(1, 4, 6, 6), fuse=True)
    assert report.fusion is not None
    assert report.fusion.check is not None
    assert report.fusion.check.startswith("FAILED: outputs on the same input differ")


def test_a_model_that_is_made_on_the_cpu_is_compared_with_weights_that_are_drawn() -> None:
    """It was made for the count alone, and may have none."""
    report = convstat.analyze("torchvision/resnet18", (3, 64, 64), device="cpu", fuse=True)
    assert report.fusion is not None
    assert report.fusion.check is not None
    assert report.fusion.check.startswith("outputs on the same input differ")
    assert 20 == len(report.fusion.folded)


@pytest.mark.parametrize("name", ["mobilenet_v1", "resnet50", "unet"])
def test_a_spec_and_its_torch_model_come_to_the_same(name: str) -> None:
    """Layer by layer, in params and MACs."""
    path = Path("configs") / f"{name}.yaml"
    graph = read(path.read_text(), path.name).expand()

    def make() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        place = torch.get_default_device().type
        return build(graph, device=place), example_inputs(graph, device=place)

    spec, traced = convstat.analyze(str(path), fuse=True), convstat.analyze(make, fuse=True)
    ours = {row.name: (row.params, row.macs) for row in spec.layers if row.params}
    assert ours == {row.name: (row.params, row.macs) for row in traced.layers if row.params}


def test_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """These checks are worth something: without a look at who else takes an output, the outputs differ."""
    model = drawn(Block(KEPT["behind what is used twice"][0]))
    gives_the_same(model, torch.rand(1, 4, 6, 6))
    monkeypatch.setattr(fusing._Flow, "_take", lambda self, values, user: None)
    with pytest.raises(AssertionError):
        gives_the_same(model, torch.rand(1, 4, 6, 6))
