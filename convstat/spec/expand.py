"""A plan and the values of its variables -> a fragment with every size known.

One evaluator serves full expansions and sweeps; they differ only in what its memo already holds.
A layer is looked up by its kind, its arguments and its input shapes,
a block by its parameters, the variables that it reads, and its input shapes.
After a mistake, expansion continues with an unknown shape, so that one run reports every mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from convstat import layers
from convstat.errors import LayerError, SpecError
from convstat.formulas.cost import Shape
from convstat.formulas.symbolic import Symbolic, amount, is_integer
from convstat.layers.base import Layer
from convstat.spec import shipped
from convstat.spec.explain import Explainer
from convstat.spec.expressions import Expression, ExpressionError, Value
from convstat.spec.fragment import Fragment, Leaf, Part, Turn, Wire, find
from convstat.spec.items import MAX_CALLS
from convstat.spec.overrides import NO_PATCH, Patch
from convstat.spec.plan import (
    INPUT,
    PREV,
    Block,
    BlockCall,
    Broken,
    Choice,
    Item,
    LayerCall,
    Parallel,
    Plan,
    Ref,
    Residual,
    Variant,
)
from convstat.spec.problems import Problems
from convstat.spec.values import sizes_of, truth, types_of

MAX_STEPS = 60_000
"""Items that are worked out one by one and are not layers; those of a block found in the memo are not."""

MAX_LAYERS = 100_000
MAX_BLOCKS = 100_000
"""How many calls of blocks may stand in a model. One that comes to nothing costs time and memory too."""

MAX_SIZE = 1 << 40
"""The largest size of an axis or an argument."""

MAX_MEMO = 50_000

Memo = dict[Any, Any]
Values = Mapping[str, Value]


class UnknownError(Exception):
    """A value is unknown because of a mistake that is already reported."""


class Run:
    """One expansion of a plan; ``memo`` is shared between the expansions of a spec."""

    def __init__(self, plan: Plan, values: dict[str, Value], memo: Memo, problems: Problems) -> None:
        self.plan = plan
        self.values = values
        self.memo = memo
        self.problems = problems
        self.steps = 0
        self.explain = Explainer(plan, values, problems)
        self.block_values: dict[str, object] = {}
        if len(memo) > MAX_MEMO:
            memo.clear()

    def fragment(
        self,
        names: tuple[str, ...],
        shapes: tuple[Shape | None, ...],
        items: tuple[Item, ...],
        values: Values,
        patch: Patch,
    ) -> Fragment:
        """Expand a list of layers; ``names`` and ``shapes`` are those of its inputs."""
        made = Fragment([Wire(shape, -1 - number) for number, shape in enumerate(shapes)])
        made.names.update({name: number for number, name in enumerate(names)}, **{INPUT: 0})
        return made.finish(_Body(self, made).items(items, values, "", 0, patch))

    def model(
        self, variant: Variant, shapes: tuple[Shape | None, ...], patch: Patch
    ) -> tuple[Fragment, tuple[int, ...]]:
        """Expand the whole plan; return its fragment and the wires of its outputs."""
        names = tuple([entry.name for entry in variant.inputs])
        fragment = self.fragment(names, shapes, self.plan.items, self.values, patch)
        found = []
        for ref in self.plan.outputs:
            with suppress(UnknownError):
                found.append(fragment.output if ref.name == PREV else _Body(self, fragment).find(ref, ""))
        return fragment, tuple(found) if self.plan.outputs else (fragment.output,)

    def step(self, item: Item) -> None:
        """Count one item towards the limit that keeps a hostile spec from running on."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            self.expect(0, 0, item)

    def expect(self, steps: int, layers: int, item: Item) -> None:
        """Refuse now what would exceed a limit after that many more steps, or with that many layers."""
        if layers > MAX_LAYERS:
            self.problems.refuse(f"more than {MAX_LAYERS:,} layers", item.mark)
        if self.steps + steps > MAX_STEPS:
            self.problems.refuse(f"more than {MAX_STEPS:,} items", item.mark)

    def block(
        self, block: Block, turn: Turn, params: dict[str, Value], shapes: tuple[Shape, ...], at: Fragment
    ) -> Fragment:
        """Expand a block, all its parameters given, or take the expansion from the memo."""
        read = self.block_values.get(block.name)
        if read is None:
            own = tuple([self.values.get(name) for name in self.plan.reads(block)])
            # One object stands for them: a hash of fractions takes as long as the rest of a key's.
            read = self.block_values[block.name] = self.memo.setdefault((block.name, own, types_of(own)), object())
        given = tuple(params.values())
        key = (read, given, types_of(given), shapes)
        is_patched = bool(turn.patch.below)
        found: Fragment | None = None if is_patched else self.memo.get(key)
        if found is not None:
            return found
        self.explain.calls.append((block, turn, at))
        if len(self.explain.calls) > MAX_CALLS:
            self.problems.refuse(f"blocks are nested more than {MAX_CALLS} deep", turn.item.mark)
        noted = self.problems.noted
        values = params if block.shipped else {**self.values, **params}
        made = self.fragment(block.inputs, shapes, block.items, values, turn.patch)
        if not is_patched and self.problems.noted == noted:
            self.memo[key] = made
        self.explain.calls.pop()
        return made

    def leaf(self, kind: type[Layer], given: dict[str, Value], shapes: tuple[Shape, ...]) -> Leaf:
        """Create a layer, or take it from the memo; raises LayerError."""
        values = tuple(given.values())
        key = (kind, tuple(given), values, types_of(values), shapes)
        found: Leaf | None = self.memo.get(key)
        if found is None:
            for name, value in given.items():
                _check_size(name, value)
            layer = kind.create(given, shapes)
            output = layer.output_shape(shapes)
            if any(size > MAX_SIZE for size in output):
                raise LayerError(f"the output would be larger than {MAX_SIZE} along an axis")
            found = self.memo[key] = Leaf(layer, shapes, output)
        return found


