"""From a trace to a report: which row every kernel and every parameter belongs to, whatever the model does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from convstat.count import ops, traces
from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.results.report import Report
from convstat.trace.calls import KernelCall, ModuleCall, ModuleInfo, TensorInfo, Trace
from convstat.trace.record import record


def traced(model: nn.Module, *inputs: Any, complete: bool = True, **options: Any) -> Report:
    """The report of a model; its params and buffers must be the model's own."""
    report = traces.count(record(model, inputs, **options), name="model", source="model", inputs=())
    assert ("complete" if complete else "incomplete") == report.status, report.uncounted
    assert sum(parameter.numel() for parameter in model.parameters()) == report.totals.params
    assert sum(buffer.numel() for buffer in model.buffers()) == report.totals.buffers
    assert report.totals.macs == sum(row.macs for row in report.layers)
    names = [row.name for row in report.layers]
    assert len(names) == len(set(names))
    return report


def macs(report: Report) -> dict[str, int]:
    """The MACs of each row that has some."""
    return {row.name: row.macs for row in report.layers if row.macs}


def params(report: Report) -> dict[str, int]:
    """The params of each row that has some."""
    return {row.name: row.params for row in report.layers if row.params}


class Calls(nn.Module):
    """A module whose forward is a function of itself."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Run."""
        return self.function(self, *inputs)


X = torch.zeros(2, 4)
IMAGE = torch.zeros(2, 3, 6, 6)


def net() -> nn.Sequential:
    """Two convolutions and a linear map: 3456 + 1152 + 64 MACs on two pictures."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 2)
    )


NET = {"0": 2 * 4 * 4 * 4 * 3 * 9, "3": 2 * 4 * 2 * 2 * 4 * 9, "5": 2 * 16 * 2}


# Which row.


def test_every_call_is_a_row_and_parameters_belong_to_the_first() -> None:
    """A module that is called three times works three times and is paid for once."""
    report = traced(Calls(lambda self, x: self.a(self.a(self.a(x))), a=nn.Linear(4, 4)), X)
    assert {"a": 32, "a#2": 32, "a#3": 32} == macs(report)
    assert {"a": 4 * 4 + 4} == params(report)
    assert [None, "a", "a"] == [row.shares for row in report.layers]


def test_a_tied_parameter_belongs_to_its_first_holder() -> None:
    """As in language models: the head's weight is the embedding's, and says so."""
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    model[1].weight = model[0].weight
    report = traced(model, torch.zeros(2, 3, dtype=torch.int64))
    assert {"0": 9 * 4, "1": 9} == params(report)
    assert [None, "tied to 0.weight"] == [row.note for row in report.layers]
    assert {"1": 2 * 3 * 4 * 9} == macs(report)


def test_a_module_that_hangs_in_two_places_is_one() -> None:
    """A list with the same block twice: one set of params, a row for each call."""
    report = traced(nn.Sequential(*[nn.Linear(4, 4)] * 2), X)
    assert ({"0": 20}, {"0": 32, "0#2": 32}) == (params(report), macs(report))


def test_a_shared_buffer_counts_once() -> None:
    """One table of positions under two names."""
    table = torch.zeros(7)
    parts = [nn.Module(), nn.Module()]
    for part in parts:
        part.register_buffer("table", table)
    assert 7 == traced(Calls(lambda self, x: x + 1, a=parts[0], b=parts[1]), X).totals.buffers


def test_what_is_never_called_is_listed() -> None:
    """An auxiliary head that eval mode leaves out has params, no MACs, and a note."""
    report = traced(Calls(lambda self, x: self.a(x), a=nn.Linear(4, 4), aux=nn.Linear(4, 3)), X)
    assert {"a": 20, "aux": 15} == params(report)
    (idle,) = (row for row in report.layers if row.note)
    assert ("aux", "never called", (), ()) == (idle.name, idle.note, idle.input_shapes, idle.output_shapes)


def test_what_is_never_called_stands_behind_what_is_called_beside_it() -> None:
    """A block of which a part is left out is one block; what has nothing beside it comes last."""
    blocks = nn.ModuleList(nn.ModuleDict({"fc": nn.Linear(4, 4), "norm": nn.LayerNorm(4)}) for _ in range(2))
    model = Calls(lambda self, x: self.blocks[1]["fc"](self.blocks[0]["fc"](x)), aux=nn.Linear(4, 3), blocks=blocks)
    names = ["blocks.0.fc", "blocks.0.norm", "blocks.1.fc", "blocks.1.norm", "aux"]
    assert names == [row.name for row in traced(model, X).layers]


def test_what_is_never_called_is_listed_even_if_it_holds_nothing() -> None:
    """A dropout that the forward pass forgot is worth knowing of; a container, and what was scripted, is not called."""
    model = Calls(
        lambda self, x: self.parts[0](x) + self.script(x),
        parts=nn.ModuleList([nn.Linear(4, 4), nn.ModuleList([])]),
        drop=nn.Dropout(),
        script=torch.jit.script(nn.Sequential(nn.ReLU(), nn.Tanh())),
    )
    idle = [row.name for row in traced(model, X).layers if row.note == "never called"]
    assert ["drop"] == idle


def test_a_parameter_that_is_used_from_above_belongs_to_who_used_it() -> None:
    """Attention reads its out_proj without calling it; a list of parameters is never called at all."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    model = Calls(
        lambda self, x: self.attention(x, x, x)[0] * self.scales[0] + self.scales[1],
        attention=attention,
        scales=nn.ParameterList([torch.zeros(8), torch.zeros(8)]),
    )
    report = traced(model, torch.zeros(2, 3, 8))
    assert {"attention": 4 * (8 * 8 + 8), "(root)": 16} == params(report)
    assert not [row for row in report.layers if row.note]


