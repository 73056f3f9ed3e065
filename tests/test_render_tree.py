"""The tree of layers: what is folded, what is not, and that it stands any depth."""

from __future__ import annotations

import gc
import time

from hand_made import layer, report
from hypothesis import given
from hypothesis import strategies as st

from convstat.render.base import Options
from convstat.render.views.layers import LayerLine, layer_lines
from convstat.results.report import BACKWARD, BACKWARD_PASS, NEVER_CALLED, LayerRow

SHAPE = (1, 4, 8, 8)


def shown(*rows: LayerRow, depth: int | None = None, groups: dict[str, str] | None = None) -> list[tuple[object, ...]]:
    """Level, name, type, params and MACs of the lines; titles have no figures."""
    lines = layer_lines(report(tuple(rows), groups=groups or {}), Options(depth=depth))
    return [(line.indent, line.name, line.type, *(() if line.is_title else (line.params, line.macs))) for line in lines]


def conv(name: str, params: int = 10, macs: int = 100, **more: object) -> LayerRow:
    """One convolution."""
    return layer(name, "Conv2d", SHAPE, params, macs, **more)


def test_siblings_that_are_equal_and_count_on_are_one_line() -> None:
    """The figures are those of all of them, in every line below too."""
    assert [(0, "stage", ""), (1, "0-2", "3 x Block"), (2, "conv", "3 x Conv2d", 30, 300)] == shown(
        *(conv(f"stage.{i}.conv") for i in range(3)), groups={f"stage.{i}": "Block" for i in range(3)}
    )
    assert [(0, "conv1-3", "3 x Conv2d", 30, 300)] == shown(*(conv(f"conv{i}") for i in (1, 2, 3)))
    assert [(0, "layer_9-10", "2 x Conv2d", 20, 200)] == shown(conv("layer_9"), conv("layer_10"))


def test_what_differs_in_anything_is_not_folded() -> None:
    """A name that does not count on, a figure, a type, a shape, another entry of work, something between."""
    other = layer("b1", "Linear", SHAPE, 10, 100)
    cases = [
        (conv("b0"), conv("b2")),
        (conv("a0"), conv("b1")),
        (conv("conv"), conv("conv_")),
        (conv("b0"), conv("b1", params=11)),
        (conv("b0"), conv("b1", macs=101)),
        (conv("b0"), other),
        (conv("b0"), layer("b1", "Conv2d", (1, 4, 9, 9), 10, 100)),
        (conv("b0"), conv("b1", other={"bias": 1})),
        (conv("b0"), conv("b1", buffers=1)),
        (conv("b0"), conv("b1", note="tied")),
        (conv("b0"), conv("x"), conv("b1")),
    ]
    for rows in cases:
        assert len(rows) == len(shown(*rows)), [row.name for row in rows]


def test_calls_of_one_module_are_one_line_also_apart() -> None:
    """After the first, which holds the parameters; what is called in between stays."""
    rows = [conv("a"), conv("b", 0)]
    for number in (2, 3, 4):
        rows += [conv(f"a#{number}", 0, shares="a"), conv(f"b#{number}", 0, number, shares="b")]
    assert [
        (0, "a", "Conv2d", 10, 100),
        (0, "b", "Conv2d", 0, 100),
        (0, "a#2-4", "3 x Conv2d (= a)", 0, 300),
        (0, "b#2", "Conv2d (= b)", 0, 2),
        (0, "b#3", "Conv2d (= b)", 0, 3),
        (0, "b#4", "Conv2d (= b)", 0, 4),
    ] == shown(*rows)


def test_a_block_that_is_called_again_is_marked_once() -> None:
    """The mark stands at the block, with the name of its first call; the layers in it need none."""
    rows = [conv("up.a.x"), conv("up.b", 0)]
    for number in (2, 3):
        rows += [conv(f"up.a.x#{number}", 0, shares="up.a.x"), conv(f"up.b#{number}", 0, shares="up.b")]
    assert [
        (0, "up", ""),
        (1, "a", "Block"),
        (2, "x", "Conv2d", 10, 100),
        (1, "b", "Conv2d", 0, 100),
        (1, "a#2-3", "2 x Block (= a)"),
        (2, "x", "2 x Conv2d", 0, 200),
        (1, "b#2-3", "2 x Conv2d (= b)", 0, 200),
    ] == shown(*rows, groups={"up.a": "Block"})


