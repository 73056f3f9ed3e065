"""What an entry point and a zoo name come to: a recipe that makes the model when and where it is wanted.

The model is made anew for every device that is tried, so nothing is allocated before it has to be.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convstat.errors import ConvstatError, Diagnostic, Mark, SourceError, SourceText

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Example:
    """The arguments of one forward pass: tensors, or anything that nests them."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a model.

    ``make`` gives the module and, where the entry point has some of its own, the inputs;
    it is called inside the device context that is being tried.
    ``usual`` gives the zoo's own inputs for a batch, for when none are asked for.
    """

    name: str
    source: str
    kind: str
    make: Callable[[], tuple[torch.nn.Module, Example | None]]
    usual: Callable[[int], Example] | None = None
    notes: tuple[str, ...] = ()
    assume_values: bool = False
    """Whether values that the model reads from tensors are known not to change a count."""
    needs_cpu: bool = False
    """Whether the model can only be made and run on real tensors in the main memory, as quantized nets can."""


@contextmanager
def users_code(what: str, *, own: tuple[str, ...] = ()) -> Iterator[None]:
    """Run code that the user wrote: its output goes to stderr, its exception becomes a message at its own line."""
    import sys

    with redirect_stdout(sys.stderr):
        try:
            yield
        except (ConvstatError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            raise failed(what, error) from error


def failed(what: str, error: BaseException, *, help: tuple[str, ...] = ()) -> SourceError:
    """Say what of the user's failed, with the innermost line that is neither torch's, nor Python's, nor ours."""
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0] if str(error) else type(error).__name__
    return SourceError(Diagnostic(f"{what}: {reason}", _users_line(error), help=help))


def _users_line(error: BaseException) -> Mark | None:
    import sys
    import sysconfig
    from pathlib import Path

    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return _mark(error.filename, error.lineno, error.offset or 1)
    installed = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    own = Path(__file__).resolve().parents[1]
    places: list[tuple[str, int]] = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if not path.is_file() or path.resolve().is_relative_to(own):
            continue
        places.append((frame.filename, frame.lineno or 1))
    # Python's own library contains site-packages: a file there is the user's only if nothing better is on the way.
    users = [
        place
        for place in places
        if not any(Path(place[0]).resolve().is_relative_to(folder) for folder in installed)
        and not place[0].startswith(sys.base_prefix)
    ]
    chosen = users or places
    return _mark(*chosen[-1]) if chosen else None


def _mark(filename: str, line: int, column: int | None = None) -> Mark | None:
    import os
    from pathlib import Path

    try:
        text = Path(filename).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    shown = os.path.relpath(filename)
    source = SourceText(filename if shown.startswith("..") else shown, text)
    code = source.lines[line - 1] if 0 < line <= len(source.lines) else ""
    first = len(code) - len(code.lstrip()) + 1
    return Mark(source, line, column or first, max(1, len(code.strip()) if column is None else 1))