def test_functions_count_for_the_module_that_calls_them() -> None:
    """`F.linear`, `@`, and a convolution at the root's own level: one row, with the root's own parameters."""
    model = Calls(lambda self, x: F.linear(x, self.w) @ self.w + x, w=nn.Parameter(torch.zeros(4, 4)))
    report = traced(model, X)
    assert ({"(root)": 2 * 32}, {"(root)": 16}) == (macs(report), params(report))


def test_what_is_made_during_the_pass_works_but_is_not_the_models() -> None:
    """Nor is what is kept in a plain list: its row says how many params are left out."""
    hidden = [nn.Linear(4, 4), nn.Linear(4, 4)]
    model = Calls(lambda self, x: nn.Linear(4, 3)(self.hidden[1](self.hidden[0](x))), hidden=hidden)
    report = traced(model, X)
    assert {"(Linear)": 32, "(Linear)#2": 32, "(Linear)#3": 24} == macs(report)
    assert {} == params(report)
    note = "not registered in the model: its 20 params are not part of the model"
    assert note in {row.note for row in report.layers}


def test_the_weights_of_parametrized_modules_count_where_they_are_kept() -> None:
    """Weight norm, old and new, and spectral norm: what is kept are params, and the MACs are the layer's."""
    from torch.nn.utils import parametrizations, weight_norm

    model = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        weight_norm(nn.Conv2d(4, 4, 1)),
        parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)),
    )
    report = traced(model, IMAGE)
    assert {"0", "1", "2"} == {name.partition(".")[0] for name in params(report)}
    # Spectral norm takes W v and u (W v) of its 4 x 36 matrix.
    conv = {"0": 2 * 4 * 16 * 27, "1": 2 * 4 * 16 * 4, "2": 2 * 4 * 4 * 36}
    assert {**conv, "2.parametrizations.weight.0": 4 * 36 + 4} == macs(report)


def test_lazy_modules_count_once_they_know_their_sizes() -> None:
    """They do at their first call, which is the traced one."""
    report = traced(nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)), IMAGE)
    assert {"0": 4 * 3 * 9 + 4, "2": 64 * 2 + 2} == params(report)


def test_a_wrapper_for_several_devices_changes_names_only() -> None:
    """`nn.DataParallel` without devices runs what it wraps."""
    assert {f"module.{name}": amount for name, amount in NET.items()} == macs(traced(nn.DataParallel(net()), IMAGE))


