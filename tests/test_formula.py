"""The formulas that are shown, worked out again by others' rules, come to what is counted."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import counted
import pytest
from chains import Chain, sample
from counted import network
from golden_files import assert_golden
from jsonschema import Draft202012Validator
from layer_cases import CASES

from convstat.cli.run import run
from convstat.commands.formula import term
from convstat.commands.kind_formula import kind_formula
from convstat.count.steps import of_node, params_of_node
from convstat.formulas.notation import MEANINGS, SYMBOLS, latex, names
from convstat.formulas.notes import Form
from convstat.layers import KINDS, NAMES, Layer
from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.render.views.formula import formula_lines
from convstat.results.documents.schema import report_schema
from convstat.results.formula import Term
from convstat.spec import shipped

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "configs").glob("*.yaml"))
ALL = (*KINDS, *shipped.NAMES)


def work_out(formula: str, values: Mapping[str, int]) -> int:
    """Evaluate a printed formula by Python's own grammar, in exact fractions; nothing but + * / is understood."""

    def value(node: ast.expr) -> Fraction:
        match node:
            case ast.Constant(value=int(number)):
                return Fraction(number)
            case ast.Name(id=name):
                return Fraction(values[name])
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return value(left) + value(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return value(left) * value(right)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return value(left) / value(right)
        raise AssertionError(ast.dump(node))

    found = value(ast.parse(formula, mode="eval").body)
    assert found.denominator == 1
    return found.numerator


def _closes(terms: tuple[Term, ...], whole: int) -> None:
    """Every term is as large as its letters and its numbers say, and all of them are the whole."""
    assert whole == sum(found.times * found.value for found in terms)
    for found in terms:
        if found.symbols:
            assert found.value == work_out(found.symbols, dict(found.values))
            assert found.times * found.value == work_out(found.in_symbols, dict(found.values))
            assert set(names(found.symbols)) <= MEANINGS.keys()
            assert found.times * found.value == work_out(found.in_numbers, {})


@pytest.mark.parametrize("name", NAMES)
def test_the_formulas_of_every_kind_of_layer_come_to_its_counts(name: str) -> None:
    """In every case: symbols with their values, and numbers; whatever multiplies or learns has symbols."""
    for written, shapes in [*CASES[NAMES[name].kind()], sample(NAMES[name].kind())]:
        chain = Chain(*shapes, dtype=NAMES[name].input_dtype)
        node = chain.add(NAMES[name].kind(), "it", sources=tuple(chain.shapes), **written).graph().nodes[-1]
        macs, params = tuple(map(term, of_node(node))), tuple(map(term, params_of_node(node)))
        _closes(macs, node.cost.macs)
        _closes(params, node.layer.params())
        assert all(found.symbols for found in (*macs, *params))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_formulas_of_every_example_close_with_what_analyze_says(path: Path) -> None:
    """Layer by layer and in the totals; and so does the document that is printed."""
    report = counted.analyze(str(path), counters="none")
    found = network(str(path))
    assert [row.name for row in report.layers] == [layer.row.name for layer in found.layers]
    for row, layer in zip(report.layers, found.layers, strict=True):
        _closes(layer.macs, row.macs)
        _closes(layer.params, row.params)
    document = found.to_dict()
    Draft202012Validator(report_schema()).validate(document)
    for figure, whole in (("macs", report.totals.macs), ("params", report.totals.params)):
        terms = [term for layer in document["layers"] for term in layer[figure]["terms"]]
        assert whole == sum(term["times"] * work_out(term["symbols"], term["values"]) for term in terms)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "options",
    [{}, {"depth": 1}, {"depth": 2}, {"flat": True}, {"top": 3}, {"sort": "params"}, {"sort": "name", "depth": 1}],
    ids=str,
)
def test_the_lines_of_the_table_sum_up_to_the_total(path: Path, options: dict[str, Any]) -> None:
    """Whatever is folded, sorted or left out; and the numbers of a line come to its amount."""
    found = network(str(path))
    for figure in ("MACs", "params"):
        lines = formula_lines(figure, found, Options(**options))
        whole = found.report.totals.macs if figure == "MACs" else found.report.totals.params
        assert whole == sum(line.amount or 0 for line in lines)
        for line in lines:
            if line.numbers:
                assert line.amount == work_out(line.numbers, {})


