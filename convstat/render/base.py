"""What a renderer is, and the table of those there are.

Others can add a format through the entry-point group ``convstat.renderers``:
a name, and a subclass of :class:`Renderer`. They are only looked for when a format is not one of ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

from convstat.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from convstat.budget import Check
    from convstat.comparison import Comparison
    from convstat.diff import Diff
    from convstat.explain import Explanation
    from convstat.identify import Identification
    from convstat.render.console import Terminal
    from convstat.render.listing import Listing
    from convstat.report import Report

    Result: TypeAlias = Report | Comparison | Check | Diff | Listing | Explanation | Identification

ENTRY_POINTS = "convstat.renderers"

DEFAULT_WIDTH = 120
"""The width where nobody says one: in a pipe or a file."""


class Options(NamedTuple):
    """How to show a result: nothing here changes what was counted.

    ``depth`` folds blocks below that many levels, ``flat`` shows layers without their blocks,
    ``sort`` is a column and ``top`` how many layers are shown; the others are folded into one row.
    """

    width: int = DEFAULT_WIDTH
    ascii: bool = False
    depth: int | None = None
    flat: bool = False
    sort: str | None = None
    top: int | None = None


class Renderer(ABC):
    """One output format."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    """The file names that mean this format, with the dot."""
    about: ClassVar[str]
    """One line for ``convstat list formats``."""
    is_view: ClassVar[bool] = True
    """Whether ``depth``, ``flat``, ``sort`` and ``top`` choose what it shows; one for programs holds every layer."""

    @abstractmethod
    def render(self, results: Sequence[Result], options: Options) -> str:
        """Write results as text that ends with a newline; several are one document where the format has such."""

    def show(self, results: Sequence[Result], options: Options, terminal: Terminal) -> None:
        """Write results to a terminal or to standard output."""
        terminal.write(self.render(results, options))


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
            self._table[name] = getattr(import_module(module), attribute)
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
        from importlib.metadata import entry_points

        for point in entry_points(group=ENTRY_POINTS):
            self.add(point.load())

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
        """Make the renderer that a file name asks for, None where its suffix says nothing."""
        for attempt in (0, 1):
            for renderer in self.values():
                if path.lower().endswith(renderer.suffixes):
                    return renderer()
            if attempt == 0:
                self.load_plugins()
        return None
