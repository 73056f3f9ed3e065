"""Layers are matched by name and then by structure, each stands in one row, and the rows add up to both totals."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import counted
import gitrepo
import jsonschema
import pytest
from gitrepo import GROWN, NET, PARAMS, Repo
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat import spec
from convstat.commands import diff as diff_command
from convstat.commands.diff import Sides
from convstat.config.requests import Requests
from convstat.count import graphs
from convstat.errors import ConvstatError, UsageError
from convstat.history import changes, matching
from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.results import sums
from convstat.results.diff import COUNTS, Change, Diff, LayerChange
from convstat.results.documents.schema import report_schema
from convstat.results.report import InputInfo, LayerRow, ModelInfo, Report

HEAD = "convstat: 1\ninput: [3, 8, 8]\nlayers:\n"
STEM = "  - Conv2d: {out_channels: 16, kernel_size: 3, padding: 1}\n    name: stem\n"


def count(layers: str, head: str = HEAD) -> Report:
    """Count a spec that is written here."""
    return graphs.count(spec.read(head + layers, "net.yaml").expand(), source="net.yaml", kind="spec")


def rows(old: str, new: str) -> list[tuple[str, str, str]]:
    """What became of the layers of two specs: name, status, why."""
    return [(row.name, row.status, row.why) for row in changes.compare(count(old), count(new)).layers]


def changed(old: str, new: str) -> list[tuple[str, str, str]]:
    """Those that are not what they were."""
    return [row for row in rows(old, new) if row[1] != "unchanged"]


# --- matching -----------------------------------------------------------------------------------------------------


def test_an_argument_that_changed_is_named_with_both_values() -> None:
    """kernel_size: 3 -> 5, as a reader of the spec would say it."""
    new = STEM.replace("kernel_size: 3, padding: 1", "kernel_size: 5, padding: 2")
    assert [("stem", "changed", "kernel_size: 3 -> 5, padding: 1 -> 2")] == changed(STEM, new)
    assert [("stem", "changed", "bias: true -> false")] == changed(
        STEM, STEM.replace("padding: 1", "padding: 1, bias: false")
    )
    assert [("stem", "changed", "kernel_size: 3 -> (3, 1), output: 16x8x8 -> 16x8x10")] == changed(
        STEM, STEM.replace("kernel_size: 3", "kernel_size: [3, 1]")
    )


def test_what_follows_from_another_layer_says_so() -> None:
    """The layer behind a wider one has more input channels, and another input."""
    head = "  - Conv2d: {out_channels: 10, kernel_size: 1}\n    name: head\n"
    assert [
        ("stem", "changed", "out_channels: 16 -> 32, output: 16x8x8 -> 32x8x8"),
        ("head", "changed", "in_channels: 16 -> 32, input: 16x8x8 -> 32x8x8"),
    ] == changed(STEM + head, STEM.replace("16", "32") + head)


def test_layers_are_matched_by_their_names_first() -> None:
    """Whatever else changed about them and wherever they stand."""
    a, b = "  - ReLU:\n    name: a\n", "  - GELU:\n    name: b\n"
    assert [] == changed(a + b, b + a)
    assert [("a", "changed", "type: ReLU -> GELU")] == changed(a, a.replace("ReLU", "GELU"))


def test_a_renamed_layer_is_found_by_its_structure() -> None:
    """It costs the same as before, so nothing was added and nothing removed."""
    assert [("entry", "renamed", "was stem")] == changed(STEM, STEM.replace("stem", "entry"))


def test_one_layer_that_is_inserted_does_not_change_all_that_follow() -> None:
    """Where names count positions, the layers are aligned by what they are."""
    unit = "  - Conv2d: {out_channels: 8, kernel_size: 3}\n  - ReLU\n"
    old = unit * 3
    new = unit + "  - Conv2d: {out_channels: 8, kernel_size: 1}\n" + unit * 2
    statuses = [status for _, status, _ in rows(old, new)]
    assert (1, 0, 0) == tuple(statuses.count(status) for status in ("added", "removed", "changed"))
    assert (0, 1, 0) == tuple(
        [status for _, status, _ in rows(new, old)].count(status) for status in ("added", "removed", "changed")
    )


def test_a_layer_in_the_place_of_another_of_its_type_is_that_layer_changed() -> None:
    """Also where the names around it count positions."""
    old = "".join(f"  - Conv2d: {{out_channels: 8, kernel_size: {k}, padding: same}}\n" for k in (1, 3, 1))
    new = "".join(f"  - Conv2d: {{out_channels: 8, kernel_size: {k}, padding: same}}\n" for k in (1, 5, 1))
    [(_, status, why)] = changed(old, new)
    assert ("changed", "kernel_size: 3 -> 5") == (status, why)


def test_a_removed_layer_stands_where_it_stood() -> None:
    """Behind the layer that it followed."""
    tail = "  - ReLU:\n    name: a\n  - GELU:\n    name: b\n  - Tanh:\n    name: c\n"
    without = tail.replace("  - GELU:\n    name: b\n", "")
    assert ["stem", "a", "b", "c"] == [name for name, *_ in rows(STEM + tail, STEM + without)]
    assert [("b", "removed", "removed")] == changed(STEM + tail, STEM + without)
    assert [("b", "added", "added")] == changed(STEM + without, STEM + tail)


def test_each_call_of_a_layer_is_matched_with_the_same_call() -> None:
    """Two rows of one name are the first and the second call."""
    report = count(STEM)
    row = report.layers[0]
    twice = replace(report, layers=(row, replace(row, params=0, shares="stem")))
    more = replace(report, layers=(row, replace(row, params=0, shares="stem"), replace(row, params=0, shares="stem")))
    assert ["unchanged"] * 2 == [layer.status for layer in changes.compare(twice, twice).layers]
    assert ["unchanged", "unchanged", "added"] == [layer.status for layer in changes.compare(twice, more).layers]


def test_what_no_argument_explains_is_still_told() -> None:
    """Counts that differ for no other reason, frozen parameters, shared ones."""
    report = count(STEM)
    row = report.layers[0]

    def against(**new: object) -> str:
        return changes.compare(report, replace(report, layers=(replace(row, **new),))).layers[0].why  # type: ignore[arg-type]

    assert f"macs: {row.macs} -> 1" == against(macs=1)
    assert f"trainable_params: {row.params} -> 0" == against(trainable_params=0)
    assert "parameters: its own -> of other" in against(shares="other", params=0)
    assert f"weight_bytes: {4 * row.params} -> {2 * row.params}" == against(weight_bytes=2 * row.params)


def test_ten_thousand_layers_are_matched() -> None:
    """Identical ones too, with one inserted in the middle, and all of them different."""
    row = LayerRow("x", "Conv2d", ((1, 8, 8, 8),), ((1, 8, 8, 8),), 8, 64, arguments={"kernel_size": 1})
    old = [replace(row, name=str(i)) for i in range(10_000)]
    new = [*old[:5000], replace(row, name="new", params=9), *(replace(row, name=str(i)) for i in range(5000, 10_000))]
    statuses = [layer.status for layer in matching.match(old, new)]
    assert (1, 10_000) == (statuses.count("added"), statuses.count("unchanged"))
    other = [replace(row, name=str(i), macs=i) for i in range(10_000)]
    assert 10_000 == len(matching.match(old, other))


@settings(deadline=None, max_examples=300)
@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_common_subsequence_is_common_and_longest(old: str, new: str) -> None:
    """Against the table of lengths that everybody knows."""
    lengths = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i, one in enumerate(old):
        for j, other in enumerate(new):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if one == other else max(lengths[i][j + 1], lengths[i + 1][j])
    pairs = matching.common(old, new)
    assert lengths[-1][-1] == len(pairs)
    assert all(old[i] == new[j] for i, j in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))


def test_repeated_blocks_are_aligned_in_time() -> None:
    """Networks repeat one block; what is quadratic in that takes minutes."""
    row = LayerRow("x", "Conv2d", ((1, 8, 8, 8),), ((1, 8, 8, 8),), 8, 64, arguments={"kernel_size": 1})
    other = replace(row, type="ReLU", params=0, macs=0)

    def made(pattern: str, count: int) -> list[LayerRow]:
        return [replace(row if pattern[i % len(pattern)] == "a" else other, name=str(i)) for i in range(count)]

    start = time.process_time()
    rows = matching.match(made("ab", 6000), made("bba", 6000))
    assert 2000 <= sum(layer.status in ("unchanged", "renamed") for layer in rows)
    assert time.process_time() - start < 20


# --- closing ------------------------------------------------------------------------------------------------------


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """A report of any layers, with names that come twice."""
    made = []
    for _ in range(draw(st.integers(0, 9))):
        name = draw(st.sampled_from(["a", "b", "c.0", "c.1", "x[/b]:x:|=<script>"]))
        kind = draw(st.sampled_from(["Conv2d", "ReLU", "Linear"]))
        params, macs = draw(st.integers(0, 3)), draw(st.integers(0, 10**20))
        arguments = draw(st.dictionaries(st.sampled_from(["k", "s"]), st.integers(1, 2), max_size=2))
        made.append(
            LayerRow(name, kind, ((1, 3, 8, 8),), ((1, 3, 8, 8),), params, macs, params, 0, 4 * params, {}, arguments)
        )
    totals = sums.total(made, 64, "input 8x8")
    return Report(ModelInfo("m", "m.yaml", "spec", (InputInfo("x", (1, 3, 8, 8)),)), totals, tuple(made))


def assert_closes(found: Diff, old: Report, new: Report) -> None:
    """Check that the rows are all layers of both, once each, and add up to both totals."""
    assert sorted(map(id, old.layers)) == sorted(id(row.old) for row in found.layers if row.old is not None)
    assert [id(row) for row in new.layers] == [id(row.new) for row in found.layers if row.new is not None]
    for name in COUNTS:
        assert getattr(old.totals, name) == sum(row.value(name, of="old") for row in found.layers)
        assert getattr(new.totals, name) == sum(row.value(name, of="new") for row in found.layers)
        assert found.delta(name) == sum(row.delta(name) for row in found.layers)


@settings(deadline=None, max_examples=150)
@given(reports(), reports(), st.booleans(), st.none() | st.integers(1, 4))
def test_totals_close(old: Report, new: Report, all: bool, top: int | None) -> None:
    """Every layer of either is in exactly one row; shown rows and the others add up to the totals."""
    found = changes.compare(old, new)
    assert_closes(found, old, new)
    shown = found.shown(all=all, top=top)
    assert len(found.layers) == len(shown.rows) + shown.others
    for name in COUNTS:
        assert getattr(new.totals, name) == shown.other_new[name] + sum(r.value(name, of="new") for r in shown.rows)
        assert getattr(old.totals, name) == shown.other_old[name] + sum(r.value(name, of="old") for r in shown.rows)


@settings(deadline=None, max_examples=80)
@given(reports(), reports())
def test_there_and_back_is_the_opposite(old: Report, new: Report) -> None:
    """What grew by so much shrinks by as much, and a model is unchanged against itself."""
    there, back = changes.compare(old, new), changes.compare(new, old)
    assert [there.delta(name) for name in COUNTS] == [-back.delta(name) for name in COUNTS]
    same = changes.compare(old, replace(old, layers=tuple(replace(row) for row in old.layers)))
    assert "unchanged" == same.state
    assert len(old.layers) == same.count("unchanged")


def test_a_lost_or_doubled_row_is_found() -> None:
    """The check above can fail."""
    old, new = count(STEM), count(STEM.replace("16", "8"))
    found = changes.compare(old, new)
    assert_closes(found, old, new)
    for layers in ((), found.layers * 2, (LayerChange("added", None, new.layers[0]),)):
        with pytest.raises(AssertionError):
            assert_closes(replace(found, layers=layers), old, new)


@settings(deadline=None, max_examples=40)
@given(reports(), reports())
def test_the_document_is_what_the_schema_says(old: Report, new: Report) -> None:
    """Alone and as one of several; its integers survive JSON."""
    text = RENDERERS.named("json").render([changes.compare(old, new)], Options())
    document = json.loads(text)
    jsonschema.Draft202012Validator(report_schema()).validate(document)
    assert (
        new.totals.macs - old.totals.macs
        == document["delta"]["macs"]
        == sum(r["delta"]["macs"] for r in document["layers"])
    )


def test_the_table_names_both_sides_and_the_others() -> None:
    """What changed, with its line; all the rest in one row; the totals below."""
    tail = "  - ReLU\n  - Flatten\n"
    found = changes.compare(count(STEM + tail), count(STEM.replace("kernel_size: 3", "kernel_size: 1") + tail))
    text = RENDERERS.named("table").render([found], Options(width=160))
    assert "kernel_size: 3 -> 1" in text
    assert "net.yaml:4" in text
    assert "[other 0 layers]" not in text
    assert f"{found.head.totals.macs:,}" in text


@pytest.mark.parametrize(
    ("by", "expected"),
    [("name", ["a", "b", "c"]), ("type", ["c", "a", "b"]), ("params", ["b", "c", "a"]), ("macs", ["c", "b", "a"])],
)
def test_rows_can_be_sorted(by: str, expected: list[str]) -> None:
    """By the size of the change, or by what they are called; the largest come first where only some are shown."""

    def made(*figures: tuple[str, str, int, int]) -> Report:
        rows = tuple(LayerRow(name, kind, (), (), params, macs) for name, kind, params, macs in figures)
        return Report(ModelInfo("m", "m", "spec", ()), sums.total(rows, 0, ""), rows)

    old = made(("a", "Linear", 0, 0), ("b", "Linear", 9, 9), ("c", "Conv2d", 0, 0))
    new = made(("a", "Linear", 1, 1), ("b", "Linear", 0, 0), ("c", "Conv2d", 5, 50))
    found = changes.compare(old, new)
    assert expected == [row.name for row in found.shown(by=by).rows]
    assert expected[:2] == [row.name for row in found.shown(by=by, top=2).rows]
    assert ["a", "b", "c"] == [row.name for row in found.shown().rows]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_reason_is_shown_at_every_width(width: int) -> None:
    """Beside its layer where there is room, below where there is none; and no figure is cut."""
    found = changes.compare(count(STEM), count(STEM.replace("kernel_size: 3", "kernel_size: 1")))
    text = RENDERERS.named("table").render([found], Options(width=width))
    assert "kernel_size: 3 -> 1" in " ".join(text.split())
    assert "net.yaml:4" in text
    assert f"{found.head.totals.macs:,}" in text


def test_other_inputs_are_noted() -> None:
    """Figures of different inputs are compared, and it is said that they are."""
    wide = HEAD.replace("[3, 8, 8]", "[3, 8, 16]")
    found = changes.compare(count(STEM), count(STEM, wide))
    assert "the input is 3x8x16, and was 3x8x8 in the base" in found.notes


def test_a_change_is_written_as_one_reads_it() -> None:
    """Booleans as in YAML, sequences in brackets, what was not written by its name."""
    assert "bias: default -> false" == str(Change("bias", None, False))
    assert "stride: 1 -> (1, 2)" == str(Change("stride", 1, [1, 2]))


# --- what can be compared -----------------------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repository with a spec and another YAML file on main."""
    made = gitrepo.make(tmp_path / "repo")
    made.commit(net_yaml=NET, ci_yaml="jobs: {}\n")
    monkeypatch.chdir(made.path)
    return made


