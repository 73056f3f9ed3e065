"""Tables fit their width, and no number is ever cut, wrapped or left out without a word."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hand_made import CHECK, FULL, HUGE, NASTY, OWN, SWEEP
from hypothesis import given
from hypothesis import strategies as st

from convstat.render import layout
from convstat.render.base import Options, Result
from convstat.render.page import Column, Row, Table
from convstat.render.plain import wrap, write
from convstat.render.views import view
from convstat.results.comparison import ComparisonRow
from convstat.results.report import Answer, CounterRow, Report
from convstat.text.printable import cells

NAMES = st.text(alphabet="abcdefghij._[]:", min_size=1, max_size=60)
COUNTS = st.integers(min_value=0, max_value=10**15).map(lambda n: f"{n:,}")


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A table with a column of names and some of numbers, each number a different one."""
    count = draw(st.integers(1, 7))
    columns = [Column("layer", "left", shortens=True, comfort=draw(st.integers(10, 40)))]
    columns += [Column(f"c{i}", priority=draw(st.integers(0, 3)), name=f"column {i}") for i in range(count)]
    rows = draw(
        st.lists(
            st.builds(
                lambda name, numbers, indent: Row((name, *numbers), indent=indent),
                NAMES,
                st.lists(COUNTS, min_size=count, max_size=count),
                st.integers(0, 5),
            ),
            min_size=1,
            max_size=6,
        )
    )
    return Table(tuple(columns), tuple(rows), Row(("total", *["1"] * count)))


def lines_of(table: Table, width: int) -> tuple[list[str], layout.Fit]:
    """The lines of a table at a width, and how it was made to fit."""
    chosen = layout.fit(table, width)
    pieces = layout.stack(table, chosen, width) if chosen.stacked else [layout.side_by_side(table, chosen)]
    return write(pieces, width).splitlines(), chosen


def assert_numbers_whole(table: Table, lines: list[str], announced: list[str]) -> None:
    """Each cell of each numeric column is there as a word of its own, or the column is announced as hidden."""
    words = [word for line in lines for word in line.split()]
    for position, column in enumerate(table.columns[1:], 1):
        if column.label in announced:
            continue
        missing = [row.cells[position] for row in table.rows]
        for word in words:
            if word in missing:
                missing.remove(word)
        assert [] == missing, column.label


@given(tables(), st.integers(40, 200))
def test_each_number_is_whole_or_its_column_is_announced(table: Table, width: int) -> None:
    """At every width from 40 to 200, for any table."""
    lines, chosen = lines_of(table, width)
    assert_numbers_whole(table, lines, layout.hidden_names(table, chosen))


@given(tables(), st.integers(40, 200))
def test_a_table_is_no_wider_than_asked(table: Table, width: int) -> None:
    """Side by side it always fits; as lines of its own too, since a number with its name takes less than 40 cells."""
    lines, _ = lines_of(table, width)
    assert max(map(cells, lines)) <= width


@given(tables(), st.integers(40, 200))
def test_required_columns_stay(table: Table, width: int) -> None:
    """A column of priority 0 is shown at every width."""
    chosen = layout.fit(table, width)
    assert {p for p, column in enumerate(table.columns) if column.priority == 0} <= set(chosen.shown)


@given(tables())
def test_the_announced_width_hides_nothing(table: Table) -> None:
    """The footer names a width, and at that width every column is there."""
    assert () == layout.fit(table, layout.needed_width(table)).hidden


def test_the_check_of_numbers_can_fail() -> None:
    """A number that is cut, and a column that is gone without a word, are seen."""
    table = Table((Column("layer"), Column("c")), (Row(("a", "1,234")),))
    assert_numbers_whole(table, ["a  1,234"], [])
    assert_numbers_whole(table, ["a"], ["c"])
    with pytest.raises(AssertionError):
        assert_numbers_whole(table, ["a  1,2..."], [])
    with pytest.raises(AssertionError):
        assert_numbers_whole(table, ["a"], [])


@pytest.mark.parametrize("result", [FULL, HUGE, NASTY, SWEEP, CHECK], ids=["full", "huge", "nasty", "sweep", "check"])
def test_real_pages_keep_every_number(result: object) -> None:
    """At each width from 40 to 200, what is a number in a page is one on the screen, or its column is announced."""
    for width in range(40, 201):
        options = Options(width=width)
        page = view(result, options)  # type: ignore[arg-type]
        text = write(layout.arrange(page, options), width)
        words = set(re.split(r"[\s()]+", text))
        for table in (block for block in page.blocks if isinstance(block, Table)):
            hidden = layout.hidden_names(table, layout.fit(table, width))
            flat = " ".join(text.split())
            assert all(label in flat for label in hidden)
            for position, column in enumerate(table.columns):
                if column.align == "left" or column.label in hidden:
                    continue
                for row in table.every:
                    assert set(row.cells[position].split()) <= words, (width, column.label)
        if isinstance(result, Report):
            assert f"{result.totals.params:,}" in words
            assert f"{result.totals.macs:,}" in words


