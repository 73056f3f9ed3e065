"""What holds for every spec: a sweep counts what an expansion counts, what is written reads back, nothing crashes."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat import layers
from convstat.errors import SpecError
from convstat.graph import Graph
from convstat.layers.base import Outputs
from convstat.render.formats.expansion import write_spec
from convstat.spec import Measured, Spec, read
from convstat.spec import shipped as shipped_blocks
from convstat.spec.schema import spec_schema
from convstat.targets import yaml as files

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))

widths = st.sampled_from([4, 8, "4*a", "8*b", "cin", "cin + 4", "2*cin if cin < 32 else 8", "round8(a*b)"])


def convolutions() -> st.SearchStrategy[dict[str, Any]]:
    """A convolution that keeps height and width."""
    arguments = {"out_channels": widths, "kernel_size": st.sampled_from([1, 3, "2*a + 1"]), "padding": st.just("same")}
    return st.fixed_dictionaries(arguments, optional={"bias": st.sampled_from([True, False, "a > 1"])}).map(
        lambda given: {"Conv2d": given}
    )


simple = st.one_of(
    convolutions(),
    st.sampled_from(
        [
            "BatchNorm2d",
            "ReLU",
            "activation",
            {"unit": {"out": "4*b"}},
            {"unit": {"out": "cin", "act": "Sigmoid"}},
            {"unit": {"out": "cin", "act": "wide"}},
            {"pick": {"kind": "wide"}},
            {"pick": {"kind": "tall"}},
            "outer",
            "tall",
            {"MaxPool2d": {"kernel_size": 2, "ceil_mode": True}},
            {"SqueezeExcitation": 2},
            {"SqueezeExcitation": {"squeeze_channels": 2, "activation": "outer"}},
            {"PReLU": None},
        ]
    ),
)


def modified(item: Any, change: str) -> Any:
    """The item with a modifier beside it."""
    base = {item: None} if isinstance(item, str) else dict(item)
    extra = {
        "repeat": {"repeat": "a"},
        "when": {"when": "b > 1"},
        "frozen": {"frozen": "a == 2"},
        "turns": {"repeat": 3, "frozen": "i == 1"},
        "": {},
    }
    return base | extra[change]


def nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Residuals and parallel paths."""
    lists = st.lists(children, min_size=1, max_size=3)
    changes = st.sampled_from(["", "", "repeat", "when", "frozen", "turns"])
    return st.one_of(
        st.tuples(lists, st.sampled_from(["same", "project"])).map(
            lambda made: {"residual": {"shortcut": made[1], "body": [*made[0], {"Conv2d": [8, 1]}][:-1]}}
        ),
        lists.map(
            lambda made: {
                "parallel": {
                    "merge": "concat",
                    "paths": {"one": [*made, {"AdaptiveAvgPool2d": 4}], "two": [{"AdaptiveAvgPool2d": 4}]},
                }
            }
        ),
        st.tuples(children, changes).map(lambda made: modified(*made)),
    )


bodies = st.lists(st.recursive(simple, nested, max_leaves=4), min_size=1, max_size=5)
specs = bodies.map(
    lambda items: {
        "convstat": 1,
        "input": [4, "4*a + 4", 8],
        "vars": {"a": 1, "b": 2, "activation": "ReLU"},
        "blocks": {
            "unit": {
                "params": {"out": None, "act": "activation"},
                "layers": [
                    {"Conv2d": {"out_channels": "out + b", "kernel_size": 3, "padding": 1}, "name": "conv"},
                    "act",
                    {
                        "Conv2d": {"out_channels": "cin", "kernel_size": 3, "padding": 1},
                        "share": "conv",
                        "when": "cin == 4",
                    },
                ],
            },
            # What a block reads through another that a parameter names, and in arguments of a layer not known yet.
            "wide": [{"Conv2d": {"out_channels": "cin", "kernel_size": "2*a + 1", "padding": "same", "bias": "b > 1"}}],
            "pick": {"params": {"kind": "ReLU"}, "layers": ["kind"]},
            "outer": [{"pick": {"kind": "wide"}}],
            "tall": {
                "params": {"kind": "Conv2d"},
                "layers": [{"kind": {"out_channels": "cin", "kernel_size": ["2*b + 1", 1], "padding": "same"}}],
            },
        },
        "layers": items,
        "models": {"other": {"b": 3, "activation": "Tanh"}},
    }
)
overrides = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(1, 2),
        "b": st.integers(1, 3),
        "activation": st.sampled_from(["ReLU6", "GELU", "wide", "outer"]),
    },
)


