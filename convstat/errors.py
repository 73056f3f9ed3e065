"""What can go wrong, where it went wrong, and the exit code that says so.

The tree, with the exit code of each::

    ConvstatError
    ├── UsageError        2   an argument or an option
    ├── SpecError         2   a spec file, an inline layer, an override
    ├── ConfigError       2   [tool.convstat]
    ├── OutputError       2   a file that cannot be written
    ├── SourceError       2   a target that cannot be loaded or run
    │   └── InputError    2   a model that does not run on its inputs
    └── DeviceError       2   a device that this machine does not have
    LayerError                a layer and its input do not fit; the reader of the spec adds the place

Low levels raise bare facts (:class:`LayerError`);
whoever knows the file and the line turns them into a :class:`Diagnostic`.
Programmer errors stay ordinary exceptions, or become an :class:`InternalError` that says where, and end in exit code 3.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property


class InternalError(Exception):
    """A fault of convstat's own, and where it is: no answer of the user's model, and none of a counter."""

    @classmethod
    def of(cls, what: str, error: BaseException) -> InternalError:
        """Say what convstat was doing, and where the exception left it."""
        import traceback
        from pathlib import Path

        frame = traceback.extract_tb(error.__traceback__)[-1:]
        place = f" ({Path(frame[0].filename).name}:{frame[0].lineno})" if frame else ""
        message = " ".join(str(error).split())
        return cls(f"convstat cannot {what}: {type(error).__name__}{': ' if message else ''}{message}{place}")


class ExitCode(IntEnum):
    """The exit codes of the command line; when several apply, 3 beats 2 beats 1 beats 4."""

    OK = 0
    VIOLATION = 1
    USAGE = 2
    INTERNAL = 3
    INCOMPLETE = 4
    INTERRUPTED = 130


_LINE_END = re.compile(r"\r\n|\n|\r")


class SourceText:
    """A text that marks point into: a file, standard input, or an argument.

    ``name`` is what a message calls it (``configs/net.yaml``, ``argument 'groups=3'``).
    """

    def __init__(self, name: str, text: str, *, is_file: bool = True) -> None:
        self.name = name
        self.text = text
        self.is_file = is_file

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the text, without their ends.

        Only what editors take for the end of a line is one: a carriage return, a line feed, or both.
        """
        ends = [*(found.start() for found in _LINE_END.finditer(self.text)), len(self.text)]
        lines = [self.text[start:end] for start, end in zip(self.starts, ends, strict=True)]
        return lines if lines[-1] else lines[:-1]

    @cached_property
    def starts(self) -> list[int]:
        """Where each line starts; what follows the last end is a line too, if an empty one."""
        return [0, *(found.end() for found in _LINE_END.finditer(self.text))]

    def place(self, offset: int) -> tuple[int, int]:
        """Give the line and the column of a character, counted from 1; beyond the text is its end."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.starts, offset)
        if line > 1 and line > len(self.lines):
            # Nothing is in the last line: the end is that of the line before.
            return line - 1, len(self.lines[line - 2]) + 1
        return line, min(offset - self.starts[line - 1], len(self.lines[line - 1]) if self.lines else 0) + 1

    def offset(self, line: int, column: int) -> int:
        """Give the character at a line and a column."""
        return self.starts[min(line, len(self.starts)) - 1] + column - 1

    def __repr__(self) -> str:
        return f"SourceText({self.name!r}, {len(self.text)} characters)"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text: 1-based line and column, and how many characters it spans."""

    source: SourceText
    line: int
    column: int
    length: int = 1

    @property
    def file(self) -> str:
        """The name of the text."""
        return self.source.name

    @property
    def text(self) -> str:
        """The whole line that the mark is in, empty where there is none."""
        lines = self.source.lines
        return lines[self.line - 1] if 0 < self.line <= len(lines) else ""

    def __str__(self) -> str:
        if self.source.is_file:
            return f"{self.file}:{self.line}:{self.column}"
        return self.file


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem: what is wrong, where, and what would be right.

    ``notes`` say where a value came from; ``help`` says what to type instead.
    """

    message: str
    mark: Mark | None = None
    notes: tuple[str, ...] = ()
    help: tuple[str, ...] = ()
    severity: str = "error"

    @property
    def place(self) -> str:
        """What stands before the message, in one line: ``net.yaml:3:7: ``."""
        return f"{_escaped(str(self.mark))}: " if self.mark else ""

    def __str__(self) -> str:
        lines = [f"{self.place}{self.severity}: {self.message}"]
        if self.mark is not None and self.mark.text:
            number = str(self.mark.line)
            text, column = _visible(*_window(self.mark.text, self.mark.column))
            # Tabs are kept so that the caret stands under its character whatever the tab width.
            lead = "".join(c if c == "\t" else " " for c in text[: column - 1])
            room = max(1, len(text) - column + 1)
            caret = "^" * max(1, min(self.mark.length, room))
            lines.append(f"{number:>5} | {text}")
            lines.append(f"{'':>5} | {lead}{caret}")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"help: {line}" for line in self.help]
        return "\n".join(lines)


def _visible(line: str, column: int) -> tuple[str, int]:
    """Write what cannot be seen in a line as escapes, and say where the column is then."""
    return _escaped(line), len(_escaped(line[: column - 1])) + 1


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode("ascii") for c in text)


def _window(line: str, column: int, width: int = 160) -> tuple[str, int]:
    """The part of a line that is worth showing, and where the column is in it: a spec can be one long line."""
    if len(line) <= width:
        return line, column
    start = max(0, min(column - 1 - width // 3, len(line) - width))
    lead, tail = "..." if start else "", "..." if start + width < len(line) else ""
    return lead + line[start : start + width] + tail, column - start + len(lead)


class ConvstatError(Exception):
    """Anything that ends a command with a message instead of a result."""

    exit_code = ExitCode.USAGE

    def __init__(self, problem: str | Diagnostic | Sequence[Diagnostic], *, help: str | Sequence[str] = ()) -> None:
        if isinstance(problem, str):
            problem = Diagnostic(problem, help=(help,) if isinstance(help, str) else tuple(help))
        self.diagnostics: tuple[Diagnostic, ...] = (problem,) if isinstance(problem, Diagnostic) else tuple(problem)
        super().__init__("\n\n".join(str(d) for d in self.diagnostics))


class Together:
    """Errors that are told together: each that is raised in one of its ``with`` blocks is kept until :meth:`tell`.

    >>> errors = Together()
    >>> for name in ("net.yaml", "net.json"):
    ...     with errors:
    ...         raise UsageError(f"{name} is not there")
    >>> errors.tell()
    Traceback (most recent call last):
        ...
    convstat.errors.UsageError: error: net.yaml is not there
    <BLANKLINE>
    error: net.json is not there
    """

    def __init__(self) -> None:
        self.kept: list[ConvstatError] = []

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: object, __: object) -> bool:
        if isinstance(error, ConvstatError):
            self.kept.append(error)
            return True
        return False

    def tell(self) -> None:
        """Raise one error of the kind of the first, with the messages of all; do nothing where there is none."""
        if self.kept:
            raise type(self.kept[0])([diagnostic for error in self.kept for diagnostic in error.diagnostics])


class UsageError(ConvstatError):
    """An argument or an option that makes no sense."""


class SpecError(ConvstatError):
    """A spec, an inline layer or an override that cannot be read or does not fit together."""


class ConfigError(ConvstatError):
    """A ``[tool.convstat]`` table that cannot be read."""


class OutputError(ConvstatError):
    """An output that cannot be written; raised before any work starts."""


class SourceError(ConvstatError):
    """A target that cannot be loaded or run."""


class InputError(SourceError):
    """A model that can be made, and does not run on the inputs that it was given."""


def torch_is_missing(what: str) -> SourceError:
    """The error of what cannot be done without torch, where that is not installed."""
    return SourceError(
        f"{what} needs torch, which is not installed",
        help=(
            "pip install torch",
            "without torch, convstat counts specs, inline layers and saved reports, with --counters none",
        ),
    )


class DeviceError(ConvstatError):
    """A device or a dtype that this machine cannot run."""


class LayerError(ValueError):
    """A layer that cannot be, or cannot take its input; carries facts and no place.

    ``argument`` names the argument at fault, for the reader of the spec to find its place.
    """

    def __init__(self, message: str, *, argument: str | None = None, help: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.argument = argument
        self.help = help


def did_you_mean(word: str, candidates: Iterable[str], *, also: str = "") -> tuple[str, ...]:
    """Give the help lines for a name that is not known: at most three close ones, then where to look.

    >>> did_you_mean("Cnov2d", ["Conv2d", "Linear"])
    ("did you mean 'Conv2d'?",)
    >>> did_you_mean("xyz", ["Conv2d", "Linear"], also="convstat list layers")
    ('see: convstat list layers',)
    """
    names = list(dict.fromkeys(candidates))
    lowered = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(word.lower(), lowered, n=3, cutoff=0.6)
    lines = []
    if close:
        lines.append("did you mean " + " or ".join(f"'{lowered[name]}'" for name in close) + "?")
    if also:
        lines.append(f"see: {also}")
    return tuple(lines)
