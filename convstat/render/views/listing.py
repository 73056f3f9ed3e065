"""A list of names with words about each: the vocabulary, the counters, the formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from convstat.render.base import Options
from convstat.render.page import Block, Heading, Item, Items, Pairs
from convstat.results.listing import Listing
from convstat.text.printable import printable


def blocks(listing: Listing, options: Options) -> Iterator[Block]:
    """What the page of a listing says: one heading for each group, or for each entry that there are facts of."""
    if listing.facts:
        for entry in listing.entries:
            yield from _in_full(listing, entry)
        return
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
        yield Heading(printable(group))
        yield Items(tuple(items), "left")


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