def test_what_a_block_did_itself_is_in_its_title_or_in_a_line() -> None:
    """Without parameters and MACs it is only the block's output; with them it is a line."""
    groups = {"block": "Block"}
    assert [(0, "block", "Block"), (1, "conv", "Conv2d", 10, 100)] == shown(
        conv("block.conv"), layer("block", "Block", SHAPE, other={"elementwise": 5}), groups=groups
    )
    assert [(0, "block", "Block"), (1, "conv", "Conv2d", 10, 100), (1, "(itself)", "Block", 3, 7)] == shown(
        conv("block.conv"), layer("block", "Block", SHAPE, 3, 7), groups=groups
    )
    for own in (layer("block", "Block", SHAPE), layer("block", "Block", SHAPE, 3, 7)):
        assert [(0, "block", "Block", 10 + own.params, 100 + own.macs)] == shown(
            conv("block.conv"), own, groups=groups, depth=1
        )


def test_the_backward_pass_is_a_block_of_its_own() -> None:
    """Its layers stand there under their own names, last one first."""
    rows = [conv("a.0"), conv("a.1", 5)]
    back = [
        layer(f"{row.name}{BACKWARD}", "Conv2d", (), 0, 2 * row.macs, shares=row.name, note=BACKWARD_PASS)
        for row in reversed(rows)
    ]
    assert [
        (0, "a", ""),
        (1, "0", "Conv2d", 10, 100),
        (1, "1", "Conv2d", 5, 100),
        (0, "(backward)", ""),
        (1, "a", ""),
        (2, "0-1", "2 x Conv2d", 0, 400),
    ] == shown(*rows, *back)
    assert (0, "(backward)", "(2 layers)", 0, 400) == shown(*rows, *back, depth=1)[-1]


def test_what_was_never_called_is_marked() -> None:
    """At the layer, and at a block that holds nothing else."""
    rows = [conv("a"), conv("aux.x", 10, 0, note=NEVER_CALLED), conv("aux.y", 20, 0, note=NEVER_CALLED)]
    assert (1, "x", "Conv2d (never called)", 10, 0) in shown(*rows)
    assert (0, "aux", "Aux (never called)", 30, 0) in shown(*rows, depth=1, groups={"aux": "Aux"})


def test_blocks_may_be_nested_deeper_than_pythons_own_stack() -> None:
    """Five thousand levels, shown whole and folded."""
    path = ".".join(["b"] * 5000)
    rows = (conv(f"{path}.x"), conv(f"{path}.y", 7))
    assert 5002 == len(shown(*rows))
    assert [(0, "b", "(2 layers)", 17, 200)] == shown(*rows, depth=1)


def test_the_time_grows_with_the_number_of_layers_and_no_faster() -> None:
    """Ten times the layers take about ten times as long, whether they fold or not."""

    def seconds(count: int, params: int) -> float:
        rows = tuple(conv(f"net.{i}.{name}", 10 + params * i) for i in range(count) for name in ("a", "b", "c"))
        subject = report(rows, groups={})
        best = 1e9
        for _ in range(3):
            start = time.perf_counter()
            layer_lines(subject, Options())
            best = min(best, time.perf_counter() - start)
        return best

    # A collection takes as long as there are objects, those of other tests included.
    gc.disable()
    try:
        for params in (0, 1):
            assert seconds(4000, params) < 25 * seconds(400, params)
    finally:
        gc.enable()


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 1)), min_size=1, max_size=12), st.integers(1, 3))
def test_folding_hides_nothing(blocks: list[tuple[str, int]], depth: int) -> None:
    """Each line stands for as many layers as it says, and the figures of all lines are those of all layers."""
    rows = tuple(conv(f"{name}{i}.x{i % 2}.conv", 10 + extra, 7) for i, (name, extra) in enumerate(blocks))
    for options in (Options(), Options(depth=depth)):
        lines: tuple[LayerLine, ...] = layer_lines(report(rows, groups={}), options)
        assert len(rows) == sum(line.layers for line in lines)
        assert sum(row.params for row in rows) == sum(line.params for line in lines)
        assert 7 * len(rows) == sum(line.macs for line in lines)
