"""Replace functions of any module by their dotted names, and wherever they were imported to."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import FunctionType
from typing import Any

from convstat.patches.room import patch, replaced, routed, undone

Make = Callable[[str, Callable[..., Any]], Callable[..., Any]]
"""Makes what a function is replaced by, from its dotted name and from itself."""


@patch
def intercepted(names: Iterable[str], make: Make, holders: Iterable[object] = ()) -> Iterator[None]:
    """Let functions be ``make(name, function)`` for a while, in the threads of who has the room.

    Each is replaced where its name says, in every module that has imported it, and as an attribute of the ``holders``.
    A module that is imported meanwhile is treated alike as soon as it is there; none is imported for it.
    """
    with ExitStack() as stack:
        interception = _Interception(set(names), make, tuple(holders), stack)
        interception.replace()
        if interception.waiting:
            finder = _Finder(interception)
            finders: list[Any] = sys.meta_path
            with undone(lambda: finders.remove(finder) if finder in finders else None):
                finders.insert(0, finder)
                yield
        else:
            yield


class _Interception:
    """Replaces functions as soon as they are there; ``waiting`` are the names of those that are not."""

    def __init__(self, names: set[str], make: Make, holders: tuple[object, ...], stack: ExitStack) -> None:
        self.make = make
        self.waiting = names
        self.holders = holders
        self.stack = stack

    def replace(self) -> None:
        """Replace what is there by now, at every name that it has."""
        stand_ins: dict[int, Any] = {}
        stack = self.stack
        for name in sorted(self.waiting):
            found = _look_up(name)
            if found is None:
                continue
            self.waiting.discard(name)
            owner, attribute, function = found
            if not callable(function):
                continue
            stand_in = routed(function, self.make(name, function))
            stand_ins[id(function)] = function, stand_in
            is_bound = isinstance(owner, type) and not isinstance(vars(owner).get(attribute), FunctionType)
            stack.enter_context(replaced(owner, attribute, staticmethod(stand_in) if is_bound else stand_in))
        if not stand_ins:
            return
        for table in (*_tables([function for function, _ in stand_ins.values()]), *map(vars, self.holders)):
            for attribute, value in list(table.items()):
                if id(value) in stand_ins and stand_ins[id(value)][0] is value:
                    stack.enter_context(undone(partial(table.__setitem__, attribute, value)))
                    table[attribute] = stand_ins[id(value)][1]


def _tables(functions: list[Any]) -> list[dict[str, Any]]:
    """The globals of the modules that know some functions."""
    known = (table for table in gc.get_referrers(*functions) if type(table) is dict)
    return [table for table in known if vars(sys.modules.get(table.get("__name__", ""), gc)) is table]


def _look_up(name: str) -> tuple[Any, str, Any] | None:
    """What holds a function, under which attribute, and the function; None while its module is not imported."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        owner: Any = sys.modules.get(".".join(parts[:end]))
        if owner is None:
            continue
        try:
            for part in parts[end:-1]:
                owner = getattr(owner, part)
            return owner, parts[-1], getattr(owner, parts[-1])
        except AttributeError:
            return None
    return None


class _Finder:
    """Waits for modules that are imported during a trace."""

    def __init__(self, interception: _Interception) -> None:
        self.interception = interception
        self.busy = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module as Python does, and look at it once it is there."""
        if self.busy or not any(waiting.startswith(f"{name}.") for waiting in self.interception.waiting):
            return None
        self.busy = True
        try:
            spec = find_spec(name)
        finally:
            self.busy = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self.interception)  # type: ignore[assignment]
        return spec


class _Loader:
    """Loads a module as its own loader does."""

    def __init__(self, loader: Any, interception: _Interception) -> None:
        self.loader = loader
        self.interception = interception

    def create_module(self, spec: ModuleSpec) -> Any:
        """Make it."""
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Run it, and replace what has a rule."""
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.interception.replace()
