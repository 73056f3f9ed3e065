"""The probes on which every peer was measured once: ``golden/peers_measured.tsv`` has what each of them said.

So predictions are held against real answers also where a peer is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from probe_pool import Calls, attends, is_a
from torch import nn
from torch.nn import functional as F  # noqa: N812
from versions import needs_grouped_queries

Probe = tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]

IMAGE = (1, 8, 10, 10)
TOKENS = (2, 5, 8)
SEQUENCE = (2, 7, 16)
HEADS = (2, 4, 7, 8)


@cache
def measured() -> dict[str, dict[str, str]]:
    """Figures by probe and column; ``~`` before one that the peer itself calls partial, ``ERR:`` before an error."""
    text = (Path(__file__).parent / "golden" / "peers_measured.tsv").read_text()
    header, *rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def example(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A probe and its inputs, on the CPU."""
    needs_grouped_queries(name)
    torch.manual_seed(0)
    make, shapes = MEASURED[name]
    if name == "Embedding":
        return make(), (torch.randint(0, 20, *shapes),)
    return make(), tuple(torch.rand(shape) for shape in shapes)


def _alone(kind: type[nn.Module], *args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    return lambda: is_a(kind(*args, **kwargs))


def _calling(forward: Callable[..., Any], **parameters: tuple[int, ...]) -> Callable[[], nn.Module]:
    return lambda: Calls(forward, **parameters)


def _first(kind: type[nn.Module], *args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    return lambda: Calls(lambda model, x: model.m0(x)[0], kind(*args, **kwargs))


def _padded() -> nn.Conv2d:
    return nn.Conv2d(8, 16, 3, padding=1)


def _shared_by_two_parents() -> nn.Module:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    return Calls(lambda model, x: model.m1(model.m0(x)), nn.Sequential(conv), nn.Sequential(conv))


def _shared_by_one_parent() -> nn.Module:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), conv)


def _tied() -> nn.Module:
    first, second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    second.weight = first.weight
    return nn.Sequential(first, second)


def _frozen() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16))
    model[0].weight.requires_grad_(False)
    return model


class OwnConv(nn.Conv2d):
    """A subclass that adds nothing."""


def _kdim() -> nn.Module:
    attention = nn.MultiheadAttention(16, 4, batch_first=True, kdim=12, vdim=12)
    return Calls(lambda model, x, k: model.m0(x, k, k)[0], attention)


def _attention() -> nn.MultiheadAttention:
    return nn.MultiheadAttention(16, 4, batch_first=True)


def _inside(forward: Callable[..., Any], take: Any) -> Callable[[], nn.Module]:
    return lambda: Calls(lambda model, x: model.m0(x)[take], Calls(forward, _padded()))


def _resblock() -> nn.Module:
    conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    return Calls(lambda model, x: F.relu(model.m1(model.m0(x)) + x), conv, nn.BatchNorm2d(8))


_MODULES = """ReLU ReLU6 LeakyReLU ELU SELU CELU PReLU GELU SiLU Mish Sigmoid Tanh Hardswish Hardsigmoid Hardtanh
Softplus GLU Identity Dropout"""
_FUNCTIONS = "relu gelu silu sigmoid hardswish leaky_relu elu relu6"


def _function(name: str) -> Callable[[], nn.Module]:
    return _calling(lambda model, x: getattr(F, name)(x))