def asked(
    *arguments: str, all: bool = False, base: str | None = None, **how: object
) -> list[tuple[str, str, str, int]]:
    """The diffs of a command: both labels, the state, and by how much params grew."""
    request = Sides(Requests(**how), base)  # type: ignore[arg-type]
    return [
        (found.base.label, found.head.label, found.state, found.delta("params"))
        for found in diff_command.differences(arguments, request, all=all)
    ]


BIGGER = NET.replace("kernel: 3", "kernel: 5")
DELTA = GROWN - PARAMS


def test_two_targets_of_any_kind(repo: Repo, tmp_path: Path) -> None:
    """Specs, variants, saved reports, revisions, inline layers."""

    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(counted.analyze("net.yaml", counters="none").to_dict()))
    repo.write("net.yaml", BIGGER)
    for base in (str(saved), "main:net.yaml", "HEAD:./net.yaml"):
        assert [(base, "net.yaml", "changed", DELTA)] == asked(base, "net.yaml")
    layers = ("Conv2d(3, 8, 1)", "Conv2d(3, 8, 3, padding=1)")
    assert [(*layers, "changed", 3 * 8 * 8)] == asked(*layers, inputs=("3x8x8",))
    assert [("main:net.yaml", "net.yaml", "changed", (25 - 9) * 3 * 8)] == asked(
        "main:net.yaml", "net.yaml", overrides={"width": 8}
    )


