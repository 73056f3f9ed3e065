"""Closed forms come to what is counted, wherever they hold; and they hold nearly everywhere."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor, gcd
from pathlib import Path
from typing import Any

import counted
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES

from convstat.cli.run import run
from convstat.errors import SpecError
from convstat.formulas.rounding import round8
from convstat.formulas.symbolic.closing import close
from convstat.formulas.symbolic.facts import Condition, Facts
from convstat.formulas.symbolic.forms import polynomial
from convstat.formulas.symbolic.numbers import Number
from convstat.formulas.symbolic.terms import Polynomial
from convstat.formulas.symbolic.writing import Text
from convstat.layers import KINDS
from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.results.closed import ClosedForms
from convstat.spec import read

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "configs").glob("*.yaml"))
POINTS = 25

WITHOUT = {"asymmetric"}
"""Those that have no free variable: theirs are yes or no."""


def _random(generator: random.Random, name: str, value: Any, whole: bool) -> Any:
    """A value of a variable, of any size, most of them near what a network has."""
    if not whole:
        return Fraction(generator.randint(1, 40), generator.choice((4, 8, 10, 20)))
    if name in ("classes", "size", "resolution", "frames"):
        return generator.choice((generator.randint(1, 500), 32 * generator.randint(1, 12)))
    return max(1, generator.choice((value, value * 2, value // 2, generator.randint(1, 3 * value))))


def _points(found: ClosedForms, seed: str) -> list[dict[str, Any]]:
    generator = random.Random(seed)
    return [
        {letter.name: _random(generator, letter.name, letter.value, letter.is_integer) for letter in found.letters}
        for _ in range(POINTS)
    ]


def _work_out(text: str, values: Mapping[str, Any]) -> Fraction:
    """Evaluate a printed form by Python's own grammar, in exact fractions."""
    functions = {"floor": floor, "ceil": ceil, "min": min, "max": max, "gcd": gcd, "round8": round8}
    found = eval(text, {"__builtins__": {}}, {**functions, **{name: Fraction(v) for name, v in values.items()}})
    return Fraction(found)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_numbers_in_the_forms_give_what_is_counted(path: Path) -> None:
    """Layer by layer and as they are printed, at random values; where they do not hold, the spec is invalid."""
    spec = read(path.read_text(), str(path))
    network = counted.network(str(path))
    found = network.closed
    if path.stem in WITHOUT:
        assert found is None
        return
    assert found is not None
    function: dict[str, Any] = {}
    exec(RENDERERS.named("python").render([network], Options()), function)
    document = network.to_dict()
    held = valid = 0
    for values in _points(found, path.stem):
        numbers = {name: value for name, value in values.items() if name != "N"}
        holds = all(condition.holds(values) for condition in found.conditions)
        try:
            graph = spec.expand(numbers, batch=values["N"])
        except SpecError:
            assert not holds, values
            with pytest.raises(ValueError, match=r"this form holds where|must be at least 1"):
                function[path.stem](**values)
            continue
        valid += 1
        if not holds:
            continue
        held += 1
        macs = [node.cost.macs for node in graph.nodes]
        params = [0 if node.is_shared else node.layer.params() for node in graph.nodes]
        assert {"macs": sum(macs), "params": sum(params)} == function[path.stem](**values)
        assert (found.macs.value(values), found.params.value(values)) == (sum(macs), sum(params))
        assert _work_out(document["closed"]["macs"], values) == sum(macs)
        assert _work_out(document["closed"]["params"], values) == sum(params)
        # A residual of MobileNets may be one or not, which changes no figure.
        if len(found.layers) == len(graph.nodes):
            for layer, one, other in zip(document["layers"], macs, params, strict=True):
                assert _work_out(layer["closed"]["macs"], values) == one
                assert _work_out(layer["closed"]["params"], values) == other
    assert held, "no point at which it holds"
    assert held == valid, f"it holds at {held} of {valid} valid points"


