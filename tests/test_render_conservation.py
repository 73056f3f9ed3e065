"""Whatever is folded, sorted or left out, the rows that are shown add up to the totals, in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable

import pytest
from hand_made import FULL, HUGE, NASTY, OWN, layer, report
from hypothesis import given
from hypothesis import strategies as st

from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.render.views.layers import SORT_KEYS, layer_lines
from convstat.results.report import Report

Counts = tuple[int, int]
"""Params and MACs."""


def assert_conserved(rows: Iterable[Counts], totals: Counts) -> None:
    """Check that rows add up to their totals."""
    rows = list(rows)
    assert totals == (sum(params for params, _ in rows), sum(macs for _, macs in rows))


def totals_of(subject: Report) -> Counts:
    """The totals of a report."""
    return subject.totals.params, subject.totals.macs


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """A report with a tree of any shape, layers called twice included."""
    names = st.lists(st.sampled_from(["a", "b", "0", "1", "conv"]), min_size=1, max_size=4).map(".".join)
    counts = st.integers(0, 10**12)
    rows = draw(st.lists(st.tuples(names, counts, counts), min_size=1, max_size=12))
    return report(tuple(layer(name, "Conv2d", (1, 4, 8, 8), params, macs) for name, params, macs in rows), groups={})


@st.composite
def options(draw: st.DrawFn) -> Options:
    """Any way to show layers."""
    return Options(
        width=400,
        depth=draw(st.none() | st.integers(1, 4)),
        flat=draw(st.booleans()),
        sort=draw(st.none() | st.sampled_from(list(SORT_KEYS))),
        top=draw(st.none() | st.integers(1, 5)),
    )


@given(reports(), options())
def test_each_layer_is_in_exactly_one_line(subject: Report, shown: Options) -> None:
    """The lines cover all layers, once each, and add up."""
    lines = layer_lines(subject, shown)
    assert len(subject.layers) == sum(line.layers for line in lines)
    assert_conserved(((line.params, line.macs) for line in lines), totals_of(subject))
    if shown.top is not None:
        assert len(lines) <= shown.top + 1


def rows_of_table(text: str) -> tuple[list[Counts], Counts]:
    """Read the numbers of the per-layer table back: those of the rows, and those of the last line."""
    lines = text.partition("\nlayers\n")[2].splitlines()
    header = lines[0]
    ends = [header.index(title) + len(title) for title in ("params", "MACs")]

    def numbers(line: str) -> Counts | None:
        if len(line) < ends[-1]:
            return None  # the title of a block
        found = [re.search(r"[\d,]+$", line[:end]) for end in ends]
        params, macs = (int(match[0].replace(",", "")) for match in found if match)
        return params, macs

    rule = next(i for i, line in enumerate(lines) if line.startswith("---"))
    rows = [counts for line in lines[1:rule] if (counts := numbers(line))]
    total = numbers(lines[rule + 1])
    assert total is not None
    return rows, total


@given(reports(), options())
def test_the_printed_table_adds_up(subject: Report, shown: Options) -> None:
    """Somebody who adds the printed numbers up gets the printed total, and that is the report's."""
    rows, total = rows_of_table(RENDERERS.named("table").render([subject], shown))
    assert_conserved(rows, total)
    assert totals_of(subject) == total


@given(reports(), options())
def test_the_markdown_table_adds_up(subject: Report, shown: Options) -> None:
    """The same for the cells of the Markdown table."""
    text = RENDERERS.named("markdown").render([subject], shown).partition("#### layers")[2]
    table = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    header, _, *body = table
    params, macs = header.index("params"), header.index("MACs")
    counts = [
        (int(row[params].replace(",", "")), int(row[macs].replace(",", ""))) for row in body if row[params].strip()
    ]
    assert_conserved(counts[:-1], counts[-1])
    assert totals_of(subject) == counts[-1]


@pytest.mark.parametrize("subject", [FULL, HUGE, NASTY, OWN], ids=["full", "huge", "nasty", "own"])
def test_csv_and_json_add_up(subject: Report) -> None:
    """Rows of kind layer add up to the row of kind total, for every column of integers; JSON layers to the totals."""
    records = list(csv.DictReader(io.StringIO(RENDERERS.named("csv").render([subject], Options()))))
    rows = [record for record in records if record["row"] == "layer"]
    (total,) = [record for record in records if record["row"] == "total"]
    names = [name for name in total if name in ("params", "macs", "flops", "buffers") or name.startswith("other_")]
    for name in names:
        assert int(total[name]) == sum(int(row[name]) for row in rows)
    document = json.loads(RENDERERS.named("json").render([subject], Options()))
    for name in ("params", "trainable_params", "buffers", "weight_bytes", "macs", "flops"):
        assert document["totals"][name] == sum(row[name] for row in document["layers"])
    for name, amount in document["totals"]["other"].items():
        assert amount == sum(row["other"].get(name, 0) for row in document["layers"])


def test_a_row_too_many_or_too_few_is_found() -> None:
    """The check can fail: on a layer left out, one counted twice, and a total that is wrong by one."""
    assert_conserved([(1, 2), (3, 4)], (4, 6))
    for rows in ([(1, 2)], [(1, 2), (3, 4), (3, 4)], [(1, 2), (3, 5)]):
        with pytest.raises(AssertionError):
            assert_conserved(rows, (4, 6))


def test_the_reading_of_the_table_sees_its_numbers() -> None:
    """What the checks above read is what stands there, so they compare something."""
    rows, total = rows_of_table(RENDERERS.named("table").render([OWN], Options(width=120)))
    assert [(row.params, row.macs) for row in OWN.layers] == rows
    assert (864 + 18_432 + 128 + 36_864 + 65_000, OWN.totals.macs) == total
