"""A plan and the values of its variables -> a fragment with every size known.

There is one evaluator, for a full expansion and for a sweep alike: it differs only in what it finds in its memo.
A layer is looked up by its kind, its arguments and the shapes that come in;
a block by its parameters, the variables that it reads, and the shapes.
After a mistake the rest is still looked at, with an unknown shape, so that one run finds every mistake.
"""

from __future__ import annotations

from typing import Any

from convstat.errors import LayerError, Mark
from convstat.formulas.cost import Shape
from convstat.layers.base import Layer
from convstat.spec.body import MAX_LAYERS, Body
from convstat.spec.explain import Explainer
from convstat.spec.fragment import Fragment, Leaf
from convstat.spec.fragment import Value as Wire
from convstat.spec.groups import UnknownError
from convstat.spec.overrides import Patch
from convstat.spec.plan import INPUT, Block, Item, Plan, Ref
from convstat.spec.problems import Problems
from convstat.spec.scalars import Value
from convstat.spec.values import types_of

MAX_STEPS = 60_000
"""Items that are worked out one by one and are not layers; those of a block found in the memo are not."""

MAX_SIZE = 1 << 40
"""The largest size of an axis or an argument."""

MAX_MEMO = 50_000

Memo = dict[Any, Any]


class Run:
    """One expansion. ``memo`` outlives it."""

    def __init__(self, plan: Plan, values: dict[str, Value], memo: Memo, problems: Problems) -> None:
        self.plan = plan
        self.values = values
        self.memo = memo
        self.problems = problems
        self.steps = 0
        self.explain = Explainer(plan, values, problems)
        self.block_values: dict[str, tuple[Any, ...]] = {}
        if len(memo) > MAX_MEMO:
            memo.clear()

    def expand(self, shapes: tuple[Shape | None, ...], names: tuple[str, ...], patch: Patch) -> Fragment:
        """Expand the whole plan."""
        fragment = Fragment([Wire(shape, -1 - number) for number, shape in enumerate(shapes)])
        fragment.names.update({name: number for number, name in enumerate(names)}, **{INPUT: 0})
        body = Body(self, fragment)
        return fragment.finish(body.items(self.plan.items, self.values, "", 0, patch))

    def find(self, ref: Ref, fragment: Fragment) -> int | None:
        """The wire of a name of the top level; None where there is none, which is reported."""
        try:
            return Body(self, fragment).find(ref, "")
        except UnknownError:
            return None

    def step(self, item: Item) -> None:
        """Count one item, so that a hostile spec ends."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            self.refuse(f"more than {MAX_STEPS:,} items", item.mark)

    def expect(self, steps: int, layers: int, item: Item) -> None:
        """Refuse at once what would be refused after so many more steps, or with so many layers."""
        if layers > MAX_LAYERS:
            self.refuse(f"more than {MAX_LAYERS:,} layers", item.mark)
        if self.steps + steps > MAX_STEPS:
            self.refuse(f"more than {MAX_STEPS:,} items", item.mark)

    def refuse(self, message: str, mark: Mark) -> None:
        """Give up: the spec is too large to look at the rest."""
        self.problems.add(message, mark)
        self.problems.raise_if_any()

    def key_of(self, block: Block, params: tuple[Value, ...], shapes: tuple[Shape | None, ...]) -> tuple[Any, ...]:
        """What the expansion of a block depends on."""
        read = self.block_values.get(block.name)
        if read is None:
            own = tuple([self.values.get(name) for name in block.reads])
            read = self.block_values[block.name] = (own, types_of(own))
        return (block.name, params, types_of(params), read, shapes)

    def call(
        self, block: Block, shapes: tuple[Shape, ...], params: dict[str, Value], patch: Patch, key: Any
    ) -> Fragment:
        """Expand a block, and remember it by its key, if it has one. ``params`` are all its parameters."""
        values = {**self.values, **params} if not block.shipped else params
        fragment = Fragment([Wire(shape, -1 - number) for number, shape in enumerate(shapes)])
        fragment.names.update({name: number for number, name in enumerate(block.inputs)}, **{INPUT: 0})
        before = self.problems.noted
        fragment.finish(Body(self, fragment).items(block.items, values, "", 0, patch))
        if key is not None and self.problems.noted == before:
            self.memo[key] = fragment
        return fragment

    def leaf(
        self,
        kind: type[Layer],
        known_by: tuple[Any, ...],
        names: tuple[str, ...],
        values: tuple[Value, ...],
        shapes: tuple[Shape, ...],
    ) -> Leaf:
        """Make a layer, or find it in the memo by its kind and its arguments; raises LayerError."""
        key = (known_by, shapes)
        found: Leaf | None = self.memo.get(key)
        if found is None:
            for name, value in zip(names, values, strict=True):
                check_size(name, value)
            layer = kind.create(dict(zip(names, values, strict=True)), shapes)
            output = layer.output_shape(shapes)
            if max(output) > MAX_SIZE:
                raise LayerError(f"the output would be larger than {MAX_SIZE} along an axis")
            found = self.memo[key] = Leaf(layer, shapes, output)
        return found


def check_size(name: str, value: Value) -> None:
    """Refuse a size that no tensor can have."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, tuple):
            check_size(name, item)
        elif isinstance(item, int) and abs(item) > MAX_SIZE:
            raise LayerError(f"{name} is larger than {MAX_SIZE}", argument=name)
