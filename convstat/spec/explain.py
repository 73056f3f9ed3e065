"""Messages about an expansion: what is wrong, where it is written, and where the values came from."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from convstat.errors import LayerError, Mark, did_you_mean
from convstat.formulas.cost import Shape
from convstat.layers.base import show, show_shape
from convstat.spec.expressions import Expression, ExpressionError, Value
from convstat.spec.fragment import Fragment, Leaf, Turn
from convstat.spec.overrides import Override, mark_of, shown
from convstat.spec.plan import INPUT, PREV, Block, LayerCall, Plan, Ref, Residual
from convstat.spec.problems import Problems
from convstat.spec.values import SHAPE_NAMES, sizes_of

Values = Mapping[str, Value]


class Explainer:
    """Reports problems of an expansion, each with its place, notes and help."""

    def __init__(self, plan: Plan, values: Values, problems: Problems) -> None:
        self.plan = plan
        self.values = values
        self.problems = problems
        self.calls: list[tuple[Block, Turn, Fragment]] = []
        """The calls of blocks that are being expanded, each with the fragment that it stands in."""
        self.overridden: dict[str, Value] = {}
        self.given_inputs: Collection[str] = ()

    def add(
        self, message: str, mark: Mark, notes: tuple[str, ...] = (), help: str | tuple[str, ...] | None = None
    ) -> None:
        """Add a problem, with the calls of blocks that led to it."""
        shipped = next((k for k, (block, _, _) in enumerate(self.calls) if block.shipped), None)
        if shipped is not None:
            # The user did not write the inside of a shipped block: the place is the call.
            block, turn, _ = self.calls[shipped]
            notes = (f"inside the block {block.name}, at {mark.text.strip()[:80]}", *notes)
            mark = turn.item.mark
        for block, turn, _ in reversed(self.calls[:shipped]):
            notes = (*notes, f"in block '{block.name}', called at {_place(turn.item.mark)} ('{turn.path}')")
        self.problems.add(message, mark, notes=notes, help=help)

    def expression(self, error: ExpressionError, written: Expression, values: Values) -> None:
        """An expression that cannot be evaluated."""
        message, help = error.message, error.help
        missing = re.fullmatch(r"'(\w+)' has no value here", message)
        if missing and missing[1] in self.plan.variants[None].variables:
            self.problems.noted += 1  # the variable itself is wrong, which is reported
            return
        if missing:
            there = ", ".join(name for name in SHAPE_NAMES if name in values)
            message = f"the input has no '{missing[1]}'"
            help = (f"it has: {there}",) if there else ()
        self.add(message, written.part(error.offset, error.length), self.read(written, values), help)

    def read(self, written: Expression, values: Values) -> tuple[str, ...]:
        """The values that an expression reads, and where each was set."""
        lines = []
        variables = self.plan.variants[None].variables
        for name in sorted(written.names):
            if name not in values:
                continue
            line = f"{name}={shown(values[name])}"
            if name in self.overridden and values[name] == self.overridden[name]:
                line += f", from {mark_of(name, values[name])}"
            elif name in variables and values[name] == self.values.get(name):
                line += f", from {_place(variables[name].mark)}"
            lines.append(line)
        return tuple(lines)

    def layer(
        self, error: LayerError, action: LayerCall, turn: Turn, fragment: Fragment, overridden: Mapping[str, Override]
    ) -> None:
        """A layer with invalid arguments, or one that does not fit its input."""
        mark, notes = turn.item.mark, list[str]()
        argument, sources = error.argument or "", turn.sources
        shapes = [fragment.wires[source].shape for source in sources]
        if argument in overridden:
            mark = overridden[argument].mark
        elif argument in action.arguments:
            written = action.arguments[argument]
            mark = written.mark
            notes += self.read(written, {**turn.values, **sizes_of(shapes[0])})
        inferred = [
            name
            for name, spec in action.kind.arguments.items()
            if spec.infer is not None and name not in action.arguments and re.search(rf"\b{name}\b", error.message)
        ]
        if inferred:
            notes.append(f"{inferred[0]} comes from {self.origin(fragment, sources[0])}")
        elif not argument or any(shape and show_shape(shape) in error.message for shape in shapes):
            notes += [f"the input {note}" for note in self.origins(fragment, sources)]
        help = (error.help,) if error.help else ()
        if argument and not help and argument not in action.arguments and argument not in overridden:
            spec = action.kind.arguments.get(argument)
            if spec is not None and spec.required:
                help = (f"{action.kind.kind()}: {{{argument}: ...}}",)
        self.add(error.message, mark, tuple(notes), help)

    def arguments(self, action: LayerCall, given: Mapping[str, Value], overridden: Mapping[str, Override]) -> None:
        """Check the arguments of a layer one by one, where its input is unknown."""
        for name, value in given.items():
            try:
                action.kind.arguments[name].kind.parse(value, name)
            except LayerError as error:
                mark = overridden[name].mark if name in overridden else action.arguments[name].mark
                self.add(error.message, mark, (), error.help)

    def origin(self, fragment: Fragment, index: int) -> str:
        """Where a wire originates, in words; the inputs of a block are traced to its caller."""
        wire = fragment.wires[index]
        for _, turn, outer in reversed(self.calls):
            if wire.part >= 0:
                break
            fragment = outer
            wire = fragment.wires[turn.sources[-1 - wire.part]]
        if wire.part < 0:
            number, inputs = -1 - wire.part, self.plan.variants[None].inputs
            if number >= len(inputs):
                return "the input"
            is_given = inputs[number].name in self.given_inputs
            return "the given shape (--input)" if is_given else f"{_place(inputs[number].mark)} (input)"
        part = fragment.parts[wire.part]
        kind = part.content.layer.kind() if isinstance(part.content, Leaf) else part.what
        return f"{_place(part.item.mark)} ({kind} '{part.name}')"

    def origins(self, fragment: Fragment, wires: tuple[int, ...]) -> tuple[str, ...]:
        """A line for each of some wires whose shape is known: the shape, and where the wire originates."""
        shapes = [(wire, fragment.wires[wire].shape) for wire in wires]
        return tuple(f"{show_shape(s)} comes from {self.origin(fragment, wire)}" for wire, s in shapes if s)

    def reference(self, ref: Ref, names: Mapping[str, int], prefix: str) -> None:
        """A name that no earlier item has."""
        later = next((item.mark for item in reversed(self.plan.items) if item.name == ref.name), None)
        if later is not None and not self.calls:
            if ref.name not in names and (later.line, later.column) < (ref.mark.line, ref.mark.column):
                self.add(f"'{ref.name}' is omitted here by its 'when'", ref.mark)
            else:
                help = ("an item can only use outputs of earlier items",)
                self.add(f"'{ref.name}' is defined later, in line {later.line}", ref.mark, help=help)
            return
        visible = [name for name in names if "." not in name or not name.split(".")[-1].isdigit()]
        near = did_you_mean(ref.name, [*visible, PREV, INPUT])
        known = ", ".join([name for name in visible if "." not in name][:10])
        self.add(f"no earlier item is named '{ref.name}'", ref.mark, help=near or (f"earlier items: {known}",))

    def share(self, ref: Ref, first: Leaf, leaf: Leaf) -> None:
        """Shared weights whose shapes do not fit."""
        weights = [
            ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in owner.layer.parameters().items())
            for owner in (first, leaf)
        ]
        self.add(
            f"the weights of '{ref.name}' do not fit: {first.layer.kind()} has {weights[0] or 'none'},"
            f" and {leaf.layer.kind()} needs {weights[1] or 'none'}",
            ref.mark,
        )

    def choice(self, word: Value, written: Expression, values: Values) -> None:
        """A variable in place of a layer whose value names no layer."""
        self.add(
            f"'{written.text}' must name a layer here, but it is {show(word)}",
            written.mark,
            self.read(written, values),
            did_you_mean(str(word), (), also="convstat list layers"),
        )

    def repeat(self, times: Value, mark: Mark, written: Expression, values: Values) -> None:
        """A repeat that is not a count."""
        help = ("use // for integer division",) if "/" in written.text else ()
        self.add(f"repeat must be an integer, not {show(times)}", mark, self.read(written, values), help)

    def inputs(self, block: Block, turn: Turn) -> None:
        """A block called with the wrong number of inputs."""
        wanted, given = len(block.inputs), len(turn.sources)
        message = f"block '{block.name}' takes {wanted} input{'s' if wanted != 1 else ''}, not {given}"
        help = (f"its inputs: {', '.join(block.inputs)}",) if wanted > 1 else ()
        self.add(message, turn.item.mark, help=help)

    def residual(self, action: Residual, fragment: Fragment, side: int, end: int) -> None:
        """A body whose output cannot be added to the shortcut."""
        after, before = (show_shape(fragment.wires[index].shape or ()) for index in (end, side))
        help = "shortcut: project, or shortcut: same to add only if the shape is unchanged"
        self.add(
            f"cannot add: the output of the body is {after}, that of the shortcut is {before}",
            action.mark,
            self.origins(fragment, (end, side)),
            help if action.shortcut == "identity" else None,
        )

    def project(self, action: Residual, before: Shape, after: Shape) -> None:
        """A projection between shapes that no strided 1x1 convolution connects."""
        message = f"no 1x1 convolution maps {show_shape(before)} to {show_shape(after)}"
        self.add(message, action.mark, help=("write the shortcut as a list of layers",))

    def merge(self, error: LayerError, turn: Turn, fragment: Fragment) -> None:
        """Outputs of paths that cannot be merged."""
        self.add(error.message, turn.item.mark, self.origins(fragment, turn.sources), error.help)


def _place(mark: Mark) -> str:
    return f"{mark.file}:{mark.line}" if mark.source.is_file else mark.file
