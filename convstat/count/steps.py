"""How the counts of one layer come about: formulas with their values, of specs and of what ran."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from convstat.count.ops import price
from convstat.count.ops.derive import derivation as formula_of
from convstat.formulas.cost import Shape
from convstat.formulas.derivation import Derivation, Factor, InconsistentError, Product, elements
from convstat.graph import Graph, Node
from convstat.layers import KINDS
from convstat.results.explanation import Step
from convstat.results.report import LayerRow, registered
from convstat.trace.calls import Trace


def closed(steps: list[Step], whole: int) -> tuple[Step, ...]:
    """The steps, which come to the whole; where there are none, the whole as one without a formula.

    Raises InconsistentError where they come to something else.
    """
    if not steps:
        return (Step("without a formula", whole),) if whole else ()
    told = sum(step.value * step.times for step in steps)
    if told != whole:
        raise InconsistentError(f"the steps sum to {told:,}, but {whole:,} are counted")
    return tuple(steps)


def folded(steps: Sequence[Step]) -> list[Step]:
    """Equal steps as one."""
    times: dict[Step, int] = {}
    for step in steps:
        times[step] = times.get(step, 0) + step.times
    return [Step(step.about, step.value, step.formula, count) for step, count in times.items()]


def _of_products(found: Derivation) -> list[Step]:
    """A step for each product that says what it is, else one for all of them."""
    if all(part.about for part in found.products):
        return [Step(part.about, part.value, Derivation((Product(part.factors),))) for part in found.products]
    return [Step("", found.value, found)]


def of_node(node: Node) -> list[Step]:
    """The MACs of a layer of a spec: of one call, as often as the part of the model that it is in is called."""
    found = node.layer.derivation(node.input_shapes, node.output_shape)
    if found is None:
        return []
    counted = node.layer.cost(node.input_shapes, node.output_shape).macs
    return [replace(step, times=step.times * node.runs) for step in _of_products(found.checked(counted, node.name))]


def of_spec(graph: Graph, rows: Sequence[LayerRow]) -> list[Step]:
    """The MACs of some calls of a layer of a spec."""
    names = {row.name for row in rows}
    return [step for node in graph.nodes if node.name in names for step in of_node(node)]


def of_trace(trace: Trace, rows: Sequence[LayerRow]) -> list[Step]:
    """The MACs of all calls of a module, kernel by kernel."""
    path = registered(rows[0].shares or rows[0].name)
    steps: list[Step] = []
    for call, owner in trace.kernels():
        if owner.path != path or call.backward:
            continue
        cost = price(call)
        if cost is None or not cost.macs:
            continue
        found = formula_of(call)
        lead = call.op.removeprefix("aten.")
        if found is None:
            steps.append(Step(lead, cost.macs))
        else:
            steps += [Step(f"{lead} {step.about}".strip(), step.value, step.formula) for step in _of_products(found)]
    return steps


def _parameter(kind: str, name: str, shape: Shape, arguments: Mapping[str, Any]) -> Step:
    """The size of a parameter, with the names of its axes where the kind of layer has them."""
    axes = KINDS[kind].parameter_axes() if kind in KINDS else {}
    # One name for all layers and directions of a stack of cells.
    known = axes.get(name, ()) or axes.get(re.sub(r"_l\d+(_reverse)?$", "", name), ())
    if len(known) != len(shape):
        return Step(name, prod(shape), elements("", shape) if len(shape) > 1 else None)
    factors = [_factor(axis, size, arguments) for axis, size in zip(known, shape, strict=True) if axis != "1"]
    return Step(name, prod(shape), Derivation((Product(tuple(factors)),)))


def _factor(name: str, size: int, arguments: Mapping[str, Any]) -> Factor:
    """A size of a parameter; of one like ``in_channels/groups``, its parts by the layer's arguments."""
    split = re.fullmatch(r"(\w+)([*/])(\w+)", name)
    if split is None:
        return Factor(name, size)
    first, operator, second = split.groups()
    left = int(first) if first.isdigit() else arguments.get(first)
    right = arguments.get(second)
    if operator == "/":
        left, right = (left, left // size) if right is None and left is not None else (size * (right or 1), right or 1)
    elif right is None and left is not None:
        right = size // left
    elif right is not None:
        left = size // right
    if left is None or right is None:
        return Factor(name, size)
    return Factor(name, size, tuple((part, n) for part, n in ((first, left), (second, right)) if not part.isdigit()))


def params_of_node(node: Node) -> list[Step]:
    """The parameters that a call of a layer of a spec owns."""
    if node.is_shared:
        return []
    arguments = dict(node.layer.items())
    return [_parameter(node.layer.kind(), name, shape, arguments) for name, shape in node.layer.parameters().items()]


def params_of_spec(graph: Graph, rows: Sequence[LayerRow]) -> list[Step]:
    """The parameters of a layer of a spec."""
    owners = {row.name for row in rows if not row.shares}
    return [step for node in graph.nodes if node.name in owners for step in params_of_node(node)]


def params_of_trace(trace: Trace, rows: Sequence[LayerRow]) -> list[Step]:
    """The parameters of a module, and those inside it that only it reads; none where some belong elsewhere."""
    path = registered(rows[0].shares or rows[0].name)
    seen: set[int] = set()
    steps: list[Step] = []
    for module in trace.modules:
        for parameter in module.parameters:
            if not module.registered or parameter.key in seen:
                continue
            seen.add(parameter.key)
            user = trace.uses.get(parameter.key)
            is_used_here = user is not None and trace.modules[user].path == path and module.path.startswith(f"{path}.")
            if module.path == path or is_used_here:
                inside = module.path.removeprefix(path).lstrip(".")
                kind = module.type.rpartition(".")[2]
                step = _parameter(kind, parameter.name, parameter.shape, module.attributes)
                steps.append(Step(f"{inside}.{step.about}".lstrip("."), step.value, step.formula))
    # A row that owns less than its module has holds tied ones, which belong elsewhere.
    return steps if sum(step.value for step in steps) == sum(row.params for row in rows) else []


def of_other(entry: str, row: LayerRow) -> Step:
    """Work that is no MAC: so much for each element of the output or the input, where it comes to that."""
    amount = row.other[entry]
    for name, shapes in (("output", row.output_shapes), ("input", row.input_shapes)):
        if shapes and prod(shapes[0]) == amount:
            return Step(entry, amount, elements(name, shapes[0]))
    return Step(entry, amount)
