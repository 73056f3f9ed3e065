"""How torch and the counters go down a model, and the models on which they do not come to an end.

``nn.Module.modules()`` visits each module once. Most of what else goes down a model does not remember where it was: it
visits a module once for each way that leads to it. In a model that holds itself there is no last one, and where
modules hold the same others, each of which does so again, their number doubles with every level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from convstat.trace.calls import ModuleInfo, Trace

MOST_VISITS = 10**7
"""So many visits of modules take minutes; the largest models have some ten thousand modules."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A way of going down a model, by its ``name``.

    ``methods`` are those of ``nn.Module`` that it calls on each module: a class with one of its own ends it, or goes
    another way. ``by_name`` says that a module which another holds under two names is visited for each of them, and
    ``remembers`` that it is not gone into again once it has been left.
    """

    name: str
    methods: tuple[str, ...] = ()
    by_name: bool = False
    remembers: bool = False


EVAL = Walk("Module.eval()", ("eval", "train"))
APPLY = Walk("Module.apply()", ("apply",))
STATE_DICT = Walk("Module.state_dict()", ("state_dict",), by_name=True)
MODULE_TRACKER = Walk("torch's ModuleTracker", remembers=True)
OWN = Walk("its own walk")
OWN_BY_NAME = Walk("its own walk", by_name=True)


def why_endless(model: nn.Module, walks: Iterable[Walk]) -> str | None:
    """Say why the first of some walks that does not end on a model does not; None where all end."""
    return next((reason for walk in walks if (reason := _why_endless(model, walk)) is not None), None)


@dataclass(slots=True)
class _Open:
    """A module that a walk is in: what it is called where it is held, what is still to be visited, and the visits."""

    module: nn.Module
    name: str
    left: list[tuple[str, nn.Module]]
    visits: int = 1


def _why_endless(model: nn.Module, walk: Walk) -> str | None:
    """Add up the visits, from the innermost modules to the outermost; nothing is gone into twice here."""
    visits: dict[int, int] = {}
    way = [_Open(model, "", _held(model, walk))]
    depths = {id(model): 0}
    while way:
        here = way[-1]
        if here.left:
            name, module = here.left.pop()
            if id(module) in visits:
                here.visits += visits[id(module)]
            elif id(module) in depths:
                names = [*(step.name for step in way[1:]), name]
                inside = ".".join(names[: depths[id(module)]])
                return (
                    f"{repr(inside) if inside else 'the model'} holds itself, as '{'.'.join(names)}', so {walk.name}, "
                    "which visits all submodules, does not terminate"
                )
            else:
                depths[id(module)] = len(way)
                way.append(_Open(module, name, _held(module, walk)))
        else:
            way.pop()
            del depths[id(here.module)]
            visits[id(here.module)] = 1 if walk.remembers else here.visits
            if way:
                way[-1].visits += here.visits
        if here.visits > MOST_VISITS:
            return (
                f"many of its modules share submodules, so {walk.name}, which visits a module once per path to it, "
                f"makes more than {MOST_VISITS:,} visits"
            )
    return None


def _held(module: nn.Module, walk: Walk) -> list[tuple[str, nn.Module]]:
    """What a walk goes to from a module, the last first."""
    from torch import nn

    own = vars(module)
    if any(method in own or getattr(type(module), method) is not getattr(nn.Module, method) for method in walk.methods):
        return []
    held = [(name, child) for name, child in module._modules.items() if child is not None]
    if not walk.by_name:
        first: dict[int, tuple[str, nn.Module]] = {}
        for name, child in held:
            first.setdefault(id(child), (name, child))
        held = list(first.values())
    return held[::-1]


def ways(trace: Trace, *, into: Callable[[ModuleInfo], bool] = lambda info: True) -> dict[int, int]:
    """How many ways lead from the root to each module, by its place; only those through modules that are gone ``into``.

    So often a walk that does not remember where it was visits it. A way that comes back to where it was is none.
    """
    left = [iter(_children(trace, 0, into))]
    way, around, gone, last_first = [0], {0}, {0}, []
    back: set[tuple[int, int]] = set()
    while way:
        child = next(left[-1], None)
        if child is None:
            left.pop()
            around.discard(way[-1])
            last_first.append(way.pop())
        elif child not in gone:
            gone.add(child)
            around.add(child)
            way.append(child)
            left.append(iter(_children(trace, child, into)))
        elif child in around:
            back.add((way[-1], child))
    found = dict.fromkeys(reversed(last_first), 0)
    found[0] = 1
    for place, number in found.items():
        for child in _children(trace, place, into):
            if (place, child) not in back:
                found[child] += number
    return found


def _children(trace: Trace, place: int, into: Callable[[ModuleInfo], bool]) -> tuple[int, ...]:
    info = trace.modules[place]
    return info.children if into(info) else ()


__all__ = [
    "APPLY",
    "EVAL",
    "MODULE_TRACKER",
    "MOST_VISITS",
    "OWN",
    "OWN_BY_NAME",
    "STATE_DICT",
    "Walk",
    "ways",
    "why_endless",
]
