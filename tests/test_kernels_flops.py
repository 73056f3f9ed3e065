"""torch's own FlopCounterMode as an oracle, wherever it has a rule: random nets, whole networks, both passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from convstat.count import traces
from convstat.results.report import Report
from convstat.trace.record import record


def traced(model: Any, *inputs: torch.Tensor, train: bool = False) -> Report:
    """The report of a model, from what ran."""
    report = traces.count(record(model, inputs, train=train), name="model", source="model", inputs=())
    assert "complete" == report.status, report.uncounted
    return report


def flops(run: Callable[[], object]) -> int:
    """What torch's counter says."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return int(counter.get_total_flops())


class Function(nn.Module):
    """A function as a module, so that it has a place in a Sequential."""

    def __init__(self, function: Callable[..., torch.Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.operands = nn.ParameterList(nn.Parameter(torch.empty(shape)) for shape in shapes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        return self.function(x, *self.operands)


class First(nn.Module):
    """The first of several outputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        return self.module(x)[0]  # type: ignore[no-any-return]


def tokens(x: torch.Tensor) -> torch.Tensor:
    """An image as a sequence."""
    return x.flatten(2).transpose(1, 2)


C = 4
POOL: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(C, C, 3, padding=1),
    "grouped": lambda: nn.Conv2d(C, C, 3, padding=1, groups=2, bias=False),
    "depthwise": lambda: nn.Conv2d(C, C, 3, padding=2, dilation=2, groups=C),
    "transposed": lambda: nn.ConvTranspose2d(C, C, 3, padding=1),
    "grouped transposed": lambda: nn.ConvTranspose2d(C, C, 3, padding=1, groups=2),
    "f.conv2d": lambda: Function(lambda x, w, b: F.conv2d(x, w, b, padding="same"), (C, C, 3, 3), (C,)),
    "strided": lambda: nn.Sequential(nn.Conv2d(C, C, 2, 2), nn.Upsample(scale_factor=2)),
    "relu": lambda: nn.ReLU(),
    "relu in place": lambda: nn.ReLU(inplace=True),
    "gelu": lambda: nn.GELU(),
    "norm": lambda: nn.BatchNorm2d(C),
    "group norm": lambda: nn.GroupNorm(2, C),
    "pool": lambda: nn.MaxPool2d(3, 1, 1),
    "dropout": lambda: nn.Dropout(0.5),
    "linear": lambda: nn.Linear(6, 6),
    "f.linear": lambda: Function(F.linear, (6, 6)),
    "matmul": lambda: Function(torch.matmul, (6, 6)),
    "operator": lambda: Function(lambda x, w: w @ x, (C, 6, 6)),
    "einsum": lambda: Function(lambda x, w: torch.einsum("bchw,cd->bdhw", x, w), (C, C)),
    "mm": lambda: Function(lambda x, w: torch.mm(x.flatten(0, 2), w).view_as(x), (6, 6)),
    "addmm": lambda: Function(lambda x, w, b: torch.addmm(b, x.flatten(0, 2), w).view_as(x), (6, 6), (6,)),
    "baddbmm": lambda: Function(lambda x, w, b: torch.baddbmm(b, x.flatten(0, 1), w).view_as(x), (8, 6, 6), (8, 6, 6)),
    "attention": lambda: Function(lambda x: F.scaled_dot_product_attention(x, x, x)),
    "gqa": lambda: Function(lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True)),
    "mha": lambda: Function(lambda x, w: F.linear(tokens(x), w).transpose(1, 2).view_as(x), (C, C)),
    "lstm": lambda: nn.Sequential(Function(lambda x: x.flatten(1, 2)), First(nn.LSTM(6, 6)), nn.Unflatten(1, (C, 6))),
    "gru": lambda: nn.Sequential(Function(lambda x: x.flatten(1, 2)), First(nn.GRU(6, 6)), nn.Unflatten(1, (C, 6))),
    "transformer": lambda: nn.Sequential(
        Function(lambda x: x.flatten(1, 2)), nn.TransformerEncoderLayer(6, 2, 10), nn.Unflatten(1, (C, 6))
    ),
    "residual": lambda: Function(lambda x: x + x * 2),
}
"""Modules and functions that take a 2 x 4 x 6 x 6 input and give the same shape."""

# What a layer keeps for its backward pass, another may not write over.
TRAINABLE = sorted(set(POOL) - {"relu in place"})
NO_GROUPS = sorted(set(TRAINABLE) - {"grouped", "depthwise", "grouped transposed"})
"""Those whose backward pass torch's counter prices right, and that can follow each other there."""


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(POOL)), min_size=1, max_size=6))
def test_macs_are_half_of_what_torchs_counter_says(names: list[str]) -> None:
    """For any chain of the pool, on meta, where its counter has a rule for every product."""
    with torch.device("meta"):
        model = nn.Sequential(*(POOL[name]() for name in names)).eval()
        source = torch.empty(2, C, 6, 6)
    assert flops(lambda: model(source)) == 2 * traced(model, source).totals.macs