def test_a_form_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: with a rule for floors that is slightly wrong, it does."""
    right = Facts.floor
    monkeypatch.setattr(Facts, "floor", lambda self, about: right(self, about + Polynomial.number(Fraction(1, 2))))
    with pytest.raises(AssertionError):
        test_numbers_in_the_forms_give_what_is_counted(ROOT / "configs" / "mobilenet_v1.yaml")


def _closed(target: str, letters: str | None = None, **overrides: Any) -> ClosedForms:
    names = tuple(letters.split(",")) if letters else None
    found = counted.network(target, overrides, letters=names).closed
    assert found is not None
    return found


def test_the_forms_of_a_known_network_are_those_of_a_textbook() -> None:
    """Of U-Net, worked out by hand: at a fraction 1/f of the size, channels are f times as many."""
    found = _closed(str(ROOT / "configs" / "unet.yaml"))
    write = found.writer
    assert "N*size**2*width*(classes + 179*width + 27)" == write.form(found.macs)
    assert "size is a multiple of 16" in found.said
    # down1 9*3 + 9w; three downs and bottom 9*(2/4 + 4/4)w each; four merges 9*(2 + 1)w; four ups 2w; the classes.
    assert Fraction(9 + 4 * Fraction(27, 2) + 4 * 27 + 4 * 2) == 179


@pytest.mark.parametrize(
    ("letters", "macs"),
    [
        ("H,W", "9408*ceil(H/2)*ceil(W/2)"),
        ("H", "1053696*ceil(H/2)"),
    ],
)
def test_letters_are_those_that_are_asked_for(letters: str, macs: str) -> None:
    """Everything else is a number: the first layer of ResNet-50 is 64*3*7*7 = 9,408 at each of its positions."""
    found = _closed(str(ROOT / "configs" / "resnet50.yaml"), letters)
    first = found.layers[0].macs
    for height, width in ((224, 224), (225, 160), (1, 7)):
        values = {"H": height, "W": width}
        across = -(-width // 2) if "W" in letters else 112
        assert 64 * 3 * 7 * 7 * -(-height // 2) * across == first.value(values) == _work_out(macs, values)


def test_a_variable_that_decides_which_layers_there_are_keeps_its_value() -> None:
    """And is named; with another value, it is that one."""
    found = _closed(str(ROOT / "configs" / "vit_b_16.yaml"))
    assert [("depth", 12)] == [(item.name, item.value) for item in found.settled]
    other = _closed(str(ROOT / "configs" / "vit_b_16.yaml"), "width,depth", depth=2)
    assert [("depth", 2)] == [(item.name, item.value) for item in other.settled]
    assert {"width": Fraction(768)} == dict(other.values)


def test_what_is_set_on_the_command_line_is_a_number() -> None:
    """An override and a shape fix what they set."""
    found = _closed(str(ROOT / "configs" / "mobilenet_v1.yaml"), alpha=Fraction(1, 2))
    assert ["resolution", "classes", "N"] == [letter.name for letter in found.letters]
    # params of MobileNet 0.5: published as 1.3 M.
    assert 1_331_592 == found.params.value({"classes": 1000})


_SIZES = st.integers(1, 400)


@settings(max_examples=150, deadline=None)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
    size=_SIZES,
    other=_SIZES,
    ceil_mode=st.booleans(),
)
def test_nested_floors_are_exact(
    kernel: int, stride: int, padding: int, dilation: int, size: int, other: int, ceil_mode: bool
) -> None:
    """Three layers after one another, at a size that the form was not found at; each by torch's own rule."""
    padding = min(padding, kernel // 2)

    def one(size: Any, *, pools: bool) -> Any:
        from convstat.formulas.conv import conv_out
        from convstat.formulas.pool import pool_out

        if pools:
            return pool_out(size, kernel, stride, padding, dilation, ceil_mode)
        return conv_out(size, kernel, stride, 2 * padding, dilation)

    facts = Facts()
    letter = Number(Polynomial.letter("H", integer=True), size, facts)
    found, expected = letter, other
    assert letter >= 1
    for pools in (False, True, False):
        found, expected = one(found, pools=pools), _by_hand(
            expected, kernel, stride, padding, dilation, up=ceil_mode and pools
        )  # fmt: skip
    text = Text().polynomial(close([found.polynomial], facts).forms[0] if isinstance(found, Number) else _number(found))
    assert _work_out(text, {"H": other}) == expected


def _number(value: int) -> Polynomial:
    return Polynomial.number(value)


def _by_hand(size: int, kernel: int, stride: int, padding: int, dilation: int, *, up: bool) -> int:
    """torch's pooling_output_shape, as it stands in aten/src/ATen/native/Pool.h."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1 + (stride - 1 if up else 0)
    out = room // stride + 1
    return out - 1 if up and (out - 1) * stride >= size + padding else out


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-6, 6), st.integers(1, 9)), min_size=1, max_size=4),
    st.data(),
)
def test_conditions_that_are_dropped_follow_from_the_others(
    parts: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """What is met while something is computed holds exactly where what is shown of it does."""
    facts = Facts()
    letters = {name: Number(Polynomial.letter(name, integer=True), data.draw(_SIZES), facts) for name in "abc"}
    for letter in letters.values():
        assert letter >= 1
    value: Any = letters["a"]
    for name, step, divisor in parts:
        value = (value + step * letters[name]) // divisor + 1
        _ = value > 3, value % divisor == 0, value == letters["b"]
    met = [*facts.conditions]
    closed = close([value.polynomial if isinstance(value, Number) else _number(value)], facts)
    for _ in range(20):
        values = {name: data.draw(_SIZES) for name in "abc"} | dict(closed.settled)
        if all(condition.holds(values) for condition in closed.conditions):
            assert all(condition.holds(values) for condition in met)


def test_a_letter_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that there are."""
    assert 2 == run(["formula", str(ROOT / "configs" / "mobilenet_v1.yaml"), "--in", "alhpa"])
    said = capsys.readouterr().err
    assert "has no 'alhpa' that could stay a letter" in said
    assert "did you mean 'alpha'" in said
    assert "letters: N, C, H, W, alpha, resolution, classes" in said
    assert 2 == run(["formula", "Conv2d", "--in", "H"])
    assert "takes no --in" in capsys.readouterr().err


def test_the_kinds_of_layers_are_functions_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the letters of their formula."""
    assert 0 == run(["formula", "Conv2d", "-f", "python"])
    function: dict[str, Any] = {}
    exec(capsys.readouterr().out, function)
    found = function["Conv2d"](C_out=64, H_out=112, W_out=112, C_in=3, g=1, k_h=7, k_w=7, bias=False)
    assert {"params": 64 * 3 * 7 * 7, "macs": 64 * 112 * 112 * 3 * 7 * 7} == found


def test_a_layer_without_letters_is_a_function_of_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    """The height, the width and the batch."""
    assert 0 == run(["formula", "Conv2d(3, 64, 7, stride=2, padding=3)", "-i", "3x224x224", "-f", "python"])
    function: dict[str, Any] = {}
    exec(capsys.readouterr().out, function)
    found = function["Conv2d"](H=225, W=160, N=2)
    assert {"params": 64 * 3 * 7 * 7 + 64, "macs": 2 * 64 * 113 * 80 * 3 * 7 * 7} == found


def test_numbers_alone_need_no_letters() -> None:
    """The path that counts imports nothing of what finds formulas."""
    code = (
        "import sys; from convstat.cli.run import run; run(['analyze', 'configs/resnet50.yaml', '--counters', 'none']);"
        "sys.exit(any(n.startswith('convstat.formulas.symbolic.') or n in ('sympy', 'torch') for n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert 0 == done.returncode, done.stderr


def test_the_formats_hold_the_same_forms(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON, CSV, LaTeX and text."""
    path = str(ROOT / "configs" / "unet.yaml")
    assert 0 == run(["formula", path, "-f", "json"])
    document = json.loads(capsys.readouterr().out)
    assert {"size": 256, "width": 64, "classes": 2, "N": 1} == document["closed"]["letters"]
    assert 0 == run(["formula", path, "-f", "csv"])
    assert f"closed total,unet,,,macs,,{document['closed']['macs']}" in capsys.readouterr().out.replace('"', "")
    assert 0 == run(["formula", path, "-f", "latex"])
    said = capsys.readouterr().out
    assert (
        r"N \, \mathit{size}^{2} \, \mathit{width} \, \left(\mathit{classes} + 179 \mathit{width} + 27\right)" in said
    )
    assert 0 == run(["formula", path, "--width", "120"])
    assert "N * size**2 * width * (classes + 179 * width + 27)" in capsys.readouterr().out


def test_a_condition_reads_as_it_is_said() -> None:
    """Multiples, integers and bounds."""
    size, groups = Polynomial.letter("H", integer=True), Polynomial.letter("g", integer=True)
    assert "64 is a multiple of g" == Text().condition(Condition("is an integer", Polynomial.number(64) / groups))
    assert "H >= 5" == Text().condition(Condition(">= 0", size - Polynomial.number(5)))
    assert "H <= 9" == Text().condition(Condition(">= 0", Polynomial.number(9) - size))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20))
