"""torch's own MemTracker beside ``convstat memory``: every byte of the difference has a cause that was computed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest
import torch
from test_lifetimes import MODELS
from torch import nn

from convstat.cli.run import run
from convstat.counters import memtracker
from convstat.patches.operators import torchvision_compat
from convstat.results.memory import PeerMemory
from convstat.trace.training import Step, Way

pytest.importorskip("torch.distributed._tools.mem_tracker")

WAYS = {
    "infer": Way(),
    "infer on a CPU": Way(device="cpu"),
    "none": Way(Step("none")),
    "sgd": Way(Step("sgd")),
    "adamw": Way(Step("adamw")),
    "momentum on a CPU": Way(Step("momentum"), "cpu"),
    "accumulated": Way(Step("adamw", 4)),
}


class Residual(nn.Module):
    """Gradients meet at the sums, batch norm has statistics, and the peak is in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return x


class Meeting(nn.Module):
    """Two gradients of the first output meet where nothing else is as large."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.pools = nn.ModuleList(nn.AvgPool2d(size) for size in (2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return torch.cat([pool(x).flatten(1) for pool in self.pools], 1)


SHAPES = ((2, 3, 16, 16),)
CASES = {**MODELS, "residual": (Residual, SHAPES), "meeting": (Meeting, SHAPES)}


def compared(make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], way: Way) -> PeerMemory:
    """Run the tracker on meta."""
    inputs = tuple(torch.empty(shape, device="meta") for shape in shapes)
    found = memtracker.compared(make().to("meta"), inputs, {}, way)
    assert found.status == "ok", found.error
    for kind, difference in found.difference.items():
        explained = sum(cause.kinds[kind] for cause in found.causes)
        assert difference == explained + found.unexplained[kind]
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_every_byte_has_a_cause(case: str, way: str) -> None:
    """In each kind of memory, and not in the sum alone."""
    found = compared(*CASES[case], WAYS[way])
    assert not any(found.unexplained.values()), found


def test_amounts_by_hand() -> None:
    """What batch norm returns on meta, and the sum of two gradients of 2 x 8 x 16 x 16 numbers."""
    batch, side = 2, 16
    make, shapes = CASES["residual"]
    (statistics,) = compared(make, shapes, WAYS["infer"]).causes or [None]
    # The peak is at the first of them, whose mean and deviation of 8 channels are there.
    assert statistics is not None
    assert (statistics.code, statistics.kinds["activations"]) == ("statistics", 2 * 4 * 8)
    causes = {cause.code: cause for cause in compared(*CASES["meeting"], WAYS["sgd"]).causes}
    assert causes["sums"].bytes == 4 * batch * 8 * side * side


@pytest.mark.parametrize("code", ["kernels", "statistics", "sums"])
def test_a_cause_that_is_not_looked_for_is_unexplained(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: none of them stands for what is left over."""
    cases = {"kernels": ("encoder", "infer"), "statistics": ("residual", "infer"), "sums": ("meeting", "sgd")}
    case, way = cases[code]
    monkeypatch.setattr(memtracker, "CAUSES", tuple(cause for cause in memtracker.CAUSES if cause[0] != code))
    assert any(compared(*CASES[case], WAYS[way]).unexplained.values())


def test_labels_that_are_not_understood_are_unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it calls a gradient, and when."""
    monkeypatch.setattr(memtracker, "_labelled", lambda following: memtracker._at_peak(following.found))
    assert any(compared(*CASES["mixed"], WAYS["sgd"]).unexplained.values())


@pytest.mark.parametrize("options", [[], ["--optimizer", "adamw"]])
@pytest.mark.parametrize("config", ["resnet50", "vit_b_16", "mobilenet_v1"])
def test_the_command_shows_both(config: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """On the page and in the document."""
    arguments = ["memory", f"configs/{config}.yaml", "--counters", "memtracker", *options]
    assert run([*arguments, "-f", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (peer,) = document["peers"]
    assert peer["status"] == "ok"
    assert sum(peer["kinds"].values()) - document["peak"]["bytes"] == sum(peer["difference"].values())
    assert not any(peer["unexplained"].values())
    assert run(arguments) == 0
    page = capsys.readouterr().out
    assert "memtracker, torch" in page
    assert "unexplained" not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--counters", "memtraker"], "did you mean 'memtracker'?"),
        (["--counters", "memtracker", "--fits", "1GiB"], "--counters is about one batch"),
    ],
)
def test_bad_input_is_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what would be right."""
    assert run(["memory", "configs/mobilenet_v1.yaml", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_torch_without_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """convstat's own figures stand."""
    monkeypatch.setitem(sys.modules, "torch.distributed._tools.mem_tracker", None)
    assert run(["memory", "configs/mobilenet_v1.yaml", "--counters", "memtracker"]) == 0
    page = capsys.readouterr().out
    assert "unavailable: this torch has no MemTracker" in page
    assert "24,040,312 bytes" in page


NETWORKS = ("resnet18", "mobilenet_v3_small", "densenet121", "swin_t", "vit_b_32", "convnext_tiny")


@pytest.mark.verify
@pytest.mark.parametrize("way", ["infer", "sgd", "adamw"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torchvision(name: str, way: str) -> None:
    """Whole networks at the size that they were made for."""
    torchvision_compat()
    from torchvision.models import get_model

    found = compared(lambda: get_model(name, weights=None), ((2, 3, 224, 224),), WAYS[way])
    assert not any(found.unexplained.values()), found