# However it is run.


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_grad_mode_of_a_model_does_not_change_its_count(mode: Any, device: str) -> None:
    """A forward under no_grad or inference_mode, where operators reach the dispatcher whole: MACs and all else."""

    def run(self: Any, x: torch.Tensor) -> Any:
        with mode():
            y = self.net(x)
            z = F.scaled_dot_product_attention(x, x, x, is_causal=True)
            return self.lstm(y[None])[0], self.encoder(z[:, 0]), torch.einsum("bchw,bdhw->bcd", x, z) @ x[:, :, 0, :3]

    with torch.device(device):
        parts = {
            "net": net(),
            "lstm": nn.LSTM(2, 3, batch_first=True),
            "encoder": nn.TransformerEncoderLayer(6, 2, 8, batch_first=True),
        }
        report = traced(Calls(run, **parts), torch.zeros(2, 3, 6, 6))
    encoder = 2 * (4 * 6 * 6 * 6 + 2 * 6 * 6 * 6 + 2 * 6 * 6 * 8)
    expected = {f"net.{name}": amount for name, amount in NET.items()}
    assert expected == {name: amount for name, amount in macs(report).items() if name.startswith("net")}
    assert 2 * 4 * 3 * (2 + 3) == macs(report)["lstm"]
    assert encoder == sum(amount for name, amount in macs(report).items() if name.startswith("encoder"))
    # Attention, the einsum, and a product with 3 x 3 matrices.
    assert 2 * 2 * 3 * 6 * 6 * 6 + 2 * 3 * 3 * 36 + 2 * 3 * 3 * 3 == macs(report)["(root)"]
    biases = 2 * 4 * 16 + 2 * 4 * 4 + 2 * 2 + 2 * (2 * 4 * 3) + 12 * (4 * 6 + 8 + 6)
    assert (biases, 2 * 3 * 6 * 6 + 2 * 2 * 6 * 6) == (report.totals.other["bias"], report.totals.other["softmax"])


def test_the_fast_path_of_attention_costs_what_the_slow_one_does() -> None:
    """Without hooks and grad the transformer layer is one kernel on CPU: one row, and equal totals all the same."""

    class Frozen(nn.TransformerEncoderLayer):
        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            with torch.no_grad():
                return super().forward(*args, **kwargs)

    slow = traced(nn.TransformerEncoderLayer(8, 2, 24, batch_first=True), torch.zeros(2, 3, 8))
    fast = traced(Frozen(8, 2, 24, batch_first=True), torch.zeros(2, 3, 8), hooked=())
    assert (slow.totals.macs, slow.totals.params, dict(slow.totals.other)) == (
        fast.totals.macs,
        fast.totals.params,
        dict(fast.totals.other),
    )
    assert 1 == len([row for row in fast.layers if row.params])


class Written(nn.Module):
    """Parts that are called, a function, and a method of a tensor: for the TorchScript compiler to read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_scripted_module_counts_as_what_it_was_scripted_from(device: str) -> None:
    """No Python runs inside, and still every part has its row; the second time, too, and inside of another model."""
    eager = traced(Written().to(device), IMAGE.to(device))

    def rows(report: Report, prefix: str = "") -> set[tuple[Any, ...]]:
        return {
            (row.name.removeprefix(prefix), row.type, row.params, row.macs, tuple(row.other.items()))
            for row in report.layers
            if row.type != "ReLU"
        }

    for _ in range(2):
        scripted = torch.jit.script(Written()).to(device)
        assert rows(eager) == rows(traced(scripted, IMAGE.to(device)))
    example = torch.zeros(2, 3, 6, 6, device=device)
    by_example = torch.jit.trace(Written().to(device).eval(), example) if device == "cpu" else scripted
    outer = nn.Sequential(by_example, nn.ReLU())
    report = traced(outer, IMAGE.to(device))
    assert macs(eager) == {name.removeprefix("0."): amount for name, amount in macs(report).items()}
    assert params(eager) == {name.removeprefix("0."): amount for name, amount in params(report).items()}


def test_a_compiled_module_counts_as_what_was_compiled() -> None:
    """`torch.compile` of a model, of a part, of a function, and in place: nothing is compiled, nothing is fused."""
    assert NET == macs(traced(torch.compile(net()), IMAGE))  # type: ignore[arg-type]
    inner = traced(nn.Sequential(torch.compile(net()), nn.ReLU()), IMAGE)  # type: ignore[arg-type]
    assert list(NET.values()) == list(macs(inner).values())
    function = torch.compile(lambda x, w: x @ w)
    assert {"(root)": 32} == macs(traced(Calls(lambda self, x: function(x, x.new_zeros(4, 4))), X))
    model = net()
    model.compile()
    assert NET == macs(traced(model, IMAGE))


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="needs a quantized engine")
def test_a_quantized_network_counts_as_its_float_one(torchvision: Any) -> None:
    """Packed weights are params, of one byte each; norms are folded into the convolutions, whose biases appear."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torchvision.models.quantization.resnet18(weights=None, quantize=True).eval()
    source = torch.zeros(1, 3, 224, 224)
    report = traces.count(record(quantized, (source,)), name="resnet18", source="", inputs=())
    plain = traced(torchvision.models.resnet18(weights=None).to("meta"), source.to("meta"))
    assert "complete" == report.status, report.uncounted
    assert plain.totals.macs == report.totals.macs
    # Of the two vectors of each norm, 4,800 values long in all, one bias for each channel is left.
    assert plain.totals.params - 4_800 == report.totals.params
    assert "qint8" in report.model.dtype
    weights, biases = plain.totals.params - 2 * 4_800 - 1_000, 4_800 + 1_000
    assert weights + 4 * biases == report.totals.weight_bytes
    assert not [row for row in report.layers if row.note]


