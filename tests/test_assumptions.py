"""Counts that depend on data: exact where every routing costs the same, and else said to be an upper bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import counted
import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from convstat import testing
from convstat.budgets import judge, limits
from convstat.errors import SourceError, UsageError
from convstat.history import baseline, changes
from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.results.baseline import Baseline
from convstat.results.documents.schema import report_schema
from convstat.results.report import Report
from convstat.targets import entry
from convstat.trace import routing


def analyze(make: Callable[[], Any], *inputs: str, **options: Any) -> Report:
    """Count what a function gives: a module, or one with its inputs."""
    recipe = entry.recipe_of(make, "net", "net.py:net", {})
    return counted.traced(recipe, inputs=inputs, **{"counters": "none", **options})


class Mixture(nn.Module):
    """A gate, and experts that each token is sent to ``top`` of; ``send`` says how the model writes that down."""

    def __init__(self, send: Any, widths: tuple[int, ...] = (32, 32, 32, 32), features: int = 16, top: int = 2) -> None:
        super().__init__()
        self.send, self.top = send, top
        self.gate = nn.Linear(features, len(widths), bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(features, width, bias=False), nn.ReLU(), nn.Linear(width, features, bias=False))
            for width in widths
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the experts."""
        weights, chosen = torch.topk(functional.softmax(self.gate(x), -1), self.top)
        return self.send(self, x, weights, chosen)


