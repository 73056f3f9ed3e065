"""Every layer kind against its torch twin, really built and run on the meta device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import jsonschema
import pytest
import torch
from layer_cases import CASES

from convstat import layers
from convstat.formulas.cost import OTHER_ENTRIES
from convstat.layers import FAMILIES, KINDS, NAMES
from convstat.layers.base import REQUIRED, Layer

every_case = pytest.mark.parametrize(
    ("kind", "written", "inputs"),
    [
        pytest.param(kind, written, inputs, id=f"{kind}-{number}")
        for kind, several in CASES.items()
        for number, (written, inputs) in enumerate(several)
    ],
)


def run(layer: Layer, inputs: tuple[tuple[int, ...], ...]) -> tuple[torch.nn.Module, torch.Tensor]:
    """Build the torch twin and run it where nothing is allocated or computed."""
    dtype = getattr(torch, layer.input_dtype)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        module = layer.build().eval()
        return module, layer.call(module, *(torch.empty(shape, dtype=dtype) for shape in inputs))


def test_every_kind_has_at_least_two_cases() -> None:
    """A kind that is added without a case here fails."""
    assert set(KINDS) == set(CASES)
    assert [] == [kind for kind, several in CASES.items() if len(several) < 2]


@every_case
def test_the_twin_agrees(kind: str, written: dict[str, object], inputs: tuple[tuple[int, ...], ...]) -> None:
    """Output shape, parameters and buffers are those of the torch module, by name and shape."""
    layer = KINDS[kind].create(written, inputs)
    module, output = run(layer, inputs)
    assert tuple(output.shape) == layer.output_shape(inputs)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == layer.parameters()
    assert sum(p.numel() for p in module.parameters()) == layer.params()
    expected = {
        name: (tuple(b.shape), "float" if b.dtype.is_floating_point else str(b.dtype).removeprefix("torch."))
        for name, b in module.named_buffers()
    }
    assert expected == layer.buffers()


PRODUCTS = {"convolution", "linear", "attention", "recurrent"}


@every_case
def test_the_cost_is_exact_and_named(
    kind: str, written: dict[str, object], inputs: tuple[tuple[int, ...], ...]
) -> None:
    """MACs and entries are ints, none negative, the entries known and not zero; only products have MACs."""
    layer = KINDS[kind].create(written, inputs)
    cost = layer.cost(inputs, layer.output_shape(inputs))
    assert type(cost.macs) is int
    assert (cost.macs > 0) == (layer.family in PRODUCTS and kind != "Embedding")
    assert set() == set(cost.other) - set(OTHER_ENTRIES)
    assert all(type(amount) is int and amount > 0 for amount in cost.other.values())


BATCH_IS_SECOND = {"MultiheadAttention", "TransformerEncoderLayer", "RNN", "GRU", "LSTM"}


@every_case
def test_the_cost_is_proportional_to_the_batch(
    kind: str, written: dict[str, object], inputs: tuple[tuple[int, ...], ...]
) -> None:
    """Three times the batch costs three times as much, and has the same parameters."""
    second = kind in BATCH_IS_SECOND and not written.get("batch_first", False)
    if any(len(shape) != len(inputs[0]) or shape[0] != inputs[0][0] for shape in inputs) and not second:
        pytest.skip("an input is broadcast along the batch")
    if 0 in (written.get("dim"), written.get("start_dim")) or kind == "Permute":
        pytest.skip("the batch does not stay in its place")
    more = tuple(tuple(n * 3 if place == second else n for place, n in enumerate(shape)) for shape in inputs)
    layer, wider = KINDS[kind].create(written, inputs), KINDS[kind].create(written, more)
    cost, costs = layer.cost(inputs, layer.output_shape(inputs)), wider.cost(more, wider.output_shape(more))
    assert (3 * cost.macs, {name: 3 * n for name, n in cost.other.items()}) == (costs.macs, costs.other)
    assert layer == wider


@every_case
def test_a_layer_is_made_again_from_what_it_would_be_written_as(
    kind: str, written: dict[str, object], inputs: tuple[tuple[int, ...], ...]
) -> None:
    """written() gives arguments that make an equal layer, with or without the defaults, and that fit the schema."""
    layer = KINDS[kind].create(written, inputs)
    for defaults in (False, True):
        again = layer.written(defaults=defaults)
        assert layer == KINDS[kind].create(again, inputs)
        assert hash(layer) == hash(KINDS[kind].create(again, inputs))
        for name, value in again.items():
            if value is not None:
                jsonschema.validate(value, KINDS[kind].arguments[name].kind.schema())
    assert repr(layer).startswith(f"{kind}(")


def test_a_layer_cannot_be_changed() -> None:
    """Setting an argument of a layer is refused."""
    layer = layers.Linear.create({"out_features": 2}, ((1, 3),))
    with pytest.raises(AttributeError, match="cannot be changed"):
        layer.bias = False


def test_every_kind_describes_itself() -> None:
    """The docstring's first line is short enough for a list; every argument has a schema and a description."""
    for kind, layer in KINDS.items():
        doc = (layer.__doc__ or "").splitlines()
        assert doc, kind
        assert layer.__doc__ is not Layer.__doc__
        assert 0 < len(doc[0]) <= 115, kind
        assert layer.family, kind
        for argument in layer.arguments.values():
            assert argument.kind.schema()
            assert argument.kind.describe()


