"""The format for people: pages laid out for a width, with colour where the stream has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from convstat.render import layout
from convstat.render.base import Options, Renderer
from convstat.render.console import Span
from convstat.render.page import Block, Heading, Items, Line, Page, Pairs, Table, Tone
from convstat.text.printable import ASCII_ELLIPSIS, UNICODE_ELLIPSIS, cells

if TYPE_CHECKING:
    from convstat.render.base import Result
    from convstat.render.console import Terminal

StyledLine = list[Span]

NARROWEST_PROSE = 24
"""Words are not set beside an amount in less room than this; they go below it."""


class TableRenderer(Renderer):
    """The reconciled table, the causes and the layers, for reading."""

    name: ClassVar[str] = "table"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    about: ClassVar[str] = "for reading: fits the width, never cuts a number"

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Lay results out as plain text."""
        text = "".join("".join(part for part, _ in line) + "\n" for line in self.lines(results, options))
        return text.encode("ascii", "backslashreplace").decode("ascii") if options.ascii else text

    def show(self, results: Sequence[Result], options: Options, terminal: Terminal) -> None:
        """Lay results out in the colours of the terminal."""
        terminal.write_lines(self.lines(results, options))

    def lines(self, results: Sequence[Result], options: Options) -> list[StyledLine]:
        """Lay results out, one after the other."""
        from convstat.render.views import view

        lines: list[StyledLine] = []
        for result in results:
            if lines:
                lines += [[], []]
            lines += lay_out_page(view(result, options), options)
        return lines


def lay_out_page(page: Page, options: Options) -> list[StyledLine]:
    """Lay the blocks of a page out, a blank line before each heading and table."""
    lines: list[StyledLine] = []
    previous: Block | None = None
    for block in page.blocks:
        apart = isinstance(block, Heading) or not (isinstance(previous, Heading) or type(previous) is type(block))
        if lines and apart:
            lines.append([])
        lines += _lay_out_block(block, options)
        previous = block
    return lines


def _lay_out_block(block: Block, options: Options) -> list[StyledLine]:
    match block:
        case Table():
            return _lay_out_table(block, options)
        case Heading():
            return [[(text, "strong")] for text in wrap(block.text, options.width)]
        case Line():
            return [[(text, block.tone)] for text in wrap(block.text, options.width)]
        case Pairs():
            return _beside([(name, text, "", "quiet") for name, text in block.items], options.width, "left")
        case Items():
            return _beside([(i.lead, i.text, i.tone, "strong") for i in block.items], options.width, block.align)


def _lay_out_table(table: Table, options: Options) -> list[StyledLine]:
    ellipsis = ASCII_ELLIPSIS if options.ascii else UNICODE_ELLIPSIS
    chosen = layout.fit(table, options.width)
    write = layout.stack(table, chosen, options.width, ellipsis=ellipsis) if chosen.stacked else None
    if write is None:
        write = layout.lay_out(table, chosen, ellipsis=ellipsis)
    lines: list[StyledLine] = [[(text, row.tone if row is not None else "quiet")] for text, row in write]
    if names := layout.hidden_names(table, chosen):
        count = f"{len(names)} column{'s' if len(names) > 1 else ''}"
        room = layout.needed_width(table)
        note = f"({count} hidden: {', '.join(names)}; shown with --width {room} or -f json)"
        lines += [[(text, "quiet")] for text in wrap(note, options.width)]
    return lines


def _beside(rows: Sequence[tuple[str, str, Tone, Tone]], width: int, align: str) -> list[StyledLine]:
    """Set words beside their leads, which stand under one another; below them where the room is short."""
    lead_room = max((cells(lead) for lead, *_ in rows), default=0)
    prose_room = width - 2 - lead_room - layout.GAP
    lines: list[StyledLine] = []
    for lead, text, tone, lead_tone in rows:
        lead_tone = tone or lead_tone
        if prose_room < NARROWEST_PROSE:
            lines.append([("  " + lead, lead_tone)])
            lines += [[("    " + part, tone)] for part in wrap(text, width - 4)]
            continue
        blanks = " " * (lead_room - cells(lead))
        head = blanks + lead if align == "right" else lead + blanks
        first, *rest = wrap(text, prose_room) or [""]
        head = head if first else head.rstrip()
        lines.append([("  " + head, lead_tone), (" " * layout.GAP + first, tone)] if first else [("  " + head, tone)])
        lines += [[(" " * (2 + lead_room + layout.GAP) + part, tone)] for part in rest]
    return lines


def wrap(text: str, width: int) -> list[str]:
    """Break a text between words, and only there: a number or a name that is too long sticks out.

    >>> wrap("difference of 43,252,712 MACs", 14)
    ['difference of', '43,252,712', 'MACs']
    """
    lines: list[str] = []
    current = ""
    for word in text.split(" "):
        if current and cells(current) + 1 + cells(word) > width:
            lines.append(current)
            current = word
        else:
            current = f"{current} {word}" if current else word
    return [*lines, current] if current else lines
