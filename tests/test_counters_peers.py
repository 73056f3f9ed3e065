"""The counters that are optional: each real one, where it is installed, against what its convention predicts."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from chains import Chain, count, sample
from counted import analyze
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from live import NAMES, PEERS, ask, check_on_both_devices, installed
from probe_pool import PROBES, Calls
from random_nets import CHANNELS, nets
from torch import nn

from convstat.cli.options import COUNTER_NAMES
from convstat.counters import COUNTERS, DEFAULT, flopcountermode, measure
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.thop import shared_import as shared_import
from convstat.counters.thop import walk as thop_walk
from convstat.counters.torchinfo import rows as torchinfo_rows
from convstat.counters.uthop import modules as uthop_modules
from convstat.counters.uthop import walk as uthop_walk
from convstat.layers import KINDS
from convstat.results.report import CounterRow
from convstat.trace.build import build, example_inputs
from convstat.trace.record import record

TABLE = (*NAMES, *PEERS)
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
ZOO = (
    "resnet18",
    "mobilenet_v3_small",
    "googlenet",
    "shufflenet_v2_x0_5",
    "swin_t",
    "vit_b_16",
    "densenet121",
    "convnext_tiny",
)


FAILURES = {("thop", "Softmax"): "NoneType"}
"""Layers at which a peer fails, as foreseen: thop takes the dimension of a softmax from the module, which has none."""

IMAGES_ONLY = "torchstat"
"""It takes one image and nothing else, so most layers and models make it fail, as foreseen."""

WANTS_PARAMETERS = "calflops"
"""It takes the device from the first parameter, so layers without parameters make it fail, as foreseen."""


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> str:
    """The name of a counter that is installed."""
    return installed(request.param)


def all_installed() -> tuple[str, ...]:
    """The names of all that are installed."""
    return tuple(peer for peer in PEERS if COUNTERS[peer].version() is not None)


def explained(row: CounterRow) -> None:
    """The peer answered, and its difference has causes that are known, to the unit."""
    if row.name == IMAGES_ONLY and row.status == "failed":
        assert row.is_foreseen, row.error
        return
    if row.name == WANTS_PARAMETERS and "first parameter" in str(row.error):
        assert ("failed", True) == (row.status, row.is_foreseen)
        return
    assert ("ok", None) == (row.status, row.error)
    assert UNATTRIBUTED not in {cause.code for cause in row.causes}
    for figure in ("params", "macs"):
        assert getattr(row.unexplained, figure) in (0, None)
        assert getattr(row.difference, figure) in (None, sum(getattr(cause, figure) for cause in row.causes))


def test_each_peer_is_predicted_on_indices(peer: str) -> None:
    """An embedding takes integers."""
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 4))
    check_on_both_devices(model, torch.zeros(2, 5, dtype=torch.int64), only=(peer,))


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(net=nets(), batch=st.integers(1, 3), size=st.integers(3, 6))
def test_the_peers_are_predicted_on_nets_put_together_at_random(net: nn.Module, batch: int, size: int) -> None:
    """Nested, shared, frozen, subclassed, called as functions, in every batch."""
    image = torch.rand(batch, CHANNELS, size, size)
    try:
        with torch.no_grad():
            net.eval()(image)
    except RuntimeError:
        reject()
    check_on_both_devices(net, image, only=all_installed())


@pytest.mark.parametrize("name", ZOO)
def test_the_peers_are_predicted_on_networks_people_use(name: str, torchvision: Any) -> None:
    """torchvision's networks, on both devices where they say the same; small images keep it quick."""
    kwargs = {"init_weights": False} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(**kwargs)
    size = 224 if name == "vit_b_16" else 64
    check_on_both_devices(model, torch.zeros(1, 3, size, size), only=all_installed())


@pytest.mark.parametrize("kind", KINDS)
def test_the_peers_are_explained_on_every_kind_of_layer(kind: str) -> None:
    """Two samples, alone in a model: the causes have names, and come to the unit."""
    written, shapes = sample(kind)
    chain = Chain(*shapes, dtype=KINDS[kind].input_dtype)
    graph = chain.add(kind, "block.it", sources=tuple(chain.shapes), **written).graph()
    peers = tuple(COUNTERS[peer] for peer in all_installed())
    for row in measure(graph, count(graph, batch=2), peers, in_process=True):
        if (row.name, kind) in FAILURES:
            assert ("failed", True) == (row.status, FAILURES[row.name, kind] in str(row.error))
            trace = record(build(graph, device="meta"), example_inputs(graph, device="meta"))
            assert COUNTERS[row.name].predict(trace).failure
        else:
            explained(row)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_peers_are_explained_on_every_example(path: Path) -> None:
    """Every unit of the difference has a name."""
    rows = analyze(str(path), counters=",".join(all_installed()), in_process=True).counters
    assert all_installed() == tuple(row.name for row in rows)
    for row in rows:
        explained(row)


