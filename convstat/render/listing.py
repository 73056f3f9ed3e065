"""A list of names with words about each: the vocabulary, the counters, the formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convstat.render.page import Block, Heading, Item, Items, Page
from convstat.render.text import printable


@dataclass(frozen=True, slots=True)
class Listing:
    """Entries with the same fields; the first field is the name.

    ``group`` is the field that entries are shown under, if any.
    """

    title: str
    entries: tuple[Mapping[str, Any], ...]
    group: str | None = None

    def to_dict(self) -> list[dict[str, Any]]:
        """The JSON form: a list of the entries."""
        return [dict(entry) for entry in self.entries]


def listing_page(listing: Listing) -> Page:
    """Make the page of a listing: one heading for each group."""
    blocks: list[Block] = []
    groups: dict[str, list[Item]] = {}
    for entry in listing.entries:
        name, *fields = (str(value) for key, value in entry.items() if key != listing.group)
        group = str(entry[listing.group]) if listing.group else listing.title
        words = " · ".join(printable(field) for field in fields if field)
        groups.setdefault(group, []).append(Item(printable(name), words))
    for group, items in groups.items():
        blocks += [Heading(printable(group)), Items(tuple(items), "left")]
    return Page(tuple(blocks))
