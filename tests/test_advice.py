"""Advice is exact: whoever makes a change as advised and counts again finds what was promised."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import counted
import pytest
import torch
from advised import Flow, edited, kinds, params, rebuilt, torch_macs, written
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from torch import nn

import convstat
from convstat.advice import shortest
from convstat.advice.effect import NoChangeError, effect
from convstat.advice.gather import Advised, gather
from convstat.advice.graphs import net_of
from convstat.advice.net import Net
from convstat.cli.run import run
from convstat.errors import UsageError
from convstat.results.advice import KINDS, NO_CLAIM, Advice
from convstat.results.documents.schema import report_schema
from convstat.results.report import Report
from convstat.spec import read
from convstat.spec.edits import Editor

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def _variants() -> list[str]:
    found = []
    for path in sorted(CONFIGS.glob("*.yaml")):
        spec = read(path.read_text(encoding="utf-8"), path.name)
        found += [path.name, *(f"{path.name}#{variant}" for variant in spec.variants)]
    return found


@cache
def _advice(name: str) -> Advice:
    return convstat.advise(str(CONFIGS / name))


def _check_spec(argument: str, advice: Advice, folder: Path) -> None:
    """Make each change in the text, and count the whole spec again."""
    path, _, variant = argument.partition("#")
    text = Path(path).read_text(encoding="utf-8")
    before = counted.analyze(argument, counters="none")
    for one in advice.suggestions:
        changed = written(folder, edited(text, [one]))
        after = counted.analyze(f"{changed}#{variant}" if variant else changed, counters="none")
        _compare(before, after, one.saves.params, one.saves.macs, one.saves.other)


def _compare(before: Report, after: Report, params: int, macs: int, other: object) -> None:
    assert (before.totals.params - after.totals.params, before.totals.macs - after.totals.macs) == (params, macs)
    names = {*before.totals.other, *after.totals.other}
    saved = {name: before.totals.other.get(name, 0) - after.totals.other.get(name, 0) for name in names}
    assert {name: amount for name, amount in saved.items() if amount} == other
    assert before.layers[-1].output_shapes == after.layers[-1].output_shapes


@pytest.mark.parametrize("name", _variants())
def test_each_saving_is_what_the_edited_spec_counts_less(name: str, tmp_path: Path) -> None:
    """Every edit, written into the text of every config that ships."""
    _check_spec(str(CONFIGS / name), _advice(name), tmp_path)


TRUE_MISTAKES = {
    "mobilenet_v2.yaml#blog": {"bias-before-norm"},
    "mobilenet_v2.yaml#dense": {"bias-before-norm", "dense-depthwise"},
}
"""What the configs show on purpose: the network as one meets it, and with the groups forgotten."""


@pytest.mark.parametrize("name", _variants())
def test_the_configs_have_no_mistakes(name: str) -> None:
    """All but the two variants that are there to show some."""
    assert TRUE_MISTAKES.get(name, set()) == kinds(_advice(name))


def test_the_forgotten_groups_of_mobilenet_v2() -> None:
    """42,800,938 params where 2,254,858 were meant: a 3x3 of 17 blocks, c*c*9 for c*9 each."""
    advice = _advice("mobilenet_v2.yaml#dense")
    first = advice.mistakes[0]
    widths = [32, 96, *[144] * 2, *[144], *[192] * 2, *[192], *[384] * 3, *[384], *[576] * 2, *[576], *[960] * 2, 960]
    widths = [32, 96, 144, 144, 192, 192, 192, 384, 384, 384, 384, 576, 576, 576, 960, 960, 960]
    assert ("dense-depthwise", 17) == (first.kind, len(first.layers))
    assert sum(9 * c * c - 9 * c for c in widths) == first.saves.params == 40_546_080
    assert (42_800_938, 2_254_858) == (advice.totals.params, advice.totals.params - first.saves.params)
    assert ("                groups: 1 if dense else cin", "                groups: cin") == (
        first.edits[0].before[0],
        first.edits[0].after[0],
    )
    blog = counted.analyze(str(CONFIGS / "mobilenet_v2.yaml#blog"), counters="none").totals
    assert (blog.params, blog.macs) == (2_254_858, advice.totals.macs - first.saves.macs)


def _without_groups(model: nn.Module) -> nn.Module:
    """The same network with every depthwise convolution dense."""
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            parent, _, name = path.rpartition(".")
            c, k = module.in_channels, module.kernel_size
            dense = nn.Conv2d(c, c, k, module.stride, module.padding, bias=module.bias is not None)
            model.get_submodule(parent).register_module(name, dense)
    return model.eval()


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "mnasnet0_5"]
)
def test_forgotten_groups_are_found_in_torch(name: str, torchvision: Any) -> None:
    """All of them: those of squeeze and excitation blocks, and the first, which has no 1x1 before it.

    torch's own counter and the parameters of torchvision's network say what it costs to have forgotten them.
    """
    with torch.device("meta"):
        good = torchvision.models.get_model(name, weights=None).eval()
        bad = _without_groups(torchvision.models.get_model(name, weights=None))
    depthwise = [path for path, module in good.named_modules() if getattr(module, "groups", 1) > 1]
    advice = convstat.advise(bad, (3, 64, 64))
    found = [one for one in advice.mistakes if one.kind == "dense-depthwise"]
    assert set(depthwise) == {one.layers[0] for one in found}
    assert params(bad) - params(good) == sum(one.saves.params for one in found)
    inputs = torch.device("meta")
    with inputs:
        macs = torch_macs(bad, 1, 3, 64, 64) - torch_macs(good, 1, 3, 64, 64)
    assert macs == sum(one.saves.macs for one in found)


class _V1(nn.Module):
    """MobileNetV1, whose convolutions are depthwise or not."""

    def __init__(self, depthwise: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        for c, out, stride in ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 1), (32, 64, 2)):
            conv = nn.Conv2d(c, c, 3, stride, 1, groups=c if depthwise else 1, bias=False)
            layers += [
                conv,
                nn.BatchNorm2d(c),
                nn.ReLU(),
                nn.Conv2d(c, out, 1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify."""
        return self.head(self.features(x).mean([2, 3]))


