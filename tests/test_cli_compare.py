"""What convstat compare shows where the room is short, and what it refuses."""

from __future__ import annotations

import re

import pytest

from convstat.cli.run import run
from convstat.render import layout
from convstat.render.page import Column, Row, Table
from convstat.render.plain import write
from convstat.text.printable import shorten, without_aside


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run compare; give its exit code, its standard output and its standard error."""
    code = run(["compare", *arguments])
    out, error = capsys.readouterr()
    return code, out, error


@pytest.mark.parametrize(
    ("sweep", "problem"),
    [
        ("groups=a,b", "argument 'groups=a': error: groups must be an integer, not 'a'"),
        ("groups=1,1.5", "argument 'groups=1.5': error: groups must be an integer, not 1.5"),
        ("bias=yes", "argument 'bias=yes': error: bias must be true or false, not 'yes'"),
        ("bias=true,no", "argument 'bias=no': error: bias must be true or false, not 'no'"),
        ("padding_mode=zeros,1", "argument 'padding_mode=1': error: padding_mode must be one of"),
    ],
)
def test_a_value_of_a_wrong_type_is_a_mistake_with_its_place(
    capsys: pytest.CaptureFixture[str], sweep: str, problem: str
) -> None:
    """It would be wrong at any point, so it is no row; every such value is named."""
    code, out, error = call(capsys, sweep)
    assert (2, "") == (code, out)
    assert problem in error
    assert len(re.findall(r"not '[ab]'", error)) == (2 if sweep == "groups=a,b" else 0)


def test_a_value_that_is_only_impossible_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Three groups of four channels cannot be, and what an expression makes of a right value may not be either."""
    code, out, error = call(capsys, "groups=1,3", "kernel_size=3,0")
    assert (0, "") == (code, error)
    assert "invalid [1]" in out


def test_a_comparison_without_a_valid_row_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """The rows and their reasons are shown, and the exit code says that nothing was compared."""
    code, out, _ = call(capsys, "groups=3,5")
    assert 2 == code
    assert "2 of 2 points cannot be built" in out


def test_the_axis_is_named_where_rows_are_stacked(capsys: pytest.CaptureFixture[str]) -> None:
    """A bare 1 would say nothing."""
    _, out, _ = call(capsys, "groups=1,2", "--width", "40")
    assert ["groups=1", "groups=2"] == re.findall(r"^groups=\d$", out, re.MULTILINE)


def test_counters_that_were_asked_for_are_never_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """They have columns where there is room, and else rows; the version stands above the table."""
    _, out, _ = call(capsys, "groups=1,2", "--counters", "ptflops", "--width", "200")
    heading = next(line for line in out.splitlines() if line.startswith("groups"))
    assert "ptflops params  ptflops MACs" in heading
    _, out, _ = call(capsys, "groups=1,2", "--counters", "ptflops", "--width", "70")
    lines = [line.split() for line in out.splitlines()]
    assert ["groups", "counter", "params"] in [line[:3] for line in lines]
    # Without a bias, ptflops counts 4*8*3*3 params too, and half of them in two groups.
    assert 2 == sum(line[:2] in (["ptflops", "288"], ["ptflops", "144"]) for line in lines)
    assert re.search(r"counters +ptflops \d", out)


def test_layers_that_differ_in_their_arguments_can_be_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Shortened in the middle they would be the same; where there is room they stand in the table."""
    first, second = "Conv2d(4, 8, kernel_size=3, padding=1)", "Conv2d(4, 8, kernel_size=5, padding=2)"
    for width in ("40", "60", "80"):
        _, out, _ = call(capsys, first, second, "-i", "4x8x8", "--width", width)
        joined = " ".join(out.split())
        assert f"A {first}" in joined
        assert f"B {second}" in joined
    _, out, _ = call(capsys, first, second, "-i", "4x8x8", "--width", "200")
    assert re.search(rf"^{re.escape(first)} ", out, re.MULTILINE)


def test_a_name_column_cuts_no_number() -> None:
    """What stands in brackets goes first, and what is left keeps its numbers whole."""
    assert "total" == without_aside("total (175 layers)", 8)
    assert "ptflops 0.7.5" == without_aside("ptflops 0.7.5 (pytorch)", 16)
    for width in range(4, 22):
        for number in re.findall(r"\d+", shorten("features.1024.conv.4096.x", width)):
            assert number in ("1024", "4096")


def test_two_variants_of_a_counter_stay_apart() -> None:
    """A bracket is not left away where it is what tells two rows apart."""
    rows = tuple(Row((f"ptflops 0.7.5 ({name})", "1")) for name in ("pytorch", "aten"))
    table = Table((Column("counter", "left", shortens=True, comfort=10), Column("MACs")), rows)
    for width in range(17, 30):
        lines = write([layout.side_by_side(table, layout.fit(table, width))], width).splitlines()
        assert len(lines) == len(set(lines)), width
