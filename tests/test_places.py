"""The place of an error is in its line, and at what is meant: with any line ends, bytes, anchors, quotes and folds."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from pathlib import Path

import pytest

from convstat.budgets import limits
from convstat.config import project
from convstat.errors import ConvstatError, Diagnostic, Mark, SourceText, SpecError
from convstat.grammar import axes
from convstat.targets import inline, yaml

HERE = Path(__file__).parent
TEXTS = [
    path.read_bytes() for path in sorted([*(HERE / "errors").glob("*.yaml"), *(HERE.parent / "configs").glob("*.yaml")])
]
PIECES = [
    piece.encode()
    for piece in (
        "\r", "\r\n", "\n", "\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x07", "\x1b[31m", "\x7f", "\t",
        "\ufeff", "\0", "é", "名前", "🦆", "&a ", "&é\n ", "*a", "!!str ", "!x ", "# é\r", "'", '"', "\\",
        "\\x41", "''", "|\n", ">-\n  ", "{", "[", "]", "}", ":", ": ", "- ", ",", "? ", "%", "@", "`",
        "<<: ", "null", "-1", "1e9", "x + y", "nope(", "$", "--- ", "convstat: 1\n",
    )
] + [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xfe\xff", b"\xef\xbb\xbf"]  # fmt: skip


def damage(data: bytes, chance: random.Random) -> bytes:
    """Put something in, take something out, or change every line end."""
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(data) + 1)
        data = data[:place] + chance.choice(PIECES) + data[place + chance.choice((0, 0, 1, 5)) :]
    if chance.random() < 0.3:
        data = data.replace(b"\n", chance.choice((b"\r", b"\r\n", "\u2028".encode(), b"\x85", "\x85".encode())))
    return chance.choice((b"", b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf")) + data


def is_placed(problem: Diagnostic) -> None:
    """The line exists and has the column, and the caret is under it in what is shown."""
    mark = problem.mark
    if mark is None:
        return
    lines = re.split("\r\n|\n|\r", mark.source.text)
    assert 1 <= mark.line <= len(lines), problem.message
    assert 1 <= mark.column <= len(lines[mark.line - 1]) + 1, problem.message
    assert mark.length >= 1
    assert mark.text in (lines[mark.line - 1], "")
    shown = str(problem).split("\n")[problem.message.count("\n") :]
    assert all(c.isprintable() or c == "\t" for line in shown[1:3] for c in line)
    assert problem.place.replace("\t", "").isprintable()
    if mark.text:
        number, written, caret = f"{mark.line:>5} | ", shown[1], shown[2]
        assert written.startswith(number)
        at = caret.index("^")
        meant = mark.text[mark.column - 1 : mark.column]
        assert not meant.isprintable() or len(lines[mark.line - 1]) > 160 or written[at : at + 1] == meant


def attack(seeds: range) -> int:
    """Read damaged specs, settings and arguments; give the number of places that were looked at."""
    looked = 0
    for seed in seeds:
        chance = random.Random(seed)
        data = damage(chance.choice(TEXTS), chance)
        problems: list[Diagnostic] = []
        try:
            spec = yaml.parse(data, "net.yaml")
            problems += spec.warnings
            for variant in (None, *spec.variants):
                spec.expand(variant=variant)
        except SpecError as error:
            problems += error.diagnostics
        toml = damage(b'[tool.convstat]\nmodel = "net.yaml"\nbatch = 0\nbudget = ["params<5", "macs<=3k"]\n', chance)
        layer = damage(b"Conv2d(64, kernel_size=(3, nope), bias='x', bias=1, stride=[1, 2)", chance)
        for read, text in (
            (_settings, toml),
            (inline.read, layer),
            (_override, damage(b"width=1..8,[2,x],range(1", chance)),
        ):
            try:
                read(text.decode("utf-8", "replace"))
            except ConvstatError as error:
                problems += error.diagnostics
        for problem in problems:
            try:
                is_placed(problem)
            except (AssertionError, IndexError, ValueError) as error:
                raise AssertionError(f"seed {seed}: {problem.message!r} at {problem.mark}: {error}") from error
            looked += problem.mark is not None
    return looked


def _settings(text: str) -> None:
    with suppress(ValueError):
        for entry in project.parse(text, "pyproject.toml").budgets:
            if isinstance(entry.written, str):
                limits.read_short(entry.written, entry.mark)


def _override(text: str) -> None:
    axes.parse(text)


def test_every_place_is_in_its_line() -> None:
    """A sample of what the long run takes."""
    assert attack(range(300)) > 300


@pytest.mark.verify
def test_every_one_of_very_many_places_is_in_its_line() -> None:
    """Twenty thousand damaged texts of each kind."""
    assert attack(range(1_000, 21_000)) > 20_000


@pytest.mark.parametrize(
    "written",
    [
        "nope", "&a nope", "&a   nope", "'nope'", '"nope"', "&a 'nope'", "&a\n        nope",
        "# note\n        nope", "2 *\n        nope", "2 * nope", "&a 2 * nope", "'2 * nope'",
        "2 *\n\n        nope", ">-\n        nope", "|\n        2 *\n        nope",
        "&a [1, nope]", "&a [1, &b nope]", "'2*(1 if cin == 1 else nope)'", '"2 * \\\n        nope"',
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff", "# é\u2028 \x85\n"])
def test_a_place_is_at_the_token_that_is_meant(written: str, end: str, start: str) -> None:
    """Behind anchors, quotes and comments, and in the right line of what is folded."""
    head = "convstat: 1\ninput: [3, 8, 8]\nlayers:\n  - Conv2d:\n      out_channels: 8\n      kernel_size: "
    text = (start + head + written + "\n").replace("\n", end)
    with pytest.raises(SpecError) as caught:
        yaml.parse(text.encode(), "net.yaml").expand()
    [problem] = [item for item in caught.value.diagnostics if "'nope'" in item.message]
    mark = problem.mark
    assert mark is not None
    lines = re.split("\r\n|\n|\r", text.removeprefix("\ufeff"))
    assert mark.line == next(number for number, line in enumerate(lines, 1) if "nope" in line), problem
    assert lines[mark.line - 1][mark.column - 1 :].startswith("nope"), problem
    assert len("nope") == mark.length


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b"a: 1\rb: \xff", 2, 4),
        (b"\xef\xbb\xbfa: \xff", 1, 4),
        (b"\xef\xbb\xbf\xff", 1, 1),
        ("é\r\nü: ".encode() + b"\xff", 2, 4),
        (b"a: 1\rb: \x07", 2, 4),
        ("é: '\x07'".encode(), 1, 5),
        (b"a: 1\r\r\rb: [", 4, 5),
        (b"a: !!str x", 1, 4),
        (b"a: &b !!str x", 1, 7),
    ],
)
def test_bytes_and_control_characters_have_their_place(data: bytes, line: int, column: int) -> None:
    """A byte-order mark is no column."""
    with pytest.raises(SpecError) as caught:
        yaml.parse(data, "net.yaml")
    mark = caught.value.diagnostics[0].mark
    assert mark is not None
    assert (line, column) == (mark.line, mark.column)


def test_settings_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """And what is no UTF-8 in them has its place."""
    path = tmp_path / "convstat.toml"
    path.write_bytes(b'\xef\xbb\xbfmodel = "net.yaml"\n')
    assert project.load(path).models
    path.write_bytes(b'\xef\xbb\xbf# \xc3\xa9\nmodel = "\xff"\n')
    with pytest.raises(ConvstatError, match=r"convstat\.toml:2:10: error: not UTF-8: the byte 0xff"):
        project.load(path)


def test_a_place_and_its_offset_are_one() -> None:
    """Going there and back, for every character of a text with every kind of line end."""
    text = "a\nbc\r\n\rdé\x85f\u2028g\x0bh\n\n"
    source = SourceText("t", text)
    for offset, character in enumerate(text):
        line, column = source.place(offset)
        if character not in "\r\n":
            assert offset == source.offset(line, column)
            assert character == source.lines[line - 1][column - 1]
    assert ["a", "bc", "", "dé\x85f\u2028g\x0bh", ""] == source.lines
    assert (5, 1) == source.place(10_000)
    assert "t:5:1" == str(Mark(source, *source.place(len(text))))
