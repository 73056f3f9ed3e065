"""A plan and the values of its variables -> a fragment with every size known.

There is one evaluator, for a full expansion and for a sweep alike: it differs only in what it finds in its memo.
A layer is looked up by its kind, its arguments and the shapes that come in;
a block by its parameters, the variables that it reads, and the shapes.
After a mistake the rest is still looked at, with an unknown shape, so that one run finds every mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convstat import layers
from convstat.errors import LayerError, Mark, SpecError, did_you_mean
from convstat.graph import Shape
from convstat.layers.base import Layer
from convstat.spec.explain import Explainer
from convstat.spec.expressions import ExpressionError, Value
from convstat.spec.fragment import Fragment, Leaf, Part, find
from convstat.spec.fragment import Value as Wire
from convstat.spec.overrides import Override, Patch
from convstat.spec.plan import INPUT, PREV, Block, BlockCall, Choice, Item, LayerCall, Parallel, Plan, Ref, Residual
from convstat.spec.problems import Problems
from convstat.spec.values import Formula, truth, value_of

MAX_LAYERS = 100_000
MAX_STEPS = 200_000
MAX_SIZE = 1 << 40
"""The largest size of an axis or an argument."""

MAX_MEMO = 50_000

Memo = dict[Any, Any]
Values = Mapping[str, Value]

_AXES: Mapping[int, tuple[str, ...]] = {
    2: ("cin",),
    3: ("cin", "lin"),
    4: ("cin", "hin", "win"),
    5: ("cin", "din", "hin", "win"),
}


def sizes_of(shape: Shape | None) -> dict[str, int]:
    """The sizes of what comes in, by name.

    >>> sizes_of((1, 64, 56, 56)) == {"cin": 64, "hin": 56, "win": 56, "fin": 56}
    True
    """
    if shape is None:
        return {}
    named = dict(zip(_AXES.get(len(shape), ("cin",)), shape[1:], strict=False))
    named["fin"] = shape[-1]
    return named


class Unknown(Exception):
    """Something that a mistake already reported has left without a value."""


class Run:
    """One expansion. ``memo`` outlives it."""

    def __init__(self, plan: Plan, values: dict[str, Value], memo: Memo, problems: Problems) -> None:
        self.plan = plan
        self.values = values
        self.memo = memo
        self.problems = problems
        self.steps = 0
        self.layers = 0
        self.explain = Explainer(plan, values, problems)
        self.block_values: dict[str, tuple[Any, ...]] = {}
        if len(memo) > MAX_MEMO:
            memo.clear()

    def expand(self, shapes: tuple[Shape, ...], names: tuple[str, ...], patch: Patch) -> Fragment:
        """Expand the whole plan."""
        fragment = Fragment([Wire(shape, -1 - number) for number, shape in enumerate(shapes)])
        fragment.names.update({name: number for number, name in enumerate(names)}, **{INPUT: 0})
        body = _Body(self, fragment)
        return fragment.finish(body.items(self.plan.items, self.values, "", 0, patch))

    def find(self, ref: Ref, fragment: Fragment) -> int | None:
        """The wire of a name of the top level; None where there is none, which is reported."""
        try:
            return _Body(self, fragment).find(ref, "")
        except Unknown:
            return None

    def step(self, item: Item) -> None:
        """Count one item, so that a hostile spec ends."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            self.refuse(f"more than {MAX_STEPS:,} items", item.mark)

    def refuse(self, message: str, mark: Mark) -> None:
        """Give up: the spec is too large to look at the rest."""
        self.problems.add(message, mark)
        self.problems.raise_if_any()

    def call(self, block: Block, shapes: tuple[Shape, ...], params: dict[str, Value], patch: Patch) -> Fragment:
        """Expand a block, or find it in the memo. ``params`` are all its parameters."""
        key = None
        if not patch:
            read = self.block_values.get(block.name)
            if read is None:
                own = tuple([self.values[name] for name in block.reads])
                read = self.block_values[block.name] = (own, tuple(map(type, own)))
            given = tuple(params.values())
            key = (block.name, given, tuple(map(type, given)), read, shapes)
            found: Fragment | None = self.memo.get(key)
            if found is not None:
                return found
        values = {**self.values, **params} if not block.shipped else params
        fragment = Fragment([Wire(shape, -1 - number) for number, shape in enumerate(shapes)])
        fragment.names.update({name: number for number, name in enumerate(block.inputs)}, **{INPUT: 0})
        before = len(self.problems.found)
        fragment.finish(_Body(self, fragment).items(block.items, values, "", 0, patch))
        if key is not None and len(self.problems.found) == before:
            self.memo[key] = fragment
        return fragment

    def leaf(
        self, kind: type[Layer], token: tuple[Any, ...], names: tuple[str, ...], values: tuple[Value, ...],
        shapes: tuple[Shape, ...],
    ) -> Leaf:  # fmt: skip
        """Make a layer, or find it in the memo; raises LayerError."""
        key = (token, values, tuple(map(type, values)), shapes)
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


