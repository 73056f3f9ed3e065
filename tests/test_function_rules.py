"""Functions of Python that have a rule: one call in the trace, at every name that they have, as the documents say."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import convstat
from convstat.count import ops
from convstat.formulas.cost import Cost
from convstat.results.report import Report
from convstat.trace import functions
from convstat.trace.calls import FunctionCall

RULES = Path(convstat.__file__).parent / "docs" / "rules.md"


def opaque(*tensors: Any, **options: Any) -> Any:
    """Double the first of some tensors out of torch's sight, as only real ones can be."""
    return torch.from_numpy(tensors[0].detach().numpy() * 2)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Make a library that has one function, by its dotted name, with its packages."""

    def make(name: str) -> ModuleType:
        path, _, function = name.rpartition(".")
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            package = ".".join(parts[:end])
            if package not in sys.modules:
                monkeypatch.setitem(sys.modules, package, ModuleType(package))
            if end > 1:
                setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], sys.modules[package])
        setattr(sys.modules[path], function, lambda *tensors, **options: opaque(*tensors, **options))
        return sys.modules[path]

    return make


@pytest.fixture(autouse=True)
def no_rules(monkeypatch: pytest.MonkeyPatch) -> dict[str, EntryPoint]:
    """Begin without rules, and without those of installed packages."""
    plugins: dict[str, EntryPoint] = {}
    monkeypatch.setattr(functions, "_REGISTERED", {})
    monkeypatch.setattr(functions, "_PLUGINS", plugins)
    return plugins


class Calls(nn.Module):
    """Does what it is given, after a Linear."""

    def __init__(self, forward: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.run = forward

    def forward(self, x: torch.Tensor) -> Any:
        """Do it."""
        return self.run(self.linear(x)) * 2


def analyze(forward: Callable[[torch.Tensor], Any], **options: Any) -> Report:
    """Count a model that does this to 4x8 elements."""
    return convstat.analyze(Calls(forward), inputs=torch.zeros(4, 8), **{"counters": "none", **options})


SEEN = 4 * 8 * 8


# The libraries of the documents.

B, H, M, N, K, V = 2, 3, 5, 7, 16, 24
T = torch.zeros

EXAMPLES: dict[str, list[tuple[str, tuple[Any, ...], dict[str, Any], int, tuple[int, ...]]]] = {
    "flash_attn": [
        (
            "flash_attn.flash_attn_func",
            (T(B, M, H, K), T(B, N, H, K), T(B, N, H, V)),
            {"causal": True},
            B * H * M * N * K + B * H * M * N * V,
            (B, M, H, V),
        ),
        (
            "flash_attn.flash_attn_varlen_func",
            (T(B * M, H, K), T(B * N, H, K), T(B * N, H, K), T(B + 1), T(B + 1), M, N),
            {},
            2 * B * H * M * N * K,
            (B * M, H, K),
        ),
    ],
    "mamba_ssm": [
        (
            "mamba_ssm.ops.selective_scan_interface.selective_scan_fn",
            (T(B, 6, 11), T(B, 6, 11), T(6, 4), T(B, 4, 11), T(B, 4, 11)),
            {"D": T(6)},
            B * 6 * 11 * 4 + B * 6 * 11 * 4,
            (B, 6, 11),
        )
    ],
    "causal_conv1d": [
        (
            "causal_conv1d.causal_conv1d_fn",
            (T(B, 6, 11), T(6, 4), T(6)),
            {"activation": "silu"},
            B * 6 * 11 * 4,
            (B, 6, 11),
        )
    ],
    "natten": [
        (
            "natten.functional.na2d",
            (T(B, 9, 10, H, K), T(B, 9, 10, H, K), T(B, 9, 10, H, V), 3),
            {},
            B * 9 * 10 * H * 3 * 3 * K + B * 9 * 10 * H * 3 * 3 * V,
            (B, 9, 10, H, V),
        ),
        (
            "natten.functional.na2d",
            (T(B, 9, 10, H, K), T(B, 9, 10, H, K), T(B, 9, 10, H, K)),
            {"kernel_size": (3, 5)},
            2 * B * 9 * 10 * H * 3 * 5 * K,
            (B, 9, 10, H, K),
        ),
    ],
    "xformers": [
        (
            "xformers.ops.memory_efficient_attention",
            (T(B, M, H, K), T(B, N, H, K), T(B, N, H, V)),
            {},
            B * H * M * N * (K + V),
            (B, M, H, V),
        ),
        (
            "xformers.ops.memory_efficient_attention",
            (T(B * H, M, K), T(B * H, N, K), T(B * H, N, K)),
            {},
            2 * B * H * M * N * K,
            (B * H, M, K),
        ),
    ],
}
"""Of each library: the function, a call of it, the products that it takes by hand, and the shape of what it returns."""


def example(library: str) -> str:
    """The block of the page that is about a library."""
    page = RULES.read_text(encoding="utf-8")
    (block,) = re.findall(rf"```python\n# {library}\n(.*?)```", page, re.DOTALL)
    return str(block)


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize(
    ("library", "case"), [(library, case) for library, cases in EXAMPLES.items() for case in range(len(cases))]
)
def test_the_rule_of_the_page_prices_the_library(
    library: str, case: int, device: str, stand_in: Callable[[str], ModuleType]
) -> None:
    """Before it is there the call is unseen; with it the count is complete, and is the one by hand."""
    name, made, kwargs, macs, shape = EXAMPLES[library][case]
    # Those of this file are frozen, and so would be found by no run with values.
    args = [arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in made]
    kwargs = {key: arg.clone() if isinstance(arg, torch.Tensor) else arg for key, arg in kwargs.items()}
    module, function = stand_in(name), name.rpartition(".")[2]
    found: list[torch.Size] = []

    class Net(nn.Module):
        """Calls the function with the arguments of the example, the first of them computed."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Call it."""
            first = args[0].to(x.device) + x
            rest = [arg.to(x.device) if isinstance(arg, torch.Tensor) else arg for arg in args[1:]]
            result = getattr(module, function)(first, *rest, **kwargs)
            found.append(result.shape)
            return result + 1  # type: ignore[no-any-return]

    def report() -> Report:
        return convstat.analyze(Net(), inputs=torch.zeros(1), counters="none", device=device)

    if device == "auto":
        assert "incomplete" == report().status
    exec(example(library), {})
    counted = report()
    assert ("complete", macs) == (counted.status, counted.totals.macs), counted.uncounted
    assert torch.Size(shape) == found[-1]


