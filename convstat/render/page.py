"""A page: what a result says, before anybody decides how wide or in which format.

A view turns a result into a page; a renderer lays a page out.
So the terminal and Markdown say the same, and neither can forget a line.
These are named tuples: a dataclass costs a millisecond each time the program starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias, TypeVar

Align = Literal["left", "right"]

Tone = Literal["", "strong", "quiet", "good", "bad", "warn"]
"""What a text means; the terminal renderer picks a colour, the others do without."""


class Column(NamedTuple):
    """One column of a table.

    ``priority`` 0 is never dropped; of the others, the largest goes first when the room is short.
    ``name`` is what the column is called where its heading alone would not say it.
    A ``shortens`` column holds names: down to ``comfort`` cells they are shortened rather than lose a column;
    one that is ``prose`` holds sentences, which lose their end and not their middle.
    The cells of one that ``assigns`` are values: where its heading is not above them, it is before them, ``groups=1``.
    The cells of one that ``breaks`` are formulas: where a line is too short, they go on below, after an operator.
    ``graphic`` marks a column that only makes sense side by side with its neighbours: a bar.
    """

    title: str
    align: Align = "right"
    priority: int = 0
    name: str = ""
    shortens: bool = False
    comfort: int = 24
    graphic: bool = False
    assigns: bool = False
    breaks: bool = False
    prose: bool = False

    @property
    def label(self) -> str:
        """The name, where a heading has to stand alone."""
        return self.name or self.title


class Row(NamedTuple):
    """One row: a text for each column; ``indent`` is the depth of the first one in a tree, ``lead`` is drawn there."""

    cells: tuple[str, ...]
    tone: Tone = ""
    indent: int = 0
    lead: str = ""

    @property
    def leading(self) -> str:
        """What stands before the first text: the lines of a tree, or blanks."""
        return self.lead or "  " * self.indent


class Table(NamedTuple):
    """Rows under columns; ``total`` stands below a line."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    total: Row | None = None

    @property
    def every(self) -> tuple[Row, ...]:
        """The rows, the total last."""
        return self.rows if self.total is None else (*self.rows, self.total)


T = TypeVar("T")

Fields: TypeAlias = Sequence[tuple[Column, Callable[[T], str]]]
"""The columns of a table of things, each with what writes the cell of one."""


def written(fields: Fields[T], item: T) -> tuple[str, ...]:
    """The cells of one thing."""
    return tuple(write(item) for _, write in fields)


def tabulated(fields: Fields[T], items: Iterable[T], tone: Callable[[T], Tone] = lambda item: "") -> Table:
    """A table with a row for each thing."""
    rows = tuple(Row(written(fields, item), tone(item)) for item in items)
    return Table(tuple(column for column, _ in fields), rows)


class Heading(NamedTuple):
    """The title of what follows; ``level`` 1 is a result, 2 a part of it."""

    text: str
    level: int = 2


class Line(NamedTuple):
    """One statement."""

    text: str
    tone: Tone = ""


class Pairs(NamedTuple):
    """Facts with their names: ``input  3x224x224``."""

    items: tuple[tuple[str, str], ...]


class Item(NamedTuple):
    """An amount, or another short lead, and the words for it."""

    lead: str
    text: str
    tone: Tone = ""


class Items(NamedTuple):
    """Amounts, one under the other, each with its words; names are aligned to the left."""

    items: tuple[Item, ...]
    align: Align = "right"


Block = Table | Heading | Line | Pairs | Items


class Page(NamedTuple):
    """Blocks from top to bottom."""

    blocks: tuple[Block, ...]
