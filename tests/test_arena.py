"""``convstat memory --target tflm``: the planner, the operators, the patches, and what is said of them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise, permutations, product
from math import prod
from pathlib import Path

import jsonschema
import pytest
import torch
from counted import graph_of
from hypothesis import given, settings
from hypothesis import strategies as st
from measured_arenas import NETS, drawn, measured
from torch import nn

import convstat
from convstat.cli.run import run
from convstat.commands.arena import arena as plan_arena
from convstat.count.arena import buffers_of
from convstat.deploy.graphs import fuse
from convstat.deploy.operators import Operator, Program, Step, Tensor, program
from convstat.deploy.patches import patched, stages
from convstat.deploy.planner import ALIGNMENT, Buffer, aligned, alive, place, size_of
from convstat.errors import UsageError
from convstat.formulas.reach import conv
from convstat.formulas.reads import Dims, Place
from convstat.results.documents.schema import report_schema
from convstat.targets import resolve
from convstat.targets.arena import of_graph
from convstat.targets.request import Request
from convstat.trace.build import build, example_inputs

CONFIG = "configs/mobilenet_v1.yaml"
CONFIGS = sorted(Path("configs").glob("*.yaml"))

# The planner


def transcribed(buffers: Sequence[Buffer]) -> list[int]:
    """GreedyMemoryPlanner::CalculateOffsetsIfNeeded as it is written in C++: a bubble sort, and a linked list."""
    sizes = [buffer.size for buffer in reversed(buffers)]
    ids = [*range(len(buffers))][::-1]
    swapped = True
    while swapped:
        swapped = False
        for i in range(1, len(sizes)):
            if sizes[i - 1] < sizes[i]:
                sizes[i - 1], sizes[i] = sizes[i], sizes[i - 1]
                ids[i - 1], ids[i] = ids[i], ids[i - 1]
                swapped = True
    offsets = [-1] * len(buffers)
    offsets[ids[0]] = 0
    entries = [[0, ids[0], -1]]  # offset, requirements, next
    first = 0

    def next_active(start: int | None, wanted: Buffer) -> int | None:
        candidate = first if start is None else entries[start][2]
        while candidate != -1:
            held = buffers[entries[candidate][1]]
            if not (held.first > wanted.last or wanted.first > held.last):
                return candidate
            candidate = entries[candidate][2]
        return None

    for number in ids[1:]:
        wanted = buffers[number]
        prior, offset = None, 0
        while True:
            following = next_active(prior, wanted)
            if prior is not None:
                offset = max(offset, entries[prior][0] + buffers[entries[prior][1]].size)
            if following is None or entries[following][0] - offset >= wanted.size:
                break
            prior = following
        offsets[number] = offset
        entries.append([offset, number, -1])
        new = len(entries) - 1
        if entries[first][0] > offset:
            entries[new][2], first = first, new
            continue
        current = first
        while entries[current][2] != -1 and entries[entries[current][2]][0] <= offset:
            current = entries[current][2]
        entries[new][2], entries[current][2] = entries[current][2], new
    return offsets


BUFFERS = st.lists(
    st.tuples(st.integers(1, 8), st.integers(0, 9), st.integers(0, 4)).map(
        lambda drawn: Buffer(16 * drawn[0], drawn[1], drawn[1] + drawn[2])
    ),
    min_size=1,
    max_size=14,
)


@given(BUFFERS)
@settings(max_examples=300, deadline=None)
def test_no_two_buffers_overlap_in_time_and_space(buffers: list[Buffer]) -> None:
    """And the plan is that of the C++ code, and no smaller than what is alive at once."""
    offsets = place(buffers)
    assert offsets == transcribed(buffers)
    for one, other in permutations(range(len(buffers)), 2):
        first, second = buffers[one], buffers[other]
        if first.first <= second.last and second.first <= first.last and offsets[one] <= offsets[other]:
            assert offsets[one] + first.size <= offsets[other]
    assert size_of(buffers, offsets) >= max(alive(buffers))
    moments = range(1 + max(buffer.last for buffer in buffers))
    assert alive(buffers) == [sum(b.size for b in buffers if b.first <= moment <= b.last) for moment in moments]


def test_of_equal_buffers_the_last_one_is_placed_first() -> None:
    """The array is filled from its end before it is sorted."""
    assert place([Buffer(16, 0, 1), Buffer(16, 1, 2)]) == [16, 0]


def plan_of(sizes: Sequence[int], operators: Sequence[tuple[Sequence[int], int]], outputs: Sequence[int]) -> int:
    """The arena of a net of tensors with numbers."""
    tensors = {str(number): Tensor(str(number), (size,)) for number, size in enumerate(sizes)}
    made = [Operator("", "GATHER", tuple(map(str, inputs)), (str(output),), None) for inputs, output in operators]
    buffers = [*buffers_of(Program(("0",), tuple(map(str, outputs)), tuple(made), tensors)).values()]
    return size_of(buffers, place(buffers))


def test_arenas_are_those_of_tensorflow_lite_micro() -> None:
    """As its interpreter allocated them for nets that were put together at random."""
    lines = Path("tests/golden/arenas.jsonl").read_text().splitlines()
    nets = [json.loads(line) for line in lines]
    assert len(nets) == NETS
    found = [(plan_of(sizes, operators, outputs), head) for sizes, operators, outputs, head in nets]
    assert [mine for mine, _ in found] == [head for _, head in found]
    # A quarter of them has gaps, where the order of equal sizes and of placing decides.
    assert sum(plan_of(*net[:3]) > _least(*net[:3]) for net in nets) > NETS // 5


def _least(sizes: Sequence[int], operators: Sequence[tuple[Sequence[int], int]], outputs: Sequence[int]) -> int:
    last = {number: len(operators) for number in outputs}
    for moment, (inputs, _) in enumerate(operators, 1):
        last.update({number: max(moment, last.get(number, 0)) for number in inputs})
    first = {0: 0, **{output: moment for moment, (_, output) in enumerate(operators, 1)}}
    return max(
        sum(-(-size // 16) * 16 for number, size in enumerate(sizes) if first[number] <= moment <= last[number])
        for moment in range(len(operators) + 1)
    )


@pytest.mark.skipif(find_spec("tflite_micro") is None, reason="needs tflite-micro")
def test_arenas_are_those_of_the_installed_tensorflow_lite_micro() -> None:
    """What is on record is what it says today."""
    heads = measured(50)
    assert heads == [plan_of(*drawn(seed)) for seed in range(50)]


# Whole networks

NETWORKS = {
    # kws_ref_model.tflite: a kernel of 10x4, and padding that Keras calls the same.
    "ds_cnn": (
        """
