"""The Python API: what it takes, what it gives, and that the model handed in is left exactly as it was found."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import convstat
from convstat.errors import SourceError, SpecError, UsageError

SPEC = """\
convstat: 1
name: tiny
input: [4, 8, 8]
vars: {width: 8}
layers:
  - Conv2d: {out_channels: width, kernel_size: 3, padding: 1, bias: false}
"""


class Net(nn.Module):
    """A convolution, a norm with running statistics, dropout and a linear layer that is used twice."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor | None = None) -> torch.Tensor:
        """Pool to one vector for each picture."""
        x = self.drop(self.norm(self.conv(x))).mean((2, 3))
        x = self.head(torch.relu(self.head(x)))
        return x if scale is None else x * scale


MACS = 8 * 3 * 3 * 3 * 16 * 16 + 2 * 8 * 8
PARAMS = 8 * 3 * 3 * 3 + 2 * 8 + 8 * 8 + 8


class Wide(nn.Module):
    """Takes nested inputs: a dict of tensors, a list of tensors, and a word."""

    def forward(self, batch: dict[str, torch.Tensor], more: list[torch.Tensor], how: str = "sum") -> torch.Tensor:
        """Multiply what is in the dict, add what is in the list."""
        result = batch["a"] @ batch["b"]
        return result + sum(more) if how == "sum" else result


def test_counters_may_be_named_in_a_list() -> None:
    """As with commas; what is no name is refused as such, and not as a fault of the model."""
    rows = [convstat.analyze(nn.Linear(4, 4), (4,), counters=names).counters for names in (["ptflops"], "ptflops")]
    assert rows[0] == rows[1]
    assert "ptflops" == rows[0][0].name
    assert () == convstat.analyze(nn.Linear(4, 4), (4,), counters=[]).counters
    with pytest.raises(UsageError, match="counters must be counter names, not 3"):
        convstat.analyze(nn.Linear(4, 4), (4,), counters=3)  # type: ignore[arg-type]


def test_the_package_is_quick_to_import_and_free_of_torch(root: Path) -> None:
    """Neither importing convstat nor counting a spec with it loads torch, and its names are all there."""
    program = (
        "import convstat, sys\n"
        "assert 'convstat.api' not in sys.modules\n"
        "print(convstat.analyze('configs/resnet50.yaml').totals.params)\n"
        "print('torch' in sys.modules, 'rich' in sys.modules)\n"
        "names = set(convstat.__all__)\n"
        "print(all(hasattr(convstat, name) for name in names), names <= set(dir(convstat)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert "25557032\nFalse False\nTrue True\n" == answer.stdout
    with pytest.raises(AttributeError, match="no attribute 'analyse'"):
        convstat.analyse  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "inputs",
    [
        (3, 16, 16),
        [3, 16, 16],
        (1, 3, 16, 16),
        "3x16x16",
        "1x3x16x16:float32",
        torch.zeros(1, 3, 16, 16),
        [torch.zeros(1, 3, 16, 16)],
        (torch.zeros(1, 3, 16, 16),),
        [(3, 16, 16)],
        {"x": torch.zeros(1, 3, 16, 16)},
        {"x": (3, 16, 16)},
        {"x": "3x16x16", "scale": torch.ones(8)},
        {"x": torch.zeros(1, 3, 16, 16), "scale": (8,)},
    ],
    ids=str,
)
def test_inputs_can_be_tensors_shapes_or_both(inputs: object) -> None:
    """However the same input is given, the figures are the same."""
    report = convstat.analyze(Net(), inputs)
    assert (PARAMS, MACS) == (report.totals.params, report.totals.macs)
    assert ("x", (1, 3, 16, 16)) == (report.model.inputs[0].name, report.model.inputs[0].shape)


def test_a_batch_multiplies_the_work_and_not_the_parameters() -> None:
    """A shape of one sample gets the batch in front, a tensor brings its own."""
    for report in (
        convstat.analyze(Net(), (3, 16, 16), batch=5),
        convstat.analyze(Net(), torch.zeros(5, 3, 16, 16), batch=5),
        convstat.analyze(Net(), torch.zeros(5, 3, 16, 16)),
    ):
        assert (PARAMS, 5 * MACS) == (report.totals.params, report.totals.macs)


def test_inputs_can_nest() -> None:
    """Tensors in dicts and lists go through, shapes inside of them become tensors as they are written."""
    for inputs in (
        [{"a": torch.zeros(4, 6), "b": torch.zeros(6, 5)}, [torch.zeros(4, 5), torch.zeros(4, 5)]],
        [{"a": (4, 6), "b": "6x5"}, [(4, 5), (4, 5)]],
        {"batch": {"a": (4, 6), "b": (6, 5)}, "more": [(4, 5)], "how": "sum"},
    ):
        report = convstat.analyze(Wide(), inputs)
        assert 4 * 6 * 5 == report.totals.macs
        assert ["batch.a", "batch.b", "more[0]"] == [item.name for item in report.model.inputs][:3]


