"""In the formats for pages, papers and streams too, what is shown adds up to the totals; so do the rows of a diff."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from typing import Any

import pytest
from hand_made import DIFF, FULL, HUGE, NASTY, OWN, layer, report
from hypothesis import given
from test_render_conservation import Counts, assert_conserved, options, reports, totals_of

from convstat.history.changes import added, compare, removed
from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.render.html import document
from convstat.render.html.layer_tree import entries
from convstat.results.diff import Diff
from convstat.results.report import Report


class Tables(HTMLParser):
    """Read the tables of a page: rows of cells, and the attributes of each row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[tuple[dict[str, str | None], list[str]]]] = []
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a table, a row or a cell."""
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append((dict(attrs), []))
        elif tag in ("td", "th"):
            self.tables[-1][-1][1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        """Close a cell."""
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        """Take the text of a cell."""
        if self.in_cell:
            self.tables[-1][-1][1][-1] += data


def number(text: str) -> int:
    """Read a printed count, in any spelling of its sign; ``=`` is no difference."""
    text = text.replace("$-$", "-").replace(",", "").strip(" *")
    return 0 if text == "=" else int(text)


def html_rows(page: str) -> tuple[list[Counts], Counts, list[tuple[int, bool, Counts]]]:
    """The layers of a page, its total, and every row with its level and whether it is a block."""
    (table,) = [rows for rows in Tables(page).tables if rows[0][1][0] == "layer" and "output" in rows[0][1]]
    heading = table[0][1]
    params, macs = heading.index("params"), heading.index("MACs")
    rows = [(attrs, (number(cells[params]), number(cells[macs]))) for attrs, cells in table[1:]]
    *body, (_, total) = rows
    every = [(int(attrs["data-l"] or 0), attrs.get("class") == "block", counts) for attrs, counts in body]
    return [counts for _, is_block, counts in every if not is_block], total, every


def assert_blocks_add_up(every: Sequence[tuple[int, bool, Counts]]) -> None:
    """Check that each block has the sums of the rows that are directly in it."""
    for place, (level, is_block, counts) in enumerate(every):
        if not is_block:
            continue
        inside: list[Counts] = []
        for deeper, _, of_row in every[place + 1 :]:
            if deeper <= level:
                break
            if deeper == level + 1:
                inside.append(of_row)
        assert_conserved(inside, counts)


def html(*subjects: Any) -> str:
    """Write a page."""
    return RENDERERS.named("html").render(subjects, Options())


@given(reports())
def test_the_page_adds_up(subject: Report) -> None:
    """Its layers give the total, and every block the sum of what is in it."""
    rows, total, every = html_rows(html(subject))
    assert len(subject.layers) == len(rows)
    assert_conserved(rows, total)
    assert_blocks_add_up(every)
    assert totals_of(subject) == total


@given(reports())
def test_whatever_room_there_is_the_entries_add_up(subject: Report) -> None:
    """Where levels or rows are left out, those that are shown stand for them."""
    for most in (1, 2, 3, 5, 8):
        listed = entries(subject, most)
        assert len(listed) <= max(most, 1)
        leaves = [entry for entry in listed if not entry.is_block]
        assert_conserved(((entry.params, entry.macs) for entry in leaves), totals_of(subject))
        assert len(subject.layers) == sum(entry.layers for entry in leaves)


def test_a_page_of_very_many_layers_adds_up_and_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the largest, and the others in one row; five thousand layers in blocks fold into their blocks."""
    flat = report(tuple(layer(f"conv{i}", "Conv2d", (1, 8), i, 10 * i) for i in range(5000)), groups={})
    rows, total, _ = html_rows(html(flat))
    assert document.MOST == len(rows)
    assert_conserved(rows, total)
    nested = report(tuple(layer(f"b{i // 100}.c{i % 100}", "Conv2d", (1, 8), 1, 10) for i in range(5000)), groups={})
    page = html(nested)
    rows, total, _ = html_rows(page)
    assert 50 == len(rows)
    assert_conserved(rows, total)
    assert "4,950 layers are shown as part of a block" in page
    assert len(page.encode()) < 2_000_000
    assert len(html(flat).encode()) < 2_000_000


