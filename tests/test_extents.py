"""Receptive fields are the support of the gradient, and a block with its halo gives what the whole picture gives."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import convstat
from convstat.cli.run import run
from convstat.count import extents as counting
from convstat.errors import SpecError
from convstat.formulas import reach
from convstat.graph import Graph
from convstat.layers.conv import Conv2d
from convstat.results.extent import Extent
from convstat.spec import read
from convstat.trace.build import build

SIZES = (72, 66)


def graph_of(layers: str, sizes: tuple[int, ...] = SIZES) -> Graph:
    """The graph of a list of layers."""
    return read(f"convstat: 1\ninput: [4, {', '.join(map(str, sizes))}]\nlayers:\n{layers}", "net.yaml").expand()


def model_of(graph: Graph, *, positive: bool = True) -> nn.Module:
    """The torch model; with positive weights alone, nothing cancels out."""
    model = build(graph).double()
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.data.uniform_(0.1 if positive else -1, 1)
    return model.eval()


def supports(graph: Graph, places: list[tuple[int, ...]], tries: int) -> list[list[set[int]]]:
    """For some output positions, the input positions along each axis on which the gradient is not zero."""
    model = model_of(graph)
    found: list[list[set[int]]] = [[set() for _ in graph.inputs[0].shape[2:]] for _ in places]
    for _ in range(tries):
        x = torch.rand(graph.inputs[0].shape, dtype=torch.float64, requires_grad=True)
        output = model(x)
        for place, sets in zip(places, found, strict=True):
            [gradient] = torch.autograd.grad(output[(0, slice(None), *place)].sum(), x, retain_graph=True)
            touched = gradient[0].abs().sum(0)
            for axis, positions in enumerate(sets):
                others = tuple(other for other in range(touched.dim()) if other != axis)
                positions |= set(touched.sum(others).nonzero()[:, 0].tolist())
    return found


def pair(values: st.SearchStrategy[int]) -> st.SearchStrategy[list[int]]:
    """A value for each axis."""
    return st.lists(values, min_size=2, max_size=2)


KINDS = ["conv", "conv", "deconv", "avg", "max", "up", "pad", "crop", "shuffle", "branches"]


@st.composite
def layers(draw: st.DrawFn, most: int = 4) -> tuple[str, bool]:
    """Random layers of every kind that moves positions; whether a maximum is among them, which needs many inputs."""
    lines, maximum = [], False
    for _ in range(draw(st.integers(1, most))):
        kind = draw(st.sampled_from(KINDS))
        kernel, stride = draw(pair(st.integers(1, 4))), draw(pair(st.integers(1, 3)))
        if kind == "conv":
            # Padding may be larger than the kernel.
            padding, dilation = draw(pair(st.integers(0, 5))), draw(pair(st.integers(1, 3)))
            lines.append(
                f"Conv2d: {{out_channels: 4, kernel_size: {kernel}, stride: {stride}, padding: {padding}, "
                f"dilation: {dilation}}}"
            )
        elif kind == "deconv":
            dilation = draw(pair(st.integers(1, 2)))
            lines.append(
                f"ConvTranspose2d: {{out_channels: 4, kernel_size: {kernel}, stride: {stride}, "
                f"padding: {draw(pair(st.integers(0, 2)))}, dilation: {dilation}}}"
            )
        elif kind in ("avg", "max"):
            maximum = maximum or kind == "max"
            name = "AvgPool2d" if kind == "avg" else "MaxPool2d"
            padding = [size // 2 for size in kernel]
            lines.append(f"{name}: {{kernel_size: {kernel}, stride: {stride}, padding: {padding}}}")
        elif kind == "up":
            mode = draw(st.sampled_from(["nearest", "bilinear", "nearest-exact", "bicubic"]))
            lines.append(f"Upsample: {{scale_factor: {draw(st.sampled_from([2, 3, 1.5]))}, mode: {mode}}}")
        elif kind == "pad":
            lines.append(f"ZeroPad2d: {draw(st.lists(st.integers(0, 3), min_size=4, max_size=4))}")
        elif kind == "crop":
            lines.append(f"Crop: {draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))}")
        elif kind == "shuffle":
            lines.append(draw(st.sampled_from(["PixelShuffle: 2", "PixelUnshuffle: 2"])))
            lines.append("Conv2d: {out_channels: 4, kernel_size: 1}")
        else:
            size, dilation = draw(st.sampled_from([3, 5])), draw(st.integers(1, 2))
            body = f"{{Conv2d: {{out_channels: 4, kernel_size: {size}, dilation: {dilation}, padding: same}}}}"
            merge = draw(st.sampled_from(["concat", "add", "mul"]))
            lines.append(f"parallel: {{merge: {merge}, paths: [[{body}], [{{AvgPool2d: {{kernel_size: 3, stride: 1, "
                         "padding: 1}}], []]}")  # fmt: skip
    return "".join(f"  - {line}\n" for line in lines), maximum


def output_of(graph: Graph) -> tuple[list[reach.Reach], Extent]:
    """What is said of the output: per axis."""
    found = counting.of_graph(graph)[graph.outputs[0]]
    extent = counting.extent_of(found, 2)
    assert extent is not None
    assume(extent.is_known)
    along = found.along()
    return [along[axis] for axis in range(2)], extent


def middles(graph: Graph, reaches: list[reach.Reach]) -> list[tuple[int, ...]]:
    """Output positions far from the border: a whole turn of them on each axis."""
    starts = [size // 2 for size in graph.shape_of(graph.outputs[0])[2:]]
    turns = [min(len(found.phases), 6) for found in reaches]
    steps = range(max(turns))
    return [tuple(first + min(step, turn - 1) for first, turn in zip(starts, turns, strict=True)) for step in steps]


@given(layers())
@settings(deadline=None, max_examples=25)
def test_it_is_the_support_of_the_gradient(case: tuple[str, bool]) -> None:
    """Position by position, holes included, in the middle of a large picture, for outputs of every phase."""
    text, maximum = case
    try:
        graph = graph_of(text)
    except SpecError:
        assume(False)
    reaches, extent = output_of(graph)
    assume(all(3 * size < room for size, room in zip(extent.size, SIZES, strict=True) if size is not None))
    places = middles(graph, reaches)
    for place, sets in zip(places, supports(graph, places, 30 if maximum else 1), strict=True):
        expected = [found.positions(position) for found, position in zip(reaches, place, strict=True)]
        assume(all(positions <= set(range(room)) for positions, room in zip(expected, SIZES, strict=True)))
        # An output that depends on nothing along one axis depends on nothing at all.
        assert (expected if all(expected) else [set(), set()]) == sets
    steps = tuple(Fraction(found.unit, len(found.phases)) for found in reaches)
    assert extent.jump == steps
    for found, size in zip(reaches, extent.size, strict=True):
        sets = [found.positions(output) for output in range(len(found.phases))]
        assert size == max(max(positions) - min(positions) + 1 if positions else 0 for positions in sets)


@given(layers(3))
@settings(deadline=None, max_examples=25)
def test_a_block_with_its_halo_gives_what_the_picture_gives(case: tuple[str, bool]) -> None:
    """Exactly, for the outputs that belong to the block, if the network runs on that part of the picture alone."""
    text, _ = case
    try:
        graph = graph_of(text)
    except SpecError:
        assume(False)
    reaches, extent = output_of(graph)
    model = model_of(graph, positive=False)
    torch.manual_seed(4)
    picture = torch.rand(graph.inputs[0].shape, dtype=torch.float64)
    block, parts, outputs = [], [], []
    for found, halo, room in zip(reaches, extent.halo, SIZES, strict=True):
        assert halo is not None
        first = -(-(room // 3) // found.unit) * found.unit
        last = first + found.unit * max(1, room // 4 // found.unit)
        # The part that is run begins at a unit too, so that the steps of strided layers fall where they did.
        start = (first - halo.before) // found.unit * found.unit
        assume(start >= 0 and last + halo.after <= room)
        parts.append(slice(start, last + halo.after))
        block.append(slice(first, last))
        ends = ((edge - found.offset) / found.jump for edge in (first, last))
        outputs.append((slice(*map(int, ends)), int(start / found.jump)))
    with torch.no_grad():
        whole = model(picture)
        try:
            part = model(picture[(slice(None), slice(None), *parts)])
        except RuntimeError:
            assume(False)
    wanted = whole[(0, slice(None), *(where for where, _ in outputs))]
    found_there = part[(0, slice(None), *(slice(where.start - ahead, where.stop - ahead) for where, ahead in outputs))]
    assume(wanted.shape == found_there.shape)
    assert torch.allclose(wanted, found_there, atol=1e-9)


TOKENS = "  - Flatten: {start_dim: 2}\n  - Permute: [0, 2, 1]\n"
STACK = "  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}\n"


@pytest.mark.parametrize(
    ("text", "size", "step", "halo"),
    [
        (STACK * 5, 2 * 5 + 1, 1, (5, 5)),
        (
            "".join(STACK.replace("padding: 1", f"padding: {t}, dilation: {t}") for t in (1, 2, 4)),
            1 + 2 * (1 + 2 + 4),
            1,
            (7, 7),
        ),
        # Strided: 3, then two taps of a step of 2 more; the last window ends in the block.
        (STACK.replace("padding", "stride: 2, padding") * 2, 3 + 2 * 2, 4, (3, 0)),
        ("  - ConvTranspose2d: {out_channels: 4, kernel_size: 4, stride: 2, padding: 1}\n", 2, Fraction(1, 2), (1, 1)),
        ("  - AvgPool2d: 2\n  - Upsample: {scale_factor: 2}\n", 2, 1, (0, 0)),
        ("  - PixelUnshuffle: 2\n" + STACK + "  - PixelShuffle: 2\n", 6, 1, (2, 2)),
    ],
)
def test_by_hand(text: str, size: int, step: Fraction | int, halo: tuple[int, int]) -> None:
    """The closed forms of the literature."""
    _, extent = output_of(graph_of(text))
    assert ((size, size), (step, step)) == (extent.size, extent.jump)
    assert [halo, halo] == [(part.before, part.after) for part in extent.halo if part is not None]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("  - AdaptiveAvgPool2d: 1\n", "the whole input"),
        ("  - Flatten\n  - Linear: 3\n", "the whole input"),
        (TOKENS + "  - MultiheadAttention: {num_heads: 2, batch_first: true}\n", "the whole input"),
        ("  - GroupNorm: {num_groups: 2}\n", "the whole input"),
        ("  - InstanceNorm2d\n", "the whole input"),
        ("  - SqueezeExcitation: {squeeze_channels: 2}\n", "the whole input"),
        ("  - AdaptiveAvgPool2d: 5\n", "not known: its windows are of different sizes"),
        ("  - Upsample: {size: [100, 100], mode: bilinear, align_corners: true}\n", "not known: with aligned corners"),
        ("  - ReLU\n  - Select: {dim: 2, index: 0}\n", "not known: positions are picked"),
    ],
)  # fmt: skip
def test_layers_after_which_it_is_the_whole_input_say_so(text: str, note: str) -> None:
    """And those of which nothing is known, why; the gradient agrees on the former."""
    graph = graph_of(text, (12, 12))
    extent = counting.extent_of(counting.of_graph(graph)[graph.outputs[0]], 2)
    assert extent is not None
    assert extent.note is not None
    assert extent.note.startswith(note)
    if note == "the whole input":
        assert (None, None) == extent.size
        # Small, so that no softmax is saturated.
        x = (0.01 * torch.rand(graph.inputs[0].shape, dtype=torch.float64)).requires_grad_()
        [gradient] = torch.autograd.grad(model_of(graph)(x).flatten()[0], x)
        assert bool((gradient[0].abs().sum(0) > 0).all())


def test_tokens_that_become_a_picture_again_keep_their_places() -> None:
    """Flattened positions are found again; a layer that mixes them in between makes it the whole input."""
    back = "  - Permute: [0, 2, 1]\n  - Unflatten: {dim: 2, unflattened_size: [12, 10]}\n" + STACK
    graph = graph_of(STACK + TOKENS + "  - LayerNorm: {}\n  - Linear: 4\n" + back, (12, 10))
    found = counting.extent_of(counting.of_graph(graph)[graph.outputs[0]], 2)
    assert found is not None
    assert (5, 5) == found.size


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        # r = 1 + the sum of (k - 1) * the product of the strides before: MobileNet 3, then 13 depthwise layers.
        ("mobilenet_v1", 1 + 2 + 2 * 2 + 2 * 2 + 2 * 4 * 2 + 2 * 8 * 2 + 2 * 16 * 6 + 2 * 32, "stage5.1.relu_2"),
        # 7x7, pool 3, 3 + 4 + 6 + 3 bottlenecks; in v1.5 the 3x3 has the stride, and so is at the step before.
        ("resnet50", 1 + 6 + 2 * 2 + 2 * 4 * 4 + 2 * 8 * (3 + 1) + 2 * 16 * (5 + 1) + 2 * 32 * 2, None),
    ],
)
def test_networks(name: str, size: int, layer: str | None) -> None:
    """By the sum that the literature gives."""
    report = convstat.analyze(f"configs/{name}.yaml", receptive_field=True)
    known = [row for row in report.layers if row.extent is not None and row.extent.is_known]
    last = next(row for row in known if row.name == layer) if layer else known[-1]
    assert last.extent is not None
    assert (size, size) == last.extent.size
    assert report.extent is not None
    assert "the whole input" == report.extent.note


def test_a_wrong_window_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """These checks are worth something: padding taken for the other side is seen by the gradient."""
    graph = graph_of("  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 2}\n")
    for is_right in (True, False):
        reaches, _ = output_of(graph)
        [sets] = supports(graph, [(30, 30)], 1)
        assert is_right == ([found.positions(30) for found in reaches] == sets)
        wrong = [reach.conv(3, 1, 1), reach.conv(3, 1, 1)]
        monkeypatch.setattr(Conv2d, "reads", lambda self, inputs, output, wrong=wrong: (counting.reads.along(wrong),))


def test_columns_and_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table has the columns where they are asked for; JSON has them for each layer, and is read back."""
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text("convstat: 1\ninput: [4, 72, 66]\nlayers:\n" + STACK + "  - AdaptiveAvgPool2d: 1\n")
    assert 0 == run(["analyze", "net.yaml", "--receptive-field", "--counters", "none", "-o", "saved.json"])
    page = capsys.readouterr().out
    assert "field" in page
    assert " 3x3 " in page
    assert " all " in page
    row = json.loads(Path("saved.json").read_text())["layers"][0]["extent"]
    assert ([3, 3], [1.0, 1.0], [{"before": 1, "after": 1}] * 2) == (row["receptive_field"], row["jump"], row["halo"])
    assert convstat.load("saved.json") == convstat.analyze("net.yaml", (4, 72, 66), receptive_field=True)
    assert 0 == run(["analyze", "net.yaml", "--counters", "none"])
    assert "halo" not in capsys.readouterr().out


def test_every_layer_kind_says_what_it_reads() -> None:
    """None of ours is left out: a kind without the method is a network of which nothing is known after it."""
    from convstat.layers import KINDS
    from convstat.layers.base import Layer

    silent = [
        name for name, kind in KINDS.items() if kind.reads is Layer.reads and kind.__module__.startswith("convstat.")
    ]
    assert [] == silent
