"""Formulas that are shown come to what is counted."""

from __future__ import annotations

import re

import pytest
import torch
from chains import Chain, sample
from layer_cases import CASES
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convstat.count.ops import price
from convstat.count.ops.derive import derivation
from convstat.layers import KINDS
from convstat.trace.build import build, example_inputs
from convstat.trace.record import record


@pytest.mark.parametrize("kind", KINDS)
def test_the_formula_of_a_layer_comes_to_its_macs(kind: str) -> None:
    """Also with the numbers that are printed, worked out by Python; what has MACs has a formula."""
    written, shapes = sample(kind)
    chain = Chain(*((2, *shape[1:]) for shape in shapes), dtype=KINDS[kind].input_dtype)
    node = chain.add(kind, "it", sources=tuple(chain.shapes), **written).graph().nodes[-1]
    found = node.layer.derivation(node.input_shapes, node.output_shape)
    assert (found is not None) == bool(node.cost.macs)
    if found is not None:
        assert node.cost.macs == found.value == eval(found.numbers)
        assert found.symbols.count("*") == found.numbers.count("*")


@pytest.mark.parametrize("kind", KINDS)
def test_the_names_of_a_parameters_sizes_are_as_many_as_there_are(kind: str) -> None:
    """Every parameter of every case has names for its sizes, or one for all of them."""
    axes = KINDS[kind].parameter_axes()
    met = set()
    for written, shapes in CASES[kind]:
        for name, shape in KINDS[kind].create(written, shapes).parameters().items():
            alone = re.sub(r"_l\d+(_reverse)?$", "", name)
            met.add(alone)
            assert len(axes[alone]) == len(shape) or axes[alone] == ("normalized_shape",)
    assert met <= axes.keys()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("RNN", "GRU", "LSTM", "Bilinear")])
def test_the_formulas_of_kernels_come_to_their_macs(kind: str) -> None:
    """Every kernel that multiplies has a formula, and all of them sum up to the layer's MACs."""
    written, shapes = sample(kind)
    chain = Chain(*shapes, dtype=KINDS[kind].input_dtype)
    graph = chain.add(kind, "it", sources=tuple(chain.shapes), **written).graph()
    trace = record(build(graph, device="meta", dtype="float32"), example_inputs(graph, device="meta", dtype="float32"))
    total = 0
    for call, _ in trace.kernels():
        cost = price(call)
        if cost is not None and cost.macs:
            found = derivation(call)
            assert found is not None, call.op
            assert cost.macs == found.value
            total += found.value
    assert graph.nodes[-1].cost.macs == total


def test_the_kernels_of_attention_on_a_cpu_have_formulas() -> None:
    """The fused kernel is two products."""

    class Attends(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    (call,) = (call for call, _ in record(Attends(), (torch.rand(2, 3, 5, 8),)).kernels() if "attention" in call.op)
    found = derivation(call)
    assert found is not None
    assert 2 * (2 * 3) * 5 * 5 * 8 == found.value


def test_a_kernel_without_a_formula_has_none() -> None:
    """What does not multiply, and what no rule reads."""
    calls = [call for call, _ in record(nn.ReLU(), (torch.rand(2, 3),)).kernels()]
    assert [None] == [derivation(call) for call in calls]