def _general(forms: tuple[Form, ...], layer: Layer, values: Mapping[str, int]) -> int:
    arguments = dict(layer.items())
    return sum(work_out(form.symbols, values) for form in forms if all(arguments[flag] for flag in form.needs))


def _letters(layer: Layer, shapes: tuple[tuple[int, ...], ...]) -> dict[str, int]:
    """What the letters of a layer are, from its arguments and shapes and no formula."""
    of = dict(layer.items())
    output = layer.output_shape(shapes)
    found = {"N": output[0]}
    plain = {
        "C_in": "in_channels", "C_out": "out_channels", "g": "groups", "F_in": "in_features", "F_out": "out_features",
        "F_1": "in1_features", "F_2": "in2_features", "V": "num_embeddings", "E_emb": "embedding_dim",
        "a": "num_parameters", "n_pos": "num_positions", "E": "embed_dim",
    }  # fmt: skip
    found |= {letter: of[name] for letter, name in plain.items() if name in of}
    if layer.family == "convolution":
        for place, axis in enumerate("l" if len(output) == 3 else "hw" if len(output) == 4 else "dhw"):
            found |= {f"{axis.upper()}_in": shapes[0][2 + place], f"{axis.upper()}_out": output[2 + place]}
            found[f"k_{axis}"] = of["kernel_size"][place]
    if layer.kind() == "Linear":
        found["P"] = prod(output[1:-1])
    if layer.kind() == "Bilinear":
        found["N"] = prod(output[:-1])
    if "normalized_shape" in of:
        sizes = of["normalized_shape"]
        found["M"] = sizes if isinstance(sizes, int) else prod(sizes)
    found["C"] = of.get("num_features", of.get("num_channels", 0))
    return found


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("RNN", "GRU", "LSTM")])
def test_the_formula_of_a_kind_in_general_holds_in_every_case(name: str) -> None:
    """With the letters' values taken from the arguments and the shapes."""
    formula = kind_formula(name)
    for written, shapes in CASES[name]:
        layer = KINDS[name].create(written, shapes)
        if name in ("MultiheadAttention", "TransformerEncoderLayer"):
            continue
        values = _letters(layer, shapes)
        assert layer.cost(shapes, layer.output_shape(shapes)).macs == _general(formula.macs, layer, values)
        assert layer.params() == _general(formula.params, layer, values)


def test_the_formula_of_attention_in_general_holds() -> None:
    """With and without keys of another width; what is appended to the keys is the one case of its own."""
    formula = kind_formula("MultiheadAttention")
    for written, shapes in CASES["MultiheadAttention"]:
        layer = KINDS["MultiheadAttention"].create(written, shapes)
        of = dict(layer.items())
        batch, length = (0, 1) if of["batch_first"] else (1, 0)
        query, key = shapes[0], shapes[min(1, len(shapes) - 1)]
        width = of["embed_dim"]
        values = {"N": query[batch], "n_q": query[length], "n_k": key[length], "E": width}
        values |= {"E_k": of["kdim"] or width, "E_v": of["vdim"] or width}
        assert layer.params() == _general(formula.params, layer, values)
        added = of["add_bias_kv"] + of["add_zero_attn"]
        more = 2 * query[batch] * query[length] * added * width
        assert layer.cost(shapes, query).macs == _general(formula.macs, layer, values) + more


