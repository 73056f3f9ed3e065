"""The table of counters: an explicit one, and what other packages add to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from convstat.counters.base import Counter

GROUP = "convstat.counters"
"""The entry point group in which other packages offer counters: a Counter, or a callable that makes one."""


class Registry(Mapping[str, Counter]):
    """Counters by name. Entry points are only looked for when a name is not in the table, or all are asked for."""

    def __init__(self, counters: Iterable[Counter]) -> None:
        self._table: dict[str, Counter] = {}
        self._complete = False
        for counter in counters:
            self.add(counter)

    def add(self, counter: Counter) -> None:
        """Add a counter; two of one name are refused."""
        name = counter.name
        if name in self._table:
            raise ValueError(f"two counters are called {name!r}: {self._table[name]!r} and {counter!r}")
        if name in ("default", "all", "none", "convstat") or "," in name:
            raise ValueError(f"a counter cannot be called {name!r}")
        self._table[name] = counter

    def _load(self) -> None:
        if self._complete:
            return
        self._complete = True
        from importlib.metadata import entry_points

        for point in entry_points(group=GROUP):
            loaded = point.load()
            self.add(loaded() if callable(loaded) else loaded)

    def __getitem__(self, name: str) -> Counter:
        if name not in self._table:
            self._load()
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._table)

    def __len__(self) -> int:
        self._load()
        return len(self._table)
