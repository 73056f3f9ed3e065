"""The format for comments and notes: the same page as in a terminal, as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from convstat.render.base import Options, Renderer, Result
from convstat.render.page import Block, Heading, Items, Line, Page, Pairs, Row, Table, Tone

_SPECIAL = re.compile(r"([\\`*_\[\]{}<>|~#$@&]|:(?=[\w+-]+:))")
_AT_START = re.compile(r"^(\s*)(?=[-+=]|\d+[.)]\s)")

RULES = {"left": ":--", "right": "--:"}


class MarkdownRenderer(Renderer):
    """Tables, with everything in them escaped."""

    name = "markdown"
    suffixes = (".md", ".markdown")
    about = "for notes and web pages: GitHub-flavoured Markdown"

    def render(self, results: Sequence[Result], options: Options) -> str:
        from convstat.render.views import view

        return "\n".join(line for result in results for line in write_page(view(result, options)))


def escape(text: str) -> str:
    r"""Make a text stand for itself: no markup, no HTML, no mention, no end of a table cell.

    >>> escape("x[/b]:x:|=<script>")
    'x\\[/b\\]\\:x:\\|=\\<script\\>'
    """
    return _SPECIAL.sub(r"\\\1", text)


def write_page(page: Page) -> Iterator[str]:
    """Write the blocks, a blank line after each."""
    for block in page.blocks:
        yield from _write_block(block)
        yield ""


def _write_block(block: Block) -> Iterator[str]:
    match block:
        case Heading():
            yield f"{'#' * (block.level + 2)} {escape(block.text)}"
        case Line():
            # It is to start no list and no heading.
            yield _toned(_AT_START.sub(r"\1\\", escape(block.text.strip())), block.tone)
        case Pairs():
            yield from (f"- **{escape(n)}**: {escape(t)}" if n else f"  - {escape(t)}" for n, t in block.items)
        case Items():
            # Without a lead, it belongs to the one above.
            yield from (
                f"- **{escape(i.lead)}** {escape(i.text)}" if i.lead else f"  - {escape(i.text)}" for i in block.items
            )
        case Table():
            yield from _write_table(block)


def _write_table(table: Table) -> Iterator[str]:
    columns = [p for p, column in enumerate(table.columns) if not column.graphic]
    yield cells([escape(table.columns[p].title) for p in columns])
    yield cells([RULES[table.columns[p].align] for p in columns])

    def write(row: Row) -> str:
        texts = [escape(row.cells[p]) for p in columns]
        if row.indent:
            # A blank at the start of a cell is dropped, a no-break space is not.
            texts[0] = "&nbsp;&nbsp;" * row.indent + texts[0]
        return cells([_toned(text, row.tone) for text in texts])

    yield from map(write, table.every)


def cells(texts: Sequence[str]) -> str:
    """Write a row of a table."""
    return f"| {' | '.join(texts)} |"


def _toned(text: str, tone: Tone) -> str:
    return f"**{text}**" if tone in ("strong", "bad") and text else text


def cut(text: str, longest: int) -> str:
    """Leave out the last lines of a text that has more bytes than may be, and say how many.

    >>> cut("one\\n" * 100, 150).splitlines()[-1]
    '(88 more lines are omitted: the limit is 150 bytes)'
    """
    if len(text.encode("utf-8", "backslashreplace")) <= longest:
        return text
    lines = text.splitlines(keepends=True)
    room = longest - 100
    kept = 0
    for line in lines:
        room -= len(line.encode("utf-8", "backslashreplace"))
        if room < 0:
            break
        kept += 1
    # What was opened is closed, so that nothing after the text is folded away with it.
    is_open = sum(line.startswith("<details>") - line.startswith("</details>") for line in lines[:kept]) > 0
    end = "\n</details>\n" if is_open else "\n"
    rest = len(lines) - kept
    return "".join(lines[:kept]) + f"{end}({rest:,} more lines are omitted: the limit is {longest:,} bytes)\n"
