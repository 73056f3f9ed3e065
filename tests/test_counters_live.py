"""The real peers, really run, against what their conventions predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from live import ask, check_on_both_devices
from random_nets import CHANNELS, OwnConv, nets
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.functional import relu as stored_relu

pytestmark = pytest.mark.filterwarnings("ignore")

IMAGE = (1, 8, 10, 10)
SEQUENCE = (2, 7, 16)


class Calls(nn.Module):
    """A model whose forward is a function; it may hold modules and parameters."""

    def __init__(self, forward: Callable[..., Any], *modules: nn.Module, **parameters: tuple[int, ...]) -> None:
        super().__init__()
        self.function = forward
        for position, module in enumerate(modules):
            self.add_module(f"m{position}", module)
        for name, shape in parameters.items():
            self.register_parameter(name, nn.Parameter(torch.rand(shape)))

    def forward(self, a: torch.Tensor, b: Any = None, c: Any = None) -> Any:
        """Call the function with the inputs that are there."""
        return self.function(self, *(value for value in (a, b, c) if value is not None))


def _is_a(*modules: nn.Module) -> Calls:
    return Calls(lambda model, *inputs: model.m0(*inputs), *modules)


def _first(module: nn.Module) -> Calls:
    return Calls(lambda model, *inputs: model.m0(*inputs)[0], module)


def _attends(attention: nn.Module, **kwargs: Any) -> Calls:
    return Calls(lambda model, x: model.m0(x, x, x, **kwargs)[0], attention)


def _shared_by_two_parents() -> nn.Module:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    return nn.Sequential(nn.Sequential(conv), nn.Sequential(conv, nn.ReLU()))


def _same_child_twice() -> nn.Module:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), conv)


def _tied() -> nn.Module:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
    second.weight = first.weight
    return nn.Sequential(first, second)


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def _partly_frozen() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16))
    model[0].weight.requires_grad_(False)
    return model


def _named_tensors() -> nn.Module:
    holder = nn.ReLU()
    holder.register_buffer("weight", torch.zeros(3, 5))
    return nn.Sequential(nn.Conv2d(8, 4, 1), holder)


def _sequential_with_weight() -> nn.Module:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(8, 4, 1)))
    model[0].register_parameter("weight", nn.Parameter(torch.zeros(6)))
    return model


PROBES: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    # Convolutions and linear layers.
    "conv": (lambda: _is_a(nn.Conv2d(8, 16, 3, padding=1)), (IMAGE,)),
    "conv of three samples": (lambda: _is_a(nn.Conv2d(8, 16, 3, stride=2, bias=False)), ((3, 8, 10, 10),)),
    "conv of groups": (lambda: _is_a(nn.Conv2d(8, 16, 3, groups=4, dilation=2)), (IMAGE,)),
    "conv same even": (lambda: _is_a(nn.Conv2d(8, 16, 4, padding="same")), (IMAGE,)),
    "conv reflect": (lambda: _is_a(nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect")), (IMAGE,)),
    "conv without batch": (lambda: _is_a(nn.Conv2d(8, 16, 3, padding=1)), ((8, 10, 10),)),
    "conv 1d": (lambda: _is_a(nn.Conv1d(8, 16, 3)), ((2, 8, 10),)),
    "conv 3d": (lambda: _is_a(nn.Conv3d(2, 4, 3)), ((1, 2, 6, 6, 6),)),
    "transposed": (lambda: _is_a(nn.ConvTranspose2d(8, 16, 3, stride=2)), (IMAGE,)),
    "transposed of groups": (lambda: _is_a(nn.ConvTranspose2d(8, 16, 3, stride=2, groups=4)), ((3, 8, 10, 10),)),
    "transposed 3d": (lambda: _is_a(nn.ConvTranspose3d(2, 4, 3, stride=2, bias=False)), ((1, 2, 4, 4, 4),)),
    "conv as function": (lambda: Calls(lambda m, x: F.conv2d(x, m.w, m.b), w=(16, 8, 3, 3), b=(16,)), (IMAGE,)),
    "own conv": (lambda: _is_a(OwnConv(8, 16, 3)), (IMAGE,)),
    "weight norm, old": (lambda: _is_a(nn.utils.weight_norm(nn.Conv2d(8, 16, 3))), (IMAGE,)),
    "weight norm, new": (lambda: _is_a(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 16, 3))), (IMAGE,)),
    "the model is a conv": (lambda: nn.Conv2d(8, 16, 3), (IMAGE,)),
    "the model is a linear": (lambda: nn.Linear(8, 16), ((3, 8),)),
    "linear of 3 dimensions": (lambda: _is_a(nn.Linear(8, 16)), ((2, 5, 8),)),
    "linear of 4 dimensions": (lambda: _is_a(nn.Linear(8, 16)), ((2, 3, 5, 8),)),
    "linear not contiguous": (lambda: Calls(lambda m, x: m.m0(x.mT), nn.Linear(8, 16)), ((2, 8, 5),)),
    "linear as function": (lambda: Calls(lambda m, x: F.linear(x, m.w, m.b), w=(16, 8), b=(16,)), ((2, 5, 8),)),
    "bilinear": (lambda: _is_a(nn.Bilinear(4, 5, 6)), ((2, 4), (2, 5))),
    # Products.
    "torch.matmul": (lambda: Calls(lambda m, a, b: torch.matmul(a, b)), ((2, 3, 4, 5), (2, 3, 5, 6))),
    "Tensor.matmul": (lambda: Calls(lambda m, a, b: a.matmul(b)), ((2, 4, 5), (2, 5, 6))),
    "operator @": (lambda: Calls(lambda m, a, b: a @ b), ((2, 4, 5), (2, 5, 6))),
    "matmul that broadcasts": (lambda: Calls(lambda m, a, b: torch.matmul(a, b)), ((4, 5), (2, 3, 5, 6))),
    "matmul of a vector": (lambda: Calls(lambda m, a, b: torch.matmul(a, b)), ((4, 5), (5,))),
    "mm by keyword": (lambda: Calls(lambda m, a, b: torch.mm(a, mat2=b)), ((4, 5), (5, 6))),
    "bmm": (lambda: Calls(lambda m, a, b: torch.bmm(a, b)), ((3, 4, 5), (3, 5, 6))),
    "addmm": (lambda: Calls(lambda m, a, b, c: torch.addmm(a, b, c)), ((4, 6), (4, 5), (5, 6))),
    "addmm, beta 0": (lambda: Calls(lambda m, a, b, c: torch.addmm(a, b, c, beta=0)), ((4, 6), (4, 5), (5, 6))),
    "Tensor.addmm": (lambda: Calls(lambda m, a, b, c: a.addmm(b, c)), ((4, 6), (4, 5), (5, 6))),
    "baddbmm": (lambda: Calls(lambda m, a, b, c: torch.baddbmm(a, b, c)), ((3, 4, 6), (3, 4, 5), (3, 5, 6))),
    "einsum": (lambda: Calls(lambda m, a, b: torch.einsum("bij,bjk->bik", a, b)), ((3, 4, 5), (3, 5, 6))),
    # Attention.
    "sdpa": (lambda: Calls(lambda m, q: F.scaled_dot_product_attention(q, q, q)), ((2, 4, 7, 8),)),
    "attention": (lambda: _attends(nn.MultiheadAttention(16, 4, batch_first=True)), (SEQUENCE,)),
    "attention without weights": (
        lambda: _attends(nn.MultiheadAttention(16, 4, batch_first=True), need_weights=False),
        (SEQUENCE,),
    ),
    "attention, sequence first": (lambda: _attends(nn.MultiheadAttention(16, 4)), ((7, 2, 16),)),
    "attention without bias": (lambda: _attends(nn.MultiheadAttention(16, 4, bias=False)), ((7, 2, 16),)),
    "attention with added keys": (
        lambda: _attends(nn.MultiheadAttention(16, 4, add_bias_kv=True, add_zero_attn=True), need_weights=False),
        ((7, 2, 16),),
    ),
    "attention by keyword": (
        lambda: Calls(lambda m, x: m.m0(query=x, key=x, value=x)[0], nn.MultiheadAttention(16, 4)),
        ((7, 2, 16),),
    ),
    "attention without batch": (lambda: _attends(nn.MultiheadAttention(16, 4)), ((7, 16),)),
    "attention, frozen": (lambda: _frozen(_attends(nn.MultiheadAttention(16, 4, batch_first=True))), (SEQUENCE,)),
    "attention of other keys": (
        lambda: Calls(
            lambda m, x, k: m.m0(x, k, k)[0], nn.MultiheadAttention(16, 4, batch_first=True, kdim=12, vdim=12)
        ),
        (SEQUENCE, (2, 5, 12)),
    ),
    "transformer layer": (lambda: _is_a(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)), (SEQUENCE,)),
    "transformer layer, frozen": (
        lambda: _frozen(nn.Sequential(nn.Sequential(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)))),
        (SEQUENCE,),
    ),
    "transformer decoder layer": (
        lambda: Calls(lambda m, x: m.m0(x, x), nn.TransformerDecoderLayer(16, 4, 32)),
        ((7, 2, 16),),
    ),
    # Norms, activations, pools.
    "batch norm": (lambda: _is_a(nn.BatchNorm2d(8)), ((3, 8, 10, 10),)),
    "batch norm, not affine": (lambda: _is_a(nn.BatchNorm2d(8, affine=False)), (IMAGE,)),
    "layer norm": (lambda: _is_a(nn.LayerNorm(8)), ((2, 5, 8),)),
    "group norm": (lambda: _is_a(nn.GroupNorm(2, 8)), (IMAGE,)),
    "instance norm": (lambda: _is_a(nn.InstanceNorm2d(8, affine=True)), (IMAGE,)),
    "RMS norm": (lambda: _is_a(nn.RMSNorm(8)), ((2, 5, 8),)),
    "local response norm": (lambda: _is_a(nn.LocalResponseNorm(3)), ((2, 8, 10, 10),)),
    "relu as function": (lambda: Calls(lambda m, x: F.relu(m.m0(x)), nn.Conv2d(8, 4, 1)), ((3, 8, 10, 10),)),
    "relu stored before": (lambda: Calls(lambda m, x: stored_relu(m.m0(x)), nn.Conv2d(8, 4, 1)), (IMAGE,)),
    "relu of torch and of the tensor": (lambda: Calls(lambda m, x: torch.relu(x.relu())), (IMAGE,)),
    "softmax": (lambda: Calls(lambda m, x: F.softmax(x.softmax(1), dim=1)), (IMAGE,)),
    "adaptive pool as function": (lambda: Calls(lambda m, x: F.adaptive_max_pool2d(x, 3)), (IMAGE,)),
    "pool with indices": (
        lambda: Calls(lambda m, x: m.m0(m.m1(x))[0], nn.MaxPool2d(2, return_indices=True), nn.Conv2d(8, 4, 1)),
        (IMAGE,),
    ),
    "mean": (lambda: Calls(lambda m, x: x.mean((2, 3))), (IMAGE,)),
    # Resizing.
    "upsample of three samples": (lambda: _is_a(nn.Upsample(scale_factor=2)), ((3, 8, 10, 10),)),
    "upsample to a size": (lambda: _is_a(nn.Upsample(size=(20, 15), mode="bilinear")), ((2, 8, 10, 10),)),
    "upsample by fractions": (lambda: _is_a(nn.Upsample(scale_factor=(1.5, 1.5))), (IMAGE,)),
    "upsample by 1.3": (lambda: _is_a(nn.Upsample(scale_factor=1.3)), ((2, 3, 7, 7),)),
    "upsampling bilinear": (lambda: _is_a(nn.UpsamplingBilinear2d(scale_factor=2)), (IMAGE,)),
    "interpolate to one size": (lambda: Calls(lambda m, x: F.interpolate(x, 20)), ((2, 8, 10, 10),)),
    "interpolate area": (lambda: Calls(lambda m, x: F.interpolate(x, size=(5, 5), mode="area")), (IMAGE,)),
    "interpolate by a list": (lambda: Calls(lambda m, x: F.interpolate(x, scale_factor=[2, 2])), (IMAGE,)),
    "upsample as function": (lambda: Calls(lambda m, x: F.upsample(x, scale_factor=2)), ((2, 8, 10, 10),)),
    # Recurrent layers.
    "RNN": (lambda: _first(nn.RNN(8, 12, batch_first=True)), ((2, 5, 8),)),
    "GRU without bias": (lambda: _first(nn.GRU(8, 12, bias=False)), ((5, 2, 8),)),
    "LSTM": (lambda: _first(nn.LSTM(8, 12, 2, batch_first=True, bidirectional=True)), ((2, 5, 8),)),
    "LSTM with projection": (lambda: _first(nn.LSTM(8, 12, proj_size=6)), ((5, 2, 8),)),
    "LSTM without batch": (lambda: _first(nn.LSTM(8, 12)), ((5, 8),)),
    "LSTM cell": (lambda: _first(nn.LSTMCell(8, 12)), ((2, 8),)),
    "GRU cell": (lambda: _is_a(nn.GRUCell(8, 12)), ((2, 8),)),
    # Element-wise.
    "operators": (lambda: Calls(lambda m, a, b: a + b * a), (IMAGE, IMAGE)),
    "torch.add": (lambda: Calls(lambda m, a, b: torch.add(a, b, alpha=2)), (IMAGE, IMAGE)),
    "Tensor.mul": (lambda: Calls(lambda m, a, b: a.mul(b).add(1)), (IMAGE, IMAGE)),
    "torch.mul that broadcasts": (lambda: Calls(lambda m, a, b: torch.mul(a, b)), (IMAGE, (8, 1, 1))),
    "torch.add by keyword": (lambda: Calls(lambda m, a, b: torch.add(a, other=b)), (IMAGE, IMAGE)),
    # Models.
    "shared": (lambda: Calls(lambda m, x: m.m0(m.m0(x)), nn.Conv2d(8, 8, 3, padding=1)), (IMAGE,)),
    "shared by two parents": (_shared_by_two_parents, (IMAGE,)),
    "the same child twice": (_same_child_twice, (IMAGE,)),
    "tied": (_tied, ((2, 8),)),
    "raw parameter": (lambda: Calls(lambda m, x: m.m0(x) * m.g, nn.Conv2d(8, 8, 1), g=(1, 8, 1, 1)), (IMAGE,)),
    "partly frozen": (_partly_frozen, (IMAGE,)),
    "tensors called weight": (_named_tensors, (IMAGE,)),
    "a Sequential with a weight": (_sequential_with_weight, (IMAGE,)),
    "uncalled": (lambda: _is_a(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)), (IMAGE,)),
    "made while running": (lambda: Calls(lambda m, x: nn.ReLU()(m.m0(x)), nn.Conv2d(8, 4, 1)), (IMAGE,)),
    "no parameters": (lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (IMAGE,)),
    "child by keyword": (lambda: Calls(lambda m, x: m.m0(input=x), nn.Conv2d(8, 16, 3)), (IMAGE,)),
    "returns a dict": (lambda: Calls(lambda m, x: {"o": m.m0(x)}, nn.Conv2d(8, 16, 3)), (IMAGE,)),
    "a dict inside": (
        lambda: Calls(lambda m, x: m.m0(x)["o"], Calls(lambda m, x: {"o": m.m0(x)}, nn.Conv2d(8, 4, 3))),
        (IMAGE,),
    ),
    "a tuple inside": (
        lambda: Calls(lambda m, x: m.m0(x)[0], Calls(lambda m, x: (m.m0(x), m.m0(x)), nn.Conv2d(8, 4, 3))),
        (IMAGE,),
    ),
    "an uneven tuple inside": (
        lambda: Calls(lambda m, x: m.m0(x)[0], Calls(lambda m, x: (m.m0(x), x[0]), nn.Conv2d(8, 4, 3))),
        (IMAGE,),
    ),
    "None in a tuple": (
        lambda: Calls(lambda m, x: m.m0(x)[0], Calls(lambda m, x: (m.m0(x), None), nn.Conv2d(8, 4, 3))),
        (IMAGE,),
    ),
    "a list goes in": (
        lambda: Calls(lambda m, x: m.m1([m.m0(x)]), nn.Conv2d(8, 4, 3), Calls(lambda m, x: x[0])),
        (IMAGE,),
    ),
    "a number comes out": (
        lambda: Calls(lambda m, x: m.m1(m.m0(x)), nn.Conv2d(8, 4, 3), Calls(lambda m, x: x.mean())),
        (IMAGE,),
    ),
    "two inputs": (lambda: Calls(lambda m, a, b: m.m0(a) + m.m0(b), nn.Conv2d(8, 4, 3)), (IMAGE, IMAGE)),
    "two inputs that differ": (
        lambda: Calls(lambda m, a, b: m.m0(a) + b[:, :, None, None], nn.Conv2d(8, 4, 3)),
        (IMAGE, (1, 4)),
    ),
    "the batch moves": (
        lambda: Calls(lambda m, x: m.m1(m.m0(x).transpose(0, 1)), nn.Linear(8, 6), nn.ReLU()),
        ((2, 7, 8),),
    ),
    "the batch is folded": (
        lambda: Calls(lambda m, x: m.m1(m.m0(x).flatten()[None]), nn.Linear(8, 6), nn.ReLU()),
        ((3, 5, 8),),
    ),
}


@pytest.mark.parametrize("masked", [False, True])
def test_deformable_convolutions_are_predicted(masked: bool, torchvision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ptflops adds 24 operations a tap for the sampling, 25 with a mask."""

    def zeros(image: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return image.new_zeros((image.shape[0], weight.shape[0], *offset.shape[2:]))

    # torchvision's compiled operator may not load beside this torch; only the shapes matter here.
    monkeypatch.setattr("torchvision.ops.deform_conv.deform_conv2d", zeros)
    inputs = [torch.rand(IMAGE), torch.rand(1, 18, 8, 8), torch.rand(1, 9, 8, 8)][: 2 + masked]
    answer = ask(_is_a(torchvision.ops.DeformConv2d(8, 6, 3)), *inputs, only=("ptflops",))["ptflops"]
    answer.check("ptflops")
    assert 3 * 3 * (8 * 6 + 24 + masked) * 8 * 8 + 6 * 8 * 8 == answer.prediction.macs


@pytest.mark.parametrize("name", PROBES)
def test_the_peers_say_what_their_conventions_predict(name: str) -> None:
    """To the unit and to the printed digit, failures included, on the CPU and on meta, with equal answers on both."""
    make, shapes = PROBES[name]
    torch.manual_seed(0)
    model = make()
    check_on_both_devices(model, *(torch.rand(shape) for shape in shapes))


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