def tree_rows(text: str) -> tuple[list[tuple[int, Counts]], Counts]:
    """The lines of a tree with their levels, and the total."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("layer"))
    ends = [lines[start].index(title) + len(title) for title in ("params", "MACs")]
    rule = next(i for i, line in enumerate(lines) if line.startswith("---"))

    def counts(line: str) -> Counts:
        params, macs = (number(re.search(r"[\d,]+$", line[:end])[0]) for end in ends)  # type: ignore[index]
        return params, macs

    rows = [(len(re.match(r"[|`+ -]*", line)[0]) // 4, counts(line)) for line in lines[start + 1 : rule]]  # type: ignore[index]
    return rows, counts(lines[rule + 1])


@given(reports())
def test_every_level_of_the_tree_adds_up(subject: Report) -> None:
    """The lines of the first level give the total, and those in a block its sums."""
    rows, total = tree_rows(RENDERERS.named("tree").render([subject], Options(width=400, ascii=True)))
    assert_conserved((counts for level, counts in rows if level == 0), total)
    assert totals_of(subject) == total
    blocks = [
        (level, place + 1 < len(rows) and rows[place + 1][0] > level, counts)
        for place, (level, counts) in enumerate(rows)
    ]
    assert_blocks_add_up(blocks)


@given(reports(), options())
def test_the_latex_table_adds_up(subject: Report, shown: Options) -> None:
    """The cells above the last rule give those below it."""
    text = RENDERERS.named("latex").render([subject], shown).partition("% layers\n")[2]
    table = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if " & " in line]
    params, macs = table[0].index("params"), table[0].index("MACs")
    counts = [(number(row[params]), number(row[macs])) for row in table[1:] if row[params].strip()]
    assert_conserved(counts[:-1], counts[-1])
    assert totals_of(subject) == counts[-1]


@pytest.mark.parametrize("subject", [FULL, HUGE, NASTY, OWN], ids=["full", "huge", "nasty", "own"])
def test_json_lines_add_up_and_are_the_document(subject: Report) -> None:
    """Lines of layers give the totals of the first line; together they are what -f json writes."""
    first, *lines = [json.loads(line) for line in RENDERERS.named("jsonl").render([subject], Options()).splitlines()]
    layers = [line for line in lines if line["row"] == "layer"]
    assert_conserved(((line["params"], line["macs"]) for line in layers), totals_of(subject))
    document = json.loads(RENDERERS.named("json").render([subject], Options()))
    assert {key: document[key] for key in first if key != "row"} == {k: v for k, v in first.items() if k != "row"}
    for kind, key in (("layer", "layers"), ("counter", "counters"), ("uncounted", "uncounted")):
        parts = [{k: v for k, v in line.items() if k not in ("row", "model")} for line in lines if line["row"] == kind]
        assert document[key] == parts
    assert {document["model"]["name"]} == {line["model"] for line in lines}


DIFFS = {
    "changed": DIFF,
    "same": compare(OWN, OWN),
    "new": added(OWN, "main:net.yaml"),
    "removed": removed(OWN, "net.yaml"),
    "other": compare(OWN, HUGE),
}


def diff_cells(format: str, text: str) -> list[list[str]]:
    """The rows of the table of layers of a diff, the heading first."""
    if format == "html":
        tables = Tables(text).tables
        return [cells for _, cells in next(t for t in tables if "layer" in t[0][1])]
    mark, end = (" & ", r" \\") if format == "latex" else ("|", "")
    lines = [line for line in text.splitlines() if mark in line and not re.fullmatch(r"[|: -]+", line)]
    cells = [
        [cell.strip(" *") for cell in (line.removesuffix(end) if end else line.strip("|")).split(mark)]
        for line in lines
    ]
    start = next(i for i, row in enumerate(cells) if "layer" in row)
    return cells[start:]


@pytest.mark.parametrize("top", [None, 1, 2])
@pytest.mark.parametrize("format", ["markdown", "html", "latex"])
@pytest.mark.parametrize("name", ["changed", "new", "removed", "other"])
def test_the_rows_of_a_diff_add_up(name: str, format: str, top: int | None) -> None:
    """Figures and changes, with the other layers in one row, give the totals and the change of the totals."""
    subject: Diff = DIFFS[name]
    table = diff_cells(format, RENDERERS.named(format).render([subject], Options(width=400, top=top)))
    heading, *rows, total = table
    for title, metric in (("params", "params"), ("MACs", "macs")):
        column = heading.index(title)
        for place, expected in ((column, getattr(subject.head.totals, metric)), (column + 1, subject.delta(metric))):
            assert expected == sum(number(row[place]) for row in rows) == number(total[place])


@pytest.mark.parametrize("name", DIFFS)
def test_the_documents_of_a_diff_add_up(name: str) -> None:
    """JSON, JSON Lines and CSV hold every layer of both models."""
    subject = DIFFS[name]
    document = json.loads(RENDERERS.named("json").render([subject], Options()))
    lines = [json.loads(line) for line in RENDERERS.named("jsonl").render([subject], Options()).splitlines()]
    for layers in (document["layers"], lines[1:]):
        for metric in ("params", "macs", "weight_bytes"):
            assert document["delta"][metric] == sum(row["delta"][metric] for row in layers)
            assert document["head"]["totals"][metric] == sum(row["new"][metric] for row in layers if row["new"])
    rows = list(csv.DictReader(io.StringIO(RENDERERS.named("csv").render([subject], Options()))))
    assert len(document["layers"]) == sum(row["row"] == "layer" for row in rows)


def changed(rows: Iterable[Counts]) -> list[Counts]:
    """The same rows, one of them larger by one."""
    first, *rest = rows
    return [(first[0] + 1, first[1]), *rest]


def test_each_reader_can_fail() -> None:
    """The helper finds what a wrong page, tree or block would show."""
    rows, total, every = html_rows(html(OWN))
    with pytest.raises(AssertionError):
        assert_conserved(changed(rows), total)
    with pytest.raises(AssertionError):
        assert_conserved(rows[1:], total)
    block = next(place for place, (_, is_block, _) in enumerate(every) if is_block)
    level, _, counts = every[block]
    broken = [*every[:block], (level, True, (counts[0], counts[1] + 1)), *every[block + 1 :]]
    with pytest.raises(AssertionError):
        assert_blocks_add_up(broken)
    page = html(OWN).replace('<td class="r">10,838,016</td>', '<td class="r">10,838,017</td>', 1)
    rows, total, _ = html_rows(page)
    with pytest.raises(AssertionError):
        assert_conserved(rows, total)
