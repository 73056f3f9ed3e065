"""Ratios of layers come out as texts about convolutions derive them by hand, and are those of what is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from convstat.cli.run import run
from convstat.commands.ratio import ratio
from convstat.formulas.symbolic.quotients import quotient
from convstat.formulas.symbolic.terms import Polynomial
from convstat.results.documents.schema import report_schema
from convstat.spec import read

ROOT = Path(__file__).resolve().parent.parent


def _macs(first: str, second: str) -> tuple[str, str | None]:
    found = ratio((first, second), {}).ratios[0]
    assert "macs" == found.figure
    return found.symbols, found.special


@pytest.mark.parametrize(
    ("first", "second", "symbols", "special"),
    [
        # arXiv:1704.04861, section 3.1: 1/N + 1/D_K^2.
        ("DepthwiseSeparableConv", "Conv2d", "1/C_out + 1/k**2", None),
        ("DepthwiseSeparableConv(N, K)", "Conv2d(M, N, K)", "1/N + 1/K**2", None),
        # k x 1 and 1 x k: k*C*C each, of k*k*C*C.
        ("SpatiallySeparableConv", "Conv2d", "(1 + C_out/C_in)/k", "2/k"),
        ("SpatiallySeparableConv(C, K)", "Conv2d(C, C, K)", "2/K", None),
        ("Conv2d(groups=g)", "Conv2d", "1/g", None),
        ("Conv2d(64, 128, 3, groups=4)", "Conv2d(64, 128, 3)", "1/g", None),
        # ACNet: the square kernel, and k more for each of the two others.
        ("ACBlock", "ACBlock(deploy=true)", "1 + 2/k", None),
        ("Conv3d(depth_of=1)", "Conv2d", "", None),
        ("ConvTranspose2d", "Conv2d", "1", None),
        ("LSTM", "GRU", "4/3", None),
        ("Conv2d(64, 128, 5)", "Conv2d(64, 128, 3)", "k_1**2/k_2**2", None),
        # MobileNetV2, arXiv:1801.04381: h*w*d'*t*(d' + k^2 + d'') with t = 6, over h*w*d'*d''*k^2.
        ("InvertedResidual", "Conv2d", "6/C_out + 6*C_in/(C_out*k**2) + 6/k**2", "6/C_out + 12/k**2"),
    ],
)
def test_the_ratio_is_the_one_that_is_derived_by_hand(
    first: str, second: str, symbols: str, special: str | None
) -> None:
    """In the letters of the kinds, and in one's own."""
    if not symbols:
        with pytest.raises(Exception, match="depth_of"):
            ratio((first, second), {})
        return
    assert (symbols, special) == _macs(first, second)


def test_the_multipliers_of_mobilenet_give_the_formula_of_the_paper() -> None:
    """arXiv:1704.04861, equation 7: D_K*D_K*aM*rD*rD + aM*aN*rD*rD; and its Table 3."""
    sides = "DepthwiseSeparableConv(alpha*N, K)", "Conv2d(M, N, K)"
    inputs = "alpha*M x rho*D x rho*D", "M x D x D"
    found = ratio(sides, {"M": 512, "N": 512, "D": 14, "alpha": 1, "rho": 1}, inputs)
    letters = {name: Polynomial.letter(name) for name in ("M", "N", "K", "D", "alpha", "rho")}
    m, n, k, d, a, r = letters.values()
    assert k * k * a * m * r * d * r * d + a * m * a * n * r * d * r * d == found.first.macs.polynomial
    table = {(1, 1): 52_283_392, (Fraction(3, 4), 1): 29_578_752, (Fraction(3, 4), Fraction(10, 14)): 15_091_200}
    for (alpha, rho), macs in table.items():
        values = {"M": 512, "N": 512, "K": 3, "D": 14, "alpha": alpha, "rho": rho}
        assert macs == found.first.macs.value(values)
        assert Fraction(macs, 462_422_016) == found.ratios[0].quotient.value(values)
    assert {"macs": 462_422_016, "weights": 2_359_296, "params": 2_359_296} == dict(found.second.counts)


