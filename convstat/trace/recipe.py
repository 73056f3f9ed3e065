"""What an entry point and a zoo name come to: a recipe that makes the model when and where it is wanted.

The model is made anew for every device that is tried, so nothing is allocated before it has to be.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convstat.errors import Diagnostic, Mark, SourceError, SourceText
from convstat.patches.guard import EndlessError, own
from convstat.patches.quiet import redirected
from convstat.patches.room import patch
from convstat.patches.surroundings import no_compiled_files
from convstat.text.printable import plain
from convstat.trace.nesting import why_endless

if TYPE_CHECKING:
    import torch

    from convstat.results.report import CacheInfo, Report


@dataclass(frozen=True, slots=True)
class Example:
    """The arguments of one forward pass: tensors, or anything that nests them.

    ``values`` says where their values are from, in words; None where only their shapes were asked for.
    ``notes`` say what was chosen of them that nobody asked for; ``cache`` is what a step of decoding begins with.
    ``constants`` are the keywords whose values are a part of the shapes, as the sizes of pictures are: they keep them.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    values: str | None = None
    notes: tuple[str, ...] = ()
    cache: CacheInfo | None = None
    constants: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse inputs that nobody can go through to their end."""
        reason = why_endless(self.args, "inputs") or why_endless(self.kwargs, "inputs")
        if reason is not None:
            help = "a forward pass is given tensors, and lists, tuples, dicts and dataclasses of them"
            raise SourceError(f"infinite inputs: {reason}", help=help)


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
    dtype: torch.dtype | None = None
    """The floating-point type that its weights have while it runs; None leaves them as they are."""
    is_made: bool = False
    """Whether ``make`` gives a model that is there already: it is used as it is, and left as it was."""
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    """What is entered around all that the user's code does, such as importing when it runs."""
    needs_cpu: bool = False
    """Whether the model can only be made and run on real tensors in the main memory, as quantized nets can."""
    explain: Callable[[Report], tuple[str, ...]] | None = None
    """Says what the report of this model assumes, in words."""


def made_once(recipe: Recipe) -> Recipe:
    """A recipe whose model is made once on the meta device, for several runs that leave it as they found it."""
    made: list[torch.nn.Module] = []

    def make() -> tuple[torch.nn.Module, Example | None]:
        import torch

        is_meta = torch.get_default_device().type == "meta"
        if made and is_meta:
            return made[0], None
        module, given = recipe.make()
        if is_meta and given is None and all(t.is_meta for t in module.parameters()):
            made.append(module)
        return module, given

    return replace(recipe, make=make)


class TooLargeError(EndlessError):
    """A model that takes too much memory."""


@patch
def quiet() -> Iterator[None]:
    """Run the user's code: what it prints goes to stderr, and what it imports leaves no compiled files behind."""
    import sys

    with no_compiled_files(), redirected(sys.stderr, "stdout"):
        yield


def failed(
    what: str,
    error: BaseException,
    *,
    mark: Mark | None = None,
    notes: tuple[str, ...] = (),
    help: tuple[str, ...] = (),
) -> SourceError:
    """Say what of the user's failed, with the innermost line that is neither torch's, nor Python's, nor ours."""
    if not help and wants_gpu(error):
        help = (NO_GPU,)
    return SourceError(Diagnostic(f"{what}: {reason(error)}", mark or users_line(error), notes=notes, help=help))


NO_GPU = "there is no GPU here: check torch.cuda.is_available() first, or do not move the model"

_NO_GPU = re.compile(
    r"not compiled with CUDA|NVIDIA driver|No CUDA GPUs|CUDA (?:error|driver)|not linked with support for"
)


def wants_gpu(error: BaseException) -> bool:
    """Whether something failed because it wants a GPU and there is none."""
    return _NO_GPU.search(text_of(error)) is not None


def text_of(error: BaseException) -> str:
    """The text of an exception; empty where it cannot even be asked for."""
    error = own(error)
    try:
        return str(error.msg if isinstance(error, SyntaxError) else error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ""


def reason(error: BaseException) -> str:
    """An exception in one line: ``ValueError: the first line of its message``."""
    error = own(error)
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        code = error.code
        return f"it called sys.exit({repr(code) if isinstance(code, (int, str)) else '' if code is None else '...'})"
    line = next((line.strip() for line in text_of(error).splitlines() if line.strip()), "")
    if isinstance(error, EndlessError):
        return line
    line = plain(line)
    line = line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON].rstrip()}..."
    return f"{kind}: {line}" if line else kind


