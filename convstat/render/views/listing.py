"""A list of names with words about each: the vocabulary, the counters, the formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convstat.render.base import Options
from convstat.render.page import Block, Heading, Item, Items, Page, Pairs
from convstat.results.listing import Listing
from convstat.text.printable import printable


def listing_page(listing: Listing, options: Options) -> Page:
    """Make the page of a listing: one heading for each group."""
    if listing.facts:
        return Page(tuple(block for entry in listing.entries for block in _in_full(listing, entry)))
    blocks: list[Block] = []
    groups: dict[str, list[Item]] = {}
    for entry in listing.entries:
        name, *fields = (
            str(value)
            for key, value in entry.items()
            if key != listing.group and (listing.shown is None or key in listing.shown)
        )
        group = str(entry[listing.group]) if listing.group else listing.title
        words = " · ".join(printable(field) for field in fields if field)
        groups.setdefault(group, []).append(Item(printable(name), words))
    for group, items in groups.items():
        blocks += [Heading(printable(group)), Items(tuple(items), "left")]
    return Page(tuple(blocks))


def _in_full(listing: Listing, entry: Mapping[str, Any]) -> tuple[Block, ...]:
    """A heading of the short fields, and a line for each fact."""
    short = [printable(str(value)) for key, value in entry.items() if key not in listing.facts and value]
    name, *rest = short
    lines: list[tuple[str, str]] = []
    for key, lead in listing.facts.items():
        value = entry[key]
        texts = [printable(str(text)) for text in (value if isinstance(value, tuple) else (value,)) if text]
        lines += [(lead if place == 0 else "", text) for place, text in enumerate(texts)]
    return Heading(f"{name}  {' · '.join(rest)}" if rest else name), Pairs(tuple(lines))
