"""The blocks of a page as HTML: with the classes of a stylesheet, or dressed one by one for a notebook.

Every text is escaped; there is no script, no image and no address in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Protocol

from convstat.render.page import Align, Block, Heading, Items, Line, Page, Pairs, Row, Table, Tone


class Dress(Protocol):
    """How an element looks: its attributes, led by a blank."""

    def __call__(self, kind: str, tone: Tone = "", align: Align = "left", indent: int = 0) -> str:
        """Give the attributes of an element of a kind: ``facts``, ``amounts``, ``wide``, ``table``, ``total``."""
        ...


CLASSES = {"facts": "facts", "amounts": "amounts", "wide": "wide", "table": "sortable"}

_BESIDE = "display:grid;grid-template-columns:max-content 1fr;gap:0 1.5em;margin:0"
STYLES = {"facts": _BESIDE, "amounts": _BESIDE, "wide": "overflow-x:auto", "total": "border-top:1px solid"}
TONES: dict[Tone, str] = {
    "": "",
    "strong": "font-weight:bold",
    "quiet": "opacity:.65",
    "good": "color:#1a7f37",
    "bad": "color:#c62828;font-weight:bold",
    "warn": "color:#9a6700",
}
"""How each tone looks in a notebook; readable on light and on dark ground."""


def classes(kind: str, tone: Tone = "", align: Align = "left", indent: int = 0) -> str:
    """Name the classes of a stylesheet."""
    right = {"left": "", "right": "right" if kind == "amounts" else "r"}[align]
    names = " ".join(filter(None, (CLASSES.get(kind), tone, right)))
    return (f' class="{names}"' if names else "") + (f' style="padding-left:{2 * indent}ch"' if indent else "")


def styles(kind: str, tone: Tone = "", align: Align = "left", indent: int = 0) -> str:
    """Write the rules of style themselves."""
    aside = f"text-align:{align}" if kind in ("", "dt", "total") else ""
    deeper = f"padding-left:{2 * indent + 1}ch" if indent else ""
    names = ";".join(filter(None, (STYLES.get(kind), aside, TONES[tone], deeper)))
    return f' style="{names}"' if names else ""


def to_html(page: Page) -> str:
    """Write a page as one ``div`` that needs nothing around it."""
    return f'<div class="convstat">{"".join(write_block(block, styles, 2) for block in page.blocks)}</div>\n'


def write_block(block: Block, dress: Dress, level: int) -> str:
    """Write one block; titles are headings one below ``level``."""
    match block:
        case Heading():
            return f"<h{level + block.level}>{escape(block.text)}</h{level + block.level}>\n"
        case Line():
            return f"<p{dress('p', block.tone)}>{escape(block.text)}</p>\n"
        case Pairs():
            return _list("facts", [(name, text, "") for name, text in block.items], "left", dress)
        case Items():
            return _list("amounts", block.items, block.align, dress)
        case Table():
            return _table(block, dress)


def _list(kind: str, items: Sequence[tuple[str, str, Tone]], align: Align, dress: Dress) -> str:
    lines = (
        f"<dt{dress('dt', tone, align)}>{escape(lead)}</dt><dd{dress('dd', tone)}>{escape(text)}</dd>"
        for lead, text, tone in items
    )
    return f"<dl{dress(kind, align=align)}>{''.join(lines)}</dl>\n"


def _table(table: Table, dress: Dress) -> str:
    """Write a table without its bars: there is room for the numbers that they repeat."""
    shown = [place for place, column in enumerate(table.columns) if not column.graphic]

    def write(row: Row, kind: str = "") -> str:
        cells = (
            f"<td{dress(kind, row.tone, table.columns[p].align, 0 if p else row.indent)}>{escape(row.cells[p])}</td>"
            for p in shown
        )
        return f"<tr>{''.join(cells)}</tr>\n"

    columns = [table.columns[place] for place in shown]
    head = "".join(
        f'<th scope="col"{dress("", align=column.align)} title="{escape(column.label)}">{escape(column.title)}</th>'
        for column in columns
    )
    foot = f"<tfoot>{write(table.total, 'total')}</tfoot>" if table.total else ""
    body = "".join(map(write, table.rows))
    return (
        f"<div{dress('wide')}><table{dress('table')}><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody>{foot}</table></div>\n"
    )
