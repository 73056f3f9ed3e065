"""Small models that show one thing each, on which every counter is asked and predicted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from random_nets import OwnConv
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.functional import relu as stored_relu

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


def is_a(*modules: nn.Module) -> Calls:
    """A model that is one module and nothing else."""
    return Calls(lambda model, *inputs: model.m0(*inputs), *modules)


def _first(module: nn.Module) -> Calls:
    return Calls(lambda model, *inputs: model.m0(*inputs)[0], module)


def attends(attention: nn.Module, **kwargs: Any) -> Calls:
    """A model that attends to itself."""
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
    "conv": (lambda: is_a(nn.Conv2d(8, 16, 3, padding=1)), (IMAGE,)),
    "conv of three samples": (lambda: is_a(nn.Conv2d(8, 16, 3, stride=2, bias=False)), ((3, 8, 10, 10),)),
    "conv of groups": (lambda: is_a(nn.Conv2d(8, 16, 3, groups=4, dilation=2)), (IMAGE,)),
    "conv same even": (lambda: is_a(nn.Conv2d(8, 16, 4, padding="same")), (IMAGE,)),
    "conv reflect": (lambda: is_a(nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect")), (IMAGE,)),
    "conv without batch": (lambda: is_a(nn.Conv2d(8, 16, 3, padding=1)), ((8, 10, 10),)),
    "conv 1d": (lambda: is_a(nn.Conv1d(8, 16, 3)), ((2, 8, 10),)),
    "conv 3d": (lambda: is_a(nn.Conv3d(2, 4, 3)), ((1, 2, 6, 6, 6),)),
    "transposed": (lambda: is_a(nn.ConvTranspose2d(8, 16, 3, stride=2)), (IMAGE,)),
    "transposed of groups": (lambda: is_a(nn.ConvTranspose2d(8, 16, 3, stride=2, groups=4)), ((3, 8, 10, 10),)),
    "transposed 3d": (lambda: is_a(nn.ConvTranspose3d(2, 4, 3, stride=2, bias=False)), ((1, 2, 4, 4, 4),)),
    "conv as function": (lambda: Calls(lambda m, x: F.conv2d(x, m.w, m.b), w=(16, 8, 3, 3), b=(16,)), (IMAGE,)),
    "own conv": (lambda: is_a(OwnConv(8, 16, 3)), (IMAGE,)),
    "weight norm, old": (lambda: is_a(nn.utils.weight_norm(nn.Conv2d(8, 16, 3))), (IMAGE,)),
    "weight norm, new": (lambda: is_a(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 16, 3))), (IMAGE,)),
    "the model is a conv": (lambda: nn.Conv2d(8, 16, 3), (IMAGE,)),
    "the model is a linear": (lambda: nn.Linear(8, 16), ((3, 8),)),
    "linear of 3 dimensions": (lambda: is_a(nn.Linear(8, 16)), ((2, 5, 8),)),
    "linear of 4 dimensions": (lambda: is_a(nn.Linear(8, 16)), ((2, 3, 5, 8),)),
    "linear not contiguous": (lambda: Calls(lambda m, x: m.m0(x.mT), nn.Linear(8, 16)), ((2, 8, 5),)),
    "linear as function": (lambda: Calls(lambda m, x: F.linear(x, m.w, m.b), w=(16, 8), b=(16,)), ((2, 5, 8),)),
    "bilinear": (lambda: is_a(nn.Bilinear(4, 5, 6)), ((2, 4), (2, 5))),
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
    "attention": (lambda: attends(nn.MultiheadAttention(16, 4, batch_first=True)), (SEQUENCE,)),
    "attention without weights": (
        lambda: attends(nn.MultiheadAttention(16, 4, batch_first=True), need_weights=False),
        (SEQUENCE,),
    ),
    "attention, sequence first": (lambda: attends(nn.MultiheadAttention(16, 4)), ((7, 2, 16),)),
    "attention without bias": (lambda: attends(nn.MultiheadAttention(16, 4, bias=False)), ((7, 2, 16),)),
    "attention with added keys": (
        lambda: attends(nn.MultiheadAttention(16, 4, add_bias_kv=True, add_zero_attn=True), need_weights=False),
        ((7, 2, 16),),
    ),
    "attention by keyword": (
        lambda: Calls(lambda m, x: m.m0(query=x, key=x, value=x)[0], nn.MultiheadAttention(16, 4)),
        ((7, 2, 16),),
    ),
    "attention without batch": (lambda: attends(nn.MultiheadAttention(16, 4)), ((7, 16),)),
    "attention, frozen": (lambda: _frozen(attends(nn.MultiheadAttention(16, 4, batch_first=True))), (SEQUENCE,)),
    "attention of other keys": (
        lambda: Calls(
            lambda m, x, k: m.m0(x, k, k)[0], nn.MultiheadAttention(16, 4, batch_first=True, kdim=12, vdim=12)
        ),
        (SEQUENCE, (2, 5, 12)),
    ),
    "transformer layer": (lambda: is_a(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)), (SEQUENCE,)),
    "transformer layer, frozen": (
        lambda: _frozen(nn.Sequential(nn.Sequential(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)))),
        (SEQUENCE,),
    ),
    "transformer decoder layer": (
        lambda: Calls(lambda m, x: m.m0(x, x), nn.TransformerDecoderLayer(16, 4, 32)),
        ((7, 2, 16),),
    ),
    # Norms, activations, pools.
    "batch norm": (lambda: is_a(nn.BatchNorm2d(8)), ((3, 8, 10, 10),)),
    "batch norm, not affine": (lambda: is_a(nn.BatchNorm2d(8, affine=False)), (IMAGE,)),
    "layer norm": (lambda: is_a(nn.LayerNorm(8)), ((2, 5, 8),)),
    "group norm": (lambda: is_a(nn.GroupNorm(2, 8)), (IMAGE,)),
    "instance norm": (lambda: is_a(nn.InstanceNorm2d(8, affine=True)), (IMAGE,)),
    "RMS norm": (lambda: is_a(nn.RMSNorm(8)), ((2, 5, 8),)),
    "local response norm": (lambda: is_a(nn.LocalResponseNorm(3)), ((2, 8, 10, 10),)),
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
    "upsample of three samples": (lambda: is_a(nn.Upsample(scale_factor=2)), ((3, 8, 10, 10),)),
    "upsample to a size": (lambda: is_a(nn.Upsample(size=(20, 15), mode="bilinear")), ((2, 8, 10, 10),)),
    "upsample by fractions": (lambda: is_a(nn.Upsample(scale_factor=(1.5, 1.5))), (IMAGE,)),
    "upsample by 1.3": (lambda: is_a(nn.Upsample(scale_factor=1.3)), ((2, 3, 7, 7),)),
    "upsampling bilinear": (lambda: is_a(nn.UpsamplingBilinear2d(scale_factor=2)), (IMAGE,)),
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
    "GRU cell": (lambda: is_a(nn.GRUCell(8, 12)), ((2, 8),)),
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
    "uncalled": (lambda: is_a(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)), (IMAGE,)),
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


def _of(module: nn.Module, *shape: int) -> tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]:
    return lambda: is_a(module), (shape or IMAGE,)


class _Residual(nn.Conv2d):
    """A layer of a known kind that holds another."""

    def __init__(self) -> None:
        super().__init__(8, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run both."""
        return super().forward(x) + self.inner(x)


