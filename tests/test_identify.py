"""A number that somebody printed is found where a counter gives it, and nowhere else."""

from __future__ import annotations

import json
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path

import counted
import pytest
from counted import identify
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from convstat.cli.run import run
from convstat.commands.identify import read, reading_of
from convstat.errors import UsageError
from convstat.results.documents.schema import report_schema
from convstat.results.identification import Identification

RESNET = str(Path(__file__).resolve().parent.parent / "configs" / "resnet50.yaml")

FIGURES = {row.name: row for row in counted.analyze(RESNET, counters="all", predict=True).counters}


@cache
def _found(text: str) -> Identification:
    found = identify(text, RESNET)
    Draft202012Validator(report_schema()).validate(found.to_dict())
    return found


def _who(found: Identification) -> set[tuple[str, str]]:
    return {(candidate.counter, candidate.figure) for candidate in found.matches}


def test_the_number_of_ptflops_is_found() -> None:
    """4.13 G are ptflops' MACs and those of the thops; 4.09 G are not."""
    found = _found("4.13G")
    assert {("ptflops", "MACs"), ("thop", "MACs"), ("ultralytics-thop", "MACs")} == _who(found)
    assert "rounded to 2 decimals of G" == found.matches[0].reading
    assert "ptflops" == found.matches[0].counter
    assert ("convstat", "MACs") not in _who(found)


def test_twice_is_told_as_flops() -> None:
    """8.27 GFLOPs are twice the MACs of thop; 8.26 those of ptflops."""
    assert ("thop", "FLOPs: 2 x MACs") in _who(_found("8.27 GFLOPs"))
    assert ("ptflops", "FLOPs: 2 x MACs") in _who(_found("8.26 GFLOPs"))
    assert ("convstat", "FLOPs: 2 x MACs") in _who(_found("8.18 GFLOPs"))


def test_what_is_called_flops_and_is_macs_is_found() -> None:
    """The most common mistake of all."""
    assert ("ptflops", "MACs") in _who(_found("4.13 GFLOPs"))


def test_parameters_are_found_with_every_counter_that_has_them() -> None:
    """And nothing that is not a count of parameters, where the number says that it is one."""
    found = _found("25.56M params")
    assert {"params"} == {figure for _, figure in _who(found)}
    assert {name for name, row in FIGURES.items() if row.shown.params == 25_557_032} <= {who for who, _ in _who(found)}


def test_exact_matches_come_first() -> None:
    """All digits: convstat and those that agree with it; the rest are near misses with their distance."""
    found = _found("4089184256")
    assert ("exact", "convstat") == (found.matches[0].reading, found.matches[0].counter)
    assert {"exact"} == {candidate.reading for candidate in found.matches}
    assert sorted(abs(c.distance) for c in found.near) == [abs(c.distance) for c in found.near]
    near = {candidate.counter: candidate for candidate in found.near}
    assert Fraction(1000, 4_089_184_256) == near["ptflops-aten"].distance


def test_powers_of_1024_are_told_as_such() -> None:
    """3.81 Gi are 4.09 G."""
    for text in ("3.81G", "3.81Gi"):
        found = _found(text)
        assert ("convstat", "MACs") in _who(found)
        assert "Gi, powers of 1024" in found.matches[0].reading
    assert ("convstat", "MACs") not in _who(_found("4.09Gi"))


def test_per_pixel_and_bytes_and_other_units_are_found() -> None:
    """kMACs/pixel, MiB of weights, and a unit that only one tool has."""
    assert ("convstat", "MACs, per pixel") in _who(_found("81.5 kMACs/pixel"))
    assert {("convstat", "bytes of params"), ("torchsummary", "memory: params")} <= _who(_found("97.49MiB"))
    assert ("convstat", "bytes of params") in _who(_found("102.2MB"))
    assert ("torchstat", "MAdd") in _who(_found("8.223G"))


