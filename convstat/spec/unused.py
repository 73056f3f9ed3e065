"""Finds items whose output goes nowhere."""

from __future__ import annotations

from collections.abc import Iterator

from convstat.spec.plan import PREV, Item, Parallel, Ref, Residual


def unused_items(items: tuple[Item, ...], outputs: tuple[Ref, ...]) -> Iterator[Item]:
    """The items that neither the next item, nor any later one by name, nor an output takes.

    An item with ``when`` may be left out, and then hands on what it was given;
    so the item above it is used by whatever is used through it.
    """
    named = {name for ref in (*_refs(items), *outputs) for name in _prefixes(ref.name)}
    yield from _unused(items, named, ends=not outputs or any(ref.name == PREV for ref in outputs), prefix="")


def _unused(items: tuple[Item, ...], named: set[str], *, ends: bool, prefix: str) -> Iterator[Item]:
    for place, item in enumerate(items):
        for name, inner in _lists(item):
            yield from _unused(inner, named, ends=True, prefix=f"{prefix}{item.name}.{name}")
        names = {item.name, f"{prefix}{item.name}", f"{prefix}{item.position}"}
        if names.isdisjoint(named) and not _goes_on(items[place + 1 :], ends):
            yield item


def _goes_on(below: tuple[Item, ...], ends: bool) -> bool:
    """Whether what reaches this place is taken by an item below, or comes out at the end."""
    for item in below:
        if item.sources is None or any(ref.name == PREV for ref in item.sources):
            return True
        if item.when is None:
            return False
    return ends


def _lists(item: Item) -> list[tuple[str, tuple[Item, ...]]]:
    action = item.action
    if isinstance(action, Residual):
        return [("", action.body), ("shortcut.", action.shortcut_items)]
    if isinstance(action, Parallel):
        return [(f"{name}.", items) for name, items in action.paths]
    return []


def _refs(items: tuple[Item, ...]) -> Iterator[Ref]:
    for item in items:
        yield from item.sources or ()
        for _, inner in _lists(item):
            yield from _refs(inner)


def _prefixes(path: str) -> Iterator[str]:
    """``mix.p3.1`` uses ``mix``, ``mix.p3`` and ``mix.p3.1``."""
    words = path.split(".")
    for count in range(1, len(words) + 1):
        yield ".".join(words[:count])
