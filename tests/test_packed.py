"""Linear maps with packed weights: stand-ins with the names and layouts of bitsandbytes, GPTQ, AWQ and HQQ.

Each unpacks its weight as the fallbacks of these packages do without a GPU, so that its product is counted.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

import convstat
from convstat.api import Report
from convstat.cli.run import run


class QuantState:
    """The scales of bitsandbytes: one for each block, which are quantized themselves where they are nested."""

    def __init__(self, elements: int, *, nested: bool) -> None:
        blocks = elements // 64
        self.absmax = torch.zeros(blocks, dtype=torch.uint8 if nested else torch.float32)
        self.code = torch.zeros(16)
        self.blocksize, self.nested = 64, nested
        self.offset = torch.zeros(()) if nested else None
        self.state2 = QuantState(256 * 64, nested=False) if nested else None


class Linear4bit(nn.Linear):
    """Two weights in a byte, in one column."""

    def __init__(self, inner: int, outer: int, *, bias: bool = True, nested: bool = False) -> None:
        super().__init__(inner, outer, bias)
        self.weight = nn.Parameter(torch.zeros(inner * outer // 2, 1, dtype=torch.uint8), requires_grad=False)
        self.quant_state = QuantState(inner * outer, nested=nested)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low, high = self.weight & 15, self.weight >> 4
        weight = torch.cat((low, high), 1).reshape(self.out_features, self.in_features)
        return nn.functional.linear(x, weight.to(x.dtype), self.bias)


class Linear8bitLt(nn.Linear):
    """A weight in a byte."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, bias=False)
        self.weight = nn.Parameter(torch.zeros(outer, inner, dtype=torch.int8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.to(x.dtype).t()


class QuantLinear(nn.Module):
    """GPTQ: rows of 32-bit integers, all of it in buffers, the bias too."""

    def __init__(self, bits: int, group: int, inner: int, outer: int) -> None:
        super().__init__()
        self.bits, self.infeatures, self.outfeatures = bits, inner, outer
        self.register_buffer("qweight", torch.zeros(inner // 32 * bits, outer, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(inner // group, outer // 32 * bits, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(inner // group, outer, dtype=torch.float16))
        self.register_buffer("g_idx", torch.zeros(inner, dtype=torch.int32))
        self.register_buffer("bias", torch.zeros(outer, dtype=torch.float16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shifts = torch.arange(0, 32, self.bits, device=x.device).unsqueeze(-1)
        weight = (self.qweight.unsqueeze(1) >> shifts).reshape(self.infeatures, self.outfeatures)
        return x @ weight.to(x.dtype) + self.bias


class WQLinear_GEMM(nn.Module):  # noqa: N801 - its name in AutoAWQ
    """AWQ: columns of 32-bit integers."""

    def __init__(self, bits: int, group: int, inner: int, outer: int) -> None:
        super().__init__()
        self.w_bit, self.in_features, self.out_features = bits, inner, outer
        self.register_buffer("qweight", torch.zeros(inner, outer // (32 // bits), dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(inner // group, outer // (32 // bits), dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(inner // group, outer, dtype=torch.float16))
        self.bias = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shifts = torch.arange(0, 32, self.w_bit, device=x.device)
        weight = (self.qweight.unsqueeze(-1) >> shifts).reshape(self.in_features, self.out_features)
        return x @ weight.to(x.dtype)


class HQQLinear(nn.Module):
    """HQQ: two weights in a byte, the scales in a mapping."""

    def __init__(self, group: int, inner: int, outer: int) -> None:
        super().__init__()
        self.in_features, self.out_features = inner, outer
        self.W_q = nn.Parameter(torch.zeros(inner * outer // group // 2, group, dtype=torch.uint8), requires_grad=False)
        groups = inner * outer // group
        self.meta = {"scale": torch.zeros(groups, 1, dtype=torch.float16), "zero": torch.zeros(groups, 1).half()}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.cat((self.W_q >> 4, self.W_q & 15)).reshape(self.out_features, self.in_features)
        return x @ weight.to(x.dtype).t()


IN, OUT, GROUP = 128, 256, 64

CASES: dict[str, tuple[Any, int, int, int]] = {
    "4bit": (lambda: Linear4bit(IN, OUT), OUT, IN * OUT // 2 + 4 * OUT + 4 * IN * OUT // 64 + 4 * 16, OUT),
    "4bit nested": (
        lambda: Linear4bit(IN, OUT, bias=False, nested=True),
        0,
        IN * OUT // 2 + IN * OUT // 64 + 4 * 16 + 4 + 4 * 256 + 4 * 16,
        0,
    ),
    "8bit": (lambda: Linear8bitLt(IN, OUT), 0, IN * OUT, 0),
    "GPTQ": (
        lambda: QuantLinear(4, GROUP, IN, OUT),
        OUT,
        IN * OUT // 2 + IN // GROUP * OUT // 2 + 2 * IN // GROUP * OUT + 4 * IN + 2 * OUT,
        0,
    ),
    "GPTQ 8 bits": (
        lambda: QuantLinear(8, GROUP, IN, OUT),
        OUT,
        IN * OUT + IN // GROUP * OUT + 2 * IN // GROUP * OUT + 4 * IN + 2 * OUT,
        0,
    ),
    "AWQ": (
        lambda: WQLinear_GEMM(4, GROUP, IN, OUT),
        0,
        IN * OUT // 2 + IN // GROUP * OUT // 2 + 2 * IN // GROUP * OUT,
        0,
    ),
    "HQQ": (lambda: HQQLinear(GROUP, IN, OUT), 0, IN * OUT // 2 + 2 * 2 * IN * OUT // GROUP, 0),
}
"""What is made, its biases, the bytes that are stored, and how many params are trainable."""


@pytest.mark.parametrize("is_live", [False, True], ids=["made", "live"])
@pytest.mark.parametrize("name", CASES)
def test_weights_are_counted_and_not_what_stores_them(name: str, is_live: bool) -> None:
    """The params are those of the linear map, the bytes those of all its tensors, and nothing is left in buffers."""
    make, bias, stored, trainable = CASES[name]
    report = convstat.analyze(make() if is_live else make, (1, IN))
    totals = report.totals
    assert totals.params == IN * OUT + bias
    assert totals.weight_bytes == stored
    assert totals.trainable_params == trainable
    assert totals.buffers == 0
    assert totals.macs == IN * OUT
    (row,) = report.layers
    elements = sum(parameter.numel() for parameter in make().parameters())
    assert row.packed_params == totals.params - elements
    assert row.note is not None
    assert f"{stored:,} bytes" in row.note
    assert Report.from_dict(json.loads(report.to_json())).to_dict() == report.to_dict()


@pytest.mark.parametrize("name", CASES)
def test_other_counters_see_what_torch_sees(name: str) -> None:
    """They count elements, or nothing; that is a cause, and nothing is left unexplained."""
    make, *_ = CASES[name]
    report = convstat.analyze(make, (1, IN), counters="ptflops,torchinfo,flopcountermode", predict=True)
    elements = sum(parameter.numel() for parameter in make().parameters())
    for counter in report.counters:
        predicted = counter.predicted
        if predicted is None or predicted.params is None:
            continue
        trainable_only = counter.name == "ptflops"
        assert predicted.params == (report.totals.trainable_params if trainable_only else elements)
        causes = {cause.code: cause.params for cause in counter.causes if cause.params}
        packed = report.totals.params - elements
        assert causes.get("packed_elements", 0) == -packed
        assert sum(causes.values()) == counter.difference.params == predicted.params - report.totals.params
        assert "unattributed" not in causes


def test_a_linear_map_of_floats_is_as_any_other() -> None:
    """Before it is moved to a GPU, bitsandbytes' class holds the weight as it is."""

    def make() -> nn.Module:
        module = Linear4bit(IN, OUT, bias=False)
        module.weight = nn.Parameter(torch.zeros(OUT, IN))
        module.forward = lambda x: nn.functional.linear(x, module.weight)  # type: ignore[method-assign]
        return module

    totals = convstat.analyze(make, (1, IN)).totals
    assert (totals.params, totals.weight_bytes) == (IN * OUT, 4 * IN * OUT)


def test_the_note_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """What is packed is said below the layers."""
    path = tmp_path / "net.py"
    path.write_text("from test_packed import QuantLinear\ndef net(): return QuantLinear(4, 64, 128, 256)\n")
    assert run(["analyze", f"{path}:net", "--input", "128", "--counters", "none", "--width", "100"]) == 0
    assert "33,024 params are stored in 18,688 bytes" in capsys.readouterr().out
