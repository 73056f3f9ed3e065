"""The columns of a page's tables that are asked for, in the order in which they are."""

from __future__ import annotations

import re
from collections.abc import Sequence

from convstat.errors import UsageError, did_you_mean
from convstat.render.page import Column, Page, Row, Table


def choose(page: Page, names: Sequence[str]) -> Page:
    """Keep the columns with these names in every table, after the one that names the rows; drop a table without any.

    A column is called by its heading or by the name that is said where it is hidden, ``share`` or ``share of MACs``;
    one of quotients also without its prefix: ``MACs/pixel``. Raises UsageError for a name that no table has.
    """
    tables = [block for block in page.blocks if isinstance(block, Table)]
    known = list(dict.fromkeys(name for table in tables for column in table.columns for name in _names(column)))
    for name in names:
        if name.lower() not in (other.lower() for other in known):
            raise UsageError(
                f"no table has a column '{name}'", help=(*did_you_mean(name, known), f"columns: {', '.join(known)}")
            )
    blocks = [_chosen(block, names) if isinstance(block, Table) else block for block in page.blocks]
    return Page(tuple(block for block in blocks if not isinstance(block, Table) or len(block.columns) > 1))


def _names(column: Column) -> list[str]:
    if column.graphic or not column.title:
        return []
    whole = re.sub(r"^[kMGT](?=MACs/)", "", column.title)
    return list(dict.fromkeys((whole, column.title, column.label)))


def _chosen(table: Table, names: Sequence[str]) -> Table:
    labels = max(1, sum(column.assigns or column.title == "model" for column in table.columns))
    places = list(range(labels))
    for name in names:
        places += [
            place
            for place, column in enumerate(table.columns)
            if place not in places and name.lower() in (other.lower() for other in _names(column))
        ]
    if len(places) == labels:
        # Names of rows alone say nothing.
        places = []

    def row(of: Row) -> Row:
        return of._replace(cells=tuple(of.cells[place] for place in places))

    columns = tuple(table.columns[place]._replace(priority=0) for place in places)
    return Table(columns, tuple(map(row, table.rows)), table.total and row(table.total))