# Train mode.


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_backward_pass_of_each_module_is_a_row_of_its_own(device: str) -> None:
    """Twice the forward MACs; once for the first layer, whose input needs no gradient."""
    report = traced(net().to(device), IMAGE.to(device), train=True)
    expected = {"5 (backward)": 2 * NET["5"], "3 (backward)": 2 * NET["3"], "0 (backward)": NET["0"]}
    assert {**NET, **expected} == macs(report)
    assert {"backward pass"} == {row.note for row in report.layers if row.note}
    backward = next(row for row in report.layers if row.name == "2 (backward)")
    assert ({"activation": 2 * 4 * 4 * 4}, "ReLU", 0) == (dict(backward.other), backward.type, backward.params)


def test_the_backward_pass_of_a_scripted_module_has_rows_too() -> None:
    """The kernels of a part that no Python calls go back through that part."""
    report = traced(torch.jit.script(Written()), IMAGE, train=True)
    conv, head = 2 * 4 * 16 * 27, 2 * 4 * 2
    assert {"conv": conv, "head": head, "conv (backward)": conv, "head (backward)": 2 * head} == macs(report)


def test_the_model_is_left_without_gradients_and_in_its_mode() -> None:
    """A gradient that was there before stays, none is left behind, and the mode is the old one."""
    model = net().eval()
    model[0].weight.grad = kept = torch.ones(4, 3, 3, 3)
    traced(model, IMAGE, train=True)
    assert kept is model[0].weight.grad
    assert [None] * 7 == [p.grad for name, p in model.named_parameters() if name != "0.weight"]
    assert not model.training


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_runs_once_in_eval_mode_and_twice_for_a_backward_pass(reentrant: bool) -> None:
    """What it runs again is work that is done, and has rows; the newer kind stops before the last product."""
    model = Calls(
        lambda self, x: checkpoint(self.net, self.first(x), use_reentrant=reentrant),
        first=nn.Conv2d(3, 3, 1),
        net=net(),
    )
    first = 2 * 3 * 36 * 3
    assert {"first": first, **{f"net.{name}": amount for name, amount in NET.items()}} == macs(traced(model, IMAGE))
    report = traced(model, IMAGE, train=True)
    again = {name: amount for name, amount in macs(report).items() if name.endswith("#2")}
    stops = {"0": NET["0"], "3": NET["3"]}
    assert {f"net.{name}#2": amount for name, amount in (NET if reentrant else stops).items()} == again
    forward = first + sum(NET.values())
    assert forward + sum(again.values()) + 2 * forward - first == report.totals.macs
    assert all(parameter.grad is None for parameter in model.parameters())


# What is not known.


def test_an_operator_without_a_rule_is_uncounted_by_name_and_place() -> None:
    """It makes the report incomplete, with the number of calls and the rows."""
    model = Calls(lambda self, x: self.a(torch.linalg.svd(torch.linalg.svd(x)[0])[0]), a=nn.Linear(2, 2))
    report = traced(model, torch.eye(2), complete=False)
    (unknown,) = report.uncounted
    assert ("aten._linalg_svd", 2, ("(root)",)) == (unknown.op, unknown.calls, unknown.layers)
    assert {"a": 2 * 2 * 2} == macs(report)