def totals(graph: Graph) -> Measured:
    """Count a graph node by node."""
    stored: Counter[str] = Counter()
    other: Counter[str] = Counter()
    made: Counter[str] = Counter()
    trainable = buffers = 0
    for node in graph.nodes:
        other.update(node.cost.other)
        made.update(output_elements=prod(node.output_shape))
        if node.cost.macs:
            made.update(activations=node.layer.activations(node.input_shapes, node.output_shape))
        if node.cost.macs and "Conv" in node.layer.kind():
            made.update(conv_activations=prod(node.output_shape))
        if node.owner == node.name:
            stored["float"] += node.layer.params()
            trainable += node.layer.params() if node.trainable else 0
            for shape, dtype in node.layer.buffers().values():
                stored[dtype] += prod(shape)
                buffers += prod(shape)
    owned = sum(node.layer.params() for node in graph.nodes if node.owner == node.name)
    return Measured(
        owned,
        trainable,
        sum(node.cost.macs for node in graph.nodes),
        buffers,
        len(graph.nodes),
        dict(other),
        {dtype: amount for dtype, amount in stored.items() if amount},
        Outputs(**made),
        graph.inputs[0].shape,
        graph.shape_of(graph.outputs[0]),
    )


def outcome(spec: Spec, given: dict[str, Any], variant: str | None) -> Measured | str:
    """The totals of a measurement, or what is wrong."""
    try:
        return spec.measure(given, variant=variant, batch=2)
    except SpecError as error:
        return str(error)


@settings(max_examples=150)
@given(specs, st.lists(st.tuples(overrides, st.sampled_from([None, "other"])), min_size=1, max_size=4))
def test_a_measurement_is_the_sum_of_the_expansion(
    document: dict[str, Any], points: list[tuple[dict[str, Any], str | None]]
) -> None:
    """With a memo that earlier points have filled, or with none, and what is impossible is so for the same reason."""
    text = yaml.safe_dump(document, sort_keys=False)
    warm = read(text, "net.yaml")
    for given_, variant in points:
        cold = read(text, "net.yaml")
        measured = outcome(warm, given_, variant)
        assert outcome(cold, given_, variant) == measured
        assert outcome(warm, given_, variant) == measured
        if isinstance(measured, str):
            with pytest.raises(SpecError) as caught:
                warm.expand(given_, variant=variant, batch=2)
            assert measured == str(caught.value)
        else:
            graph = warm.expand(given_, variant=variant, batch=2)
            assert totals(graph) == measured
            fresh = cold.expand(given_, variant=variant, batch=2)
            same_work(graph, fresh)
            assert graph.groups == fresh.groups
            assert [(node.name, str(node.source)) for node in graph.nodes] == [
                (node.name, str(node.source)) for node in fresh.nodes
            ]


def test_what_went_wrong_is_not_remembered() -> None:
    """Two calls that fail in the same words: neither of them is found in the memo by the next expansion."""
    text = """
input: [4, 8, 8]
blocks:
  unit: {params: {k: null}, layers: [{Conv2d: {out_channels: 3, kernel_size: 1, groups: 2}}]}
layers:
  - unit: 1
  - unit: 2
    from: input
"""
    spec = read(text, "net.yaml")
    for _ in range(2):
        with pytest.raises(SpecError, match="out_channels must be divisible by groups"):
            spec.measure()
    with pytest.raises(SpecError, match="out_channels must be divisible by groups"):
        spec.measure({"unit_2.k": 1, "unit.k": 2})


CHOSEN = """
input: [3, 8, 8]
vars: {width: 4}
blocks:
  wide: [Conv2d: {out_channels: width, kernel_size: 1}]
  inner: {params: {kind: ReLU}, layers: [kind]}
  outer: [CALL]
layers: [outer]
"""


