"""Models in parts: encoder and decoder of a codec, a filter for each plane; each part is called so many times.

Each part is a network of its own. All of them read the variables and the blocks of the file, and a part that is the
``same`` as an earlier one uses its layers and its weights on inputs of other sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import Any

from convstat.errors import Diagnostic, SourceText, SpecError, did_you_mean
from convstat.graph import Graph, Node, Part
from convstat.layers.base import Outputs
from convstat.spec import overrides as override_keys
from convstat.spec.compile import compile_spec
from convstat.spec.expand import MAX_LAYERS
from convstat.spec.expressions import ExpressionError, Value
from convstat.spec.fragment import add_amounts
from convstat.spec.plan import PartPlan, Plan
from convstat.spec.problems import Problems
from convstat.spec.spec import Measured, Spec

MOST_CALLS = 10**12
"""How often a part may be called."""


class PartedSpec(Spec):
    """A model in parts: its graph has the nodes of all of them, each with how often it runs.

    Its inputs are called after the parts, ``decoder``, and after their own names where a part has several,
    ``decoder_mask``. Setting the shape of one sets the variables that its sizes are.
    """

    def __init__(self, plan: Plan, warnings: Sequence[Diagnostic]) -> None:
        super().__init__(plan, warnings)
        self.parts = {part.name: Spec(part.plan, ()) for part in plan.parts}
        self._inputs = {
            part.name if len(sub.input_names) == 1 else f"{part.name}_{name}": (part.name, name)
            for part, sub in zip(plan.parts, self.parts.values(), strict=True)
            for name in sub.input_names
        }
        self.input_names = tuple(self._inputs)

    def expand(
        self,
        overrides: Mapping[str, Any] | None = None,
        *,
        variant: str | None = None,
        inputs: Mapping[str, Sequence[int]] | None = None,
        batch: int = 1,
    ) -> Graph:
        """Expand all parts into one graph; the outputs are those of the last part."""
        routed = self._routed(overrides or {}, variant, inputs or {})
        graphs = self._each(
            lambda part, sub: sub.expand(routed[part.name], variant=variant, batch=batch), lambda one: len(one.nodes)
        )
        named = dict(zip(self.input_names, [item for graph in graphs for item in graph.inputs], strict=True))
        nodes: dict[str, Node] = {}
        groups: dict[str, str] = {}
        found: list[Part] = []
        places = iter(self.input_names)
        for part, graph in zip(self.plan.parts, graphs, strict=True):
            runs = self._calls(part, graph.values)
            names = {item.name: next(places) for item in graph.inputs}
            names |= {node.name: f"{part.name}.{node.name}" for node in graph.nodes}
            groups[part.name] = "part" if runs == 1 else f"part, {runs:,} calls"
            groups.update((f"{part.name}.{path}", what) for path, what in graph.groups.items())
            for node in graph.nodes:
                made = replace(
                    node,
                    name=names[node.name],
                    inputs=tuple(names[source] for source in node.inputs),
                    owner=f"{part.same or part.name}.{node.owner or node.name}",
                    runs=runs,
                )
                nodes[made.name] = made
                if part.same is not None:
                    _check_same(part, made, nodes)
            ends = tuple(names[output] for output in graph.outputs)
            found.append(Part(part.name, runs, tuple(names[item.name] for item in graph.inputs), ends, part.same))
        calls = {
            f"{part.name}.{path}": call
            for part, graph in zip(self.plan.parts, graphs, strict=True)
            for path, call in graph.calls.items()
        }
        return Graph(
            f"{self.name}#{variant}" if variant else self.name,
            tuple(replace(item, name=name) for name, item in named.items()),
            tuple(nodes.values()),
            found[-1].outputs,
            MappingProxyType(groups),
            MappingProxyType(calls),
            graphs[0].values,
            tuple(found),
        )

    def measure(
        self,
        overrides: Mapping[str, Any] | None = None,
        *,
        variant: str | None = None,
        inputs: Mapping[str, Sequence[int]] | None = None,
        batch: int = 1,
    ) -> Measured:
        """The totals of all parts, each as often as it is called; shared weights are there once."""
        routed = self._routed(overrides or {}, variant, inputs or {})
        measured = self._each(
            lambda part, sub: sub.measure(routed[part.name], variant=variant, batch=batch), lambda one: one.layers
        )
        params = trainable = macs = buffers = layers = 0
        other: dict[str, int] = {}
        stored: dict[str, int] = {}
        made = Outputs()
        for part, one in zip(self.plan.parts, measured, strict=True):
            runs = self._calls(part, one.values)
            macs += runs * one.macs
            layers += one.layers
            add_amounts(other, {name: runs * amount for name, amount in one.other.items()})
            made = made.plus(one.made.times(runs))
            if part.same is None:
                params, trainable, buffers = (
                    params + one.params,
                    trainable + one.trainable_params,
                    buffers + one.buffers,
                )
                add_amounts(stored, one.stored)
        first, last = measured[0], measured[-1]
        return Measured(
            params,
            trainable,
            macs,
            buffers,
            layers,
            other,
            stored,
            made,
            first.input_shape,
            last.output_shape,
            first.values,
        )

    def look_further(self, problems: Problems) -> None:
        """Add the problems that only an expansion finds, to those already known."""
        for sub in self.parts.values():
            sub.look_further(problems)

    def _each(self, make: Callable[[PartPlan, Spec], Any], layers: Callable[[Any], int]) -> list[Any]:
        """Do something with every part; what is wrong with any is told at once.

        All parts together have no more layers than any other model.
        """
        made: list[Any] = []
        count = 0
        problems: list[Diagnostic] = []
        for part in self.plan.parts:
            try:
                made.append(make(part, self.parts[part.name]))
                count += layers(made[-1])
                if count > MAX_LAYERS:
                    raise SpecError(Diagnostic(f"more than {MAX_LAYERS:,} layers in all parts", part.mark))
            except SpecError as error:
                problems += error.diagnostics
                if count > MAX_LAYERS:
                    break
        if problems:
            raise SpecError(list(dict.fromkeys(problems)))
        return made

    def _calls(self, part: PartPlan, values: Mapping[str, Any]) -> int:
        """How often a part is called."""
        if part.calls is None:
            return 1
        try:
            calls = part.calls.value(values)
        except ExpressionError as error:
            place = part.calls.part(error.offset, error.length)
            raise SpecError(Diagnostic(error.message, place, help=error.help)) from None
        if isinstance(calls, bool) or not isinstance(calls, int) or not 1 <= calls <= MOST_CALLS:
            notes = tuple(f"{name}={values[name]}" for name in sorted(part.calls.names))
            message = f"calls of part '{part.name}' must be an integer of at least 1, not {calls}"
            raise SpecError(Diagnostic(message, part.calls.mark, notes=notes, help=("use ceil() or //",)))
        return calls

    def _routed(
        self, overrides: Mapping[str, Any], variant: str | None, inputs: Mapping[str, Sequence[int]]
    ) -> dict[str, dict[str, Any]]:
        """The overrides of each part: variables are for all of them, ``decoder.conv.kernel_size`` is for one."""
        names = self.plan.variants[None].variables
        routed: dict[str, dict[str, Any]] = {name: {} for name in self.parts}
        for key, value in chain(self._bound_by(overrides, variant, inputs).items(), overrides.items()):
            first, dot, rest = key.partition(".")
            if dot and first in self.parts and key not in names:
                routed[first][rest] = value
            elif key in names:
                for own in routed.values():
                    own[key] = value
            else:
                help = did_you_mean(first, (*names, *self.parts)) or (
                    *((f"variables of {self.plan.source.name}: {', '.join(names)}",) if names else ()),
                    f"or an argument of a layer by its path: {self.plan.parts[0].name}.LAYER.ARGUMENT=...",
                )
                raise SpecError(Diagnostic(f"no variable '{key}'", override_keys.mark_of(key, value), help=help))
        return routed

    def _bound_by(
        self, overrides: Mapping[str, Any], variant: str | None, inputs: Mapping[str, Sequence[int]]
    ) -> dict[str, Value]:
        """The variables that are sizes of an input whose shape is given from outside."""
        bound: dict[str, Value] = {}
        plans = {part.name: part.plan for part in self.plan.parts}
        for key, shape in inputs.items():
            name, own = self._inputs[key]
            chosen = plans[name].variants.get(variant) or plans[name].variants[None]
            (entry,) = (entry for entry in chosen.inputs if entry.name == own)
            if len(shape) != len(entry.sizes):
                message = f"the input of part '{name}' has {len(entry.sizes)} sizes, not {len(shape)}"
                raise SpecError(Diagnostic(message, entry.mark))
            values = self.vars_of({k: v for k, v in overrides.items() if "." not in k}, variant, {})
            for size, written in zip(shape, entry.sizes, strict=True):
                if written.text in chosen.variables and written.text not in overrides:
                    if bound.setdefault(written.text, size) != size:
                        message = f"the input shape makes '{written.text}' both {bound[written.text]} and {size}"
                        raise SpecError(Diagnostic(message, written.mark))
                elif (value := written.value({**values, **bound})) != size:
                    raise SpecError(
                        Diagnostic(
                            f"the size {written.text} of the input of part '{name}' is {value}, not {size}",
                            written.mark,
                            help=("set the variables that it depends on: the other parts depend on them too",),
                        )
                    )
        return bound


def _check_same(part: PartPlan, node: Node, nodes: Mapping[str, Node]) -> None:
    """Refuse a part whose layers are not those of the part that it is the same as."""
    owner = nodes.get(node.owner)
    if owner is None or owner.layer.parameters() != node.layer.parameters():
        inner = node.name.partition(".")[2]
        what = "has other weights" if owner is not None else "does not exist"
        raise SpecError(
            Diagnostic(
                f"part '{part.name}' cannot be the same as '{part.same}': its layer '{inner}' {what} there", part.mark,
                help=("its layers depend on the sizes of its input",),
            )
        )  # fmt: skip


def _spec(plan: Plan, warnings: Sequence[Diagnostic]) -> Spec:
    return PartedSpec(plan, warnings) if plan.parts else Spec(plan, warnings)


def read(text: str, name: str, *, is_file: bool = True) -> Spec:
    """Read a spec from its text; ``name`` is what messages call it. Raises SpecError with every problem."""
    plan, warnings = compile_spec(
        SourceText(name, text, is_file=is_file), lambda plan, problems: _spec(plan, ()).look_further(problems)
    )
    return _spec(plan, warnings)