def test_the_formula_of_a_transformer_layer_in_general_holds() -> None:
    """The letters of its linear maps are of each map."""
    formula = kind_formula("TransformerEncoderLayer")
    for written, shapes in CASES["TransformerEncoderLayer"]:
        layer = KINDS["TransformerEncoderLayer"].create(written, shapes)
        of = dict(layer.items())
        batch, length = (0, 1) if of["batch_first"] else (1, 0)
        width, wide, n = of["d_model"], of["dim_feedforward"], shapes[0][length]
        values = {"N": shapes[0][batch], "n_q": n, "n_k": n, "P": n, "E": width, "E_k": width, "E_v": width}

        def at(form: Form, values: dict[str, int] = values, width: int = width, wide: int = wide) -> int:
            sizes = (width, wide) if form.about.startswith("linear1") else (wide, width)
            return work_out(form.symbols, {**values, "F_in": sizes[0], "F_out": sizes[1]})

        kept = [form for form in formula.params if all(of[flag] for flag in form.needs)]
        assert layer.params() == sum(map(at, kept))
        # P is what is a position to the linear maps: all but the first and the last axis.
        first = {**values, "N": shapes[0][0], "P": shapes[0][1]}
        macs = sum(at(form, first if form.about.startswith("linear") else values) for form in formula.macs)
        assert layer.cost(shapes, shapes[0]).macs == macs


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_the_formula_of_a_recurrent_layer_in_general_holds(name: str) -> None:
    """Summed up over the layers of the stack."""
    formula = kind_formula(name)
    for written, shapes in CASES[name]:
        layer = KINDS[name].create(written, shapes)
        of = dict(layer.items())
        hidden, directions = of["hidden_size"], 2 if of["bidirectional"] else 1
        state = of.get("proj_size") or hidden
        values = {"T": shapes[0][0] * shapes[0][1], "D": directions, "G": {"RNN": 1, "GRU": 3, "LSTM": 4}[name]}
        values |= {"H": hidden, "S": state, "R": of.get("proj_size", 0)}
        inputs = [of["input_size"], *[directions * state] * (of["num_layers"] - 1)]
        macs = sum(_general(formula.macs, layer, {**values, "X": size}) for size in inputs)
        params = sum(_general(formula.params, layer, {**values, "X": size}) for size in inputs)
        assert layer.cost(shapes, layer.output_shape(shapes)).macs == macs
        assert layer.params() == params


BLOCKS: dict[str, list[tuple[str, dict[str, int]]]] = {
    "DepthwiseSeparableConv": [
        ("8, kernel_size=5, padding=2, stride=2, multiplier=3, dilation=1", {"m": 3, "k": 5, "bias": 1}),
        ("8, kernel_size=3, bias=False", {"m": 1, "k": 3, "bias": 0}),
    ],
    "SpatiallySeparableConv": [
        ("8, kernel_size=5, stride=2, mid_channels=7", {"k": 5, "C_mid": 7, "bias": 1}),
        ("8, kernel_size=3, padding=1, bias=False", {"k": 3, "C_mid": 8, "bias": 0}),
    ],
    "ACBlock": [
        ("8, kernel_size=3, groups=2", {"k": 3, "g": 2, "deploy": 0, "not deploy": 1}),
        ("8, kernel_size=5, padding=2, stride=2", {"k": 5, "g": 1, "deploy": 0, "not deploy": 1}),
        ("8, kernel_size=3, padding=1, deploy=True", {"k": 3, "g": 1, "deploy": 1, "not deploy": 0}),
    ],
    "SqueezeExcitation": [("3", {"C_sq": 3}), ("5", {"C_sq": 5})],
    "InvertedResidual": [
        ("8, stride=2", {"k": 3, "C_exp": 24, "g": 24, "se_ratio": 0, "bias": 0, "C_exp != C_in": 1}),
        (
            "4, expand_ratio=1, kernel_size=5",
            {"C_out": 4, "k": 5, "C_exp": 4, "g": 4, "se_ratio": 0, "bias": 0, "C_exp != C_in": 0},
        ),
        (
            "8, expand_ratio=8, se_ratio=1/4, bias=True, groups=4",
            {"k": 3, "C_exp": 32, "g": 4, "se_ratio": 1, "C_sq": 8, "bias": 1, "C_exp != C_in": 1},
        ),
    ],
}


@pytest.mark.parametrize("name", shipped.NAMES)
def test_the_formula_of_a_block_in_general_comes_to_what_is_counted(name: str) -> None:
    """With every argument that it has a letter or a condition for."""
    formula = kind_formula(name)
    for arguments, values in BLOCKS[name]:
        totals = counted.analyze(f"{name}({arguments})", inputs=["4x12x11"], batch=2, counters="none")
        output = totals.layers[-1].output_shapes[0]
        letters = {"N": 2, "C_in": 4, "C_out": 8, "H_in": 12, "W_in": 11, **values}
        letters |= {"H_out": output[2], "W_out": output[3]}
        for forms, whole in ((formula.macs, totals.totals.macs), (formula.params, totals.totals.params)):
            kept = [form for form in forms if all(values[need] for need in form.needs)]
            assert whole == sum(work_out(form.symbols, letters) for form in kept)


