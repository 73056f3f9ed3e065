"""Figures that anyone can check: from papers, from torchvision's tables, and by arithmetic that is written out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import prod
from types import ModuleType
from typing import Any

import pytest
from counted import analyze

from convstat.errors import SpecError
from convstat.results.report import Report


def count(target: str, *shapes: str, **overrides: object) -> tuple[int, int]:
    """The params and MACs of a target, by convstat alone."""
    totals = report(target, *shapes, **overrides).totals
    return totals.params, totals.macs


def report(target: str, *shapes: str, **overrides: object) -> Report:
    """The report of a target, by convstat alone."""
    return analyze(target, overrides, inputs=shapes, counters="none")


def config(root: Any, name: str) -> str:
    """The path of a shipped spec, with its variant if there is one."""
    return f"{root}/configs/{name}"


# One layer at a time.


def test_a_convolution_has_a_weight_for_each_tap_of_each_pair_of_channels() -> None:
    """4 -> 8 channels, 3x3: 288 parameters, 296 with bias, 144 in two groups."""
    assert (8 * 4 * 3 * 3, 8 * 4 * 3 * 3 * 64 * 64) == (288, 1_179_648)
    assert (288, 288 * 62 * 62) == count("Conv2d(4, 8, kernel_size=3, bias=False)", "4x64x64")
    assert (288 + 8, 288 * 62 * 62) == count("Conv2d(4, 8, kernel_size=3)", "4x64x64")
    assert (8 * (4 // 2) * 3 * 3, 144 * 62 * 62) == count(
        "Conv2d(4, 8, kernel_size=3, groups=2, bias=False)", "4x64x64"
    )


@pytest.mark.parametrize(
    ("channels", "standard", "depthwise", "pointwise"), [((4, 8), 288, 36, 32), ((3, 4), 108, 27, 12)]
)
def test_a_separable_convolution_is_a_depthwise_and_a_pointwise_one(
    channels: tuple[int, int], standard: int, depthwise: int, pointwise: int
) -> None:
    """Ci*K + Ci*Co instead of Ci*Co*K."""
    cin, cout = channels
    shape = f"{cin}x16x16"
    assert (cin * cout * 9, cin * 9, cin * cout) == (standard, depthwise, pointwise)
    assert standard == count(f"Conv2d({cin}, {cout}, 3, bias=False)", shape)[0]
    assert depthwise == count(f"Conv2d({cin}, {cin}, 3, groups={cin}, bias=False)", shape)[0]
    assert pointwise == count(f"Conv2d({cin}, {cout}, 1, bias=False)", shape)[0]


@pytest.mark.parametrize(
    ("groups", "weight"), [(1, (6, 6, 1, 1)), (2, (6, 3, 1, 1)), (3, (6, 2, 1, 1)), (6, (6, 1, 1, 1))]
)
def test_groups_divide_the_input_channels_that_a_kernel_sees(groups: int, weight: tuple[int, ...]) -> None:
    """conv 6 -> 6, 1x1: the weight is 6 x (6/groups) x 1 x 1, as in torch."""
    from torch import nn

    module = nn.Conv2d(6, 6, 1, groups=groups, bias=False)
    assert weight == tuple(module.weight.shape)
    assert prod(weight) == count(f"Conv2d(6, 6, 1, groups={groups}, bias=False)", "6x8x8")[0]


def test_groups_that_do_not_divide_the_channels_are_refused_in_torchs_words() -> None:
    """conv 6 -> 6 in 4 groups cannot be; the message is torch's own."""
    from torch import nn

    with pytest.raises(ValueError, match="in_channels must be divisible by groups"):
        nn.Conv2d(6, 6, 1, groups=4)
    with pytest.raises(SpecError, match="in_channels must be divisible by groups"):
        count("Conv2d(6, 6, 1, groups=4)", "6x8x8")