def test_forgotten_groups_of_a_chain_are_found() -> None:
    """Without residual blocks, the alternation is what tells it."""
    dense, good = _V1(False), _V1(True)
    found = [one for one in convstat.advise(dense, (3, 32, 32)).mistakes if one.kind == "dense-depthwise"]
    assert {"features.3", "features.9", "features.15", "features.21", "features.27"} == {one.layers[0] for one in found}
    assert params(dense) - params(good) == sum(one.saves.params for one in found)
    assert set() == kinds(convstat.advise(good, (3, 32, 32)))


GOOD = (
    *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s", "resnet50"),
    *("regnet_y_400mf", "regnet_x_800mf", "wide_resnet50_2", "resnext50_32x4d", "densenet121", "squeezenet1_1"),
    *("shufflenet_v2_x1_0", "convnext_tiny", "vit_b_16", "swin_t", "mnasnet1_0", "googlenet", "alexnet"),
)


@pytest.mark.parametrize("name", GOOD)
def test_no_mistakes_are_seen_where_there_are_none(name: str) -> None:
    """Networks that are as their authors meant them."""
    assert set() == kinds(convstat.advise(f"torchvision/{name}"))


def test_what_is_true_of_published_networks_is_said() -> None:
    """VGG with batch norms has kept the biases of VGG, and Inception has a head that evaluation does not call."""
    vgg = convstat.advise("torchvision/vgg11_bn", (3, 64, 64))
    assert {"bias-before-norm"} == kinds(vgg)
    assert sum(c for c in (64, 128, 256, 256, 512, 512, 512, 512)) == sum(one.saves.params for one in vgg.mistakes)
    inception = convstat.advise("torchvision/inception_v3")
    assert [("unused", ("AuxLogits",), 3_326_696)] == [(o.kind, o.layers, o.saves.params) for o in inception.mistakes]


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v3_small", "regnet_y_400mf", "vgg11_bn", "googlenet"])
def test_each_saving_is_what_the_rebuilt_module_counts_less(name: str, torchvision: Any) -> None:
    """The constructors are called, the module is traced as a whole again, and the parameters are counted by torch."""
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    # The constructor of RegNet reads values that it computes with tensors.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = torchvision.models.get_model(name, weights=None, **options).eval()
    advice = convstat.advise(model, (3, 64, 64))
    before = convstat.analyze(model, (3, 64, 64))
    tried = {}
    for one in advice.suggestions:
        tried.setdefault(one.kind, []).append(one)
    for alike in tried.values():
        for one in alike[:: max(1, len(alike) // 4)]:
            with torch.device(next(model.parameters()).device):
                changed = rebuilt(model, [one])
            assert params(model) - params(changed) == one.saves.params
            _compare(before, convstat.analyze(changed, (3, 64, 64)), one.saves.params, one.saves.macs, one.saves.other)


def test_the_stride_of_resnet_comes_earlier_in_the_paper() -> None:
    """ResNet-50 of the paper has it in the first 1x1 of a bottleneck, and 3.86 G: the 1x1 has a quarter of the work."""
    [one] = [one for one in _advice("resnet50.yaml").savings if one.kind == "earlier-stride"]
    work = [(256, 128, 56), (512, 256, 28), (1024, 512, 14)]
    assert sum(cin * c * size * size * 3 // 4 for cin, c, size in work) == one.saves.macs
    assert 3_857_973_248 == 4_089_184_256 - one.saves.macs


def test_a_separable_convolution_saves_what_the_arithmetic_says() -> None:
    """A 3x3 from 64 to 128 on 56x56, which becomes 9*64 + 64*128."""
    [one] = [o for o in convstat.advise("Conv2d(64, 128, 3, padding=1)", (64, 56, 56)).savings if o.kind == "separable"]
    assert 64 * 128 * 9 - 64 * 9 - 64 * 128 == one.saves.params
    assert one.saves.params * 56 * 56 == one.saves.macs
    assert (
        "Conv2d(64, 64, kernel_size=3, padding=1, groups=64, bias=False)",
        "Conv2d(64, 128, kernel_size=1)",
    ) == one.edits[0].after


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A convolution of any shape, and an input that it takes."""
    dims = draw(st.integers(1, 3))
    kind = draw(
        st.sampled_from(
            [(nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)]
        )
    )
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = [groups * draw(st.integers(1, 6)) for _ in range(2)]
    sizes = [tuple(draw(st.integers(1, most)) for _ in range(dims)) for most in (4, 3, 2)]
    kernel, stride, dilation = sizes
    padding = tuple(draw(st.integers(0, 2)) for _ in range(dims))
    options = {"dilation": dilation, "groups": groups, "bias": draw(st.booleans())}
    conv = kind[dims - 1](*channels, kernel, stride, padding, **options)
    return conv.eval(), (channels[0], *(draw(st.integers(9, 12)) for _ in range(dims)))


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(1, 3))
def test_savings_of_any_convolution_are_those_of_torch(case: tuple[nn.Module, tuple[int, ...]], batch: int) -> None:
    """The parameters are counted by torch, the MACs by its FlopCounterMode, on what the edits make."""
    conv, shape = case
    model = nn.Sequential(conv)
    advice = convstat.advise(model, torch.zeros(batch, *shape))
    assert not advice.mistakes
    dense = isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d) and conv.groups == 1
    splits = dense and max(conv.kernel_size) > 1 and min(conv.in_channels, conv.out_channels) > 1
    for one in advice.savings:
        changed = rebuilt(model, [one])
        assert params(model) - params(changed) == one.saves.params
        assert torch_macs(model, batch, *shape) - torch_macs(changed, batch, *shape) == one.saves.macs
        assert model(torch.zeros(batch, *shape)).shape == changed(torch.zeros(batch, *shape)).shape
    kernel = int(torch.tensor(conv.kernel_size).prod())
    c, out = conv.in_channels, conv.out_channels
    if splits and c * kernel + c * out < c * out * kernel:
        assert "separable" in {one.kind for one in advice.savings}
    if c % (2 * conv.groups) == 0 == out % (2 * conv.groups):
        assert "groups" in {one.kind for one in advice.savings}


HEAD = "convstat: 1\nname: planted\ninput: [{c}, 16, 16]\nlayers:\n"
NORM = "  - BatchNorm2d\n"


def _conv(out: int | str, kernel: int, *more: str) -> str:
    pad = [f"padding: {kernel // 2}"] if kernel > 1 else []
    return f"  - Conv2d: {{{', '.join([f'out_channels: {out}', f'kernel_size: {kernel}', *pad, *more])}}}\n"


PLAIN = "bias: false"
"""What a convolution before a batch norm says."""


def _mobile(c: int, wide: int, dense: bool) -> str:
    depthwise = _conv("cin", 3, PLAIN) if dense else _conv("cin", 3, "groups: cin", PLAIN)
    act = "  - ReLU6\n"
    return _conv(wide, 1, PLAIN) + NORM + act + depthwise + NORM + act + _conv(c, 1, PLAIN) + NORM


PLANTED = {
    "dense-depthwise": lambda c, n: _mobile(c, (n + 2) * c, True),
    "bias-before-norm": lambda c, n: _conv(8 * n, 3) + NORM + "  - ReLU\n" + _conv(c, 1),
    "norm-twice": lambda c, n: _conv(8 * n, 3, PLAIN) + NORM + NORM + "  - ReLU\n" + _conv(c, 1),
    "activation-twice": lambda c, n: _conv(8 * n, 3) + "  - Sigmoid\n  - ReLU\n" + _conv(c, 1),
    "linear-twice": lambda c, n: "  - ReLU\n" + _conv(8 * n + 2 * c, 1) + _conv(c, 1, PLAIN) + "  - ReLU\n",
    "odd-channels": lambda c, n: _conv(8 * n + 7 + 2 * (n % 2), 3) + "  - ReLU\n" + _conv(c, 3),
    "unused": lambda c, n: (
        _conv(c, 3) + f"    name: kept{n}\n" + _conv(8 * n, 3) + "  - ReLU\n" + _conv(c, 1) + f"    from: kept{n}\n"
    ),
}
"""A piece of a spec in which there is one mistake of a kind; ``c`` channels go in and come out."""

SOUND = (
    lambda c, n: _mobile(c, (n + 1) * c, False),
    lambda c, n: _conv(8 * n, 3, PLAIN) + NORM + "  - ReLU\n" + _conv(c, 3) + "  - GELU\n",
    lambda c, n: _conv(8, 1) + "  - ReLU\n" + _conv(8, 3) + "  - ReLU\n" + _conv(c, 1) + "  - ReLU\n",
    lambda c, n: _conv(8 * n, 3, "stride: 2") + "  - PReLU\n" + _conv(4 * c, 1) + "  - PixelShuffle: 2\n  - ReLU\n",
    lambda c, n: _conv(c, 5, f"groups: {c // 8}") + "  - Sigmoid\n",
    lambda c, n: "  - residual: {body: [{Conv2d: {out_channels: cin, kernel_size: 3, padding: 1}}, ReLU]}\n",
)
"""Pieces in which there is none."""


@st.composite
def planted(draw: st.DrawFn) -> tuple[str, str | None]:
    """A spec put together at random, with one mistake in it or none."""
    c = 8 * draw(st.integers(2, 5))
    pieces = [draw(st.sampled_from(SOUND))(c, draw(st.integers(1, 4))) for _ in range(draw(st.integers(1, 4)))]
    kind = draw(st.sampled_from([None, *PLANTED]))
    if kind is not None:
        place = draw(st.integers(0, len(pieces)))
        pieces.insert(place, "  - Softsign\n" + PLANTED[kind](c, draw(st.integers(1, 4))) + "  - Softsign\n")
    # What the net gives is nobody's to change.
    return HEAD.format(c=c) + "".join(pieces) + _conv(c, 3), kind


@settings(max_examples=60, deadline=None)
@given(planted())
def test_what_is_planted_is_found_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, str | None]
) -> None:
    """In random nets; and each change, made in the text and counted again, saves what was promised."""
    text, kind = case
    folder = tmp_path_factory.mktemp("planted")
    path = folder / "net.yaml"
    path.write_text(text, encoding="utf-8")
    advice = convstat.advise(str(path))
    assert ({kind} if kind else set()) == kinds(advice)
    _check_spec(str(path), advice, folder)


@settings(max_examples=15, deadline=None)
@given(planted())
def test_what_is_planted_is_found_in_torch_too(case: tuple[str, str | None]) -> None:
    """The same nets as modules: what is computed and dropped is seen in a spec alone."""
    text, kind = case
    graph = read(text, "net.yaml").expand()
    with torch.device("meta"):
        model = Flow(graph).eval()
    advice = convstat.advise(model, graph.inputs[0].shape)
    assert ({kind} if kind and kind != "unused" else set()) == kinds(advice)
    before = convstat.analyze(model, graph.inputs[0].shape)
    for one in advice.mistakes:
        with torch.device("meta"):
            changed = rebuilt(Flow(graph).eval(), [one], in_place=True)
        after = convstat.analyze(changed, graph.inputs[0].shape)
        _compare(before, after, one.saves.params, one.saves.macs, one.saves.other)


def test_every_kind_is_planted_or_tested() -> None:
    """The table of kinds, and what the generator plants or the configs show."""
    shown = {one.kind for name in ("resnet50.yaml", "super_resolution.yaml") for one in _advice(name).savings}
    assert set(KINDS) == {*PLANTED, *shown}


@st.composite
def strided(draw: st.DrawFn) -> str:
    """A chain of convolutions, some of them with strides that could come earlier: savings that do not add up."""
    layers = []
    for _ in range(draw(st.integers(2, 5))):
        stride = f"stride: {draw(st.sampled_from([1, 2]))}"
        layers.append(_conv(draw(st.sampled_from([3, 6, 8, 24])), draw(st.sampled_from([1, 3])), stride))
    return HEAD.format(c=6) + "  - ReLU\n".join(layers)


@settings(max_examples=80, deadline=None)
@given(st.one_of(strided(), planted().map(lambda case: case[0])), st.data(), st.sampled_from(["macs", "params", ""]))
def test_the_shortest_list_is_as_short_as_any(text: str, data: st.DataObject, of: str) -> None:
    """Every set of changes is tried, smallest first, each counted as a whole; what some of them save is wanted."""
    spec = read(text, "net.yaml")
    net = net_of(spec.expand(), Editor(spec.source))
    advised = gather(net)[:9]
    numbers = data.draw(st.sets(st.sampled_from(range(len(advised))), max_size=3)) if advised else ()
    wanted = [advised[number] for number in numbers]
    try:
        saves = effect(net, [edit for one in wanted for edit in one.finding.edits]).saves
    except NoChangeError:
        assume(False)
    more = data.draw(st.integers(0, 1))
    need = shortest.Need(
        max(0, saves.params) + more if of != "macs" else 0, max(0, saves.macs) + more if of != "params" else 0
    )
    found = shortest.shortest(net, advised, need)
    assert found.is_shortest
    assert _fewest(net, advised, need) == (len(found.changes) if need.is_met(found.saves) else None)


def _fewest(net: Net, advised: Sequence[Advised], need: shortest.Need) -> int | None:
    """The size of the smallest set of changes that saves what is needed, of all sets."""
    for size in range(len(advised) + 1):
        for chosen in itertools.combinations(advised, size):
            try:
                saves = effect(net, [edit for one in chosen for edit in one.finding.edits]).saves
            except NoChangeError:
                continue
            if need.is_met(saves):
                return size
    return None


@pytest.mark.parametrize(
    ("name", "budgets"),
    [
        ("resnet50.yaml", ["macs=2G"]),
        ("resnet50.yaml", ["macs=1500M", "params=10M"]),
        ("resnet50.yaml", ["flops=5G", "params=14M"]),
        ("mobilenet_v2.yaml", ["macs=240M"]),
        ("mobilenet_v2.yaml#dense", ["params=2.25M"]),
        ("super_resolution.yaml", ["macs_per_pixel=800k"]),
        ("unet.yaml", ["macs=10G"]),
        ("resnet50.yaml", ["macs=1170M"]),
        ("alexnet.yaml", ["macs=300M", "params=60M"]),
    ],
)
def test_a_plan_reaches_its_budget_when_all_its_edits_are_made(name: str, budgets: list[str], tmp_path: Path) -> None:
    """All edits of the list together, in the text, counted again: exactly what the plan says."""
    advice = convstat.advise(str(CONFIGS / name), budget=budgets)
    plan = advice.plan
    assert plan is not None
    assert plan.reached
    assert plan.is_shortest
    path, _, variant = name.partition("#")
    text = written(tmp_path, edited((CONFIGS / path).read_text(encoding="utf-8"), [plan]))
    after = counted.analyze(f"{text}#{variant}" if variant else text, counters="none")
    before = counted.analyze(str(CONFIGS / name), counters="none")
    _compare(before, after, plan.saves.params, plan.saves.macs, plan.saves.other)
    assert all(goal.after <= goal.limit for goal in plan.goals)


@pytest.mark.parametrize(
    ("name", "budget"), [("resnet18", "macs=60M"), ("vgg11_bn", "macs=200M"), ("mobilenet_v2", "macs=14M")]
)
def test_a_plan_for_a_module_is_counted_as_a_whole(name: str, budget: str, torchvision: Any) -> None:
    """All constructors are called on one copy, which is traced again."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None).eval()
    advice = convstat.advise(model, (3, 64, 64), budget=budget)
    plan = advice.plan
    assert plan is not None
    assert plan.reached
    assert len(plan.changes) > 1
    with torch.device("meta"):
        changed = rebuilt(model, [plan])
    before, after = convstat.analyze(model, (3, 64, 64)), convstat.analyze(changed, (3, 64, 64))
    _compare(before, after, plan.saves.params, plan.saves.macs, plan.saves.other)


def test_changes_of_one_line_are_written_together(tmp_path: Path) -> None:
    """A bias that goes, more groups, and a stride that comes, in one convolution."""
    text = (
        HEAD.format(c=16) + _conv(32, 3) + NORM + "  - ReLU\n" + _conv(32, 3, "stride: 2") + "  - ReLU\n" + _conv(5, 1)
    )
    path = written(tmp_path, text)
    before = counted.analyze(path, counters="none")
    advice = convstat.advise(path, budget=[f"params={before.totals.params}"])
    chosen = [one for one in advice.suggestions if one.kind in ("bias-before-norm", "separable", "earlier-stride")]
    assert {"conv2d", "conv2d_2"} == {layer for one in chosen for layer in one.layers}
    needs = sum(one.saves.params for one in chosen if one.kind != "earlier-stride")
    found = convstat.advise(path, budget=[f"params={before.totals.params - needs}", "macs=250k"])
    assert found.plan is not None
    assert found.plan.reached
    after = counted.analyze(written(tmp_path, edited(text, [found.plan])), counters="none")
    _compare(before, after, found.plan.saves.params, found.plan.saves.macs, found.plan.saves.other)
    assert 4 == len(found.plan.changes)


def test_savings_that_do_not_add_up_are_counted_together() -> None:
    """An earlier stride leaves a quarter of what a separable convolution would save in that layer."""
    text = HEAD.format(c=16) + _conv(32, 3) + "  - ReLU\n" + _conv(32, 3, "stride: 2") + "  - ReLU\n" + _conv(8, 1)
    spec = read(text, "net.yaml")
    net = net_of(spec.expand(), Editor(spec.source))
    advised = {one.finding.kind + one.finding.layers[0]: one for one in gather(net)}
    stride, separable = advised["earlier-strideconv2d"], advised["separableconv2d"]
    both = effect(net, [*stride.finding.edits, *separable.finding.edits]).saves
    dense, split = 16 * 32 * 9, 16 * 9 + 16 * 32
    assert dense * (256 - 64) == stride.effect.saves.macs
    assert (dense - split) * 256 == separable.effect.saves.macs
    assert dense * 256 - split * 64 == both.macs < stride.effect.saves.macs + separable.effect.saves.macs


def test_a_budget_out_of_reach_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and the nearest list."""
    assert 1 == run(["advise", str(CONFIGS / "mobilenet_v1.yaml"), "--budget", "macs=100M", "-f", "json"])
    plan = json.loads(capfd.readouterr().out)["plan"]
    assert (False, [1, 2], False) == (plan["reached"], plan["changes"], plan["goals"][0]["met"])
    assert 1 == run(["advise", str(CONFIGS / "mobilenet_v1.yaml"), "--budget", "macs=100M", "--width", "80"])
    assert "These changes cannot reach it; the nearest list: 1, 2." in capfd.readouterr().out


def test_a_budget_that_is_met_needs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The limit is inclusive, as everywhere."""
    macs = _advice("mobilenet_v1.yaml").totals.macs
    for limit, changes in ((macs, 0), (macs - 1, 1)):
        plan = convstat.advise(str(CONFIGS / "mobilenet_v1.yaml"), budget=f"macs={limit}").plan
        assert plan is not None
        assert plan.reached
        assert changes == len(plan.changes)
    plan = convstat.advise(str(CONFIGS / "mobilenet_v1.yaml"), budget=f"flops={2 * macs - 1}").plan
    assert plan is not None
    assert plan.after.macs < macs


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("macs=+2%", "'+2%' is relative to a base, and advice has none"),
        ("macs(each)=3M", "advice is given on the whole model"),
        ("macs@conv*=3M", "advice is given on the whole model"),
        ("layers=3", "advice is given on params, macs, flops, macs_per_pixel, not on layers"),
        ("bogus=2", "unknown metric 'bogus'"),
        ("macs<=3", "--budget takes METRIC=AMOUNT without a comparison"),
        ("macs", "--budget takes METRIC=AMOUNT, not 'macs'"),
    ],
)
def test_budgets_that_are_none_are_refused(budget: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    """With the caret under them, and what would be right."""
    assert 2 == run(["advise", str(CONFIGS / "unet.yaml"), "--budget", budget])
    said = capfd.readouterr().err
    assert message in said
    assert "help: " in said
    with pytest.raises(UsageError):
        convstat.advise(str(CONFIGS / "unet.yaml"), budget=budget)


@pytest.mark.parametrize("arguments", [["report.json"], ["a.yaml", "b.yaml"], ["no.yaml"]])
def test_targets_that_cannot_be_advised_on(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A saved report, several targets, a file that is not there."""
    assert 2 == run(["advise", *(str(tmp_path / name) for name in arguments)])
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["mobilenet_v2.yaml#dense", "resnet50.yaml", "asymmetric.yaml"])
def test_the_document_fits_its_schema(name: str) -> None:
    """With a plan and without."""
    validator = Draft202012Validator(report_schema())
    for advice in (_advice(name), convstat.advise(str(CONFIGS / name), budget="macs=300M")):
        document = json.loads(json.dumps(advice.to_dict(), default=float))
        validator.validate(document)
        assert "convstat.advice/1" == document["schema"]
        assert NO_CLAIM == document["accuracy"]
        assert [n + 1 for n in range(len(document["suggestions"]))] == [o["number"] for o in document["suggestions"]]


@pytest.mark.parametrize("format", ["table", "markdown", "html", "csv", "jsonl"])
def test_every_format_says_every_saving(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Exact figures, and for people the sentence about accuracy."""
    assert 0 == run(["advise", str(CONFIGS / "mobilenet_v2.yaml#dense"), "-f", format, "--width", "80"])
    said = capfd.readouterr().out
    plain = said.replace(",", "")
    for one in _advice("mobilenet_v2.yaml#dense").suggestions:
        assert str(one.saves.params) in plain
    if format in ("table", "markdown", "html"):
        assert "nothing is said about accuracy" in " ".join(said.split())
    if format == "table":
        assert 80 >= max(map(len, said.splitlines()))


def test_mistakes_come_first_and_the_largest_saving_of_each() -> None:
    """By MACs, then by params."""
    advice = _advice("mobilenet_v2.yaml#dense")
    ranks = [(one.verdict != "mistake", -one.saves.macs, -one.saves.params) for one in advice.suggestions]
    assert sorted(ranks) == ranks


def test_top_shows_some_savings_and_all_mistakes(capfd: pytest.CaptureFixture[str]) -> None:
    """What is left out is counted."""
    assert 0 == run(["advise", str(CONFIGS / "mobilenet_v2.yaml#dense"), "--top", "1"])
    said = capfd.readouterr().out
    assert "likely mistakes (6)" in said
    assert "3 savings more: --top 4, or -f json" in said
    assert 5 == said.count("; bias -")


def test_an_unused_block_is_found(tmp_path: Path) -> None:
    """It costs nothing, and is there by mistake."""
    text = HEAD.format(c=8).replace("layers:", "blocks:\n  idle:\n    layers:\n      - ReLU\nlayers:") + _conv(8, 3)
    [one] = convstat.advise(written(tmp_path, text)).mistakes
    assert ("unused", 0, 0) == (one.kind, one.saves.params, one.saves.macs)
    assert (6, 8) == (one.edits[0].line, one.edits[0].end_line) or (5, 7) == (one.edits[0].line, one.edits[0].end_line)


def test_what_belongs_to_others_is_left_alone(tmp_path: Path) -> None:
    """A layer whose weights are shared, and an item that another names, have no edit of their own."""
    text = (
        HEAD.format(c=16)
        + _conv(16, 3)
        + "    name: first\n  - ReLU\n  - Conv2d\n".replace("  - Conv2d\n", "  - Conv2d:\n    share: first\n")
        + "  - ReLU\n  - ReLU\n    name: second\n".replace(
            "  - ReLU\n    name: second\n", "  - ReLU:\n    name: second\n"
        )
        + "  - add: [second, prev]\n"
    )
    advice = convstat.advise(written(tmp_path, text))
    assert () == advice.suggestions


@pytest.mark.parametrize(
    ("key", "left"),
    [
        ("stem.kernel_size", {"groups"}),
        ("stage1.pointwise.bias", {"separable"}),
        ("stage3.0.depthwise.padding", {"separable"}),
    ],
)
def test_what_the_command_line_sets_is_left_alone(key: str, left: set[str]) -> None:
    """It is not written in the file, so no edit of a line that makes it does what is said; nor of the other calls."""
    value = {"kernel_size": 5, "bias": True, "padding": 2}[key.rpartition(".")[2]]
    advice = convstat.advise(str(CONFIGS / "mobilenet_v1.yaml"), **{key: value})
    found = {one.kind for one in advice.suggestions}
    assert left == found or (key.startswith("stage3") and found <= {"separable", "groups"} and "separable" in found)


def test_a_line_that_makes_a_shared_layer_is_left_alone(tmp_path: Path) -> None:
    """One call of the block shares its weights with a later layer: the line is that of all calls."""
    text = (
        "convstat: 1\nname: s\ninput: [16, 8, 8]\nblocks:\n  unit:\n    layers:\n      - Conv2d: {out_channels: 16, "
        "kernel_size: 3, padding: 1}\n        name: conv\n      - ReLU\nlayers:\n  - unit:\n    name: one\n  - unit:\n"
        "    name: two\n  - Conv2d:\n    share: one.conv\n  - ReLU\n"
    )
    assert () == convstat.advise(written(tmp_path, text)).suggestions
    alone = text.replace("  - Conv2d:\n    share: one.conv\n  - ReLU\n", "")
    assert {"separable", "groups"} == {one.kind for one in convstat.advise(written(tmp_path, alone)).suggestions}


PARTS = """convstat: 1
name: codec
vars: {planes: 3}
parts:
  encoder:
    input: [3, 16, 16]
    calls: planes
    layers:
      - Conv2d: {out_channels: 16, kernel_size: 3, padding: 1}
        name: body
      - BatchNorm2d
      - ReLU
      - Conv2d: {out_channels: 24, kernel_size: 1}
      - ReLU
      - Conv2d: {out_channels: 8, kernel_size: 3, stride: 2, padding: 1}
  decoder:
    input: [8, 8, 8]
    layers:
      - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1, groups: 2}
  chroma:
    same: encoder
    input: [3, 8, 8]
"""


def test_parts_are_advised_on_as_often_as_they_are_called(tmp_path: Path) -> None:
    """Their MACs are those of all calls, their parameters are there once; the end of each part keeps its shape."""
    path = tmp_path / "codec.yaml"
    path.write_text(PARTS, encoding="utf-8")
    advice = convstat.advise(str(path))
    assert {"bias-before-norm"} == kinds(advice)
    assert {"separable", "groups", "earlier-stride"} == {one.kind for one in advice.savings}
    body = next(one for one in advice.savings if one.kind == "separable" and "encoder.body" in one.layers)
    assert 3 * 16 * 9 - 3 * 9 - 3 * 16 == body.saves.params
    assert ("encoder.body", "chroma.body") == body.layers
    assert (3 * 16 * 16 + 8 * 8) * body.saves.params == body.saves.macs
    _check_spec(str(path), advice, tmp_path)


def test_advice_shows_itself() -> None:
    """In words, as JSON, and as a page."""
    advice = _advice("mobilenet_v2.yaml#dense")
    assert "<Advice on mobilenet_v2#dense: 6 likely mistakes, 4 possible savings>" == repr(advice)
    assert str(advice).startswith("mobilenet_v2#dense")
    assert json.loads(advice.to_json())["schema"] == "convstat.advice/1"  # type: ignore[attr-defined]
    assert "groups: cin" in advice._repr_html_()  # type: ignore[attr-defined]


def test_a_module_that_is_shared_is_changed_for_all_its_calls() -> None:
    """Its parameters go once, its MACs at every call."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
            self.idle = nn.Linear(7, 3)
            self.head = nn.Conv2d(16, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.conv(torch.relu(self.conv(x)))))

    model = Twice()
    advice = convstat.advise(model, (16, 8, 8), budget="params=2000")
    assert [("unused", 7 * 3 + 3)] == [(one.kind, one.saves.params) for one in advice.mistakes]
    separable = next(one for one in advice.savings if one.kind == "separable")
    assert 16 * 16 * 9 - 16 * 9 - 16 * 16 == separable.saves.params
    assert 2 * 64 * separable.saves.params == separable.saves.macs
    assert advice.plan is not None
    assert advice.plan.reached
    assert Fraction(advice.plan.after.params) == params(rebuilt(model, [separable]))
    assert [None, None] == [m.grad for m in (model.conv.weight, model.head.weight)]
    assert model.training


def test_advice_on_a_spec_costs_little_more_than_counting_it() -> None:
    """Less than twice, in calls of functions, which do not depend on who else uses the machine."""
    path = str(CONFIGS / "mobilenet_v1.yaml")
    assert _calls(lambda: convstat.advise(path)) < 2 * _calls(lambda: convstat.analyze(path))


def _calls(call: Callable[[], object]) -> int:
    """The calls of functions, those written in C included, once all is imported."""
    import cProfile
    import pstats

    call()
    profile = cProfile.Profile()
    profile.runcall(call)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]
