"""Comparisons: every point counted exactly, impossible points with their reason, ratios to the first valid one."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import counted
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat.commands.compare import compare
from convstat.config import project
from convstat.config.project import Config
from convstat.config.requests import Requests
from convstat.count import graphs
from convstat.errors import ConvstatError, ExitCode, SpecError, UsageError
from convstat.results.comparison import METRICS, Comparison, ratio
from convstat.results.report import Totals

NET = """\
convstat: 1
name: net
input: [3, S, S]
vars: {S: 16, width: 8, k: 3}
layers:
  - Conv2d: {out_channels: width, kernel_size: k, padding: k//2}
    name: stem
  - BatchNorm2d
  - Conv2d: {out_channels: 2*width, kernel_size: 1, bias: false}
    name: point
models:
  wide: {width: 16}
  deep-k: {k: 5}
"""

TWO_INPUTS = """\
convstat: 1
name: two
input: {x: [3, 8, 8], mask: [1, 8, 8]}
layers:
  - concat: [x, mask]
  - Conv2d: {out_channels: 4, kernel_size: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two specs, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "two.yaml").write_text(TWO_INPUTS)
    return tmp_path


def net_params(width: int = 8, k: int = 3) -> int:
    """The parameters of NET, by hand."""
    return (3 * width * k * k + width) + 2 * width + width * 2 * width


def net_macs(width: int = 8, k: int = 3, size: int = 16) -> int:
    """The MACs of NET, by hand."""
    return size * size * (3 * width * k * k + width * 2 * width)


def figures(comparison: Comparison) -> list[tuple[int, int] | None]:
    """Params and MACs of every row; None where it is invalid."""
    return [(row.totals.params, row.totals.macs) if row.totals else None for row in comparison.rows]


def refused(targets: list[str], arguments: list[str], kind: type[ConvstatError] = UsageError, **options: object) -> str:
    """Give the text of the error that must come."""
    with pytest.raises(kind) as caught:
        compare(targets, arguments, **options)  # type: ignore[arg-type]
    assert ExitCode.USAGE == caught.value.exit_code
    return str(caught.value)


# --- the reference layer ------------------------------------------------------------------------------------------


def test_nothing_but_a_sweep_is_about_the_reference_layer() -> None:
    """288 params at groups=1, and each group has its own share of the channels; the result says what was swept."""
    comparison = compare([], ["groups=1,2,4"])
    assert [4 * 8 * 3 * 3 // groups for groups in (1, 2, 4)] == [p for p, _ in filter(None, figures(comparison))]
    assert [64 * 64 * 4 * 8 * 3 * 3 // groups for groups in (1, 2, 4)] == [
        m for _, m in filter(None, figures(comparison))
    ]
    assert comparison.default is not None
    assert "Conv2d(4, 8, kernel_size=3, padding=1, bias=False) on 4x64x64" in comparison.default
    assert [{"groups": 1}, {"groups": 2}, {"groups": 4}] == [row.values for row in comparison.rows]


def test_an_impossible_point_is_a_row_with_torchs_reason() -> None:
    """It does not stop the others, and it has neither totals nor ratios."""
    comparison = compare([], ["groups=1..4"])
    assert ["ok", "ok", "invalid", "ok"] == [row.status for row in comparison.rows]
    row = comparison.rows[2]
    assert row.reason is not None
    assert row.reason.startswith("in_channels must be divisible by groups")
    assert (None, None) == (row.totals, row.vs_base)
    assert any("1, 2, 4" in line for line in row.help)
    assert ("1 of 4 points cannot be built",) == comparison.notes


def test_torch_says_the_same_reason() -> None:
    """The words are those that building the layer in torch gives."""
    import torch

    with pytest.raises(ValueError, match="in_channels must be divisible by groups") as caught:
        torch.nn.Conv2d(4, 8, 3, groups=3)
    assert str(compare([], ["groups=3"]).rows[0].reason).startswith(str(caught.value))


def test_the_first_valid_row_is_the_base() -> None:
    """Rows before it have nothing to be compared with."""
    comparison = compare([], ["groups=3,2,1"])
    assert comparison.base is comparison.rows[1]
    assert {"groups": 2} == comparison.to_dict()["base"]
    assert [None, 1, 2] == [row.vs_base and row.vs_base["params"] for row in comparison.rows]


def test_a_sweep_without_a_valid_point_has_no_base() -> None:
    """It is still a result."""
    comparison = compare([], ["groups=3,5"])
    assert (None, None) == (comparison.base, comparison.to_dict()["base"])
    assert 2 == comparison.invalid


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 32), st.integers(1, 32), st.integers(1, 4), st.lists(st.integers(1, 16), min_size=1, max_size=4))
def test_a_sweep_of_groups_counts_as_the_formula_does(cin: int, cout: int, k: int, groups: list[int]) -> None:
    """Each point by hand: valid where both channel counts divide, with weights of one group for each output channel."""
    comparison = compare(
        [f"Conv2d({cin}, {cout}, kernel_size={k})"],
        [f"groups={','.join(map(str, groups))}"],
        Requests(inputs=(f"{cin}x9x7",)),
    )
    expected = [
        (cout * (cin // g) * k * k + cout, (9 - k + 1) * (7 - k + 1) * cout * (cin // g) * k * k)
        if cin % g == 0 and cout % g == 0
        else None
        for g in groups
    ]
    assert expected == figures(comparison)


# --- any parameter of any target ----------------------------------------------------------------------------------


def test_several_axes_are_a_product_with_the_last_fastest(folder: Path) -> None:
    """Variables of a spec, in the order in which the axes are given."""
    comparison = compare(["net.yaml"], ["width=8,16", "k=1,3,5"])
    assert [(net_params(w, k), net_macs(w, k)) for w in (8, 16) for k in (1, 3, 5)] == figures(comparison)
    assert ("width", "k") == comparison.varying
    assert {"width": 8, "k": 1} == comparison.to_dict()["base"]


def test_axes_can_be_paired(folder: Path) -> None:
    """Equal lengths, side by side."""
    comparison = compare(["net.yaml"], ["width=8,16,32", "k=1,3,5"], zip=True)
    assert [(net_params(w, k), net_macs(w, k)) for w, k in ((8, 1), (16, 3), (32, 5))] == figures(comparison)


def test_arguments_of_layers_can_be_swept(folder: Path) -> None:
    """By the name of the layer; what follows from it is worked out again."""
    comparison = compare(["net.yaml"], ["point.out_channels=4,5"])
    assert [net_params() - 8 * 16 + 8 * out for out in (4, 5)] == [p for p, _ in filter(None, figures(comparison))]


def test_three_spellings_of_a_sweep_give_one_document(folder: Path) -> None:
    """Only the text of the axis says how it was written."""
    documents = [compare(["net.yaml"], [f"width={text}"]).to_dict() for text in ("4..7", "4,5,6,7", "range(4,8)")]
    for document in documents:
        document["axes"][0].pop("text")
    assert documents[0] == documents[1] == documents[2]


def test_the_batch_can_be_swept(folder: Path) -> None:
    """MACs grow with it; params and MACs/pixel do not."""
    comparison = compare(["net.yaml"], ["batch=1,4"])
    assert [(net_params(), net_macs()), (net_params(), 4 * net_macs())] == figures(comparison)
    versus = comparison.rows[1].vs_base
    assert versus is not None
    assert (1, 4, 1) == (versus["params"], versus["macs"], versus["macs_per_pixel"])
    assert "batch must be an integer of at least 1, not 0" in refused(["net.yaml"], ["batch=0"])


def test_the_input_can_be_swept(folder: Path) -> None:
    """As --input takes it, as a list, and by the name of one of several inputs."""
    comparison = compare(["net.yaml"], ["input=3x16x16,3x32x32,[3,8,8]"])
    assert [(net_params(), net_macs(size=size)) for size in (16, 32, 8)] == figures(comparison)
    assert [16 * 16, 32 * 32, 8 * 8] == [row.totals.pixels for row in comparison.rows if row.totals]
    two = compare(["two.yaml"], ["input.mask=1x8x8,5x8x8"])
    assert [(4 * 4 + 4, 64 * 4 * 4), (8 * 4 + 4, 64 * 8 * 4)] == figures(two)


def test_the_input_of_an_option_holds_for_all_points(folder: Path) -> None:
    """And is shown once, as a constant."""
    comparison = compare(["net.yaml"], ["width=8,16"], Requests(inputs=("3x32x32",)))
    assert [(net_params(w), net_macs(w, size=32)) for w in (8, 16)] == figures(comparison)
    assert "3x32x32" == comparison.constants["input"]
    assert "x=3x8x8, mask=1x8x8" == compare(["two.yaml"], []).constants["input"]


@pytest.mark.parametrize("point", [{}, {"width": 12}, {"k": 5, "width": 3}, {"stem.groups": 1}])
def test_a_row_has_the_totals_of_an_analysis(folder: Path, point: dict[str, int]) -> None:
    """The fast way of a sweep and the whole way of analyze end in the same figures, every one of them."""
    [row] = compare(["net.yaml"], [f"{n}={v}" for n, v in point.items()], Requests(batch=2, dtype="float16")).rows
    graph = counted.graph_of("net.yaml", point, batch=2)
    report = graphs.count(graph, source="net.yaml", kind="spec", batch=2, dtype="float16")
    assert report.totals == row.totals


# --- several targets ----------------------------------------------------------------------------------------------


def test_targets_stand_side_by_side(folder: Path) -> None:
    """The model is then part of what varies; the axes apply to each."""
    comparison = compare(["net.yaml", "net.yaml#wide"], ["k=1,3"])
    assert [(net_params(w, k), net_macs(w, k)) for w in (8, 16) for k in (1, 3)] == figures(comparison)
    assert ("model", "k") == comparison.varying
    assert {"model": "net.yaml#wide", "k": 1} == comparison.rows[2].values
    assert {"model": "net.yaml", "k": 1} == comparison.to_dict()["base"]


def test_a_star_stands_for_the_file_and_all_its_variants(folder: Path) -> None:
    """The file itself is first, and so the base."""
    comparison = compare(["net.yaml#*"])
    assert ("net.yaml", "net.yaml#wide", "net.yaml#deep-k") == comparison.models
    assert [(net_params(), net_macs()), (net_params(16), net_macs(16)), (net_params(k=5), net_macs(k=5))] == figures(
        comparison
    )
    assert "two.yaml has no variants" in refused(["two.yaml#*"], [])


def test_a_saved_report_can_stand_beside_a_spec(folder: Path) -> None:
    """With its own totals; it cannot be swept."""
    graph = counted.graph_of("net.yaml", {"width": 32})
    report = graphs.count(graph, source="net.yaml", kind="spec")
    (folder / "old.json").write_text(json.dumps(report.to_dict()))
    comparison = compare(["old.json", "net.yaml"])
    assert [(net_params(32), net_macs(32)), (net_params(), net_macs())] == figures(comparison)
    assert "a saved report: it takes no overrides" in refused(["old.json"], ["width=1,2"])


# --- constants and defaults ---------------------------------------------------------------------------------------


def test_what_is_the_same_for_all_rows_is_said_once(folder: Path) -> None:
    """In the order in which one would say it; an axis with one value is a constant and still part of the values."""
    comparison = compare(["net.yaml"], ["k=1", "width=8,16"])
    assert {
        "model": "net.yaml",
        "input": "3x16x16",
        "batch": 1,
        "pixels": "input 16x16",
        "k": 1,
    } == comparison.constants
    assert ("width",) == comparison.varying
    assert {"k": 1, "width": 16} == comparison.rows[1].values
    varied = compare(["net.yaml", "two.yaml"], ["batch=1,2"])
    assert {} == varied.constants


def test_the_model_of_the_settings_is_the_default(folder: Path) -> None:
    """With its input; the result says which model, and the line that names it."""
    settings = project.parse('# ours\nmodel = "net.yaml"\ninput = "3x32x32"\n', "convstat.toml")
    comparison = compare([], ["width=8,16"], Requests(config=settings))
    assert "no target given: net.yaml, from convstat.toml:2" == comparison.default
    assert [(net_params(w), net_macs(w, size=32)) for w in (8, 16)] == figures(comparison)
    # The input of the settings belongs to their model: another target has its own.
    assert compare(["net.yaml"], [], Requests(config=settings)).constants["input"] == "3x16x16"
    assert compare([], [], Requests(config=Config())).default != comparison.default


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_a_parameter_that_is_not_there_is_a_mistake_and_not_a_point(folder: Path) -> None:
    """Rows that all say so would bury it."""
    assert "did you mean 'groups'?" in refused([], ["goups=1,2,4"], SpecError)
    assert "did you mean 'width'?" in refused(["net.yaml"], ["widht=1,2,4"], SpecError)
    assert "stem.kernel" in refused(["net.yaml"], ["stem.kernel=1,2,4"], SpecError)
    assert "no variant" in refused(["net.yaml#small"], ["width=1,2"], SpecError)


def test_a_model_that_cannot_be_built_by_itself_is_a_mistake(folder: Path) -> None:
    """What is swept has nothing to do with it: it has no shape, or does not fit together."""
    assert "missing input shape" in refused(["Conv2d(4, 8, 3)"], ["groups=1,2"], SpecError)
    (folder / "odd.yaml").write_text(NET.replace("bias: false", "groups: 3"))
    shown = refused(["odd.yaml"], [], SpecError)
    assert "odd.yaml:9:61: error: " in shown
    assert "must be divisible by groups" in shown
    # But a sweep may look for the value that makes it fit.
    assert ["invalid", "ok"] == [row.status for row in compare(["odd.yaml"], ["point.groups=3,2"]).rows]


def test_mistakes_of_the_command_are_refused(folder: Path) -> None:
    """Before anything is counted."""
    assert "the limit is 100,000" in refused(["net.yaml"], ["width=1..1000", "k=1..101"])
    assert "differ in length" in refused(["net.yaml"], ["width=1,2", "k=1,3,5"], zip=True)
    assert "unknown dtype" in refused(["net.yaml"], [], requests=Requests(dtype="float8"))
    assert "unknown basis" in refused(["net.yaml"], [], requests=Requests(per="pixel"))
    assert "no input 'y'" in refused(["two.yaml"], [], requests=Requests(inputs=("y=3x8x8",)))


# --- the document -------------------------------------------------------------------------------------------------


def test_the_document_has_what_is_promised(folder: Path) -> None:
    """The names of the contract, exact integers, floats only for ratios, and nothing that JSON cannot hold."""
    document = compare(["net.yaml"], ["width=8,16,0.5"]).to_dict()
    assert "convstat.comparison/1" == document["schema"]
    assert {"schema", "base", "rows"} <= set(document)
    for row in document["rows"]:
        assert {"values", "status", "reason", "totals", "vs_base"} <= set(row)
    first, second, third = document["rows"]
    assert (net_params(16), net_macs(16)) == (second["totals"]["params"], second["totals"]["macs"])
    assert {*METRICS} == set(second["vs_base"])
    assert net_macs(16) / net_macs(8) == second["vs_base"]["macs"]
    assert {1.0} == set(first["vs_base"].values())
    assert ("invalid", 0.5) == (third["status"], third["values"]["width"])
    assert document == json.loads(json.dumps(document, allow_nan=False))


def test_ratios_are_exact_until_they_are_written(folder: Path) -> None:
    """A third is a third."""
    row = compare(["net.yaml"], ["width=8,11"]).rows[1]
    assert row.vs_base is not None
    assert Fraction(net_macs(11), net_macs(8)) == row.vs_base["macs"]


def test_what_the_base_has_none_of_cannot_be_compared() -> None:
    """Nothing to nothing is the same; something to nothing has no ratio."""
    assert (Fraction(1), None, Fraction(0)) == (ratio(0, 0), ratio(5, 0), ratio(0, 5))
    assert ratio(None, 3) is None
    assert Totals().macs_per_pixel is None


def test_counters_can_be_asked_at_every_valid_point() -> None:
    """Their figures stand in the rows; invalid rows have none. Bias is what ptflops counts beside the products."""
    comparison = compare([], ["groups=1,3", "bias=True"], counters="ptflops")
    valid, invalid = comparison.rows
    [answer] = valid.counters
    assert ("ptflops", "ok", 4 * 8 * 9 + 8) == (answer.name, answer.status, answer.reported.params)
    assert 64 * 64 * (4 * 8 * 9 + 8) == answer.reported.macs
    assert () == invalid.counters
    assert answer.reported.macs == comparison.to_dict()["rows"][0]["counters"][0]["reported"]["macs"]


def test_a_sweep_loads_no_torch() -> None:
    """Not even for its errors: a process of its own lists what it has loaded."""
    program = (
        "import sys; from convstat.commands import check, compare; compare.compare([], ['groups=1..4']);"
        "print([name for name in ('torch', 'numpy', 'rich', 'typer') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "[]" == answer.stdout.strip()
