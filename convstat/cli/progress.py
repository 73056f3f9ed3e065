"""Say what is going on when it takes longer than half a second: on a terminal only, and without leaving a trace."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from threading import Timer

DELAY = 0.5


class Progress:
    """A line on standard error that appears late and goes again."""

    def __init__(self, *, enabled: bool = True, stream: TextIO | None = None, delay: float = DELAY) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.delay = delay
        self.shown = 0
        self.timer: Timer | None = None
        self.enabled = enabled and self.stream is not None and self.stream.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, text: str) -> None:
        """Say what comes next; it is shown if it lasts."""
        if not self.enabled:
            return
        from threading import Timer

        self.clear()
        self.timer = Timer(self.delay, self._show, [text])
        self.timer.daemon = True
        self.timer.start()

    def _show(self, text: str) -> None:
        # A line that wraps could not be taken away again.
        try:
            room = (os.get_terminal_size(self.stream.fileno()).columns or 80) - 1
        except (OSError, ValueError):
            room = 79
        line = f"{text} ..."[:room]
        try:
            self.stream.write(line)
            self.stream.flush()
        except (OSError, ValueError):
            return
        self.shown = len(line)

    def clear(self) -> None:
        """Take the line away."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer.join()
            self.timer = None
        if self.shown:
            try:
                self.stream.write(f"\r{' ' * self.shown}\r")
                self.stream.flush()
            except (OSError, ValueError):
                pass
            self.shown = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
