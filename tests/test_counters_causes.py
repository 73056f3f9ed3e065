"""Counters of modules: every unit of a difference has a cause whose amount was computed, on every probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from live import ask, installed
from probe_pool import is_a
from torch import nn
from torch.nn.utils import prune

from convstat.count import traces
from convstat.counters import COUNTERS, Prediction
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.measure import predict
from convstat.counters.reconcile import foreseen
from convstat.results.report import CounterRow
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")

MODULE_COUNTERS = ("torchinfo", "ultralytics-thop", "thop", "torchscan", "torchstat", "torchsummary")


def line_up(model: nn.Module, *inputs: torch.Tensor, names: Sequence[str]) -> Iterator[tuple[Prediction, CounterRow]]:
    """Predict some counters, and line them up with what convstat counts on the same trace."""
    trace = record(model, inputs)
    report = traces.count(trace, name="model", source="model", inputs=())
    for name in names:
        prediction = predict(COUNTERS[name], model, inputs, trace)
        yield prediction, foreseen(report.layers, prediction, status="predicted", name=name)


def understood(name: str, model: nn.Module, *inputs: torch.Tensor) -> dict[str, tuple[int, int]]:
    """The causes, as (params, MACs), none of which is unattributed; a failure that is foreseen has none."""
    [(prediction, row)] = line_up(model, *inputs, names=(name,))
    return check(name, prediction, row)


def check(name: str, prediction: Prediction, row: CounterRow) -> dict[str, tuple[int, int]]:
    """See that the causes of one counter sum up to its difference, and that all of them are known."""
    if prediction.failure is not None:
        return {}
    causes = {cause.code: (cause.params, cause.macs) for cause in row.causes}
    assert UNATTRIBUTED not in causes, (name, row.causes)
    assert (row.difference.params or 0) == sum(params for params, _ in causes.values())
    assert (row.difference.macs or 0) == sum(macs for _, macs in causes.values())
    return causes


class Casts(nn.Module):
    """Takes float32, and computes in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, dtype=torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.to(torch.bfloat16)).float()


class ReadsAnother(nn.Module):
    """Multiplies with the weight of a layer that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x @ self.fc.weight.T)


class Adapted(nn.Linear):
    """A linear layer beside which two thin products run."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.down, self.up = nn.Parameter(torch.rand(2, 8)), nn.Parameter(torch.rand(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + (x @ self.down.T) @ self.up.T


