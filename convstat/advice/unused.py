"""What of a spec is not used: layers whose output goes nowhere, and blocks that nothing calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from convstat.advice.effect import Edit
from convstat.advice.finding import Finding
from convstat.advice.net import Net
from convstat.graph import Graph
from convstat.spec.edits import Editor, Place

UNUSED = "unused"


class Unused(NamedTuple):
    """Layers that nothing needs, and the items that make them and nothing else."""

    finding: Finding
    items: tuple[Place, ...]


def unused(net: Net, graph: Graph, editor: Editor) -> Iterator[Unused]:
    """The layers from which no way leads to an output; those that are connected are found together."""
    dead = _dead(net)
    if not dead:
        return
    shared = {node.owner for node in graph.nodes if node.is_shared and node.name not in dead}
    made: dict[Place, set[str]] = {}
    for name in net.calls:
        around = name
        while "." in around:
            around = around.rpartition(".")[0]
            mark = graph.calls[around].source if around in graph.calls else None
            if mark is not None and mark.source is editor.source:
                made.setdefault((mark.line, mark.column), set()).add(name)
    for node in graph.nodes:
        if node.source is not None and node.source.source is editor.source:
            made.setdefault((node.source.line, node.source.column), set()).add(node.name)
    whole = {place: names for place, names in made.items() if names <= dead and editor.item(place) is not None}
    for component in _components(net, dead):
        if component & shared:
            continue
        items = {place: names for place, names in whole.items() if names & component}
        if set().union(*items.values()) != component:
            continue
        # What is inside of an item that goes needs no edit of its own.
        outermost = [p for p, names in items.items() if not any(names < other for other in items.values())]
        layers = tuple(name for name in net.calls if name in component)
        what = "computed, and never used"
        edits = tuple(Edit(name, drop=True) for name in layers)
        yield Unused(Finding(UNUSED, what, layers, edits), tuple(sorted(outermost)))


def _dead(net: Net) -> frozenset[str]:
    needed = set(net.outputs)
    for name in reversed(list(net.calls)):
        if name in needed:
            needed.update(net.calls[name].inputs)
    return frozenset(net.calls.keys() - needed)


def _components(net: Net, dead: frozenset[str]) -> Iterator[set[str]]:
    """The unused layers in groups that are connected."""
    left = dict.fromkeys(name for name in net.calls if name in dead)
    while left:
        group: set[str] = set()
        stack = [next(iter(left))]
        while stack:
            name = stack.pop()
            if name in left:
                del left[name]
                group.add(name)
                stack += [other for other in (*net.calls[name].inputs, *net.users[name]) if other in left]
        yield group