def test_dtypes_of_inputs_are_written_behind_their_shape() -> None:
    """An embedding is asked for integers."""
    report = convstat.analyze(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2)), "1x7:int64")
    assert 7 * 4 * 2 == report.totals.macs
    assert "int64" == report.model.inputs[0].dtype


def test_a_model_can_be_named_made_or_given(tmp_path: Path) -> None:
    """A module, its class, a function, a file, a spec by path, an inline layer: each is counted."""
    assert MACS == convstat.analyze(Net(), (3, 16, 16)).totals.macs
    assert MACS == convstat.analyze(Net, (3, 16, 16)).totals.macs
    assert 27 * 4 * 256 + 2 * 4 * 4 == convstat.analyze(Net, (3, 16, 16), width=4).totals.macs
    assert MACS == convstat.analyze(lambda: (Net(), torch.zeros(1, 3, 16, 16))).totals.macs
    assert MACS == convstat.analyze(f"{__file__}:Net", (3, 16, 16)).totals.macs
    assert MACS == convstat.analyze(f"{__file__}:Net", torch.zeros(1, 3, 16, 16), width=8).totals.macs
    path = tmp_path / "net.yaml"
    path.write_text(SPEC)
    assert 8 * 4 * 9 * 64 == convstat.analyze(path).totals.macs
    assert 2 * 4 * 9 * 16 == convstat.analyze(str(path), (4, 4, 4), width=2).totals.macs
    assert 2 * 4 * 9 * 16 == convstat.analyze(str(path), {"input": (4, 4, 4)}, width=2).totals.macs
    assert 8 * 4 * 9 * 36 == convstat.analyze("Conv2d(4, 8, 3)", (4, 8, 8)).totals.macs


