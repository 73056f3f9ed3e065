"""onnx-tool and onnxsim, operator by operator, and the tools themselves where they are installed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from conventions import causes, meta, predicted, row
from torch import nn
from torch.nn import functional


class Function(nn.Module):
    """A function of one input."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Attending(nn.Module):
    """Attention without its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Recurrent(nn.Module):
    """A recurrent layer without its states."""

    def __init__(self, kind: type[nn.RNNBase], **more: int | bool) -> None:
        super().__init__()
        self.layer = kind(6, 4, **more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def attending(x: torch.Tensor) -> torch.Tensor:
    """Attention as a function, which is taken apart."""
    return functional.scaled_dot_product_attention(x, x, x)


IMAGE, E = (1, 4, 10, 12), 4 * 10 * 12
"""A small image, and its elements."""

OPERATORS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "conv": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), IMAGE, 720 * 18 + 720, 720 * 18),
    "conv, no bias": (lambda: nn.Conv2d(4, 6, 3, 2, dilation=2, bias=False), IMAGE, 6 * 3 * 4 * 36, 6 * 3 * 4 * 36),
    "conv and norm": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        IMAGE,
        480 * (36 + 1) + 480,
        480 * 36,
    ),
    "conv3d": (lambda: nn.Conv3d(2, 4, 3), (1, 2, 6, 6, 6), 256 * 54 + 256, 256 * 54),
    "norm alone": (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), IMAGE, E + 31 * E, 0),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, bias=False), IMAGE, 6 * 21 * 25 * 6 * 9, E * 6 * 9),
    "transposed and norm": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2), nn.BatchNorm2d(6)),
        IMAGE,
        6 * 19 * 23 * (3 * 9 + 1),
        E * 3 * 9,
    ),
    "gemm": (lambda: nn.Linear(6, 4), (3, 6), 3 * 24 + 12, 3 * 24),
    "gemm and norm": (lambda: nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)), (3, 6), 3 * 24 + 12, 72),
    "matmul and add": (lambda: nn.Linear(6, 4), (2, 5, 6), 240 + 40, 240),
    "matmul": (lambda: Function(lambda x: x @ x.transpose(-1, -2)), IMAGE, 4 * 10 * 10 * 12, 4800),
    "clip": (nn.ReLU6, IMAGE, 2 * E, 0),
    "sigmoid": (nn.Sigmoid, IMAGE, 32 * E, 0),
    "tanh": (nn.Tanh, IMAGE, 2 * 38 * E, 0),
    "silu": (nn.SiLU, IMAGE, 33 * E, 0),
    "gelu": (nn.GELU, IMAGE, 34 * E, 0),
    "hard swish": (nn.Hardswish, IMAGE, 5 * E, 0),
    "hard sigmoid": (nn.Hardsigmoid, IMAGE, 4 * E, 0),
    "elu": (nn.ELU, IMAGE, 35 * E, 0),
    "leaky": (nn.LeakyReLU, IMAGE, 2 * E, 0),
    "prelu": (nn.PReLU, IMAGE, 2 * E, 0),
    "softplus": (nn.Softplus, IMAGE, 77 * E, 0),
    "softmax": (lambda: nn.Softmax(1), IMAGE, 36 * E, 0),
    "log softmax": (lambda: nn.LogSoftmax(1), IMAGE, 80 * E, 0),
    "max pool": (lambda: nn.MaxPool2d(3, 2, 1), IMAGE, 4 * 5 * 6 * 9, 0),
    "average pool": (lambda: nn.AvgPool2d(2), IMAGE, E, 0),
    "pool of a line": (lambda: nn.MaxPool1d(2), (1, 4, 10), 20 * 2, 0),
    "pool of a volume": (lambda: nn.AvgPool3d(2), (1, 2, 6, 6, 6), 2 * 27 * 2, 0),
    "global average": (lambda: nn.AdaptiveAvgPool2d(1), IMAGE, E, 0),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d((2, 3)), IMAGE, 4 * 6 * 5 * 4, 0),
    "group norm": (lambda: nn.GroupNorm(2, 4), IMAGE, 9 * E, 0),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE, 7 * E, 0),
    "layer norm": (lambda: nn.LayerNorm(12), IMAGE, 7 * E + 29 * 40, 0),
    "layer norm of two": (lambda: nn.LayerNorm((10, 12)), IMAGE, 7 * E + 29 * 48, 0),
    "root mean square": (lambda: nn.RMSNorm(12), IMAGE, (32 + 1 + 2) * E + (1 + 24 + 4) * 40, 0),
    "nearest": (lambda: nn.Upsample(scale_factor=2), IMAGE, 0, 0),
    "bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE, 4 * 4 * E, 0),
    "bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE, 8 * 4 * E, 0),
    "add and div": (lambda: Function(lambda x: x / (x + 1)), IMAGE, 5 * E, 0),
    "mul": (lambda: Function(lambda x: x * 2), IMAGE, E, 0),
    "exp": (lambda: Function(torch.exp), IMAGE, 32 * E, 0),
    "sqrt": (lambda: Function(torch.sqrt), IMAGE, 24 * E, 0),
    "rsqrt": (lambda: Function(torch.rsqrt), IMAGE, 28 * E, 0),
    "pow": (lambda: Function(lambda x: x**2), IMAGE, 32 * E, 0),
    "sin": (lambda: Function(torch.sin), IMAGE, 39 * E, 0),
    "log": (lambda: Function(torch.log), IMAGE, 43 * E, 0),
    "erf": (lambda: Function(torch.erf), IMAGE, 0, 0),
    "clamp": (lambda: Function(lambda x: x.clamp(0, 3)), IMAGE, 2 * E, 0),
    "mean": (lambda: Function(lambda x: x.mean(1)), IMAGE, E, 0),
    "sum": (lambda: Function(lambda x: x.sum((2, 3))), IMAGE, E, 0),
    "attention": (lambda: Function(attending), IMAGE, 2 * 4 * 10 * 10 * 12 + 2 * E + 36 * 400, 9600),
    "attention layer": (Attending, (2, 5, 8), 3360 + 240 + 80 + 2 * 80 + 36 * 100, 3360),
    "encoder": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (2, 5, 8),
        7440 + 2 * 80 + 2 * (7 * 80 + 29 * 10) + (1280 + 160) + 160 + (1280 + 80),
        5920,
    ),
    "lstm": (lambda: Recurrent(nn.LSTM), (5, 2, 6), 160 * 10 + 32 * 10 + (4 + 96 + 76 + 4) * 40, 0),
    "lstm, both ways": (
        lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True),
        (5, 2, 6),
        (320 + 384) * 10 + 2 * 64 * 10 + 2 * 180 * 40,
        0,
    ),
}
"""A layer -> its input, and what onnx-tool 1.0.1 and onnxsim 0.8.1 answered for its export by torch 2.13."""


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_has_the_price_that_the_tools_give_it(operator: str) -> None:
    """To the unit; and each unit of the difference to convstat has a cause."""
    make, shape, priced, products = OPERATORS[operator]
    model = make().to("meta")
    assert (priced, products) == tuple(row(name, model, meta(*shape)).shown.macs for name in ("onnx-tool", "onnxsim"))


def test_every_product_beside_recurrent_layers_is_one_of_onnxsim() -> None:
    """It differs from convstat in nothing else."""
    for operator, (make, shape, _, _) in OPERATORS.items():
        found = causes(row("onnxsim", make().to("meta"), meta(*shape)))
        assert set(found) <= ({"no_rule"} if "lstm" in operator else set()), operator


@pytest.mark.parametrize("kind", [nn.Mish, nn.SELU, nn.CELU])
def test_what_has_no_price_fails(kind: type[nn.Module]) -> None:
    """As the tool does; a CELU of one is an ELU."""
    failure = predicted("onnx-tool", kind().to("meta"), meta(2, 3)).failure
    assert (failure is None) == (kind is nn.CELU)
    assert predicted("onnx-tool", Recurrent(nn.GRU).to("meta"), meta(5, 2, 6)).failure


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_tools_themselves_say_so(operator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they and an exporter are installed."""
    pytest.importorskip("onnxscript")
    onnx, onnx_tool, info = (pytest.importorskip(name) for name in ("onnx", "onnx_tool", "onnxsim.model_info"))
    make, shape, priced, products = OPERATORS[operator]
    torch.manual_seed(0)
    model = make().eval()
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            # The exporter leaves out a bias of zeros.
            tensor.data.uniform_(0.1, 1)
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    file = str(tmp_path / "net.onnx")
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        torch.onnx.export(model, (torch.rand(shape),), file, external_data=False)
        whole = onnx_tool.Model(file)
        whole.graph.shape_infer()
        whole.graph.profile()
    assert priced == int(whole.graph.macs[0])
    assert str(products) == str(info.ModelInfo(onnx.load(file)).macs)
