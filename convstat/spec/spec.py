"""Specs: text that is compiled once, and expanded or measured any number of times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from convstat.errors import Diagnostic, SpecError, did_you_mean
from convstat.formulas.cost import Shape
from convstat.formulas.symbolic import is_integer
from convstat.grammar import basis
from convstat.graph import Graph, Input
from convstat.layers.base import Outputs
from convstat.spec import overrides as override_keys
from convstat.spec.expand import MAX_SIZE, Memo, Run
from convstat.spec.expressions import NO_VALUE, ExpressionError, Value
from convstat.spec.fragment import Flat, Fragment, leaves
from convstat.spec.overrides import NO_PATCH
from convstat.spec.plan import InputPlan, LayerCall, Plan, Variant
from convstat.spec.problems import Problems


@dataclass(frozen=True, slots=True)
class Measured:
    """The totals of one expansion.

    The figures are those of :class:`convstat.spec.fragment.Counts`, in their order. Shapes include the batch, and
    ``values`` are those of the variables.
    """

    params: int
    trainable_params: int
    macs: int
    buffers: int
    layers: int
    other: Mapping[str, int]
    stored: Mapping[str, int]
    made: Outputs
    input_shape: Shape
    output_shape: Shape
    values: Mapping[str, Value] = field(default_factory=dict, compare=False)


class Spec:
    """A model described by a spec. It is immutable; its memo only makes later expansions faster.

    ``source`` is the text that it was read from, ``name`` what it calls the model, else the name of its file,
    and ``note`` a remark on it. ``variants`` and ``input_names`` are names;
    ``budget`` holds its budgets as they are written, with their places.
    """

    def __init__(self, plan: Plan, warnings: Sequence[Diagnostic]) -> None:
        self.plan = plan
        self.warnings = tuple(warnings)
        self.source, self.name, self.note, self.budget = plan.source, plan.name, plan.note, plan.budget
        self.variants = tuple(name for name in plan.variants if name is not None)
        self.input_names = tuple(entry.name for entry in plan.variants[None].inputs)
        self._memo: Memo = {}

    @property
    def vars(self) -> Mapping[str, Value]:
        """The values of the variables without overrides."""
        return MappingProxyType(self._values(self.plan.variants[None], {}, {}, Problems()))

    def vars_of(
        self, overrides: Mapping[str, Any], variant: str | None, inputs: Mapping[str, Sequence[int]]
    ) -> Mapping[str, Value]:
        """The values of the variables of a variant, with overrides and the shapes of inputs."""
        problems = Problems()
        given, _ = override_keys.read(self.plan, overrides, problems)
        chosen = self.plan.variants[variant]
        return self._values(chosen, given, self._bound(chosen, inputs, given, problems), problems)

    def expand(
        self,
        overrides: Mapping[str, Any] | None = None,
        *,
        variant: str | None = None,
        inputs: Mapping[str, Sequence[int]] | None = None,
        batch: int = 1,
    ) -> Graph:
        """Expand the spec into a graph with every size known; raises SpecError with every problem.

        ``overrides`` set variables (``alpha``), arguments of layers (``stem.kernel_size``),
        or, where there is only one layer, its arguments by their bare names.
        ``inputs`` are shapes without the batch, by the name of the input.
        """
        fragment, shapes, outputs, values = self._expand(overrides or {}, variant, inputs or {}, batch)
        flat = Flat()
        entries = self.plan.variants[variant].inputs
        names = flat.lay(fragment, tuple(entry.name for entry in entries))
        wanted = {source for node in flat.nodes if node.layer.input_dtype == "int64" for source in node.inputs}
        graph_inputs = tuple(
            Input(entry.name, shape, entry.dtype or ("int64" if entry.name in wanted else "float32"))
            for entry, shape in zip(entries, shapes, strict=True)
        )
        name = f"{self.name}#{variant}" if variant else self.name
        ends = tuple(names[output] for output in outputs)
        groups, calls = MappingProxyType(flat.groups), MappingProxyType(flat.calls)
        return Graph(name, graph_inputs, tuple(flat.nodes), ends, groups, calls, MappingProxyType(values))

    def measure(
        self,
        overrides: Mapping[str, Any] | None = None,
        *,
        variant: str | None = None,
        inputs: Mapping[str, Sequence[int]] | None = None,
        batch: int = 1,
    ) -> Measured:
        """The totals of the graph that ``expand`` returns, without building it; raises SpecError likewise."""
        fragment, shapes, outputs, values = self._expand(overrides or {}, variant, inputs or {}, batch)
        output = fragment.wires[outputs[0]].shape
        assert output is not None
        return Measured(*fragment.counts, shapes[0], output, values)

    def per(self, variant: str | None, values: Mapping[str, Value]) -> str | None:
        """What the spec says that MACs/pixel divide by, with the values of its expressions; None where it says nothing.

        Raises BasisError for a size that no block can have.
        """
        written = self.plan.variants[variant].per
        if written is None:
            return None

        def evaluate(text: str, offset: int) -> Value:
            expression = written.sizes[offset]
            try:
                return expression.value(values)
            except ExpressionError as error:
                raise SpecError(
                    Diagnostic(error.message, expression.part(error.offset, error.length), help=error.help)
                ) from None

        return basis.fill(written.text, evaluate, lambda offset, length: written.sizes[offset].mark)

    def _expand(
        self, overrides: Mapping[str, Any], variant: str | None, inputs: Mapping[str, Sequence[int]], batch: int
    ) -> tuple[Fragment, tuple[Shape, ...], tuple[int, ...], Mapping[str, Value]]:
        """The expansion, the shapes of its inputs, the wires of its outputs, and the values of its variables."""
        plan = self.plan
        chosen = plan.variants.get(variant)
        if chosen is None:
            known = self.variants
            listed = f"its variants: {', '.join(known)}" if known else "it has no variants: key 'models'"
            help = did_you_mean(str(variant), known) or (listed,)
            raise SpecError(Diagnostic(f"{plan.source.name} has no variant '{variant}'", help=help))
        problems = Problems()
        given, patch = override_keys.read(plan, overrides, problems) if overrides else ({}, NO_PATCH)
        bound = self._bound(chosen, inputs, given, problems) if inputs else {}
        values = self._values(chosen, given, bound, problems)
        shapes = tuple([self._shape(entry, values, inputs, batch, problems) for entry in chosen.inputs])
        run = Run(plan, values, self._memo, problems)
        run.explain.overridden = given
        run.explain.given_inputs = inputs
        fragment, outputs = run.model(chosen, shapes, patch)
        if patch is not NO_PATCH:
            override_keys.report_unused(plan, patch, leaves(fragment), problems)
        problems.raise_if_any()
        return fragment, tuple([shape for shape in shapes if shape]), outputs, values

    def look_further(self, problems: Problems) -> None:
        """Add the problems that only an expansion finds, to those already known."""
        chosen = self.plan.variants[None]
        values = self._values(chosen, {}, {}, problems)
        shapes = [self._shape(entry, values, {}, 1, problems) if entry.sizes else None for entry in chosen.inputs]
        Run(self.plan, values, {}, problems).model(chosen, tuple(shapes) or (None,), NO_PATCH)

    def _values(
        self, variant: Variant, given: Mapping[str, Value], bound: Mapping[str, int], problems: Problems
    ) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for name, written in variant.variables.items():
            if name in given:
                values[name] = given[name]
            elif name in bound:
                values[name] = bound[name]
            else:
                try:
                    values[name] = written.value(values)
                except ExpressionError as error:
                    # Left without a value, and so is what reads it: that is no mistake of its own.
                    if not error.message.endswith(NO_VALUE):
                        notes = tuple(f"{read}={values[read]}" for read in sorted(written.names) if read in values)
                        place = written.part(error.offset, error.length)
                        problems.add(error.message, place, notes=notes, help=error.help)
        return values

    def _bound(
        self, variant: Variant, inputs: Mapping[str, Sequence[int]], given: Mapping[str, Value], problems: Problems
    ) -> dict[str, int]:
        """The values of variables that are sizes of an input whose shape is given from outside.

        ``input: [3, H, W]`` with a shape of 3x512x256 is H=512 and W=256, wherever else they are read.
        """
        bound: dict[str, int] = {}
        for entry in variant.inputs:
            shape = inputs.get(entry.name)
            if shape is None or len(shape) != len(entry.sizes):
                continue
            for size, written in zip(shape, entry.sizes, strict=True):
                name = written.text
                if name not in variant.variables or name in given:
                    continue
                first = bound.setdefault(name, size)
                if name in self.plan.read_beside_input and first != size:
                    shown = "x".join(map(str, shape))
                    message = f"the input shape {shown} makes '{name}' both {bound[name]} and {size}"
                    problems.add(message, written.mark)
        return bound

    def _shape(
        self,
        entry: InputPlan,
        values: Mapping[str, Value],
        inputs: Mapping[str, Sequence[int]],
        batch: int,
        problems: Problems,
    ) -> Shape | None:
        shape = inputs.get(entry.name)
        if shape is not None:
            return (batch, *shape)
        if not entry.sizes:
            help = f"give the sizes of one sample: --input {_example(self.plan)}"
            problems.add("missing input shape", entry.mark, help=help)
            return None
        sizes = [batch]
        for written in entry.sizes:
            try:
                size = written.value(values)
            except ExpressionError as error:
                if not error.message.endswith(NO_VALUE):
                    problems.add(error.message, written.part(error.offset, error.length), help=error.help)
                continue
            if not is_integer(size) or not 1 <= size <= MAX_SIZE:
                shown = override_keys.shown
                notes = tuple(f"{name}={shown(values[name])}" for name in sorted(written.names) if name in values)
                message = f"a size must be an integer of at least 1, not {shown(size)}"
                problems.add(message, written.mark, notes=notes)
                continue
            sizes.append(size)
        return tuple(sizes) if len(sizes) == 1 + len(entry.sizes) else None


def _example(plan: Plan) -> str:
    """An input shape that the first layer takes, as an example."""
    action = plan.items[0].action
    if not isinstance(action, LayerCall):
        return "64x56x56"
    inferred = [action.arguments[n] for n in ("in_channels", "in_features", "num_features") if n in action.arguments]
    features = next((written.constant for written in inferred if written.evaluate is None), 64)
    ranks = action.kind.ranks
    spatial = ["56"] * ((4 if not ranks or 4 in ranks else ranks[0]) - 2)
    if action.kind.kind() in ("Linear", "Bilinear"):
        spatial = []
    return "x".join([str(features), *spatial])