@pytest.mark.parametrize("name", ALL)
def test_every_kind_has_all_that_is_promised(name: str) -> None:
    """Its letters are explained, there is a reason, every format writes it, and its example runs."""
    formula = kind_formula(name)
    Draft202012Validator(report_schema()).validate(formula.to_dict())
    assert formula.about
    assert formula.notes.why
    used = {letter for form in (*formula.macs, *formula.params) for letter in names(form.symbols)}
    assert used == {symbol.text for symbol in formula.symbols()}
    for form in (*formula.macs, *formula.params):
        assert latex(form.symbols).count("{") == latex(form.symbols).count("}")
    for format in RENDERERS.able("formula"):
        assert RENDERERS.named(format).render([formula], Options())
    if formula.use:
        command, *arguments = shlex.split(formula.use)
        assert "convstat" == command
        assert 0 == run([*arguments, "-qq"])


def test_no_letter_has_two_meanings() -> None:
    """Neither as text nor in LaTeX."""
    meanings: dict[str, set[str]] = {}
    for symbol in SYMBOLS.values():
        assert symbol.text.isidentifier()
        meanings.setdefault(symbol.text, set()).add(symbol.meaning)
        meanings.setdefault(f"latex {symbol.latex}", set()).add(symbol.meaning)
    assert all(len(found) == 1 for found in meanings.values())


COMMANDS = {
    "conv": ["Conv2d(64, 128, kernel_size=3, groups=4)", "-i", "64x56x56", "--batch", "2"],
    "lstm": ["LSTM(hidden_size=128, num_layers=2, proj_size=64)", "-i", "20x32"],
    "resnet50": ["configs/resnet50.yaml"],
    "resnet50-depth-2": ["configs/resnet50.yaml", "--depth", "2"],
    "vit-top": ["configs/vit_b_16.yaml", "--top", "2"],
    "kind-conv2d": ["Conv2d"],
    "kind-transposed": ["ConvTranspose2d"],
    "kind-lstm": ["LSTM"],
    "kind-acblock": ["ACBlock"],
    "kind-batchnorm": ["BatchNorm2d"],
}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_golden_formulas_at_every_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, width: int
) -> None:
    """It fits, and the totals are there whole; the text is what it was when somebody last looked at it."""
    monkeypatch.chdir(ROOT)
    assert 0 == run(["formula", *COMMANDS[name], "--width", str(width)])
    out, error = capsys.readouterr()
    assert "" == error
    # A word or a number that is longer than the line sticks out, and nothing else does.
    assert all(len(line) <= width or " " not in line.strip() for line in out.splitlines())
    if not name.startswith("kind"):
        shown = [word for word in COMMANDS[name] if word not in ("--depth", "--top", "2") or name == "conv"]
        assert 0 == run(["formula", *shown, "-f", "json"])
        totals = json.loads(capsys.readouterr().out)["totals"]
        assert f"{totals['macs']:,}" in out
        assert f"{totals['params']:,}" in out
    assert_golden(f"cli/formula-{name}-{width}.txt", out)


@pytest.mark.parametrize("format", ["latex", "markdown", "csv"])
@pytest.mark.parametrize("name", ["conv", "lstm", "kind-lstm"])
def test_golden_formulas_in_every_format(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, format: str
) -> None:
    """The text is what it was when somebody last looked at it."""
    monkeypatch.chdir(ROOT)
    assert 0 == run(["formula", *COMMANDS[name], "-f", format])
    assert_golden(f"cli/formula-{name}.{format}", capsys.readouterr().out)