def test_256_kernels_of_5x5x3_take_the_known_number_of_multiplications(root: Any) -> None:
    """12x12x3 -> 8x8x256: 1,228,800 in one step, 53,952 in two."""
    assert 256 * 5 * 5 * 3 * 8 * 8 == 1_228_800
    assert 3 * 5 * 5 * 8 * 8 + 256 * 3 * 1 * 1 * 8 * 8 == 53_952
    name = "multi_channel_reference.yaml"
    assert 1_228_800 == count(config(root, name))[1]
    assert 53_952 == count(config(root, f"{name}#separable"))[1]
    assert 1 * 5 * 5 * 3 * 8 * 8 == count(config(root, f"{name}#one"))[1]
    assert 3 * 5 * 5 * 8 * 8 + 1 * 3 * 8 * 8 == count(config(root, f"{name}#one_separable"))[1]


def test_an_acblock_costs_more_in_training_and_nothing_when_deployed(root: Any) -> None:
    """64 -> 64 channels, 3x3 + 3x1 + 1x3 with three batch norms; deployed it is one 3x3 convolution with bias."""
    assert (3 * 3 + 3 * 1 + 1 * 3) * 64 * 64 + 3 * 2 * 64 == 61_824
    assert (3 * 3 + 3 * 1 + 1 * 3) * 64 * 64 * 32 * 32 == 62_914_560
    assert (61_824, 62_914_560) == count(config(root, "asymmetric.yaml"))
    assert (3 * 3 * 64 * 64 + 64, 3 * 3 * 64 * 64 * 32 * 32) == (36_928, 37_748_736)
    assert (36_928, 37_748_736) == count(config(root, "asymmetric.yaml#deploy"))


# Whole networks, from the tables of their papers.


def mobilenet_v1(alpha: float, size: int, classes: int) -> tuple[int, int]:
    """MobileNetV1 (arXiv:1704.04861, table 1), counted by hand: 3x3 convolutions, batch norms, one linear layer."""
    rows = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    width = int(32 * alpha)
    size //= 2
    params, macs = 3 * 3 * 3 * width + 2 * width, 3 * 3 * 3 * width * size**2
    for out, stride in rows:
        out, size = int(out * alpha), size // stride
        params += 3 * 3 * width + 2 * width + width * out + 2 * out
        macs += (3 * 3 * width + width * out) * size**2
        width = out
    return params + width * classes + classes, macs + width * classes


@pytest.mark.parametrize(
    ("alpha", "size", "classes", "params", "macs"),
    [
        (1.0, 224, 1000, 4_231_976, 568_740_352),
        (1.0, 224, 10, 3_217_226, 567_726_592),
        (0.5, 160, 1000, 1_331_592, 76_524_800),
        (0.75, 128, 1000, None, None),
    ],
)
def test_mobilenet_v1_costs_what_its_table_says(
    root: Any, alpha: float, size: int, classes: int, params: int | None, macs: int | None
) -> None:
    """569 M multiply-adds and 4.2 M parameters at full width; the multipliers act as the paper says."""
    expected = mobilenet_v1(alpha, size, classes)
    assert expected == (params or expected[0], macs or expected[1])
    assert expected == count(config(root, "mobilenet_v1.yaml"), alpha=alpha, resolution=size, classes=classes)


# in, mid, out, stride; the input is added where the stride is 1 and the shapes agree, but not in the first block.
BLOG = [
    (32, 32, 16, 1),
    (16, 96, 24, 2),
    (24, 144, 24, 1),
    (24, 144, 32, 2),
    *[(32, 192, 32, 1)] * 2,
    (32, 192, 64, 1),
    *[(64, 384, 64, 1)] * 3,
    (64, 384, 96, 2),
    *[(96, 576, 96, 1)] * 2,
    (96, 576, 160, 2),
    *[(160, 960, 160, 1)] * 2,
    (160, 960, 320, 1),
]