def test_an_unknown_operator_stops_a_verdict_on_the_command_line(tmp_path: Path) -> None:
    """`analyze` tells what was not counted; under `--strict` it exits with 4."""
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return torch.linalg.svd(x)[1]\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "convstat", "analyze", f"{file}:Net", "--input", "4x4", "--counters", "none"]
    answers = [
        subprocess.run([*command, *more], capture_output=True, text=True, check=False) for more in ((), ("--strict",))
    ]
    assert [0, 4] == [answer.returncode for answer in answers], answers[0].stderr
    assert "_linalg_svd" in answers[0].stdout + answers[0].stderr


def test_a_rule_that_fails_is_noted_in_the_report() -> None:
    """The count goes on without it."""

    def fails(call: KernelCall) -> Any:
        raise KeyError("shape")

    unregister = ops.register("aten::mm", fails, replace=True)
    try:
        report = traced(Calls(lambda self, x: x @ x.t()), X, complete=False)
    finally:
        unregister()
    assert ("the rule for aten.mm failed: KeyError: 'shape'",) == report.model.notes


# Depth.


def nested(depth: int) -> Trace:
    """Blocks inside each other, each with an activation of its own."""
    modules, path = [], ""
    for index in range(depth):
        children = (index + 1,) if index < depth - 1 else ()
        modules.append(ModuleInfo(index, (path,), "tests.Block", (), (), {}, children))
        path = f"{path}.b" if path else "b"
    tensor = TensorInfo((2, 3))
    kernel = KernelCall("aten.relu", "default", (tensor,), output=tensor)
    call = ModuleCall(depth - 1, (tensor,), output=tensor, children=(kernel,))
    for index in reversed(range(depth - 1)):
        call = ModuleCall(index, (tensor,), output=tensor, children=(kernel, call))
    return Trace(call, tuple(modules), "meta")


def test_nothing_breaks_deeper_than_pythons_own_stack() -> None:
    """Walking, counting and every format."""
    depth = sys.getrecursionlimit() + 200
    trace = nested(depth)
    assert depth == len(list(trace.kernels())) == len(list(trace.module_calls()))
    report = traces.count(trace, name="deep", source="deep", inputs=())
    assert (depth, {"activation": 6 * depth}) == (len(report.layers), dict(report.totals.other))
    for name in RENDERERS.able("report"):
        assert RENDERERS.named(name).render([report], Options(depth=2))
    assert report.to_dict()["totals"]["other"] == {"activation": 6 * depth}


def test_a_model_may_nest_as_deep_as_it_may_without_us() -> None:
    """What runs within Python's limit by itself runs when it is watched, and the limit is the old one afterwards."""

    class Block(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    limit = sys.getrecursionlimit()
    model: nn.Module = nn.Linear(4, 4)
    for _ in range(200):
        model = Block(model)
    model(X)
    assert 32 == traced(model, X).totals.macs
    assert limit == sys.getrecursionlimit()


def test_a_chain_of_thousands_of_layers_is_one_row_each() -> None:
    """Forward and backward."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(2_000)))
    report = traced(model, X, train=True)
    assert 3 * 32 * 2_000 - 32 == report.totals.macs
    assert 2 * 2_000 == len(report.layers)


class Described(nn.Module):
    """Says how it was made, in several ways."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.sizes, self.listed, self.is_wide, self.way = 8, (3, 4), [5], True, "linear"
        self.rate, self.nothing, self.mixed, self.told = 0.5, (), (1, None), "x" * 41

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        return x + 1


def test_rows_say_how_their_modules_were_made() -> None:
    """Of torch's classes their arguments, of others sizes, flags and short words; no floats or long texts."""
    report = traced(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, bias=False), Described()), torch.rand(1, 3, 8, 8))
    conv, own = (row.arguments for row in report.layers if row.name in "01")
    assert conv == {
        "in_channels": 3, "out_channels": 8, "kernel_size": [3, 3], "stride": [2, 2], "padding": [0, 0],
        "dilation": [1, 1], "groups": 1, "padding_mode": "zeros", "bias": False,
    }  # fmt: skip
    assert own == {"width": 8, "sizes": [3, 4], "listed": [5], "is_wide": True, "way": "linear"}