class Packs(nn.Module):
    """An LSTM on a sequence of five steps and one of three."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, [5, 3], batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])[0]


class PartlyScripted(nn.Module):
    """Holds a scripted part."""

    def __init__(self) -> None:
        super().__init__()
        self.part = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.part(x))


def _pruned() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    return model


def _hooked() -> nn.Module:
    model, more = nn.Sequential(nn.Linear(8, 8)), torch.rand(8, 8)
    model[0].register_forward_hook(lambda module, args, output: output @ more)
    return model


def _quantized() -> nn.Module:
    layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 32))
    return torch.ao.quantization.quantize_dynamic(layers, {nn.Linear}, dtype=torch.qint8)


PICTURES, SEQUENCES, ROWS = (2, 3, 8, 8), (2, 5, 6), (2, 8)
ODDITIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pruned": (_pruned, PICTURES),
    "quantized": (_quantized, ROWS),
    "partly scripted": (PartlyScripted, PICTURES),
    "casts": (Casts, PICTURES),
    "reads the weight of another": (ReadsAnother, (3, 6)),
    "adapted": (lambda: is_a(Adapted()), ROWS),
    "packs": (Packs, SEQUENCES),
    "hooked": (_hooked, ROWS),
    "spectral norm, old": (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(8, 8))), (2, 5, 8)),
    "spectral norm, new": (lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))), (2, 5, 8)),
    "spectral norm of a convolution": (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Conv1d(8, 8, 3))), (2, 8, 8)),
}


def _example(what: str) -> tuple[nn.Module, torch.Tensor]:
    make, shape = ODDITIES[what]
    torch.manual_seed(0)
    return make().eval(), torch.rand(shape)


@pytest.mark.parametrize("name", MODULE_COUNTERS)
@pytest.mark.parametrize("what", ODDITIES)
def test_nothing_is_unattributed_on_what_is_odd(what: str, name: str) -> None:
    """Hooks, parts that are scripted, pruned or quantized, and weights that others read."""
    model, given = _example(what)
    understood(name, model, given)


@pytest.mark.parametrize("name", MODULE_COUNTERS)
@pytest.mark.parametrize("what", ODDITIES)
def test_the_counters_say_what_is_predicted_on_what_is_odd(what: str, name: str) -> None:
    """The real ones, failures included."""
    model, given = _example(what)
    ask(model, given, only=(installed(name),))[name].check(f"{name}, {what}")


def _macs(name: str, what: str) -> dict[str, int]:
    model, given = _example(what)
    return {code: macs for code, (_, macs) in understood(name, model, given).items() if macs}


def test_the_products_of_hooks_are_not_seen() -> None:
    """Spectral norm multiplies the weight with a vector, and that with another; nothing else is missed."""
    for name in ("thop", "ultralytics-thop", "torchscan"):
        assert {"hook_unseen": -(8 * 8 + 8)} == _macs(name, "spectral norm, old")
        assert {"hook_unseen": -2 * 8 * 8} == _macs(name, "hooked")
    assert {"subclass_unseen": -2 * 5 * 8 * 8, "no_rule": -(8 * 8 + 8)} == _macs("thop", "spectral norm, new")


def test_what_a_subclass_multiplies_beside_its_layer_is_not_seen() -> None:
    """Two rows, down from 8 to 2 and up again."""
    thin = 2 * (8 * 2 + 2 * 8)
    assert {"inside_counted": -thin} == _macs("ultralytics-thop", "adapted")
    assert {"functional_unseen": -thin} == _macs("torchscan", "adapted")
    assert {"subclass_unseen": -thin - 2 * 8 * 8} == _macs("thop", "adapted")
    assert {"functional_unseen": -thin, "bias": 2 * 8} == _macs("torchinfo", "adapted")


def test_packed_sequences_have_as_many_steps_as_rows() -> None:
    """Eight steps; thop takes five of both sequences, torchinfo the width of 8 for a second size."""
    each, biases, gates = 4 * 8 * (6 + 8), 2 * 4 * 8, (4 + 4) * 8
    assert {"bias": 8 * biases, "rnn_elementwise": 8 * gates} == _macs("ultralytics-thop", "packs")
    assert {
        "packed_steps": (2 * 5 - 8) * (each + biases + gates),
        "bias": 8 * biases,
        "rnn_elementwise": 8 * gates,
    } == _macs("thop", "packs")
    assert {"packed_sequences": (8 * 8 - 8) * each, "bias": 8 * 8 * biases} == _macs("torchinfo", "packs")


def test_a_weight_that_another_reads_is_no_difference() -> None:
    """It belongs to the layer that reads it, for convstat and for who counts all parameters."""
    model, given = _example("reads the weight of another")
    assert {} == understood("ultralytics-thop", model, given)
    assert {"uncalled": (-(6 * 2 + 2), 0), "functional_unseen": (0, -3 * 6 * 2)} == understood("thop", model, given)


def test_torchinfo_counts_what_pruning_has_left() -> None:
    """Half of 4 x 3 x 3 x 3 weights, at each of the 2 x 8 x 8 places."""
    model, given = _example("pruned")
    half = 4 * 3 * 3 * 3 // 2
    causes = understood("torchinfo", model, given)
    assert {"pruned": (-half, -half * 2 * 8 * 8), "bias": (0, 4 * 2 * 8 * 8)} == causes


def test_a_product_of_complex_numbers_is_one_mac_except_to_counters_of_kernels() -> None:
    """torch makes three real convolutions of a complex one, and these see all three."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, dtype=torch.cfloat))
    given = torch.rand(1, 3, 8, 8, dtype=torch.cfloat)
    once = 4 * 3 * 3 * 3 * 6 * 6
    for name in ("thop", "ultralytics-thop", "torchscan"):
        assert {} == understood(name, model, given)
    assert {"complex_products": (0, 2 * once)} == understood("flopcountermode", model, given)
