"""Streams: width, colour and encoding follow the environment, and a stream that fails does so politely."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping

import pytest
from hand_made import CHECK, DIFF, FULL, HUGE, NASTY, OWN, SWEEP

from convstat.errors import Diagnostic, Mark, OutputError, SourceText
from convstat.render.base import Options, Result
from convstat.render.console import Terminal, width_for
from convstat.render.formats.registry import RENDERERS
from convstat.render.formats.terminal import MOST_DRAWN, TableRenderer
from convstat.render.layout import arrange
from convstat.render.page import Column, Heading, Item, Items, Line, Page, Pairs, Row, Table
from convstat.render.renderables import renderables
from convstat.text.printable import cells
from convstat.text.printable import shown as shown_text


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def shown(environment: Mapping[str, str], *, screen: bool = True, ascii: bool = False) -> str:
    """What a check looks like on a stream in an environment."""
    stream = Screen() if screen else io.StringIO()
    terminal = Terminal(stream, "the screen", width=100, ascii=ascii, environment=environment)
    TableRenderer().show([CHECK, NASTY], Options(width=100, ascii=terminal.ascii), terminal)
    return stream.getvalue()


def words(text: str) -> list[str]:
    """The words of a text, without colours, rules and frames."""
    return re.sub(
        r"\x1b\[[0-9;]*m|(?<!\S)[-+]?-{3,}[-+]?(?!\S)|[─╭╮╰╯│]|^[|]|[|]$", "", text, flags=re.MULTILINE
    ).split()


def test_colour_is_for_terminals() -> None:
    """A terminal gets escape sequences, a pipe does not, and the words are the same."""
    plain = shown({}, screen=False)
    colourful = shown({"TERM": "xterm"})
    assert "\x1b[" in colourful
    assert "\x1b" not in plain
    assert words(plain) == words(colourful) == words(shown({"NO_COLOR": "1"}))


@pytest.mark.parametrize("result", [CHECK, FULL, OWN, NASTY, HUGE, SWEEP, DIFF], ids=lambda result: result.kind)
def test_rich_draws_every_word_at_every_width(result: Result) -> None:
    """What rich draws on a screen and in a file has the words of the plain text, in order, and no line is wider."""
    for width in (40, 59, 60, 61, 79, 80, 100, 120, 161, 200):
        plain = TableRenderer().render([result], Options(width=width))
        stream = Screen()
        terminal = Terminal(stream, "the screen", width=width, environment={"TERM": "xterm"})
        TableRenderer().show([result], Options(width=width), terminal)
        file = TableRenderer().encode([result], Options(width=width)).decode()
        assert words(plain) == words(stream.getvalue()) == words(file), width
        assert max(map(cells, file.splitlines())) <= max(width, *map(cells, plain.splitlines()))
        assert all(line == line.rstrip() for line in file.splitlines())


def test_no_text_is_markup_for_rich() -> None:
    """Brackets, emoji codes, links and escapes of a name are shown as they are, or written out."""
    from rich.console import Console

    for name in ("[bold]x[/bold]", "[link=https://a.b]x[/link]", ":smile:", "x[/b]", "\x1b[31mred", "a\rb", "名前"):
        page = Page((Heading(name, 1), Pairs(((name, name),)), Line(name), Items((Item(name, name),)),
                     Table((Column(name),), (Row((name,)),), Row((name,)))))  # fmt: skip
        stream = Screen()
        terminal = Terminal(stream, "the screen", width=80, environment={"TERM": "xterm"})
        terminal.draw(renderables(arrange(page, Options(width=80), framed=True)))
        # A console of somebody else reads markup where it may.
        own = Screen()
        Console(file=own, width=80, height=50, force_terminal=True).print(
            *renderables(arrange(page, Options(width=80), framed=True)), sep=""
        )
        drawn, theirs = (re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()) for screen in (stream, own))
        assert drawn.split() == theirs.split()
        assert "\x1b" not in drawn
        assert "\r" not in drawn
        assert 9 == drawn.count(shown_text(name))


def test_a_long_table_is_written_rather_than_drawn() -> None:
    """Rich would take seconds for it; the words are the same."""
    table = Table((Column("n"), Column("m")), tuple(Row((str(n), str(n))) for n in range(MOST_DRAWN + 1)))

    class Long(TableRenderer):
        """Shows a long table, whatever it is given."""

        def page(self, result: Result, options: Options) -> Page:
            """The table."""
            return Page((table,))

    stream = Screen()
    Long().show([CHECK], Options(), Terminal(stream, "the screen", environment={"TERM": "xterm"}))
    assert stream.getvalue() == Long().render([CHECK], Options())
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("force", [{}, {"FORCE_COLOR": "1"}, {"CLICOLOR_FORCE": "1"}])
def test_no_escape_byte_where_none_is_wanted(environment: dict[str, str], force: dict[str, str]) -> None:
    """NO_COLOR and TERM=dumb win, also over FORCE_COLOR, and also for bold."""
    assert "\x1b" not in shown({**environment, **force})


def test_colour_can_be_forced() -> None:
    """FORCE_COLOR colours a pipe; 0 does not, and an empty NO_COLOR forbids nothing."""
    assert "\x1b" in shown({"FORCE_COLOR": "1", "TERM": "xterm"}, screen=False)
    assert "\x1b" not in shown({"FORCE_COLOR": "0", "TERM": "xterm"}, screen=False)
    assert "\x1b" in shown({"NO_COLOR": "", "TERM": "xterm"})


def test_ascii_means_ascii() -> None:
    """With --ascii, no character needs more than 7 bits: neither bars nor names."""
    assert shown({}, ascii=True).isascii()
    assert shown({"TERM": "xterm"}, ascii=True).isascii()
    assert not shown({}).isascii()


def test_a_stream_that_cannot_encode_gets_what_it_can() -> None:
    """An ASCII stream is written without an error, names as escapes."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    terminal = Terminal(stream, "the screen", environment={})
    assert terminal.ascii
    TableRenderer().show([NASTY], Options(ascii=terminal.ascii), terminal)
    assert b"\\u540d\\u524d" in raw.getvalue()
    terminal.write("名\n")
    assert raw.getvalue().endswith(b"\\u540d\n")


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [(50, {"COLUMNS": "70"}, 50), (None, {"COLUMNS": "70"}, 70), (None, {}, 120), (None, {"COLUMNS": "wide"}, 120)],
)
def test_the_width_is_asked_for_or_known_or_120(asked: int | None, environment: dict[str, str], expected: int) -> None:
    """--width, then COLUMNS, then 120."""
    assert expected == width_for(io.StringIO(), environment, asked)


