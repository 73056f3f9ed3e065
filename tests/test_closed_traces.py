"""Closed forms of models that run: at other sizes, they come to what is counted there."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import counted
import pytest
from jsonschema import Draft202012Validator

from convstat.cli.run import run
from convstat.render.views.formula import facts_of
from convstat.results.closed import ClosedForms
from convstat.results.documents.schema import report_schema

UNET = """
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Sequential):
    def __init__(self, inner, outer):
        layers = [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(), nn.Conv2d(outer, outer, 3, padding=1), nn.ReLU()]
        super().__init__(*layers)


class UNet(nn.Module):
    def __init__(self, width=4, depth=3):
        super().__init__()
        self.down, self.up, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = 3
        for level in range(depth):
            self.down.append(Block(channels, width << level))
            channels = width << level
        self.bottom = Block(channels, 2 * channels)
        for level in reversed(range(depth)):
            self.up.append(nn.ConvTranspose2d(width << (level + 1), width << level, 2, stride=2))
            self.merge.append(Block(width << (level + 1), width << level))
        self.head = nn.Conv2d(width, 2, 1)

    def fit(self, x, like):
        return x

    def forward(self, x):
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips)):
            x = merge(torch.cat([skip, self.fit(up(x), skip)], 1))
        return self.head(x)