def test_one_target_is_compared_with_its_past(repo: Repo) -> None:
    """With the base that is set, at its merge-base; without one, with the last commit."""
    repo.git("checkout", "--quiet", "-b", "feature")
    repo.commit(net_yaml=BIGGER)
    assert [("HEAD:net.yaml", "net.yaml", "unchanged", 0)] == asked("net.yaml")
    [(label, _, state, grown)] = asked("net.yaml", base="main")
    assert (True, "changed", DELTA) == (label.startswith("main at "), state, grown)
    assert [("main:net.yaml", "net.yaml#wide", "changed", 2 * (GROWN - 160) + 320 - (2 * (PARAMS - 160) + 320))] == [
        (label.replace("#wide", ""), *rest) for label, *rest in asked("main", "net.yaml#wide")
    ]


def test_a_revision_stands_for_every_spec_that_changed(repo: Repo) -> None:
    """Each with its variants; other YAML and what is the same are left out; new and removed ones are there."""
    repo.write("net.yaml", BIGGER)
    repo.write("ci.yaml", "jobs: {a: b}\n")
    repo.write("new.yaml", NET.replace("models:\n  wide: {width: 32}\n", ""))
    wide = 2 * (GROWN - PARAMS)
    expected = [
        ("main:net.yaml", "net.yaml", "changed", DELTA),
        ("main:net.yaml#wide", "net.yaml#wide", "changed", wide),
        ("main:new.yaml", "new.yaml", "new", PARAMS),
    ]
    assert expected == asked("main")
    assert [(base.replace("main", "HEAD"), *rest) for base, *rest in expected] == [(b, *r) for b, *r in asked()]
    repo.commit()
    (repo.path / "net.yaml").unlink()
    assert [("HEAD:net.yaml", "net.yaml", "removed"), ("HEAD:net.yaml#wide", "net.yaml#wide", "removed")] == [
        row[:3] for row in asked("HEAD")
    ]


