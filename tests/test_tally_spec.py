"""Two ways in, one way out: a spec counted without torch, and the same network traced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from counted import analyze, graph_of
from layer_cases import CASES
from torch import nn

from convstat.count import traces
from convstat.layers import KINDS
from convstat.layers.base import Layer
from convstat.results.report import ROOT, Report
from convstat.targets import resolve
from convstat.trace import build
from convstat.trace.record import record

FILES = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))


def traced(model: Any, *inputs: torch.Tensor) -> Report:
    """The report of a model, from what ran."""
    report = traces.count(record(model, inputs), name="model", source="model", inputs=())
    assert "complete" == report.status, report.uncounted
    return report


def targets() -> list[str]:
    """Every shipped spec and each of its variants."""
    found = []
    for path in FILES:
        found.append(str(path))
        found += [f"{path}#{variant}" for variant in resolve(str(path)).load().variants]
    return found


@pytest.mark.parametrize("target", targets(), ids=lambda target: Path(target).name)
def test_a_spec_and_the_trace_of_its_torch_model_agree_layer_by_layer(target: str) -> None:
    """Equal params, buffers and MACs in every layer; what is no module, like an addition, is in the root's row."""
    graph = graph_of(target)
    counted = analyze(target, counters="none")
    report = traced(build.build(graph, device="meta"), *build.example_inputs(graph, device="meta"))
    functional = {node.name for node in graph.nodes if node.layer.functional}
    expected = {row.name: (row.params, row.macs, row.buffers) for row in counted.layers if row.name not in functional}
    actual: dict[str, tuple[int, ...]] = dict.fromkeys(expected, (0, 0, 0))
    for row in report.layers:
        # What is inside a module that is one layer of the vocabulary belongs to that layer.
        name = row.name.partition("#")[0]
        while name and name not in expected:
            name = name.rpartition(".")[0]
        if name:
            added = (row.params, row.macs, row.buffers)
            actual[name] = tuple(a + b for a, b in zip(actual[name], added, strict=True))
        else:
            assert ROOT == row.name
            assert 0 == row.params == row.macs
    shared = {row.name: row.shares for row in counted.layers if row.shares}
    for name, owner in shared.items():
        # The second call of a shared layer is the second row of its module.
        actual[owner] = tuple(a - b for a, b in zip(actual[owner], expected[name], strict=True))
        actual[name] = expected[name]
    assert expected == actual
    assert (counted.totals.params, counted.totals.macs) == (report.totals.params, report.totals.macs)
    assert counted.totals.weight_bytes == report.totals.weight_bytes


def twin(kind: str, case: int, device: str) -> tuple[Layer, nn.Module, tuple[torch.Tensor, ...], tuple[Any, ...]]:
    """A layer of the vocabulary, its torch twin in a module that calls it, and inputs."""
    written, shapes = CASES[kind][case]
    layer = KINDS[kind].create(written, shapes)

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer.build()

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return layer.call(self.layer, *inputs)

    with torch.device(device):
        dtype = torch.int64 if layer.input_dtype == "int64" else torch.float32
        return layer, Calls(), tuple(torch.zeros(shape, dtype=dtype) for shape in shapes), shapes


ALL = [(kind, case) for kind, cases in sorted(CASES.items()) for case in range(len(cases))]

OTHER_WORK = {
    "Embedding": "max_norm: renorm scales the whole table, row by row; the layer counts what it looks up",
    "RMSNorm": "torch runs it as square, mean, rsqrt and products, each an element-wise kernel",
    "LocalResponseNorm": "torch runs it as square, pooling, power and division",
    "Tanhshrink": "torch runs it as tanh and a subtraction",
    "Softsign": "torch runs it as abs, an addition and a division",
    "Softmin": "torch runs it as a negation and a softmax",
    "LPPool1d": "torch runs it as power, average pooling, sign, abs, ReLU, products and power",
    "LPPool2d": "torch runs it as power, average pooling, sign, abs, ReLU, products and power",
    "LPPool3d": "torch runs it as power, average pooling, sign, abs, ReLU, products and power",
    "Upsample": "mode area: torch runs it as an adaptive pooling, so it is pool and not resize",
    "Bilinear": "the bias is added by a kernel of its own, which is element-wise",
    "RNN": "on CPU the bias of a stack whose input does not lie in one piece is added by a kernel of its own",
    "LSTM": "on CPU the bias of a stack whose input does not lie in one piece is added by a kernel of its own",
    "GRU": "torch computes (1 - z) * n + z * h as n + z * (h - n): 7 element-wise operations, where the formula has 8",
}
"""Layers whose work besides MACs runs as other kernels in some cases, and how."""


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize(("kind", "case"), ALL, ids=[f"{kind}-{case}" for kind, case in ALL])
def test_a_layer_and_the_trace_of_its_torch_twin_agree(kind: str, case: int, device: str) -> None:
    """Equal MACs, params and buffers on either device; equal other work where torch runs it as one kernel."""
    layer, model, inputs, shapes = twin(kind, case, device)
    cost = layer.cost(shapes, layer.output_shape(shapes))
    totals = traced(model, *inputs).totals
    assert (cost.macs, layer.params()) == (totals.macs, totals.params)
    assert sum(torch.Size(shape).numel() for shape, _ in layer.buffers().values()) == totals.buffers
    if kind not in OTHER_WORK:
        assert dict(cost.other) == dict(totals.other)


def test_every_exception_for_other_work_is_needed() -> None:
    """Each kind that is listed above does differ in one of its cases, on one of the devices."""
    differing = set()
    for kind, case in ALL:
        for device in ("meta", "cpu") if kind in OTHER_WORK else ():
            layer, model, inputs, shapes = twin(kind, case, device)
            cost = layer.cost(shapes, layer.output_shape(shapes))
            if dict(cost.other) != dict(traced(model, *inputs).totals.other):
                differing.add(kind)
    assert set(OTHER_WORK) == differing


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("resnet50.yaml", "resnet50"),
        ("mobilenet_v2.yaml", "mobilenet_v2"),
        ("mobilenet_v3_small.yaml", "mobilenet_v3_small"),
        ("vit_b_16.yaml", "vit_b_16"),
    ],
)
def test_a_shipped_network_is_torchvisions_layer_by_layer(
    target: str, name: str, root: Path, on_meta: Callable[[str], object]
) -> None:
    """The same (type, params, MACs) for every layer with MACs, in the same order, and the same totals.

    AlexNet is not among them: the spec is the net of the paper, with two groups, and torchvision's another one.
    """
    counted = analyze(str(root / "configs" / target), counters="none")
    model = on_meta(name)
    report = traced(model, torch.empty(1, 3, 224, 224, device="meta"))

    def layers(source: Report) -> list[tuple[str, int, int]]:
        same = {"Conv2dNormActivation": "Conv2d", "NonDynamicallyQuantizableLinear": "Linear"}
        return [(same.get(row.type, row.type), row.params, row.macs) for row in source.layers if row.macs]

    assert Counter(layers(counted)) == Counter(layers(report))
    assert [macs for *_, macs in layers(counted)] == [macs for *_, macs in layers(report)]
    assert (counted.totals.params, counted.totals.macs) == (report.totals.params, report.totals.macs)