convstat: 1
input: [1, 49, 10]
blocks:
  separable:
    layers:
      - Conv2d: {out_channels: 64, kernel_size: 3, padding: 1, groups: 64}
      - BatchNorm2d
      - ReLU
      - Conv2d: {out_channels: 64, kernel_size: 1}
      - BatchNorm2d
      - ReLU
layers:
  - Conv2d: {out_channels: 64, kernel_size: [10, 4], stride: 2, padding: [5, 1]}
  - BatchNorm2d
  - ReLU
  - Dropout: 0.2
  - {separable: {}, repeat: 4}
  - Dropout: 0.4
  - AvgPool2d: [25, 5]
  - Flatten
  - Linear: 12
  - Softmax: 1
""",
        16_000,
        22_016 + 2_360 - 8,
    ),
    # ad01_int8.tflite.
    "autoencoder": (
        """
convstat: 1
input: [640]
blocks:
  dense: {params: {out: null}, layers: [{Linear: out}, BatchNorm1d, ReLU]}
layers:
  - {dense: {out: 128}, repeat: 4}
  - dense: {out: 8}
  - {dense: {out: 128}, repeat: 4}
  - Linear: 640
""",
        768,
        264_192 + 6_688,
    ),
    # pretrainedResnet_quant.tflite.
    "resnet8": (
        """