def test_between_two_revisions_the_working_tree_does_not_count(repo: Repo) -> None:
    """A B, A..B and A...B, as in git."""
    repo.git("checkout", "--quiet", "-b", "feature")
    repo.commit(net_yaml=BIGGER.replace("models:\n  wide: {width: 32}\n", ""))
    repo.git("checkout", "--quiet", "main")
    repo.commit(other_yaml=NET)
    repo.write("net.yaml", NET.replace("width: 16", "width: 1"))
    changes = [("main:net.yaml", "feature:net.yaml", "changed", DELTA)]
    assert changes == [row for row in asked("main", "feature") if row[2] == "changed"]
    assert asked("main", "feature") == asked("main..feature")
    assert {"changed", "removed"} == {row[2] for row in asked("main..feature")}
    assert {"changed", "removed"} == {row[2] for row in asked("main...feature")}
    assert not [row for row in asked("main...feature") if "other" in row[0]]


def test_a_renamed_spec_is_compared_with_what_it_was(repo: Repo) -> None:
    """As git finds it."""
    repo.git("mv", "net.yaml", "better.yaml")
    assert [] == asked("main")
    assert ("main:net.yaml", "better.yaml", "unchanged", 0) == asked("main", all=True)[0]


def test_where_nothing_changed_there_is_nothing(repo: Repo) -> None:
    """An empty list is an answer."""
    assert [] == asked("main")
    assert [] == asked()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mian",), "unknown git revision 'mian'"),
        (("net.yaml", "net.yaml", "net.yaml"), "diff takes a base and a head, not 3 targets"),
        (("main..HEAD", "net.yaml"), "net.yaml is compared with one revision, not with main..HEAD"),
        (("Conv2d(3, 8, 1)", "main"), "cannot be read at revision 'main'"),
        (("main:nets.yaml", "net.yaml"), "there is no file 'nets.yaml' at main"),
        (("Conv2d(3, 8, 3)",), "nothing to compare Conv2d(3, 8, 3) with: an inline layer has no history"),
        (("ci.yaml", "nothing.yaml"), "no file nothing.yaml"),
    ],
)
def test_mistakes(repo: Repo, arguments: tuple[str, ...], message: str) -> None:
    """Each says what is wrong, and none is a traceback."""
    with pytest.raises(ConvstatError) as caught:
        asked(*arguments, **({"inputs": ("3x8x8",)} if "Conv2d" in arguments[0] else {}))  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_outside_of_git_revisions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two targets can be compared anywhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    assert [("net.yaml", "net.yaml#wide", "changed", PARAMS)] == asked("net.yaml", "net.yaml#wide")
    with pytest.raises(UsageError, match="not a git repository"):
        asked()
    with pytest.raises(UsageError, match="not a git repository"):
        asked("main:net.yaml", "net.yaml")


