"""An expanded spec is a spec: read back, it is the same network."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from convstat import spec
from convstat.graph import Graph, Node
from convstat.render.formats.expansion import scalar, write_spec

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

ODD = """
convstat: 1
name: "odd: one"
input: {x: [8, 16, 16], ids: {shape: [5], dtype: int64}}
layers:
  - Conv2d: {out_channels: 8, kernel_size: [3, 1], padding: same, padding_mode: reflect}
    name: first
    from: x
    frozen: true
    note: "not: trained"
  - BatchNorm2d: {eps: 0.001, momentum: 1/3}
  - Conv2d: {out_channels: 8, kernel_size: [3, 1], padding: same, padding_mode: reflect}
    name: again
    share: first
  - add: [first, again]
    name: sum
  - concat: [sum, first]
  - Embedding: {num_embeddings: 10, embedding_dim: 4}
    from: ids
    name: words
outputs: [words, concat]
"""


def essence(node: Node, position: dict[str, int]) -> tuple[object, ...]:
    """What a node is, whatever it is called."""
    inputs = tuple(position[name] for name in node.inputs)
    owner = position[node.owner] if node.is_shared else None
    return (node.layer, inputs, node.input_shapes, node.output_shape, node.cost, owner, node.trainable, node.note)


def nodes_of(graph: Graph) -> tuple[list[tuple[object, ...]], list[int]]:
    """A graph without its names: its nodes and its outputs."""
    names = [item.name for item in graph.inputs] + [node.name for node in graph.nodes]
    position = {name: number for number, name in enumerate(names)}
    return [essence(node, position) for node in graph.nodes], [position[name] for name in graph.outputs]


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
@pytest.mark.parametrize("defaults", [False, True])
def test_an_expanded_example_is_the_same_network(path: Path, defaults: bool) -> None:
    """Node by node: layer, edges, shapes, cost; for every variant."""
    read = spec.read(path.read_text(encoding="utf-8"), str(path))
    for variant in (None, *read.variants):
        graph = read.expand(variant=variant)
        again = spec.read(write_spec(graph, defaults=defaults), "expanded").expand()
        assert nodes_of(graph) == nodes_of(again)
        assert [(i.shape, i.dtype) for i in graph.inputs] == [(i.shape, i.dtype) for i in again.inputs]


def test_the_remark_and_the_budgets_are_kept() -> None:
    """As they were written; budgets on paths, which the flat spec does not have, as comments."""
    head = 'convstat: 1\nnote: "a: remark"\ninput: [3, 8, 8]\nbudget: ["params <= 5M", "macs(share)@relu*<=20%"]\n'
    for layers, kept in (("[ReLU]", 2), ("[{residual: {body: [ReLU]}}]", 1)):
        read = spec.read(head + f"layers: {layers}\n", "net.yaml")
        limits = [text for text, _ in read.budget]
        text = write_spec(read.expand(), note=read.note, budget=limits)
        again = spec.read(text, "expanded")
        assert "a: remark" == again.note
        assert limits[:kept] == [limit for limit, _ in again.budget]
        assert all(limit in text for limit in limits)


def test_edges_shares_notes_and_dtypes_are_kept() -> None:
    """Everything that may stand beside a layer comes back."""
    graph = spec.read(ODD, "odd").expand()
    again = spec.read(write_spec(graph), "expanded").expand()
    assert graph.name == again.name
    assert nodes_of(graph) == nodes_of(again)
    assert ["int64"] == [item.dtype for item in again.inputs if item.name == "ids"]


def test_another_network_is_told_apart() -> None:
    """The comparison can fail: on another kernel, another edge, a missing share."""
    graph = nodes_of(spec.read(ODD, "odd").expand())
    for old, new in (("[3, 1]", "[1, 3]"), ("[sum, first]", "[sum, again]"), ("    share: first\n", "")):
        assert graph != nodes_of(spec.read(ODD.replace(old, new), "odd").expand())


@pytest.mark.parametrize("text", ["same", "no", "null", "1e3", "a: b", "#", "", "x y", "ünï", "012", '"', "=", "~"])
def test_a_text_reads_back_as_a_text(text: str) -> None:
    """Quoted where YAML would take it for something else."""
    assert text == yaml.safe_load(scalar(text))


@pytest.mark.parametrize("value", [Fraction(1, 100000), Fraction(-5, 4), Fraction(3), Fraction(123456, 1000)])
def test_a_decimal_reads_back_exactly(value: Fraction) -> None:
    """Digits, no exponent, no rounding."""
    assert value == Fraction(scalar(value))


def test_a_fraction_without_digits_is_a_quotient() -> None:
    """One third has no end of digits."""
    assert "-1 / 3" == scalar(Fraction(-1, 3))
