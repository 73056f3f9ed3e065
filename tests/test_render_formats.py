"""JSON, CSV, Markdown and the table of formats: valid, exact, and safe with any name."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import jsonschema
import pytest
from hand_made import CHECK, COUNTERS, FULL, HOSTILE, HUGE, NASTY, OWN, SWEEP, layer, report
from hypothesis import given
from hypothesis import strategies as st

from convstat.errors import UsageError
from convstat.render.base import Options, Renderer, Renderers
from convstat.render.csv import cell
from convstat.render.formats import RENDERERS
from convstat.render.json import to_json
from convstat.render.markdown import escape
from convstat.render.report_schema import report_schema
from convstat.report import Report

EVERY = {"full": FULL, "own": OWN, "huge": HUGE, "nasty": NASTY, "sweep": SWEEP, "check": CHECK}
VALIDATOR = jsonschema.Draft202012Validator(report_schema())


def render(format: str, *results: Any, options: Options | None = None) -> str:
    """Render results in a format."""
    return RENDERERS.named(format).render(results, options or Options())


@pytest.mark.parametrize("name", EVERY)
def test_every_document_validates(name: str) -> None:
    """What -f json writes is what schema report describes."""
    VALIDATOR.validate(json.loads(render("json", EVERY[name])))


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


def literal(format: str, name: str) -> str:
    """How a name is written where it must stand for itself."""
    return {"table": name, "csv": name, "json": json.dumps(name)[1:-1], "markdown": escape(name)}[format]


@pytest.mark.parametrize("format", ["table", "csv", "json", "markdown"])
def test_a_hostile_name_is_printed_as_it_is(format: str) -> None:
    """Brackets, colons, bars and tags mean nothing, in the title, in a layer and in a comparison."""
    text = render(format, NASTY)
    assert text.count(literal(format, HOSTILE)) >= 3
    assert "\x1b" not in text
    rows = tuple(replace(row, values={"groups": HOSTILE}) for row in SWEEP.rows)
    assert literal(format, HOSTILE) in render(format, replace(SWEEP, rows=rows))
    counters = (replace(COUNTERS[3], error=HOSTILE),)
    if format != "csv":
        assert literal(format, HOSTILE) in render(format, replace(OWN, counters=counters))


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

    def __init__(self, renderer: type[Renderer]) -> None:
        self.renderer = renderer

    def load(self) -> type[Renderer]:
        """Give the class."""
        return self.renderer


def table_of_ours() -> Renderers:
    """A fresh table with our formats."""
    return Renderers({"table": "convstat.render.terminal:TableRenderer", "csv": "convstat.render.csv:CsvRenderer"})


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
    assert "did you mean 'json'?" in str(caught.value)
    assert "table, json, csv, markdown" in str(caught.value)