def test_what_is_no_integer_is_rounded_as_it_is(over: int, under: int) -> None:
    """``floor(x + 1/2)`` is ``ceil`` of nothing where x may be a quarter."""
    facts = Facts()
    scale = Number(Polynomial.letter("a"), Fraction(3, 4), facts)
    found = floor(scale * 8 + Fraction(1, 2)) + floor(scale / 2 + Fraction(1, 2))
    value = {"a": Fraction(over, under)}
    expected = floor(value["a"] * 8 + Fraction(1, 2)) + floor(value["a"] / 2 + Fraction(1, 2))
    assert expected == _work_out(Text().polynomial(found.polynomial), value) == found.polynomial.value(value)


@pytest.mark.parametrize("kind", sorted(CASES))
def test_the_rules_of_every_kind_of_layer_run_on_letters(kind: str) -> None:
    """In every case, with a letter for each size of each input: at these sizes, and at others where the form holds."""
    for written, shapes in CASES[kind]:
        sizes = {f"s{i}_{j}": size for i, shape in enumerate(shapes) for j, size in enumerate(shape)}
        facts = Facts()
        letters = {name: Number(Polynomial.letter(name, integer=True), size, facts) for name, size in sizes.items()}
        for letter in letters.values():
            assert letter >= 1
        lettered = tuple(
            tuple(letters[f"s{i}_{j}"] for j in range(len(shape))) for i, shape in enumerate(shapes)
        )  # fmt: skip
        layer = KINDS[kind].create(written, lettered)
        output = layer.output_shape(lettered)
        counts = [*output, layer.cost(lettered, output).macs, layer.params()]
        closed = close(map(polynomial, counts), facts)
        for factor, more in ((1, 0), (2, 0), (1, 1), (3, 2)):
            values = {name: factor * size + more for name, size in sizes.items()} | {
                name: int(value) for name, value in closed.settled.items()
            }
            if not all(condition.holds(values) for condition in closed.conditions):
                assert (factor, more) != (1, 0)
                continue
            plain = tuple(tuple(values[f"s{i}_{j}"] for j in range(len(shape))) for i, shape in enumerate(shapes))
            counted_layer = KINDS[kind].create(written, plain)
            out = counted_layer.output_shape(plain)
            expected = [*out, counted_layer.cost(plain, out).macs, counted_layer.params()]
            assert expected == [form.value(values) for form in closed.forms]


