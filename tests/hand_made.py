"""Reports, comparisons and checks made by hand: what the renderers are tested on."""

from __future__ import annotations

from fractions import Fraction

from convstat.budgets.judge import BudgetResult, Offender
from convstat.grammar.axes import Axis
from convstat.history.changes import compare
from convstat.results.check import Check, CheckedModel
from convstat.results.comparison import Comparison, ComparisonRow
from convstat.results.report import (
    Answer,
    Cause,
    CounterRow,
    Figures,
    InputInfo,
    LayerRow,
    ModelInfo,
    Place,
    Report,
    Totals,
    Uncounted,
)
from convstat.results.sums import total

HOSTILE = "x[/b]:x:|=<script>"
"""A name that means something to rich, to Markdown, to HTML and, with an '=' in front, to a spreadsheet."""


def layer(
    name: str, type: str, shape: tuple[int, ...], params: int = 0, macs: int = 0, *, line: int = 1, **more: object
) -> LayerRow:
    """Make one row; the input shape does not matter here."""
    return LayerRow(
        name,
        type,
        (shape,),
        (shape,),
        params,
        macs,
        trainable_params=params,
        weight_bytes=4 * params,
        source=Place("net.yaml", line),
        **more,  # type: ignore[arg-type]
    )


LAYERS = (
    layer("stem", "Conv2d", (1, 32, 112, 112), 864, 864 * 112 * 112, line=4),
    layer("stage1.0.conv1", "Conv2d", (1, 64, 56, 56), 18_432, 18_432 * 56 * 56, line=7),
    layer("stage1.0.norm", "BatchNorm2d", (1, 64, 56, 56), 128, 0, line=8, buffers=129, other={"norm": 64 * 56 * 56}),
    layer("stage1.1.conv1", "Conv2d", (1, 64, 56, 56), 36_864, 36_864 * 56 * 56, line=7),
    layer("stage1.1.relu", "ReLU", (1, 64, 56, 56), 0, 0, line=9, other={"activation": 64 * 56 * 56}),
    layer("head", "Linear", (1, 1000), 65_000, 64_000, line=12, other={"bias": 1000}, note="the classifier"),
)


def report(
    layers: tuple[LayerRow, ...] = LAYERS,
    counters: tuple[CounterRow, ...] = (),
    *,
    name: str = "tiny",
    uncounted: tuple[Uncounted, ...] = (),
    groups: dict[str, str] | None = None,
) -> Report:
    """Make a report whose totals are the sums of its layers."""
    return Report(
        ModelInfo(name, "net.yaml", "spec", (InputInfo("x", (1, 3, 224, 224)),), device="meta" if counters else "none"),
        total(layers, 224 * 224, "input 224x224"),
        layers,
        counters,
        uncounted,
        {"stage1.0": "separable", "stage1.1": "separable"} if groups is None else groups,
    )


OWN = report()
MEMORY = {"input": 0.57, "forward_backward": 12.25, "params": 0.46, "total": 13.28}

COUNTERS = (
    CounterRow(
        "ptflops",
        "pytorch",
        "0.7.5",
        "ok",
        Answer(OWN.totals.params, OWN.totals.macs + 602_112 + 1000 - 12),
        Answer(OWN.totals.params, OWN.totals.macs + 602_112 + 1000),
        Figures(0, 602_112 + 1000 - 12),
        (
            Cause("norm", "convention", "batch norm counted as 2 MACs per element", 0, 401_408, 1, ("stage1.0.norm",)),
            Cause("activation", "convention", "activations counted as MACs", 0, 200_704, 1, ("stage1.1.relu",)),
            Cause("bias", "convention", "additions of a bias counted as MACs", 0, 1000, 1, ("head",)),
        ),
        Figures(0, -12),
        device="meta",
    ),
    CounterRow(
        "torchsummary",
        "default",
        "1.5.1",
        "ok",
        Answer(OWN.totals.params - 128, None, MEMORY),
        Answer(OWN.totals.params - 128, None, MEMORY),
        Figures(-128, None),
        (Cause("norm-params", "defect", "params of the norm not seen", -128, 0, 1, ("stage1.0.norm",)),),
        Figures(0, None),
        device="meta",
    ),
    CounterRow("thop", "default", None, "unavailable", error="thop is not installed: pip install thop"),
    CounterRow("fvcore", "default", "0.1", "failed", error="ValueError: not a tensor"),
)

FULL = report(counters=COUNTERS)

