"""The memory of a spec, counted without torch, against that of its torch model: every kernel, every storage."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES, IMAGE
from versions import since

import convstat
from convstat.count.lifetimes import of_graph
from convstat.errors import LayerError
from convstat.graph import Graph, Input, Node
from convstat.layers import KINDS
from convstat.layers.base import Layer
from convstat.lifetimes import Lifetimes
from convstat.lifetimes.kernels import Kernels
from convstat.results.memory import Run
from convstat.results.report import ROOT
from convstat.targets import analysis, resolve
from convstat.targets import memory as targets
from convstat.targets.request import Request
from convstat.trace.build import build, example_inputs
from convstat.trace.training import Way, follow

pytestmark = since("2.13", "the kernels that are run here")

Shape = tuple[int, ...]

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def node(name: str, layer: Layer, inputs: dict[str, Shape], owner: str = "") -> Node:
    """A call of a layer on what has these names and shapes."""
    shapes = tuple(inputs.values())
    output = layer.output_shape(shapes)
    return Node(name, layer, tuple(inputs), shapes, output, layer.cost(shapes, output), owner=owner)


def everything(found: Lifetimes, names: list[str], nameless: set[str]) -> tuple[list[Any], list[Any]]:
    """All that ran and all that was allocated, with the names of the places.

    In torch an operator has no module of its own, and runs in the model. What outlives a run is released with it.
    """
    last = len(found.kernels)

    def name(module: int | None) -> str:
        return "" if module is None or names[module] in nameless else names[module]

    kernels = [(kernel.op, kernel.phase, name(kernel.module)) for kernel in found.kernels]
    storages = [
        (s.size, s.born, last if s.freed is None else s.freed, s.op, s.shape, s.dtype, s.kind, name(s.module))
        for s in found.storages
    ]
    return kernels, storages


def agree(graph: Graph, dtype: str, device: str) -> None:
    """Hold the two against each other."""
    nameless = {one.name for one in graph.nodes if one.layer.functional}
    ours = everything(*of_graph(graph, dtype, device), nameless)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build(graph, device="meta", dtype=dtype)
        inputs = example_inputs(graph, device="meta", dtype=dtype)
        found, table = follow(model, inputs, None, Way(device=device))
    theirs = everything(found, [table.name(place) for place in range(len(table.modules))], set())
    assert ours == theirs
    assert of_graph(graph, dtype, device)[0].curve() == found.curve()


def reverted(shape: Shape) -> tuple[Shape, str, dict[str, Any]]:
    """All dimensions in the other order."""
    return shape[::-1], "Permute", {"dims": list(range(len(shape)))[::-1]}


def channels_last(shape: Shape) -> tuple[Shape, str, dict[str, Any]]:
    """Channels that lie together."""
    last = len(shape) - 1
    return (shape[0], *shape[2:], shape[1]), "Permute", {"dims": [0, last, *range(1, last)]}


def with_gaps(shape: Shape) -> tuple[Shape, str, dict[str, Any]]:
    """Every third element of what lies there."""
    return (*shape, 3), "Select", {"dim": len(shape), "index": 1}


LAYOUTS = {"plain": None, "reverted": reverted, "channels last": channels_last, "with gaps": with_gaps}


def single(kind: str, written: dict[str, object], shapes: tuple[Shape, ...], layout: str) -> Graph:
    """One layer whose first input lies in some way, and after it one that copies unless the output is contiguous."""
    lay = LAYOUTS[layout]
    dtype = KINDS[kind].input_dtype
    inputs = {f"x{place}": shape for place, shape in enumerate(shapes)}
    given, nodes = dict(inputs), []
    if lay is not None and len(shapes[0]) > 1:
        given["x0"], before, arguments = lay(shapes[0])
        laid = KINDS[before].create(arguments, (given["x0"],))
        nodes.append(node("laid", laid, {"x0": given["x0"]}))
        inputs = {"laid": shapes[0], **dict(list(inputs.items())[1:])}
    nodes.append(node("layer", KINDS[kind].create(written, shapes), inputs))
    output = nodes[-1].output_shape
    if len(output) > 1:
        nodes.append(node("flat", KINDS["Flatten"].create({"start_dim": 0}, (output,)), {"layer": output}))
    given_inputs = tuple(Input(name, shape, dtype) for name, shape in given.items())
    return Graph("one", given_inputs, tuple(nodes), (nodes[-1].name,))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_runs_what_its_twin_runs(kind: str, layout: str) -> None:
    """All cases of the tests of layers, with whatever lies in whatever way; a kind without a rule fails."""
    for written, shapes in CASES[kind]:
        agree(single(kind, written, shapes, layout), "float32", "cuda")


WAYS = [("float16", "cuda"), ("bfloat16", "cpu"), ("float32", "cpu")]


@pytest.mark.parametrize(("dtype", "device"), WAYS)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_in_half_precision_and_on_a_cpu(kind: str, dtype: str, device: str) -> None:
    """What is computed in single precision, and which kernels attend."""
    for written, shapes in CASES[kind]:
        agree(single(kind, written, shapes, "plain"), dtype, device)


MORE: list[tuple[str, dict[str, object], tuple[Shape, ...]]] = [
    *(("Linear", {"out_features": 5, "bias": bias}, (s,)) for bias in (True, False) for s in ((2, 3, 6), (2, 3, 4, 6))),
    *(("Conv2d", {"out_channels": 4, "kernel_size": [2, 3], "padding": "same", **more}, (IMAGE,))
      for more in ({}, {"padding_mode": "circular"}, {"padding_mode": "replicate"}, {"padding_mode": "reflect"})),
    ("Conv3d", {"out_channels": 4, "kernel_size": 2, "padding": "same"}, ((2, 6, 5, 6, 7),)),
    *((f"{kind}Pad2d", {"padding": amount, **({"value": 1} if kind == "Constant" else {})}, (IMAGE,))
      for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular") for amount in (0, -1, [0, 2, -1, 0])),
    *(("Crop", {"cropping": amount}, (IMAGE,)) for amount in (0, [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 3])),
    *((kind, {"dim": dim}, (IMAGE,)) for kind in ("Softmax", "LogSoftmax") for dim in (0, 2)),
    *(("GLU", {"dim": dim}, ((2, 6, 4, 8),)) for dim in (0, 1, 2, 3)),
    *((kind, {"inplace": True}, (IMAGE,)) for kind, cls in KINDS.items()
      if "inplace" in cls.arguments and kind not in ("Threshold", "Dropout1d", "Dropout3d")),
    ("Dropout1d", {"inplace": True}, ((2, 6),)),
    ("Dropout3d", {"inplace": True}, (IMAGE,)),
    ("Dropout2d", {}, ((2, 6, 9),)),
    *(("Upsample", {"size": 1, "mode": "area"}, (shape,)) for shape in ((2, 6, 9), IMAGE, (2, 6, 5, 6, 7))),
    *(("LocalResponseNorm", {"size": size}, (shape,)) for size in (1, 4) for shape in ((2, 6, 9), IMAGE)),
    *(("MaxPool2d", {"kernel_size": 2}, (shape,)) for shape in ((1, 6, 4, 4), (2, 1, 4, 4))),
    *(("AdaptiveAvgPool2d", {"output_size": size}, (shape,))
      for size in (1, 2) for shape in ((1, 6, 4, 4), (2, 1, 4, 4))),
    ("RMSNorm", {"elementwise_affine": False}, (IMAGE,)),
    *(("ChannelShuffle", {"groups": groups}, (IMAGE,)) for groups in (1, 2, 6)),
    ("InstanceNorm2d", {"affine": True, "bias": False}, (IMAGE,)),
    ("PReLU", {}, ((4,),)),
    ("Embedding", {"num_embeddings": 3, "embedding_dim": 4, "max_norm": 1}, ((2, 5, 3),)),
    *(("MultiheadAttention", {"num_heads": heads, "batch_first": first, "need_weights": weights, **more}, shapes)
      for heads in (2, 3) for first in (True, False) for weights in (True, False)
      for more in ({"bias": False}, {"add_zero_attn": True, "add_bias_kv": True})
      for shapes in (((4, 4, 12),), ((4, 4, 12), (4, 4, 12)), ((4, 4, 12), (4, 4, 12), (4, 4, 12)))),
    ("MultiheadAttention", {"num_heads": 1, "need_weights": False}, ((1, 1, 6),)),
    ("MultiheadAttention", {"num_heads": 1, "need_weights": False}, ((5, 2, 260),)),
    ("MultiheadAttention", {"num_heads": 1, "need_weights": False}, ((5, 2, 264),)),
    *(("TransformerEncoderLayer", {"nhead": heads, "dim_feedforward": 5, "batch_first": first, **more}, ((3, 4, 12),))
      for heads in (2, 3) for first in (True, False)
      for more in ({}, {"norm_first": True}, {"bias": False}, {"activation": "gelu"})),
    *((kind, {"hidden_size": 5, "batch_first": first, "bidirectional": both}, ((3, 1, 2),))
      for kind in ("RNN", "GRU", "LSTM") for first in (True, False) for both in (True, False)),
    *((kind, {}, ((2, 6, 1, 1), (2, 6, 9, 8), (1, 6, 1, 8))) for kind in ("add", "mul")),
    *((kind, {}, (IMAGE,)) for kind in ("add", "mul", "concat")),
]  # fmt: skip
"""Arguments on which what is run depends, and the tests of layers do not try."""


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in MORE}))
def test_arguments_that_decide_what_is_run(kind: str) -> None:
    """In each layout and in half precision, on both kinds of devices."""
    for name, written, shapes in MORE:
        if name != kind:
            continue
        try:
            KINDS[kind].create(written, shapes)
        except LayerError:
            continue
        for layout in LAYOUTS:
            agree(single(kind, written, shapes, layout), "float32", "cuda")
        for dtype, device in WAYS:
            agree(single(kind, written, shapes, "plain"), dtype, device)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config(path: Path) -> None:
    """Each that is shipped, in single precision on a GPU and in half precision on a CPU."""
    for batch, dtype, device in ((1, "float32", "cuda"), (2, "bfloat16", "cpu")):
        agree(analysis.graph_of(Request(resolve(str(path)), batch=batch)), dtype, device)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_results_do_not_depend_on_who_followed(path: Path) -> None:
    """Peak, kinds, curve and what is alive; where an operator ran, torch names the model and not the layer."""
    subject = analysis.prepare(Request(resolve(str(path))))
    assert subject.graph is not None
    ours, theirs = targets.of_subject(subject, Run()), targets._followed(subject, Run())
    nameless = {ROOT, *(one.name for one in subject.graph.nodes if one.layer.functional)}

    def plain(memory: Any) -> Any:
        moments = [replace(m, layer="" if m.layer in nameless else m.layer) for m in memory.phases]
        sizes = sorted((alive.kind, alive.bytes) for alive in memory.alive if alive.layer not in nameless)
        return memory.peak.bytes, memory.kinds, memory.curve, memory.kernels, moments, sizes

    assert plain(ours) == plain(theirs)


STEPS: list[tuple[str, dict[str, Any]]] = [
    ("Conv2d", {"out_channels": 4, "kernel_size": 3, "padding": 1}),
    ("Conv2d", {"out_channels": 6, "kernel_size": 1, "bias": False}),
    ("ConvTranspose2d", {"out_channels": 4, "kernel_size": 2, "stride": 2}),
    ("BatchNorm2d", {}), ("GroupNorm", {"num_groups": 2}), ("InstanceNorm2d", {}), ("LayerNorm", {}), ("RMSNorm", {}),
    ("ReLU", {}), ("ReLU", {"inplace": True}), ("GELU", {}), ("Softsign", {}), ("SiLU", {"inplace": True}),
    ("Softmax", {"dim": 1}), ("GLU", {"dim": 1}), ("PReLU", {}), ("Identity", {}), ("Dropout", {}),
    ("MaxPool2d", {"kernel_size": 2, "ceil_mode": True}), ("AvgPool2d", {"kernel_size": 2, "ceil_mode": True}),
    ("AdaptiveAvgPool2d", {"output_size": 1}), ("AdaptiveAvgPool2d", {"output_size": 4}),
    ("Upsample", {"scale_factor": 2}), ("ZeroPad2d", {"padding": [1, 0, -1, 2]}), ("CircularPad2d", {"padding": 1}),
    ("PixelUnshuffle", {"downscale_factor": 2}), ("ChannelShuffle", {"groups": 2}), ("LayerScale", {}),
    ("Permute", {"dims": [0, 2, 3, 1]}), ("Permute", {"dims": [0, 3, 1, 2]}), ("Permute", {"dims": [2, 1, 0, 3]}),
    ("Crop", {"cropping": [1, 0, 0, 1]}), ("Linear", {"out_features": 4}),
    ("Linear", {"out_features": 6, "bias": False}), ("Flatten", {"start_dim": 2}),
    ("Unflatten", {"dim": 2, "unflattened_size": [-1, 2]}), ("Select", {"dim": 2, "index": 0}),
    ("MultiheadAttention", {"num_heads": 2, "batch_first": True}), ("PositionalEmbedding", {}), ("ClassToken", {}),
    ("MultiheadAttention", {"num_heads": 1, "need_weights": False}), ("Reshape", {"shape": [2, -1]}),
    ("LSTM", {"hidden_size": 3}), ("LocalResponseNorm", {"size": 3}), ("Conv1d", {"out_channels": 4, "kernel_size": 1}),
    ("add", {}), ("mul", {}), ("concat", {}), ("add", {}), ("concat", {"dim": -1}),
]  # fmt: skip
"""Layers that go together more often than not."""


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Layers on whatever is there, whole sets of edges, layers used again, and outputs in the middle."""
    shape = (
        draw(st.integers(1, 2)),
        draw(st.sampled_from([1, 4, 6])),
        draw(st.integers(1, 6)),
        draw(st.integers(1, 6)),
    )
    values: dict[str, Shape] = {"x": shape}
    nodes: list[Node] = []
    for place, (kind, written) in enumerate(draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=12))):
        count = draw(st.integers(1, 3)) if KINDS[kind].functional else 1
        newest = [name for name, _ in list(values.items())[-3:]]
        inputs = [draw(st.sampled_from(newest)) for _ in range(count)]
        shapes = tuple(values[name] for name in inputs)
        name = draw(st.sampled_from(["", "a.", "b.", "a.c."])) + f"n{place}"
        try:
            layer = KINDS[kind].create(written, shapes)
            output = layer.output_shape(shapes)
        except LayerError:
            continue
        if 0 in output:
            continue
        owners = [one for one in nodes if one.layer == layer and not one.owner and not layer.functional]
        owner = draw(st.sampled_from(owners)).name if owners and draw(st.booleans()) else ""
        nodes.append(Node(name, layer, tuple(inputs), shapes, output, layer.cost(shapes, output), owner=owner))
        values[name] = output
    if not nodes:
        nodes.append(node("only", KINDS["Identity"].create({}, (shape,)), {"x": shape}))
    outputs = {nodes[-1].name, *draw(st.lists(st.sampled_from([one.name for one in nodes]), max_size=2))}
    return Graph("random", (Input("x", shape),), tuple(nodes), tuple(sorted(outputs)))


