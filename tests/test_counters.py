"""The table of counters, and graphs measured with them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest
import torch
from chains import Chain, count, sample
from torch import nn

from convstat.counters import COUNTERS, CounterFailure, Prediction, Registry, Reported, measure, select
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.ptflops import pytorch as ptflops_pytorch
from convstat.counters.torchsummary.adapter import Torchsummary
from convstat.errors import DeviceError, UsageError
from convstat.graph import Graph
from convstat.layers import KINDS
from convstat.results.report import CounterRow
from convstat.trace.build import build, example_inputs
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")

ALL = tuple(COUNTERS[name] for name in ("ptflops", "ptflops-aten", "torchsummary"))


def _causes(row: CounterRow) -> dict[str, tuple[int, int]]:
    return {cause.code: (cause.params, cause.macs) for cause in row.causes if cause.params or cause.macs}


def _explained(row: CounterRow, about: str = "") -> None:
    """Everything is explained, by causes that are known, to the unit and to the printed digit."""
    assert row.status in ("ok", "failed"), f"{about}: {row.error}"
    assert UNATTRIBUTED not in _causes(row), about
    if row.status == "ok":
        assert None is not row.predicted, about
        assert row.reported.memory_mib == row.predicted.memory_mib, about
        for figure in ("params", "macs"):
            assert getattr(row.unexplained, figure) in (0, None), about
            assert getattr(row.difference, figure) in (None, sum(getattr(c, figure) for c in row.causes)), about


def _measured(graph: Graph, batch: int = 1, **options: Any) -> dict[str, CounterRow]:
    return {row.name: row for row in measure(graph, count(graph, batch=batch), ALL, **options)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_is_explained_in_every_counter_on_both_devices(kind: str) -> None:
    """Two samples, alone in a model; the answers on meta are those of the CPU, failures included."""
    written, shapes = sample(kind)
    chain = Chain(*shapes, dtype=KINDS[kind].input_dtype)
    graph = chain.add(kind, "block.it", sources=tuple(chain.shapes), **written).graph()
    # Hundreds of processes would take longer than all that is done in them.
    auto, cpu = (_measured(graph, 2, device=device, in_process=True) for device in ("auto", "cpu"))
    for name in auto:
        _explained(auto[name], f"{kind} {name}")
        _explained(cpu[name], f"{kind} {name} on cpu")
        assert (auto[name].reported, auto[name].status) == (cpu[name].reported, cpu[name].status), f"{kind} {name}"


def _net(batch: int = 1) -> Chain:
    chain = Chain((batch, 3, 8, 8))
    chain.add("Conv2d", "conv", out_channels=4, kernel_size=3, padding=1)
    chain.add("BatchNorm2d", "norm").add("ReLU", "act").add("MaxPool2d", "pool", kernel_size=2)
    chain.add("Upsample", "up", scale_factor=2)
    chain.add("Conv2d", "mix", out_channels=4, kernel_size=1, bias=False, trainable=False)
    chain.add("Conv2d", "mix2", shared="mix")
    return chain.add("add", "sum", sources=("mix", "mix2")).add("Flatten", "flat").add("Linear", "head", out_features=5)


CONV = 8 * 8 * 4 * 3 * 3 * 3
MIX = 8 * 8 * 4 * 4
HEAD = 4 * 8 * 8 * 5
PIXELS = 4 * 8 * 8
"""Values in a feature map of four channels."""


def test_the_causes_of_ptflops_are_named_and_come_to_the_unit() -> None:
    """Biases, norms, activations, pooling and upsampling once by convention and once more by defect, frozen params."""
    row = _measured(_net().graph())["ptflops"]
    assert {
        "bias": (0, PIXELS + 5),
        "norm": (0, 2 * PIXELS),
        "activation": (0, PIXELS),
        "activation_twice": (0, PIXELS),
        "pool": (0, PIXELS),
        "pool_twice": (0, PIXELS),
        "upsample": (0, PIXELS),
        "upsample_twice": (0, PIXELS),
        "trainable_only": (-16, 0),
    } == _causes(row)
    assert CONV + 2 * MIX + HEAD + 9 * PIXELS + 5 == row.reported.macs
    assert 3 * 3 * 3 * 4 + 4 + 2 * 4 + 4 * 8 * 8 * 5 + 5 == row.reported.params
    _explained(row)


def test_the_batch_divides_what_modules_do_and_not_what_functions_do() -> None:
    """Of three samples ptflops counts the modules' part once and the functions' part three times."""
    row = _measured(_net(3).graph(), 3)["ptflops"]
    causes = _causes(row)
    assert (0, -2 * (CONV + 2 * MIX + HEAD)) == causes["per_sample"]
    assert (0, 2 * (PIXELS + PIXELS + PIXELS)) == causes["functional_batch"]
    assert (0, PIXELS) == causes["activation"] == causes["activation_twice"]
    _explained(row)


def test_the_aten_backend_counts_biases_and_no_more() -> None:
    """Of the whole batch, with the layers that are shared at every call."""
    row = _measured(_net(3).graph(), 3)["ptflops-aten"]
    assert {"bias": (0, 3 * (PIXELS + 5)), "trainable_only": (-16, 0)} == _causes(row)
    _explained(row)


def test_torchsummary_counts_shared_layers_at_every_call_and_frozen_ones_too() -> None:
    """Its memory figures are those that it prints, foreseen to the digit."""
    row = _measured(_net().graph())["torchsummary"]
    assert {"shared_per_call": (16, 0)} == _causes(row)
    assert None is row.reported.macs
    outputs = 2 * PIXELS + PIXELS + PIXELS // 4 + PIXELS + 3 * PIXELS + 5
    assert row.reported.memory_mib is not None
    assert round(outputs * 2 * 4 / 2**20, 2) == row.reported.memory_mib["forward_backward"]
    _explained(row)
    (remark,) = (cause for cause in row.causes if not cause.params)
    assert ("forward_backward", 9) == (remark.code, remark.calls)


def test_torchsummarys_sizes_of_a_convolution_on_an_image() -> None:
    """3x64x64 to four channels: 0.05, 0.12, 0.00 and 0.17 MiB."""
    graph = Chain((1, 3, 64, 64)).add("Conv2d", "conv", out_channels=4, kernel_size=3, padding=1).graph()
    row = _measured(graph)["torchsummary"]
    assert {"input": 0.05, "forward_backward": 0.12, "params": 0.00, "total": 0.17} == row.reported.memory_mib


def test_memory_remarks_name_tuples_containers_and_several_inputs() -> None:
    """A recurrent layer returns a tuple, and the sizes of several inputs are multiplied."""
    chain = Chain((1, 3, 8), (1, 3, 8)).add("add", "sum", sources=("x0", "x1"))
    chain.add("Linear", "in", out_features=8).add("GRU", "gru", hidden_size=8)
    row = _measured(chain.graph())["torchsummary"]
    assert {"forward_backward", "tuple_product", "input_product"} == {c.code for c in row.causes if not c.params}
    assert {"not_weight_or_bias": (-(2 * 3 * 8 * 8 + 2 * 3 * 8), 0)} == _causes(row)
    _explained(row)


def test_attention_runs_on_the_cpu_where_meta_would_say_something_else() -> None:
    """ptflops' aten backend prices kernels, and those of attention differ; explicit meta is then skipped."""
    graph = Chain((1, 3, 8)).add("MultiheadAttention", "attn", num_heads=2, batch_first=True).graph()
    auto, meta = _measured(graph), _measured(graph, device="meta")
    assert ["meta", "cpu", "meta"] == [row.device for row in auto.values()]
    assert ["ok", "skipped", "failed"] == [row.status for row in meta.values()]
    assert "other kernels on the meta device; use --device auto or cpu" in str(meta["ptflops-aten"].error)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_answers_on_cuda_are_those_of_meta() -> None:
    """Where there is a GPU, the peers run on it when asked to, and say the same."""
    graph = _net(2).graph()
    meta, cuda = _measured(graph, 2), _measured(graph, 2, device="cuda")
    for name in meta:
        _explained(cuda[name], name)
        assert (meta[name].reported, "cuda") == (cuda[name].reported, cuda[name].device)