def test_the_width_of_a_terminal_is_its_own() -> None:
    """A terminal knows better than COLUMNS."""
    import fcntl
    import struct
    import termios

    main, other = os.openpty()
    try:
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 66, 0, 0))
        with os.fdopen(other, "w", closefd=False) as stream:
            assert 66 == width_for(stream, {"COLUMNS": "70"})
    finally:
        os.close(main)
        os.close(other)


def test_a_closed_stream_is_a_mistake_with_a_name() -> None:
    """No stream, and a stream that was closed, say so."""
    with pytest.raises(OutputError, match="cannot write to standard output: it is closed"):
        Terminal(None, "standard output")
    stream = io.StringIO()
    terminal = Terminal(stream, "standard output", environment={})
    stream.close()
    with pytest.raises(OutputError, match="cannot write to standard output"):
        terminal.write("x")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_is_a_mistake_with_a_reason() -> None:
    """The error of the system is shown."""
    with (
        open("/dev/full", "w", encoding="utf-8") as stream,
        pytest.raises(OutputError, match="No space left on device"),
    ):
        Terminal(stream, "standard output", environment={}).write("x")


def test_a_reader_that_went_away_is_no_mistake() -> None:
    """Writing into a pipe without a reader is dropped."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as stream:
        terminal = Terminal(stream, "standard output", environment={})
        terminal.write("x" * 100_000)
        terminal.write("y")


def test_markdown_pages_are_laid_out_on_a_screen_only() -> None:
    """In a pipe the page is the file."""
    pipe = io.StringIO()
    Terminal(pipe, "the pipe", environment={}).write_markdown("# Title\n")
    assert "# Title\n" == pipe.getvalue()
    screen = Screen()
    Terminal(screen, "the screen", width=60, environment={"TERM": "xterm"}).write_markdown("# Title\n")
    assert "Title" in screen.getvalue()
    assert "\x1b" in screen.getvalue()


def test_a_file_has_no_colour() -> None:
    """Text that is rendered for a file is plain."""
    assert "\x1b" not in RENDERERS.named("table").render([FULL], Options())


PROBLEMS = [
    Diagnostic("no mark", help=("do",), notes=("seen",)),
    Diagnostic("a: b", Mark(SourceText("net.yaml", "layers:\n  - Cnov2d: {kernel_size: 3}  # [bold]\n"), 2, 5, 6)),
    Diagnostic("tab", Mark(SourceText("pyproject.toml", "\tmax = [\t'x'\n"), 1, 10), severity="warning"),
    Diagnostic("inline", Mark(SourceText("argument 'x'", "Conv2d(4, 8, 3)", is_file=False), 1, 8, 1), help=("a", "b")),
    Diagnostic("odd", Mark(SourceText("a\x1b[1m:error: .yaml", "x: '\x1b[2J名前\u202e'"), 1, 4, 3)),
    Diagnostic("long", Mark(SourceText("r.json", '{"a": ' + "[" * 500), 1, 300)),
    Diagnostic("empty line", Mark(SourceText("net.yaml", "a:\n\nb:\n"), 2, 1)),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=[problem.message for problem in PROBLEMS])
def test_a_problem_that_is_drawn_reads_as_it_is_written(problem: Diagnostic) -> None:
    """Colours take no character away and add none; the line of a spec is highlighted, and nothing in it is markup."""
    from convstat.render.problems import drawn, safe_lines

    plain = "\n".join(safe_lines(problem))
    text = drawn(problem)
    assert plain == text.plain
    assert drawn(problem, ascii=True).plain.isascii()
    stream = Screen()
    Terminal(stream, "the screen", width=40, environment={"TERM": "xterm"}).draw([text], wrap=False)
    assert f"{plain}\n".expandtabs() == re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    if problem.message in ("a: b", "inline"):
        line = text.split("\n")[1]
        assert len({str(span.style) for span in line.spans}) > 2


def test_a_picture_of_what_a_terminal_shows_stands_alone() -> None:
    """It is XML with every name as it is, and fetches nothing."""
    from xml.etree import ElementTree

    svg = RENDERERS.named("svg").render([NASTY], Options(width=100))
    text = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")
    for row in NASTY.layers:
        assert shown_text(row.name).replace("\n", "\\n") in text
    assert f"{NASTY.totals.macs:,}" in text
    assert "@font-face" not in svg
    assert {"http://www.w3.org/2000/svg", "https://www.textualize.io"} == set(re.findall(r"https?://[^\s\"<>]*", svg))
