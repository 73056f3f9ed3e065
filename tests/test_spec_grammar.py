"""The grammar of specs, construct by construct, with numbers worked out by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from convstat.errors import SpecError
from convstat.graph import Graph
from convstat.spec import read
from convstat.targets import inline

HEAD = "convstat: 1\ninput: [4, 16, 16]\n"


def graph(text: str, *, head: str = HEAD, **overrides: Any) -> Graph:
    """Expand a spec; ``__`` in a keyword stands for a dot."""
    spec = read(head + text, "net.yaml")
    assert () == spec.warnings
    return spec.expand({key.replace("__", "."): value for key, value in overrides.items()})


def names(found: Graph) -> list[str]:
    """The names of the layers."""
    return [node.name for node in found.nodes]


def shapes(found: Graph) -> list[str]:
    """The shapes that the layers deliver, without the batch."""
    return ["x".join(map(str, node.output_shape[1:])) for node in found.nodes]


def params(found: Graph) -> int:
    """The parameters of the whole."""
    return sum(node.layer.params() for node in found.nodes if not node.is_shared)


def test_a_layer_is_a_word_a_value_or_a_mapping() -> None:
    """All three forms, aliases and short arguments; what is not written is a default or follows from the input."""
    found = graph("""
layers:
  - Conv2d: {out_channels: 8, kernel_size: 3}
  - conv: {out: 8, k: [3, 1], s: 2, p: same, g: 2, bias: false}
    when: false
  - conv: {out: 8, k: 3, p: 1, g: 4, bias: False}
  - BatchNorm2d
  - relu
  - MaxPool2d: 2
  - AdaptiveAvgPool2d: [1, 1]
  - Flatten:
  - Linear: 10
""")
    assert ["8x14x14", "8x14x14", "8x14x14", "8x14x14", "8x7x7", "8x1x1", "8", "10"] == shapes(found)
    assert (8 * 4 * 9 + 8) + 8 * 2 * 9 + 2 * 8 + (8 * 10 + 10) == params(found)
    assert "Conv2d" == found.nodes[1].layer.kind()


def test_default_names_count_from_the_second_and_make_way_for_given_ones() -> None:
    """An unnamed item is called after its kind, in its own list."""
    found = graph("""
layers:
  - ReLU
  - conv: {out: 4, k: 1}
  - ReLU
  - conv: {out: 4, k: 1}
    name: conv2d
  - ReLU
  - ReLU:
    name: relu_2
""")
    assert ["relu", "conv2d_2", "relu_3", "conv2d", "relu_4", "relu_2"] == names(found)


def test_variables_read_each_other_in_any_order() -> None:
    """And an override reaches what reads it."""
    text = """
vars: {d: 2*c, c: round8(base*alpha), alpha: 0.5, base: 32, ks: [3, 1]}
layers:
  - Conv2d: {out_channels: d, kernel_size: ks, padding: same}
"""
    assert 2 * 16 * 4 * 3 + 2 * 16 == params(graph(text))
    assert 2 * 32 * 4 * 3 + 2 * 32 == params(graph(text, alpha=1))
    assert 2 * 24 * 4 * 3 + 2 * 24 == params(graph(text, alpha=Fraction(3, 4)))
    assert 2 * 24 * 4 * 3 + 2 * 24 == params(graph(text, alpha=0.75))
    assert 5 * 4 * 9 + 5 == params(graph(text, d=5, ks=[3, 3]))


def test_sizes_of_what_comes_in_have_names() -> None:
    """cin, hin, win, lin, din and fin, by the number of dimensions."""
    found = graph("""