def test_every_counter_of_the_table_is_completed_and_documented(root: Path) -> None:
    """The names in the shell are those of the table, and the page on counters tells of each."""
    page = (root / "convstat/docs/counters.md").read_text()
    assert set(TABLE) <= set(COUNTER_NAMES)
    assert [] == [name for name in TABLE if f"`--counters {name}`" not in page and name not in DEFAULT]


def test_every_counter_says_what_it_counts_and_gets_wrong() -> None:
    """A phrase for the one, as its unit is, and sentences for the other, each in one line and told once."""
    for counter in COUNTERS.values():
        assert (True, True) == (bool(counter.counts), bool(counter.defects)), counter.name
        assert [] == [sentence for sentence in counter.defects if sentence[-1] != "." or "\n" in sentence]
        assert len(set(counter.defects)) == len(counter.defects)


def test_no_peer_of_these_runs_where_none_is_named() -> None:
    """They are optional: a default counter is one that is always installed."""
    assert not set(DEFAULT) & set(PEERS)


def test_flopcountermode_counts_two_for_each_product() -> None:
    """Its own figure is kept; the bias counts nothing; it has no parameters."""
    row = analyze("Conv2d(3, 4, 3)", inputs=["3x10x10"], counters="flopcountermode").counters[0]
    macs = 8 * 8 * 4 * 3 * 3 * 3
    assert (macs, None, {"flops": 2 * macs}) == (row.reported.macs, row.reported.params, row.native)
    assert () == row.causes
    explained(row)


def test_flopcountermode_misses_the_attention_that_a_cpu_fuses() -> None:
    """On meta, the same attention is two products."""
    make, _ = PROBES["sdpa"]
    query = torch.rand(2, 4, 7, 8)
    on_cpu = ask(make(), query, only=("flopcountermode",))["flopcountermode"]
    on_meta = ask(make(), query.to("meta"), only=("flopcountermode",))["flopcountermode"]
    assert (0, 2 * 4 * 7 * 7 * (8 + 8)) == (on_cpu.prediction.macs, on_meta.prediction.macs)
    fused = [(term.code, term.macs) for term in on_cpu.prediction.terms if term.code]
    assert fused == [("fused_kernel", -2 * 4 * 7 * 7 * (8 + 8))]
    assert () == tuple(term.code for term in on_meta.prediction.terms if term.code)
    assert None is not on_meta.why_not_meta


def test_a_wrong_rule_of_flopcountermode_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution priced with its bias is contradicted by the real tool."""
    wrong = {**flopcountermode.RULES, "aten.convolution": lambda call: [(None, 7)]}
    monkeypatch.setattr(flopcountermode, "RULES", wrong)
    row = analyze("Conv2d(3, 4, 3)", inputs=["3x10x10"], counters="flopcountermode").counters[0]
    assert 8 * 8 * 4 * 3 * 3 * 3 - 7 == row.unexplained.macs


def test_torchinfo_multiplies_parameters_by_the_batch_or_by_positions() -> None:
    """A Linear on a sequence costs one sample's; a norm its parameters; a transposed convolution its outputs."""
    installed("torchinfo")
    linear = analyze("Linear(8, 16)", inputs=["5x8"], counters="torchinfo").counters[0]
    assert 8 * 16 + 16 == linear.reported.macs
    assert {"positions_ignored": -4 * 8 * 16, "bias": 16} == {cause.code: cause.macs for cause in linear.causes}
    norm = analyze("BatchNorm2d(8)", inputs=["8x5x5"], counters="torchinfo").counters[0]
    assert {"param_reuse": 8 + 8} == {cause.code: cause.macs for cause in norm.causes}
    transposed = analyze("ConvTranspose2d(8, 4, 2, stride=2, bias=False)", inputs=["8x5x5"], counters="torchinfo")
    assert {"transposed_output": 8 * 4 * 2 * 2 * (10 * 10 - 5 * 5)} == {
        cause.code: cause.macs for cause in transposed.counters[0].causes
    }


def test_torchinfo_counts_a_module_that_two_others_hold_again_in_those() -> None:
    """584 parameters become 1752."""
    installed("torchinfo")
    conv = nn.Conv2d(8, 8, 3, padding=1)
    answer = ask(nn.Sequential(nn.Sequential(conv), nn.Sequential(conv)), torch.rand(1, 8, 4, 4), only=("torchinfo",))
    terms = {(term.layer, term.code): term.params for term in answer["torchinfo"].prediction.terms if term.params}
    params = 8 * 8 * 3 * 3 + 8
    assert 3 * params == sum(terms.values())
    assert 2 * params == sum(amount for (_, code), amount in terms.items() if code == "shared_again")


