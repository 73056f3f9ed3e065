"""Finds items whose output is not used, and inputs that nothing takes."""

from __future__ import annotations

from collections.abc import Iterator

from convstat.errors import Diagnostic
from convstat.spec.plan import INPUT, PREV, Item, Plan, Ref


def unused(plan: Plan) -> Iterator[Diagnostic]:
    """A warning for each input that nothing takes, and for each item that is computed but not used."""
    inputs, named = plan.variants[None].inputs, _named(plan.items, plan.outputs)
    if INPUT in named or _goes_on(plan.items, _ends(plan.outputs)):
        named.update(entry.name for entry in inputs[:1])  # the first item takes the first input
    for entry in [entry for entry in inputs if entry.name not in named]:
        help = ("use it by name: in from, or in the list of add, concat or a block",)
        yield Diagnostic(f"the input '{entry.name}' is never used", entry.mark, help=help, severity="warning")
    lists: list[tuple[tuple[Item, ...], tuple[Ref, ...]]] = [(plan.items, plan.outputs)]
    lists += [(block.items, ()) for block in plan.blocks.values() if not block.shipped]
    for items, outputs in lists:
        for item in _unused(items, _named(items, outputs), ends=_ends(outputs), prefix=""):
            help = ("use it by name, or remove it",)
            yield Diagnostic(f"'{item.name}' is computed but never used", item.mark, help=help, severity="warning")


def _ends(outputs: tuple[Ref, ...]) -> bool:
    """Whether the output of the last item is an output of the model."""
    return not outputs or any(ref.name == PREV for ref in outputs)


def _named(items: tuple[Item, ...], outputs: tuple[Ref, ...]) -> set[str]:
    """The names that are referred to: ``mix.p3.1`` refers to ``mix``, ``mix.p3`` and ``mix.p3.1``."""
    paths = [ref.name.split(".") for ref in (*_refs(items), *outputs)]
    return {".".join(words[:count]) for words in paths for count in range(1, len(words) + 1)}


def _unused(items: tuple[Item, ...], named: set[str], *, ends: bool, prefix: str) -> Iterator[Item]:
    """The items that neither the next item, nor any later one by name, nor an output takes.

    An item with ``when`` or ``repeat`` may be left out, and then hands on what it was given;
    so the item above it is used by whatever is used through it.
    """
    for place, item in enumerate(items):
        if _is_absent(item):
            continue
        for name, inner in item.lists():
            yield from _unused(inner, named, ends=True, prefix=f"{prefix}{item.name}.{name}")
        names = {item.name, f"{prefix}{item.name}", f"{prefix}{item.position}"}
        if names.isdisjoint(named) and not _goes_on(items[place + 1 :], ends):
            yield item


def _goes_on(below: tuple[Item, ...], ends: bool) -> bool:
    """Whether the output of the item above is taken by an item below, or is an output of the model."""
    for item in below:
        if _is_absent(item):
            continue
        if item.sources is None or any(ref.name == PREV for ref in item.sources):
            return True
        if item.when is None and (item.repeat is None or item.repeat.evaluate is None):
            return False
    return ends


def _is_absent(item: Item) -> bool:
    """Whether an item is left out whatever the variables are: ``when: false`` or ``repeat: 0``."""
    return any(
        formula is not None and formula.evaluate is None and formula.constant in (0, False)
        for formula in (item.when, item.repeat)
    )


def _refs(items: tuple[Item, ...]) -> Iterator[Ref]:
    for item in items:
        if _is_absent(item):
            continue
        yield from item.sources or ()
        for _, inner in item.lists():
            yield from _refs(inner)
