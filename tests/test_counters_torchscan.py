"""torchscan: what it said of every probe, what its rules are, and the real one on torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from counted import analyze
from live import ask, installed
from torch import nn
from zoo_classifiers import SAMPLE, classifiers

from convstat.counters import COUNTERS, Prediction
from convstat.counters.torchscan import walk as torchscan_walk
from convstat.counters.torchscan.macs import RULES
from convstat.trace.record import record

pytestmark = pytest.mark.filterwarnings("ignore")


def predict(model: nn.Module, *inputs: torch.Tensor) -> Prediction:
    """Predict it, whether it is installed or not."""
    return COUNTERS["torchscan"].predict(record(model, inputs))


def amounts(prediction: Prediction) -> dict[str | None, int]:
    """The MACs by cause."""
    found: dict[str | None, int] = {}
    for term in prediction.terms:
        if term.macs:
            found[term.code] = found.get(term.code, 0) + term.macs
    return found


def test_a_transposed_convolution_is_priced_at_its_outputs() -> None:
    """Four times too much for a stride of two, and four steps a dimension for the sizes."""
    prediction = predict(nn.ConvTranspose2d(8, 4, 2, stride=2), torch.rand(1, 8, 5, 5))
    products = 8 * 5 * 5 * 4 * 2 * 2
    assert {
        None: products,
        "transposed_output": 4 * 10 * 10 * 8 * 2 * 2 - products,
        "padding_arithmetic": 4 * 2,
    } == amounts(prediction)


def test_an_integer_kernel_is_taken_for_the_whole_window() -> None:
    """Comparing windows of 2 x 2 takes 3 steps; it says 1, and 3 where the size is written as a tuple."""
    image = torch.rand(1, 8, 10, 10)
    assert {"pool_window": 3 * 8 * 5 * 5, "pool_kernel_side": -2 * 8 * 5 * 5} == amounts(
        predict(nn.MaxPool2d(2), image)
    )
    assert {"pool_window": 3 * 8 * 5 * 5} == amounts(predict(nn.MaxPool2d((2, 2)), image))
    assert {"pool_window": (2 - 1) * 8 * 5} == amounts(predict(nn.MaxPool1d(2), torch.rand(1, 8, 10)))


def test_adaptive_windows_are_guessed_where_sizes_do_not_divide() -> None:
    """From 10 to 3, windows of 4 overlap; it takes the remainder and one, which is 2."""
    prediction = predict(nn.AdaptiveMaxPool2d(3), torch.rand(1, 8, 10, 10))
    exact = 8 * (12 * 12 - 3 * 3)
    assert {"pool_window": exact, "adaptive_window": 8 * 3 * 3 * (2 * 2 - 1) - exact} == amounts(prediction)
    assert {"pool_window": 8 * (10 * 10 - 1 + 2)} == amounts(predict(nn.AdaptiveAvgPool2d(1), torch.rand(1, 8, 10, 10)))


@dataclass
class _Output:
    """What torchscan finds no tensor in."""

    image: torch.Tensor


class _Wrapped(nn.Conv2d):
    """Wraps what it returns."""

    def forward(self, x: torch.Tensor) -> _Output:  # type: ignore[override]
        return _Output(super().forward(x))


class _Unwraps(nn.Module):
    """Calls a layer without a figure, and one with."""

    def __init__(self) -> None:
        super().__init__()
        self.wrapped, self.plain = _Wrapped(8, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.plain(self.wrapped(x).image)


def test_a_call_without_a_figure_leaves_its_products_out() -> None:
    """As many as the layer makes: 4 x 8 at each of 16 places."""
    prediction = predict(_Unwraps(), torch.rand(1, 8, 4, 4))
    assert {None: 16 * (8 * 4 + 4 * 2), "formula_fails": -16 * 8 * 4} == amounts(prediction)
    ask(_Unwraps(), torch.rand(1, 8, 4, 4), only=(installed("torchscan"),))["torchscan"].check("an object")


def test_a_formula_that_raises_leaves_the_call_out() -> None:
    """A list as the kernel size cannot be compared; the rest of the model has its figures."""
    model = nn.Sequential(nn.Conv2d(8, 4, 1), nn.MaxPool2d([2, 2]))
    prediction = predict(model, torch.rand(1, 8, 4, 4))
    assert 4 * 4 * 4 * 8 == prediction.macs
    assert None is predict(nn.MaxPool2d([2, 2]), torch.rand(1, 8, 4, 4)).macs
    ask(model, torch.rand(1, 8, 4, 4), only=(installed("torchscan"),))["torchscan"].check("a list")


class _Masked(nn.Module):
    """Attention with masks, and with its weights."""

    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        hidden = torch.zeros(x.shape[0], length, dtype=torch.bool)
        mask = torch.zeros(length, length, dtype=torch.bool)
        return self.attention(x, x, x, attn_mask=mask, key_padding_mask=hidden, average_attn_weights=False)[0]


TRANSFORMERS = {
    "a transformer": (lambda: nn.Transformer(16, 4, 1, 2, 32), [(7, 2, 16), (5, 2, 16)]),
    "one that takes the batch first": (lambda: nn.Transformer(16, 4, 1, 1, 32, batch_first=True), [(2, 7, 16)] * 2),
    "one with another activation": (lambda: nn.Transformer(16, 4, 1, 1, 32, activation="gelu"), [(7, 2, 16)] * 2),
    "one without biases": (lambda: nn.Transformer(16, 4, 2, 1, 32, bias=False), [(7, 2, 16)] * 2),
    "an encoder": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32), 2), [(7, 2, 16)]),
    "masked attention": (_Masked, [(2, 7, 16)]),
    "attention with more keys": (lambda: _Masked(add_zero_attn=True), [(2, 7, 16)]),
    "attention with biased keys": (lambda: _Masked(add_bias_kv=True), [(2, 7, 16)]),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_attention_and_transformers_have_flops_and_no_macs_of_their_own(name: str) -> None:
    """The figure in FLOPs has rules of its own, for the whole Transformer if that is the model."""
    make, shapes = TRANSFORMERS[name]
    model, inputs = make(), tuple(torch.rand(shape) for shape in shapes)
    answer = ask(model, *inputs, only=(installed("torchscan"),))["torchscan"]
    answer.check(name)
    assert answer.reported is not None
    assert answer.reported.native == answer.prediction.native


def test_a_wrong_rule_of_torchscan_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Linear that costs seven is contradicted by the real tool."""
    installed("torchscan")
    wrong = {**RULES, "torch.nn.modules.linear.Linear": lambda info, source, output: [(None, 7)]}
    monkeypatch.setattr(torchscan_walk, "RULES", wrong)
    row = analyze("Linear(8, 16)", inputs=["8"], counters="torchscan").counters[0]
    assert 8 * 16 - 7 == row.unexplained.macs


def test_no_classifier_of_torchvision_is_left_out(torchvision: Any) -> None:
    """The names of other tasks are, and nothing else is."""
    assert set(torchvision.models.list_models(torchvision.models)) <= set(classifiers())
    assert set(SAMPLE) <= set(classifiers())
