"""A page: what a result says, before anybody decides how wide or in which format.

A view turns a result into a page; a renderer lays a page out.
So the terminal and Markdown say the same, and neither can forget a line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Align = Literal["left", "right"]

Tone = Literal["", "strong", "quiet", "good", "bad", "warn"]
"""What a text means; the terminal renderer picks a colour, the others do without."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    ``priority`` 0 is never dropped; of the others, the largest goes first when the room is short.
    ``name`` is what the column is called where its heading alone would not say it.
    A ``shortens`` column holds names: down to ``comfort`` cells they are shortened rather than lose a column.
    ``graphic`` marks a column that only makes sense side by side with its neighbours: a bar.
    """

    title: str
    align: Align = "right"
    priority: int = 0
    name: str = ""
    shortens: bool = False
    comfort: int = 24
    graphic: bool = False

    @property
    def label(self) -> str:
        """The name, where a heading has to stand alone."""
        return self.name or self.title


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a text for each column; ``indent`` is the depth of the first one in a tree."""

    cells: tuple[str, ...]
    tone: Tone = ""
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; ``totals`` stand below a line."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    totals: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of what follows; ``level`` 1 is a result, 2 a part of it."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Line:
    """One statement."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Facts with their names: ``input  3x224x224``."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Item:
    """An amount, or another short lead, and the words for it."""

    lead: str
    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Items:
    """Amounts, one under the other, each with its words."""

    items: tuple[Item, ...]


Block = Table | Heading | Line | Pairs | Items


@dataclass(frozen=True, slots=True)
class Page:
    """Blocks from top to bottom."""

    blocks: tuple[Block, ...] = field(default_factory=tuple)