def test_a_failure_is_a_row_with_its_reason() -> None:
    """torchsummary on a model without weights, on attention and on indices."""
    bare = Chain((1, 4)).add("ReLU", "act").graph()
    assert str(_measured(bare)["torchsummary"].error).startswith("no layer inside the model has a weight or a bias")
    attention = Chain((1, 3, 8)).add("MultiheadAttention", "attn", num_heads=2, need_weights=False).graph()
    assert "here one is not a tensor" in str(_measured(attention)["torchsummary"].error)
    words = Chain((1, 3), dtype="int64").add("Embedding", "words", num_embeddings=5, embedding_dim=4).graph()
    rows = _measured(words)
    assert "it makes float32 inputs, and this model takes other dtypes" in str(rows["torchsummary"].error)
    assert ["ok", "ok", "failed"] == [row.status for row in rows.values()]


def test_half_precision_fails_in_torchsummary_only() -> None:
    """It makes float32 inputs; the others take the model's."""
    rows = _measured(_net().graph(), dtype="bfloat16")
    assert ["ok", "ok", "failed"] == [row.status for row in rows.values()]
    assert "--dtype float32" in str(rows["torchsummary"].error)


def test_a_corrupted_rule_is_unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: a predictor that prices a rule wrong is contradicted by the real tool."""
    name = "torch.nn.modules.batchnorm.BatchNorm2d"
    wrong = {**ptflops_pytorch.MODULES, name: lambda call, info, trace: [("norm", 7)]}
    monkeypatch.setattr(ptflops_pytorch, "MODULES", wrong)
    row = _measured(_net().graph())["ptflops"]
    assert 2 * PIXELS - 7 == row.unexplained.macs
    assert row.difference.macs == sum(cause.macs for cause in row.causes) + (row.unexplained.macs or 0)


def test_predictions_do_not_read_what_is_reported() -> None:
    """With the real tool's answer falsified, the prediction stays and the lie is unexplained."""

    class Lies(Torchsummary):
        def run(self, model: Any, inputs: Any) -> Reported:
            return Reported(params=1, memory_mib={})

    graph = _net().graph()
    report = count(graph)
    (honest,), (lie,) = measure(graph, report, (Torchsummary(),)), measure(graph, report, (Lies(),))
    assert honest.predicted == lie.predicted
    assert 1 - (honest.reported.params or 0) == lie.unexplained.params