@pytest.mark.parametrize("width", range(40, 201, 8))
def test_no_line_of_a_page_is_wider_than_asked(width: int) -> None:
    """Prose wraps between words, tables fit."""
    options = Options(width=width)
    for result in (FULL, NASTY, SWEEP, CHECK):
        for line in write(layout.arrange(view(result, options), options), width).splitlines():  # type: ignore[arg-type]
            assert cells(line) <= width


@given(st.text(alphabet="ab 1,", max_size=200), st.integers(5, 80))
def test_wrapping_loses_no_word(text: str, width: int) -> None:
    """The words of the lines are the words of the text, in order."""
    assert text.split() == " ".join(wrap(text, width)).split()


@given(tables(), st.integers(40, 200))
def test_a_column_that_still_fits_is_put_back(table: Table, width: int) -> None:
    """No column is hidden that would fit beside those that are shown, with names that are comfortable."""
    chosen = layout.fit(table, width)
    least = [
        min(room, max(column.comfort, len(column.title))) if column.shortens else room
        for column, room in zip(table.columns, layout.natural_widths(table), strict=True)
    ]
    for hidden in chosen.hidden:
        assert sum(least[p] for p in (*chosen.shown, hidden)) + 2 * len(chosen.shown) > width


def test_columns_of_dashes_go_first() -> None:
    """They are hidden before one that matters less and has a figure; a required one stays."""
    columns = (Column("a"), Column("b", priority=1), Column("c", priority=9), Column("d"))
    for nothing in ("-", ""):
        table = Table(columns, (Row(("1,000", nothing, "3,000", nothing)), Row(("1", nothing, "3", nothing))))
        # 5 + 1 + 5 + 1 cells and three gaps of two are 18.
        assert (0, 1, 2, 3) == layout.fit(table, 18).shown
        assert (0, 2, 3) == layout.fit(table, 17).shown
        assert (0, 1, 3) == layout.fit(table, 12).shown
        assert (0, 3) == layout.fit(table, 10).shown
    said = Table(columns, (Row(("1,000", "2", "3,000", "-")),))
    assert (0, 1, 3) == layout.fit(said, 17).shown


@pytest.mark.parametrize(
    ("options", "title"),
    [
        (Options(sort="flops"), "FLOPs"),
        (Options(sort="type"), "type"),
        (Options(sort="params"), "params"),
        (Options(sort="macs"), "MACs"),
        (Options(per=True), "MACs/pixel"),
    ],
)
@pytest.mark.parametrize("result", [OWN, FULL, SWEEP], ids=["own", "full", "sweep"])
def test_a_figure_that_was_asked_for_is_never_hidden(result: Result, options: Options, title: str) -> None:
    """Neither in the table of counters nor in that of layers nor in a sweep, at any width."""

    def is_asked(label: str) -> bool:
        return re.fullmatch(f"[kMGT]?{title}", label) is not None

    for width in range(40, 201):
        for table in (block for block in view(result, options).blocks if isinstance(block, Table)):
            labels = [column.label for column in table.columns]
            # The table of counters is not sorted, and a sweep has no layers.
            if any(map(is_asked, labels)) and (options.per or labels[0] == "layer"):
                assert not any(map(is_asked, layout.hidden_names(table, layout.fit(table, width))))
    if options.per or options.sort == "flops":
        # Unasked, the same column is hidden somewhere.
        hidden = [
            layout.hidden_names(table, layout.fit(table, width))
            for width in range(40, 201)
            for table in view(result, Options()).blocks
            if isinstance(table, Table)
        ]
        assert any(is_asked(label) for labels in hidden for label in labels)


def test_counters_of_a_sweep_are_stacked_rather_than_hidden() -> None:
    """At every width each answer of each counter is there; at 80 columns in a row of its own, with its own change."""
    answers = {1: (296, 1_214_464), 2: (152, 624_640), 4: (80, 329_728)}

    def asked(row: ComparisonRow) -> ComparisonRow:
        if row.status != "ok":
            return row
        params, macs = answers[row.values["groups"]]
        return replace(
            row,
            counters=(
                CounterRow("ptflops", "pytorch", "0.7.5", "ok", reported=Answer(params, macs)),
                CounterRow("torchsummary", "summary", "1.5.1", "ok", reported=Answer(params, None)),
                CounterRow("thop", "default", None, "failed", error="no"),
            ),
        )

    sweep = replace(SWEEP, rows=tuple(map(asked, SWEEP.rows)))
    for width in range(40, 201):
        options = Options(width=width)
        text = write(layout.arrange(view(sweep, options), options), width)
        words = text.split()
        for params, macs in answers.values():
            assert words.count(f"{params:,}") >= 2, width
            assert f"{macs:,}" in words, width
        assert max(map(cells, text.splitlines())) <= width
    narrow = write(layout.arrange(view(sweep, Options(width=80)), Options(width=80)), 80)
    lines = [line.split() for line in narrow.splitlines()]
    figures = [[word for word in line if word[0] not in "x█▏▎▍▌▋▊▉"] for line in lines]
    # 152 of 296 are 51.4 %, and so are 624,640 of 1,214,464.
    assert ["ptflops", "152", "-48.6%", "624,640", "-48.6%"] in figures
    assert ["torchsummary", "152", "-48.6%", "-", "-"] in [line[:5] for line in figures]
    assert any(line[:1] == ["thop"] and set(line[1:]) == {"-"} for line in lines)
