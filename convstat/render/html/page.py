"""A page as a piece of HTML that needs nothing around it: for notebooks.

Every text is escaped; there is no script, no image and no address in it.
"""

from __future__ import annotations

from html import escape

from convstat.render.layout import INDENT
from convstat.render.page import Block, Heading, Items, Line, Page, Pairs, Table, Tone

TONES: dict[Tone, str] = {
    "": "",
    "strong": "font-weight:bold",
    "quiet": "opacity:.65",
    "good": "color:#1a7f37",
    "bad": "color:#c62828;font-weight:bold",
    "warn": "color:#9a6700",
}
"""How each tone looks; readable on light and on dark ground."""


def to_html(page: Page) -> str:
    """Write a page as one ``div``."""
    return f'<div class="convstat">{"".join(map(_block, page.blocks))}</div>\n'


def _block(block: Block) -> str:
    match block:
        case Heading():
            level = 3 if block.level == 1 else 4
            return f"<h{level}>{escape(block.text)}</h{level}>"
        case Line():
            return f"<p{_style(TONES[block.tone])}>{escape(block.text)}</p>"
        case Pairs():
            return _grid([((name, "left", ""), (text, "left", "")) for name, text in block.items])
        case Items():
            return _grid([((i.lead, block.align, i.tone), (i.text, "left", i.tone)) for i in block.items])
        case Table():
            return _table(block)


def _grid(rows: list[tuple[tuple[str, str, Tone], ...]]) -> str:
    lines = (
        "<tr>" + "".join(_cell("td", text, align, tone=tone) for text, align, tone in row) + "</tr>" for row in rows
    )
    return f"<table>{''.join(lines)}</table>"


def _table(table: Table) -> str:
    """Bars stay away: a notebook has room for the numbers that they repeat."""
    shown = [place for place, column in enumerate(table.columns) if not column.graphic]
    head = "".join(_cell("th", table.columns[place].title, table.columns[place].align) for place in shown)
    body = []
    for number, row in enumerate(table.every):
        border = "border-top:1px solid" if number == len(table.rows) else ""
        body.append(
            "<tr>"
            + "".join(
                _cell(
                    "td",
                    row.cells[place],
                    table.columns[place].align,
                    tone=row.tone,
                    indent=row.indent if place == 0 else 0,
                    more=border,
                )
                for place in shown
            )
            + "</tr>"
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _cell(tag: str, text: str, align: str, *, tone: Tone = "", indent: int = 0, more: str = "") -> str:
    styles = [f"text-align:{align}", TONES[tone], more]
    if indent:
        styles.append(f"padding-left:{INDENT * indent + 1}ch")
    return f"<{tag}{_style(*styles)}>{escape(text)}</{tag}>"


def _style(*parts: str) -> str:
    joined = ";".join(part for part in parts if part)
    return f' style="{joined}"' if joined else ""