def test_a_rule_of_somebody_elses_that_takes_no_letters_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The formulas are shown without closed forms; asked for, these are an error."""
    from convstat import layers
    from convstat.layers.base import FREE, Cost, Layer

    class Halved(Layer):
        """Half of the height; free."""

        family = "reshape"

        def output_shape(self, inputs: Any) -> Any:
            batch, channels, height, width = inputs[0]
            return batch, channels, int.__floordiv__(height, 2), width

        def cost(self, inputs: Any, output: Any) -> Cost:
            return FREE

    monkeypatch.setitem(layers._kinds, "Halved", Halved)
    monkeypatch.setitem(layers._names, "Halved", Halved)
    path = tmp_path / "net.yaml"
    path.write_text(
        "convstat: 1\ninput: [3, size, size]\nvars: {size: 8}\nlayers: [Halved, {Conv2d: [4, 3]}]\n".replace(
            "{Conv2d: [4, 3]}", "{Conv2d: {out: 4, k: 3}}"
        )
    )
    assert 0 == run(["formula", str(path)])
    out, error = capsys.readouterr()
    assert "closed forms" not in out
    assert "a rule of Halved takes no letters" in error
    assert 2 == run(["formula", str(path), "--in", "size"])
    assert "a rule of Halved takes no letters" in capsys.readouterr().err