HUGE = report(
    (
        layer(
            "backbone.stage3.a_very_long_block_name.pointwise_convolution", "ConvTranspose2d", (1, 12345, 4096, 4096)
        ),
        layer("backbone.stage3.a_very_long_block_name.other", "Conv2d", (1, 8), 123_456_789_012, 10**18 + 7),
    ),
    name="huge",
    groups={},
)

NASTY = report(
    (
        layer(HOSTILE, "Conv2d", (1, 8, 8, 8), 10, 20),
        layer(f"={HOSTILE}", "Conv2d", (1, 8, 8, 8), 1, 2),
        layer("escape\x1b[31m\nnext", "Linear", (1, 8), 1, 2),
        layer("名前", "Linear", (1, 8), 1, 2),
    ),
    name=HOSTILE,
    groups={},
    uncounted=(Uncounted("aten::cumsum", 2, ("head",)),),
)


def totals(params: int, macs: int) -> Totals:
    """Make totals over 64x64 pixels."""
    return Totals(params, params, 0, macs, 4 * params, 64 * 64, "input 64x64")


BASE = totals(288, 288 * 64 * 64)

SWEEP = Comparison(
    rows=(
        ComparisonRow("conv", {"groups": 1}, "ok", BASE, BASE),
        ComparisonRow("conv", {"groups": 2}, "ok", totals(144, 144 * 64 * 64), BASE),
        ComparisonRow(
            "conv",
            {"groups": 3},
            "invalid",
            reason="in_channels must be divisible by groups: 4 % 3 = 1",
            help=("divisors of 4 and 8: 1, 2, 4",),
        ),
        ComparisonRow("conv", {"groups": 4}, "ok", totals(72, 72 * 64 * 64), BASE),
    ),
    axes=(Axis("groups", (1, 2, 3, 4), "1..4"),),
    models=("conv",),
    varying=("groups",),
    constants={"model": "Conv2d(4, 8, kernel_size=3)", "input": "4x64x64", "batch": 1, "alpha": Fraction(1, 2)},
    default="no model named: the reference layer Conv2d(4, 8, kernel_size=3) on 4x64x64",
)

CHECK = Check(
    (CheckedModel(OWN.model, OWN.totals),),
    (
        BudgetResult(
            "tiny",
            "macs",
            "total",
            "<=",
            180_000_000,
            OWN.totals.macs,
            180_000_000 - OWN.totals.macs,
            "fail",
            "pyproject.toml:41",
            "macs<=180M",
            "180M",
            offenders=(
                Offender(
                    "stage1.1.conv1",
                    "Conv2d",
                    115_605_504,
                    Fraction(115_605_504, OWN.totals.macs),
                    Place("net.yaml", 7),
                ),
                Offender(
                    "stage1.0.conv1", "Conv2d", 57_802_752, Fraction(57_802_752, OWN.totals.macs), Place("net.yaml", 7)
                ),
            ),
        ),
        BudgetResult(
            "tiny",
            "params",
            "total",
            "<=",
            121_288,
            OWN.totals.params,
            121_288 - OWN.totals.params,
            "pass",
            "net.yaml:20",
            "params<=121288",
            "121288",
        ),
        BudgetResult(
            "tiny",
            "params",
            "each",
            "<=",
            20_000,
            65_000,
            -45_000,
            "warn",
            "pyproject.toml:52",
            "params(each)@**<=20k",
            "20k",
            on="**",
            violations=2,
            offenders=(
                Offender("head", "Linear", 65_000, None, Place("net.yaml", 12)),
                Offender("stage1.1.conv1", "Conv2d", 36_864, None, Place("net.yaml", 7)),
            ),
        ),
        BudgetResult(
            "tiny",
            "macs_per_pixel",
            "total",
            "<=",
            3664,
            Fraction(OWN.totals.macs, 50176),
            3664 - Fraction(OWN.totals.macs, 50176),
            "fail",
            "--max macs_per_pixel=3664",
            "macs_per_pixel<=3664",
            "3664",
            pixels=50176,
            pixel_basis="input 224x224",
        ),
    ),
)

GROWN = report(
    (
        *LAYERS[:3],
        layer(
            "stage1.1.conv1",
            "Conv2d",
            (1, 64, 56, 56),
            102_400,
            102_400 * 56 * 56,
            line=7,
            arguments={"kernel_size": 5},
        ),
        layer("stage1.1.gelu", "GELU", (1, 64, 56, 56), 0, 0, line=9),
        LAYERS[5],
    )
)
"""What ``OWN`` grew to: a larger kernel, one activation for another."""

DIFF = compare(OWN, GROWN)
