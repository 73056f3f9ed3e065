"""Say what is going on when it takes longer than half a second: on a terminal only, and without leaving a trace."""

from __future__ import annotations

import os
import sys
from itertools import cycle
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from threading import Event, Thread

DELAY = 0.5

FRAMES = "|/-\\"
"""What turns at the end of the line; ASCII, for every terminal."""

TURN = 0.15
"""Seconds for one frame."""


class Progress:
    """A line on standard error that appears late, turns, and goes again."""

    def __init__(self, *, enabled: bool = True, stream: TextIO | None = None, delay: float = DELAY) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.delay = delay
        self.shown = 0
        self.thread: Thread | None = None
        self.done: Event | None = None
        self.enabled = enabled and self.stream is not None and self.stream.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, text: str) -> None:
        """Say what comes next; it is shown if it lasts."""
        if not self.enabled:
            return
        from threading import Event, Thread

        self.clear()
        self.done = Event()
        self.thread = Thread(target=self._show, args=(text, self.done), daemon=True)
        self.thread.start()

    def _show(self, text: str, done: Event) -> None:
        if done.wait(self.delay):
            return
        # A line that wraps could not be taken away again.
        try:
            room = (os.get_terminal_size(self.stream.fileno()).columns or 80) - 1
        except (OSError, ValueError):
            room = 79
        line = f"{text} ... {FRAMES[0]}"[:room]
        frames = cycle(FRAMES[1:] + FRAMES[0])
        if not self._write(line):
            return
        self.shown = len(line)
        while len(line) < room and not done.wait(TURN):
            if not self._write(f"\b{next(frames)}"):
                return

    def _write(self, text: str) -> bool:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            return False
        return True

    def clear(self) -> None:
        """Take the line away."""
        if self.thread is not None and self.done is not None:
            self.done.set()
            self.thread.join()
            self.thread = self.done = None
        if self.shown:
            self._write(f"\r{' ' * self.shown}\r")
            self.shown = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