LONGEST_REASON = 300
"""Characters of an exception's message that are shown."""


def users_line(error: BaseException) -> Mark | None:
    """The innermost line of the user's own on the way to an exception.

    A package that is installed is the user's where it is the one that was named: so files of torch and of Python
    itself never are, and other installed ones only if there is nothing better.
    """
    error = own(error)
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return _mark(error.filename, error.lineno, error.offset or 1, 1)
    return _users_frame(traceback.extract_tb(error.__traceback__))


def users_line_now() -> Mark | None:
    """The innermost line of the user's own that is running, of what we called and not of what called us."""
    frames = traceback.extract_stack()
    ours = str(Path(__file__).resolve().parents[1])
    called = next((place for place, frame in enumerate(frames) if frame.filename.startswith(ours)), 0)
    return _users_frame(frames[called:])


def _users_frame(frames: Sequence[traceback.FrameSummary]) -> Mark | None:
    ranked = [(rank, frame) for frame in frames if (rank := _rank(frame.filename)) > 0]
    best = max((rank for rank, _ in ranked), default=0)
    found = [frame for rank, frame in ranked if rank == best]
    if best == 1:
        # A package has its models in some files and what helps them in others: who reads is sent to the model.
        models = {frame.filename for frame in found if frame.name in ("forward", "__init__")}
        found = [frame for frame in found if frame.filename in models] or found
    return _frame_mark(found[-1]) if found else None


def _rank(filename: str) -> int:
    """2 for a file of the user's, 1 for an installed package's, 0 for torch's, Python's and ours."""
    import linecache
    import sys
    import sysconfig

    path = Path(filename)
    if not path.is_file():
        # The cells of a notebook are no files, and Python still knows their lines.
        return 2 if not filename.startswith("<") and linecache.getlines(filename) else 0
    path = path.resolve()
    if path.is_relative_to(Path(__file__).resolve().parents[1]) or is_torchs(path):
        return 0
    paths = sysconfig.get_paths()
    for name in ("purelib", "platlib"):
        folder = Path(paths[name]).resolve()
        if path.is_relative_to(folder):
            return 1
    python = (Path(paths["stdlib"]), Path(paths["platstdlib"]), Path(sys.base_prefix) / "lib")
    return 0 if any(path.is_relative_to(folder.resolve()) for folder in python) else 2


def is_foreign(filename: str) -> bool:
    """Whether a file is the user's or an installed package's, and neither torch's, nor Python's, nor ours."""
    return _rank(filename) > 0


def is_torchs(path: Path, *folders: str) -> bool:
    """Whether a file is one of torch's, wherever that is installed; with ``folders``, one in these."""
    import sys

    for name in ("torch", "torchvision", "functorch"):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and any(path.is_relative_to(Path(file).resolve().parent / folder) for folder in folders or ("",)):
            return True
    return False


def definition(function: Any) -> Mark | None:
    """The place of a function of the user's own."""
    code = getattr(function, "__code__", None)
    return _mark(code.co_filename, code.co_firstlineno) if code is not None and _rank(code.co_filename) > 1 else None


def _frame_mark(frame: traceback.FrameSummary) -> Mark | None:
    import linecache

    line, column, end = frame.lineno or 1, frame.colno, frame.end_colno
    if column is None or end is None:
        return _mark(frame.filename, line)
    # Python counts the bytes of UTF-8.
    written = linecache.getline(frame.filename, line).encode("utf-8", "replace")
    column, end = (len(written[:place].decode("utf-8", "ignore")) for place in (column, end))
    length = end - column if frame.end_lineno in (None, frame.lineno) else None
    return _mark(frame.filename, line, column + 1, length)


def _mark(filename: str, line: int, column: int | None = None, length: int | None = None) -> Mark | None:
    """A mark in a file; without a column, the whole line, and without a length, what follows the column."""
    import linecache
    import os

    linecache.checkcache(filename)
    text = "".join(linecache.getlines(filename))
    if not text:
        return None
    shown = filename
    if Path(filename).is_file():
        near = os.path.relpath(filename)
        shown = filename if near.startswith("..") else near
    source = SourceText(shown, text)
    code = source.lines[line - 1] if 0 < line <= len(source.lines) else ""
    start = column or len(code) - len(code.lstrip()) + 1
    rest = len(code.rstrip()) - start + 1
    return Mark(source, line, start, max(1, rest if length is None else min(length, rest)))
