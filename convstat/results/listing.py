"""A list of names with words about each: the vocabulary, the counters, the formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from convstat.grammar.axes import plain


@dataclass(frozen=True, slots=True)
class Listing:
    """Entries with the same fields; the first field is the name.

    ``group`` is the field that entries are shown under, if any; ``shown`` names the fields shown, all where it is None.
    ``facts`` are fields that have lines of their own below the name, with what leads them: there is much to say.
    """

    kind: ClassVar[str] = "listing"
    title: str
    entries: tuple[Mapping[str, Any], ...]
    group: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    shown: tuple[str, ...] | None = None

    def to_dict(self) -> list[dict[str, Any]]:
        """The JSON form: a list of the entries."""
        return [{key: plain(value) for key, value in entry.items()} for entry in self.entries]
