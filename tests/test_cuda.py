"""What holds on a CPU holds on a GPU: counts, predictions of fused kernels and under autocast, networks from specs.

``tests/device/run.sh`` runs these where there is a GPU, and prints a table of what they measured. With
``CONVSTAT_TEST_DEVICE=cpu`` they run without one, to try the tests themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from live import NAMES, PEERS, ask
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel

from convstat.api import analyze
from convstat.counters import COUNTERS
from convstat.patches.quiet import unwarned

DEVICE = os.environ.get("CONVSTAT_TEST_DEVICE", "cuda")

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"),
]

Inputs = tuple[torch.Tensor, ...]


class Attention(nn.Module):
    """Projections, and attention between them by one of torch's kernels: in half precision, as most of them want it."""

    def __init__(self, backend: SDPBackend, *, causal: bool = False) -> None:
        super().__init__()
        self.project = nn.Linear(64, 3 * 64)
        self.out = nn.Linear(64, 64)
        self.backend = backend
        self.causal = causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.project(x).view(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        with sdpa_kernel(self.backend):
            made = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(made.transpose(1, 2).reshape(batch, length, width))  # type: ignore[no-any-return]


class Autocast(nn.Module):
    """A layer that runs in another dtype than it is in."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.inner(x)  # type: ignore[no-any-return]


def convolutions() -> nn.Sequential:
    """As they stand in most networks."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=2, dilation=2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip


IMAGE, ROWS = (2, 3, 32, 32), (2, 12, 64)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (convolutions, IMAGE),
    "grouped": (lambda: nn.Sequential(nn.Conv2d(3, 12, 3, groups=3), nn.Conv2d(12, 12, 3, groups=12)), IMAGE),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1), nn.GELU()), IMAGE),
    "1-d and 3-d": (lambda: nn.Sequential(nn.Conv1d(12, 8, 3), nn.Unflatten(2, (2, 31)), nn.Conv2d(8, 4, 1)), ROWS),
    "linear": (lambda: nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.SiLU(), nn.Linear(32, 8)), ROWS),
    "attention": (lambda: _Mixed(nn.MultiheadAttention(64, 4, batch_first=True)), ROWS),
    "encoder layer": (lambda: nn.Sequential(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)), ROWS),
    "LSTM": (lambda: _First(nn.LSTM(64, 32, num_layers=2, bidirectional=True, batch_first=True)), ROWS),
    "GRU": (lambda: _First(nn.GRU(64, 32, batch_first=True)), ROWS),
    "autocast": (lambda: Autocast(convolutions()), IMAGE),
    "autocast linear": (lambda: Autocast(nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 8))), ROWS),
}
BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


class _First(nn.Module):
    """A recurrent layer, of which the first output is taken."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)[0]  # type: ignore[no-any-return]


class _Mixed(_First):
    """Attention of a sequence to itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x, x, x)[0]  # type: ignore[no-any-return]


def note(**row: Any) -> None:
    """Add a row to the table, where one is wanted."""
    if path := os.environ.get("CONVSTAT_DEVICE_ROWS"):
        with Path(path).open("a") as file:
            file.write(json.dumps(row) + "\n")


def totals(model: nn.Module, inputs: Inputs, device: str) -> tuple[int, int, dict[str, int]]:
    """What a model costs where it runs on a device for real, and what is known of it."""
    report = analyze(model.to(device), tuple(tensor.to(device) for tensor in inputs), counters="none", device=device)
    assert not report.uncounted, [one.op for one in report.uncounted]
    return report.totals.params, report.totals.macs, dict(report.totals.other)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_count_is_that_of_a_cpu(name: str) -> None:
    """The kernels are others, and the work is the same: params and MACs, to the unit."""
    make, shape = NETWORKS[name]
    inputs = (torch.rand(shape),)
    there, here = totals(make(), inputs, DEVICE), totals(make(), inputs, "cpu")
    note(kind="count", network=name, device=DEVICE, params=there[0], macs=there[1], on_cpu=here[1])
    assert there[:2] == here[:2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_attention_costs_the_same_by_any_kernel(backend: str) -> None:
    """Four projections of 2 x 12 x 64 x 64, and two products of 2 x 12 x 12 x 64."""
    model, inputs = _attention(backend), (torch.rand(ROWS, dtype=torch.float16),)
    made = totals(model, inputs, DEVICE)
    note(kind="count", network=f"attention, {backend}", device=DEVICE, params=made[0], macs=made[1])
    assert made[1] == 4 * 2 * 12 * 64 * 64 + 2 * 2 * 12 * 12 * 64


def _attention(backend: str) -> nn.Module:
    model = Attention(BACKENDS[backend]).half()
    try:
        with unwarned(), torch.enable_grad():
            model.to(DEVICE)(torch.rand(ROWS, dtype=torch.float16, device=DEVICE))
    except RuntimeError as error:
        pytest.skip(f"the {backend} kernel does not run here: {str(error).splitlines()[0]}")
    return model


@pytest.mark.parametrize("counter", [*NAMES, *PEERS])
@pytest.mark.parametrize("name", [*NETWORKS, *BACKENDS])
def test_every_counter_says_on_a_gpu_what_is_predicted(name: str, counter: str) -> None:
    """Beside its prediction, which is made from the kernels that this GPU has chosen; failures too."""
    if COUNTERS[counter].version() is None:
        pytest.skip(f"{counter} is not installed")
    if name in BACKENDS:
        model, given = _attention(name), torch.rand(ROWS, dtype=torch.float16)
    else:
        make, shape = NETWORKS[name]
        model, given = make(), torch.rand(shape)
    answer = ask(model.to(DEVICE), given.to(DEVICE), only=(counter,))[counter]
    reported, predicted = answer.reported, answer.prediction
    note(
        kind="counter",
        network=name,
        device=DEVICE,
        counter=counter,
        macs=None if reported is None else reported.macs,
        params=None if reported is None else reported.params,
        predicted=predicted.macs,
        failure=answer.failure,
    )
    answer.check(f"{counter} on {name}")


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "unet", "vit_b_16"])
def test_a_network_of_a_spec_costs_on_a_gpu_what_its_text_says(name: str, root: Path) -> None:
    """It is built, run and recorded there; and what a forward pass took of memory is more than its weights."""
    from convstat.count import graphs, traces
    from convstat.targets import resolve
    from convstat.targets.analysis import graph_of
    from convstat.trace.build import build, example_inputs
    from convstat.trace.record import record

    graph = graph_of(resolve(str(root / "configs" / f"{name}.yaml")), {})
    model, inputs = build(graph, device=DEVICE), example_inputs(graph, device=DEVICE)
    ran = traces.count(record(model, inputs), name=name, source="", inputs=())
    text = graphs.count(graph, source="", kind="spec")
    peak = None
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        with torch.no_grad():
            model(*inputs)
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
        assert peak > text.totals.weight_bytes
    note(kind="spec", network=name, device=DEVICE, params=ran.totals.params, macs=ran.totals.macs, peak=peak)
    assert (text.totals.params, text.totals.macs) == (ran.totals.params, ran.totals.macs)
    assert not ran.uncounted
