"""QONNX: the MACs and bit operations of the networks of its own test."""

from __future__ import annotations

from pathlib import Path

import counted
from conventions import causes, meta, row
from torch import nn

from convstat.results.report import CounterRow

TFC = """
input: [784]
layers:
  - Linear: {out_features: 64, bias: false}
    repeat: 3
  - Linear: {out_features: 10, bias: false}
"""

VGG10 = """
input: [2, 1024]
layers:
  - Conv1d: {out_channels: 64, kernel_size: 3, padding: 1, bias: false}
  - BatchNorm1d
  - ReLU
  - MaxPool1d: 2
  - pyramid: {}
    repeat: 6
  - Flatten
  - Linear: {out_features: 128, bias: false}
    repeat: 2
  - Linear: {out_features: 24, bias: false}
blocks:
  pyramid:
    layers:
      - Conv1d: {out_channels: 64, kernel_size: 3, padding: 1, bias: false}
      - BatchNorm1d
      - ReLU
      - MaxPool1d: 2
"""


def priced(tmp_path: Path, text: str, **widths: str) -> CounterRow:
    """The row of a spec whose weights and activations have some widths."""
    (tmp_path / "net.yaml").write_text(text)
    (found,) = counted.analyze(str(tmp_path / "net.yaml"), counters="qonnx", **widths).counters
    return found


def test_the_networks_of_its_test(tmp_path: Path) -> None:
    """TFC with 2 bits, and VGG10 of RadioML with 8: MACs and bit operations, dense."""
    tfc = priced(tmp_path, TFC, weights="int2", activations="int2")
    assert (59_008, {"bit_operations": 236_032}) == (tfc.shown.macs, tfc.native)
    assert 59_008 == 784 * 64 + 2 * 64 * 64 + 64 * 10
    radio = priced(tmp_path, VGG10, weights="int8", activations="int8")
    assert (12_864_512, {"bit_operations": 823_328_768}) == (radio.shown.macs, radio.native)


def test_layers_have_widths_of_their_own(tmp_path: Path) -> None:
    """Those that a spec gives; where nothing is said, a float of 32 bits."""
    text = "input: [6]\nlayers:\n  - Linear: {out_features: 4}\n    weights: int2\n  - Linear: {out_features: 3}\n"
    assert {"bit_operations": 24 * 2 * 4 + 12 * 8 * 4} == priced(
        tmp_path, text, weights="int8", activations="int4"
    ).native
    assert {"bit_operations": 24 * 2 * 32 + 12 * 32 * 32} == priced(tmp_path, text).native


def test_products_of_activations_have_the_bits_of_both(tmp_path: Path) -> None:
    """Those of attention have no weight; its four projections do."""
    text = "input: [5, 8]\nlayers:\n  - MultiheadAttention: {num_heads: 2, batch_first: true}\n"
    found = priced(tmp_path, text, weights="int4", activations="int8")
    assert {"bit_operations": 4 * 5 * 8 * 8 * 4 * 8 + 2 * 5 * 5 * 8 * 8 * 8} == found.native


def test_what_costs_nothing() -> None:
    """Transposed convolutions and recurrent layers, whose products are named; and what multiplies nothing."""
    transposed = nn.ConvTranspose2d(4, 6, 3, groups=2, device="meta")
    assert {"no_rule": -4 * 25 * 3 * 9} == causes(row("qonnx", transposed, meta(1, 4, 5, 5)))
    assert 0 == row("qonnx", nn.GRU(6, 4).to("meta"), meta(5, 2, 6)).shown.macs
    pooled = nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU()).to("meta")
    assert 0 == row("qonnx", pooled, meta(1, 4, 6, 6)).shown.macs