def test_latex_is_balanced_and_has_every_number() -> None:
    """Braces and dollars come in pairs, each row has as many cells as the table columns."""
    found = network(str(ROOT / "configs" / "resnet50.yaml"))
    text = RENDERERS.named("latex").render([found], Options())
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
    for line in text.splitlines():
        assert line.count("$") % 2 == 0
        if line.endswith(r" \\"):
            assert len(re.findall(r"(?<!\\)&", line)) in (1, 2, 3)
    assert r"64 \cdot 112 \cdot 112 \cdot 3 \cdot 7 \cdot 7" in text
    assert "4,089,184,256" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Cnov2d"], "did you mean 'Conv2d'"),
        (["nn.LSTN"], "did you mean 'LSTM'"),
        (["DepthwiseSeperableConv"], "did you mean 'DepthwiseSeparableConv'"),
        (["Conv2d", "kernel_size=3"], "takes no values"),
        (["Conv2d", "-i", "3x8x8"], "takes no --input"),
        (["LSTM", "--depth", "2"], "takes no --depth"),
        (["Conv2d", "Linear"], "one target or one kind of layer, not 2"),
        (["report.json"], "is a saved report"),
        (["configs/resnet5.yaml"], "did you mean"),
        (["configs/mobilenet_v1.yaml", "alhpa=1"], "did you mean 'alpha'"),
        (["Linear", "-f", "tree"], "formats that can: table"),
        (["configs/conv2d.yaml", "--sort", "mcs"], "did you mean 'macs'"),
        (["configs/conv2d.yaml", "--depth", "1", "-f", "json"], "--depth selects what is shown"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_said_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    """The exit code is 2, and there is no traceback and no output."""
    monkeypatch.chdir(ROOT)
    assert 2 == run(["formula", *arguments])
    out, error = capsys.readouterr()
    assert "" == out
    assert said in error
    assert "Traceback" not in error


def test_an_override_moves_the_formula(capsys: pytest.CaptureFixture[str]) -> None:
    """As in analyze; the numbers are those of the value that was set."""
    assert 0 == run(["formula", str(ROOT / "configs" / "mobilenet_v1.yaml"), "alpha=0.5", "-f", "json"])
    totals = json.loads(capsys.readouterr().out)["totals"]
    report = counted.analyze(str(ROOT / "configs" / "mobilenet_v1.yaml"), {"alpha": Fraction(1, 2)}, counters="none")
    assert (report.totals.macs, report.totals.params) == (totals["macs"], totals["params"])


def test_a_shared_layer_has_its_params_once(tmp_path: Path) -> None:
    """And its MACs at each call."""
    path = tmp_path / "shared.yaml"
    path.write_text(
        "convstat: 1\nname: shared\ninput: [4, 8, 8]\nlayers:\n"
        "  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}\n    name: conv\n"
        "  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}\n    name: again\n    share: conv\n",
        encoding="utf-8",
    )
    first, second = network(str(path)).layers
    assert [4 * 8 * 8 * 4 * 3 * 3] * 2 == [first.row.macs, second.row.macs]
    assert ("C_out*(C_in/g)*k_h*k_w", "C_out") == tuple(found.symbols for found in first.params)
    assert () == second.params


def test_specs_and_kinds_need_no_torch() -> None:
    """In a process of its own."""
    code = (
        "import sys; from convstat.cli.run import run; "
        f"run(['formula', {str(SPECS[0])!r}, '-qq']); run(['formula', 'LSTM', '-qq']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "False\n" == done.stdout, done.stderr


def test_completion_offers_kinds_and_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds once something is written, files from the start."""
    from convstat.cli.formula import complete

    monkeypatch.chdir(ROOT)
    assert {"Conv2d", "ConvTranspose2d"} <= set(complete("Conv"))
    assert ["ACBlock"] == complete("AC")
    assert "configs/" in complete("")


def test_a_python_model_closes_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the kernels that ran: a module that is called twice, a cell, attention, and parameters nobody knows."""
    pytest.importorskip("torch")
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)\n"
        "        self.norm = nn.BatchNorm2d(4)\n"
        "        self.rnn = nn.LSTM(8, 6, 2, batch_first=True)\n"
        "        self.table = nn.Parameter(torch.zeros(6, 5))\n"
        "    def forward(self, x):\n"
        "        x = self.norm(self.conv(self.conv(x))).flatten(1, 2)\n"
        "        return self.rnn(x)[0] @ self.table\n",
        encoding="utf-8",
    )
    found = network(f"{path}:Net", inputs=["4x8x8"])
    for layer in found.layers:
        _closes(layer.macs, layer.row.macs)
        _closes(layer.params, layer.row.params)
    conv = next(layer for layer in found.layers if layer.row.name == "conv")
    assert "C_out*H_out*W_out*(C_in/g)*k_h*k_w" == conv.macs[0].symbols
    assert {"C_in": 4, "g": 2}.items() <= dict(conv.params[0].values).items()
    assert found.report.totals.macs == sum(term.total for layer in found.layers for term in layer.macs)