layers:
  - Conv2d: {out_channels: 2*cin, kernel_size: [hin // 4, win // 8]}
  - Flatten: {start_dim: 2}
  - Conv1d: {out_channels: cin // 2, kernel_size: lin}
  - Flatten
  - Linear: 3 * fin
""")
    assert ["8x13x15", f"8x{13 * 15}", "4x1", "4", "12"] == shapes(found)
    deep = graph("layers: [{Conv3d: {out_channels: din + hin + win, kernel_size: 1}}]", head="input: [1, 2, 3, 4]\n")
    assert ["9x2x3x4"] == shapes(deep)


def test_repeat_counts_with_i_and_n() -> None:
    """A repeated layer, a repeated block, a repeated group; inside a group the turn can still be read."""
    found = graph("""
blocks:
  unit:
    params: {out: null}
    layers: [{Conv2d: {out_channels: out, kernel_size: 1, bias: false}}, ReLU]
layers:
  - Conv2d: {out_channels: 4 + i, kernel_size: 1, bias: false}
    repeat: 3
  - unit: {out: 8 * (n - i)}
    name: stage
    repeat: 2
  - residual: {body: [{Conv2d: {out_channels: cin, kernel_size: 2*i + 1, padding: i, bias: false}}]}
    name: res
    repeat: 2
  - ReLU:
    repeat: 0
""")
    assert [
        "conv2d.0", "conv2d.1", "conv2d.2",
        "stage.0.conv2d", "stage.0.relu", "stage.1.conv2d", "stage.1.relu",
        "res.0.conv2d", "res.0.add", "res.1.conv2d", "res.1.add",
    ] == names(found)  # fmt: skip
    expected = 4 * 4 + 4 * 5 + 5 * 6 + 6 * 16 + 16 * 8 + 8 * 8 * 1 + 8 * 8 * 9
    assert expected == params(found)
    assert {"stage.0": "unit", "stage.1": "unit", "res.0": "residual", "res.1": "residual"} == dict(found.groups)


def test_a_block_sees_its_parameters_before_the_variables() -> None:
    """Shadowing, defaults that read other parameters and what comes in, a bare value, and no turn of its caller."""
    found = graph("""
vars: {out: 100, bias: false}
blocks:
  unit:
    params: {stride: 1, out: null, mid: out // 2 + cin}
    layers:
      - Conv2d: {out_channels: mid, kernel_size: 1, bias: bias}
      - Conv2d: {out_channels: out, kernel_size: 1, stride: stride, bias: bias}
  pair: [{unit: 6}, {unit: {out: 8, mid: 1, stride: 2}}]
layers:
  - pair
  - Conv2d: {out_channels: out, kernel_size: 1, bias: bias}
""")
    assert 4 * 7 + 7 * 6 + 6 * 1 + 1 * 8 + 8 * 100 == params(found)
    assert ["pair.unit.conv2d", "pair.unit.conv2d_2", "pair.unit_2.conv2d", "pair.unit_2.conv2d_2", "conv2d"] == names(
        found
    )
    with pytest.raises(SpecError, match="undefined variable 'i'"):
        graph("blocks: {unit: [{Linear: i}]}\nlayers: [{unit: , repeat: 2}]")


def test_a_block_can_take_several_inputs() -> None:
    """Named in its definition, given by ``from``."""
    found = graph("""
blocks:
  up:
    inputs: [small, large]
    layers:
      - Upsample: {scale_factor: 2}
        from: small
      - concat: [prev, large]
      - Conv2d: {out_channels: 4, kernel_size: 1}
layers:
  - MaxPool2d: 2
    name: half
  - up:
    from: [half, input]
""")
    assert ["4x8x8", "4x16x16", "8x16x16", "4x16x16"] == shapes(found)
    assert ("up.upsample", "input") == found.nodes[2].inputs


def test_the_four_shortcuts() -> None:
    """identity and layers add, same adds where the shape is kept, project only works where it is not."""
    text = """
vars: {out: 4, stride: 1}
layers:
  - residual:
      shortcut: SHORTCUT
      body: [{Conv2d: {out_channels: out, kernel_size: 3, stride: stride, padding: 1, bias: false}}]
"""
    kept = 4 * 4 * 9
    for shortcut in ("identity", "same", "project"):
        found = graph(text.replace("SHORTCUT", shortcut))
        assert ["residual.conv2d", "residual.add"] == names(found)
        assert ("residual.conv2d", "input") == found.nodes[1].inputs
        assert kept == params(found)
    wide = graph(text.replace("SHORTCUT", "same"), out=6, stride=2)
    assert ["residual.conv2d"] == names(wide)
    projected = graph(text.replace("SHORTCUT", "project"), out=6, stride=2)
    assert ["conv2d", "shortcut.conv2d", "shortcut.batchnorm2d", "add"] == [
        name.removeprefix("residual.") for name in names(projected)
    ]
    assert 6 * 4 * 9 + 6 * 4 + 2 * 6 == params(projected)
    assert ["6x8x8"] * 4 == shapes(projected)
    listed = graph(
        text.replace("SHORTCUT", "[AvgPool2d: 2, {Conv2d: {out_channels: 6, kernel_size: 1}}]"), out=6, stride=2
    )
    assert 6 * 4 * 9 + 6 * 4 + 6 == params(listed)
    assert "residual.shortcut.avgpool2d" in names(listed)


def test_parallel_paths_are_merged_in_three_ways() -> None:
    """concat, add and mul; an empty path hands its input on; paths may be a list."""
    text = """
layers:
  - parallel:
      merge: MERGE
      paths:
        a: [{Conv2d: {out_channels: 4, kernel_size: 1, bias: false}}]
        b: []
    name: mix
"""
    for merge, channels in (("concat", 8), ("add", 4), ("mul", 4)):
        found = graph(text.replace("MERGE", merge))
        assert ["mix.a.conv2d", f"mix.{merge}"] == names(found)
        assert ("mix.a.conv2d", "input") == found.nodes[1].inputs
        assert [f"{channels}x16x16"] == shapes(found)[1:]
        assert {"elementwise": 4 * 16 * 16} == dict(found.nodes[1].cost.other) or merge == "concat"
    listed = graph("layers: [{parallel: {merge: add, paths: [[ReLU], [Sigmoid, ReLU], []]}}]")
    assert ["parallel.0.relu", "parallel.1.sigmoid", "parallel.1.relu", "parallel.add"] == names(listed)


def test_edges_are_names_never_indices() -> None:
    """from, the merges, prev, input, paths into groups, into repeats and into blocks; the nearest name counts."""
    found = graph("""
blocks:
  unit: [{Conv2d: {out_channels: cin, kernel_size: 1}, name: inner}, ReLU]
layers:
  - unit:
    name: enc
    repeat: 2
  - parallel:
      merge: add
      paths:
        p1: [ReLU, {Sigmoid: , name: inner}]
        p3: [{Tanh: , name: inner}, {add: [inner, input]}]
    name: mix
  - add: [enc.0, enc, enc.1.inner, mix.p3.0, mix.p1.inner, prev]
    name: all
  - add:
    from: [all, mix]
  - concat: {inputs: [prev, input], dim: 2}
  - Conv2d: {out_channels: 1, kernel_size: 1}
""")
    by_name = {node.name: node for node in found.nodes}
    assert ("enc.0.relu", "enc.1.relu", "enc.1.inner", "mix.p3.inner", "mix.p1.inner", "mix.add") == by_name[
        "all"
    ].inputs
    assert ("mix.p3.inner", "input") == by_name["mix.p3.add"].inputs
    assert ("all", "mix.add") == by_name["add"].inputs
    assert (1, 4, 32, 16) == by_name["concat"].output_shape


def test_when_leaves_an_item_out() -> None:
    """What it would have been given goes on to the next; exclusive items make a choice."""
    text = """
vars: {deep: false}
layers:
  - Conv2d: {out_channels: 8, kernel_size: 1, bias: false}
    when: deep
    name: extra
  - Conv2d: {out_channels: 2, kernel_size: 1, bias: false}
"""
    assert 4 * 2 == params(graph(text))
    assert 4 * 8 + 8 * 2 == params(graph(text, deep=True))
    assert 4 * 8 + 8 * 2 == params(graph(text, extra__when=True))


def test_a_shared_layer_is_paid_for_once() -> None:
    """Its work is done at each call; a frozen one has parameters that do not train."""
    text = """
layers:
  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}
    name: first
  - Conv2d:
    share: first
    name: again
  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}
    share: again
  - BatchNorm2d:
    frozen: true
    note: kept as it was trained
"""
    found = graph(text)
    weights = 4 * 4 * 9 + 4
    assert weights + 2 * 4 == params(found)
    assert ["first", "first", "first", "batchnorm2d"] == [node.owner for node in found.nodes]
    assert [False, True, True, False] == [node.is_shared for node in found.nodes]
    assert [True, True, True, False] == [node.trainable for node in found.nodes]
    assert "kept as it was trained" == found.nodes[3].note
    measured = read(HEAD + text, "net.yaml").measure()
    assert (weights + 8, weights, 3 * 4 * 4 * 9 * 16 * 16) == (
        measured.params,
        measured.trainable_params,
        measured.macs,
    )
    assert {"float": weights + 8 + 8, "int64": 1} == measured.stored


def test_freezing_a_block_freezes_what_is_in_it() -> None:
    """Also in blocks that it calls, and only where the expression says so."""
    text = """
blocks:
  unit: [{Conv2d: {out_channels: 4, kernel_size: 1, bias: false}}]
  pair: [unit, unit]
layers:
  - pair:
    repeat: 3
    frozen: i < 2
"""
    assert [False] * 4 + [True] * 2 == [node.trainable for node in graph(text).nodes]
    measured = read(HEAD + text, "net.yaml").measure()
    assert (6 * 16, 2 * 16) == (measured.params, measured.trainable_params)


def test_a_layer_can_be_the_value_of_a_variable_or_parameter() -> None:
    """So an activation is swapped with an override."""
    text = """
vars: {activation: ReLU}
blocks:
  unit:
    params: {act: activation, slope: 0.1}
    layers: [{Conv2d: {out_channels: 4, kernel_size: 1}}, act]
layers:
  - unit
  - unit: {act: LeakyReLU if slope_wanted else Sigmoid}
  - activation:
  - Tanh:
    when: activation == Hardswish
""".replace("slope_wanted", "activation == ReLU")
    assert ["ReLU", "LeakyReLU", "ReLU"] == [
        node.layer.kind() for node in graph(text).nodes if node.layer.params() == 0
    ]
    assert ["Hardswish", "Sigmoid", "Hardswish", "Tanh"] == [
        node.layer.kind() for node in graph(text, activation="Hardswish").nodes if node.layer.params() == 0
    ]
    shipped = graph("vars: {what: ReLU}\nlayers: [{what: }]", what="ReLU6")
    assert ["what"] == names(shipped)


def test_a_variable_can_name_a_shipped_block() -> None:
    """It is read when the variable says so."""
    found = graph("vars: {what: SqueezeExcitation}\nlayers: [{what: {squeeze_channels: 2}}]")
    assert (4 * 2 + 2) + (2 * 4 + 4) == params(found)


def test_inputs_can_be_several_and_of_integers() -> None:
    """By name, with a dtype that is given or follows from who reads it."""
    found = graph(
        """
layers:
  - Embedding: {num_embeddings: 10, embedding_dim: 3}
    from: ids
    name: words
  - Linear: 3
    from: x
    name: line
  - add: [words, line]
  - Identity:
    from: mask
outputs: [add, prev]
""",
        head="input: {x: [7], ids: [5], mask: {shape: [2], dtype: int64}}\n",
    )
    assert [("x", (1, 7), "float32"), ("ids", (1, 5), "int64"), ("mask", (1, 2), "int64")] == [
        (item.name, item.shape, item.dtype) for item in found.inputs
    ]
    assert (10 * 3) + (7 * 3 + 3) == params(found)


def test_outputs_are_named_where_they_are_not_the_last() -> None:
    """Several, and paths into groups."""
    found = graph("""
layers:
  - Conv2d: {out_channels: 2, kernel_size: 1}
    name: a
  - residual: {body: [ReLU]}
    name: b
  - ReLU
outputs: [a, b.relu, prev]
""")
    assert ("a", "b.relu", "relu") == found.outputs


def test_variants_set_variables_and_inputs() -> None:
    """A variant may give a variable another expression, and the spec another input."""
    spec = read(
        HEAD
        + """
vars: {alpha: 1, c: 8*alpha}
layers: [{Conv2d: {out_channels: c, kernel_size: 1, bias: false}}]
models:
  half: {alpha: 0.5}
  odd: {c: 3 + alpha, input: [2, 8, 8], note: small}
""",
        "net.yaml",
    )
    assert ("half", "odd") == spec.variants
    assert [4 * 8, 4 * 4, 2 * 4] == [spec.measure(variant=variant).params for variant in (None, "half", "odd")]
    assert 2 * (3 + 2) == spec.measure({"alpha": 2}, variant="odd").params
    assert "net#half" == spec.expand(variant="half").name


def test_a_given_input_sets_the_variables_that_are_its_sizes() -> None:
    """So a size that is read elsewhere follows; one that cannot follow is refused."""
    spec = read("input: [3, H, H]\nvars: {H: 8, W: 2*H}\nlayers: [{AdaptiveAvgPool2d: W}]\n", "net.yaml")
    assert (1, 3, 16, 16) == spec.measure().output_shape
    assert (2, 3, 8, 8) == spec.measure(inputs={"input": (3, 4, 4)}, batch=2).output_shape
    with pytest.raises(SpecError, match="makes 'H' both 4 and 6"):
        spec.measure(inputs={"input": (3, 4, 6)})
    free = read("input: [3, H, H]\nvars: {H: 8}\nlayers: [ReLU]\n", "net.yaml")
    assert (1, 3, 4, 6) == free.measure(inputs={"input": (3, 4, 6)}).output_shape


def test_overrides_reach_arguments_by_their_path() -> None:
    """In the list, in blocks, in one turn or all turns of a repeat, in groups, and of blocks themselves."""
    text = """
blocks:
  unit:
    params: {out: 4}
    layers: [{Conv2d: {out_channels: out, kernel_size: 1, bias: false}, name: conv}]
layers:
  - Conv2d: {out_channels: 4, kernel_size: 1, bias: false}
    name: stem
  - unit:
    name: stage
    repeat: 2
  - parallel: {merge: add, paths: {a: [{Conv2d: {out_channels: 4, kernel_size: 1, bias: false}, name: conv}], b: []}}
    name: mix
"""

    def weights(**overrides: Any) -> list[int]:
        return [node.layer.params() for node in graph(text, **overrides).nodes if node.layer.params()]

    assert [16, 16, 16, 16] == weights()
    assert [16 * 9, 16, 16, 16] == weights(stem__kernel_size=3, stem__padding=1)
    assert [16 * 9, 16, 16, 16] == weights(stem__k=3, stem__p=1)
    assert [16, 16, 16 * 9, 16] == weights(stage__1__conv__kernel_size=[3, 3], stage__1__conv__padding="same")
    assert [16, 20, 20, 16] == weights(stage__conv__bias=True)
    assert [16, 4 * 6, 6 * 4, 16] == weights(stage__0__out=6)
    assert [16, 16, 16, 16, 20] == weights(stage__repeat=3, mix__a__conv__bias=True)
    spec = read(HEAD + text, "net.yaml")
    assert spec.expand({"stage[1].conv.bias": True}) == spec.expand({"stage.1.conv.bias": True})


def test_an_inline_layer_is_a_spec_of_one_layer() -> None:
    """Positional arguments in torch's order, keywords, aliases, Python's constants, expressions, lists; blocks too."""
    layer = inline.read("Conv2d(64, 2*64, kernel_size=(3, 1), padding='same', groups=4, bias=False)")
    inputs = {"input": (64, 56, 56)}
    assert 128 * 16 * 3 == layer.measure(inputs=inputs).params
    assert 128 * 32 * 3 + 128 == layer.measure({"groups": 2, "bias": True}, inputs=inputs).params
    assert 128 * 64 * 3 == layer.measure({"g": 1}, inputs=inputs).params
    assert (2, 128, 56, 56) == layer.measure(inputs=inputs, batch=2).output_shape
    assert 8 * 4 * 9 + 8 == inline.read(" conv(out=8, k=3) ").measure(inputs={"input": (4, 8, 8)}).params
    assert 0 == inline.read("MaxPool2d(2, None)").measure(inputs=inputs).params
    with pytest.raises(SpecError, match="in_channels=64, but the input 32x8x8 has 32"):
        layer.measure(inputs={"input": (32, 8, 8)})


@pytest.mark.parametrize(
    ("text", "size", "params", "macs"),
    [
        ("ACBlock(64, kernel_size=3, padding=1)", (64, 32, 32), 61_824, 62_914_560),
        ("ACBlock(64, kernel_size=3, padding=1, deploy=True)", (64, 32, 32), 36_928, 37_748_736),
        # Without padding, the asymmetric paths cut the border off: 30x30 positions for all three.
        ("ACBlock(8, kernel_size=3)", (4, 32, 32), (9 + 3 + 3) * 4 * 8 + 3 * 16, (9 + 3 + 3) * 4 * 8 * 30 * 30),
        ("ACBlock(8, kernel_size=5, padding=1)", (4, 9, 9), (25 + 5 + 5) * 4 * 8 + 3 * 16, 35 * 4 * 8 * 7 * 7),
        ("ACBlock(8, kernel_size=3, padding=1, stride=2, groups=2)", (4, 9, 9), 15 * 2 * 8 + 48, 15 * 2 * 8 * 5 * 5),
        ("ACBlock(8, kernel_size=3, padding=2, dilation=2)", (4, 9, 9), 15 * 4 * 8 + 48, 15 * 4 * 8 * 9 * 9),
        ("DepthwiseSeparableConv(8, kernel_size=3, padding=1, bias=False)", (4, 8, 8), 36 + 32, (36 + 32) * 64),
        (
            "DepthwiseSeparableConv(8, multiplier=2, stride=2)",
            (4, 9, 9),
            8 * 9 + 8 + 8 * 8 + 8,
            (8 * 9 + 8 * 8) * 4 * 4,
        ),
        (
            "SpatiallySeparableConv(8, kernel_size=3, stride=2, mid_channels=6, bias=False)",
            (4, 9, 11),
            3 * 4 * 6 + 3 * 6 * 8,
            3 * 4 * 6 * 4 * 11 + 3 * 6 * 8 * 4 * 5,
        ),
        ("SqueezeExcitation(2)", (8, 5, 5), (8 * 2 + 2) + (2 * 8 + 8), 8 * 2 + 2 * 8),
        # 16 -> 96 -> 16, the input added; norms of 96, 96 and 16.
        (
            "InvertedResidual(16)",
            (16, 8, 8),
            16 * 96 + 9 * 96 + 96 * 16 + 2 * (96 + 96 + 16),
            (16 * 96 + 9 * 96 + 96 * 16) * 64,
        ),
        (
            "InvertedResidual(24, stride=2, expand_ratio=1, kernel_size=5)",
            (16, 8, 8),
            25 * 16 + 16 * 24 + 2 * (16 + 24),
            (25 * 16 + 16 * 24) * 16,
        ),
    ],
)
def test_the_shipped_blocks(text: str, size: tuple[int, ...], params: int, macs: int) -> None:
    """Each with the arithmetic of its paper."""
    measured = inline.read(text).measure(inputs={"input": size})
    assert (params, macs) == (measured.params, measured.macs)


def test_an_inverted_residual_adds_its_input_where_nothing_changes() -> None:
    """Stride 1 and equal channels; with attention and another activation as in MobileNetV3."""
    same = inline.read("InvertedResidual(16)").expand(inputs={"input": (16, 8, 8)})
    assert ["expand", "expand_norm", "expand_activation", "depthwise", "depthwise_norm", "depthwise_activation"] == [
        node.name.partition(".")[2] for node in same.nodes[:6]
    ]
    assert "InvertedResidual.add" == same.nodes[-1].name
    for changed in ("InvertedResidual(24)", "InvertedResidual(16, stride=2)"):
        found = inline.read(changed).expand(inputs={"input": (16, 8, 8)})
        assert "InvertedResidual.project_norm" == found.nodes[-1].name
    third = inline.read("InvertedResidual(16, activation=Hardswish, se_ratio=0.25, scale_activation=Hardsigmoid)")
    kinds = [node.layer.kind() for node in third.expand(inputs={"input": (16, 8, 8)}).nodes]
    assert 2 == kinds.count("Hardswish")
    assert [
        "AdaptiveAvgPool2d",
        "Conv2d",
        "ReLU",
        "Conv2d",
        "Hardsigmoid",
        "Mul" if "Mul" in kinds else "mul",
    ] == kinds[6:12]


def test_every_node_knows_its_line() -> None:
    """The place of the layer's name, also inside a block."""
    found = graph("blocks:\n  unit:\n    - Conv2d: {out_channels: 4, kernel_size: 1}\nlayers:\n  - unit\n  - ReLU\n")
    assert ["net.yaml:5:7", "net.yaml:8:5"] == [str(node.source) for node in found.nodes]


def test_anchors_are_taken_within_limits() -> None:
    """YAML's own means of writing something once."""
    found = graph("""
layers:
  - &conv
    Conv2d: &arguments {out_channels: 4, kernel_size: 1}
  - *conv
  - Conv2d: *arguments
""")
    assert ["conv2d", "conv2d_2", "conv2d_3"] == names(found)


def test_budgets_are_kept_as_text_with_their_place() -> None:
    """Somebody else reads them."""
    spec = read(HEAD + 'layers: [ReLU]\nbudget: ["params<=5M", macs <= 1G]\n', "net.yaml")
    assert [("params<=5M", "net.yaml:4:10"), ("macs <= 1G", "net.yaml:4:24")] == [(t, str(m)) for t, m in spec.budget]


def test_a_spec_tells_its_variables_names_and_notes() -> None:
    """What a listing shows."""
    spec = read(
        "note: a test\n" + HEAD + "vars: {a: 2, b: a/4}\nlayers: [{Linear: a}, {Linear: 4*b}]\n", "some/net.yaml"
    )
    assert ("net", "a test", {"a": 2, "b": Fraction(1, 2)}) == (spec.name, spec.note, dict(spec.vars))
    assert ("input",) == spec.input_names
