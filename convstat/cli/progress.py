"""Say what is going on when it takes longer than half a second: on a terminal only, and without leaving a trace."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO, cast

from convstat.patches.child import OURS
from convstat.render.console import needs_ascii, width_for

if TYPE_CHECKING:
    from threading import Timer

    from rich.progress import Progress as Display

DELAY = 0.5

BESIDE = len("| ") + len(" ... 0:00:00") + 2
"""The room for the spinner and the time beside a text."""


class Progress:
    """A line on standard error that appears late, with a spinner and the seconds since, and goes again."""

    def __init__(self, *, enabled: bool = True, stream: TextIO | None = None, delay: float = DELAY) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.delay = delay
        self.timer: Timer | None = None
        self.display: Display | None = None
        self.enabled = enabled and self.stream is not None and self.stream.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, text: str) -> None:
        """Say what comes next; it is shown if it lasts."""
        if not self.enabled:
            return
        from threading import Timer

        self.clear()
        self.timer = Timer(self.delay, self._show, [text])
        self.timer.name = f"{OURS}'s progress"
        self.timer.daemon = True
        self.timer.start()

    def _show(self, text: str) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        from convstat.render.console import console_of
        from convstat.text.printable import cut_off, printable

        colour = not os.environ.get("NO_COLOR")
        stream = cast("TextIO", _Forgiving(self.stream))
        width = width_for(self.stream, os.environ)
        console = console_of(stream, width, colour=colour, moves=True)
        display = Progress(
            SpinnerColumn("line" if needs_ascii(self.stream) else "dots"),
            TextColumn("{task.description} ...", markup=False, table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            # What counters print is theirs to redirect.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        # What wraps could not be taken away, and rich would rather leave out the spinner than a word.
        display.add_task(cut_off(printable(text), max(8, width - BESIDE), ""), total=None)
        display.start()
        self.display = display

    def clear(self) -> None:
        """Take the line away."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer.join()
            self.timer = None
        if self.display is not None:
            self.display.stop()
            self.display = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


class _Forgiving:
    """A stream that may go away while nobody but a spinner writes to it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Write, or do not."""
        with suppress(OSError, ValueError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or do not."""
        with suppress(OSError, ValueError):
            self.stream.flush()