@pytest.mark.parametrize(
    ("call", "channels"),
    [
        ("inner: {kind: wide}", 3),
        ("SqueezeExcitation: {squeeze_channels: 2, activation: wide, input_channels: 3}", 2),
    ],
)
def test_a_block_that_is_chosen_is_expanded_again_when_what_it_reads_changes(call: str, channels: int) -> None:
    """Its name comes from a parameter of a block that reads no variable, of the spec or shipped with convstat."""
    warm = read(CHOSEN.replace("CALL", call), "net.yaml")
    for width in (4, 8, 16):
        cold = read(CHOSEN.replace("CALL", call), "net.yaml")
        assert cold.measure({"width": width}) == warm.measure({"width": width})
        assert channels * width + width in [node.layer.params() for node in warm.expand({"width": width}).nodes]


def test_what_the_arguments_of_a_chosen_layer_read_is_read() -> None:
    """Also inside a list, before it is known which layer it is: a sweep over it gives what each point gives."""
    text = """
input: [3, 8, 8]
vars: {size: 3}
blocks:
  outer: {params: {kind: Conv2d}, layers: [kind: {out_channels: 4, kernel_size: [size, 1], bias: false}]}
layers: [outer]
"""
    spec = read(text, "net.yaml")
    assert () == spec.warnings
    assert [4 * 3 * size for size in (1, 2, 3)] == [spec.measure({"size": size}).params for size in (1, 2, 3)]


def same_work(first: Graph, second: Graph) -> None:
    """The same layers on the same shapes in the same order, wired, shared and frozen alike."""
    order = [{node.name: place for place, node in enumerate(graph.nodes)} for graph in (first, second)]

    def wired(graph: Graph, place: dict[str, int]) -> list[Any]:
        return [
            (
                node.layer,
                node.cost,
                node.input_shapes,
                node.output_shape,
                node.trainable,
                node.note,
                place.get(node.owner),
                [place.get(name, name) for name in node.inputs],
            )
            for node in graph.nodes
        ]

    assert wired(first, order[0]) == wired(second, order[1])
    assert [item.shape for item in first.inputs] == [item.shape for item in second.inputs]
    assert [item.dtype for item in first.inputs] == [item.dtype for item in second.inputs]
    assert [order[0].get(name, name) for name in first.outputs] == [order[1].get(name, name) for name in second.outputs]


@given(specs, st.booleans())
def test_what_was_counted_reads_back(document: dict[str, Any], defaults: bool) -> None:
    """The flat spec that `convstat expand` writes is the same graph."""
    try:
        graph = read(yaml.safe_dump(document, sort_keys=False), "net.yaml").expand()
    except SpecError:
        return
    same_work(graph, read(write_spec(graph, defaults=defaults), "flat.yaml").expand())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configs_read_back(path: Path) -> None:
    """Every variant of every config, written flat; and their measurements are the sums of their expansions."""
    spec = files.read(str(path))
    for variant in (None, *spec.variants):
        graph = spec.expand(variant=variant)
        same_work(graph, read(write_spec(graph), "flat.yaml").expand())
        assert totals(graph) == spec.measure(variant=variant)


def test_the_comparison_of_graphs_can_fail() -> None:
    """A helper that asserts must be able to: another layer, another order, another edge, another owner."""
    head = "input: [4, 8, 8]\nlayers:\n"
    base = read(head + "  - ReLU\n  - Tanh\n  - add: [relu, tanh]\n", "a").expand()
    for other in (
        "  - ReLU\n  - GELU\n  - add: [relu, gelu]\n",
        "  - Tanh\n  - ReLU\n  - add: [relu, tanh]\n",
        "  - ReLU\n  - Tanh\n  - add: [tanh, relu]\n",
        "  - ReLU\n  - Tanh:\n    frozen: true\n  - add: [relu, tanh]\n",
    ):
        with pytest.raises(AssertionError):
            same_work(base, read(head + other, "b").expand())


VALIDATOR = jsonschema.Draft202012Validator(spec_schema())