def by_where(net: Mixture, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """The tokens of each expert, by ``torch.where``."""
    out = torch.zeros_like(x)
    for number, expert in enumerate(net.experts):
        token, place = torch.where(chosen == number)
        out[token] += expert(x[token]) * weights[token, place, None]
    return out


def by_mask(net: Mixture, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """By a mask of the tokens, and only if there are some."""
    out = torch.zeros_like(x)
    for number, expert in enumerate(net.experts):
        mask = (chosen == number).any(-1)
        if mask.any():
            out[mask] += expert(x[mask])
    return out


def by_one_hot(net: Mixture, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """By a mask of each expert, as Mixtral has it."""
    out = torch.zeros_like(x)
    masks = functional.one_hot(chosen, num_classes=len(net.experts)).permute(2, 1, 0)
    for number, expert in enumerate(net.experts):
        place, token = torch.where(masks[number])
        state = x[None, token].reshape(-1, x.shape[-1])
        out.index_add_(0, token, expert(state) * weights[token, place, None])
    return out


def by_hit(net: Mixture, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """Only experts that anything was sent to."""
    out = torch.zeros_like(x)
    masks = functional.one_hot(chosen, num_classes=len(net.experts)).permute(2, 1, 0)
    for number in torch.greater(masks.sum(dim=(-1, -2)), 0).nonzero():
        place, token = torch.where(masks[number].squeeze(0))
        out.index_add_(0, token, net.experts[number](x[token]) * weights[token, place, None])
    return out


def by_sorting(net: Mixture, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """Sorted by expert, in slices as long as numpy says."""
    counts = chosen.new_zeros((len(chosen), len(net.experts))).scatter_(1, chosen, 1).sum(dim=0)
    order = chosen.view(-1).argsort()
    start, outs = 0, []
    for expert, count in zip(net.experts, counts.cpu().numpy(), strict=True):
        outs.append(expert(x[order // net.top][start : start + count]))
        start += count
    return torch.cat(outs)


def by_split(net: Mixture, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """In pieces of the sizes that ``bincount`` gives."""
    flat = chosen.flatten()
    sizes = torch.bincount(flat, minlength=len(net.experts)).tolist()
    rows = x.repeat_interleave(net.top, dim=0)[flat.argsort()]
    return torch.cat([expert(piece) for expert, piece in zip(net.experts, rows.split(sizes), strict=True)])


def by_histogram(net: Mixture, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """In pieces of the sizes that ``histc`` gives, which a GPU has for integers, and a CPU for floats alone."""
    flat = chosen.flatten()
    numbers = flat.float() if x.device.type == "cpu" else flat.int()
    sizes = torch.histc(numbers, bins=len(net.experts), min=0, max=len(net.experts) - 1).long().tolist()
    rows = x.repeat_interleave(net.top, dim=0)[flat.argsort()]
    return torch.cat([expert(piece) for expert, piece in zip(net.experts, rows.split(sizes), strict=True)])


def by_gates(net: Mixture, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
    """In pieces as long as the columns of a table say that is made beside the tokens, as JetMoE has it."""
    table = torch.zeros([len(chosen), len(net.experts)], dtype=x.dtype, device=x.device).scatter(1, chosen, 1)
    order = chosen.flatten().sort(0)[1]
    pieces = x[order.div(net.top, rounding_mode="trunc")].split(table.long().sum(0).tolist())
    return torch.cat([expert(piece) for expert, piece in zip(net.experts, pieces, strict=True)])


SENDERS = (by_where, by_mask, by_one_hot, by_hit, by_sorting, by_split, by_histogram, by_gates)


@pytest.mark.parametrize("send", SENDERS)
def test_each_routing_of_a_mixture_costs_the_same(send: Any) -> None:
    """Each token goes through two of four experts, whichever they are."""
    report = analyze(lambda: Mixture(send), "[10,16]")
    assert 10 * 16 * 4 + 10 * 2 * (16 * 32 + 32 * 16) == report.totals.macs == 21_120
    assert ("complete", "meta", None) == (report.status, report.model.device, report.model.rests_on)
    assert any("the MACs are the same whichever indices are chosen" in note for note in report.model.notes)


@settings(max_examples=15, deadline=None)
@given(
    send=st.sampled_from(SENDERS),
    tokens=st.integers(1, 12),
    experts=st.integers(2, 9),
    top=st.integers(1, 3),
    features=st.integers(1, 5),
    width=st.integers(1, 5),
)
def test_mixtures_of_all_sizes(send: Any, tokens: int, experts: int, top: int, features: int, width: int) -> None:
    """The same for any sizes; one token that goes to one expert is a decision, which a real run takes."""
    top = min(top, experts)
    report = analyze(lambda: Mixture(send, (width,) * experts, features, top), f"[{tokens},{features}]")
    assert tokens * features * experts + tokens * top * 2 * features * width == report.totals.macs or (
        tokens * top == 1 and report.status == "upper_bound"
    )


@pytest.mark.parametrize("send", [by_where, by_one_hot])
def test_experts_that_differ_give_an_upper_bound(send: Any) -> None:
    """Not more than if each expert got every token, and not less than any real run."""
    widths = (32, 32, 33, 32)
    report = analyze(lambda: Mixture(send, widths), "[10,16]")
    most = 10 * 16 * 4 + sum(10 * 2 * (16 * width + width * 16) for width in widths)
    dearest = 10 * 16 * 4 + 10 * (16 * 33 * 2 + 16 * 32 * 2)
    assert dearest <= report.totals.macs <= most
    assert "upper_bound" == report.status
    assert report.model.rests_on is not None
    assert f"the count is {report.model.rests_on}" in report.model.notes


@given(
    classes=st.integers(2, 40),
    rows=st.integers(1, 20),
    top=st.integers(1, 6),
    number=st.integers(0, routing.MOST - 1),
)
def test_indices_that_are_made_up_are_valid(classes: int, rows: int, top: int, number: int) -> None:
    """Below the number of classes, and different for each token."""
    top = min(top, classes)
    found = routing.chosen(classes, (rows, top), number)
    assert (rows, top) == tuple(found.shape)
    assert all(len({*row}) == top and 0 <= min(row) <= max(row) < classes for row in found.tolist())


@given(classes=st.integers(2, 40), rows=st.integers(1, 6), top=st.integers(1, 4))
def test_routings_choose_each_class(classes: int, rows: int, top: int) -> None:
    """As many are tried as that takes, or it is said that not all were."""
    shape = (rows, min(top, classes))
    tried = routing.routings(classes, shape)
    seen = {index for number in range(tried) for index in routing.chosen(classes, shape, number).flatten().tolist()}
    assert not routing.covers(classes, shape, tried) or seen == {*range(classes)}


class Masked(nn.Module):
    """Two layers, and ``use`` that says which rows go through them."""

    def __init__(self, use: Callable[[Masked, Tensor], Any], width: int = 8) -> None:
        super().__init__()
        self.use = use
        self.left, self.right = nn.Linear(16, 8, bias=False), nn.Linear(16, width, bias=False)

    def forward(self, x: Tensor) -> Any:
        """Run them."""
        return self.use(self, x)


def kept(net: Masked, x: Tensor) -> Tensor:
    """What is positive."""
    return net.left(x[x.sum(-1) > 0])


def selected(net: Masked, x: Tensor) -> Tensor:
    """The same by ``masked_select``."""
    return net.left(torch.masked_select(x, x.sum(-1, keepdim=True) > 0).reshape(-1, 16))


def found(net: Masked, x: Tensor) -> Tensor:
    """The same by ``nonzero``."""
    return net.left(x[(x.sum(-1) > 0).nonzero().squeeze(1)])


def parted(net: Masked, x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row through one of two layers."""
    mask = x.sum(-1) > 0
    rest = ~mask
    return net.left(x[mask]), net.right(x[rest])


def filtered(net: Masked, x: Tensor) -> Tensor:
    """Results, of which some are given."""
    y = net.left(x)
    return y[y > 0]


@pytest.mark.parametrize("use", [kept, selected, found])
def test_a_mask_gives_an_upper_bound(use: Any) -> None:
    """What it may keep at most."""
    report = analyze(lambda: Masked(use), "[10,16]")
    assert (10 * 16 * 8, "upper_bound") == (report.totals.macs, report.status)


def test_a_mask_and_its_complement_part_the_rows() -> None:
    """Where both layers cost the same; else the dearer one bounds it."""
    same, other = (analyze(lambda width=width: Masked(parted, width), "[10,16]") for width in (8, 8 + 1))
    assert (10 * 16 * 8, "complete") == (same.totals.macs, same.status)
    assert (10 * 16 * 9, "upper_bound") == (other.totals.macs, other.status)


def test_what_is_filtered_after_the_last_product_changes_no_count() -> None:
    """It is said, and the count is exact."""
    report = analyze(lambda: Masked(filtered), "[10,16]")
    assert (10 * 16 * 8, "complete") == (report.totals.macs, report.status)
    assert "a mask was assumed to keep every element (1 time)" in report.model.notes


ROWS = torch.cat([torch.ones(3, 16), -torch.ones(4, 16)])


@pytest.mark.parametrize("use", [kept, selected, found])
def test_values_that_come_with_the_model_decide(use: Any) -> None:
    """Three of seven rows are positive."""
    report = analyze(lambda: (Masked(use), ROWS))
    assert (3 * 16 * 8, "complete", "cpu") == (report.totals.macs, report.status, report.model.device)
    assert "those that come with the model" == report.model.values


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data in each form."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ROWS.numpy())
    np.savez("named.npz", x=ROWS.numpy())
    np.savez("ordered.npz", ROWS.numpy())
    torch.save(ROWS, "x.pt")
    torch.save((ROWS,), "tuple.pt")
    torch.save({"x": ROWS}, "dict.pt")
    torch.save(nn.Linear(1, 1), "module.pt")
    np.save("object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save("text.npy", np.array(["a"]))
    Path("damaged.npy").write_bytes(b"\x93NUMPY")
    Path("empty.pt").write_bytes(b"")
    Path("folder.npy").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ["x.npy", "named.npz", "ordered.npz", "x.pt", "tuple.pt", "dict.pt"])
def test_data_from_a_file_decide(files: Path, name: str) -> None:
    """Three of its seven rows are positive."""
    report = analyze(lambda: Masked(kept), f"@{name}")
    assert (3 * 16 * 8, "complete", f"those in {name}") == (report.totals.macs, report.status, report.model.values)


def test_data_that_decide_nothing_are_not_run(files: Path) -> None:
    """The count is that of any data of this shape."""
    report = analyze(lambda: Mixture(by_where), "x=@x.npy")
    assert 7 * 16 * 4 + 7 * 2 * 2 * 16 * 32 == report.totals.macs
    assert ("meta", "those in x.npy; the count does not depend on them") == (report.model.device, report.model.values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@none.npy", "does not exist"),
        ("@folder.npy", "is a folder"),
        ("@x.txt", "is not a data file"),
        ("@object.npy", "contains Python objects"),
        ("@module.pt", "contains Python objects"),
        ("@damaged.npy", "is corrupt"),
        ("@empty.pt", "is corrupt"),
        ("@text.npy", "which no tensor can hold"),
        ("y=@x.npy", "has no argument 'y'"),
    ],
)
def test_data_that_are_none_are_refused(files: Path, text: str, said: str) -> None:
    """In a sentence."""
    with pytest.raises((SourceError, UsageError), match=said):
        analyze(lambda: Masked(kept), text)


def test_data_go_with_neither_a_spec_nor_another_batch(files: Path) -> None:
    """A spec is counted from shapes; what is in a file has its batch."""
    with pytest.raises(UsageError, match="takes no data"):
        counted.analyze("Linear(16, 4)", inputs=("@x.npy",))
    with pytest.raises(UsageError, match="none has a batch of 3"):
        analyze(lambda: Masked(kept), "@x.npy", batch=3)


class Spoken(nn.Module):
    """As many frames for each token as its weights make of it, and a layer for each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(10, 4)
        self.duration, self.frame = nn.Linear(4, 1), nn.Linear(4, 4, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Say them."""
        hidden = self.tokens(tokens)
        lengths = (10 * self.duration(hidden).abs().squeeze(-1) + torch.rand(1)).long() + 1
        return self.frame(hidden[0].repeat_interleave(lengths[0], dim=0))


def test_what_follows_from_drawn_values_is_said_to_and_is_the_same_in_each_run() -> None:
    """Weights and generators are seeded, whatever the state of the process."""
    reports = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        reports.append(analyze(Spoken, "[1,7]:int64"))
    assert reports[0].to_dict() == reports[1].to_dict()
    assert "upper_bound" == reports[0].status
    assert (reports[0].model.rests_on or "").startswith(
        "the largest of 3 runs on random values, on which the count depends"
    )


def test_numpy_and_python_are_seeded_too() -> None:
    """Also a generator that is made without a seed."""
    import random

    def drawn() -> nn.Module:
        width = 1 + int(np.random.default_rng().integers(1000)) + random.randrange(1000) + np.random.randint(1000)
        return nn.Linear(2, int(width), bias=False)

    assert analyze(drawn, "2").totals == analyze(drawn, "2").totals


def test_what_is_drawn_on_import_is_the_same_in_each_run(tmp_path: Path) -> None:
    """A model that is made when its file is imported."""
    file = tmp_path / "made.py"
    file.write_text("import random\nfrom torch import nn\nnet = nn.Linear(2, random.randrange(10**6), bias=False)\n")
    counts = {counted.analyze(f"{file}:net", inputs=("2",), counters="none").totals.params for _ in range(3)}
    assert 1 == len(counts)


def bounded() -> Report:
    """A report whose 1,280 MACs are an upper bound."""
    return analyze(lambda: Masked(kept), "[10,16]")


@pytest.mark.parametrize(
    ("written", "status", "is_open", "says"),
    [
        (("max", "macs=2000"), "pass", False, True),
        (("max", "macs=1000"), "fail", False, True),
        (("min", "macs=1000"), "skip", True, True),
        (("min", "macs=2000"), "fail", False, True),
        (("exact", "macs=1280"), "skip", True, True),
        (("max", "flops=1"), "fail", False, True),
        (("max", "params=1000"), "pass", False, False),
        (("min", "params=1"), "pass", False, False),
    ],
)
def test_budgets_on_an_upper_bound(written: tuple[str, str], status: str, is_open: bool, says: bool) -> None:
    """A maximum may pass, and says what it rests on; a minimum is never passed."""
    result = judge.judge(bounded(), limits.read_option(*written))
    assert (status, is_open) == (result.status, result.incomplete)
    assert says == ("an upper bound: masks" in (result.reason or ""))
    assert (status == "fail" and written[0] == "max") <= ("--data counts a run" in (result.reason or ""))


def test_a_saved_report_is_read_back() -> None:
    """With its status, and so is a baseline; the schema takes both, and documents that say nothing of it."""
    report = bounded()
    document = json.loads(json.dumps(report.to_dict()))
    jsonschema.validate(document, report_schema())
    assert report == Report.from_dict(document)
    del document["model"]["rests_on"], document["model"]["values"]
    jsonschema.validate(document, report_schema())
    saved = Baseline.of(report, "net.py:net", baseline.asked(counted.request("net.py:net"))).report
    assert ("upper_bound", report.model.rests_on) == (saved.status, saved.model.rests_on)


@pytest.mark.parametrize(
    "name", ["table", "markdown", "html", "json", "jsonl", "csv", "tree", "latex", "github", "sarif"]
)
def test_each_format_says_that_it_is_an_upper_bound(name: str) -> None:
    """None shows the figure alone."""
    text = RENDERERS.named(name).render([bounded()], Options(120))
    assert "upper bound" in text or "upper_bound" in text


def test_a_diff_says_what_its_sides_rest_on() -> None:
    """Each side by its name."""
    report = bounded()
    found = changes.compare(report, report, labels=("before", "after"))
    assert {f"the MACs of {name} are {report.model.rests_on}" for name in ("before", "after")} <= {*found.notes}


def test_a_minimum_in_a_test_is_not_passed_by_an_upper_bound() -> None:
    """It is left open, which fails the test."""
    with pytest.raises(AssertionError, match="budgets undecided"):
        testing.assert_budget(Masked(kept), inputs="[10,16]", macs=">=1")


def test_peers_on_the_cpu_are_lined_up_with_the_run_that_they_saw() -> None:
    """Of zeros nothing is positive: so the peer counts nothing, and the difference is that of the data."""
    pytest.importorskip("fvcore")
    report = analyze(lambda: Masked(kept), "[10,16]", counters="fvcore,torchsummary")
    on_cpu = next(row for row in report.counters if row.device == "cpu")
    assert [("other_data", -10 * 16 * 8)] == [(cause.code, cause.macs) for cause in on_cpu.causes]
    assert all(row.is_explained for row in report.counters if row.status == "ok")
