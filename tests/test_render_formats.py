"""JSON, CSV, Markdown and the table of formats: valid, exact, and safe with any name."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import jsonschema
import pytest
from hand_made import CHECK, COUNTERS, DIFF, FULL, HOSTILE, HUGE, LAYERS, NASTY, OWN, SWEEP, layer, report
from hypothesis import given
from hypothesis import strategies as st

from convstat.errors import UsageError
from convstat.history.changes import compare
from convstat.render.base import Options, Renderer, Renderers
from convstat.render.formats.csv import cell
from convstat.render.formats.json import to_json
from convstat.render.formats.markdown import escape
from convstat.render.formats.registry import RENDERERS
from convstat.results.documents.schema import report_schema
from convstat.results.report import Report
from convstat.text import latex

EVERY = {"full": FULL, "own": OWN, "huge": HUGE, "nasty": NASTY, "sweep": SWEEP, "check": CHECK, "diff": DIFF}
VALIDATOR = jsonschema.Draft202012Validator(report_schema())


def render(format: str, *results: Any, options: Options | None = None) -> str:
    """Render results in a format."""
    return RENDERERS.named(format).render(results, options or Options())


@pytest.mark.parametrize("name", EVERY)
def test_every_document_validates(name: str) -> None:
    """What -f json writes is what schema report describes."""
    VALIDATOR.validate(json.loads(render("json", EVERY[name])))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    )
)
def test_json_is_written_as_the_standard_library_writes_it(document: Any) -> None:
    """Byte for byte: empty containers, tuples, every text, numbers of any size."""
    assert json.dumps(document, indent=2) + "\n" == to_json(document)


def test_the_schema_is_one_and_can_refuse() -> None:
    """It is valid draft 2020-12; a missing field, a float count and an unknown verdict are refused."""
    jsonschema.Draft202012Validator.check_schema(report_schema())
    document = json.loads(render("json", FULL))
    for break_it in (
        lambda d: d["totals"].pop("macs"),
        lambda d: d["totals"].update(macs=1.5),
        lambda d: d["counters"][0]["causes"][0].update(verdict="whim"),
        lambda d: d["layers"][0].pop("source"),
        lambda d: d.update(schema="convstat.report/2"),
    ):
        broken = json.loads(json.dumps(document))
        break_it(broken)
        assert not VALIDATOR.is_valid(broken)


def test_several_reports_are_a_list_and_one_is_an_object() -> None:
    """A program can tell by the type."""
    assert isinstance(json.loads(render("json", OWN)), dict)
    several = json.loads(render("json", OWN, FULL))
    assert 2 == len(several)
    VALIDATOR.validate(several)


@pytest.mark.parametrize("subject", [FULL, OWN, HUGE, NASTY], ids=["full", "own", "huge", "nasty"])
def test_a_saved_report_reads_back_as_it_was(subject: Report) -> None:
    """Through JSON and back, nothing is lost."""
    assert subject == Report.from_dict(json.loads(render("json", subject)))


def test_json_keeps_integers_exact_and_fractions_readable() -> None:
    """Counts beyond 2**53 keep their digits; an exact fraction becomes a number; there is no NaN."""
    assert 10**18 + 7 == json.loads(render("json", HUGE))["totals"]["macs"]
    assert '{\n  "alpha": 0.5,\n  "n": 2\n}\n' == to_json({"alpha": Fraction(1, 2), "n": Fraction(2)})
    with pytest.raises(ValueError, match="JSON"):
        to_json({"x": float("nan")})
    with pytest.raises(TypeError, match="set"):
        to_json({"x": {1}})


def test_json_keeps_the_order_of_its_keys() -> None:
    """Two runs give the same bytes, with schema first."""
    assert render("json", FULL) == render("json", FULL)
    assert "schema" == next(iter(json.loads(render("json", FULL))))


@pytest.mark.parametrize("name", EVERY)
def test_csv_is_rectangular(name: str) -> None:
    """Every row has as many cells as the heading, and headings are words with underscores."""
    heading, *rows = list(csv.reader(io.StringIO(render("csv", EVERY[name]))))
    assert rows
    assert {len(heading)} == {len(row) for row in rows}
    assert len(heading) == len(set(heading))
    assert all(re.fullmatch(r"[a-z0-9_]+", title) for title in heading)


def test_csv_of_several_reports_has_one_heading() -> None:
    """Entries that only one of them has are empty in the other."""
    other = report((layer("a", "ReLU", (1, 4), other={"resize": 5}),), name="other")
    rows = list(csv.DictReader(io.StringIO(render("csv", OWN, other))))
    assert {"tiny", "other"} == {row["model"] for row in rows}
    assert {"", "5"} == {row["other_resize"] for row in rows}


@given(st.text(max_size=20))
def test_no_cell_is_a_formula(text: str) -> None:
    """A spreadsheet starts no text of ours with =, +, - or @; a name that is safe stays as it is."""
    written = cell(text)
    assert text == "-" or not written.lstrip().startswith(("=", "+", "-", "@"))
    assert written.isprintable()
    if re.fullmatch(r"\w+", text):
        assert text == written


@pytest.mark.parametrize("text", ["-", "--max macs=500k", "--min params(share)@head.**=5%", "--exact layers=3"])
def test_what_we_or_the_command_line_say_stays_as_it_is(text: str) -> None:
    """Standard input and the place of a budget are compared by programs."""
    assert text == cell(text)


@pytest.mark.parametrize("text", ["-1+1", "--cmd|' /C calc'!A0", "=1", " =1", "+1", "@SUM(A1)", "--max\nmacs"])
def test_a_name_that_is_a_formula_is_led_by_an_apostrophe(text: str) -> None:
    """Also one that looks a little like an option."""
    assert cell(text).startswith("'")


def test_a_negative_number_is_a_number() -> None:
    """The guard against formulas is for texts."""
    assert "-3" == cell(-3)
    assert "-0.5" == cell(Fraction(-1, 2))


DRAWINGS = {"png", "svg", "python"}
"""Formats that are pictures or programs; what is written in them is tested with them."""

LITERAL: dict[str, Callable[[str], str]] = {
    "table": str,
    "tree": str,
    "csv": str,
    "json": lambda name: json.dumps(name)[1:-1],
    "jsonl": lambda name: json.dumps(name)[1:-1],
    "markdown": escape,
    "comment": escape,
    "html": html.escape,
    "nnvc": escape,
    "nnvc-csv": str,
    "nnvc-latex": latex.escape,
    "ntire": escape,
    "ntire-csv": str,
    "ntire-latex": latex.escape,
    "latex": latex.escape,
    "github": str,
    "gitlab": lambda name: json.dumps(name)[1:-1],
    "sarif": lambda name: json.dumps(re.sub(r"([\[\]])", r"\\\1", name))[1:-1],
    "junit": html.escape,
}
"""How a name is written in each format where it must stand for itself."""


def test_every_format_is_asked_about_hostile_names() -> None:
    """A new format does not escape the checks below."""
    assert set(RENDERERS) - DRAWINGS == set(LITERAL)


@pytest.mark.parametrize("format", LITERAL)
def test_a_hostile_name_is_printed_as_it_is(format: str) -> None:
    """Brackets, colons, bars and tags mean nothing, in the title, in a layer, in a comparison, a check and a diff."""
    written = LITERAL[format](HOSTILE)
    hostile = replace(CHECK.results[0], model=HOSTILE, on=HOSTILE, text=f"macs@{HOSTILE}<=1", offenders=())
    renamed = report((*LAYERS[:-1], replace(LAYERS[-1], name=HOSTILE, params=1, trainable_params=1, macs=10**9)))
    subjects = {
        "report": NASTY,
        "comparison": replace(SWEEP, rows=tuple(replace(row, values={"groups": HOSTILE}) for row in SWEEP.rows)),
        "check": replace(CHECK, results=(hostile,)),
        "diff": compare(OWN, renamed),
    }
    for kind, subject in subjects.items():
        if kind in RENDERERS[format].expresses:
            text = render(format, subject)
            assert written in text, kind
            assert "\x1b" not in text
            assert "<script>" not in text or format not in ("markdown", "comment")
    if format in ("table", "tree", "csv", "json", "jsonl", "markdown", "comment", "html"):
        assert render(format, NASTY).count(written) >= 3
    counters = (replace(COUNTERS[3], error=HOSTILE),)
    if format in ("table", "json", "jsonl", "markdown", "comment", "html"):
        assert written in render(format, replace(OWN, counters=counters))


def test_markdown_escapes_what_would_be_markup() -> None:
    """No cell ends early, nothing is a tag, a link or an emoji."""
    table = [line for line in render("markdown", NASTY).splitlines() if line.startswith("|")]
    widths = {len(re.split(r"(?<!\\)\|", line)) for line in table}
    assert len(widths) == 2  # the counters and the layers
    assert "<script>" not in render("markdown", NASTY)
    assert r"\:x:" in escape(":x:")
    assert "aten::mm" == escape("aten::mm")


@given(st.text(alphabet="ab|\\`*_[]<>#", max_size=20))
def test_an_escaped_text_reads_back(text: str) -> None:
    """Taking the backslashes away gives the text."""
    assert text == re.sub(r"\\(.)", r"\1", escape(text))


class Loud(Renderer):
    """A format of somebody else's."""

    name: ClassVar[str] = "loud"
    suffixes: ClassVar[tuple[str, ...]] = (".loud",)
    about: ClassVar[str] = "shouts"

    def render(self, results: Sequence[Any], options: Options) -> str:
        """Shout."""
        return "!\n"


