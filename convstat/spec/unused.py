"""Finds items whose output goes nowhere, and inputs that nothing takes."""

from __future__ import annotations

from collections.abc import Iterator

from convstat.spec.plan import INPUT, PREV, InputPlan, Item, Parallel, Ref, Residual


def unused_items(items: tuple[Item, ...], outputs: tuple[Ref, ...]) -> Iterator[Item]:
    """The items that neither the next item, nor any later one by name, nor an output takes.

    An item with ``when`` or ``repeat`` may be left out, and then hands on what it was given;
    so the item above it is used by whatever is used through it.
    """
    named = {name for ref in (*_refs(items), *outputs) for name in _prefixes(ref.name)}
    yield from _unused(items, named, ends=not outputs or any(ref.name == PREV for ref in outputs), prefix="")


def unused_inputs(inputs: tuple[InputPlan, ...], items: tuple[Item, ...], outputs: tuple[Ref, ...]) -> list[InputPlan]:
    """The inputs that no item and no output takes; the first item takes the first of them."""
    named = {name for ref in (*_refs(items), *outputs) for name in _prefixes(ref.name)}
    if INPUT in named or _goes_on(items, not outputs or any(ref.name == PREV for ref in outputs)):
        named.update(entry.name for entry in inputs[:1])
    return [entry for entry in inputs if entry.name not in named]


def _unused(items: tuple[Item, ...], named: set[str], *, ends: bool, prefix: str) -> Iterator[Item]:
    for place, item in enumerate(items):
        if _is_absent(item):
            continue
        for name, inner in _lists(item):
            yield from _unused(inner, named, ends=True, prefix=f"{prefix}{item.name}.{name}")
        names = {item.name, f"{prefix}{item.name}", f"{prefix}{item.position}"}
        if names.isdisjoint(named) and not _goes_on(items[place + 1 :], ends):
            yield item


def _goes_on(below: tuple[Item, ...], ends: bool) -> bool:
    """Whether what reaches this place is taken by an item below, or comes out at the end."""
    for item in below:
        if _is_absent(item):
            continue
        if item.sources is None or any(ref.name == PREV for ref in item.sources):
            return True
        if item.when is None and (item.repeat is None or item.repeat.evaluate is None):
            return False
    return ends


def _is_absent(item: Item) -> bool:
    """Whether an item is never there, whatever the variables are: ``when: false`` or ``repeat: 0``."""
    return any(
        formula is not None and formula.evaluate is None and formula.constant in (0, False)
        for formula in (item.when, item.repeat)
    )


def _lists(item: Item) -> list[tuple[str, tuple[Item, ...]]]:
    action = item.action
    if isinstance(action, Residual):
        return [("", action.body), ("shortcut.", action.shortcut_items)]
    if isinstance(action, Parallel):
        return [(f"{name}.", items) for name, items in action.paths]
    return []


def _refs(items: tuple[Item, ...]) -> Iterator[Ref]:
    for item in items:
        if _is_absent(item):
            continue
        yield from item.sources or ()
        for _, inner in _lists(item):
            yield from _refs(inner)


def _prefixes(path: str) -> Iterator[str]:
    """``mix.p3.1`` uses ``mix``, ``mix.p3`` and ``mix.p3.1``."""
    words = path.split(".")
    for count in range(1, len(words) + 1):
        yield ".".join(words[:count])