def _below(kind: type[Layer]) -> Iterator[type[Layer]]:
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)


def test_names_are_unique_and_complete() -> None:
    """Every class of every family is in the table under its own name and its aliases, which are in lower case."""
    families = {family.__name__ for family in FAMILIES}
    listed = [kind for kind in _below(Layer) if kind.__module__ in families and not kind.__name__.startswith("_")]
    assert sorted(kind.kind() for kind in listed) == sorted(KINDS)
    assert {name for kind in listed for name in (kind.kind(), *kind.aliases)} == set(NAMES)
    assert [] == [alias for kind in listed for alias in kind.aliases if alias != alias.lower()]
    assert [] == [kind for kind in listed if set(kind.shorts) & set(kind.arguments)]
    for name, kind in KINDS.items():
        assert kind is getattr(layers, name)


def test_the_table_refuses_two_kinds_of_one_name() -> None:
    """Two families that share a kind are an error of the program, not a silent choice."""
    with pytest.raises(ValueError, match="two layer kinds are called 'Conv1d'"):
        layers.add_kind(KINDS["Conv1d"], "another family")


SCALARS = {
    "Conv2d": "out_channels",
    "Linear": "out_features",
    "BatchNorm2d": "num_features",
    "GroupNorm": "num_groups",
    "LayerNorm": "normalized_shape",
    "AdaptiveAvgPool2d": "output_size",
    "MaxPool2d": "kernel_size",
    "Dropout": "p",
    "Softmax": "dim",
    "Upsample": "size",
    "PixelShuffle": "upscale_factor",
    "ZeroPad2d": "padding",
    "Flatten": "start_dim",
    "MultiheadAttention": "num_heads",
    "LSTM": "hidden_size",
    "concat": "dim",
    "Identity": None,
    "add": None,
}


def test_a_bare_value_stands_for_the_first_argument_that_must_be_written() -> None:
    """`Linear: 1000` is out_features; where nothing must be written, the first argument, as in torch."""
    assert SCALARS == {kind: KINDS[kind].scalar_argument() for kind in SCALARS}


def test_functional_kinds_are_written_in_lower_case() -> None:
    """add, mul and concat are operators; nothing else is functional."""
    assert {"add", "mul", "concat"} == {kind for kind, layer in KINDS.items() if layer.functional}
    assert {"add", "mul", "concat"} == {kind for kind in KINDS if kind == kind.lower()}


def test_defaults_are_read_by_the_kind_of_their_argument() -> None:
    """A default could be written: its kind takes it, and gives the value that a layer has without it."""
    for layer in KINDS.values():
        for name, argument in layer.arguments.items():
            if argument.default not in (None, REQUIRED):
                assert argument.default_value == argument.kind.parse(argument.default, name)