# --- calls of blocks ----------------------------------------------------------------------------------------------

UNIT = """\
blocks:
  unit:
    params: {out: null, k: 3}
    layers:
      - Conv2d: {out_channels: out, kernel_size: k}
"""
CALLED = "convstat: 1\ninput: [16, 9, 9]\n"


@pytest.mark.parametrize(
    ("call", "old", "new", "argument"),
    [
        ("InvertedResidual: {{out_channels: 24, expand_ratio: {}}}", 4, 6, "expand_ratio"),
        ("InvertedResidual: {{out_channels: 24, se_ratio: {}}}", "1/4", "1/2", "se_ratio"),
        ("DepthwiseSeparableConv: {{out_channels: {}}}", 24, 32, "out_channels"),
        ("ACBlock: {{out_channels: 8, kernel_size: {}}}", 3, 5, "kernel_size"),
        ("unit: {{out: {}}}", 8, 12, "out"),
        ("unit: {{out: 8, k: {}}}", 3, 5, "k"),
    ],
)
def test_a_change_is_traced_to_the_call_that_made_it(call: str, old: object, new: object, argument: str) -> None:
    """The user's line and the argument written there, also where the block ships with convstat."""
    head = CALLED + (UNIT if call.startswith("unit") else "")
    line = head.count("\n") + 2
    before, after = (count(f"layers:\n  - {call.format(value)}\n", head) for value in (old, new))
    found = [row for row in changes.compare(before, after).layers if row.status != "unchanged"]
    assert found
    for row in found:
        first = row.changes[0]
        assert (argument, call.partition(":")[0], ("net.yaml", line)) == (
            first.argument, first.block, (row.source and row.source.file, row.source and row.source.line)
        )  # fmt: skip
        assert f"{argument}: " in row.why