@given(specs)
def test_what_can_be_read_is_valid_by_the_schema(document: dict[str, Any]) -> None:
    """Expressions as text wherever a number may stand."""
    read(yaml.safe_dump(document, sort_keys=False), "net.yaml")
    VALIDATOR.validate(document)


def test_the_schema_is_one_and_knows_every_layer_and_block() -> None:
    """It is a schema of its dialect, it has each name of the layer table, and it refuses what is not there."""
    jsonschema.Draft202012Validator.check_schema(spec_schema())
    item = spec_schema()["$defs"]["known.item"]["anyOf"][1]["properties"]
    assert {*layers.NAMES, *shipped_blocks.NAMES, "residual", "parallel"} <= set(item)
    assert set(shipped_blocks.NAMES) == set(shipped_blocks.trees())
    head = {"input": [3, 8, 8]}
    for wrong in (
        {"layers": [{"Conv2d": {"out_channels": 8}}]},
        {"layers": [{"Conv2d": {"out": 8, "k": 3, "colour": 1}}]},
        {"layers": [{"Conv2d": {"out": 8, "k": 3}, "repeat": None}]},
        {"layers": [{"residual": {"body": [], "shortcut": "projct"}}]},
        {"layers": [{"parallel": {"merge": "cat", "paths": {"a": [], "b": []}}}]},
        {"layers": [{"ACBlock": {"out": 8}}]},
        {"layers": [3]},
        {"layers": [], "vars": {"a b": 1}},
        {"layers": [], "convstat": 2},
        {"layers": [], "budgets": []},
    ):
        assert not VALIDATOR.is_valid({**head, **wrong})


PIECES = (
    """Conv2d residual body repeat name from layers: vars: input: null true 1e9 010 << &a *a !!str --- prev {a: é"""
)
pieces = st.sampled_from([*"\n -:[]{},#&*!|>'\"%@`?()$=+\t\x07", "  ", "\n  - ", "{a: 1}", *PIECES.split()])


@settings(max_examples=300)
@given(
    st.sampled_from(CONFIGS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), pieces), min_size=1, max_size=4)
)
def test_a_damaged_spec_is_read_or_explained(path: Path, damage: list[tuple[float, int, str]]) -> None:
    """Cut, overwritten or with something put in: a SpecError at worst, and its text can be shown."""
    text = path.read_text(encoding="utf-8")
    for where, length, piece in damage:
        place = int(where * len(text))
        text = text[:place] + piece + text[place + length :]
    with suppress(SpecError):
        spec = read(text, "net.yaml")
        for variant in (None, *spec.variants):
            spec.expand(variant=variant)


@settings(max_examples=200)
@given(st.lists(pieces, max_size=40).map("".join))
def test_any_text_is_read_or_explained(text: str) -> None:
    """Soup of the grammar's own words."""
    for whole in (text, f"input: [3, 8, 8]\nlayers:\n{text}", f"input: [3, 8, 8]\nvars: {text}\nlayers: [ReLU]"):
        with suppress(SpecError):
            read(whole, "net.yaml").expand()


@given(st.text(max_size=80))
def test_any_unicode_is_read_or_explained(text: str) -> None:
    """Whatever characters there are."""
    with suppress(SpecError):
        read(text, "net.yaml").expand()


keys = st.text("abstemconv.[]0123_ =é", max_size=12) | st.sampled_from(
    ["a", "b", "unit.conv.bias", "conv2d", "conv2d.repeat"]
)
values = st.one_of(
    st.integers(-(10**50), 10**50), st.fractions(), st.booleans(), st.none(), st.text(max_size=5),
    st.floats(), st.lists(st.integers(-2, 9) | st.text(max_size=3), max_size=3),
)  # fmt: skip


@settings(max_examples=150)
@given(specs, st.dictionaries(keys, values, max_size=3))
def test_any_override_is_taken_or_explained(document: dict[str, Any], given_: dict[str, Any]) -> None:
    """Keys and values of every kind."""
    with suppress(SpecError):
        read(yaml.safe_dump(document, sort_keys=False), "net.yaml").expand(given_)