def mobilenet_v2_blog(*, dense: bool) -> tuple[int, int]:
    """MobileNetV2 with biases, a stem of stride 2 and 10 classes, as it is often written; counted by hand."""

    def conv(cin: int, cout: int, kernel: int, groups: int = 1) -> Iterator[int]:
        yield cout * (cin // groups) * kernel**2  # the weight; then the bias, and scale and shift of the batch norm
        yield 3 * cout

    size = 112
    weight, rest = conv(3, 32, 3)
    params, macs = weight + rest, weight * size**2
    for cin, mid, out, stride in BLOG:
        for step, (weight, rest) in enumerate(
            (conv(cin, mid, 1), conv(mid, mid, 3, 1 if dense else mid), conv(mid, out, 1))
        ):
            size //= stride if step == 1 else 1
            params += weight + rest
            macs += weight * size**2
    weight, rest = conv(320, 1280, 1)
    return params + weight + rest + 1280 * 10 + 10, macs + weight * size**2 + 1280 * 10


def test_mobilenet_v2_as_it_is_often_written_costs_nineteen_times_too_much(root: Any) -> None:
    """A 3x3 convolution whose groups were forgotten: 8.2 G MACs instead of 0.43 G."""
    assert (2_254_858, 427_844_736) == mobilenet_v2_blog(dense=False)
    assert (42_800_938, 8_205_193_728) == mobilenet_v2_blog(dense=True)
    assert (2_254_858, 427_844_736) == count(config(root, "mobilenet_v2.yaml#blog"))
    assert (42_800_938, 8_205_193_728) == count(config(root, "mobilenet_v2.yaml#dense"))


def test_alexnet_costs_less_in_two_groups(root: Any) -> None:
    """61 M parameters and 724 M MACs as published, 62.4 M and 1.135 G without the groups."""
    # (in, out, kernel, output size, groups)
    convs = [(3, 96, 11, 55, 1), (96, 256, 5, 27, 2), (256, 384, 3, 13, 1), (384, 384, 3, 13, 2), (384, 256, 3, 13, 2)]
    linears = [(256 * 6 * 6, 4096), (4096, 4096), (4096, 1000)]
    for variant, grouped in (("", True), ("#one_tower", False)):
        weights = [cin * cout * k * k // (g if grouped else 1) for cin, cout, k, _, g in convs]
        params = sum(weights) + sum(cout for _, cout, *_ in convs) + sum(i * o + o for i, o in linears)
        macs = sum(weight * size**2 for weight, (*_, size, _) in zip(weights, convs, strict=True))
        macs += sum(i * o for i, o in linears)
        assert (params, macs) == count(config(root, f"alexnet.yaml{variant}"))
        assert (params, macs) == ((60_965_224, 724_406_816) if grouped else (62_378_344, 1_135_256_096))


def test_a_u_net_halves_the_size_and_doubles_the_width(root: Any) -> None:
    """Double 3x3 convolutions down and up, transposed 2x2 convolutions between; counted at input positions."""
    size, widths = 256, [64, 128, 256, 512, 1024]
    params = macs = 0

    def double(cin: int, cout: int, size: int) -> tuple[int, int]:
        weights = cin * cout * 9 + cout * cout * 9
        return weights + 2 * 2 * cout, weights * size**2

    parts = [
        double(cin, cout, size >> step) for step, (cin, cout) in enumerate(zip([3, *widths], widths, strict=False))
    ]
    for step in (3, 2, 1, 0):
        cin, cout = widths[step + 1], widths[step]
        parts.append((cin * cout * 4 + cout, cin * cout * 4 * (size >> step + 1) ** 2))
        parts.append(double(2 * cout, cout, size >> step))
    parts.append((64 * 2 + 2, 64 * 2 * size**2))
    params, macs = (sum(values) for values in zip(*parts, strict=True))
    assert (params, macs) == count(config(root, "unet.yaml"))


# Whole networks, against torchvision: its models, its published tables, and torch's own counter.

TWINS = {
    "mobilenet_v2": ("mobilenet_v2.yaml", 3_504_872, 300_774_272),
    "mobilenet_v3_small": ("mobilenet_v3_small.yaml", 2_542_856, None),
    "resnet50": ("resnet50.yaml", 25_557_032, 4_089_184_256),
    "vit_b_16": ("vit_b_16.yaml", 86_567_656, 17_563_828_224),
}


def counted_by_torch(model: Any, size: int) -> tuple[int, int]:
    """The params of a model on meta, and half of what torch's FlopCounterMode gives for one picture."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, size, size, device="meta"))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize("name", TWINS)
def test_a_spec_costs_what_torchvisions_network_costs(
    name: str, root: Any, torchvision: ModuleType, on_meta: Callable[[str], Any]
) -> None:
    """Params as the model has them, MACs as torch's FlopCounterMode halves them, both as the weights' table says."""
    file, params, macs = TWINS[name]
    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    own = count(config(root, file))

    assert own == counted_by_torch(on_meta(name), 224)
    assert own[0] == meta["num_params"] == params
    assert round(own[1] / 1e9, 3) == meta["_ops"]
    assert macs in (own[1], None)


WIDTHS = [pytest.param(width, marks=pytest.mark.verify) if width not in (0.5, 1.4) else width for width in (
    0.1, 0.25, 0.35, 0.5, 0.6, 0.75, 0.9, 1.1, 1.25, 1.4, 1.7, 2.0)]  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_the_width_of_mobilenet_v2_is_rounded_as_torchvision_rounds_it(
    width: float, root: Any, torchvision: Any
) -> None:
    """Channels are multiples of eight, at least eight, and never a tenth too few."""
    import torch

    with torch.device("meta"):
        model = torchvision.models.mobilenet_v2(width_mult=width).eval()
    own = count(config(root, "mobilenet_v2.yaml"), alpha=width, resolution=192)
    assert counted_by_torch(model, 192) == own


def names_of_resnet50(path: str) -> str:
    """What the spec calls a module of torchvision's network."""
    return path.replace("downsample.0", "downsample.conv").replace("downsample.1", "downsample.bn")


def names_of_mobilenet_v2(path: str) -> str:
    """What the spec calls a module: torchvision numbers its blocks, the spec names its stages."""
    top, number, *inside = path.split(".")
    if top == "classifier":
        return top
    if number in ("0", "18"):
        return {"0": "stem", "18": "last"}[number] + {"0": "", "1": "_bn"}[inside[0]]
    stages = [f"stage{stage}.{turn}" for stage, n in enumerate([1, 2, 3, 4, 3, 3, 1], 1) for turn in range(n)]
    steps = ["depthwise", "project"] if number == "1" else ["expand", "depthwise", "project"]
    # conv.0.0 is a convolution and conv.0.1 its batch norm; those of the projection stand bare at the end.
    names = {f"{step}.{part}": f"{name}{bn}" for step, name in enumerate(steps) for part, bn in ((0, ""), (1, "_bn"))}
    names |= {f"{len(steps) - 1}": "project", f"{len(steps)}": "project_bn"}
    return f"{stages[int(number) - 1]}.residual.{names['.'.join(inside[1:])]}"


def names_of_mobilenet_v3_small(path: str) -> str:
    """What the spec calls a module: torchvision numbers the rows of the table and the steps of a row."""
    top, number, *inside = path.split(".")
    if top == "classifier":
        return {"0": "classifier1", "3": "classifier2"}[number]
    if number in ("0", "12"):
        return {"0": "stem.", "12": "last."}[number] + {"0": "conv", "1": "norm"}[inside[0]]
    steps = ["expand"] * (number != "1") + ["depthwise"] + ["squeeze"] * (number not in ("2", "3")) + ["project"]
    step = steps[int(inside[1])]
    return f"row{number}.residual.{step}.{inside[2] if step == 'squeeze' else {'0': 'conv', '1': 'norm'}[inside[2]]}"


def names_of_vit_b_16(path: str) -> str:
    """What the spec calls a module or a bare parameter."""
    path = re.sub(r"encoder_layer_(\d+)\.(ln_1|self_attention)", r"\1.attention.\2", path)
    path = re.sub(r"encoder_layer_(\d+)\.ln_2", r"\1.mlp.ln_2", path)
    path = re.sub(r"encoder_layer_(\d+)\.mlp\.(0|3)", lambda m: f"{m[1]}.mlp.linear_{1 + int(m[2]) // 3}", path)
    return path.removeprefix("encoder.").removeprefix("heads.").removesuffix(".out_proj")


NAMES = {
    "mobilenet_v2": names_of_mobilenet_v2,
    "mobilenet_v3_small": names_of_mobilenet_v3_small,
    "resnet50": names_of_resnet50,
    "vit_b_16": names_of_vit_b_16,
}


@pytest.mark.parametrize("name", TWINS)
def test_a_spec_is_torchvisions_network_layer_by_layer(name: str, root: Any, on_meta: Callable[[str], Any]) -> None:
    """Each module of torchvision's network that has parameters is a layer of the spec with the same number of them."""
    bare = ("class_token", "encoder.pos_embedding")
    modules: Counter[str] = Counter()
    for path, parameter in on_meta(name).named_parameters():
        modules[NAMES[name](path if path in bare else path.rpartition(".")[0])] += parameter.numel()
    assert modules == {row.name: row.params for row in report(config(root, TWINS[name][0])).layers if row.params}


def in_loop_filter(block: int, border: int) -> tuple[int, int]:
    """The filter of configs/in_loop_filter.yaml, counted by hand: all of it at half the resolution."""
    width, wide, depth = 24, 72, 7
    weights = 12 * width * 9 + depth * (width * wide + wide * width + width * width * 9) + width * 4 * 9
    biases = width + depth * (wide + width + width) + 4
    slopes = 1 + depth
    return weights + biases + slopes, weights * ((block + 2 * border) // 2) ** 2


def test_an_in_loop_filter_costs_a_quarter_of_its_weights_for_each_pixel(root: Any) -> None:
    """MACs/pixel = weights / 4 over what is read, and (144/128)^2 times that over what comes out."""
    target = config(root, "in_loop_filter.yaml")
    assert in_loop_filter(128, 8) == count(target)
    assert in_loop_filter(256, 0) == count(target, block=256, border=0)
    weights = in_loop_filter(2, 0)[1]
    read = analyze(target, counters="none").totals.macs_per_pixel
    delivered = analyze(target, counters="none", per="block:128+8").totals.macs_per_pixel
    assert (Fraction(weights, 4), Fraction(weights, 4) * Fraction(144 * 144, 128 * 128)) == (read, delivered)


@pytest.mark.parametrize(("variant", "scale"), [("", 4), ("#x2", 2)])
def test_super_resolution_works_at_the_small_size_until_the_end(root: Any, variant: str, scale: int) -> None:
    """EDSR-baseline: 16 residual blocks of width 64; each doubling of the size has a convolution of 4 x 64 channels."""
    width, depth, size = 64, 16, 180 * 320
    square = width * width * 9
    steps = [(3 * width * 9, width, 1)]  # weights, biases, and how many times as many positions as at the entrance
    steps += [(square, width, 1)] * (2 * depth + 1)
    steps += [(4 * square, 4 * width, 1)] + [(4 * square, 4 * width, 4)] * (scale == 4)
    steps += [(width * 3 * 9, 3, scale**2)]
    params = sum(weights + biases for weights, biases, _ in steps)
    macs = sum(weights * size * positions for weights, _, positions in steps)
    assert (params, macs) == count(config(root, f"super_resolution.yaml{variant}"))


def test_resnet50_is_reconciled_with_ptflops_to_the_unit(root: Any) -> None:
    """ptflops says 4,132,436,968; all 43,252,712 more than convstat's have a name."""
    result = analyze(config(root, "resnet50.yaml"), counters="ptflops")
    (row,) = result.counters
    assert (25_557_032, 4_089_184_256) == (result.totals.params, result.totals.macs)
    assert (25_557_032, 4_132_436_968) == (row.reported.params, row.reported.macs)
    assert 43_252_712 == row.difference.macs == sum(cause.macs for cause in row.causes)
    assert (0, 0) == (row.unexplained.params, row.unexplained.macs)


def test_torchsummarys_sizes_are_those_that_it_prints() -> None:
    """3x64x64 -> 4 channels, 3x3: 0.05 MiB in, 0.12 forward/backward, 0.00 params, 0.17 in all."""
    result = analyze("Conv2d(3, 4, 3, padding=1)", inputs=["3x64x64"], counters="torchsummary")
    (row,) = result.counters
    assert "ok" == row.status
    assert row.reported.memory_mib is not None
    sizes = {name: f"{value:.2f}" for name, value in row.reported.memory_mib.items()}
    mib = 4 / 1024**2
    assert f"{3 * 64 * 64 * mib:.2f}" == sizes["input"] == "0.05"
    assert f"{2 * 4 * 64 * 64 * mib:.2f}" == sizes["forward_backward"] == "0.12"
    assert f"{(4 * 3 * 3 * 3 + 4) * mib:.2f}" == sizes["params"] == "0.00"
    assert "0.17" == sizes["total"]