@settings(max_examples=60, deadline=None)
@given(
    c_in=st.integers(1, 40),
    c_out=st.integers(1, 40),
    kernel=st.sampled_from((1, 3, 5, 7)),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
)
def test_the_ratio_of_numbers_is_that_of_what_is_counted(
    c_in: int, c_out: int, kernel: int, height: int, width: int
) -> None:
    """Of specs that are written out and counted, with padding that keeps the size."""
    values = {"C_in": c_in, "C_out": c_out, "k": kernel, "H": height, "W": width}

    def count(layer: str) -> dict[str, int]:
        text = f"input: [{c_in}, {height}, {width}]\nlayers: [{layer}]"
        found = read(text, "it.yaml").measure()
        return {"macs": found.macs, "params": found.params}

    same = f"out_channels: {c_out}, kernel_size: {kernel}, padding: {kernel // 2}"
    plain = count(f"{{Conv2d: {{{same}, bias: false}}}}")
    for name, written in (
        ("DepthwiseSeparableConv", f"{{DepthwiseSeparableConv: {{{same}, bias: false}}}}"),
        ("SpatiallySeparableConv", f"{{SpatiallySeparableConv: {{{same}, bias: false}}}}"),
        ("ACBlock", f"{{ACBlock: {{{same}}}}}"),
    ):
        found = ratio((name, "Conv2d"), values)
        mine = count(written)
        for figure in ("macs", "params"):
            (one,) = (item for item in found.ratios if item.figure == figure)
            assert Fraction(mine[figure], plain[figure]) == one.value == one.quotient.value(values)
            assert mine[figure] == found.first.counts[figure]


def test_specs_are_compared_in_their_own_variables() -> None:
    """A letter that has another value at the other side is told apart."""
    path = str(ROOT / "configs" / "depthwise_separable.yaml")
    assert "(kernel**2 + out)/(kernel**2*out)" in _macs(path, f"{path}#standard")[0] or _macs(
        path, f"{path}#standard"
    ) == ("1/out + 1/kernel**2", None)
    half = ratio((f"{ROOT}/configs/mobilenet_v1.yaml#half", f"{ROOT}/configs/mobilenet_v1.yaml"), {})
    assert {"alpha", "alpha_2"} <= set(half.values)
    assert (half.first.counts["macs"], half.second.counts["macs"]) == (
        sum(n.cost.macs for n in read(_text("mobilenet_v1"), "m").expand(variant="half").nodes),
        568_740_352,
    )


def _text(name: str) -> str:
    return (ROOT / "configs" / f"{name}.yaml").read_text()


def test_common_factors_of_sums_are_left_out() -> None:
    """With sympy where both are sums; the value stays."""
    x, y, one = Polynomial.letter("x"), Polynomial.letter("y"), Polynomial.number(1)
    over, under = quotient((x + y) * (x + one), (x + y) * (y + one))
    assert (x + one, y + one) == (over, under)
    assert (x + one, one) == quotient((x + one) * (x + one), x + one)


def test_without_sympy_it_is_said_what_to_install() -> None:
    """Only where it is needed; a quotient that is simple needs none."""
    code = (
        "import sys; sys.modules['sympy'] = None; from convstat.cli.run import run;"
        "assert run(['formula', '--ratio', 'DepthwiseSeparableConv', 'Conv2d']) == 0;"
        "sys.exit(run(['formula', '--ratio', 'ACBlock', 'InvertedResidual']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (2, True) == (done.returncode, "pip install sympy" in done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("format", ["table", "latex", "csv", "markdown", "html", "json"])
def test_every_format_says_it(capsys: pytest.CaptureFixture[str], format: str) -> None:
    """And JSON is what its schema says."""
    assert 0 == run(["formula", "--ratio", "ACBlock", "Conv2d", "-f", format])
    said = capsys.readouterr().out
    if format == "json":
        document = json.loads(said)
        Draft202012Validator(report_schema()).validate(document)
        assert "1 + 2/k" == document["ratios"][0]["symbols"]
    else:
        assert (r"1 + \frac{2}{k}" if format == "latex" else "1 + 2/k") in said


def test_the_function_gives_exact_fractions(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the letters, decimals included."""
    assert 0 == run(["formula", "--ratio", "DepthwiseSeparableConv", "Conv2d", "-f", "python"])
    function: dict[str, Any] = {}
    exec(capsys.readouterr().out, function)
    assert Fraction(1, 128) + Fraction(1, 25) == function["ratio"](C_out=128, k=5)["macs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Conv2d"], "takes two layers, blocks or specs, not 1"),
        (["Conv2d", "Cnov2d"], "did you mean 'Conv2d'"),
        (["Conv2d", "Conv2d", "z=3"], "there is no letter 'z'"),
        (["Conv2d", "torchvision/resnet18"], "takes layers, blocks and specs"),
        (["Conv2d(3, 4, 2)", "Conv2d"], "kernel_size must be odd"),
        (["Conv2d", "Linear", "--in", "H"], "takes no --in"),
        (["Conv2d", "Conv2d", "k=x"], "k must be a number"),
        (["Conv2d(outt=3)", "Conv2d"], "outt"),
        (["Conv2d", "Conv2d", "-i", "3x4x"], "is not the shape of one sample"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    """With exit code 2 and no traceback."""
    assert 2 == run(["formula", "--ratio", *arguments])
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