def test_every_library_of_the_page_is_tested() -> None:
    """Each block with the name of a library has its cases."""
    page = RULES.read_text(encoding="utf-8")
    assert set(EXAMPLES) == set(re.findall(r"```python\n# (\w+)\n", page))


def test_sequences_of_several_lengths_are_uncounted(stand_in: Callable[[str], ModuleType]) -> None:
    """What depends on values has no figure."""
    module = stand_in("flash_attn.flash_attn_varlen_func")
    exec(example("flash_attn"), {})
    lengths = torch.zeros(3)
    report = analyze(
        lambda x: module.flash_attn_varlen_func(
            x.view(4, 1, 8), x.view(4, 1, 8), x.view(4, 1, 8), lengths, lengths, 3, 3
        )
    )
    assert ["flash_attn.flash_attn_varlen_func"] == [item.op for item in report.uncounted]


# Where a function is found.


class _Holder:
    """Holds functions as classes do."""

    @staticmethod
    def static(x: torch.Tensor) -> Any:
        """Opaque."""
        return opaque(x)

    @classmethod
    def of_class(cls, x: torch.Tensor) -> Any:
        """Opaque."""
        return opaque(x)

    def method(self, x: torch.Tensor) -> Any:
        """Opaque."""
        return opaque(x)


class _Function(torch.autograd.Function):
    """Leaves torch on its way."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> Any:
        """Opaque."""
        return opaque(x)

    @staticmethod
    def backward(ctx: Any, *grad: torch.Tensor) -> Any:
        """Not asked for."""


HERE = __name__

PLACES: dict[str, Callable[[torch.Tensor], Any]] = {
    "opaque": lambda x: opaque(x),
    "_Holder.static": lambda x: _Holder.static(x),
    "_Holder.of_class": lambda x: _Holder.of_class(x),
    "_Holder.method": lambda x: _Holder().method(x),
    "_Function.apply": lambda x: _Function.apply(x),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_function_is_found_where_its_name_says(place: str) -> None:
    """In a module, and in a class, however it stands there; afterwards all is as it was."""
    before = dict(vars(_Holder)), dict(vars(_Function)), opaque
    convstat.register_function(f"{HERE}.{place}", 1000)
    report = analyze(PLACES[place])
    assert ("complete", SEEN + 1000) == (report.status, report.totals.macs), report.uncounted
    assert before == (dict(vars(_Holder)), dict(vars(_Function)), opaque)


def test_a_function_is_found_where_it_was_imported_to(stand_in: Callable[[str], ModuleType]) -> None:
    """In another module under another name, and as an attribute of a module of the model."""
    library = stand_in("stand_in_library.attend")
    user = stand_in("stand_in_user.other")
    user.elsewhere = library.attend  # type: ignore[attr-defined]
    original = library.attend

    class Holds(nn.Module):
        """Has it as an attribute."""

        def __init__(self) -> None:
            super().__init__()
            self.attend = library.attend

        def forward(self, x: torch.Tensor) -> Any:
            """Call both."""
            return self.attend(x) + user.elsewhere(x)  # type: ignore[attr-defined]

    model = Holds()
    convstat.register_function("stand_in_library.attend", lambda call: call.args[0].numel)
    report = convstat.analyze(model, inputs=torch.zeros(4, 8), counters="none")
    assert ("complete", 2 * 4 * 8) == (report.status, report.totals.macs)
    assert original is model.attend is user.elsewhere is library.attend  # type: ignore[attr-defined]


def test_a_library_that_the_forward_pass_imports_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as it is there, and its loader is its own again."""
    (tmp_path / "late_library.py").write_text(
        "import torch\ndef attend(x):\n    return torch.from_numpy(x.detach().numpy() * 2)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "late_library", raising=False)
    finders = [*sys.meta_path]

    def forward(x: torch.Tensor) -> Any:
        from late_library import attend  # type: ignore[import-not-found]

        return attend(x)

    convstat.register_function("late_library.attend", 7, output=torch.empty_like)
    report = analyze(forward)
    assert ("complete", SEEN + 7, "meta") == (report.status, report.totals.macs, report.model.device)
    module = sys.modules["late_library"]
    assert module.__spec__ is not None
    assert "SourceFileLoader" == type(module.__spec__.loader).__name__
    assert "attend" == module.attend.__name__
    assert "convstat" not in module.attend.__code__.co_filename
    assert finders == sys.meta_path


# What a call is.


def test_what_it_does_inside_is_not_counted_and_where_it_stands_is() -> None:
    """Its own kernels and modules cost nothing beside the rule, which is the layer's that calls it."""
    inner = nn.Linear(8, 8)

    def forward(x: torch.Tensor) -> Any:
        return _outer(x, inner)

    convstat.register_function(f"{HERE}._outer", lambda call: Cost(5, {"activation": 3}))
    report = analyze(forward)
    assert SEEN + 5 == report.totals.macs
    (root,) = [row for row in report.layers if row.name == "(root)"]
    assert (5, 3) == (root.macs, root.other["activation"])


def _outer(x: torch.Tensor, inner: nn.Module) -> torch.Tensor:
    return opaque(inner(x) @ torch.ones(8, 8, device=x.device)) if not x.is_meta else inner(x)  # type: ignore[no-any-return]


def test_a_function_inside_one_that_has_a_rule_is_a_part_of_it() -> None:
    """Only the outer one is priced."""
    convstat.register_function(f"{HERE}._outer", 5)
    convstat.register_function(f"{HERE}.opaque", 1000)
    assert SEEN + 5 == analyze(lambda x: _outer(x, nn.Identity())).totals.macs


def test_a_rule_sees_names_shapes_and_options() -> None:
    """As they were passed."""
    seen: list[FunctionCall] = []
    convstat.register_function(f"{HERE}.opaque", lambda call: seen.append(call) or 1, output=lambda x, **_: x + 0)
    analyze(lambda x: opaque(x, scale=0.5, causal=True))
    (call,) = seen
    assert (f"{HERE}.opaque", (4, 8), {"scale": 0.5, "causal": True}, (4, 8), True) == (
        call.name,
        call.args[0].shape,  # type: ignore[union-attr]
        call.kwargs,
        call.output.shape,  # type: ignore[union-attr]
        call.has_rule,
    )


def test_a_parameter_that_it_is_given_is_read() -> None:
    """The rule accounts for it."""

    class Net(nn.Module):
        """Gives its own weight away."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 8))

        def forward(self, x: torch.Tensor) -> Any:
            """Do so."""
            return opaque(self.weight) + x

    convstat.register_function(f"{HERE}.opaque", 1, output=torch.empty_like)
    assert "complete" == convstat.analyze(Net(), inputs=torch.zeros(4, 8), counters="none").status


@pytest.mark.parametrize("rule", [lambda call: "many", lambda call: 1 / 0, lambda call: -1])
def test_a_rule_that_fails_is_a_note_and_its_call_uncounted(rule: Callable[[FunctionCall], Any]) -> None:
    """By name and place."""
    convstat.register_function(f"{HERE}.opaque", rule)
    report = analyze(lambda x: opaque(x))
    assert [(f"{HERE}.opaque", 1, ("(root)",))] == [(item.op, item.calls, item.layers) for item in report.uncounted]
    assert any(f"the rule for {HERE}.opaque failed" in note for note in report.model.notes)


def test_a_rule_is_taken_back_and_not_replaced_by_accident() -> None:
    """As those of operators are."""
    name = f"{HERE}.opaque"
    take_back = convstat.register_function(name, 1)
    with pytest.raises(ValueError, match="has a rule already"):
        convstat.register_function(name, 2)
    back_to_one = convstat.register_function(name, 2, replace=True)
    assert SEEN + 2 == analyze(opaque).totals.macs
    back_to_one()
    assert SEEN + 1 == analyze(opaque).totals.macs
    take_back()
    assert "incomplete" == analyze(opaque).status
    for wrong in ("opaque", "mylib::my_op", "torch.matmul", ""):
        with pytest.raises(ValueError, match=r"mylib|torch"):
            ops.register_function(wrong, lambda call: Cost(1))


def test_an_installed_package_can_name_a_rule(no_rules: dict[str, EntryPoint]) -> None:
    """A function that gives the cost, or a rule with what the function returns."""
    for value in ("plugin_cost", "PLUGIN_RULE"):
        functions._REGISTERED.clear()
        no_rules[f"{HERE}.opaque"] = EntryPoint(f"{HERE}.opaque", f"{HERE}:{value}", functions.GROUP)
        report = analyze(opaque)
        assert ("complete", SEEN + 11) == (report.status, report.totals.macs)
        assert ("cpu" if value == "plugin_cost" else "meta") == report.model.device


def plugin_cost(call: FunctionCall) -> Cost:
    """Eleven."""
    return Cost(11)


PLUGIN_RULE = ops.FunctionRule(plugin_cost, torch.empty_like)


def test_an_installed_rule_that_does_not_load_leaves_the_call_uncounted(no_rules: dict[str, EntryPoint]) -> None:
    """And a note says why."""
    for value in ("not_there", "RULES"):
        no_rules[f"{HERE}.opaque"] = EntryPoint(f"{HERE}.opaque", f"{HERE}:{value}", functions.GROUP)
        report = analyze(opaque)
        assert "incomplete" == report.status
        assert any(f"the rule for {HERE}.opaque failed" in note for note in report.model.notes)


def test_every_counter_predicts_a_model_with_such_a_call() -> None:
    """The walks of all predictors go past it, or into what it ran."""
    convstat.register_function(f"{HERE}._outer", 5)
    inner = nn.Linear(8, 8)
    report = analyze(lambda x: _outer(x, inner), counters="all")
    assert len(report.counters) >= 10
    assert [] == [(row.name, row.error) for row in report.counters if "failed" == row.status and not row.is_foreseen]