@pytest.mark.parametrize("kind", ["Crop", "ClassToken", "LayerScale", "Reshape", "Permute", "Select"])
def test_our_own_twins_compute_what_their_names_say(kind: str) -> None:
    """The modules that torch.nn lacks, on numbers: against the tensor expression that one would write."""
    x = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    tokens = x[:, :, :, 0]
    written, given, expected = {
        "Crop": ({"cropping": [1, 0, 0, 2]}, x, x[:, :, :-2, 1:]),
        "ClassToken": ({}, tokens, torch.cat([torch.zeros(2, 1, 4), tokens], dim=1)),
        "LayerScale": ({"init_value": 2}, x, 2 * x),
        "Reshape": ({"shape": [-1, 2]}, x, x.view(2, 30, 2)),
        "Permute": ({"dims": [0, 2, 3, 1]}, x, x.movedim(1, -1)),
        "Select": ({"dim": 2, "index": 1}, x, x[:, :, 1]),
    }[kind]
    layer = KINDS[kind].create(written, (tuple(given.shape),))
    assert torch.equal(expected, layer.call(layer.build(), given))


def test_a_layer_scale_multiplies_each_channel_with_its_own_factor() -> None:
    """Channels are the second axis of an image and the last of a sequence."""
    for shape, factors in (((1, 3, 2, 2), (3, 1, 1)), ((1, 2, 3), (3,))):
        layer = layers.LayerScale.create({}, (shape,))
        module = layer.build()
        gamma = torch.tensor([1.0, 2.0, 3.0])
        module.load_state_dict({"gamma": gamma})
        assert torch.equal(torch.ones(shape) * gamma.view(factors), module(torch.ones(shape)))


def test_the_position_is_added_at_its_place() -> None:
    """A positional embedding adds its row to the token at that position, in every sample."""
    layer = layers.PositionalEmbedding.create({}, ((2, 3, 4),))
    module = layer.build()
    rows = torch.arange(12.0).reshape(1, 3, 4)
    module.load_state_dict({"pos_embedding": rows})
    assert torch.equal(torch.cat([rows, rows]), module(torch.zeros(2, 3, 4)))


def test_elementwise_entries_count_every_operator_of_a_broadcast() -> None:
    """(6,1,1) + (6,9,8) + (6,9,8) is two sums of 6*9*8; (6,1) * (1,9) is one product of 6*9."""
    inputs = ((1, 6, 1, 1), (1, 6, 9, 8), (1, 6, 9, 8))
    layer = layers.NAMES["add"].create({}, inputs)
    assert {"elementwise": 2 * 6 * 9 * 8} == layer.cost(inputs, layer.output_shape(inputs)).other
    inputs = ((1, 6, 1), (1, 1, 9))
    layer = layers.NAMES["mul"].create({}, inputs)
    assert {"elementwise": 6 * 9} == layer.cost(inputs, layer.output_shape(inputs)).other


def test_a_transformer_layer_costs_what_its_parts_cost() -> None:
    """Width 8, 4 heads, feed-forward 32, 5 tokens, 2 samples: every part written out."""
    inputs = ((2, 5, 8),)
    layer = layers.TransformerEncoderLayer.create({"nhead": 4, "dim_feedforward": 32, "batch_first": True}, inputs)
    cost = layer.cost(inputs, layer.output_shape(inputs))
    assert 2 * (4 * 5 * 8 * 8 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 32) == cost.macs
    assert {
        "bias": 2 * 5 * (3 * 8 + 8 + 32 + 8),
        "norm": 2 * (2 * 5 * 8),
        "activation": 2 * 5 * 32,
        "softmax": 2 * 4 * 5 * 5,
        "elementwise": 2 * 5 * 8 + 2 * (2 * 5 * 8),
    } == cost.other


def test_recurrent_cells_are_activated_and_updated_unit_by_unit() -> None:
    """One unit and step of LSTM: 5 activations, 4 sums of products, c = f*c + i*g, h = o*tanh(c); GRU 3 and 3 + 5."""
    expected = {
        "RNN": {"activation": 1, "elementwise": 1, "bias": 2},
        "GRU": {"activation": 3, "elementwise": 3 + 1 + 4, "bias": 2 * 3},
        "LSTM": {"activation": 5, "elementwise": 4 + 3 + 1, "bias": 2 * 4},
    }
    for kind, other in expected.items():
        layer = KINDS[kind].create({"hidden_size": 1}, ((1, 1, 1),))
        assert other == layer.cost(((1, 1, 1),), (1, 1, 1)).other