def test_a_wrong_rule_of_torchinfo_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution that is priced by the batch alone is contradicted by the real tool."""
    installed("torchinfo")
    monkeypatch.setattr(torchinfo_rows, "_kind", lambda info: "Linear")
    row = analyze("Conv2d(3, 4, 3, bias=False)", inputs=["3x10x10"], counters="torchinfo").counters[0]
    assert (8 * 8 - 1) * 4 * 3 * 3 * 3 == row.unexplained.macs


def test_ultralytics_thop_counts_products_wherever_they_are_called() -> None:
    """As an operator, as a function, in a subclass; bias additions count nothing, a norm four for each element."""
    installed("ultralytics-thop")
    make, shapes = PROBES["operator @"]
    answer = ask(make(), *(torch.rand(shape) for shape in shapes), only=("ultralytics-thop",))["ultralytics-thop"]
    assert 2 * 4 * 5 * 6 == answer.prediction.macs
    norm = analyze("BatchNorm2d(8)", inputs=["8x5x5"], counters="ultralytics-thop").counters[0]
    assert {"norm_steps": 4 * 8 * 5 * 5} == {cause.code: cause.macs for cause in norm.causes}
    make, _ = PROBES["mm by keyword"]
    unseen = ask(make(), torch.rand(4, 5), torch.rand(5, 6), only=("ultralytics-thop",))["ultralytics-thop"]
    assert 0 == unseen.prediction.macs
    assert {None: 4 * 5 * 6, "functional_unseen": -4 * 5 * 6} == {
        term.code: term.macs for term in unseen.prediction.terms
    }


def test_ultralytics_thop_prices_an_outer_product() -> None:
    """As einsum, at all of its elements: torch multiplies these one by one, and accumulates nothing."""
    installed("ultralytics-thop")
    model = Calls(lambda _, a, b: torch.einsum("i,j->ij", a, b))
    answer = ask(model, torch.rand(4), torch.rand(5), only=("ultralytics-thop",))["ultralytics-thop"]
    answer.check("an outer product")
    assert [("einsum_whole", 4 * 5)] == [(term.code, term.macs) for term in answer.prediction.terms if term.macs]


def test_a_wrong_rule_of_ultralytics_thop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Linear that costs seven is contradicted by the real tool."""
    installed("ultralytics-thop")
    wrong = {**uthop_modules.RULES, "torch.nn.modules.linear.Linear": lambda call, info: [(None, 7)]}
    monkeypatch.setattr(uthop_walk, "MODULES", wrong)
    row = analyze("Linear(8, 16)", inputs=["8"], counters="ultralytics-thop").counters[0]
    assert 8 * 16 - 7 == row.unexplained.macs


def test_a_distribution_that_another_was_written_over_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """thop and ultralytics-thop share files: the hash of one tells whose it is."""
    record = tmp_path / "one-1.0.dist-info"
    record.mkdir()
    (tmp_path / "shared.py").write_text("one")
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: one\nVersion: 1.0\n")
    digest = urlsafe_b64encode(sha256(b"one").digest()).rstrip(b"=").decode()
    (record / "RECORD").write_text(f"shared.py,sha256={digest},3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "1.0" == shared_import.version_if_whole("one", "shared.py")
    (tmp_path / "shared.py").write_text("other")
    assert None is shared_import.version_if_whole("one", "shared.py")
    assert "other was installed over it" in str(shared_import.why_unavailable("one", "other"))
    assert None is shared_import.why_unavailable("nothing-of-this-name", "other")


def test_thop_prices_transposed_convolutions_at_their_outputs_and_shared_modules_four_times() -> None:
    """Its hooks are put on a module of two parents twice, and its sum meets it twice; and it loses parameters."""
    installed("thop")
    row = analyze("ConvTranspose2d(8, 4, 2, stride=2, bias=False)", inputs=["8x5x5"], counters="thop").counters[0]
    assert {"transposed_output": 8 * 4 * 2 * 2 * (10 * 10 - 5 * 5)} == {
        cause.code: cause.macs for cause in row.causes if cause.macs
    }
    make, shapes = PROBES["shared by two parents"]
    answer = ask(make(), *(torch.rand(shape) for shape in shapes), only=("thop",))["thop"]
    assert 4 * 2 * (10 * 10 * 8 * 8 * 3 * 3) == answer.prediction.macs
    assert 2 * (8 * 8 * 3 * 3 + 8) == answer.prediction.params
    root = ask(nn.Conv2d(8, 4, 1), torch.rand(1, 8, 4, 4), only=("thop",))["thop"]
    assert (0, 4 * 4 * 8 * 4) == (root.prediction.params, root.prediction.macs)


def test_a_wrong_rule_of_thop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Linear that costs seven is contradicted by the real tool."""
    installed("thop")
    wrong = {**thop_walk.RULES, "torch.nn.modules.linear.Linear": lambda call, info: [(None, 7)]}
    monkeypatch.setattr(thop_walk, "RULES", wrong)
    row = analyze("Linear(8, 16)", inputs=["8"], counters="thop").counters[0]
    assert 8 * 16 - 7 == row.unexplained.macs
