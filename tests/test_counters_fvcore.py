"""fvcore: what it said of every probe, what its rules are, and the real one on whatever can be traced."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from counted import analyze
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from live import Answer, ask, installed, to_meta
from random_nets import CHANNELS, nets
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convstat.counters import COUNTERS, Prediction
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.jit import fvcore_walk as fvcore_walk
from convstat.counters.jit.graph import recorded_of
from convstat.counters.measure import predict
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")


def predicted(model: nn.Module, *inputs: torch.Tensor) -> Prediction:
    """Predict it, whether it is installed or not."""
    return predict(COUNTERS["fvcore"], model, inputs, record(model, inputs))


def amounts(prediction: Prediction) -> dict[str | None, int]:
    """The MACs by cause."""
    found: dict[str | None, int] = {}
    for term in prediction.terms:
        if term.macs:
            found[term.code] = found.get(term.code, 0) + term.macs
    return found


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(net=nets(), batch=st.integers(1, 3), size=st.integers(3, 6))
def test_the_prediction_from_meta_is_that_from_the_cpu(net: nn.Module, batch: int, size: int) -> None:
    """But for kernels that are fused on the CPU alone; needs no peer."""
    image = torch.rand(batch, CHANNELS, size, size)
    try:
        with torch.no_grad():
            net.eval()(image)
    except RuntimeError:
        reject()
    there = predicted(net, image)
    if "fused_kernel" not in amounts(there):
        assert amounts(there) == amounts(predicted(to_meta(net), image.to("meta")))


def test_norms_cost_one_or_two_in_batches_and_four_or_five_else() -> None:
    """With scale and shift the greater one; a batch norm without statistics is priced like the others."""
    image = torch.rand(2, 8, 5, 5)
    elements = 2 * 8 * 5 * 5
    assert {"norm": 2 * elements} == amounts(predicted(nn.BatchNorm2d(8), image))
    assert {"norm": elements} == amounts(predicted(nn.BatchNorm2d(8, affine=False), image))
    assert {"norm_fives": 5 * elements} == amounts(predicted(nn.BatchNorm2d(8, track_running_stats=False), image))
    assert {"norm_fives": 5 * elements} == amounts(predicted(nn.GroupNorm(2, 8), image))
    assert {"norm_fives": 4 * elements} == amounts(predicted(nn.InstanceNorm2d(8), image))


def test_a_convolution_whose_padding_is_a_word_costs_nothing() -> None:
    """The operator has another name then, which has no rule."""
    image = torch.rand(1, 8, 10, 10)
    prediction = predicted(nn.Conv2d(8, 16, 3, padding="same"), image)
    macs = 10 * 10 * 16 * 8 * 3 * 3
    assert (0, {None: macs, "padding_word": -macs}) == (prediction.macs, amounts(prediction))
    assert macs == predicted(nn.Conv2d(8, 16, 3, padding=1), image).macs


class _Twice(nn.Module):
    """Convolves twice, and gives one of both."""

    def __init__(self) -> None:
        super().__init__()
        self.given = nn.Conv2d(8, 4, 1)
        self.dropped = nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.dropped(x)
        return self.given(x)


def test_what_no_output_depends_on_is_not_counted() -> None:
    """The layer is named."""
    prediction = predicted(_Twice(), torch.rand(1, 8, 5, 5))
    assert 5 * 5 * 8 * 4 == prediction.macs
    assert [("dropped", -3 * 3 * 8 * 4 * 3 * 3)] == [
        (term.layer, term.macs) for term in prediction.terms if term.code == "dead_code"
    ]


class _Product(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bij,bjk->bik", a, b) if a.dim() == b.dim() else a @ b


def test_products_are_priced_by_their_first_operand() -> None:
    """One of matrices by batches costs a single one; einsum is rounded to four digits of its FLOPs."""
    short = predicted(_Product(), torch.rand(4, 5), torch.rand(2, 3, 5, 6))
    whole = 2 * 3 * 4 * 5 * 6
    assert {None: whole, "functional_mispriced": 4 * 5 * 6 - whole} == amounts(short)
    rounded = predicted(_Product(), torch.rand(8, 64, 51), torch.rand(8, 51, 67))
    exact = 8 * 64 * 51 * 67
    estimate = int(float(f"{2 * exact + 1:.3e}") / 2)
    assert exact != estimate
    assert {None: exact, "einsum_estimate": estimate - exact} == amounts(rounded)


def test_a_wrong_rule_of_fvcore_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear layer that costs seven is contradicted by the real tool."""
    installed("fvcore")
    monkeypatch.setattr(fvcore_walk, "RULES", {**fvcore_walk.RULES, "linear": lambda call: [(None, 7)]})
    row = analyze("Linear(8, 16)", inputs=["8"], counters="fvcore").counters[0]
    assert 8 * 16 - 7 == row.unexplained.macs
    assert UNATTRIBUTED in {cause.code for cause in row.causes}


def test_a_trace_without_operators_is_refused() -> None:
    """Kernels do not tell which operators they were made of."""
    model, image = nn.Linear(3, 3), torch.rand(1, 3)
    with pytest.raises(TypeError, match="retrace"):
        recorded_of(record(model, (image,)))


ERRORS: dict[str, BaseException | None] = {
    "it succeeds": None,
    "it fails": ValueError("stumbled"),
    "it is interrupted": KeyboardInterrupt(),
}


class _Stumbles(nn.Module):
    """Writes into its input and its buffer, applies a function of its own, and raises if it is told to."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.register_buffer("calls", torch.zeros(1))
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        x.mul_(1)
        x = F.interpolate(self.conv(x), scale_factor=2.0, recompute_scale_factor=True)
        if self.error is not None:
            raise self.error
        return x


@pytest.mark.parametrize("how", ERRORS)
def test_nothing_is_left_of_recording_operators(how: str) -> None:
    """No mark on tensors, no hook, nothing replaced in torch."""

    def process() -> tuple[Any, ...]:
        return (
            torch._C._get_tracing_state,
            torch._C._is_tracing,
            F.has_torch_function_unary,
            torch.overrides.has_torch_function,
            vars(nn.Module)["__call__"],
            vars(torch.autograd.Function)["apply"],
            "__getattribute__" in vars(torch.autograd.function.FunctionMeta),
            torch._C.fork,
            torch.clamp,
            any("isinstance" in vars(module) for name, module in sys.modules.items() if name != "builtins"),
            torch._C._len_torch_function_stack(),
            torch.is_grad_enabled(),
        )

    model, image = _Stumbles(ERRORS[how]).train(), torch.rand(1, 3, 4, 4)
    trace = record(_Stumbles(None), (image,))
    before = process()
    try:
        prediction = predict(COUNTERS["fvcore"], model, (image,), trace)
        assert (how == "it fails") == (prediction.failure == "ValueError: stumbled")
    except KeyboardInterrupt:
        assert how == "it is interrupted"
    assert before == process()
    for tensor in (image, *model.parameters(), *model.buffers()):
        assert {} == vars(tensor)
    assert (0, 0, True) == (model.calls.item(), len(model._forward_hooks), model.conv.training)


def test_an_answer_says_why_it_is_not_from_meta() -> None:
    """A convolution is a single kernel there."""
    installed("fvcore")
    answer: Answer = ask(nn.Conv2d(3, 4, 1), torch.rand(1, 3, 4, 4), only=("fvcore",))["fvcore"]
    assert "torch.jit.trace does not see convolutions on the meta device" == answer.why_not_meta