def _raw_beside_children() -> nn.Module:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU()))
    model[0].register_parameter("scale", nn.Parameter(torch.zeros(6)))
    return model


def _shared_deep() -> nn.Module:
    conv, norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
    one, two = nn.Sequential(conv, norm), nn.Sequential(nn.Sequential(conv, nn.ReLU()), norm)
    return nn.Sequential(one, two, one)


MORE: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    **{
        f"activation {kind.__name__}": _of(kind())
        for kind in (
            nn.ReLU,
            nn.ReLU6,
            nn.LeakyReLU,
            nn.ELU,
            nn.SELU,
            nn.CELU,
            nn.PReLU,
            nn.GELU,
            nn.SiLU,
            nn.Mish,
            nn.Sigmoid,
            nn.Tanh,
            nn.Hardswish,
            nn.Hardsigmoid,
            nn.Hardtanh,
            nn.Softplus,
            nn.GLU,
            nn.Identity,
            nn.Dropout,
            nn.LogSigmoid,
            nn.Softsign,
            nn.Tanhshrink,
        )
    },
    **{
        f"function {name}": (lambda name=name: Calls(lambda m, x: getattr(F, name)(x)), (IMAGE,))  # type: ignore[misc]
        for name in ("relu", "gelu", "silu", "sigmoid", "hardswish", "leaky_relu", "elu", "relu6", "softplus")
    },
    "softmax module": _of(nn.Softmax(dim=1)),
    "log softmax module": _of(nn.LogSoftmax(dim=-1)),
    "softmin module": _of(nn.Softmin(dim=1)),
    "softmax 2d": _of(nn.Softmax2d()),
    "softmax without a dimension": _of(nn.Softmax()),
    "layer norm, not affine": _of(nn.LayerNorm(8, elementwise_affine=False), 2, 5, 8),
    "layer norm of two axes": _of(nn.LayerNorm((10, 10))),
    "instance norm, not affine": _of(nn.InstanceNorm2d(8)),
    "instance norm, tracking": _of(nn.InstanceNorm2d(8, track_running_stats=True)),
    "batch norm 1d": _of(nn.BatchNorm1d(8), 3, 8),
    "batch norm without statistics": _of(nn.BatchNorm2d(8, track_running_stats=False)),
    "group norm, not affine": _of(nn.GroupNorm(2, 8, affine=False)),
    "RMS norm, not affine": _of(nn.RMSNorm(8, elementwise_affine=False), 2, 5, 8),
    "max pool": _of(nn.MaxPool2d(2)),
    "average pool": _of(nn.AvgPool2d(2)),
    "average pool, padded": _of(nn.AvgPool2d(3, 2, 1)),
    "average pool, ceiling": _of(nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    "average pool 1d": _of(nn.AvgPool1d(3), 1, 8, 10),
    "average pool 3d": _of(nn.AvgPool3d(2), 1, 2, 6, 6, 6),
    "adaptive pool to 1": _of(nn.AdaptiveAvgPool2d(1)),
    "adaptive pool to 3": _of(nn.AdaptiveAvgPool2d(3)),
    "adaptive pool to 3x7": _of(nn.AdaptiveAvgPool2d((3, 7)), 2, 8, 10, 11),
    "adaptive pool to the same": _of(nn.AdaptiveAvgPool2d((None, 5))),
    "adaptive pool 1d": _of(nn.AdaptiveAvgPool1d(4), 1, 8, 10),
    "adaptive max pool": _of(nn.AdaptiveMaxPool2d(1)),
    "power average pool": _of(nn.LPPool2d(2, 2)),
    "average pool as function": (lambda: Calls(lambda m, x: F.avg_pool2d(x, 2)), (IMAGE,)),
    "max pool as function": (lambda: Calls(lambda m, x: F.max_pool2d(x, 2)), (IMAGE,)),
    "upsample linear": _of(nn.Upsample(scale_factor=2, mode="linear"), 1, 8, 10),
    "upsample bicubic": _of(nn.Upsample(scale_factor=2, mode="bicubic")),
    "upsample trilinear": _of(nn.Upsample(scale_factor=2, mode="trilinear"), 1, 2, 4, 4, 4),
    "upsample nearest-exact": _of(nn.Upsample(scale_factor=2, mode="nearest-exact")),
    "upsample area": _of(nn.Upsample(size=(5, 5), mode="area")),
    "pixel shuffle": _of(nn.PixelShuffle(2)),
    "flatten": _of(nn.Flatten()),
    "zero padding": _of(nn.ZeroPad2d(1)),
    "grid sample": (lambda: Calls(lambda m, x, g: F.grid_sample(x, g, align_corners=False)), (IMAGE, (1, 6, 6, 2))),
    "conv 'valid'": _of(nn.Conv2d(8, 16, 3, padding="valid")),
    "conv 'same'": _of(nn.Conv2d(8, 16, 3, padding="same", bias=False)),
    "conv depthwise": _of(nn.Conv2d(8, 8, 3, groups=8, padding=1, bias=False)),
    "conv circular": _of(nn.Conv2d(8, 16, 3, padding=1, padding_mode="circular")),
    "transposed depthwise": _of(nn.ConvTranspose2d(8, 8, 3, stride=2, groups=8, bias=False)),
    "transposed square": _of(nn.ConvTranspose2d(8, 8, 3, stride=2, bias=False)),
    "transposed 1d": _of(nn.ConvTranspose1d(8, 16, 3, stride=2), 2, 8, 10),
    "transposed without batch": _of(nn.ConvTranspose2d(8, 16, 3, stride=2), 8, 10, 10),
    "transposed square without batch": _of(nn.ConvTranspose2d(8, 8, 3, stride=2), 8, 10, 10),
    "conv square without batch": _of(nn.Conv2d(8, 8, 3), 8, 10, 10),
    "transposed as function": (
        lambda: Calls(lambda m, x: F.conv_transpose2d(x, m.w, m.b, stride=2), w=(8, 16, 3, 3), b=(16,)),
        (IMAGE,),
    ),
    "conv 1d as function": (lambda: Calls(lambda m, x: F.conv1d(x, m.w, padding="same"), w=(16, 8, 3)), ((1, 8, 9),)),
    "linear of one dimension": _of(nn.Linear(8, 16), 8),
    "linear without bias": _of(nn.Linear(8, 16, bias=False), 2, 5, 8),
    "matmul of batched vectors": (lambda: Calls(lambda m, a, b: a @ b), ((2, 3, 4, 5), (5,))),
    "matmul of two vectors": (lambda: Calls(lambda m, a, b: a @ b), ((5,), (5,))),
    "matmul by a vector": (lambda: Calls(lambda m, a, b: torch.matmul(a, b)), ((5,), (3, 5, 4))),
    "mv": (lambda: Calls(lambda m, a, b: torch.mv(a, b)), ((4, 5), (5,))),
    "einsum of attention": (
        lambda: Calls(lambda m, a, b: torch.einsum("bhqd,bhkd->bhqk", a, b)),
        ((2, 3, 4, 5), (2, 3, 6, 5)),
    ),
    "einsum with a vector": (lambda: Calls(lambda m, a, b: torch.einsum("bi,i->b", a, b)), ((3, 4), (4,))),
    "einsum, implicit": (lambda: Calls(lambda m, a, b: torch.einsum("ij,jk", a, b)), ((3, 4), (4, 5))),
    "einsum of three": (
        lambda: Calls(lambda m, a, b, c: torch.einsum("ij,jk,kl->il", a, b, c)),
        ((3, 4), (4, 5), (5, 6)),
    ),
    "einsum of one": (lambda: Calls(lambda m, a: torch.einsum("ij->ji", a)), ((3, 4),)),
    "einsum, large": (
        lambda: Calls(lambda m, a, b: torch.einsum("bij,bjk->bik", a, b)),
        ((3, 64, 51), (3, 51, 67)),
    ),
    "sdpa, causal": (
        lambda: Calls(lambda m, q: F.scaled_dot_product_attention(q, q, q, is_causal=True)),
        ((2, 4, 7, 8),),
    ),
    "sdpa of groups": (
        lambda: Calls(lambda m, q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True)),
        ((2, 4, 7, 8), (2, 2, 7, 8)),
    ),
    "sdpa of other values": (
        lambda: Calls(lambda m, q, v: F.scaled_dot_product_attention(q, q, v)),
        ((2, 4, 7, 8), (2, 4, 7, 6)),
    ),
    "transformer encoder": (
        lambda: is_a(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)),
        (SEQUENCE,),
    ),
    "transformer": (lambda: Calls(lambda m, x: m.m0(x, x), nn.Transformer(16, 4, 1, 1, 32)), ((7, 2, 16),)),
    "LSTM without bias": (lambda: _first(nn.LSTM(8, 12, bias=False)), ((5, 2, 8),)),
    "LSTM of two layers with projection": (
        lambda: _first(nn.LSTM(8, 12, 2, proj_size=6, bidirectional=True)),
        ((5, 2, 8),),
    ),
    "GRU both ways": (lambda: _first(nn.GRU(8, 12, 2, bidirectional=True)), ((5, 2, 8),)),
    "RNN cell": _of(nn.RNNCell(8, 12), 2, 8),
    "GRU cell without batch": _of(nn.GRUCell(8, 12), 8),
    "the model is a linear of 3 dimensions": (lambda: nn.Linear(8, 16), ((2, 5, 8),)),
    "the model is a batch norm": (lambda: nn.BatchNorm2d(8), (IMAGE,)),
    "the model is an LSTM": (lambda: nn.LSTM(8, 12), ((5, 2, 8),)),
    "the model is a Sequential": (lambda: nn.Sequential(nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), (IMAGE,)),
    "a layer that holds another": (lambda: is_a(_Residual()), (IMAGE,)),
    "raw parameters beside children": (_raw_beside_children, (IMAGE,)),
    "shared deep down": (_shared_deep, (IMAGE,)),
    "scalars": (lambda: Calls(lambda m, x: 2 * m.m0(x) / 3 - x.shape[1], nn.Conv2d(8, 8, 1)), (IMAGE,)),
    "a result that is not used": (
        lambda: Calls(lambda m, x: (m.m0(x), m.m1(x))[1], nn.Conv2d(8, 4, 3), nn.Conv2d(8, 4, 1)),
        (IMAGE,),
    ),
    "list of modules": (
        lambda: Calls(lambda m, x: m.m0[1](m.m0[0](x)), nn.ModuleList([nn.Conv2d(8, 4, 3), nn.ReLU()])),
        (IMAGE,),
    ),
    "dict of modules": (lambda: Calls(lambda m, x: m.m0["a"](x), nn.ModuleDict({"a": nn.Conv2d(8, 4, 3)})), (IMAGE,)),
    "Softmax of keyword": (lambda: Calls(lambda m, x: m.m0(input=x), nn.Softmax(1)), (IMAGE,)),
}
"""More of them, for what only the optional counters price: the activations one by one, forms of products and pools."""