class FakePoint:
    """An entry point that is there without being installed."""

    name, value = "fake", "fake:made"

    def __init__(self, renderer: type[Renderer]) -> None:
        self.renderer = renderer

    def load(self) -> type[Renderer]:
        """Give the class."""
        return self.renderer


class Broken:
    """An entry point whose module cannot be imported."""

    name, value = "broken", "nowhere:made"

    def load(self) -> type[Renderer]:
        """Fail."""
        raise ImportError("No module named 'nowhere'")


def test_a_plugin_that_fails_is_named_and_stops_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours work without it; asked for what it may have, the mistake says which plugin failed."""
    for point, said in ((Broken(), "plugin 'broken' of convstat.renderers failed"), (FakePoint(int), "no subclass")):  # type: ignore[arg-type]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group, point=point: [point])
        formats = table_of_ours()
        assert "csv" == formats.named("csv").name
        with pytest.raises(UsageError, match=said):
            formats.named("loud")


def test_the_longest_suffix_decides() -> None:
    """A comment is Markdown, and a code quality report is JSON, with a name of its own."""
    for path, format in {
        "comment.md": "comment",
        "out/mobile.COMMENT.md": "comment",
        "notes.md": "markdown",
        "gl-code-quality-report.json": "gitlab",
        "report.json": "json",
        "scan.sarif.json": "sarif",
        "model.tree.txt": "tree",
        "model.txt": "table",
    }.items():
        found = RENDERERS.for_path(path)
        assert found is not None
        assert format == found.name
    assert None is RENDERERS.for_path("picture.bmp")


def table_of_ours() -> Renderers:
    """A fresh table with our formats."""
    return Renderers(
        {"table": "convstat.render.formats.terminal:TableRenderer", "csv": "convstat.render.formats.csv:CsvRenderer"}
    )


def test_a_plugin_adds_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by its name and by its suffix, and only looked for when ours do not do."""
    asked = []

    def entry_points(group: str) -> list[FakePoint]:
        asked.append(group)
        return [FakePoint(Loud)]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    formats = table_of_ours()
    assert "csv" == formats.named("csv").name
    assert [] == asked
    assert "!\n" == formats.named("loud").render([], Options())
    assert ["convstat.renderers"] == asked
    found = table_of_ours().for_path("a.LOUD")
    assert isinstance(found, Loud)


def test_two_formats_of_one_name_or_suffix_are_refused() -> None:
    """A plugin cannot take ours over."""
    formats = table_of_ours()
    with pytest.raises(RuntimeError, match="two formats are called 'csv'"):
        formats.add(type("Other", (Loud,), {"name": "csv"}))
    with pytest.raises(RuntimeError, match=r"both claim \.csv"):
        formats.add(type("Other", (Loud,), {"suffixes": (".csv",)}))


def test_the_table_of_formats_tells_the_truth() -> None:
    """Each entry is a renderer of that name with a line about it, and suffixes lead to it."""
    for name, renderer in RENDERERS.items():
        assert name == renderer.name
        assert renderer.about
        for suffix in renderer.suffixes:
            found = RENDERERS.for_path(f"out{suffix}")
            assert found is not None
            assert name == found.name


def test_an_unknown_format_is_a_mistake_with_a_suggestion() -> None:
    """Exit 2, with what was meant and what there is."""
    with pytest.raises(UsageError) as caught:
        RENDERERS.named("jsn")
    assert "did you mean 'json' or 'jsonl'?" in str(caught.value)
    assert ", ".join(RENDERERS) in str(caught.value)
