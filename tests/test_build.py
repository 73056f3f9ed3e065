"""Graphs as torch models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from built import verify
from chains import SAMPLES, Chain, sample
from torch import nn

from convstat.errors import DeviceError
from convstat.layers import KINDS
from convstat.trace.build import SpecModel, build, check_device, example_inputs


def _one(kind: str) -> Chain:
    written, shapes = sample(kind)
    chain = Chain(*shapes, dtype=KINDS[kind].input_dtype)
    return chain.add(kind, "block.0.it", sources=tuple(chain.shapes), **written)


def test_every_sample_is_of_a_kind_that_exists() -> None:
    """A sample of a kind that is gone tests nothing."""
    assert set() == set(SAMPLES) - set(KINDS)


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_built_layer_has_the_shapes_and_parameters_of_the_graph(kind: str, device: str) -> None:
    """Every kind, really run: output shape, parameters and buffers are what the layer says."""
    graph = _one(kind).graph()
    model = build(graph, device=device)
    assert () == verify(graph, model)
    assert {device} >= {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}


def _two_branches() -> Chain:
    chain = Chain((2, 3, 8, 8))
    chain.add("Conv2d", "stem.half", out_channels=4, kernel_size=3, padding=1)
    chain.add("Conv2d", "stage.0.conv", out_channels=4, kernel_size=1)
    chain.add("Conv2d", "stage.1.conv", shared="stage.0.conv")
    chain.add("add", "join", sources=("stem.half", "stage.1.conv"))
    return chain.add("BatchNorm2d", "type", trainable=False)


def test_module_paths_are_layer_names_whatever_the_names_are() -> None:
    """Names that are methods of nn.Module too are only names; operators and shared calls make no module."""
    model = build(_two_branches().graph())
    paths = [path for path, module in model.named_modules() if not list(module.children())]
    assert ["stem.half", "stage.0.conv", "type"] == paths
    assert () == verify(_two_branches().graph(), model)


def test_inputs_go_by_position_or_by_name() -> None:
    """Both ways run the same model; a wrong name, a missing or a further input is refused."""
    chain = Chain((1, 2, 4), (1, 2, 4)).add("add", "sum", sources=("x0", "x1"))
    model = build(chain.graph())
    a, b = torch.rand(1, 2, 4), torch.rand(1, 2, 4)
    assert torch.equal(a + b, model(a, b))
    assert torch.equal(a + b, model(a, x1=b))
    assert torch.equal(a + b, model(x1=b, x0=a))
    for args, kwargs in (((a,), {}), ((a, b, b), {}), ((a,), {"x2": b}), ((a, b), {"x0": a})):
        with pytest.raises(TypeError, match="takes x0, x1"):
            model(*args, **kwargs)


def test_several_outputs_come_as_a_tuple() -> None:
    """One output is a tensor, several are a tuple in the graph's order."""
    graph = _two_branches().graph("join", "stem.half")
    model = build(graph)
    outputs = model(*example_inputs(graph))
    assert [(2, 4, 8, 8)] * 2 == [tuple(output.shape) for output in outputs]


def test_frozen_layers_do_not_require_grad() -> None:
    """What the spec freezes is frozen, and nothing else."""
    model = build(_two_branches().graph())
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert ["type.weight", "type.bias"] == frozen


def test_a_seed_fixes_the_weights_and_leaves_torchs_random_state() -> None:
    """Two builds of one seed are equal, of two seeds are not, and the caller's random numbers do not change."""
    graph = _two_branches().graph()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = build(graph, seed=1), build(graph, seed=1), build(graph, seed=2)
    inputs, again = example_inputs(graph), example_inputs(graph)
    assert torch.equal(expected, torch.rand(3))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(inputs, again, strict=True))


def test_tensors_are_let_go_after_their_last_use() -> None:
    """During a long chain only the last tensors are alive, not all of them."""
    import weakref

    chain = Chain((1, 4, 8, 8))
    for position in range(6):
        chain.add("ReLU", f"act{position}")
    graph = chain.graph()
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def observe(_: object, output: torch.Tensor) -> None:
        nonlocal most
        alive.append(weakref.ref(output))
        most = max(most, sum(reference() is not None for reference in alive))

    model = build(graph)
    assert isinstance(model, SpecModel)
    with torch.no_grad():
        model.run(example_inputs(graph), {}, observe)
    assert 2 == most


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_model_is_built_in_the_dtype_that_is_asked_for(dtype: str) -> None:
    """Parameters and floating-point buffers are of the dtype; counters of steps stay integers."""
    graph = _two_branches().graph()
    model = build(graph, device="meta", dtype=dtype)
    assert {getattr(torch, dtype)} == {p.dtype for p in model.parameters()}
    assert {getattr(torch, dtype), torch.int64} == {b.dtype for b in model.buffers()}
    assert () == verify(graph, model)


def test_a_device_or_dtype_that_cannot_be_is_a_clear_error() -> None:
    """Names that do not exist, and CUDA where there is none, say so and say what to do."""
    with pytest.raises(DeviceError, match=r"unknown dtype 'int8'(.|\n)*help: it is one of float32"):
        check_device("cpu", "int8")
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        check_device("tpu", "float32")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match=r"cannot run on cuda: (.|\n)*help: use --device cpu"):
            build(_two_branches().graph(), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_model_runs_on_cuda() -> None:
    """On a CUDA device the built model verifies, in every dtype."""
    for dtype in ("float32", "float16", "bfloat16"):
        graph = _two_branches().graph()
        assert () == verify(graph, build(graph, device="cuda", dtype=dtype))


def test_verify_sees_a_wrong_shape_and_wrong_parameters() -> None:
    """The check can fail: a graph that lies about its layers is found out, layer by layer."""
    graph = _two_branches().graph()
    model = build(graph)
    assert isinstance(model, SpecModel)
    lied = replace(graph, nodes=(replace(graph.nodes[0], output_shape=(2, 4, 9, 9)), *graph.nodes[1:]))
    assert ["stem.half: the output shape is (2, 4, 8, 8) in torch and (2, 4, 9, 9) in the graph"] == [
        str(mismatch) for mismatch in verify(lied, build(lied))
    ]
    model.twins["stage.0.conv"].register_parameter("extra", nn.Parameter(torch.zeros(3)))
    assert {"the parameters", "the number of parameters"} == {mismatch.what for mismatch in verify(graph, model)}


def test_verify_refuses_a_model_that_was_not_built_from_a_graph() -> None:
    """There is nothing to line an unknown module up with."""
    with pytest.raises(TypeError, match="not a model that convstat built: Linear"):
        verify(_two_branches().graph(), nn.Linear(1, 1))
