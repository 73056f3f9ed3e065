"""Where results go: standard output in one format, and any number of files.

Every file is looked at before the work starts: a path that cannot be written fails then, and not after minutes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from convstat.errors import OutputError, UsageError
from convstat.patches.streams import result_path
from convstat.render.base import Options, Renderer, Result
from convstat.render.console import DEFAULT_WIDTH, standard_error, standard_output
from convstat.render.formats.registry import RENDERERS
from convstat.text.writing import replacing

SOURCES = (".py", ".toml", ".yaml", ".yml")
"""Files that somebody wrote by hand; they are never overwritten."""

STANDARD_OUTPUT = "-"


class File(NamedTuple):
    """A file to write."""

    path: str
    renderer: Renderer


class Outputs:
    """The plan of one command: what is written where, in which format.

    Use it as a context: that every file can be written is seen on entering.
    Whatever ends the work, a signal included, leaves no file that is empty or half written.
    """

    def __init__(
        self,
        format: str | None,
        paths: Sequence[str],
        options: Options,
        *,
        width: int | None = None,
        inputs: Sequence[str] = (),
        silent: bool = False,
        kind: str | None = None,
    ) -> None:
        """Take the outputs as they were asked for; ``kind`` is the kind of result that the command makes."""
        self.renderer = RENDERERS.named(format or "table")
        self.options = options
        self.width = width
        self.silent = silent
        self.owner: Renderer | None = None
        self.files: list[File] = []
        self.pipes: dict[str, int] = {}
        seen: set[str] = set()
        for written in paths:
            renderer, path = self._read(written)
            if path == STANDARD_OUTPUT:
                if self.owner is not None:
                    raise UsageError("two outputs go to standard output", help="give a file for one of them")
                self.owner = renderer
                continue
            real = os.path.realpath(path)
            if real in seen:
                raise UsageError(f"'{path}' is given twice as an output")
            seen.add(real)
            self._protect(path, inputs)
            self.files.append(File(path, renderer))
        if kind is not None:
            self._require(kind)
        self._refuse_idle_options()
        self._refuse_what_is_for_papers()

    @property
    def is_for_people(self) -> bool:
        """Whether standard output is a table, or nothing but notes."""
        return not self.silent and (self.owner or self.renderer).name == "table"

    def has(self, format: str) -> bool:
        """Whether anything is written in a format."""
        shown = [] if self.silent else [self.owner or self.renderer]
        return any(renderer.name == format for renderer in (*shown, *(file.renderer for file in self.files)))

    @property
    def counters(self) -> str | None:
        """The counters that the formats show; None where they show whatever was asked."""
        found = [renderer.counters for renderer in self._all]
        names = dict.fromkeys(name for counters in found for name in counters if name != "none")
        nothing = "none" if found and all(counters == ("none",) for counters in found) else None
        return ",".join(names) or nothing

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that the formats are for, where they are for any."""
        return next((renderer.inputs for renderer in self._all if renderer.inputs), ())

    @property
    def _all(self) -> list[Renderer]:
        shown = [] if self.silent else [self.owner or self.renderer]
        return [*shown, *(file.renderer for file in self.files)]

    def _require(self, kind: str) -> None:
        """Refuse formats that cannot say what is asked for."""
        shown = [] if self.silent else [self.owner or self.renderer, self.renderer]
        for renderer in (*shown, *(file.renderer for file in self.files)):
            RENDERERS.require(renderer, kind)
            renderer.prepare(kind)

    def _refuse_idle_options(self) -> None:
        """Refuse options about what is shown where every output holds everything."""
        options = self.options
        given = [name for name in ("depth", "flat", "sort", "top") if getattr(options, name) not in (None, False)]
        shown = [*(file.renderer for file in self.files), *([] if self.silent else [self.renderer])]
        if self.owner is not None:
            shown.append(self.owner)
        if given and shown and not any(renderer.is_view for renderer in shown):
            names = " and ".join(dict.fromkeys(renderer.name for renderer in shown))
            raise UsageError(
                f"--{given[0]} selects what is shown, but {names} always contains every layer",
                help=f"omit --{given[0]}, or use table or markdown",
            )

    def _refuse_what_is_for_papers(self) -> None:
        """Refuse options of papers where nothing is written for one."""
        options = self.options
        given = [name for name, value in (("units", options.units), ("label", options.labels)) if value]
        if given and not self.has("latex"):
            raise UsageError(f"--{given[0]} is for papers", help="add -f latex, or -o table.tex")
        if options.columns and not any(renderer.is_view for renderer in self._all):
            raise UsageError("--columns selects what is shown, and no output is a table", help="use table or latex")

    def _read(self, written: str) -> tuple[Renderer, str]:
        format, found, path = written.partition("=")
        if found and format in RENDERERS:
            return RENDERERS.named(format), path
        if written == STANDARD_OUTPUT:
            return self.renderer, written
        renderer = RENDERERS.for_path(written)
        if renderer is not None:
            return renderer, written
        if found and "/" not in format:
            return RENDERERS.named(format), path
        if written.lower().endswith(SOURCES):
            self._protect(written, ())
        suffixes = ", ".join(suffix for renderer in RENDERERS.values() for suffix in renderer.suffixes)
        raise UsageError(
            f"cannot infer the format of '{written}'",
            help=(f"end it with one of {suffixes}", f"or give the format: json={written}"),
        )

    def _protect(self, path: str, inputs: Sequence[str]) -> None:
        if path.lower().endswith(SOURCES):
            raise OutputError(
                f"'{path}' is not overwritten: {Path(path).suffix} files are source files",
                help="choose another output name",
            )
        for name in inputs:
            if os.path.realpath(name) == os.path.realpath(path):
                raise OutputError(f"'{path}' is not overwritten: it is an input of this command")

    def __enter__(self) -> Outputs:
        for file in self.files:
            _try(file.path)
            if (pipe := _open_pipe(result_path(file.path))) is not None:
                self.pipes[file.path] = pipe
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Nothing is left to do but to end pipes: files are written whole or not at all."""
        for pipe in self.pipes.values():
            os.close(pipe)
        self.pipes.clear()

    def write(self, results: Sequence[Result]) -> None:
        """Write the results everywhere; standard output last."""
        for kind in dict.fromkeys(result.kind for result in results):
            self._require(kind)
        for file in self.files:
            options = self.options._replace(width=self.width or DEFAULT_WIDTH, title=_title(file))
            data = file.renderer.encode(results, options)
            try:
                if (pipe := self.pipes.get(file.path)) is not None:
                    _write_pipe(pipe, data)
                else:
                    _write(result_path(file.path), data)
            except OSError as error:
                raise OutputError(f"cannot write '{file.path}': {error.strerror}") from None
        if self.silent:
            return
        owner = self.owner or self.renderer
        self._show(owner, results, to_error=False)
        if self.owner is not None and self.owner.name != self.renderer.name:
            self._show(self.renderer, results, to_error=True)

    def _show(self, renderer: Renderer, results: Sequence[Result], *, to_error: bool) -> None:
        if to_error:
            terminal = standard_error()
        else:
            terminal = standard_output(width=self.width, ascii=self.options.ascii)
        options = self.options._replace(width=self.width or terminal.width, ascii=terminal.ascii)
        renderer.show(results, options, terminal)


def _title(file: File) -> str | None:
    """What a file is called without what says its format: ``mobile`` for ``mobile.comment.md``."""
    name = os.path.basename(file.path)
    longest = max((s for s in file.renderer.suffixes if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(longest)].strip(" .-_") or None


def _try(path: str) -> None:
    """See that a file can be written, and leave nothing behind."""
    existed = os.path.exists(path)
    try:
        if existed and not stat.S_ISREG(os.stat(path).st_mode):
            # Opening a pipe would wait for its reader, and a folder cannot be opened at all.
            if os.path.isdir(path):
                raise OutputError(f"cannot write '{path}': it is a folder")
            if not os.access(path, os.W_OK):
                raise OutputError(f"cannot write '{path}': permission denied")
            return
        with open(path, "ab"):
            pass
        if not existed:
            # The path may be a link to where nothing is yet: the link stays.
            os.unlink(os.path.realpath(path))
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror}") from None


def _open_pipe(path: str) -> int | None:
    """Open a path that is a named pipe, and keep it: its reader would take closing it for the end."""
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            return None
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "it is a pipe without a reader" if error.errno == errno.ENXIO else error.strerror
        raise OutputError(f"cannot write '{path}': {reason}") from None


def _write_pipe(pipe: int, data: bytes) -> None:
    os.set_blocking(pipe, True)
    while data:
        data = data[os.write(pipe, data) :]


def _write(path: str, data: bytes) -> None:
    """Write a file; a new one appears under its name when it is complete."""
    # A file that exists keeps its owner and its mode, so it is written in place.
    whole = nullcontext(path) if os.path.exists(path) else replacing(os.path.realpath(path))
    with whole as target, open(target, "wb") as stream:
        stream.write(data)