@settings(max_examples=20)
@given(st.lists(st.sampled_from(sorted(POOL)), min_size=1, max_size=5))
def test_the_device_does_not_change_the_count(names: list[str]) -> None:
    """MACs, params and buffers on CPU, with its fused kernels, are those on meta."""
    totals = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            model = nn.Sequential(*(POOL[name]() for name in names)).eval()
            totals.append(traced(model, torch.zeros(2, C, 6, 6)).totals)
    cpu, meta = totals
    assert (cpu.macs, cpu.params, cpu.buffers) == (meta.macs, meta.params, meta.buffers)


@settings(max_examples=20)
@given(st.lists(st.sampled_from(TRAINABLE), min_size=1, max_size=5))
def test_the_mode_does_not_change_the_forward_count(names: list[str]) -> None:
    """In train mode the rows of the forward pass have the MACs that they have in eval mode."""
    with torch.device("meta"):
        model = nn.Sequential(*(POOL[name]() for name in names))
        source = torch.empty(2, C, 6, 6)
    forward = {row.name: row.macs for row in traced(model, source).layers if row.macs}
    both = traced(model, source, train=True)
    assert forward == {row.name: row.macs for row in both.layers if row.macs and "(backward)" not in row.name}


@settings(max_examples=40)
@given(st.lists(st.sampled_from(NO_GROUPS), min_size=1, max_size=5))
def test_forward_and_backward_are_half_of_what_torchs_counter_says(names: list[str]) -> None:
    """In train mode; without grouped convolutions, of whose backward pass torch's counter takes no notice of groups."""
    with torch.device("meta"):
        model = nn.Sequential(*(POOL[name]() for name in names)).train()
        source = torch.empty(2, C, 6, 6)
    parameters = list(model.parameters())

    def run() -> None:
        output = model(source)
        if parameters:
            torch.autograd.grad(output, parameters, torch.ones_like(output), allow_unused=True)

    assert flops(run) == 2 * traced(model, source, train=True).totals.macs


@pytest.mark.parametrize(
    "name",
    [
        *("googlenet", "regnet_y_400mf", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vit_b_32"),
        *("convnext_tiny", "efficientnet_b0", "maxvit_t", "densenet121", "mnasnet0_5", "inception_v3"),
    ],
)
def test_torchvisions_networks_are_half_of_what_torchs_counter_says(
    name: str, torchvision: Any, on_meta: Callable[[str], Any]
) -> None:
    """Whole networks on meta; their params are those of `model.parameters()`, uncalled branches included."""
    if name.startswith("regnet"):
        model = torchvision.models.get_model(name, weights=None).eval().to("meta")
    else:
        model = on_meta(name)
    source = torch.empty(1, 3, 224, 224, device="meta")
    report = traced(model, source)
    assert flops(lambda: model(source)) == 2 * report.totals.macs
    assert sum(parameter.numel() for parameter in model.parameters()) == report.totals.params
    assert sum(buffer.numel() for buffer in model.buffers()) == report.totals.buffers
    assert not model.training


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_the_backward_pass_of_a_network_is_two_forward_passes_less_one_gradient(
    name: str, on_meta: Callable[[str], Any]
) -> None:
    """Each product comes back as two; but the picture needs no gradient: the first convolution's, 64 x 3 x k x k."""
    model = on_meta(name)
    source = torch.empty(1, 3, 224, 224, device="meta")
    forward = traced(model, source).totals.macs
    both = traced(model, source, train=True).totals.macs
    first = {"resnet18": 64 * 3 * 7 * 7 * 112 * 112, "vgg11": 64 * 3 * 3 * 3 * 224 * 224}[name]
    assert 3 * forward - first == both
    assert not model.training