@settings(max_examples=150, deadline=None)
@given(graph=graphs(), way=st.sampled_from([("float32", "cuda"), *WAYS]))
def test_generated_graphs(graph: Graph, way: tuple[str, str]) -> None:
    """Views of views, operations in place, residuals and layers that are used twice, put together at random."""
    agree(graph, *way)


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "indices of a pooling": lambda patch: patch.setattr(
        Kernels, "pooled_with_indices", lambda self, op, x, shape, dense=False: (self.pooled(op, x, shape),) * 2
    ),
    "a view that is a copy": lambda patch: patch.setattr(
        Kernels, "reshape", lambda self, x, shape: self.new("view", shape, dtype=x.dtype)
    ),
    "a release": lambda patch: patch.setattr(
        Kernels, "_see", lambda self, x, storage, see=Kernels._see: (see(self, x, storage), held.append(x))
    ),
}
held: list[Any] = []


@pytest.mark.parametrize("what", BREAKS)
def test_a_rule_that_is_broken_is_found(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail."""
    graph = analysis.graph_of(Request(resolve("configs/resnet50.yaml")))
    BREAKS[what](monkeypatch)
    with pytest.raises(AssertionError):
        agree(graph, "float32", "cuda")


def test_a_kind_that_does_not_say_what_it_runs_is_followed_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another package; the figure is the same."""
    expected = convstat.memory("configs/mobilenet_v1.yaml").peak.bytes
    monkeypatch.setattr(KINDS["Conv2d"], "run", Layer.run)
    with pytest.raises(NotImplementedError, match="Conv2d"):
        of_graph(analysis.graph_of(Request(resolve("configs/mobilenet_v1.yaml"))), "float32", "cuda")
    assert convstat.memory("configs/mobilenet_v1.yaml").peak.bytes == expected


def test_a_kind_with_work_of_its_own_does_not_run_what_its_base_runs() -> None:
    """Until it says what it runs; one that changes nothing but arguments runs the same."""

    class Doubled(KINDS["Linear"]):  # type: ignore[misc]
        """A linear map, twice."""

        def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Any:
            first = super().cost(inputs, output)
            return first + first

    class Renamed(KINDS["Linear"]):  # type: ignore[misc]
        """A linear map."""

    assert Doubled.run is Layer.run
    assert Renamed.run is KINDS["Linear"].run