def test_no_layer_stands_in_a_file_of_convstats() -> None:
    """Blocks that ship with it, also those inside others, are where the user called them."""
    text = CALLED + "layers:\n  - InvertedResidual: {out_channels: 24, se_ratio: 1/4}\n    repeat: 2\n"
    report = count("", text)
    assert {("net.yaml", 4)} == {(row.source.file, row.source.line) for row in report.layers if row.source}
    assert len(report.layers) > 10
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert {"out_channels": 24, "se_ratio": 0.25} == again.calls["InvertedResidual.1"].arguments


def test_a_layer_that_a_call_adds_says_why() -> None:
    """An expansion of 1 has no layers of its own."""
    lines = "layers:\n  - InvertedResidual: {{out_channels: 24, expand_ratio: {}}}\n"
    found = changes.compare(count(lines.format(1), CALLED), count(lines.format(2), CALLED))
    [added] = [row for row in found.layers if row.name == "InvertedResidual.expand"]
    assert "added, expand_ratio: 1 -> 2 (InvertedResidual)" == added.why


def test_of_nested_calls_the_outermost_that_changed_is_named() -> None:
    """What a block hands on to another follows from what it was given."""
    outer = UNIT + "  stage:\n    params: {width: null}\n    layers:\n      - unit: {out: width}\n"
    before, after = (count(f"layers:\n  - stage: {{width: {n}}}\n", CALLED + outer) for n in (8, 12))
    [row] = changes.compare(before, after).layers
    assert ("width", 8, 12, "stage") == (
        row.changes[0].argument, row.changes[0].old, row.changes[0].new, row.changes[0].block
    )  # fmt: skip