def test_counters_and_predictions_know_nothing_of_convstats_formulas() -> None:
    """Otherwise a thing is compared with itself: importing and predicting loads no formula."""
    code = """
import sys
import convstat.counters
from convstat.counters.ptflops import aten, pytorch
from convstat.counters.torchsummary import rows
assert 'torch' not in sys.modules
own = [n for n in sys.modules if n.startswith(('convstat.formulas.', 'convstat.count.'))]
# The type of a cost, which a rule of somebody else's gives, is no formula.
own.remove('convstat.formulas.cost')
import ast, pathlib
for path in pathlib.Path(convstat.counters.__file__).parent.rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [f'{node.module}.{a.name}' for a in node.names] if isinstance(node, ast.ImportFrom) else []
        own += [n for n in names if n.startswith(('convstat.formulas', 'convstat.count.ops', 'convstat.layers'))]
# What somebody else's operator multiplies, only the rule that was registered for it can say.
own.remove('convstat.count.ops.registered')
print(own)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "[]\n" == done.stdout, done.stderr


def test_a_counter_that_is_not_installed_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row says how to get it."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    row = _measured(_net().graph())["torchsummary"]
    assert ("unavailable", "it is not installed; pip install torchsummary") == (row.status, row.error)


def test_a_counter_that_crashes_is_a_failed_row() -> None:
    """Third parties' counters may raise anything."""

    class Crashes(Torchsummary):
        def run(self, model: Any, inputs: Any) -> Reported:
            raise KeyError("lost")

    graph = _net().graph()
    (row,) = measure(graph, count(graph), (Crashes(),))
    assert ("failed", "KeyError: 'lost'") == (row.status, row.error)


def test_devices_and_dtypes_that_cannot_be_are_errors() -> None:
    """Before anything runs."""
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        _measured(_net().graph(), device="tpu")
    with pytest.raises(DeviceError, match="unknown dtype 'int8'"):
        _measured(_net().graph(), device="cpu", dtype="int8")


