"""A model as the calls of its layers: what each takes from which, and where it can be changed."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from convstat.formulas.cost import Shape
from convstat.layers.base import Layer

PASSED = ("normalisation", "activation", "dropout")
"""The families of layers that stand between two convolutions and leave the shape as it is."""


class Call(NamedTuple):
    """One call of one layer; shapes include the batch.

    ``layer`` is None where what runs is no layer of the vocabulary: no change may reach it.
    ``place`` is where the layer is written, the same for all calls that are written in one place; None where it is
    written nowhere that could be changed. ``holds`` says whether the parameters are this call's, and ``runs`` how
    often it runs, in a part of a model that is called several times.
    """

    name: str
    layer: Layer | None
    inputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    place: Hashable = None
    holds: bool = True
    runs: int = 1

    @property
    def family(self) -> str:
        """The family of the layer, empty where it is not known."""
        return "" if self.layer is None else self.layer.family

    @property
    def kind(self) -> str:
        """The kind of the layer, empty where it is not known."""
        return "" if self.layer is None else self.layer.kind()

    def argument(self, name: str) -> Any:
        """The value of an argument of the layer; None where it has no such argument."""
        return None if self.layer is None else self.layer.__dict__.get(name)


class Net:
    """The calls of a model in the order in which they run; ``outputs`` are the names of those that it returns."""

    def __init__(self, calls: Iterable[Call], outputs: Iterable[str]) -> None:
        self.calls: Mapping[str, Call] = {call.name: call for call in calls}
        self.outputs = frozenset(outputs)
        self.names = tuple(self.calls)
        self.order: Mapping[str, int] = {name: number for number, name in enumerate(self.calls)}

    @cached_property
    def users(self) -> Mapping[str, tuple[str, ...]]:
        """Which calls take the output of each."""
        found: dict[str, list[str]] = {name: [] for name in self.calls}
        for call in self.calls.values():
            for source in dict.fromkeys(call.inputs):
                if source in found:
                    found[source].append(call.name)
        return {name: tuple(names) for name, names in found.items()}

    @cached_property
    def places(self) -> Mapping[Hashable, tuple[str, ...]]:
        """The calls that are written in each place."""
        found: dict[Hashable, list[str]] = {}
        for call in self.calls.values():
            found.setdefault(call.place, []).append(call.name)
        return {place: tuple(names) for place, names in found.items() if place is not None}

    def before(self, call: Call) -> Call | None:
        """The call whose output is the only input of this one."""
        return self.calls.get(call.inputs[0]) if len(call.inputs) == 1 else None

    def after(self, call: Call) -> Call | None:
        """The only call that takes the output of this one, where that is no output of the model."""
        users = self.users[call.name]
        return self.calls[users[0]] if len(users) == 1 and call.name not in self.outputs else None

    def layer_before(self, call: Call, families: Collection[str] = PASSED) -> Call | None:
        """The nearest call above that is not of these families, if each on the way is taken by the next one alone."""
        below, found = call, self.before(call)
        while found is not None and self.after(found) is below:
            if found.family not in families:
                return found
            below, found = found, self.before(found)
        return None

    def layer_after(self, call: Call, families: Collection[str] = PASSED) -> Call | None:
        """The nearest call below that is not of these families, if each on the way is taken by the next one alone."""
        found = self.after(call)
        while found is not None and found.family in families:
            found = self.after(found)
        return found if found is None or len(found.inputs) == 1 else None

    def behind_gate(self, call: Call) -> Call:
        """The product of a call's output and a gate that is made of it, as in squeeze and excitation; else the call."""
        users = [self.calls[name] for name in self.users[call.name]]
        products = [user for user in users if user.kind == "mul" and user.output_shape == call.output_shape]
        return products[0] if len(users) == 2 and len(products) == 1 and call.name not in self.outputs else call

    def between(self, first: Call, last: Call) -> Iterator[Call]:
        """The calls between two of which each is taken by the next one alone."""
        call = self.after(first)
        while call is not None and call is not last:
            yield call
            call = self.after(call)
