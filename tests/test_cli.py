"""The command line: what it accepts, what it refuses, what it prints where, and how it exits."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import jsonschema
import pytest
from hand_made import COUNTERS, OWN, report

from convstat.cli.run import run
from convstat.render.formats.json import to_json
from convstat.results.documents.schema import report_schema
from convstat.results.report import Uncounted

SPEC = """\
convstat: 1
name: tiny
input: [4, 8, 8]
vars: {width: 8, unit: 1}
layers:
  - Conv2d: {out_channels: width, kernel_size: 3, padding: 1, bias: false}
    name: stem
  - ReLU
  - Conv2d: {out_channels: 2 * width, kernel_size: 1}
    name: head
models:
  wide: {width: 16}
"""

PARAMS = 8 * 4 * 9 + (16 * 8 + 16)
MACS = 8 * 4 * 9 * 64 + 16 * 8 * 64


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a spec, as the working directory of commands."""
    (tmp_path / "net.yaml").write_text(SPEC.replace("vars: {width: 8, unit: 1}", "vars: {width: 8}"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command; give its exit code, its standard output and its standard error."""
    code = run(arguments)
    out, error = capsys.readouterr()
    return code, out, error


def test_analyze_counts_a_spec(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures are those of the formulas, in the header, in the table and in JSON."""
    code, out, error = call(capsys, "analyze", "net.yaml", "--counters", "none")
    assert (0, "") == (code, error)
    assert f"{PARAMS:,}" in out
    assert f"{MACS:,}" in out
    code, out, _ = call(capsys, "analyze", "net.yaml", "--counters", "none", "-f", "json")
    totals = json.loads(out)["totals"]
    assert (PARAMS, MACS, 2 * MACS) == (totals["params"], totals["macs"], totals["flops"])


def test_an_override_and_a_variant_are_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """width=16 and #wide count alike; what was set is in the header."""
    _, one, _ = call(capsys, "analyze", "net.yaml", "width=16", "--counters", "none", "-f", "json")
    _, two, _ = call(capsys, "analyze", "net.yaml#wide", "--counters", "none", "-f", "json")
    assert json.loads(one)["totals"] == json.loads(two)["totals"]
    _, out, _ = call(capsys, "analyze", "net.yaml", "width=16", "--counters", "none")
    assert "set      width=16" in out


def test_an_inline_layer_with_an_equals_sign_is_a_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The = of an argument is behind a bracket."""
    code, out, _ = call(
        capsys, "analyze", "Conv2d(4, 8, kernel_size=3, bias=False)", "-i", "4x8x8", "--counters", "none"
    )
    assert 0 == code
    assert "288" in out


def test_several_targets_are_one_report_after_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables follow each other; JSON is a list; CSV has one heading."""
    targets = ("net.yaml", "net.yaml#wide", "--counters", "none")
    _, out, _ = call(capsys, "analyze", *targets)
    assert 2 == out.count("\nlayers\n")
    _, out, _ = call(capsys, "analyze", *targets, "-f", "json")
    assert 2 == len(json.loads(out))
    _, out, _ = call(capsys, "analyze", *targets, "-f", "csv")
    assert 2 == sum(row["row"] == "total" for row in csv.DictReader(io.StringIO(out)))


def test_a_sweep_where_one_value_is_needed_names_three_ways(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message is exactly this."""
    code, out, error = call(capsys, "analyze", "g=1,2,4")
    assert (2, "") == (code, out)
    assert error.splitlines() == [
        "error: 'g=1,2,4' has 3 values, but analyze takes one model",
        "help: to sweep:         convstat compare g=1,2,4",
        "help: to pass a list:   g=[1,2,4]",
        "help: to pass a string: g='\"1,2,4\"'",
    ]


def test_compare_needs_no_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference layer is swept, and the output says so."""
    code, out, error = call(capsys, "compare", "groups=1,2,4")
    assert (0, "") == (code, error)
    assert "the reference layer Conv2d(4, 8, kernel_size=3, padding=1, bias=False)" in out
    for params in ("288", "144", "72", "x0.50", "-75.0%"):
        assert params in out.split()


def test_an_impossible_point_is_a_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has torch's reason, the exit code is 0, and 2 under --strict."""
    code, out, _ = call(capsys, "compare", "groups=1,3")
    assert 0 == code
    assert "invalid [1]" in out
    assert "in_channels must be divisible by groups" in " ".join(out.split())
    assert 2 == call(capsys, "compare", "groups=1,3", "--strict")[0]


def test_axes_multiply_or_go_side_by_side(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sweeps of two values are four rows, and two with --zip."""
    _, out, _ = call(capsys, "compare", "groups=1,2", "bias=true,false", "-f", "json")
    assert 4 == len(json.loads(out)["rows"])
    _, out, _ = call(capsys, "compare", "groups=1,2", "bias=true,false", "--zip", "-f", "json")
    assert 2 == len(json.loads(out)["rows"])


@pytest.mark.parametrize(("limit", "code"), [(PARAMS - 1, 1), (PARAMS, 0), (PARAMS + 1, 0)])
def test_a_limit_is_inclusive(folder: Path, capsys: pytest.CaptureFixture[str], limit: int, code: int) -> None:
    """One below fails with 1, the value itself and one above pass; the digits are there."""
    found, out, _ = call(capsys, "check", "net.yaml", "--max", f"params={limit}")
    assert code == found
    assert f"{PARAMS:,}" in out
    assert f"{limit:,}" in out


def test_a_failing_check_says_what_costs_and_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The layers with their lines, and the smallest value that passes."""
    code, out, _ = call(capsys, "check", "net.yaml", "--max", "macs=1k")
    assert 1 == code
    assert "net.yaml:6" in out
    assert f'"{MACS}"' in " ".join(out.split())


def test_a_check_without_a_budget_cannot_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a mistake, not a success."""
    assert 2 == call(capsys, "check", "net.yaml")[0]


def test_expand_writes_a_spec_that_counts_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was counted can be read back."""
    code, out, _ = call(capsys, "expand", "net.yaml", "width=16")
    assert 0 == code
    (folder / "flat.yaml").write_text(out)
    _, one, _ = call(capsys, "analyze", "flat.yaml", "--counters", "none", "-f", "json")
    _, two, _ = call(capsys, "analyze", "net.yaml", "width=16", "--counters", "none", "-f", "json")
    assert json.loads(two)["totals"] == json.loads(one)["totals"]


def test_a_saved_report_is_shown_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """render gives what analyze gave, in any format, and analyze takes the report as a target."""
    _, out, _ = call(capsys, "analyze", "net.yaml", "--counters", "none", "-o", "saved.json")
    for again in (("render", "saved.json"), ("analyze", "saved.json")):
        assert (0, out, "") == call(capsys, *again)
    code, out, _ = call(capsys, "render", "saved.json", "-f", "markdown", "--top", "1")
    assert 0 == code
    assert "\\[other 2 layers\\]" in out


def test_outputs_are_written_in_the_format_of_their_suffix(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three files in one run, and the table is still printed."""
    code, out, _ = call(
        capsys, "analyze", "net.yaml", "--counters", "none", "-o", "a.json", "-o", "b.md", "-o", "csv=c.data"
    )
    assert 0 == code
    assert "layers" in out
    assert PARAMS == json.loads((folder / "a.json").read_text())["totals"]["params"]
    assert "| counter |" in (folder / "b.md").read_text()
    assert (folder / "c.data").read_text().startswith("row,model,")


def test_a_format_can_own_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """json=- puts JSON there; the table then goes to standard error."""
    _, out, error = call(capsys, "analyze", "net.yaml", "--counters", "none", "-o", "json=-")
    assert PARAMS == json.loads(out)["totals"]["params"]
    assert "layers" in error
    _, out, error = call(capsys, "analyze", "net.yaml", "--counters", "none", "-f", "json", "-o", "-")
    assert PARAMS == json.loads(out)["totals"]["params"]
    assert "" == error


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("missing/a.json", "cannot write 'missing/a.json': No such file or directory"),
        (".", "cannot infer the format of '.'"),
        ("json=.", "cannot write '.': it is a folder"),
        ("a.xyz", "cannot infer the format of 'a.xyz'"),
        ("jsn=a.txts", "unknown format 'jsn'"),
        ("json=net.yaml", "'net.yaml' is not overwritten"),
        ("net.yaml", "'net.yaml' is not overwritten"),
        ("csv=setup.py", "'setup.py' is not overwritten"),
        ("json=pyproject.toml", "'pyproject.toml' is not overwritten"),
    ],
)
def test_an_output_that_cannot_be_fails_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, output: str, words: str
) -> None:
    """Exit 2 with the reason, nothing counted, nothing left behind."""
    monkeypatch.setattr("convstat.targets.analysis.analyze", lambda *_, **__: pytest.fail("work was done"))
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    code, out, error = call(capsys, "analyze", "net.yaml", "-o", "good.json", "-o", output)
    assert (2, "") == (code, out)
    assert words in error
    assert before == {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_input_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A report that is read is not written, by whatever path it is named."""
    (folder / "r.json").write_text(to_json(OWN.to_dict()))
    code, _, error = call(capsys, "render", "r.json", "-o", "../" + folder.name + "/r.json")
    assert 2 == code
    assert "it is an input of this command" in error


def test_a_file_that_was_there_survives_work_that_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Looking whether it can be written does not empty it; a new one is not left behind."""
    (folder / "old.json").write_text("precious")
    assert 2 == call(capsys, "analyze", "net.yaml", "widht=3", "-o", "old.json", "-o", "new.json")[0]
    assert "precious" == (folder / "old.json").read_text()
    assert not (folder / "new.json").exists()


def test_one_path_is_not_written_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second would win silently."""
    code, _, error = call(capsys, "analyze", "net.yaml", "-o", "a.json", "-o", "csv=./a.json")
    assert 2 == code
    assert "is given twice as an output" in error
    assert "two outputs go to standard output" in call(capsys, "analyze", "net.yaml", "-o", "-", "-o", "csv=-")[2]


@pytest.mark.parametrize("volume", [(), ("-v",), ("-vv",), ("-q",)])
def test_standard_output_is_the_result_alone(
    folder: Path, capsys: pytest.CaptureFixture[str], volume: tuple[str, ...]
) -> None:
    """JSON parses at every verbosity, with warnings about the spec on standard error, unless -q is given."""
    (folder / "net.yaml").write_text(SPEC)  # the variable 'unit' is not used
    code, out, error = call(capsys, "analyze", "net.yaml", "--counters", "none", "-f", "json", *volume)
    assert 0 == code
    jsonschema.Draft202012Validator(report_schema()).validate(json.loads(out))
    assert ("unit" in error) == ("-q" not in volume)
    assert ("is a spec" in error) == ("-v" in volume or "-vv" in volume)


def test_twice_quiet_is_silent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the exit code is left; files are still written."""
    assert (1, "", "") == call(capsys, "check", "net.yaml", "--max", "params=1", "-qq", "-o", "c.json")
    assert 1 == json.loads((folder / "c.json").read_text())["exit_code"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["anlyze"], "did you mean 'analyze'?"),
        (["analyze", "net.yaml", "--dpeth", "1"], "did you mean --depth"),
        (["analyze", "net.yaml", "--depth", "x"], "'x' is not an integer"),
        (["analyze", "net.yaml", "--depth", "0"], "--depth must be at least 1"),
        (["analyze", "net.yaml", "--top", "0"], "--top must be at least 1"),
        (["analyze", "net.yaml", "--sort", "prams"], "did you mean 'params'?"),
        (["analyze", "net.yaml", "--width", "5"], "--width must be at least 20"),
        (["analyze", "net.yaml", "-f", "jsn"], "did you mean 'json' or 'jsonl'?"),
        (["analyze", "net.yaml", "--counters", "ptflop"], "did you mean 'ptflops'"),
        (["analyze", "net.yaml", "--per", "pixel"], "unknown basis 'pixel'"),
        (["analyze", "net.yaml", "--dtype", "int3"], "unknown dtype 'int3'"),
        (["analyze", "net.yaml", "-b", "0"], "the batch must be at least 1"),
        (["analyze", "net.yaml", "-i", "3x"], "cannot read the input shape '3x'"),
        (["analyze", "nte.yaml"], "did you mean 'net.yaml'?"),
        (["analyze"], "no target given"),
        (["analyze", "net.yaml", "widht=3"], "'widht'"),
        (["analyze", "net.yaml#wied"], "wide"),
        (["check", "net.yaml", "--max", "prams=3"], "did you mean 'params'"),
        (["check", "net.yaml", "--max", "params=3m"], "did you mean"),
        (["check", "net.yaml", "--max", "params<=3"], "--max params=3"),
        (["list", "layer"], "did you mean 'layers'"),
        (["schema", "sepc"], "did you mean 'spec'?"),
        (["docs", "budget"], "did you mean 'budgets'?"),
        (["render", "net.yaml"], "is not a JSON document"),
        (["render"], "missing argument"),
        (["expand", "net.yaml", "net.yaml#wide"], "expand takes one target, not 2"),
        (["expand", "saved.json"], "saved.json is a saved report; only a spec can be expanded"),
    ],
)
def test_a_mistake_exits_with_2_and_says_what_to_type(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Nothing on standard output, no traceback, and a help line."""
    code, out, error = call(capsys, *arguments)
    assert (2, "") == (code, out)
    assert words in error
    assert "error: " in error
    # A bound says itself what to type.
    assert "help: " in error or "at least" in error or arguments[0] in ("render", "expand")
    assert "Traceback" not in error


def test_all_mistakes_of_a_spec_are_shown_in_one_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its file, line, column and caret, and their number at the end."""
    (folder / "net.yaml").write_text(SPEC.replace("ReLU", "RleU").replace("kernel_size: 1", "kernel: 1"))
    code, _, error = call(capsys, "analyze", "net.yaml")
    assert 2 == code
    assert "net.yaml:8:5: error: " in error
    assert "net.yaml:9:" in error
    assert "    8 |   - RleU\n" in error
    assert "did you mean 'ReLU'" in error
    assert error.endswith("2 errors\n")


def test_an_internal_error_is_3_with_a_log(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line and the path of a file with versions, command and traceback; the traceback itself only with -vv."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("convstat.targets.analysis.analyze", fail)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    code, out, error = call(capsys, "analyze", "net.yaml")
    assert (3, "") == (code, out)
    assert "error: internal error: ZeroDivisionError: of all things" in error
    assert "Traceback" not in error
    (log,) = folder.glob("convstat-*.log")
    assert str(log) in error
    text = log.read_text()
    assert "Traceback" in text
    assert "python 3" in text
    assert "$ convstat analyze net.yaml" in text
    code, _, error = call(capsys, "analyze", "net.yaml", "-vv")
    assert 3 == code
    assert "Traceback" in error


def test_ctrl_c_is_130(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt during the work ends it without a traceback."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convstat.targets.analysis.analyze", interrupt)
    assert (130, "", "interrupted\n") == call(capsys, "analyze", "net.yaml")


def test_strict_fails_what_is_not_explained(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 for a difference without a cause, 4 for an incomplete count, 1 for both; 0 without --strict."""
    found = report(counters=COUNTERS)
    incomplete = report(uncounted=(Uncounted("aten::cumsum", 1),))
    for subject, expected in (
        (found, 1),
        (OWN, 0),
        (incomplete, 4),
        (report(counters=COUNTERS, uncounted=incomplete.uncounted), 1),
    ):
        monkeypatch.setattr("convstat.targets.analysis.analyze", lambda *_, subject=subject, **__: subject)
        assert expected == call(capsys, "analyze", "net.yaml", "--strict")[0]
        assert 0 == call(capsys, "analyze", "net.yaml")[0]


def test_settings_give_what_is_not_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Target, batch, counters and format come from [tool.convstat]; options win."""
    (folder / "pyproject.toml").write_text(
        '[tool.convstat]\nmodel = "net.yaml"\nbatch = 2\ncounters = "none"\nformat = "json"\n'
    )
    code, out, _ = call(capsys, "analyze")
    assert 0 == code
    assert 2 * MACS == json.loads(out)["totals"]["macs"]
    _, out, error = call(capsys, "analyze", "-b", "1", "-f", "csv", "-v")
    assert out.startswith("row,")
    assert f",{MACS}," in out
    assert "settings: pyproject.toml" in error


@pytest.mark.parametrize("what", ["layers", "blocks", "counters", "formats", "metrics"])
def test_every_list_is_a_list(folder: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    """As text and as JSON, the same names."""
    code, out, _ = call(capsys, "list", what)
    assert 0 == code
    _, document, _ = call(capsys, "list", what, "-f", "json")
    names = [entry["name"] for entry in json.loads(document)]
    assert names
    assert all(name in out for name in names)


def test_the_list_of_layers_is_the_table_of_layers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is listed that a spec cannot use, and the other way round."""
    from convstat.layers import KINDS

    _, document, _ = call(capsys, "list", "layers", "-f", "json")
    assert list(KINDS) == [entry["name"] for entry in json.loads(document)]


def test_the_examples_are_listed_wherever_one_is(
    root: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of configs/ by name; one's own specs in configs/ stand beside them, by their path."""
    expected = sorted(path.stem for path in (root / "configs").glob("*.yaml"))
    assert "resnet50" in expected
    for place in (folder, root):
        monkeypatch.chdir(place)
        code, document, _ = call(capsys, "list", "configs", "-f", "json")
        entries = json.loads(document)
        assert (0, expected) == (code, [entry["name"] for entry in entries])
        assert all(entry["about"] for entry in entries)
    monkeypatch.chdir(folder)
    (folder / "configs").mkdir()
    (folder / "configs" / "mine.yml").write_text("# Mine. And more.\nconvstat: 1\n", encoding="utf-8")
    code, document, _ = call(capsys, "list", "configs", "-f", "json")
    assert {"name": "configs/mine.yml", "about": "Mine"} == json.loads(document)[-1]
    assert len(expected) + 1 == len(json.loads(document))


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
def test_init_writes_every_example(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """As it is, but for the line that points editors to a schema in the clone; it counts the same."""
    assert (0, "") == call(capsys, "init", "--from", name)[:2]
    shipped = ROOT / "configs" / f"{name}.yaml"
    first, rest = shipped.read_text(encoding="utf-8").split("\n", 1)
    assert first.startswith("# yaml-language-server")
    assert rest == (folder / f"{name}.yaml").read_text(encoding="utf-8")
    totals = [
        json.loads(call(capsys, "analyze", str(path), "--counters", "none", "-f", "json")[1])["totals"]
        for path in (shipped, f"{name}.yaml")
    ]
    assert totals[0] == totals[1]


def test_init_writes_an_example_under_any_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path in a clone names it too; a file that exists is left alone; a wrong name is told."""
    assert 0 == call(capsys, "init", "mine.yaml", "--from", "configs/conv2d.yaml")[0]
    assert (folder / "mine.yaml").read_text() == call(capsys, "init", "-", "--from", "conv2d")[1]
    code, _, error = call(capsys, "init", "mine.yaml", "--from", "unet")
    assert (2, "error: 'mine.yaml' already exists; it is not overwritten\nhelp: name another file\n") == (code, error)
    code, _, error = call(capsys, "init", "--from", "resnet5")
    assert (2, "error: unknown example 'resnet5'\nhelp: did you mean 'resnet50'?\n") == (
        code,
        error.replace("help: see: convstat list configs\n", ""),
    )
    code, _, error = call(capsys, "init", "--from", "unet", "-t", "plain")
    assert (2, True) == (code, "--template and --from" in error)


def test_an_example_that_is_not_there_is_offered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the documentation counts in a clone, somebody else can have too."""
    code, _, error = call(capsys, "analyze", "configs/resnet50.yaml")
    assert 2 == code
    assert "error: no file configs/resnet50.yaml\nhelp: convstat init --from resnet50 writes" in error


@pytest.mark.parametrize(("template", "variant"), [("plain", "wide"), ("residual", "deep"), ("mobile", "half")])
def test_init_writes_a_spec_that_works(
    folder: Path, capsys: pytest.CaptureFixture[str], template: str, variant: str
) -> None:
    """It can be counted, its variant too, and it keeps its own budget; an existing file is left alone."""
    code, out, error = call(capsys, "init", "first.yaml", "--template", template)
    assert (0, "") == (code, out)
    assert "convstat analyze first.yaml" in error
    assert 0 == call(capsys, "analyze", "first.yaml", f"first.yaml#{variant}", "--counters", "none")[0]
    assert 0 == call(capsys, "check", "first.yaml")[0]
    before = (folder / "first.yaml").read_text()
    assert 2 == call(capsys, "init", "first.yaml")[0]
    assert before == (folder / "first.yaml").read_text()
    assert "convstat: 1" in call(capsys, "init", "-")[1]
    assert 2 == call(capsys, "init", "first")[0]


def test_init_knows_its_templates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plain one is the default; a wrong name gets the right one, and writes nothing."""
    assert call(capsys, "init", "-") == call(capsys, "init", "-", "-t", "plain")
    code, _, error = call(capsys, "init", "first.yaml", "-t", "residul")
    assert 2 == code
    assert "did you mean 'residual'?" in error
    assert not (folder / "first.yaml").exists()


@pytest.mark.parametrize("what", ["spec", "report"])
def test_a_schema_is_a_schema(folder: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    """It is valid draft 2020-12."""
    code, out, _ = call(capsys, "schema", what)
    assert 0 == code
    jsonschema.Draft202012Validator.check_schema(json.loads(out))


def test_every_page_of_the_documentation_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """docs lists the topics; each is printed as it is in the package."""
    import convstat

    _, out, _ = call(capsys, "docs")
    pages = Path(convstat.__file__).parent / "docs"
    topics = [line.split()[0] for line in out.splitlines()]
    assert sorted(path.stem for path in pages.glob("*.md")) == topics
    for topic in topics:
        code, page, _ = call(capsys, "docs", topic)
        assert 0 == code
        assert (pages / f"{topic}.md").read_text(encoding="utf-8") == page


def test_help_is_there_for_every_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each shows its options and the exit codes; none has an escape byte where none is wanted."""
    from convstat.cli.app import COMMANDS

    code, out, _ = call(capsys, "--help")
    assert 0 == code
    for name in COMMANDS:
        assert name in out
        code, page, _ = call(capsys, name, "--help")
        assert 0 == code
        assert "130 interrupted" in " ".join(page.split())
        assert "\x1b" not in page


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """It is no result: exit 2."""
    code, out, error = call(capsys)
    assert 2 == code
    assert "analyze" in out + error