def _check_size(name: str, value: Value) -> None:
    """Raise LayerError for a size that no tensor can have."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, tuple):
            _check_size(name, item)
        elif isinstance(item, (int, Symbolic)) and not -MAX_SIZE <= item <= MAX_SIZE:  # type: ignore[operator]
            raise LayerError(f"{name} is larger than {MAX_SIZE}", argument=name)


class _Body:
    """Expands the items of one fragment into its parts, and the wires between them."""

    def __init__(self, run: Run, fragment: Fragment) -> None:
        self.run = run
        self.fragment = fragment
        self.wires = fragment.wires
        self.names = fragment.names
        self.count = 0
        self.width: str | None = None
        """The width of weights that the group around the items sets."""

    def items(self, items: tuple[Item, ...], values: Values, prefix: str, wire: int, patch: Patch) -> int:
        """Expand items in sequence; return the output wire of the last."""
        for item in items:
            wire = self.item(item, values, prefix, wire, patch.at(item.name))
        return wire

    def item(self, item: Item, values: Values, prefix: str, wire: int, patch: Patch) -> int:
        """Expand one item; return its output wire."""
        turn = Turn(item, prefix + item.name, values, (wire,), patch)
        try:
            if item.when is not None and not self.flag("when", item.when, turn):
                self.run.step(item)
                return wire
            if item.repeat is not None:
                end = self.repeated(item.repeat, turn, prefix)
            elif item.sources is not None:
                end = self.one(turn._replace(sources=self.sources(item, prefix, wire)))
            else:
                end = self.one(turn)
        except UnknownError:
            # What else is wrong with it: the names that it takes, and how often it is repeated.
            with suppress(UnknownError):
                self.sources(item, prefix, wire)
            with suppress(UnknownError):
                if item.share is not None:
                    self.find(item.share, prefix)
            with suppress(UnknownError):
                if item.repeat is not None:
                    self.times(item.repeat, turn)
            self.wires.append(Wire(None, -1))
            end = len(self.wires) - 1
        self.names[turn.path] = end
        if prefix:
            self.names.setdefault(f"{prefix}{item.position}", end)
        return end

    def modifier(self, name: str, written: Expression, turn: Turn) -> Value:
        """Evaluate ``when``, ``repeat`` or ``frozen``, or take its override."""
        override = turn.patch.take(name)
        return self.work_out(written, self.with_sizes(turn)) if override is None else override.value

    def flag(self, name: str, written: Expression, turn: Turn) -> bool:
        """Evaluate ``when`` or ``frozen``."""
        value = self.modifier(name, written, turn)
        try:
            return truth(value)
        except ExpressionError as error:
            self.run.explain.expression(error, written, turn.values)
            raise UnknownError from None

    def with_sizes(self, turn: Turn) -> Values:
        """The values of a turn, with the sizes of its input where the item reads them."""
        if not turn.item.needs_shape:
            return turn.values
        shape = self.wires[turn.sources[0]].shape
        if shape is None:
            raise UnknownError
        return {**turn.values, **sizes_of(shape)}

    def work_out(self, written: Expression, values: Values) -> Value:
        """Evaluate one expression; report what is wrong with it."""
        try:
            return written.value(values)
        except ExpressionError as error:
            self.run.explain.expression(error, written, values)
            raise UnknownError from None

    def arguments(self, written: Mapping[str, Expression], turn: Turn) -> dict[str, Value]:
        """Evaluate the arguments of a call."""
        if not written:
            return {}
        known = turn.values
        if turn.item.needs_shape and any(value.evaluate is not None for value in written.values()):
            known = self.with_sizes(turn)
        try:
            return {name: v.constant if v.evaluate is None else v.evaluate(known) for name, v in written.items()}
        except Exception:  # found again below, one by one, with its place
            pass
        found: dict[str, Value] = {}
        for name, value in written.items():
            with suppress(UnknownError):
                found[name] = self.work_out(value, known)
        if len(found) < len(written):
            raise UnknownError
        return found

    def sources(self, item: Item, prefix: str, wire: int) -> tuple[int, ...]:
        """The input wires of an item."""
        if item.sources is None:
            return (wire,)
        found = []
        for ref in item.sources:
            with suppress(UnknownError):
                found.append(wire if ref.name == PREV else self.find(ref, prefix))
        if len(found) < len(item.sources):
            raise UnknownError
        return tuple(found)

    def find(self, ref: Ref, prefix: str) -> int:
        """Look a name up: in this list, then in those around it, then among the layers inside blocks."""
        paths = [outer + ref.name for outer in _outward(prefix)]
        for path in paths:
            if path in self.names:
                return self.names[path]
        for path in paths:
            with suppress(KeyError):
                self.wires.append(find(self.fragment, path)[0])
                self.names[path] = len(self.wires) - 1
                return self.names[path]
        self.run.explain.reference(ref, self.names, prefix)
        raise UnknownError

    def repeated(self, repeat: Expression, turn: Turn, prefix: str) -> int:
        """Expand an item several times in sequence."""
        item, path, values, (wire,), patch = turn
        times = self.times(repeat, turn)
        before = 0, 0
        for number in range(times):
            if number == 2:
                # The second turn is a fair sample: what the first put into the memo, all later ones find there.
                steps, count = self.run.steps - before[0], self.count - before[1]
                self.run.expect(steps * (times - 2), self.count + count * (times - 2), item)
            before = self.run.steps, self.count
            # What is named by 'from' comes in once; from the second turn on, it is what the turn before delivers.
            first = number == 0 or (item.sources is not None and len(item.sources) > 1)
            sources = self.sources(item, prefix, wire) if first else (wire,)
            inner = patch if patch is NO_PATCH else patch.turn(number)
            wire = self.one(Turn(item, f"{path}.{number}", {**values, "i": number, "n": times}, sources, inner))
            self.names[f"{path}.{number}"] = wire
        return wire

    def times(self, repeat: Expression, turn: Turn) -> int:
        """Evaluate ``repeat`` and check that it is a count."""
        times = self.modifier("repeat", repeat, turn)
        if not is_integer(times) or times < 0:
            override = turn.patch.take("repeat")
            self.run.explain.repeat(times, override.mark if override else repeat.mark, repeat, turn.values)
            raise UnknownError
        if times > MAX_LAYERS:
            self.run.problems.refuse(f"repeat is larger than {MAX_LAYERS:,}: {times}", repeat.mark)
        return int(times)

    def one(self, turn: Turn) -> int:
        """Expand one turn of an item."""
        action = turn.item.action
        if isinstance(action, LayerCall):
            return self.layer(action, turn)
        self.run.step(turn.item)
        if isinstance(action, Choice):
            action = self.chosen(action, turn)
        if isinstance(action, LayerCall):
            return self.layer(action, turn)
        if isinstance(action, BlockCall):
            return self.block(action, turn)
        if isinstance(action, (Broken, Choice)):
            raise UnknownError
        if len(turn.sources) > 1:
            self.run.problems.add("a group takes one input", turn.item.mark)
            raise UnknownError
        self.fragment.groups[turn.path] = "residual" if isinstance(action, Residual) else "parallel"
        outer, self.width = self.width, turn.item.weights or self.width
        try:
            return self.residual(action, turn) if isinstance(action, Residual) else self.parallel(action, turn)
        finally:
            self.width = outer

    def chosen(self, action: Choice, turn: Turn) -> LayerCall | BlockCall:
        """The call of the layer or block that a variable or parameter names."""
        word = self.work_out(action.written, turn.values)
        try:
            found = action.compile(word) if isinstance(word, str) else None
        except SpecError as error:
            self.run.problems.include(error.diagnostics)
            raise UnknownError from None
        if not isinstance(found, (LayerCall, BlockCall)):
            self.run.explain.choice(word, action.written, turn.values)
            raise UnknownError
        return found

    def layer(self, action: LayerCall, turn: Turn) -> int:
        """Expand one layer."""
        kind, share = action.kind, turn.item.share
        owner = None if share is None else self.find(share, turn.path[: turn.path.rfind(".") + 1])
        given = self.arguments(action.arguments, turn)
        overridden = {} if turn.patch is NO_PATCH else turn.patch.apply(given, kind.arguments, kind.shorts)
        shapes = tuple([self.wires[source].shape for source in turn.sources])
        try:
            if share is not None and owner is not None and not given:
                given = self.borrowed(share, owner, kind)
            if None in shapes:
                self.run.explain.arguments(action, given, overridden)
                raise UnknownError
            leaf = self.run.leaf(kind, given, shapes)  # type: ignore[arg-type]
        except LayerError as error:
            self.run.explain.layer(error, action, turn, self.fragment, overridden)
            # Without an argument that follows from the input, or groups, the output has the same shape: use that.
            wrong = kind.arguments.get(error.argument or "")
            if error.argument not in given or wrong is None or (wrong.infer is None and error.argument != "groups"):
                raise UnknownError from None
            kept = {name: value for name, value in given.items() if name != error.argument}
            try:
                leaf, owner = self.run.leaf(kind, kept, shapes), None  # type: ignore[arg-type]
            except LayerError:
                raise UnknownError from None
        return self.add(turn, leaf, owner=owner)

    def borrowed(self, share: Ref, owner: int, kind: type[Layer]) -> dict[str, Value]:
        """The arguments of the layer whose weights are shared."""
        leaf = self.leaf_of(owner)
        if leaf is None:
            return {}
        if type(leaf.layer) is not kind:
            kinds = f"it is a {leaf.layer.kind()}, and this a {kind.kind()}"
            self.run.explain.add(f"the weights of '{share.name}' do not fit: {kinds}", share.mark)
            raise UnknownError
        return {name: tuple(v) if isinstance(v, list) else v for name, v in leaf.layer.written().items()}

    def leaf_of(self, index: int) -> Leaf | None:
        """The layer whose output a wire is, or None for an input or the output of a block."""
        wire = self.wires[index]
        if wire.part < 0 or wire.shape is None:
            return None
        content = self.fragment.parts[wire.part].content
        if isinstance(content, Leaf):
            return content
        return find(content, wire.inner)[1] if wire.inner else None

    def check_owner(self, share: Ref, leaf: Leaf, owner: int) -> None:
        """Report shared weights that do not fit the layer."""
        first = self.leaf_of(owner)
        if first is None:
            if self.wires[owner].shape is not None:
                self.run.problems.add(f"'{share.name}' is not a single layer", share.mark)
            raise UnknownError
        if type(first.layer) is not type(leaf.layer) or dict(first.layer.parameters()) != dict(leaf.layer.parameters()):
            self.run.explain.share(share, first, leaf)
            raise UnknownError

    def add(
        self,
        turn: Turn,
        content: Leaf | Fragment,
        *,
        what: str = "",
        owner: int | None = None,
        given: Mapping[str, Value] | None = None,
    ) -> int:
        """Add a part; return its output wire."""
        item, path, _, sources, _ = turn
        fragment, wires = self.fragment, self.wires
        trainable = item.frozen is None or not self.flag("frozen", item.frozen, turn)
        if owner is not None and item.share is not None and isinstance(content, Leaf):
            self.check_owner(item.share, content, owner)
        self.count += content.counts.layers
        if self.count > MAX_LAYERS:
            self.run.expect(0, self.count, item)
        if isinstance(content, Leaf):
            shape: Shape | None = content.output
        else:
            shape = content.wires[content.output].shape
            fragment.calls += 1 + content.calls
            if fragment.calls > MAX_BLOCKS:
                self.run.problems.refuse(f"more than {MAX_BLOCKS:,} calls of blocks", item.mark)
        parts = fragment.parts
        parts.append(Part(path, item, sources, content, what, owner, trainable, given, item.weights or self.width))
        wires.append(Wire(shape, len(parts) - 1))
        return len(wires) - 1

    def block(self, action: BlockCall, turn: Turn) -> int:
        """Expand one call of a block."""
        run = self.run
        block = run.plan.blocks.get(action.block)
        if block is None:
            raise UnknownError
        if len(turn.sources) != len(block.inputs):
            run.explain.inputs(block, turn)
            raise UnknownError
        given = self.arguments(action.arguments, turn)
        if turn.patch is not NO_PATCH:
            turn.patch.apply(given, block.params)
        shapes = tuple([self.wires[source].shape for source in turn.sources])
        if None in shapes:
            raise UnknownError
        params: dict[str, Value] = {}
        around: Values | None = None
        for name, default in block.params.items():
            if name in given:
                params[name] = given[name]
            elif default is None:
                raise UnknownError
            elif default.evaluate is None:
                params[name] = default.constant
            else:
                around = around or {**({} if block.shipped else run.values), **sizes_of(shapes[0])}
                params[name] = self.work_out(default, {**around, **params})
        odd = shipped.ODD.get(block.name) if block.shipped else None
        if odd is not None and is_integer(params[odd]) and params[odd] % 2 == 0:
            run.explain.add(f"{odd} of {block.name} must be odd, not {params[odd]}", turn.item.mark)
            raise UnknownError
        fragment = run.block(block, turn, params, shapes, self.fragment)  # type: ignore[arg-type]
        return self.add(turn, fragment, what=block.name, given=given)

    def made(self, name: str, arguments: dict[str, Value], turn: Turn, below: str, sources: tuple[int, ...]) -> int:
        """Add a layer that is implied, such as the addition of a residual."""
        turn = turn._replace(path=f"{turn.path}.{below}", sources=sources, patch=NO_PATCH)
        try:
            shapes = tuple([self.wires[source].shape for source in sources])
            leaf = self.run.leaf(layers.NAMES[name], arguments, shapes)  # type: ignore[arg-type]
        except LayerError as error:
            self.run.explain.merge(error, turn, self.fragment)
            raise UnknownError from None
        self.names[turn.path] = self.add(turn, leaf)
        return self.names[turn.path]

    def residual(self, action: Residual, turn: Turn) -> int:
        """Expand the body and the shortcut of a residual, and add them."""
        values, path, side = turn.values, turn.path, turn.sources[0]
        end = self.items(action.body, values, f"{path}.", side, turn.patch)
        before, after = self.wires[side].shape, self.wires[end].shape
        # Whether there is an addition changes neither MACs nor params, so no formula rests on it.
        if action.shortcut == "same" and before and after and tuple(map(amount, before)) != tuple(map(amount, after)):
            return end
        if action.shortcut == "layers":
            side = self.items(action.shortcut_items, values, f"{path}.shortcut.", side, turn.patch.at("shortcut"))
            self.names[f"{path}.shortcut"] = side
        if before is None or after is None:
            raise UnknownError
        if action.shortcut == "project" and before != after:
            side = self.project(action, turn, before, after)
        if self.wires[side].shape is None:
            raise UnknownError
        if self.wires[side].shape != after:
            self.run.explain.residual(action, self.fragment, side, end)
            return end  # what follows was most likely written for what the body gives
        return self.made("add", {}, turn, "add", (end, side))

    def project(self, action: Residual, turn: Turn, before: Shape, after: Shape) -> int:
        """The shortcut of a ResNet where the shape changes: 1x1 convolution without bias, then a batch norm.

        Option B of *Deep Residual Learning* (arXiv:1512.03385, section 4.1); the stride follows from the shapes.
        """
        rank = len(after)
        strides = tuple(
            next((step for step in _strides(a, b) if step and (a - 1) // step + 1 == b), 0)
            for a, b in zip(before[2:], after[2:], strict=False)
        )
        if len(before) != rank or rank not in (3, 4, 5) or 0 in strides:
            self.run.explain.project(action, before, after)
            raise UnknownError
        stride = strides[0] if len(set(strides)) == 1 else strides
        arguments = {"out_channels": after[1], "kernel_size": 1, "stride": stride, "bias": False}
        dims = f"{rank - 2}d"
        wire = self.made(f"Conv{dims}", arguments, turn, f"shortcut.conv{dims}", turn.sources)
        return self.made(f"BatchNorm{dims}", {}, turn, f"shortcut.batchnorm{dims}", (wire,))

    def parallel(self, action: Parallel, turn: Turn) -> int:
        """Expand the paths and merge their ends."""
        ends = []
        for name, items in action.paths:
            path = f"{turn.path}.{name}"
            end = self.items(items, turn.values, f"{path}.", turn.sources[0], turn.patch.at(name))
            self.names[path] = end
            ends.append(end)
        if any(self.wires[end].shape is None for end in ends):
            raise UnknownError
        return self.made(action.merge, {}, turn, action.merge, tuple(ends))


def _strides(before: int, after: int) -> tuple[int, int]:
    """The strides that may lead from one size to another."""
    one, other = amount(before), amount(after)
    return -(-one // other), one // other


def _outward(prefix: str) -> Iterator[str]:
    """The prefixes of names in a list and in the lists around it.

    >>> list(_outward("stage.0."))
    ['stage.0.', 'stage.', '']
    """
    while prefix:
        yield prefix
        prefix = prefix[: prefix.rstrip(".").rfind(".") + 1]
    yield ""
