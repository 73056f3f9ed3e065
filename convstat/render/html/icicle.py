"""Where the MACs and the params are, drawn: each block above what is in it, as wide as its share.

The drawing is SVG without a script: names and figures are titles, which a browser shows beside the pointer.
Positions are quotients of integers up to the last step, so the parts of a block fill it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from convstat.render.html.layer_tree import Entry
from convstat.text.printable import exact, share, shorten

WIDTH = 1000
HEIGHT = 24
DEEPEST = 12
"""Levels below this are not drawn; the table has them."""

MOST = 2_500
"""The parts of one drawing: the narrowest are left away until there are no more than these."""

CELL = 6.6
"""The width of a character, in units of the drawing."""

LEAST_LABEL = 7
"""A name that has not even this many characters of room is only in the title."""

COLOURS = 8


class Metric(NamedTuple):
    """What a drawing is about: the attribute, and what it is called."""

    name: str
    title: str


METRICS = (Metric("macs", "MACs"), Metric("params", "params"))


def colours(entries: Sequence[Entry]) -> Mapping[str, int]:
    """Give the types that cost most a colour each; all others share the last one."""
    costs: dict[str, int] = {}
    for entry in entries:
        if not entry.is_block:
            costs[_kind(entry)] = costs.get(_kind(entry), 0) + entry.macs + entry.params
    ranked = sorted((kind for kind, cost in costs.items() if cost), key=lambda kind: -costs[kind])
    return {kind: min(place, COLOURS - 1) for place, kind in enumerate(ranked)}


def _kind(entry: Entry) -> str:
    return entry.type.partition(" (")[0]


def drawing(entries: Sequence[Entry], metric: Metric, whole: int, name: str, prefix: str = "") -> str:
    """Write a ``figure``: the model on top, then its blocks, then their layers.

    ``prefix`` leads the names of the rows that its parts belong to.
    """
    parts = _parts(entries, metric, whole)
    narrowest = sorted((span for *_, span in parts), reverse=True)[MOST - 1] if len(parts) > MOST else 0
    drawn = [part for part in parts if part[3] > narrowest or not narrowest]
    kinds = colours(entries)
    deepest = max((level for _, level, _, _ in drawn), default=0)
    height = HEIGHT * (deepest + 2)
    label = f"{metric.title} of {name} by layer"
    lines = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">',
        f'<g data-row=""><title>{escape(name)}: {exact(whole)} {metric.title}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}"/>{_label(f"{name}  {exact(whole)} {metric.title}", 0, 0, WIDTH)}</g>',
    ]
    for place, level, start, span in drawn:
        entry = entries[place]
        amount = getattr(entry, metric.name)
        x, width, y = WIDTH * start / whole, WIDTH * span / whole, HEIGHT * (level + 1)
        colour = "" if entry.is_block else f' class="c{kinds.get(_kind(entry), COLOURS - 1)}"'
        title = f"{entry.path or entry.name}  {entry.type}: {exact(amount)} {metric.title} ({share(amount, whole)})"
        lines.append(
            f'<g{colour} data-row="{prefix}r{place}"><title>{escape(title)}</title>'
            f'<rect x="{x:.2f}" y="{y}" width="{max(width, 0.3):.2f}" height="{HEIGHT}"/>'
            f"{_label(entry.name, x, y, width)}</g>"
        )
    lines.append("</svg>")
    hidden = len(parts) - len(drawn)
    note = f"; the {hidden:,} narrowest parts are not drawn" if hidden else ""
    return f"<figure>{''.join(lines)}<figcaption>{_legend(entries, metric, whole, kinds)}{note}</figcaption></figure>"


def _parts(entries: Sequence[Entry], metric: Metric, whole: int) -> list[tuple[int, int, int, int]]:
    """Place each entry: its number, its level, where it starts and how far it goes, both in units of the metric."""
    parts = []
    # Where the next entry of each level starts: a block starts where its first layer does.
    position = 0
    for place, entry in enumerate(entries):
        amount = getattr(entry, metric.name)
        if amount and entry.level < DEEPEST:
            parts.append((place, entry.level, position, amount))
        if not entry.is_block:
            position += amount
    return parts


def _label(text: str, x: float, y: float, width: float) -> str:
    room = int((width - 6) / CELL)
    if room < min(len(text), LEAST_LABEL):
        return ""
    return f'<text x="{x + 4:.2f}" y="{y + 16}">{escape(shorten(text, room))}</text>'


def _legend(entries: Sequence[Entry], metric: Metric, whole: int, kinds: Mapping[str, int]) -> str:
    """Name the colours, each with its share; what shares the last colour is summed."""
    sums: dict[int, int] = {}
    names: dict[int, list[str]] = {}
    for kind, colour in kinds.items():
        names.setdefault(colour, []).append(kind)
    for entry in entries:
        if not entry.is_block and (colour := kinds.get(_kind(entry), -1)) >= 0:
            sums[colour] = sums.get(colour, 0) + getattr(entry, metric.name)
    keys = []
    for colour, of_colour in names.items():
        if amount := sums.get(colour, 0):
            text = of_colour[0] if len(of_colour) == 1 else f"{len(of_colour)} other types"
            keys.append(
                f'<span class="key"><i class="c{colour}"></i>{escape(text)} {escape(share(amount, whole))}</span>'
            )
    return "".join(keys)