def test_training_counts_the_backward_pass(tmp_path: Path) -> None:
    """The backward pass of a linear layer takes two products as large; a spec is traced as its torch model."""
    forward = 16 * 4
    assert forward == convstat.analyze(nn.Linear(16, 4), (16,)).totals.macs
    wants_grad = torch.zeros(1, 16, requires_grad=True)
    # What no gradient is asked of costs nothing: an input is data.
    assert 2 * forward == convstat.analyze(nn.Linear(16, 4), (16,), mode="train").totals.macs
    assert 2 * forward <= convstat.analyze(nn.Linear(16, 4), wants_grad, mode="train").totals.macs
    chain = "convstat: 1\nname: chain\ninput: [16]\nlayers:\n  - Linear: 4\n  - Linear: 2\n"
    (tmp_path / "chain.yaml").write_text(chain)
    report = convstat.analyze(tmp_path / "chain.yaml", mode="train")
    assert 2 * (16 * 4) + 3 * (4 * 2) == report.totals.macs
    assert "train" == report.model.mode
    assert 16 * 4 + 4 + 4 * 2 + 2 == report.totals.params


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: convstat.analyze(Net(), (3, 16, 16), width=4), UsageError, "it takes no overrides such as width"),
        (lambda: convstat.analyze(Net, (3, 16, 16), wdith=4), UsageError, "has no argument 'wdith'"),
        (lambda: convstat.analyze(Net()), SourceError, "provides no inputs"),
        (lambda: convstat.analyze(Net(), {"y": (3, 16, 16)}), UsageError, "has no argument 'y'"),
        (lambda: convstat.analyze(Net(), (3, 16, 16), mode="trian"), UsageError, "unknown mode 'trian'"),
        (lambda: convstat.analyze(Net(), (3, 16, 16), device="gpu"), UsageError, "unknown device 'gpu'"),
        (lambda: convstat.analyze(Net(), (3, 16, 16), batch=0), UsageError, "batch must be at least 1"),
        (lambda: convstat.analyze(Net(), "3x16x16:flaot32"), UsageError, "unknown dtype 'flaot32'"),
        (lambda: convstat.analyze(Net(), (4, 16, 16)), SourceError, "Net does not run"),
        (lambda: convstat.analyze(7), UsageError, "a int is neither"),
        (lambda: convstat.analyze("Conv2d(4, 8, 3)", torch.zeros(1, 4, 8, 8)), UsageError, "takes the shapes"),
        (lambda: convstat.analyze("Conv2d(4, 8, 3, groups=3)", (4, 8, 8)), SpecError, "divisible by groups"),
    ],
)
def test_a_mistake_is_an_exception_that_says_what_it_is(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    """The same messages as on the command line, as exceptions of convstat's own kinds."""
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_the_models_own_exception_is_the_cause() -> None:
    """What went wrong in the model can be caught and looked at."""
    with pytest.raises(SourceError) as caught:
        convstat.analyze(Net(), (4, 16, 16))
    assert isinstance(caught.value.__cause__, RuntimeError)


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything about a model and the process that an analysis might change, in a form that compares."""
    state: dict[str, Any] = {
        "torch random": torch.get_rng_state().tolist(),
        "python random": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "call": nn.Module.__call__,
        "relu": nn.functional.relu,
        "conv": nn.functional.conv2d,
        "matmul": torch.Tensor.matmul,
    }
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, dict):
                # A module's own tables compare by what is in them, and each entry by identity.
                state[f"{path}.{name}"] = [(key, id(entry), repr(entry)) for key, entry in value.items()]
            else:
                state[f"{path}.{name}"] = id(value)
        state[f"{path} attributes"] = list(vars(module))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        grad = tensor.grad
        state[f"{name} tensor"] = (
            id(tensor), tensor._version, tensor.requires_grad, tensor.data_ptr(), tensor.tolist(), tensor.device,
            id(grad), None if grad is None else grad.tolist(),
        )  # fmt: skip
    return state


def lived_in() -> Net:
    """A model that somebody works with: gradients, hooks, a frozen part, mixed modes, attributes of its own."""
    model = Net()
    model(torch.rand(4, 3, 8, 8)).sum().backward()
    model.train()
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    model.register_buffer("steps", torch.tensor(3))
    model.head.register_forward_hook(lambda module, args, output: output)
    model.norm.register_forward_pre_hook(lambda module, args: None)
    model.head.weight.register_hook(lambda grad: grad)
    model.note = {"run": 1}  # type: ignore[assignment]
    return model


class Broken(Net):
    """Raises what it is told to in the middle of its forward pass."""

    error: BaseException = RuntimeError("broken")

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor | None = None) -> torch.Tensor:
        """Run a part, leave something behind, and fail."""
        self.left = self.conv(x)
        random.random()
        torch.rand(3)
        raise self.error


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"mode": "train"},
    {"counters": "all"},
    {"device": "cpu"},
    {"device": "cpu", "mode": "train"},
    {"dtype": "float16"},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_model_is_left_exactly_as_found(options: dict[str, Any]) -> None:
    """Parameters, buffers, gradients, hooks, flags, attributes, random states and torch itself are untouched."""
    model = lived_in()
    inputs = torch.rand(4, 3, 16, 16)
    before, data = snapshot(model), (inputs._version, inputs.tolist(), inputs.requires_grad)
    report = convstat.analyze(model, inputs, **options)
    assert PARAMS == report.totals.params
    assert before == snapshot(model)
    assert data == (inputs._version, inputs.tolist(), inputs.requires_grad)
    assert [False, True] == [model.norm.training, model.conv.training]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_the_model_is_left_exactly_as_found_when_it_fails(options: dict[str, Any], error: BaseException) -> None:
    """Also when its forward pass raises, is interrupted, or wants to leave."""
    model = Broken()
    model.error = error
    model.norm.eval()
    before = snapshot(model)
    with pytest.raises((SourceError, KeyboardInterrupt)):
        convstat.analyze(model, (3, 16, 16), **options)
    assert before == snapshot(model)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.norm.running_mean.add_(1),
        lambda model: model.eval(),
        lambda model: setattr(model.head.weight, "grad", None),
        lambda model: model.head.register_forward_hook(lambda *_: None),
        lambda model: setattr(model, "more", 1),
        lambda model: setattr(model.conv, "weight", nn.Parameter(model.conv.weight.clone())),
        lambda model: torch.rand(1),
        lambda model: random.random(),
        lambda model: model.conv.weight.requires_grad_(True),
        lambda model: model.note.update(run=2),
    ],
)
def test_the_comparison_sees_every_kind_of_change(change: Callable[[Net], object]) -> None:
    """The two tests above can fail."""
    model = lived_in()
    before = snapshot(model)
    change(model)
    assert before != snapshot(model)


@given(st.integers(1, 4), st.integers(1, 8), st.integers(3, 9))
def test_a_module_counts_as_its_spec(batch: int, channels: int, size: int) -> None:
    """One layer given as a module, as an inline layer and as a class: the same totals."""
    named = convstat.analyze(f"Conv2d({channels}, 4, 3)", (channels, size, size), batch=batch)
    made = convstat.analyze(nn.Conv2d(channels, 4, 3), (channels, size, size), batch=batch)
    assert (named.totals.params, named.totals.macs) == (made.totals.params, made.totals.macs)
    assert named.totals.other == made.totals.other


def test_a_report_survives_json(tmp_path: Path) -> None:
    """What is written as JSON is read back equal, and is the document of the command line."""
    report = convstat.analyze(Net(), (3, 16, 16), counters="default")
    path = tmp_path / "report.json"
    path.write_text(report.to_json())
    assert report == convstat.load(path)
    document = json.loads(report.to_json())
    assert ("convstat.report/1", MACS) == (document["schema"], document["totals"]["macs"])
    assert report.totals.macs == sum(row.macs for row in report.layers)
    with pytest.raises(SourceError, match="cannot read"):
        convstat.load(tmp_path / "none.json")


def test_a_report_becomes_a_dataframe(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for each layer, one column for each figure, and the columns add up to the totals."""
    pandas = types.ModuleType("pandas")
    pandas.DataFrame = list  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    report = convstat.analyze(Net(), (3, 16, 16))
    records = report.to_dataframe()
    assert [row.name for row in report.layers] == [record["name"] for record in records]
    for name in ("params", "trainable_params", "buffers", "weight_bytes", "macs", "flops"):
        assert getattr(report.totals, name) == sum(record[name] for record in records)
    for entry, amount in report.totals.other.items():
        assert amount == sum(record[f"other.{entry}"] for record in records)
    assert {len(record) for record in records} == {len(records[0])}


def test_a_dataframe_with_the_real_pandas() -> None:
    """The same where pandas is installed."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: nothing here needs it")
    frame = convstat.analyze(Net(), (3, 16, 16)).to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert MACS == frame["macs"].sum()


def test_without_pandas_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what is missing and how to get it."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        convstat.analyze(Net(), (3, 16, 16)).to_dataframe()


def test_a_report_shows_itself() -> None:
    """In a line, as text, and in a console of any width, with the same figures."""
    from rich.console import Console

    report = convstat.analyze(Net(), (3, 16, 16))
    assert f"<Report of Net: {PARAMS:,} params, {MACS:,} MACs>" == repr(report)
    assert f"{MACS:,}" in str(report)
    for width in (40, 80, 120):
        console = Console(width=width, height=50, record=True, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
        console.print(report)
        shown = console.export_text()
        # On a screen, facts are framed and tables have rules.
        words = re.sub(r"[─╭╮╰╯│]|-{3,}", "", shown).split()
        assert re.sub(r"-{3,}", "", report.to_text(width=width)).split() == words


def test_a_notebook_shows_a_table_that_stands_alone() -> None:
    """Names are escaped, all figures are there, every tag is closed, and nothing is fetched from elsewhere."""
    from html.parser import HTMLParser

    hostile = nn.ModuleDict({"<script>alert(1)</script>": nn.Linear(4, 4)})

    class Hostile(nn.Module):
        """Has a module whose name is HTML."""

        def __init__(self) -> None:
            super().__init__()
            self.parts = hostile

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Call it."""
            return next(iter(self.parts.values()))(x)

    open_tags: list[str] = []

    class Checker(HTMLParser):
        """Sees that tags nest and that none but those of tables is there."""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            """Open."""
            assert tag in [
                "div",
                "h3",
                "h4",
                "p",
                "dl",
                "dt",
                "dd",
                "table",
                "thead",
                "tbody",
                "tfoot",
                "tr",
                "th",
                "td",
            ]
            assert {name for name, _ in attrs} <= {"class", "style", "scope", "title"}
            open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            """Close."""
            assert tag == open_tags.pop()

    html = convstat.analyze(Hostile(), (4,))._repr_html_()
    Checker().feed(html)
    assert [] == open_tags
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "url(" not in html
    assert "http" not in html
    plain = convstat.analyze(Net(), (3, 16, 16))
    for row in plain.layers:
        assert f">{row.macs:,}<" in plain._repr_html_()


def test_rules_for_custom_operators_can_be_registered() -> None:
    """Without a rule an operator is uncounted; with one, its cost counts; taken back, it is uncounted again."""
    library = torch.library.Library("convstat_api_test", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x.new_empty(x.shape), "Meta")

    class Custom(nn.Module):
        """Calls the operator."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Call it."""
            return torch.ops.convstat_api_test.twice(x)  # type: ignore[no-any-return]

    assert "incomplete" == convstat.analyze(Custom(), (7,)).status
    unregister = convstat.register_kernel("convstat_api_test::twice", lambda call: 2 * call.output.numel)
    try:
        report = convstat.analyze(Custom(), (7,))
        assert ("complete", 14) == (report.status, report.totals.macs)
        with pytest.raises(ValueError, match="has a rule already"):
            convstat.register_kernel("convstat_api_test::twice", 5)
        take_back = convstat.register_kernel("convstat_api_test::twice", 5, replace=True)
        assert 5 == convstat.analyze(Custom(), (7,)).totals.macs
        take_back()
        assert 14 == convstat.analyze(Custom(), (7,)).totals.macs
    finally:
        unregister()
    assert "incomplete" == convstat.analyze(Custom(), (7,)).status