convstat: 1
input: [3, 32, 32]
blocks:
  body:
    params: {out: null, stride: 1}
    layers:
      - Conv2d: {out_channels: out, kernel_size: 3, stride: stride, padding: 1}
      - BatchNorm2d
      - ReLU
      - Conv2d: {out_channels: out, kernel_size: 3, padding: 1}
      - BatchNorm2d
layers:
  - Conv2d: {out_channels: 16, kernel_size: 3, padding: 1}
  - BatchNorm2d
  - ReLU
  - residual: {body: [{body: {out: 16}}]}
  - ReLU
  - residual:
      shortcut: [{Conv2d: {out_channels: 32, kernel_size: 1, stride: 2}}]
      body: [{body: {out: 32, stride: 2}}]
  - ReLU
  - residual:
      shortcut: [{Conv2d: {out_channels: 64, kernel_size: 1, stride: 2}}]
      body: [{body: {out: 64, stride: 2}}]
  - ReLU
  - AvgPool2d: 8
  - Flatten
  - Linear: 10
  - Softmax: 1
""",
        49_152,
        77_360 + 1_392 - 8,
    ),
}
"""The int8 references of MLPerf Tiny (github.com/mlcommons/tiny, benchmark/training, at 1afd2c9).

Each with the head of the arena that tflite-micro 0.dev20261023182759 allocates for its file, and the bytes of its
constants: int8 weights, int32 biases, less the 8 bytes of the shape of a RESHAPE.
"""


@pytest.mark.parametrize("name", NETWORKS)
def test_the_references_of_mlperf_tiny_take_what_tensorflow_lite_micro_allocates(name: str, tmp_path: Path) -> None:
    """Keyword spotting, anomaly detection, image classification."""
    text, head, constants = NETWORKS[name]
    spec = tmp_path / f"{name}.yaml"
    spec.write_text(text)
    found = plan_arena(Request(resolve(str(spec))))
    assert (found.arena_bytes, found.flash_bytes) == (head, constants)
    assert not found.opaque
    assert not found.missing


def test_visual_wake_words_takes_what_tensorflow_lite_micro_allocates() -> None:
    """vww_96_int8.tflite of MLPerf Tiny: MobileNetV1 with a width of 0.25, on 96x96, for two classes."""
    found = convstat.arena(CONFIG, alpha=0.25, resolution=96, classes=2)
    assert found.arena_bytes == 73_728
    # Two tensors: of 48x48, the pointwise convolution makes 16 channels of 8.
    assert found.least_bytes == 48 * 48 * 8 + 48 * 48 * 16
    assert found.flash_bytes == 208_112 + 10_960 - 8
    assert len(found.operators) == 31


def test_flash_is_that_of_sts_zoo() -> None:
    """467.33 KiB."""
    assert convstat.arena(CONFIG, alpha=0.25).flash_bytes == 478_544


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_spec_and_its_model_have_one_arena(config: Path) -> None:
    """The operators of a graph, and those of the tensors that pass between modules."""
    spec = plan_arena(Request(resolve(str(config))))
    graph, _ = fuse(graph_of(str(config)))
    inputs = example_inputs(graph, device="meta", dtype="float32")
    traced = convstat.arena(lambda: (build(graph, device="meta", dtype="float32"), inputs))
    for name in ("arena_bytes", "least_bytes", "flash_bytes", "macs", "opaque", "missing"):
        assert getattr(traced, name) == getattr(spec, name), name
    said = [(one.op, one.shape, one.inputs, one.outputs, one.held) for one in spec.operators]
    assert [(one.op, one.shape, one.inputs, one.outputs, one.held) for one in traced.operators] == said
    assert [patches.arena_bytes for patches in traced.patches] == [patches.arena_bytes for patches in spec.patches]


@pytest.mark.parametrize(("name", "config"), [("resnet50", "resnet50"), ("mobilenet_v2", "mobilenet_v2")])
def test_the_nets_of_torchvision_have_the_arena_of_their_specs(name: str, config: str) -> None:
    """Their additions are operators of Python."""
    if find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    model = plan_arena(Request(resolve(f"torchvision/{name}")))
    spec = plan_arena(Request(resolve(f"configs/{config}.yaml")))
    assert (model.arena_bytes, model.flash_bytes) == (spec.arena_bytes, spec.flash_bytes)
    assert [one.op for one in model.operators] == [one.op for one in spec.operators]
    assert [(one.arena_bytes, one.macs) for one in model.patches] == [
        (one.arena_bytes, one.macs) for one in spec.patches
    ]


# Operators


def operators_of(*layers: nn.Module, size: Sequence[int] = (4, 8, 8)) -> list[str]:
    """What some layers in a row become."""
    found = convstat.arena(nn.Sequential(*layers), tuple(size))
    return [operator.op for operator in found.operators]


def test_what_layers_become() -> None:
    """Fused, gone, and taken apart."""
    conv, norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    assert operators_of(conv, norm, nn.ReLU6()) == ["CONV_2D"]
    assert operators_of(conv, nn.ReLU(), norm) == ["CONV_2D", "MUL", "ADD"]
    assert operators_of(conv, nn.Sigmoid()) == ["CONV_2D", "LOGISTIC"]
    assert operators_of(nn.Conv2d(4, 4, 3, groups=4), nn.Hardtanh()) == ["DEPTHWISE_CONV_2D"]
    assert operators_of(nn.Conv2d(4, 4, 3, groups=2), nn.Hardtanh(0, 6)) == ["CONV_2D"]
    assert operators_of(nn.Dropout(), nn.Identity(), nn.MaxPool2d(2), nn.ReLU()) == ["MAX_POOL_2D"]
    # One activation at most is a part of an operator.
    assert operators_of(conv, nn.ReLU6(), nn.ReLU()) == ["CONV_2D", "RELU"]
    assert operators_of(conv, nn.SiLU()) == ["CONV_2D", "LOGISTIC", "MUL"]
    assert operators_of(nn.Flatten(), nn.Linear(256, 4), nn.Softmax(1)) == ["RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
    assert operators_of(nn.Upsample(scale_factor=2), nn.PixelUnshuffle(2)) == [
        "RESIZE_NEAREST_NEIGHBOR",
        "SPACE_TO_DEPTH",
    ]


def test_silu_holds_its_input() -> None:
    """x * sigmoid(x) takes both."""
    found = convstat.arena(nn.SiLU(), (16,))
    assert [(one.op, one.inputs, one.outputs, one.held) for one in found.operators] == [
        ("LOGISTIC", 16, 16, 0),
        ("MUL", 32, 16, 0),
    ]


class Branches(nn.Module):
    """An activation whose input is used twice, a sum of three, a constant, and a split."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.register_buffer("table", torch.zeros(1, 4, 1, 1))
        self.scale = nn.Parameter(torch.zeros(1, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Constants of a buffer and of a parameter are in flash."""
        y = self.conv(x)
        z = torch.relu(y) + y + self.table.sigmoid() * self.scale.tanh()
        first, second = z.chunk(2, dim=1)
        return torch.cat([first, second.roll(1, dims=2)], dim=1)


def test_branches_constants_and_parts() -> None:
    """Nothing that depends on no input is an operator, and each part of a tensor is a tensor."""
    found = convstat.arena(Branches(), (4, 8, 8))
    assert [one.op for one in found.operators] == [
        "CONV_2D",
        "RELU",
        "ADD",
        "ADD",
        "SPLIT",
        "aten.roll",
        "CONCATENATION",
    ]
    assert [tensor.bytes for tensor in found.tensors] == [256] * 5 + [128] * 3 + [256]
    assert found.opaque == ("aten.roll",)
    # While one half is rolled, its input and output are needed, and the other half is held.
    assert [(one.inputs, one.outputs, one.held) for one in found.operators][-2] == (128, 128, 128)


class Functions(nn.Module):
    """Functions whose kernels give more than they do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The pooling gives the places of its maxima as well."""
        return torch.nn.functional.max_pool2d(torch.relu(x), 2)


def test_outputs_that_nothing_takes_are_no_tensors() -> None:
    """Places of maxima, the state of a recurrent layer, the weights of attention."""
    found = convstat.arena(Functions(), (4, 8, 8))
    assert [one.op for one in found.operators] == ["RELU", "MAX_POOL_2D"]
    assert [tensor.bytes for tensor in found.tensors] == [256, 256, 64]
    for layer in ("LSTM(hidden_size=16, batch_first=true)", "MultiheadAttention(num_heads=2, batch_first=true)"):
        spec = convstat.arena(layer, (5, 16))
        assert [tensor.bytes for tensor in spec.tensors] == [80, 80]
        assert spec.opaque == (layer.partition("(")[0],)


def test_a_sum_of_three_is_two_operators() -> None:
    """The sum of the first two is a tensor."""
    step = Step("sum", "add", ("a", "b", "c"), ((1, 8),) * 3, (("sum", (1, 8)),))
    found = program([step], [Tensor(name, (1, 8)) for name in "abc"], ["sum"])
    assert [(one.op, one.inputs, one.outputs) for one in found.operators] == [
        ("ADD", ("a", "b"), ("sum(1)",)),
        ("ADD", ("sum(1)", "c"), ("sum",)),
    ]


def test_an_output_of_the_network_stays_to_the_end(tmp_path: Path) -> None:
    """An activation does not become a part of what is an output itself."""
    spec = tmp_path / "two.yaml"
    spec.write_text(
        "convstat: 1\ninput: [4, 8, 8]\noutputs: [a, b]\nlayers:\n"
        "  - {Conv2d: {out_channels: 4, kernel_size: 1}, name: a}\n  - {ReLU: {}, name: b}\n"
    )
    graph = graph_of(str(spec))
    found = of_graph(graph)
    assert [one.op for one in found.operators] == ["CONV_2D", "RELU"]
    assert found.lifetimes()["a"] == (1, 2)


# Patches


def naive_patch(layers: Sequence[tuple[int, int, int]], sizes: Sequence[int], part: tuple[int, int]) -> list[int]:
    """How many positions of each tensor a part of the last depends on, by taking each tap; the input comes first."""
    needed = {*range(*part)}
    found = [len(needed)]
    for (kernel, stride, padding), size in zip(reversed(layers), reversed(sizes[:-1]), strict=True):
        taps = {output * stride - padding + tap for output in needed for tap in range(kernel)}
        inside = [tap for tap in taps if 0 <= tap < size]
        needed = {*range(min(inside), max(inside) + 1)}
        found.append(len(needed))
    return found[::-1]


@given(
    st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 2)), min_size=2, max_size=4),
    st.integers(24, 48),
    st.sampled_from([2, 3]),
)
@settings(max_examples=100, deadline=None)
def test_patches_are_as_large_as_their_taps_reach(layers: list[tuple[int, int, int]], size: int, grid: int) -> None:
    """And what they compute again is counted position by position."""
    sizes = [size]
    for kernel, stride, padding in layers:
        sizes.append((sizes[-1] + 2 * min(padding, kernel // 2) - kernel) // stride + 1)
    layers = [(kernel, stride, min(padding, kernel // 2)) for kernel, stride, padding in layers]
    if sizes[-1] < grid:
        return
    model = nn.Sequential(*(nn.Conv2d(2, 2, k, stride=s, padding=p, bias=False) for k, s, p in layers))
    graph = convstat.arena(model, (2, size, size))
    steps = []
    for number, (kernel, stride, padding) in enumerate(layers):
        dims: Dims = {
            0: Place(0),
            2: Place(2, conv(kernel, stride, padding)),
            3: Place(3, conv(kernel, stride, padding)),
        }
        macs = 2 * 2 * kernel * kernel * sizes[number + 1] ** 2
        steps.append(Operator(str(number), "CONV_2D", (f"t{number}",), (f"t{number + 1}",), (dims,), macs))
    tensors = {f"t{number}": Tensor(f"t{number}", (1, 2, side, side)) for number, side in enumerate(sizes)}
    whole = Program(
        ("t0",), (f"t{len(layers)}",), (*steps, _end(len(layers), sizes[-1])), {**tensors, "end": Tensor("end", (1, 1))}
    )
    whole = Program(whole.inputs, ("end",), whole.operators, whole.tensors)
    stage = len(layers)
    found = patched(whole, stage, grid)
    assert found is not None
    bounds = [(part * sizes[-1] // grid, (part + 1) * sizes[-1] // grid) for part in range(grid)]
    lengths = [naive_patch(layers, sizes, bound) for bound in bounds]
    again = 0
    for number, (kernel, _, _) in enumerate(layers, 1):
        computed = sum(one[number] * other[number] for one, other in product(lengths, lengths))
        again += 2 * 2 * kernel * kernel * (computed - sizes[number] ** 2)
    assert found.macs == again
    largest = [max(one[number] for one in lengths) for number in range(len(sizes))]
    kept = aligned(2 * size * size) + aligned(2 * sizes[-1] ** 2)
    inner = [aligned(2 * side * side) for side in largest[1:-1]]
    pairs = [inner[0], *map(sum, pairwise(inner)), inner[-1]]
    assert found.alive == kept + max(pairs)
    assert graph.macs == sum(step.macs for step in steps)


def _end(number: int, side: int) -> Operator:
    return Operator("end", "MEAN", (f"t{number}",), ("end",), ({0: Place(0)},))


def test_a_stage_ends_where_one_tensor_is_needed() -> None:
    """Not inside a residual; after it."""
    graph = plan_arena(Request(resolve("configs/resnet50.yaml")))
    stages_of = {patches.stage for patches in graph.patches}
    assert all(graph.operators[stage - 1].op in ("ADD", "CONV_2D", "MAX_POOL_2D") for stage in stages_of)
    for patches in graph.patches:
        held = graph.operators[patches.stage].held if patches.stage < len(graph.operators) else 0
        assert not held or graph.operators[patches.stage].op == "CONV_2D"
        assert patches.arena_bytes < graph.arena_bytes


def test_patches_of_the_whole_picture_compute_nothing_again() -> None:
    """One patch is the picture."""
    found = of_graph(graph_of("configs/mobilenet_v2.yaml"))
    for stage in [*stages(found)][:8]:
        made = patched(found, stage, 1)
        assert made is not None
        assert made.macs == 0


def test_where_patches_end_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """At the first operator of which it is not known which positions it reads."""
    assert convstat.arena("configs/vit_b_16.yaml").followed == 1
    assert run(["memory", "configs/vit_b_16.yaml", "--target", "tflm", "--width", "200"]) == 0
    out = capsys.readouterr().out
    assert (
        "No patches of the first 1 operator make the arena smaller; positions are not followed through RESHAPE" in out
    )
    assert run(["memory", "Linear(8, 4)", "-i", "8", "--target", "tflm"]) == 0
    assert "No patches make the arena smaller." in capsys.readouterr().out


# What is said


def test_all_formats(tmp_path: Path) -> None:
    """Text, JSON that the schema holds, JSON Lines, CSV, Markdown, a page with the plan, and pictures."""
    pytest.importorskip("matplotlib")
    names = ("a.json", "a.jsonl", "a.csv", "a.md", "a.html", "a.png", "a.svg")
    outputs = [argument for name in names for argument in ("-o", str(tmp_path / name))]
    assert run(["memory", CONFIG, "--target", "tflm", *outputs]) == 0
    document = json.loads((tmp_path / "a.json").read_text())
    jsonschema.validate(document, report_schema())
    found = plan_arena(Request(resolve(CONFIG)))
    assert document == json.loads(json.dumps(found.to_dict()))
    assert document["arena_bytes"] == max(tensor["offset"] + tensor["bytes"] for tensor in document["tensors"])
    assert document["least_bytes"] == max(operator["alive"] for operator in document["operators"])
    rows = (tmp_path / "a.csv").read_text().splitlines()
    assert len(rows) == 1 + len(found.operators) + len(found.tensors) + len(found.patches) + 1
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == len(rows) - 1
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert ElementTree.fromstring((tmp_path / "a.svg").read_text()).tag.endswith("svg")
    page = (tmp_path / "a.html").read_text()
    assert "arena of mobilenet_v1" in page
    assert f"{found.arena_bytes:,}" in page
    assert f"{found.arena_bytes:,}" in (tmp_path / "a.md").read_text()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_text_fits_into_its_width(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """No line is longer."""
    assert run(["memory", "configs/resnet50.yaml", "--target", "tflm", "--width", str(width)]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= width


def test_the_largest_operators_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """With --top, those while which most is alive; the others are at most as large."""
    assert run(["memory", CONFIG, "--target", "tflm", "--top", "2", "--width", "100"]) == 0
    out = capsys.readouterr().out
    assert out.count("peak\n") == 1
    assert "29 others" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "tflite"], "unknown target 'tflite'"),
        (["--target", "tflm", "--optimizer", "sgd"], "it takes no --optimizer"),
        (["--target", "tflm", "--fits", "1MiB", "--mode", "train"], "it takes no --mode, no --fits"),
        (["--target", "tflm", "--dtype", "float16"], "--dtype float16 is not int8"),
    ],
)
def test_what_does_not_go_together(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and no traceback."""
    assert run(["memory", CONFIG, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_network_without_operators() -> None:
    """Nothing depends on the input."""
    with pytest.raises(UsageError, match="has no operators"):
        convstat.arena(nn.Identity(), (4,))


def test_sizes_are_those_of_the_alignment() -> None:
    """16 bytes."""
    found = convstat.arena("Linear(10, 3)", (10,))
    assert ALIGNMENT == 16
    assert [tensor.bytes for tensor in found.tensors] == [16, 16]
    assert [prod(tensor.shape) for tensor in found.tensors] == [10, 3]
    # An index is an int32.
    tokens = convstat.arena(nn.Embedding(10, 4), torch.zeros(1, 5, dtype=torch.int64))
    assert [tensor.bytes for tensor in tokens.tensors] == [-(-4 * 5 // 16) * 16, -(-5 * 4 // 16) * 16]


def test_budgets_limit_the_arena_and_the_flash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both as they are planned; a saved report has none."""
    found = convstat.arena(CONFIG)
    for name in ("arena_bytes", "flash_bytes"):
        size = getattr(found, name)
        assert run(["check", CONFIG, "--max", f"{name}={size}"]) == 0
        assert run(["check", CONFIG, "--max", f"{name}={size - 1}"]) == 1
        assert run(["check", CONFIG, "--max", f"{name}@stem={size}"]) == 2
    saved = tmp_path / "report.json"
    assert run(["analyze", CONFIG, "--counters", "none", "-o", str(saved), "-qq"]) == 0
    capsys.readouterr()
    assert run(["check", str(saved), "--max", "arena_bytes=1"]) == 0
    assert "a saved report has no arena_bytes" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["memory", "--target", "tflm"], ["check", "--max", "flash_bytes=1MiB"]])
def test_a_model_in_parts_is_refused(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its parts run at different times."""
    spec = tmp_path / "codec.yaml"
    part = "{input: [3, 8, 8], layers: [{Conv2d: {out_channels: 3, kernel_size: 1}}]}"
    spec.write_text(f"convstat: 1\nname: codec\nparts:\n  encoder: {part}\n  decoder: {part}\n")
    assert run([command[0], str(spec), *command[1:]]) == 2
    assert "has parts: encoder, decoder" in capsys.readouterr().err
