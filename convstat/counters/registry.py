"""The table of counters: an explicit one, and what other packages add to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from convstat.counters import checked
from convstat.counters.base import Counter, CounterFailure
from convstat.counters.capture import first_line
from convstat.patches.guard import own
from convstat.patches.plugins import load

GROUP = "convstat.counters"
"""The entry point group in which other packages offer counters: a Counter, or a callable that makes one."""


class Unloadable:
    """What stands in the table for a counter of another package that cannot be loaded."""

    variant = "default"
    unit = "nothing: it cannot be loaded"
    counts = ""
    defects = ()

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.help = f"the package that offers it cannot be loaded: {reason}"

    def version(self) -> str | None:
        """There is none to be had."""
        return None

    def unavailable(self) -> str:
        """Why it is not there."""
        return self.help

    def run(self, *_: Any) -> Any:
        """Never asked."""
        raise CounterFailure(self.help)

    predict = why_not_meta = retrace = run


def _made(offered: Any) -> Counter:
    return checked.counter(offered() if callable(offered) else offered)


class Registry(Mapping[str, Counter]):
    """Counters by name. Entry points are only looked for when a name is not in the table, or all are asked for."""

    def __init__(self, counters: Iterable[Counter], taken: Collection[str] = ()) -> None:
        """Make the table of some counters; ``taken`` are names that others must not have."""
        self._table: dict[str, Counter] = {}
        self._taken = frozenset(taken)
        self._complete = False
        for counter in counters:
            self.add(counter)

    def add(self, counter: Counter) -> None:
        """Add a counter; two of one name are refused."""
        name = checked.counter(counter).name
        if name in self._table or name in self._taken:
            raise ValueError(f"two counters are called {name!r}")
        self._table[name] = counter

    def _load(self) -> None:
        if self._complete:
            return
        self._complete = True
        from importlib.metadata import entry_points

        for point in entry_points(group=GROUP):
            try:
                self.add(load(point, f"the counter {point.value}", _made))
            except Exception as error:
                # Somebody else's package is broken, which is its own row, under a name that is still free.
                name = point.value if point.name in self._taken or point.name in self._table else point.name
                self._table[name] = Unloadable(name, first_line(own(error)))

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
