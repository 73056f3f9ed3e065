"""Tables for papers: columns, units, labels of rows, shapes in mathematics, and what explains a difference."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hand_made import FULL, OWN
from hypothesis import given, settings
from hypothesis import strategies as st

from convstat.cli.run import run
from convstat.errors import UsageError
from convstat.render.base import Options
from convstat.render.formats.latex import LatexRenderer, in_units
from convstat.units import COUNT


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a LaTeX document: rows of cells, the headings first."""
    found = re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.DOTALL)
    return [
        [[cell.strip() for cell in line.removesuffix(r"\\").split("&")] for line in table.splitlines() if "&" in line]
        for table in found
    ]


def write(report: object, **options: object) -> list[list[list[str]]]:
    """The tables of a report."""
    return tables(LatexRenderer().render([report], Options(**options)))  # type: ignore[arg-type,list-item]


def test_columns_stand_in_the_order_that_is_asked_for() -> None:
    """After the name of the row; a table without any of them is left out."""
    (layers,) = [table for table in write(OWN, columns=("MACs", "output")) if "output" in table[0]]
    assert ["layer", "MACs", "output"] == layers[0]
    assert all(len(row) == 3 for row in layers)
    assert [["layer"]] == [table[0][:1] for table in write(OWN, columns=("output",))]
    assert "MACs/pixel" in write(OWN, columns=("macs/PIXEL",))[0][0][-1]


def test_a_column_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With those that are; and so is a list with a gap."""
    with pytest.raises(UsageError, match="no table has a column 'MACz'"):
        write(OWN, columns=("MACz",))
    assert 2 == run(["analyze", "Linear(4, 8)", "-i", "4", "--columns", "params,,MACs"])
    assert "--columns takes names with commas" in capsys.readouterr().err
    assert 2 == run(["analyze", "Linear(4, 8)", "-i", "4", "-f", "json", "--columns", "params"])
    assert "no output is a table" in capsys.readouterr().err


def test_columns_are_chosen_in_every_table_format(capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal, they are not hidden however narrow it is."""
    command = ["analyze", "Linear(4, 8)", "-i", "4", "--counters", "none", "--columns", "MACs", "--width", "40"]
    assert 0 == run(command)
    out = capsys.readouterr().out
    assert "FLOPs " not in out.partition("counter")[2]
    assert re.search(r"^linear\s+32$", out, re.MULTILINE)
    assert 0 == run([*command, "-f", "markdown"])
    assert "| linear | 32 |" in capsys.readouterr().out


@given(st.integers(-(10**15), 10**15), st.sampled_from(["auto", *COUNT]))
@settings(deadline=None, max_examples=300)
def test_units_are_exact_to_four_digits(count: int, units: str) -> None:
    """Read back, it is within half a unit of the fourth digit; what is below a thousand has no unit of its own."""
    written = in_units(count, units).replace("$-$", "-").replace("\\,", " ").replace(",", "")
    number, _, unit = written.partition(" ")
    if units == "auto" and abs(count) < 1000:
        assert str(count) == number
        return
    read = Fraction(number) * COUNT.get(unit, 1)
    assert abs(read - count) <= Fraction(abs(count), 1000) / 2, written
    if count and units == "auto":
        assert 1 <= abs(Fraction(number)) <= 1000 or unit == "T"


def test_units_are_for_counts_alone() -> None:
    """278.3 M in the columns of params and MACs; shares and quotients stay."""
    assert "278.3\\,M" == in_units(278_345_678, "auto")
    assert r"1.000\,k" == in_units(1000, "auto")
    plain, scaled = write(OWN), write(OWN, units="M")
    for before, after in zip(plain, scaled, strict=True):
        heads = before[0]
        for old, new in zip(before[1:], after[1:], strict=True):
            for head, a, b in zip(heads, old, new, strict=True):
                if head in ("params", "MACs", "FLOPs", "difference"):
                    assert ("\\,M" in b) == bool(re.fullmatch(r"(?:[+]|\$-\$)?[\d,]*[1-9][\d,]*", a)), (head, a, b)
                else:
                    assert a == b


def test_shapes_are_mathematics() -> None:
    """And a name that looks like one is none."""
    text = LatexRenderer().render([OWN], Options())
    assert r"$64 \times 56 \times 56$" in text
    assert "64x56x56" not in text


def test_labels_name_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """As LaTeX; one for no row is a mistake."""
    (layers,) = [table for table in write(OWN, labels={"stem": r"$\mathrm{stem}$"}) if table[0][0] == "layer"]
    assert r"$\mathrm{stem}$" in [row[0] for row in layers]
    with pytest.raises(UsageError, match="no row is called steam"):
        write(OWN, labels={"steam": "x"})
    assert 2 == run(["analyze", "Linear(4, 8)", "-i", "4", "-f", "latex", "--label", "stem"])
    assert "--label takes NAME=LATEX, not 'stem'" in capsys.readouterr().err
    assert 2 == run(["analyze", "Linear(4, 8)", "-i", "4", "--label", "linear=x"])
    assert "--label is for papers" in capsys.readouterr().err
    assert 2 == run(["analyze", "Linear(4, 8)", "-i", "4", "-f", "latex", "--units", "m"])
    assert "unknown unit 'm'" in capsys.readouterr().err


def number(cell: str) -> int:
    """A count of a table."""
    return int(cell.replace("$-$", "-").replace("+", "").replace(",", "").replace("=", "0"))


def test_the_difference_is_a_table_that_adds_up() -> None:
    """From convstat's figures over each cause to those of the counter, right behind the table of the counters."""
    found = write(FULL)
    assert "counter" == found[0][0][0]
    explained = [table for table in found if table[0][0] == "cause"]
    assert explained == found[1 : 1 + len(explained)]
    differing = [c for c in FULL.counters if c.causes or c.unexplained.macs or c.unexplained.params]
    assert len(differing) == len(explained)
    for counter, (heads, *rows, total) in zip(differing, explained, strict=True):
        assert ["cause", "verdict", "params", "MACs", "layers"] == heads
        for place, name in ((2, "params"), (3, "macs")):
            reported = getattr(counter.shown, name)
            if reported is not None:
                assert reported == number(total[place]) == sum(number(row[place]) for row in rows)


def test_a_sweep_has_units_and_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its axes are values, so a shape among them is one too."""
    monkeypatch.chdir(tmp_path)
    sweep = ["compare", "Conv2d(4, 8, 3, padding=1, bias=False)", "input=4x64x64,4x128x128", "-qq", "-o", "t.tex"]
    assert 0 == run([*sweep, "--units", "auto", "--columns", "MACs", "--label", "4x64x64=small"])
    (table,) = tables((tmp_path / "t.tex").read_text())
    assert [["input", "MACs"], ["small", r"1.180\,M"], [r"$4 \times 128 \times 128$", r"4.719\,M"]] == table