class _Body:
    """Expands the items of one fragment."""

    def __init__(self, run: Run, fragment: Fragment) -> None:
        self.run = run
        self.fragment = fragment
        self.wires = fragment.values
        self.names = fragment.names
        self.count = 0

    def items(self, items: tuple[Item, ...], values: Values, prefix: str, wire: int, patch: Patch) -> int:
        """Expand items one after the other; give the wire that comes out of the last."""
        for item in items:
            wire = self.item(item, values, prefix, wire, patch)
        return wire

    def item(self, item: Item, values: Values, prefix: str, wire: int, patch: Patch) -> int:
        """Expand one item; give the wire that comes out of it."""
        run = self.run
        run.step(item)
        own: Patch = patch.get(item.name, _NO_PATCH) if patch else _NO_PATCH
        if not isinstance(own, dict):
            own = _NO_PATCH
        try:
            if item.when is not None and not truth(self.modifier("when", item.when, item, values, wire, own)):
                return wire
            if item.repeat is None:
                path = prefix + item.name
                wire = self.one(item, values, path, wire, self.sources(item, prefix, wire), own)
            else:
                wire = self.repeated(item, values, prefix, wire, own)
        except Unknown:
            wire = self.unknown()
        except ExpressionError as error:
            assert item.when is not None
            run.explain.expression(error, item.when, values)
            wire = self.unknown()
        self.names[prefix + item.name] = wire
        if prefix:
            self.names.setdefault(f"{prefix}{item.position}", wire)
        return wire

    def modifier(self, name: str, formula: Formula, item: Item, values: Values, wire: int, patch: Patch) -> Value:
        """Work out ``when``, ``repeat`` or ``frozen``."""
        override = patch.get(name)
        if isinstance(override, Override):
            override.used = True
            return override.value
        return self.work_out(formula, self.with_sizes(item, values, wire))

    def with_sizes(self, item: Item, values: Values, wire: int) -> Values:
        """The values with the sizes of what comes in, where the item reads them."""
        if not item.needs_shape:
            return values
        shape = self.wires[wire].shape
        if shape is None:
            raise Unknown
        return {**values, **sizes_of(shape)}

    def work_out(self, formula: Formula, values: Values) -> Value:
        """Work out one value; what is wrong with it is reported."""
        try:
            return value_of(formula, values)
        except ExpressionError as error:
            self.run.explain.expression(error, formula, values)
            raise Unknown from None

    def sources(self, item: Item, prefix: str, wire: int) -> tuple[int, ...]:
        """The wires that an item takes."""
        if item.sources is None:
            return (wire,)
        found = [wire if ref.name == PREV else self.find(ref, prefix) for ref in item.sources]
        return tuple(found)

    def find(self, ref: Ref, prefix: str) -> int:
        """The wire of a name: of this list first, then of those around it."""
        outer = prefix
        while True:
            wire = self.names.get(outer + ref.name)
            if wire is not None:
                return wire
            if not outer:
                break
            outer = outer[: outer.rstrip(".").rfind(".") + 1]
        wire = self.find_inside(ref, prefix)
        if wire is None:
            self.run.explain.reference(ref, self.names, prefix)
            raise Unknown
        return wire

    def find_inside(self, ref: Ref, prefix: str) -> int | None:
        """The wire of a layer inside a block, which then becomes a value of this fragment."""
        outer = prefix
        while True:
            path = outer + ref.name
            for index, part in enumerate(self.fragment.parts):
                if isinstance(part.content, Fragment) and path.startswith(f"{part.name}."):
                    try:
                        shape, inner, _ = find(part.content, path[len(part.name) + 1 :])
                    except KeyError:
                        continue
                    self.wires.append(Wire(shape, index, inner))
                    self.names[path] = len(self.wires) - 1
                    return self.names[path]
            if not outer:
                return None
            outer = outer[: outer.rstrip(".").rfind(".") + 1]

    def repeated(self, item: Item, values: Values, prefix: str, wire: int, patch: Patch) -> int:
        """Expand an item several times, each turn after the other."""
        assert item.repeat is not None
        times = self.modifier("repeat", item.repeat, item, values, wire, patch)
        if isinstance(times, bool) or not isinstance(times, int) or times < 0:
            override = patch.get("repeat")
            place = override.mark if isinstance(override, Override) else item.repeat.mark
            self.run.explain.repeat(times, place, item.repeat, values)
            raise Unknown
        if times > MAX_LAYERS:
            self.run.refuse(f"repeat is larger than {MAX_LAYERS:,}: {times}", item.repeat.mark)
        path = prefix + item.name
        shared = {name: below for name, below in patch.items() if not name.isdigit()} if patch else _NO_PATCH
        for turn in range(times):
            self.run.step(item)
            own = patch.get(str(turn), _NO_PATCH) if patch else _NO_PATCH
            inner = {**values, "i": turn, "n": times}
            # What is named by 'from' comes in once; from the second turn on, it is what the turn before delivers.
            first = turn == 0 or (item.sources is not None and len(item.sources) > 1)
            sources = self.sources(item, prefix, wire) if first else (wire,)
            turned = {**shared, **own} if isinstance(own, dict) else shared
            wire = self.one(item, inner, f"{path}.{turn}", wire, sources, turned)
            self.names[f"{path}.{turn}"] = wire
        return wire

    def one(self, item: Item, values: Values, path: str, wire: int, sources: tuple[int, ...], patch: Patch) -> int:
        """Expand an item once, under the name ``path``."""
        action = item.action
        if isinstance(action, LayerCall):
            return self.layer(item, action, values, path, sources, patch)
        if isinstance(action, BlockCall):
            return self.block(item, action, values, path, sources, patch)
        if isinstance(action, Choice):
            word = self.work_out(action.formula, values)
            chosen = action.compile(word) if isinstance(word, str) else None
            if not isinstance(chosen, (LayerCall, BlockCall)):
                self.run.explain.choice(word, action.formula, values)
                raise Unknown
            call = self.layer if isinstance(chosen, LayerCall) else self.block
            return call(item, chosen, values, path, sources, patch)  # type: ignore[arg-type]
        if len(sources) > 1:
            self.run.problems.add("a group takes one input", item.mark)
            raise Unknown
        self.fragment.groups[path] = "residual" if isinstance(action, Residual) else "parallel"
        if isinstance(action, Residual):
            return self.residual(item, action, values, path, sources[0], patch)
        return self.parallel(item, action, values, path, sources[0], patch)

    def layer(
        self, item: Item, action: LayerCall, values: Values, path: str, sources: tuple[int, ...], patch: Patch
    ) -> int:
        """Expand one layer."""
        names, formulas, token = action.names, action.formulas, action.token
        given: tuple[Value, ...]
        owner = self.find(item.share, path[: path.rfind(".") + 1]) if item.share is not None else None
        if action.constants is not None:
            given = action.constants
        else:
            known = self.with_sizes(item, values, sources[0])
            try:
                given = tuple([f.constant if f.evaluate is None else f.evaluate(known) for f in formulas])
            except Exception:  # found again below, one by one, with its place
                given = self.all_of(formulas, known)
        overridden: dict[str, Override] = {}
        if patch:
            written = dict(zip(names, given, strict=True))
            for key, override in patch.items():
                name = action.kind.shorts.get(key, key)
                if isinstance(override, Override) and name in action.kind.arguments:
                    override.used = True
                    overridden[name] = override
                    written[name] = override.value
            names, given = tuple(written), tuple(written.values())
            token = (action.kind.kind(), names)
        leaf = None
        shapes = tuple([self.wires[source].shape for source in sources])
        try:
            if owner is not None and not names:
                names, given = self.borrowed(owner)
                token = (action.kind.kind(), names)
            if None in shapes:
                self.run.explain.arguments(action, names, given, overridden)
                raise Unknown
            leaf = self.run.leaf(action.kind, token, names, given, shapes)  # type: ignore[arg-type]
        except LayerError as error:
            self.run.explain.layer(error, item, action, path, self.fragment, sources, values, overridden)
            raise Unknown from None
        return self.add(item, path, sources, leaf, values, owner=owner, patch=patch)

    def all_of(self, formulas: tuple[Formula, ...], values: Values) -> tuple[Value, ...]:
        """Work formulas out one by one, so that each mistake is reported at its place."""
        found, complete = [], True
        for formula in formulas:
            try:
                found.append(self.work_out(formula, values))
            except Unknown:
                complete = False
        if not complete:
            raise Unknown
        return tuple(found)

    def borrowed(self, owner: int) -> tuple[tuple[str, ...], tuple[Value, ...]]:
        """The arguments of the layer whose weights are used again."""
        leaf = self.leaf_of(owner)
        if leaf is None:
            return (), ()
        written = {
            name: tuple(value) if isinstance(value, list) else value for name, value in leaf.layer.written().items()
        }
        return tuple(written), tuple(written.values())

    def leaf_of(self, wire: int) -> Leaf | None:
        """The layer that delivers a wire, or None where it is an input or a block."""
        value = self.wires[wire]
        if value.part < 0 or value.shape is None:
            return None
        content = self.fragment.parts[value.part].content
        if isinstance(content, Leaf):
            return content
        return find(content, value.inner)[2] if value.inner else None

    def add(
        self,
        item: Item,
        path: str,
        sources: tuple[int, ...],
        content: Leaf | Fragment,
        values: Values,
        *,
        what: str = "",
        owner: int | None = None,
        patch: Patch | None = None,
    ) -> int:
        """Add a part; give its wire."""
        trainable = True
        if item.frozen is not None:
            frozen = self.modifier("frozen", item.frozen, item, values, sources[0], patch or _NO_PATCH)
            trainable = not self.is_true(frozen, item.frozen)
        if owner is not None and isinstance(content, Leaf):
            self.check_owner(item, content, owner)
        self.count += content.counts.layers
        if self.count > MAX_LAYERS:
            self.run.refuse(f"more than {MAX_LAYERS:,} layers", item.mark)
        fragment = self.fragment
        fragment.parts.append(Part(path, item, sources, content, what, owner, trainable))
        shape = content.output if isinstance(content, Leaf) else content.values[content.output].shape
        self.wires.append(Wire(shape, len(fragment.parts) - 1))
        return len(self.wires) - 1

    def is_true(self, value: Value, formula: Formula) -> bool:
        try:
            return truth(value)
        except ExpressionError as error:
            self.run.explain.expression(error, formula, {})
            raise Unknown from None

    def check_owner(self, item: Item, leaf: Leaf, owner: int) -> None:
        """Refuse to use weights again in a layer that they do not fit."""
        first = self.leaf_of(owner)
        assert item.share is not None
        if first is None:
            if self.wires[owner].shape is not None:
                self.run.problems.add(f"'{item.share.name}' is not a single layer", item.share.mark)
            raise Unknown
        if type(first.layer) is not type(leaf.layer) or dict(first.layer.parameters()) != dict(leaf.layer.parameters()):
            self.run.problems.add(
                f"the weights of '{item.share.name}' do not fit: it is {first.layer!r}, this is {leaf.layer!r}",
                item.share.mark,
            )
            raise Unknown

    def block(
        self, item: Item, action: BlockCall, values: Values, path: str, sources: tuple[int, ...], patch: Patch
    ) -> int:
        """Expand one call of a block."""
        run = self.run
        block = run.plan.blocks.get(action.block)
        if block is None:
            raise Unknown
        if len(sources) != len(block.inputs):
            run.explain.inputs(block, item, len(sources))
            raise Unknown
        known = self.with_sizes(item, values, sources[0])
        given = dict(zip(action.names, self.all_of(action.formulas, known), strict=True))
        inner = _NO_PATCH
        if patch:
            for name, override in patch.items():
                if isinstance(override, Override) and name in block.params:
                    override.used = True
                    given[name] = override.value
            inner = {name: below for name, below in patch.items() if not (isinstance(below, Override) and below.used)}
        shapes = tuple([self.wires[source].shape for source in sources])
        if None in shapes:
            raise Unknown
        params: dict[str, Value] = {}
        around = None
        for name, formula in block.params.items():
            if name in given:
                params[name] = given[name]
            elif formula is None:
                raise Unknown
            elif formula.evaluate is None:
                params[name] = formula.constant
            else:
                around = around or {**(run.values if not block.shipped else {}), **sizes_of(shapes[0])}
                params[name] = self.work_out(formula, {**around, **params})
        run.explain.enter(block, item, path)
        try:
            fragment = run.call(block, shapes, params, inner)  # type: ignore[arg-type]
        finally:
            run.explain.leave()
        return self.add(item, path, sources, fragment, values, what=block.name, patch=patch)

    def residual(self, item: Item, action: Residual, values: Values, path: str, wire: int, patch: Patch) -> int:
        """Expand a body and what is added to it."""
        end = self.items(action.body, values, f"{path}.", wire, patch)
        before, after = self.wires[wire].shape, self.wires[end].shape
        if before is None or after is None:
            if action.shortcut == "layers":
                self.items(action.shortcut_items, values, f"{path}.shortcut.", wire, patch.get("shortcut", _NO_PATCH))
            raise Unknown
        side = wire
        if action.shortcut == "same":
            if before != after:
                return end
        elif action.shortcut == "layers":
            side = self.items(
                action.shortcut_items, values, f"{path}.shortcut.", wire, patch.get("shortcut", _NO_PATCH)
            )
            self.names[f"{path}.shortcut"] = side
        elif action.shortcut == "project" and before != after:
            side = self.project(item, action, values, path, wire, after)
        if self.wires[side].shape is None:
            raise Unknown
        if self.wires[side].shape != after:
            self.run.explain.residual(action, self.fragment, side, end)
            raise Unknown
        return self.made("Add", {}, item, f"{path}.add", (end, side), values)

    def project(self, item: Item, action: Residual, values: Values, path: str, wire: int, after: Shape) -> int:
        """The shortcut of a ResNet where the shape changes: 1x1 convolution without bias, then a batch norm.

        Option B of *Deep Residual Learning* (arXiv:1512.03385, section 4.1); the stride follows from the shapes.
        """
        before = self.wires[wire].shape
        assert before is not None
        rank = len(after)
        strides = tuple(
            next((step for step in (-(-a // b), a // b) if step and (a - 1) // step + 1 == b), 0)
            for a, b in zip(before[2:], after[2:], strict=False)
        )
        if len(before) != rank or rank not in (3, 4, 5) or 0 in strides:
            self.run.explain.project(action, before, after)
            raise Unknown
        stride = strides[0] if len(set(strides)) == 1 else strides
        arguments = {"out_channels": after[1], "kernel_size": 1, "stride": stride, "bias": False}
        wire = self.made(f"Conv{rank - 2}d", arguments, item, f"{path}.shortcut.conv{rank - 2}d", (wire,), values)
        return self.made(f"BatchNorm{rank - 2}d", {}, item, f"{path}.shortcut.batchnorm{rank - 2}d", (wire,), values)

    def made(
        self, name: str, arguments: dict[str, Value], item: Item, path: str, sources: tuple[int, ...], values: Values
    ) -> int:
        """Add a layer that the grammar implies."""
        kind = layers.NAMES.get(name) or layers.NAMES[name.lower()]
        shapes = tuple([self.wires[source].shape for source in sources])
        names = tuple(arguments)
        try:
            leaf = self.run.leaf(kind, (name, names), names, tuple(arguments.values()), shapes)  # type: ignore[arg-type]
        except LayerError as error:
            self.run.explain.merge(error, item, self.fragment, sources)
            raise Unknown from None
        wire = self.add(item, path, sources, leaf, values)
        self.names[path] = wire
        return wire

    def parallel(self, item: Item, action: Parallel, values: Values, path: str, wire: int, patch: Patch) -> int:
        """Expand the paths and merge their ends."""
        ends = []
        for name, items in action.paths:
            below = patch.get(name, _NO_PATCH) if patch else _NO_PATCH
            end = self.items(items, values, f"{path}.{name}.", wire, below if isinstance(below, dict) else _NO_PATCH)
            self.names[f"{path}.{name}"] = end
            ends.append(end)
        if any(self.wires[end].shape is None for end in ends):
            raise Unknown
        return self.made(action.merge.capitalize(), {}, item, f"{path}.{action.merge}", tuple(ends), values)

    def unknown(self) -> int:
        """A wire of which nothing is known."""
        self.wires.append(Wire(None, -1))
        return len(self.wires) - 1


_NO_PATCH: Patch = {}

__all__ = ["Run", "SpecError", "did_you_mean", "sizes_of"]
