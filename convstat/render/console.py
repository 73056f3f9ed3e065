"""Where text goes: the only place that knows about terminals, widths, colours and encodings.

Colour is used on a terminal, and nowhere else unless FORCE_COLOR or CLICOLOR_FORCE asks for it.
NO_COLOR and TERM=dumb win over both: then the output has no escape byte at all, not even for bold.
What a terminal shows is drawn by rich; for a pipe without colour, rich is not even imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TextIO

from convstat.errors import OutputError
from convstat.patches.streams import let_wait, result_stream
from convstat.text.printable import harmless

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

DEFAULT_WIDTH = 120
"""The width where nobody says one: in a pipe or a file."""


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to use colour on a stream."""
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    is_forced = any(environment.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE"))
    return is_forced or _is_terminal(stream)


def width_for(stream: TextIO, environment: Mapping[str, str], asked: int | None = None) -> int:
    """The width to lay out for: ``--width``, the terminal's, COLUMNS, else 120."""
    if asked is not None:
        return asked
    if _is_terminal(stream):
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        if columns:
            return columns
    given = environment.get("COLUMNS", "")
    return int(given) if given.isdecimal() and 0 < int(given[:6]) < 100_000 else DEFAULT_WIDTH


def needs_ascii(stream: TextIO) -> bool:
    """Whether a stream cannot take the characters that bars are drawn with."""
    try:
        "█▏…".encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (ValueError, AttributeError):
        return False


class Terminal:
    """A stream with its width, its colours and its encoding.

    Writing raises OutputError where the stream is closed or full;
    a reader that went away (``| head``) is no error: the rest is dropped.
    """

    def __init__(
        self,
        stream: TextIO | None,
        name: str,
        *,
        width: int | None = None,
        ascii: bool = False,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        if stream is None:
            raise OutputError(f"cannot write to {name}: it is closed")
        self.stream = stream
        self.name = name
        self.width = width_for(stream, environment, width)
        self.ascii = ascii or needs_ascii(stream)
        self.colour = wants_colour(stream, environment)
        self.is_terminal = _is_terminal(stream)
        self.is_drawn = self.colour or self.is_terminal
        """Whether rich draws what is shown here."""

    def write(self, text: str) -> None:
        """Write text as it is, but for what would act on a terminal."""
        text = harmless(text)
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        if not text.isascii():
            text = text.encode("ascii" if self.ascii else encoding, "backslashreplace").decode(encoding)
        self._guard(lambda: self.stream.write(text))

    def write_bytes(self, data: bytes) -> None:
        """Write what is no text: a picture."""
        buffer = getattr(self.stream, "buffer", None)
        if buffer is None:
            raise OutputError(f"cannot write bytes to {self.name}: it takes text alone")
        self._guard(lambda: buffer.write(data))

    def draw(self, renderables: Iterable[RenderableType], *, wrap: bool = True) -> None:
        """Print what rich draws; every text in it has been made safe to print.

        Without ``wrap``, lines are as long as they are, so that they can be copied as one.
        """
        console = console_of(self.stream, self.width, colour=self.colour)
        with console.capture() as drawn:
            for renderable in renderables:
                console.print(renderable, soft_wrap=not wrap)
        self._guard(lambda: self.stream.write(drawn.get()))

    def write_markdown(self, text: str) -> None:
        """Write a page of Markdown: laid out on a terminal, as it is elsewhere."""
        if self.ascii or not self.is_drawn:
            self.write(text)
            return
        from rich.markdown import Markdown

        self.draw([Markdown(text)])

    def _guard(self, action: Callable[[], object]) -> None:
        let_wait(self.stream)
        try:
            action()
            self.stream.flush()
        except BrokenPipeError:
            discard(self.stream)
        except OSError as error:
            discard(self.stream)
            raise OutputError(f"cannot write to {self.name}: {error.strerror or error}") from None
        except ValueError as error:
            raise OutputError(f"cannot write to {self.name}: {error}") from None


def console_of(stream: TextIO, width: int, *, colour: bool, record: bool = False, moves: bool | None = None) -> Console:
    """Make a console of rich's that decides nothing: neither about the width nor about colours and markup.

    With ``moves``, it may move the cursor, also where there is no colour.
    """
    from rich.console import Console

    return Console(
        file=stream,
        width=width,
        # A height must be given too: otherwise rich ignores the width where TERM is not known.
        height=100,
        force_terminal=colour if moves is None else moves,
        no_color=not colour,
        color_system="standard" if colour else None,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
        record=record,
    )


def discard(stream: TextIO) -> None:
    """Send whatever is still to come nowhere, so that leaving the process does not fail a second time."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def standard_output(*, width: int | None = None, ascii: bool = False) -> Terminal:
    """Standard output: the result and nothing else."""
    return Terminal(result_stream(), "standard output", width=width, ascii=ascii)


def standard_error() -> Terminal:
    """Standard error: progress, notes, warnings and errors."""
    return Terminal(sys.stderr, "standard error")