def test_nothing_is_found_where_nothing_is(capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, names what comes nearest, and the exit code is 1."""
    found = _found("5.5G")
    assert () == found.matches
    assert found.near
    assert 1 == run(["identify", "5.5G", RESNET, "--counters", "ptflops"])
    assert "Nothing matches 5.5G" in capsys.readouterr().out
    assert 0 == run(["identify", "4.13G", RESNET, "--counters", "ptflops", "-f", "json"])
    assert "ptflops" == json.loads(capsys.readouterr().out)["matches"][0]["counter"]


LAYER = "Conv2d(12, 37, kernel_size=3, padding=1)"


@pytest.mark.parametrize("digits", [0, 2, 5])
@pytest.mark.parametrize("rounding", [ROUND_HALF_EVEN, ROUND_DOWN])
def test_what_a_counter_prints_is_found_again(digits: int, rounding: str) -> None:
    """Rounded or cut off to some digits of M; each tool is among those that may have printed it."""
    rows = counted.analyze(LAYER, inputs=("12x33x17",), counters="all", predict=True).counters
    printed: dict[str, list[str]] = {}
    for row in rows:
        if row.shown.macs:
            text = (Decimal(row.shown.macs) / 10**6).quantize(Decimal(1).scaleb(-digits), rounding=rounding)
            printed.setdefault(f"{text}M", []).append(row.name)
    assert sum(map(len, printed.values())) > len(rows) // 2
    for text, names in printed.items():
        assert {(name, "MACs") for name in names} <= _who(identify(text, LAYER, inputs=("12x33x17",)))


@given(value=st.integers(1, 10**15), decimals=st.integers(0, 6), prefix=st.sampled_from(("", "k", "M", "G", "T")))
def test_a_value_is_read_as_the_number_that_it_is_printed_as(value: int, decimals: int, prefix: str) -> None:
    """And as no number that is further off than a whole unit of the last digit."""
    scale = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12}[prefix]
    exact = Decimal(value).scaleb(-scale)
    for rounding in (ROUND_HALF_EVEN, ROUND_DOWN):
        printed = exact.quantize(Decimal(1).scaleb(-decimals), rounding=rounding)
        number = read(f"{printed:f}{prefix}")
        reading = reading_of(number, Fraction(value))
        assert reading is not None
        unit = number.unit(1000)
        off = reading_of(number, Fraction(value) + 2 * unit)
        assert off is None or "1024" in off.words


@pytest.mark.parametrize(
    ("text", "value", "figures"),
    [
        ("4.13 GMac", 4_130_000_000, "operations"),
        ("4.13 GMACs", 4_130_000_000, "operations"),
        ("8.27 GFLOPs", 8_270_000_000, "operations"),
        ("8.27 GFLOPS", 8_270_000_000, "operations"),
        ("25.6M params", 25_600_000, "params"),
        ("25.6 M", 25_600_000, None),
        ("405B", 405_000_000_000, "params"),
        ("25,557,032", 25_557_032, None),
        ("25_557_032 params", 25_557_032, "params"),
        ("4.1e9", 4_100_000_000, None),
        ("4.1e9 MACs", 4_100_000_000, "operations"),
        ("12 MACs", 12, "operations"),
        ("12K", 12_000, None),
        ("97.5 MB", 97_500_000, "bytes"),
        ("1 MiB", 2**20, "bytes"),
        ("2.93e8", 293_000_000, None),
        ("2.93E+8 FLOPs", 293_000_000, "operations"),
        ("0.293G", 293_000_000, None),
        ("293 MFLOPs", 293_000_000, "operations"),
        ("2.93 x 10^8 MACs", 293_000_000, "operations"),
        ("2.93×10^{8}", 293_000_000, None),
        ("417,370 MACC", 417_370, "operations"),
        ("65.86 BFLOPs", 65_860_000_000, "operations"),
        ("823.3 MBOPs", 823_300_000, "bit operations"),
        ("236032 BOPs", 236_032, "bit operations"),
        ("111.1167M activations", 111_116_700, "activations"),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: int, figures: str | None) -> None:
    """With prefixes, names and separators."""
    number = read(text)
    assert (value, figures) == (number.value, number.figures)


def test_an_exponent_says_which_digits_are_known() -> None:
    """2.93e8 is as much as 293M: three digits, rounded or truncated, and no more."""
    for text in ("2.93e8", "293M", "0.293G", "2.93 x 10^8", "29.3e7 FLOPs"):
        number = read(text)
        words = [reading_of(number, Fraction(value)) for value in (292_500_001, 293_499_999, 293_900_000, 294_100_000)]
        assert [True, True, True, False] == [reading is not None for reading in words], text
        assert words[2] is not None
        assert words[2].words.startswith("truncated")
    exact = reading_of(read("2.93e8"), Fraction(293_000_000))
    assert exact is not None
    assert "exact" == exact.words


@given(value=st.integers(1, 10**15), digits=st.integers(1, 6))
def test_a_value_is_read_as_what_scientific_notation_prints(value: int, digits: int) -> None:
    """As Python writes it with some digits, and not as what is further off than two units of the last."""
    printed = f"{Decimal(value):.{digits - 1}e}"
    number = read(printed)
    unit = number.unit(1000)
    assert reading_of(number, Fraction(value)) is not None
    assert reading_of(number, Fraction(value) + 2 * unit) is None
    assert unit == Fraction(10) ** (int(printed.partition("e")[2]) - digits + 1)


def test_units_of_one_tool_are_searched_by_their_name() -> None:
    """Activations and bit operations are no FLOPs, and FLOPs are neither."""
    layer, shapes = "Conv2d(4, 8, kernel_size=3, bias=False)", ("4x12x12",)
    activations, products = 8 * 100, 4 * 9 * 8 * 100
    for text, found in (
        (
            f"{activations} activations",
            {
                *((counter, "activations") for counter in ("convstat", "fvcore", "ntire", "mmengine")),
                ("convstat", "conv activations"),
                ("convstat", "output elements"),
            },
        ),
        (f"{products * 32 * 32} BOPs", {("qonnx", "bit operations")}),
    ):
        assert found == _who(identify(text, layer, inputs=shapes))
    who = _who(identify(f"{products * 32 * 32} FLOPs", layer, inputs=shapes))
    assert "qonnx" not in {counter for counter, _ in who}


@pytest.mark.parametrize(
    "text", ["", "G", "4.13X", "four", "4,13G", "-4G", "4.13 GMac extra", "nan", "1..2", "2.93e", "2 x 10^", "e8"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    """Before anything is counted."""
    with pytest.raises(UsageError):
        read(text)