class Resized(UNet):
    def fit(self, x, like):
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear")


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.shape[2] > 20 else self.conv(self.conv(x)[:, :3])


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(self.conv(x))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids):
        return self.layer(self.table(ids))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with small models."""
    path = tmp_path_factory.mktemp("models") / "small.py"
    path.write_text(UNET)
    return str(path)


def _closed(target: str, letters: str, **asked: Any) -> ClosedForms:
    network = counted.network(target, letters=tuple(letters.split(",")), **asked)
    Draft202012Validator(report_schema()).validate(network.to_dict())
    assert network.closed is not None
    return network.closed


def _check(target: str, found: ClosedForms, points: list[dict[str, int]], channels: int = 3) -> int:
    """Compare with the count at other sizes, layer by layer; give how many of them the form is known for."""
    held = 0
    for values in points:
        if not all(condition.holds(values) for condition in found.conditions):
            continue
        held += 1
        shape = f"{channels}x{values['H']}x{values['W']}"
        report = counted.analyze(target, counters="none", inputs=[shape], batch=values["N"])
        assert report.totals.macs == found.macs.value(values)
        assert report.totals.params == found.params.value(values)
        assert [row.macs for row in report.layers] == [layer.macs.value(values) for layer in found.layers]
    return held


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_numbers_in_the_forms_give_what_is_counted_at_these_sizes(torchvision: ModuleType, name: str) -> None:
    """Odd sizes too, and other batches."""
    found = _closed(f"torchvision/{name}", "N,H,W")
    assert not found.settled
    points = [{"N": 1, "H": 224, "W": 224}, {"N": 3, "H": 97, "W": 161}, {"N": 2, "H": 33, "W": 500}]
    assert 3 == _check(f"torchvision/{name}", found, points)


def test_the_form_of_resnet18_is_the_one_by_hand(torchvision: ModuleType) -> None:
    """Of its stem 64*3*7*7 at half the size; of its first stage four of 64*64*3*3 at a quarter."""
    found = _closed("torchvision/resnet18", "H,W")
    said = found.writer.form(found.macs)
    assert f"{64 * 3 * 7 * 7}*ceil(H/2)*ceil(W/2)" in said
    assert f"{4 * 64 * 64 * 3 * 3}*ceil(H/4)*ceil(W/4)" in said
    assert said.endswith(f"+ {512 * 1000}")


def test_a_model_that_is_specialised_says_on_what(torchvision: ModuleType) -> None:
    """ViT asserts its size, at a line of its own; the batch stays a letter."""
    found = _closed("torchvision/vit_b_16", "N,H,W")
    assert {"H": 224, "W": 224} == {item.name: item.value for item in found.settled}
    assert all("specialised on it at vision_transformer.py:" in item.why for item in found.settled)
    assert f"{16_848_500_736 + 715_327_488}*N" == found.writer.form(found.macs)
    assert ("letters", "N = 1") == next(facts_of(found))
    assert ("letters", "none") == next(facts_of(_closed("torchvision/vit_b_16", "H,W")))


def test_a_unet_needs_multiples_where_nothing_is_fitted(models: str) -> None:
    """Concatenation wants equal sizes: those that are halved three times without a rest."""
    found = _closed(f"{models}:UNet", "N,H,W", inputs=["3x64x96"])
    assert {"H is a multiple of 8", "W is a multiple of 8"} <= set(found.said)
    points = [{"N": 2, "H": 40, "W": 16}, {"N": 1, "H": 64, "W": 96}, {"N": 1, "H": 41, "W": 64}]
    assert 2 == _check(f"{models}:UNet", found, points)


def test_a_unet_that_fits_its_sizes_takes_any(models: str) -> None:
    """With floors where it is halved."""
    found = _closed(f"{models}:Resized", "N,H,W", inputs=["3x64x96"])
    points = [{"N": 2, "H": 41, "W": 17}, {"N": 1, "H": 64, "W": 96}, {"N": 5, "H": 19, "W": 30}]
    assert 3 == _check(f"{models}:Resized", found, points)


def test_a_decision_of_the_model_is_a_condition(models: str) -> None:
    """The form is of the branch that was taken."""
    found = _closed(f"{models}:Reads", "H,W", inputs=["3x30x30"])
    assert "H >= 21" in found.said
    assert f"{4 * 3 * 9}*H*W" == found.writer.form(found.macs)
    other = _closed(f"{models}:Reads", "H,W", inputs=["3x20x30"])
    assert "H <= 20" in other.said
    assert f"{2 * 4 * 3 * 9}*H*W" == other.writer.form(other.macs)


def test_calls_of_one_module_are_told_apart(models: str) -> None:
    """Each has its own size."""
    found = _closed(f"{models}:Shared", "N,H,W", inputs=["4x64x64"])
    texts = [found.writer.form(layer.macs) for layer in found.layers if layer.macs]
    assert ["144*N*ceil(H/2)*ceil(W/2)", "144*N*ceil(H/4)*ceil(W/4)"] == texts
    assert 1 == _check(f"{models}:Shared", found, [{"N": 3, "H": 37, "W": 52}], channels=4)


def test_a_sequence_has_a_length(models: str) -> None:
    """Attention is quadratic in it: 4*d*d + 2*L*d, and the two linear maps, at each token."""
    found = _closed(f"{models}:Tokens", "N,L", inputs=["12:int64"])
    width, wide = 8, 16
    for batch, length in ((1, 12), (3, 7), (2, 50)):
        by_hand = batch * length * (4 * width**2 + 2 * length * width + 2 * width * wide)
        assert by_hand == found.macs.value({"N": batch, "L": length})


def test_mistakes_are_said(torchvision: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A letter that there is not, and a count of a backward pass."""
    assert 2 == run(["formula", "torchvision/resnet18", "--in", "Z"])
    assert "letters: N, C, H, W" in capsys.readouterr().err


def test_the_function_of_a_zoo_model(torchvision: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --in, of all sizes of its input."""
    assert 0 == run(["formula", "torchvision/resnet18", "-f", "python"])
    function: dict[str, Any] = {}
    exec(capsys.readouterr().out, function)
    assert {"params": 11_689_512, "macs": 1_814_073_344} == function["resnet18"]()
    with pytest.raises(ValueError, match="holds where"):
        function["resnet18"](H=20)


def test_a_wrong_price_is_refused(torchvision: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come to the count at the present sizes is not shown."""
    from convstat.commands import closed_trace
    from convstat.formulas.cost import Cost
    from convstat.formulas.derivation import InconsistentError

    right = closed_trace.price

    def wrong(call: Any) -> Cost | None:
        found = right(call)
        return found if found is None or call.op != "aten.convolution" else Cost(found.macs + 1, found.other)

    monkeypatch.setattr(closed_trace, "price", wrong)
    with pytest.raises(InconsistentError, match="does not come to"):
        _closed("torchvision/resnet18", "N")
