"""The items of one fragment -> its parts and the wires between them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from convstat import layers
from convstat.errors import LayerError, SpecError
from convstat.spec import groups, share, shipped
from convstat.spec.fragment import Fragment, Leaf, Part, find
from convstat.spec.fragment import Value as Wire
from convstat.spec.groups import NO_PATCH, UnknownError, Values
from convstat.spec.overrides import Override, Patch
from convstat.spec.plan import PREV, BlockCall, Broken, Choice, Item, LayerCall, Ref, Residual
from convstat.spec.recover import after_mistake, likely
from convstat.spec.scalars import ExpressionError, Value
from convstat.spec.sizes import sizes_of
from convstat.spec.values import Formula, truth, types_of, value_of

if TYPE_CHECKING:
    from convstat.spec.expand import Run

MAX_LAYERS = 100_000
MAX_BLOCKS = 100_000
"""How many calls of blocks may stand in a model. One that comes to nothing costs time and memory too."""

MAX_CALLS = 64
"""How deep blocks may call blocks."""


class Body:
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
        own: Patch = patch.get(item.name, NO_PATCH) if patch else NO_PATCH
        if not isinstance(own, dict):
            own = NO_PATCH
        try:
            if item.when is not None and not truth(self.modifier("when", item.when, item, values, wire, own)):
                run.step(item)
                return wire
            if item.repeat is None:
                path = prefix + item.name
                wire = self.one(item, values, path, wire, self.sources(item, prefix, wire), own)
            else:
                wire = self.repeated(item, values, prefix, wire, own)
        except UnknownError:
            wire = after_mistake(self, item, values, prefix, wire, own)
        except ExpressionError as error:
            assert item.when is not None
            run.explain.expression(error, item.when, values)
            wire = after_mistake(self, item, values, prefix, wire, own)
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
            raise UnknownError
        return {**values, **sizes_of(shape)}

    def work_out(self, formula: Formula, values: Values) -> Value:
        """Work out one value; what is wrong with it is reported."""
        try:
            return value_of(formula, values)
        except ExpressionError as error:
            self.run.explain.expression(error, formula, values)
            raise UnknownError from None

    def sources(self, item: Item, prefix: str, wire: int) -> tuple[int, ...]:
        """The wires that an item takes."""
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
            raise UnknownError
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
        times = self.times(item, item.repeat, values, wire, patch)
        path = prefix + item.name
        shared = {name: below for name, below in patch.items() if not name.isdigit()} if patch else NO_PATCH
        before = 0, 0
        for turn in range(times):
            if turn == 2:
                # The second turn is a fair sample: what the first put into the memo, all later ones find there.
                steps, count = self.run.steps - before[0], self.count - before[1]
                self.run.expect(steps * (times - 2), self.count + count * (times - 2), item)
            before = self.run.steps, self.count
            own = patch.get(str(turn), NO_PATCH) if patch else NO_PATCH
            inner = {**values, "i": turn, "n": times}
            # What is named by 'from' comes in once; from the second turn on, it is what the turn before delivers.
            first = turn == 0 or (item.sources is not None and len(item.sources) > 1)
            sources = self.sources(item, prefix, wire) if first else (wire,)
            turned = {**shared, **own} if isinstance(own, dict) else shared
            wire = self.one(item, inner, f"{path}.{turn}", wire, sources, turned)
            self.names[f"{path}.{turn}"] = wire
        return wire

    def times(self, item: Item, repeat: Formula, values: Values, wire: int, patch: Patch) -> int:
        """How often an item is repeated."""
        times = self.modifier("repeat", repeat, item, values, wire, patch)
        if isinstance(times, bool) or not isinstance(times, int) or times < 0:
            override = patch.get("repeat")
            place = override.mark if isinstance(override, Override) else repeat.mark
            self.run.explain.repeat(times, place, repeat, values)
            raise UnknownError
        if times > MAX_LAYERS:
            self.run.refuse(f"repeat is larger than {MAX_LAYERS:,}: {times}", repeat.mark)
        return times

    def one(self, item: Item, values: Values, path: str, wire: int, sources: tuple[int, ...], patch: Patch) -> int:
        """Expand an item once, under the name ``path``."""
        action = item.action
        if isinstance(action, LayerCall):
            return self.layer(item, action, values, path, sources, patch)
        self.run.step(item)
        if isinstance(action, BlockCall):
            return self.block(item, action, values, path, sources, patch)
        if isinstance(action, Broken):
            raise UnknownError
        if isinstance(action, Choice):
            word = self.work_out(action.formula, values)
            try:
                chosen = action.compile(word) if isinstance(word, str) else None
            except SpecError as error:
                self.run.problems.include(error.diagnostics)
                raise UnknownError from None
            if not isinstance(chosen, (LayerCall, BlockCall)):
                self.run.explain.choice(word, action.formula, values)
                raise UnknownError
            call = self.layer if isinstance(chosen, LayerCall) else self.block
            return call(item, chosen, values, path, sources, patch)  # type: ignore[arg-type]
        if len(sources) > 1:
            self.run.problems.add("a group takes one input", item.mark)
            raise UnknownError
        self.fragment.groups[path] = "residual" if isinstance(action, Residual) else "parallel"
        if isinstance(action, Residual):
            return groups.residual(self, item, action, values, path, sources[0], patch)
        return groups.parallel(self, item, action, values, path, sources[0], patch)

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
        known_by: tuple[Any, ...] = (token,) if action.constants is not None else (token, given, types_of(given))
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
            known_by = (action.kind.kind(), names, given, types_of(given))
        shapes = tuple([self.wires[source].shape for source in sources])
        try:
            if owner is not None and not names:
                names, given = share.borrowed(self, owner, item, action)
                known_by = (action.kind.kind(), names, given, types_of(given))
            if None in shapes:
                self.run.explain.arguments(action, names, given, overridden)
                raise UnknownError
            leaf = self.run.leaf(action.kind, known_by, names, given, shapes)  # type: ignore[arg-type]
        except LayerError as error:
            self.run.explain.layer(error, item, action, path, self.fragment, sources, values, overridden)
            found = likely(self.run, error, action, names, given, shapes)
            if found is None:
                raise UnknownError from None
            leaf, owner = found, None
        return self.add(item, path, sources, leaf, values, owner=owner, patch=patch)

    def all_of(self, formulas: tuple[Formula, ...], values: Values) -> tuple[Value, ...]:
        """Work formulas out one by one, so that each mistake is reported at its place."""
        found, complete = [], True
        for formula in formulas:
            try:
                found.append(self.work_out(formula, values))
            except UnknownError:
                complete = False
        if not complete:
            raise UnknownError
        return tuple(found)

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
        given: Mapping[str, Value] | None = None,
    ) -> int:
        """Add a part; give its wire."""
        trainable = True
        if item.frozen is not None:
            frozen = self.modifier("frozen", item.frozen, item, values, sources[0], patch or NO_PATCH)
            trainable = not self.is_true(frozen, item.frozen)
        if owner is not None and isinstance(content, Leaf):
            share.check_owner(self, item, content, owner)
        fragment = self.fragment
        self.count += content.counts.layers
        if self.count > MAX_LAYERS:
            self.run.refuse(f"more than {MAX_LAYERS:,} layers", item.mark)
        if isinstance(content, Fragment):
            fragment.calls += 1 + content.calls
            if fragment.calls > MAX_BLOCKS:
                self.run.refuse(f"more than {MAX_BLOCKS:,} calls of blocks", item.mark)
        fragment.parts.append(Part(path, item, sources, content, what, owner, trainable, given))
        shape = content.output if isinstance(content, Leaf) else content.values[content.output].shape
        self.wires.append(Wire(shape, len(fragment.parts) - 1))
        return len(self.wires) - 1

    def is_true(self, value: Value, formula: Formula) -> bool:
        try:
            return truth(value)
        except ExpressionError as error:
            self.run.explain.expression(error, formula, {})
            raise UnknownError from None

    def block(
        self, item: Item, action: BlockCall, values: Values, path: str, sources: tuple[int, ...], patch: Patch
    ) -> int:
        """Expand one call of a block."""
        run = self.run
        block = run.plan.blocks.get(action.block)
        if block is None:
            raise UnknownError
        if len(sources) != len(block.inputs):
            run.explain.inputs(block, item, len(sources))
            raise UnknownError
        known = self.with_sizes(item, values, sources[0])
        try:
            taken = [f.constant if f.evaluate is None else f.evaluate(known) for f in action.formulas]
        except Exception:  # found again below, one by one, with its place
            taken = list(self.all_of(action.formulas, known))
        given = dict(zip(action.names, taken, strict=True))
        inner = NO_PATCH
        if patch:
            for name, override in patch.items():
                if isinstance(override, Override) and name in block.params:
                    override.used = True
                    given[name] = override.value
            inner = {name: below for name, below in patch.items() if not (isinstance(below, Override) and below.used)}
        shapes = tuple([self.wires[source].shape for source in sources])
        if None in shapes:
            raise UnknownError
        params: dict[str, Value] = {}
        around = None
        for name, formula in block.params.items():
            if name in given:
                params[name] = given[name]
            elif formula is None:
                raise UnknownError
            elif formula.evaluate is None:
                params[name] = formula.constant
            else:
                around = around or {**(run.values if not block.shipped else {}), **sizes_of(shapes[0])}
                params[name] = self.work_out(formula, {**around, **params})
        odd = shipped.ODD.get(block.name) if block.shipped else None
        if odd is not None and isinstance(params[odd], int) and params[odd] % 2 == 0:
            run.explain.add(f"{odd} of {block.name} must be odd, not {params[odd]}", item.mark)
            raise UnknownError
        key = None if inner else run.key_of(block, tuple(params.values()), shapes)
        fragment: Fragment | None = run.memo.get(key)
        if fragment is None:
            run.explain.enter(block, item, path, self.fragment, sources)
            if len(run.explain.calls) > MAX_CALLS:
                run.refuse(f"blocks call blocks more than {MAX_CALLS} deep", item.mark)
            fragment = run.call(block, shapes, params, inner, key)  # type: ignore[arg-type]
            run.explain.leave()
        return self.add(item, path, sources, fragment, values, what=block.name, patch=patch, given=given)

    def made(
        self, name: str, arguments: dict[str, Value], item: Item, path: str, sources: tuple[int, ...], values: Values
    ) -> int:
        """Add a layer that the grammar implies."""
        kind = layers.NAMES.get(name) or layers.NAMES[name.lower()]
        shapes = tuple([self.wires[source].shape for source in sources])
        names, given = tuple(arguments), tuple(arguments.values())
        try:
            leaf = self.run.leaf(kind, (name, names, given, types_of(given)), names, given, shapes)  # type: ignore[arg-type]
        except LayerError as error:
            self.run.explain.merge(error, item, self.fragment, sources)
            raise UnknownError from None
        wire = self.add(item, path, sources, leaf, values)
        self.names[path] = wire
        return wire

    def unknown(self) -> int:
        """A wire of which nothing is known."""
        self.wires.append(Wire(None, -1))
        return len(self.wires) - 1