MEASURED: dict[str, Probe] = {
    "conv3x3": (_alone(nn.Conv2d, 8, 16, 3, padding=1, bias=False), (IMAGE,)),
    "conv3x3_bias": (lambda: is_a(_padded()), (IMAGE,)),
    "conv_s2_d2_p1": (_alone(nn.Conv2d, 8, 16, 3, stride=2, dilation=2, padding=1), (IMAGE,)),
    "conv_g4_bias": (_alone(nn.Conv2d, 8, 16, 3, groups=4), (IMAGE,)),
    "conv_dw": (_alone(nn.Conv2d, 8, 8, 3, groups=8, padding=1, bias=False), (IMAGE,)),
    "conv_same_str": (_alone(nn.Conv2d, 8, 16, 4, padding="same"), (IMAGE,)),
    "conv_same_k3": (_alone(nn.Conv2d, 8, 16, 3, padding="same"), (IMAGE,)),
    "conv_reflect": (_alone(nn.Conv2d, 8, 16, 3, padding=1, padding_mode="reflect"), (IMAGE,)),
    "conv1d_bias": (_alone(nn.Conv1d, 8, 16, 3), ((1, 8, 10),)),
    "conv3d_bias": (_alone(nn.Conv3d, 2, 4, 3), ((1, 2, 6, 6, 6),)),
    "conv_unbatched": (lambda: is_a(_padded()), ((8, 10, 10),)),
    "conv_batch3": (lambda: is_a(_padded()), ((3, 8, 10, 10),)),
    "convT_s2": (_alone(nn.ConvTranspose2d, 8, 16, 3, stride=2, bias=False), (IMAGE,)),
    "convT_s2_bias": (_alone(nn.ConvTranspose2d, 8, 16, 3, stride=2), (IMAGE,)),
    "convT_s2_g4_bias": (_alone(nn.ConvTranspose2d, 8, 16, 3, stride=2, groups=4), (IMAGE,)),
    "convT_sq_g1_8to8": (_alone(nn.ConvTranspose2d, 8, 8, 3, stride=2, bias=False), (IMAGE,)),
    "convT_dw_8to8": (_alone(nn.ConvTranspose2d, 8, 8, 3, stride=2, groups=8, bias=False), (IMAGE,)),
    "F.conv2d": (_calling(lambda m, x: F.conv2d(x, m.w, m.b, padding=1), w=(16, 8, 3, 3), b=(16,)), (IMAGE,)),
    "F.conv_transpose2d": (
        _calling(lambda m, x: F.conv_transpose2d(x, m.w, m.b, stride=2), w=(8, 16, 3, 3), b=(16,)),
        (IMAGE,),
    ),
    "linear": (_alone(nn.Linear, 8, 16, bias=False), ((1, 8),)),
    "linear_bias": (_alone(nn.Linear, 8, 16), ((1, 8),)),
    "linear_bias_3d": (_alone(nn.Linear, 8, 16), (TOKENS,)),
    "linear_3d_nobias": (_alone(nn.Linear, 8, 16, bias=False), (TOKENS,)),
    "linear_bias_4d": (_alone(nn.Linear, 8, 16), ((2, 3, 5, 8),)),
    "linear_bias_noncontig": (lambda: Calls(lambda m, x: m.m0(x.transpose(1, 2)), nn.Linear(8, 16)), ((2, 8, 5),)),
    "F.linear": (_calling(lambda m, x: F.linear(x, m.w, m.b), w=(16, 8), b=(16,)), (TOKENS,)),
    "bilinear": (_alone(nn.Bilinear, 4, 5, 6), ((2, 4), (2, 5))),
    "torch.matmul": (_calling(lambda m, a, b: torch.matmul(a, b)), ((2, 3, 4, 5), (2, 3, 5, 6))),
    "Tensor.matmul": (_calling(lambda m, a, b: a.matmul(b)), ((2, 3, 4, 5), (2, 3, 5, 6))),
    "@": (_calling(lambda m, a, b: a @ b), ((2, 3, 4, 5), (2, 3, 5, 6))),
    "matmul_bcast": (_calling(lambda m, a, b: torch.matmul(a, b)), ((4, 5), (2, 3, 5, 6))),
    "matmul_vec": (_calling(lambda m, a, b: torch.matmul(a, b)), ((4, 5), (5,))),
    "torch.mm": (_calling(lambda m, a, b: torch.mm(a, b)), ((4, 5), (5, 6))),
    "torch.bmm": (_calling(lambda m, a, b: torch.bmm(a, b)), ((3, 4, 5), (3, 5, 6))),
    "torch.addmm": (_calling(lambda m, a, b, c: torch.addmm(a, b, c)), ((4, 6), (4, 5), (5, 6))),
    "torch.baddbmm": (_calling(lambda m, a, b, c: torch.baddbmm(a, b, c)), ((3, 4, 6), (3, 4, 5), (3, 5, 6))),
    "einsum_bij,bjk": (_calling(lambda m, a, b: torch.einsum("bij,bjk->bik", a, b)), ((3, 4, 5), (3, 5, 6))),
    "einsum_attn": (
        _calling(lambda m, a, b: torch.einsum("bhqd,bhkd->bhqk", a, b)),
        ((2, 3, 4, 5), (2, 3, 6, 5)),
    ),
    "einsum_mv": (_calling(lambda m, a, b: torch.einsum("bi,i->b", a, b)), ((3, 4), (4,))),
    "F.sdpa": (_calling(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v)), (HEADS, HEADS, HEADS)),
    "F.sdpa_causal": (
        _calling(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        (HEADS, HEADS, HEADS),
    ),
    "F.sdpa_gqa": (
        _calling(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)),
        (HEADS, (2, 2, 7, 8), (2, 2, 7, 8)),
    ),
    "MHA_bf_weights": (lambda: attends(_attention()), (SEQUENCE,)),
    "MHA_bf_noweights": (lambda: attends(_attention(), need_weights=False), (SEQUENCE,)),
    "MHA_kwargs": (lambda: Calls(lambda m, x: m.m0(query=x, key=x, value=x)[0], _attention()), (SEQUENCE,)),
    "MHA_kdim": (_kdim, (SEQUENCE, (2, 5, 12))),
    "TrEncLayer": (_alone(nn.TransformerEncoderLayer, 16, 4, 32, batch_first=True), (SEQUENCE,)),
    "BN2d": (_alone(nn.BatchNorm2d, 8), (IMAGE,)),
    "BN2d_noaffine": (_alone(nn.BatchNorm2d, 8, affine=False), (IMAGE,)),
    "LN": (_alone(nn.LayerNorm, 8), (TOKENS,)),
    "LN_noaffine": (_alone(nn.LayerNorm, 8, elementwise_affine=False), (TOKENS,)),
    "GN": (_alone(nn.GroupNorm, 2, 8), (IMAGE,)),
    "IN_default": (_alone(nn.InstanceNorm2d, 8), (IMAGE,)),
    "IN_affine": (_alone(nn.InstanceNorm2d, 8, affine=True), (IMAGE,)),
    "RMSNorm": (_alone(nn.RMSNorm, 8), (TOKENS,)),
    "LRN": (_alone(nn.LocalResponseNorm, 3), (IMAGE,)),
    **{name: (_alone(getattr(nn, name)), (IMAGE,)) for name in _MODULES.split()},
    "Softmax": (_alone(nn.Softmax, 1), (IMAGE,)),
    "LogSoftmax": (_alone(nn.LogSoftmax, 1), (IMAGE,)),
    **{f"F.{name}": (_function(name), (IMAGE,)) for name in _FUNCTIONS.split()},
    "torch.relu": (_calling(lambda m, x: torch.relu(x)), (IMAGE,)),
    "x.relu()": (_calling(lambda m, x: x.relu()), (IMAGE,)),
    "F.softmax": (_calling(lambda m, x: F.softmax(x, dim=1)), (IMAGE,)),
    "torch.softmax": (_calling(lambda m, x: torch.softmax(x, dim=1)), (IMAGE,)),
    "x.softmax()": (_calling(lambda m, x: x.softmax(dim=1)), (IMAGE,)),
    "MaxPool2": (_alone(nn.MaxPool2d, 2), (IMAGE,)),
    "AvgPool2": (_alone(nn.AvgPool2d, 2), (IMAGE,)),
    "AvgPool3s1p1": (_alone(nn.AvgPool2d, 3, 1, 1), (IMAGE,)),
    "MaxPool1d": (_alone(nn.MaxPool1d, 2), ((1, 8, 10),)),
    "AdaptAvg1": (_alone(nn.AdaptiveAvgPool2d, 1), (IMAGE,)),
    "AdaptAvg3": (_alone(nn.AdaptiveAvgPool2d, 3), (IMAGE,)),
    "AdaptMax1": (_alone(nn.AdaptiveMaxPool2d, 1), (IMAGE,)),
    "F.avg_pool2d": (_calling(lambda m, x: F.avg_pool2d(x, 2)), (IMAGE,)),
    "F.max_pool2d": (_calling(lambda m, x: F.max_pool2d(x, 2)), (IMAGE,)),
    "F.adaptive_avg_pool2d": (_calling(lambda m, x: F.adaptive_avg_pool2d(x, 1)), (IMAGE,)),
    "x.mean": (_calling(lambda m, x: x.mean((2, 3))), (IMAGE,)),
    "LPPool2": (_alone(nn.LPPool2d, 2, 2), (IMAGE,)),
    "Up_nearest_x2": (_alone(nn.Upsample, scale_factor=2), (IMAGE,)),
    "Up_bilinear_x2": (_alone(nn.Upsample, scale_factor=2, mode="bilinear"), (IMAGE,)),
    "Up_bilinear_size": (_alone(nn.Upsample, size=(20, 20), mode="bilinear"), (IMAGE,)),
    "Up_bicubic_x2": (_alone(nn.Upsample, scale_factor=2, mode="bicubic"), (IMAGE,)),
    "Up_x2_batch3": (_alone(nn.Upsample, scale_factor=2), ((3, 8, 10, 10),)),
    "Up_scale_tuple1.5": (_alone(nn.Upsample, scale_factor=(1.5, 1.5)), (IMAGE,)),
    "UpsamplingBilinear2d": (_alone(nn.UpsamplingBilinear2d, scale_factor=2), (IMAGE,)),
    "F.interp_x2": (_calling(lambda m, x: F.interpolate(x, scale_factor=2)), (IMAGE,)),
    "F.interp_area": (_calling(lambda m, x: F.interpolate(x, size=(5, 5), mode="area")), (IMAGE,)),
    "F.interp_size": (_calling(lambda m, x: F.interpolate(x, size=(20, 20))), (IMAGE,)),
    "PixelShuffle": (_alone(nn.PixelShuffle, 2), (IMAGE,)),
    "grid_sample": (_calling(lambda m, x, grid: F.grid_sample(x, grid, align_corners=False)), (IMAGE, (1, 6, 6, 2))),
    "Embedding": (_alone(nn.Embedding, 20, 8), ((2, 5),)),
    "RNN": (_first(nn.RNN, 8, 12, batch_first=True), (TOKENS,)),
    "GRU": (_first(nn.GRU, 8, 12, batch_first=True), (TOKENS,)),
    "LSTM": (_first(nn.LSTM, 8, 12, batch_first=True), (TOKENS,)),
    "LSTM_nobias": (_first(nn.LSTM, 8, 12, batch_first=True, bias=False), (TOKENS,)),
    "LSTM_2l_bi": (_first(nn.LSTM, 8, 12, 2, batch_first=True, bidirectional=True), (TOKENS,)),
    "LSTM_proj": (_first(nn.LSTM, 8, 12, batch_first=True, proj_size=6), (TOKENS,)),
    "LSTM_bf_false": (_first(nn.LSTM, 8, 12), ((5, 2, 8),)),
    "LSTMCell": (_first(nn.LSTMCell, 8, 12), ((2, 8),)),
    "GRUCell": (_alone(nn.GRUCell, 8, 12), ((2, 8),)),
    "a+b": (_calling(lambda m, a, b: a + b), (IMAGE, IMAGE)),
    "torch.add": (_calling(lambda m, a, b: torch.add(a, b)), (IMAGE, IMAGE)),
    "x.add": (_calling(lambda m, a, b: a.add(b)), (IMAGE, IMAGE)),
    "a*b": (_calling(lambda m, a, b: a * b), (IMAGE, IMAGE)),
    "torch.mul": (_calling(lambda m, a, b: torch.mul(a, b)), (IMAGE, IMAGE)),
    "torch.mul_bcast": (_calling(lambda m, a, b: torch.mul(a, b)), (IMAGE, (8, 1, 1))),
    "torch.mul_SE": (_calling(lambda m, a, b: torch.mul(a, b)), (IMAGE, (1, 8, 1, 1))),
    "shared_2calls": (lambda: Calls(lambda m, x: m.m0(m.m0(x)), nn.Conv2d(8, 8, 3, padding=1)), (IMAGE,)),
    "shared_2parents": (_shared_by_two_parents, (IMAGE,)),
    "shared_sameparent": (_shared_by_one_parent, (IMAGE,)),
    "tied_weight": (_tied, ((1, 8),)),
    "rawparam": (_calling(lambda m, x: x * m.g, g=(1, 8, 1, 1)), (IMAGE,)),
    "frozen_conv_w": (_frozen, (IMAGE,)),
    "unused_layer": (lambda: Calls(lambda m, x: m.m0(x), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)), (IMAGE,)),
    "subclass_conv": (_alone(OwnConv, 8, 16, 3, padding=1), (IMAGE,)),
    "weight_norm": (lambda: is_a(nn.utils.weight_norm(_padded())), (IMAGE,)),
    "param_weight_norm": (lambda: is_a(nn.utils.parametrizations.weight_norm(_padded())), (IMAGE,)),
    "root_is_conv": (_padded, (IMAGE,)),
    "root_is_linear": (lambda: nn.Linear(8, 16), ((1, 8),)),
    "dict_output": (lambda: Calls(lambda m, x: {"o": m.m0(x)}, _padded()), (IMAGE,)),
    "nested_dict_mid": (_inside(lambda m, x: {"o": m.m0(x)}, "o"), (IMAGE,)),
    "tuple_output": (_inside(lambda m, x: (m.m0(x), m.m0(x)), 0), (IMAGE,)),
    "none_in_tuple": (_inside(lambda m, x: (m.m0(x), None), 0), (IMAGE,)),
    "child_kwargs": (lambda: Calls(lambda m, x: m.m0(input=x), _padded()), (IMAGE,)),
    "two_inputs": (lambda: Calls(lambda m, a, b: m.m0(a) + m.m0(b), _padded()), (IMAGE, IMAGE)),
    "no_params": (lambda: nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (IMAGE,)),
    "resblock": (_resblock, (IMAGE,)),
}
"""Name in the table -> what makes the probe, the shapes of its inputs."""