def test_a_model_that_does_not_run_says_so() -> None:
    """A graph whose torch model fails is an error with the layer's own words."""
    graph = _net().graph()
    broken = replace(graph, inputs=(replace(graph.inputs[0], shape=(1, 7, 8, 8)),))
    with pytest.raises(Exception, match="convstat cannot run net in torch: RuntimeError"):
        _measured(broken)


def test_select_reads_names_and_groups() -> None:
    """Groups, names, both; none; and a name that is not there, with what may have been meant."""
    assert ["ptflops", "torchsummary"] == [counter.name for counter in select("default")]
    assert ["torchsummary", "ptflops"] == [counter.name for counter in select(" torchsummary , default")]
    assert {"ptflops", "ptflops-aten", "torchsummary"} <= {counter.name for counter in select("all")}
    assert () == select("none") == select("convstat")
    with pytest.raises(UsageError, match=r"unknown counter 'ptflop'(.|\n)*did you mean 'ptflops'"):
        select("ptflop")
    with pytest.raises(UsageError) as caught:
        select("ptflop,torchinfo,nonsense")
    assert ["unknown counter 'ptflop'", "unknown counter 'nonsense'"] == [
        problem.message for problem in caught.value.diagnostics
    ]


class _Point:
    """An entry point."""

    name, value = "third", "third:Third"

    def __init__(self, loaded: object) -> None:
        self.loaded = loaded

    def load(self) -> object:
        """Give what stands behind it."""
        return self.loaded


def test_counters_of_other_packages_are_found_when_a_name_is_not_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points are looked for once, and not for the names that ship."""
    asked = []

    class Third(Torchsummary):
        name = "third"

    def points(*, group: str) -> list[_Point]:
        asked.append(group)
        return [_Point(Third)]

    monkeypatch.setattr(metadata, "entry_points", points)
    registry = Registry(ALL)
    assert "ptflops" == registry["ptflops"].name
    assert [] == asked
    assert "third" == registry["third"].name
    assert ["ptflops", "ptflops-aten", "torchsummary", "third"] == list(registry)
    assert ["convstat.counters"] == asked


def test_two_counters_of_one_name_are_refused() -> None:
    """Nobody's counter is replaced silently, and words that mean something are no names."""
    with pytest.raises(ValueError, match="two counters are called 'torchsummary'"):
        Registry((*ALL, Torchsummary()))
    unnameable = Torchsummary()
    unnameable.name = "all"
    with pytest.raises(ValueError, match="a counter cannot be called 'all'"):
        Registry((unnameable,))


def test_a_counter_answers_with_plain_integers() -> None:
    """Not numpy's, which overflow and do not go into JSON."""
    graph = _net().graph()
    model, inputs = build(graph, device="meta"), example_inputs(graph, device="meta")
    for counter in ALL:
        reported = counter.run(model, inputs)
        assert {int} >= {type(value) for value in (reported.params, reported.macs) if value is not None}
        assert isinstance(counter.predict.__doc__, str)


def test_failures_read_as_one_line_with_help() -> None:
    """The reason first, then what would help."""
    assert "it broke; try again" == str(CounterFailure("it broke", "try again"))
    assert "it broke" == str(CounterFailure("it broke"))
    assert None is Prediction(1, 2).failure


def test_a_linear_over_several_positions_is_not_run_on_meta_by_the_aten_backend() -> None:
    """After a convolution its strides, and with them its kernels, are another device's own."""
    torch.manual_seed(0)

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.patches(x).permute(0, 2, 3, 1))

    tokens = record(Tokens(), (torch.rand(1, 3, 8, 8),))
    assert "may run other kernels" in str(COUNTERS["ptflops-aten"].why_not_meta(tokens))
    assert COUNTERS["ptflops"].why_not_meta(tokens) is None
    flat = record(nn.Sequential(nn.Conv2d(3, 8, 8), nn.Flatten(), nn.Linear(8, 4)), (torch.rand(1, 3, 8, 8),))
    assert COUNTERS["ptflops-aten"].why_not_meta(flat) is None
