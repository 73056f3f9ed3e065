"""The base class of renderers, and the table of formats.

Packages can add a format through the entry-point group ``convstat.renderers``: a name, and a subclass of
:class:`Renderer`. Entry points are loaded only if the requested format is not a built-in one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

from convstat.errors import ConvstatError, UsageError, did_you_mean
from convstat.patches.guard import guard, in_words
from convstat.patches.plugins import offered
from convstat.render.console import DEFAULT_WIDTH

if TYPE_CHECKING:
    from convstat.render.console import Terminal
    from convstat.results.advice import Advice
    from convstat.results.arena import Arena
    from convstat.results.check import Check
    from convstat.results.comparison import Comparison
    from convstat.results.diff import Diff
    from convstat.results.explanation import Explanation
    from convstat.results.formula import KindFormula, NetworkFormula
    from convstat.results.identification import Identification
    from convstat.results.listing import Listing
    from convstat.results.memory import Memory
    from convstat.results.mfu import Mfu
    from convstat.results.ratio import RatioFormula
    from convstat.results.report import Report

Formula: TypeAlias = "NetworkFormula | KindFormula | RatioFormula"
Result: TypeAlias = (
    "Report | Comparison | Check | Diff | Listing | Explanation | Identification | Formula | Advice | Memory | Arena "
    "| Mfu"
)
"""Anything that can be shown."""

ENTRY_POINTS = "convstat.renderers"

KINDS: Mapping[str, str] = {
    "report": "a report",
    "comparison": "a comparison",
    "check": "a check",
    "diff": "a diff",
    "listing": "a list",
    "explanation": "an explanation",
    "identification": "an identification",
    "formula": "a formula",
    "advice": "a suggestion list",
    "memory": "a memory profile",
    "mfu": "a utilisation",
    "arena": "a plan of an arena",
}
"""Every kind of result, and what a message calls it."""


class Options(NamedTuple):
    """How to show a result: nothing here changes what was counted.

    ``depth`` folds blocks below that many levels, ``flat`` shows layers without their blocks,
    ``sort`` is a column and ``top`` how many layers are shown; the others are folded into one row.
    ``title`` tells documents of one kind apart that end up in one place: comments on a pull request.
    ``columns`` are the only columns of tables, in this order. ``units`` and ``labels`` are for papers: the unit of
    counts (``auto``, ``k``, ``M`` ...), and LaTeX for the names of rows.
    ``score`` are the weights of a challenge's final score.
    With ``per``, MACs/pixel were asked for: like the column of ``sort``, they are shown however short the room is.
    """

    width: int = DEFAULT_WIDTH
    ascii: bool = False
    depth: int | None = None
    flat: bool = False
    sort: str | None = None
    top: int | None = None
    title: str | None = None
    per: bool = False
    score: tuple[Fraction, Fraction, Fraction] | None = None
    columns: tuple[str, ...] = ()
    units: str | None = None
    labels: Mapping[str, str] = MappingProxyType({})


class Renderer(ABC):
    """An output format."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    """The file name suffixes of this format, including the dot."""
    about: ClassVar[str]
    """The purpose of the format, one line for ``convstat list formats``."""
    expresses: ClassVar[tuple[str, ...]] = tuple(KINDS)
    """The kinds of results that it can represent; others are rejected before any work is done."""
    is_view: ClassVar[bool] = True
    """Whether ``depth``, ``flat``, ``sort`` and ``top`` apply; formats for programs always contain every layer."""

    counters: ClassVar[tuple[str, ...]] = ()
    """The counters whose figures it shows; they are predicted where no others are asked for; ``none``: no other."""
    inputs: ClassVar[tuple[str, ...]] = ()
    """The inputs that its figures are for, as ``--input`` takes them; used where none are given."""

    @abstractmethod
    def render(self, results: Sequence[Result], options: Options) -> str:
        """Return results as text that ends with a newline; several form one document if the format allows it."""

    def prepare(self, kind: str) -> None:
        """Check the requirements of such a result before any work is done; raises UsageError."""
        return

    def encode(self, results: Sequence[Result], options: Options) -> bytes:
        """Return results as the bytes of a file; image formats have only these."""
        from convstat.text.printable import harmless

        return harmless(_rendered(self, results, options)).encode("utf-8", "backslashreplace")

    def show(self, results: Sequence[Result], options: Options, terminal: Terminal) -> None:
        """Write results to a terminal or to standard output."""
        terminal.write(_rendered(self, results, options))


class Renderers(Mapping[str, type[Renderer]]):
    """The formats by name; refuses two of one name or one suffix.

    Ours are given as ``module:class`` and are imported when they are used.
    """

    def __init__(self, builtin: Mapping[str, str]) -> None:
        self._places = dict(builtin)
        self._table: dict[str, type[Renderer]] = {}
        self._complete = False

    def add(self, renderer: type[Renderer]) -> None:
        """Add a format."""
        if renderer.name in self._places:
            raise RuntimeError(f"two formats are called '{renderer.name}': {self[renderer.name]} and {renderer}")
        for other in self.values():
            if common := set(other.suffixes) & set(renderer.suffixes):
                raise RuntimeError(f"formats '{other.name}' and '{renderer.name}' both claim {min(common)}")
        self._places[renderer.name] = f"{renderer.__module__}:{renderer.__qualname__}"
        self._table[renderer.name] = renderer

    def __getitem__(self, name: str) -> type[Renderer]:
        if name not in self._table:
            from importlib import import_module

            module, _, attribute = self._places[name].partition(":")
            renderer = getattr(import_module(module), attribute)
            if lacks := [field for field in ("name", "suffixes", "about") if not hasattr(renderer, field)]:
                raise RuntimeError(f"the format {self._places[name]} has no {', '.join(lacks)}")
            self._table[name] = renderer
        return self._table[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def load_plugins(self) -> None:
        """Add the formats of installed plugins, once."""
        if self._complete:
            return
        self._complete = True
        for _, _, renderer in offered(ENTRY_POINTS, Renderer):  # type: ignore[type-abstract]
            self.add(renderer)

    def named(self, name: str) -> Renderer:
        """Make the renderer of a format; raises UsageError for one that does not exist."""
        if name not in self:
            self.load_plugins()
        if name not in self:
            raise UsageError(
                f"unknown format '{name}'", help=(*did_you_mean(name, self), f"formats: {', '.join(self)}")
            )
        return self[name]()

    def for_path(self, path: str) -> Renderer | None:
        """Make the renderer that a file name asks for, None where its suffix says nothing.

        The longest suffix decides: ``comment.md`` is a comment, and ``notes.md`` is Markdown.
        """
        for attempt in (0, 1):
            lower = path.lower()
            claims = [(suffix, name) for name in self for suffix in self[name].suffixes if lower.endswith(suffix)]
            if claims:
                return self[max(claims, key=lambda claim: len(claim[0]))[1]]()
            if attempt == 0:
                self.load_plugins()
        return None

    def able(self, kind: str) -> list[str]:
        """The formats that can say a kind of result."""
        return [name for name, renderer in self.items() if kind in renderer.expresses]

    def require(self, renderer: Renderer, kind: str) -> None:
        """Refuse a format for a kind of result that it cannot say, and name those that can."""
        if kind not in renderer.expresses:
            said = ", ".join(KINDS[name].split(" ", 1)[1] + "s" for name in renderer.expresses if name in KINDS)
            raise UsageError(
                f"the format {renderer.name} cannot represent {KINDS[kind]}, only {said}",
                help=f"formats that can: {', '.join(self.able(kind))}",
            )


def _rendered(renderer: Renderer, results: Sequence[Result], options: Options) -> str:
    """The text of a format; what goes wrong in that of a plugin is said with its name."""
    place = type(renderer).__module__
    if place.startswith("convstat."):
        return renderer.render(results, options)
    try:
        with guard(f"the format {renderer.name} ({place})"):
            return renderer.render(results, options)
    except ConvstatError:
        raise
    except Exception as error:
        raise UsageError(
            f"the format {renderer.name} ({place}) failed: {in_words(error)}", help="uninstall or repair it"
        ) from error
