"""Small models on which it matters that a counter sees what ``torch.jit.trace`` sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import torch
from probe_pool import IMAGE, SEQUENCE, Calls, attends, is_a
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint


@cache
def measured_jit() -> dict[str, dict[str, str]]:
    """What fvcore and torchprofile once said of each probe; ``ERR:`` before an error."""
    text = (Path(__file__).parent / "golden" / "jit_measured.tsv").read_text()
    header, *rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


Probe = tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]


def on(*shapes: tuple[int, ...]) -> Callable[[Callable[..., Any]], Probe]:
    """A model that is a function of inputs of these shapes."""
    return lambda function: (lambda: Calls(lambda _, *inputs: function(*inputs)), shapes)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x @ x.mT * 2

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients


class _Passed(torch.autograd.Function):
    """Returns what it is given, of which torch makes a view; the newer form, without a context."""

    @staticmethod
    def forward(x: torch.Tensor, factor: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x @ x.mT * factor

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0], None


class _Nested(torch.autograd.Function):
    """Calls the forward pass of another by hand."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return _Doubled.forward(ctx, x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients


@torch.jit.script
def _scripted(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT * 2


class _Pair(NamedTuple):
    one: Any
    two: Any


@dataclass
class _Record:
    one: Any


class _Hidden(nn.Module):
    """Holds a layer where no one sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Conv2d(8, 4, 1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[0](x)


class _Constant(nn.Module):
    def __init__(self, *, used: bool) -> None:
        super().__init__()
        self.tensor, self.used = torch.ones(8, 1, 1), used

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.tensor if self.used else self.tensor


def _in_place_on_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 3
    y.view(-1).mul_((x * 2).flatten())
    return y


def _in_place_on_what_is_not_used(x: torch.Tensor) -> torch.Tensor:
    (x * 3).mul_(x @ x.mT)
    return x + 1


def _set_item(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros_like(x)
    y[:, :4] = (x * 2)[:, :4]
    return y


def _set_item_of_a_copy(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, :4] = x[:, :4] * 2
    return x + 1


def _increase(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y *= 2
    y += x * x
    return y


def _made_in_a_thread(x: torch.Tensor) -> torch.Tensor:
    found: list[torch.Tensor] = []
    thread = Thread(target=lambda: found.append(x * 2))
    thread.start()
    thread.join()
    return x * found[0]


def _out(x: torch.Tensor) -> torch.Tensor:
    y = torch.empty(x.shape)
    with torch.no_grad():
        torch.mul(x, 2, out=y)
    return y


def _packed(model: Calls, x: torch.Tensor) -> Any:
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
    return model.m0(packed)[0].data


class _Cached(nn.Module):
    """Keeps a product of sizes for the next call."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.size = x.shape[0] * x.shape[1]
        return x.view(self.size, -1)


_MASK = torch.zeros(7, 7)

JIT: dict[str, Probe] = {
    # What no output depends on is not there; what is written in place may be.
    "in place on a view": on(IMAGE)(_in_place_on_a_view),
    "in place on what is not used": on(IMAGE)(_in_place_on_what_is_not_used),
    "set item": on(IMAGE)(_set_item),
    "set item of a copy": on(IMAGE)(_set_item_of_a_copy),
    "increase": on(IMAGE)(_increase),
    "out": on(IMAGE)(_out),
    "chain that is not used": on(IMAGE)(lambda x: (((x * 2) @ x.mT) * 3, x.mean(), x + 1)[2]),
    "item": on(IMAGE)(lambda x: x + 0 * len(x) + (x.mT @ x).shape[0]),
    "one of several": on(IMAGE)(lambda x: (x * 2).chunk(2, 1)[0]),
    "detached": on(IMAGE)(lambda x: (x * 2).detach() * 3),
    "data": on(IMAGE)(lambda x: (x * 2).data * 3),
    "the input": on(IMAGE)(lambda x: x),
    "input in place": on(IMAGE)(lambda x: x.mul_(2)),
    "relu in place": (lambda: is_a(nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(inplace=True))), (IMAGE,)),
    # Products of sizes are products of tensors.
    "view of a product": on(IMAGE)(lambda x: x.view(x.shape[0] * x.shape[1], -1)),
    "product of three sizes": on(IMAGE)(lambda x: x.reshape(x.size(0) * x.size(1) * x.size(2), -1)),
    "product of all sizes": on(IMAGE)(lambda x: x.reshape(math.prod(x.shape))),
    "numel of a shape": on(IMAGE)(lambda x: x.reshape(x.shape.numel())),
    "numel of a part": on(IMAGE)(lambda x: x.reshape(x.shape[:-1].numel(), -1)),
    "product that is not used": on(IMAGE)(lambda x: (x.shape[0] * x.shape[1], x.relu())[1]),
    "number of elements": on(IMAGE)(lambda x: x.reshape(x.numel() * 1)),
    "size by a number": on(IMAGE)(lambda x: F.interpolate(x, size=(x.shape[2] * 2, 2 * x.shape[3]))),
    "size by a fraction": on(IMAGE)(lambda x: F.interpolate(x, size=(int(x.shape[2] * 1.5), 5))),
    "rounded up": on(IMAGE)(lambda x: F.pad(x, (0, -(-x.shape[3] // 4) * 4 - x.shape[3]))),
    "slice": on(IMAGE)(lambda x: x[:, : x.shape[1] * 3 // 4] * 2),
    "index": on(IMAGE)(lambda x: x[:, x.shape[1] * 3 // 4 - 1]),
    "range of sizes": on(IMAGE)(lambda x: x.flatten() + torch.arange(x.shape[1] * x.shape[2] * x.shape[3])),
    "zeros of a size": on(IMAGE)(lambda x: x.flatten() + x.new_zeros(x.shape[1] * 100)),
    "loop over a size": on(IMAGE)(lambda x: sum(x[:, i] * 2 for i in range(x.shape[1] * 1))),
    "branch by a size": on(IMAGE)(lambda x: x * 2 if x.shape[1] * x.shape[2] > 50 else x),
    "scaled by a size": on(IMAGE)(lambda x: x * x.shape[1] ** -0.5 / math.sqrt(x.shape[2])),
    "size by a tensor": on(IMAGE)(lambda x: x.shape[1] * x + x * x.size(2)),
    "sizes compared": on(IMAGE, IMAGE)(lambda x, y: x * y if x.shape == y.shape else x),
    "sizes added up": on(IMAGE)(lambda x: x.new_zeros(sum(x.shape) * 2)),
    "greater size": on(IMAGE)(lambda x: x.new_zeros(max(x.shape[1] * 2, 3), x.shape[2] - 1)),
    "quotient and rest": on(IMAGE)(lambda x: x.new_zeros(divmod(x.shape[1] * 3, 5))),
    "size as a key": on(IMAGE)(lambda x: x * {8: 2}[x.shape[1]]),
    "size in words": on(IMAGE)(lambda x: x * len(f"{x.shape} {x.shape[1]:3d} {x.shape[1]!r}")),
    "list of sizes": on(IMAGE)(lambda x: x.repeat([1, 2] + [s // s for s in x.shape[2:]])),
    "list as long as a size": on(IMAGE)(lambda x: x.repeat([1] * (x.shape[0] * 4))),
    "size that comes out": on(IMAGE)(lambda x: (x, x.shape[0] * x.shape[1])),
    "size of a product": on(IMAGE)(lambda x: x.new_zeros((x @ x.mT).shape[2] * 2)),
    "product with itself": on(IMAGE)(lambda x: x.new_zeros(x.shape[1] ** 2)),
    "size kept": (_Cached, (IMAGE,)),
    "window partition": on(IMAGE)(
        lambda x: (
            x.view(x.shape[0], x.shape[1], x.shape[2] // 5, 5, x.shape[3] // 5, 5)
            .permute(0, 2, 4, 3, 5, 1)
            .reshape(x.shape[0] * (x.shape[2] // 5) * (x.shape[3] // 5), 25, x.shape[1])
        )
    ),
    # Functions that go another way where they are traced.
    "interpolate, rounded scale": on(IMAGE)(lambda x: F.interpolate(x, scale_factor=1.7, recompute_scale_factor=True)),
    "interpolate area by a scale": on(IMAGE)(lambda x: F.interpolate(x, scale_factor=0.5, mode="area")),
    "attention, masked": (
        lambda: Calls(lambda m, x: m.m0(x, x, x, attn_mask=_MASK)[0], nn.MultiheadAttention(16, 4, batch_first=True)),
        (SEQUENCE,),
    ),
    "attention, padded": (
        lambda: Calls(
            lambda m, x: m.m0(x, x, x, key_padding_mask=torch.zeros(2, 7, dtype=torch.bool), need_weights=False)[0],
            nn.MultiheadAttention(16, 4, batch_first=True),
        ),
        (SEQUENCE,),
    ),
    "attention, with its weights": (
        lambda: Calls(lambda m, x: m.m0(x, x, x), nn.MultiheadAttention(16, 4, batch_first=True)),
        (SEQUENCE,),
    ),
    "attention, frozen, without weights": (
        lambda: attends(nn.MultiheadAttention(16, 4), need_weights=False).requires_grad_(False),
        ((7, 2, 16),),
    ),
    "under no_grad": (
        lambda: Calls(torch.no_grad()(lambda m, x: m.m0(x, x, x)[0]), nn.MultiheadAttention(16, 4)),
        ((7, 2, 16),),
    ),
    "packed LSTM": (lambda: Calls(_packed, nn.LSTM(8, 12, batch_first=True)), ((2, 5, 8),)),
    "packed GRU": (lambda: Calls(_packed, nn.GRU(8, 12, batch_first=True)), ((2, 5, 8),)),
    # Functions with a backward pass of their own, other threads, other holders.
    "own backward pass": on(IMAGE)(_Doubled.apply),
    "own backward pass, looked up at the call": on(IMAGE)(lambda x: _Doubled.apply(x * 2) * 3),
    "own backward pass, the input returned": on(IMAGE)(lambda x: _Passed.apply(x * 2)[0] @ x.mT),
    "own backward pass, the input returned alone": on(IMAGE)(lambda x: _Passed.apply(x, 2.0)[0]),
    "own backward pass, both returned": on(IMAGE)(_Passed.apply),
    "own backward pass, another's by hand": on(IMAGE)(lambda x: _Nested.apply(x * 2) @ x),
    "own backward pass, not used": on(IMAGE)(lambda x: (_Doubled.apply(x * 2), x)[1]),
    "checkpoint": (
        lambda: Calls(lambda m, x: checkpoint(m.m0, x, use_reentrant=True), nn.Conv2d(8, 4, 1)),
        (IMAGE,),
    ),
    "newer checkpoint": (
        lambda: Calls(lambda m, x: checkpoint(m.m0, x, use_reentrant=False), nn.Conv2d(8, 4, 1)),
        (IMAGE,),
    ),
    "in a thread": on(IMAGE)(_made_in_a_thread),
    "scripted function": (
        lambda: Calls(lambda m, x: _scripted(m.m0(x)) * 2, nn.Conv2d(8, 4, 1)),
        (IMAGE,),
    ),
    "scripted function, not used": on(IMAGE)(lambda x: (_scripted(x * 2), x)[1]),
    "hidden layer": (_Hidden, (IMAGE,)),
    "hidden layer, frozen": (lambda: _frozen(_Hidden()), (IMAGE,)),
    "layer made while running": (lambda: Calls(lambda m, x: nn.Conv2d(8, 4, 1)(x)), (IMAGE,)),
    "scripted inside": (lambda: is_a(torch.jit.script(nn.Conv2d(8, 4, 1))), (IMAGE,)),
    "constant": (lambda: _Constant(used=True), (IMAGE,)),
    # What comes out.
    "a constant comes out": (lambda: _Constant(used=False), (IMAGE,)),
    "new zeros come out": on(IMAGE)(lambda x: torch.zeros(3)),
    "an int comes out": on(IMAGE)(lambda x: (x * 2, 3)),
    "a word comes out": on(IMAGE)(lambda x: (x * 2, "word")),
    "None comes out": on(IMAGE)(lambda x: (x * 2, None)),
    "a named tuple comes out": on(IMAGE)(lambda x: _Pair(x * 2, [x * 3, {"x": x * 4}])),
    "a record comes out": on(IMAGE)(lambda x: _Record(x * 2)),
    "a set comes out": on(IMAGE)(lambda x: {x * 2}),
    # Operators.
    "multiply": on(IMAGE)(lambda x: torch.multiply(x, x).multiply_(2).mul_(3)),
    "operators of all kinds": on(IMAGE)(lambda x: (2 * x - 1) / (3 - x) ** 2 // 1 % 5 * -x),
    "aten": on(IMAGE)(lambda x: torch.ops.aten.mul(x, torch.ops.aten.mul.Tensor(x, x))),
    "linalg": on((2, 4, 5), (2, 5, 3))(lambda a, b: torch.linalg.matmul(a, b)),
    "mm as method": on((4, 5), (5, 3))(lambda a, b: a.mm(b)),
    "matmul of unequal batches": on((1, 4, 5), (3, 5, 2))(lambda a, b: a @ b),
    "matmul of matrices and batches": on((3, 4, 5), (5, 2))(lambda a, b: a @ b),
    "addmv": on((4,), (4, 5), (5,))(lambda a, b, c: torch.addmv(a, b, c)),
    "baddbmm that broadcasts": on((4, 6), (3, 4, 5), (3, 5, 6))(lambda a, b, c: torch.baddbmm(a, b, c)),
    "baddbmm of one row": on((1, 1, 6), (3, 4, 5), (3, 5, 6))(lambda a, b, c: torch.baddbmm(a, b, c)),
    "baddbmm of one batch": on((1, 4, 6), (3, 4, 5), (3, 5, 6))(lambda a, b, c: torch.baddbmm(a, b, c)),
    "linear by keyword": (lambda: Calls(lambda m, x: F.linear(input=x, weight=m.w), w=(6, 8)), ((3, 8),)),
    "conv by keyword": (lambda: Calls(lambda m, x: F.conv2d(x, weight=m.w, padding="same"), w=(6, 8, 3, 3)), (IMAGE,)),
    "conv without batch, same": (lambda: is_a(nn.Conv2d(8, 16, 3, padding="same")), ((8, 10, 10),)),
    "conv of complex numbers": (
        lambda: Calls(lambda m, x: m.m0(x.to(torch.complex64)).abs(), nn.Conv2d(8, 4, 3, dtype=torch.complex64)),
        (IMAGE,),
    ),
    "transposed, complex": (
        lambda: Calls(
            lambda m, x: m.m0(x.to(torch.complex64)).abs(), nn.ConvTranspose2d(8, 4, 3, dtype=torch.complex64)
        ),
        (IMAGE,),
    ),
    "transposed square of groups": (lambda: is_a(nn.ConvTranspose2d(8, 8, 3, groups=4, stride=2)), (IMAGE,)),
    "transposed square without batch": (lambda: is_a(nn.ConvTranspose2d(8, 8, 3, groups=4)), ((8, 10, 10),)),
    "leaky relu in place": on(IMAGE)(lambda x: F.leaky_relu(x * 1, inplace=True)),
    "means": on(IMAGE)(lambda x: x.mean() + x.mean(1, keepdim=True) + torch.mean(x, (2, 3), keepdim=True)),
    "average pools": on(IMAGE)(lambda x: F.avg_pool2d(x, 2) + F.adaptive_avg_pool2d(x, (5, 5))),
    "average pools 1d": on((2, 8, 10))(lambda x: F.avg_pool1d(x, 2) + F.adaptive_avg_pool1d(x, 5)),
    "average pools 3d": on((1, 2, 6, 6, 6))(lambda x: F.avg_pool3d(x, 2) + F.adaptive_avg_pool3d(x, 3)),
    "average pool without batch": on((8, 10, 10))(lambda x: F.adaptive_avg_pool2d(x, (5, 5))),
    "upsample antialiased": on(IMAGE)(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", antialias=True)),
    "batch norm without statistics": (lambda: is_a(nn.BatchNorm2d(8, track_running_stats=False)), (IMAGE,)),
    "batch norm without statistics or scale": (
        lambda: is_a(nn.BatchNorm2d(8, affine=False, track_running_stats=False)),
        (IMAGE,),
    ),
    "batch norm 1d": (lambda: is_a(nn.BatchNorm1d(8)), ((3, 8),)),
    "batch norm 3d": (lambda: is_a(nn.BatchNorm3d(2)), ((1, 2, 4, 4, 4),)),
    "batch norm as function": on(IMAGE)(lambda x: F.batch_norm(x, None, None, training=True)),
    "instance norm with statistics": (lambda: is_a(nn.InstanceNorm2d(8, track_running_stats=True)), (IMAGE,)),
    "instance norm without batch": (lambda: is_a(nn.InstanceNorm2d(8)), ((8, 10, 10),)),
    "layer norm of one dimension": (lambda: is_a(nn.LayerNorm(8)), ((8,),)),
    "layer norm of six dimensions": (lambda: is_a(nn.LayerNorm(2)), ((1, 2, 3, 1, 2, 2),)),
    "layer norm as function": on((2, 5, 8))(lambda x: F.layer_norm(x, (8,)) + F.layer_norm(x, (5, 8))),
    "group norm as function": on(IMAGE)(lambda x: F.group_norm(x, 2)),
    "grid of the nearest": on(IMAGE, (1, 6, 6, 2))(lambda x, g: F.grid_sample(x, g, "nearest", align_corners=False)),
    "grid bicubic": on(IMAGE, (1, 6, 6, 2))(lambda x, g: F.grid_sample(x, g, mode="bicubic", align_corners=False)),
    "grid 3d": on((1, 2, 4, 4, 4), (1, 3, 3, 3, 3))(lambda x, g: F.grid_sample(x, g, align_corners=False)),
    "einsum with dots": on((2, 3, 4, 5), (2, 3, 5, 6))(lambda a, b: torch.einsum("...ij,...jk->...ik", a, b)),
    "einsum with spaces": on((2, 4, 5), (2, 4, 6))(lambda a, b: torch.einsum("b i j, b i k -> b j k", a, b)),
    "einsum, other letters": on((2, 4, 5), (3, 5))(lambda a, b: torch.einsum("xyz,wz->xyw", a, b)),
    "einsum of keys": on((2, 4, 5), (2, 6, 5))(lambda a, b: torch.einsum("nqd,nkd->nqk", a, b)),
    "einsum, outer": on((4,), (5,))(lambda a, b: torch.einsum("i,j->ij", a, b)),
    "einsum, diagonal": on((4, 4), (4, 3))(lambda a, b: torch.einsum("ii,ij->j", a, b)),
    "einsum of four": on((3, 4), (4, 9), (9, 5))(lambda a, b, c: torch.einsum("ij,jk,kl,mi->ml", a, b, c, a.mT[:, :3])),
    "einsum of sizes one": on((3, 1, 4), (3, 5, 4))(lambda a, b: torch.einsum("bij,bkj->bik", a, b)),
    "einsum of lists": on((3, 4), (4, 9))(lambda a, b: torch.einsum(a, [0, 1], b, [1, 2], [0, 2])),
    "cells without batch": (
        lambda: Calls(lambda m, x: m.m0(x)[0] + m.m1(x), nn.LSTMCell(8, 12), nn.GRUCell(8, 12)),
        ((8,),),
    ),
    "cells without bias": (
        lambda: Calls(
            lambda m, x: m.m0(x)[1] * m.m1(x),
            nn.LSTMCell(8, 12, bias=False),
            nn.RNNCell(8, 12, bias=False, nonlinearity="relu"),
        ),
        ((3, 8),),
    ),
    "cell in a loop": (
        lambda: Calls(lambda m, x: m.m0(x[2], m.m0(x[1], m.m0(x[0]))), nn.GRUCell(8, 12)),
        ((3, 2, 8),),
    ),
    "spectral norm": (lambda: is_a(nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 4, 3))), (IMAGE,)),
    "orthogonal": (lambda: is_a(nn.utils.parametrizations.orthogonal(nn.Linear(8, 8))), ((3, 8),)),
    "embedding bag": (
        lambda: Calls(lambda m, x: m.m0(x.long()), nn.EmbeddingBag(10, 8, mode="sum")),
        ((3, 4),),
    ),
    "distances and kronecker": on((4, 5), (6, 5))(lambda a, b: torch.cdist(a, b).sum() + torch.kron(a, b)),
    "tensordot": on((4, 5), (5, 6))(lambda a, b: torch.tensordot(a, b, dims=1) + a.inner(b.mT)),
    "conv_tbc": (lambda: Calls(lambda m, x: torch.conv_tbc(x, m.w, m.b), w=(3, 8, 4), b=(4,)), ((7, 2, 8),)),
    "unfold and fold": on(IMAGE)(lambda x: F.fold(F.unfold(x, 3) * 2, (10, 10), 3)),
    "local response norm": (lambda: is_a(nn.LocalResponseNorm(3)), (IMAGE,)),
}
"""Name -> model, shapes of its inputs."""


def _frozen(module: _Hidden) -> nn.Module:
    module.layers[0].requires_grad_(False)
    return module
