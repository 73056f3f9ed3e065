"""Plan the memory of a target on a microcontroller, in the form in which it is deployed there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from convstat.count.arena import measure
from convstat.deploy.operators import Program, Step, Tensor, program, steps_of
from convstat.errors import UsageError, did_you_mean
from convstat.graph import Graph
from convstat.results.arena import TARGETS, Arena
from convstat.targets.request import NOBODY, Listener, Request
from convstat.targets.subject import Subject

if TYPE_CHECKING:
    from convstat.trace.wires import Wired, Wires

WIDTH = "int8"
"""The width of the weights and activations of TensorFlow Lite's full integer quantization; biases are int32."""


def check_target(target: str, others: Sequence[str]) -> None:
    """Refuse a target that is not known, and options that say how a GPU or a CPU runs a model."""
    if target not in TARGETS:
        known = f"targets: {', '.join(TARGETS)} (TensorFlow Lite Micro)"
        raise UsageError(f"unknown target '{target}'", help=(*did_you_mean(target, TARGETS), known))
    if others:
        raise UsageError(f"--target {target} is an inference in int8: it takes no {', no '.join(others)}")


def deployed_as(request: Request) -> Request:
    """Ask for the form that runs on a microcontroller; a model in parts, which run at different times, is refused."""
    if request.dtype != "float32":
        raise UsageError(f"--dtype {request.dtype} is not int8, which this target runs", help="omit --dtype")
    spec = request.spec or (request.target.load() if request.target.is_spec else None)
    if spec is not None and spec.plan.parts:
        names = ", ".join(part.name for part in spec.plan.parts)
        raise UsageError(
            f"an arena is planned for one network, and {request.argument} has parts: {names}",
            help="write a part as a spec of its own",
        )
    return replace(request, fuse=True, weights=WIDTH, activations=WIDTH, mode="eval", memory=(), arena=False)


def with_arena(subject: Subject, deployed: Subject, *, listener: Listener = NOBODY) -> Subject:
    """Add to the totals of a report the arena and the flash of the deployed form."""
    found = of_subject(deployed, listener=listener)
    totals = replace(subject.report.totals, arena_bytes=found.arena_bytes, flash_bytes=found.flash_bytes)
    return subject._replace(report=replace(subject.report, totals=totals))


def of_subject(subject: Subject, *, listener: Listener = NOBODY) -> Arena:
    """Plan the arena of what was counted in its deployed form, with int8 weights."""
    report = subject.report
    if subject.graph is not None:
        found = of_graph(subject.graph)
    else:
        listener.progress(f"following the tensors of {report.model.name}")
        found = _of_model(subject)
    if not found.operators:
        raise UsageError(f"{report.model.source} has no operators: no output depends on an input")
    return measure(found, report)


def of_graph(graph: Graph) -> Program:
    """The operators of a spec."""
    inputs = [Tensor(item.name, item.shape, _item_bytes(item.dtype)) for item in graph.inputs]
    return program(steps_of(graph), inputs, graph.outputs)


def _of_model(subject: Subject) -> Program:
    from convstat.trace.as_layers import is_layer
    from convstat.trace.wires import wires

    stages = subject.stages
    device = "fake" if subject.report.model.device == "fake" else stages.traced.device
    with stages.running(device):
        module, example = stages.traced.module, stages.traced.example
        wired = wires(module, example.args, example.kwargs, is_layer)
    inputs = [
        Tensor(_name_of(-2 - place, 0), shape, _item_bytes(dtype)) for place, (shape, dtype) in enumerate(wired.inputs)
    ]
    outputs = [_name_of(*origin) for origin in zip(wired.outputs, wired.takes, strict=True)]
    return program(_steps(wired), inputs, outputs)


def _name_of(number: int, place: int) -> str:
    return f"{number}" if not place else f"{number}:{place}"


def _steps(wired: Wires) -> Iterator[Step]:
    from convstat.trace.as_layers import layer_of, operator_of

    counts: dict[str, int] = {}
    for number, one in enumerate(wired.calls):
        if one.module is None:
            layer = operator_of(one)
            name, kind, groups = one.path or "(root)", one.name, _groups(one)
        else:
            layer = layer_of(one.module, one.input_shapes, one.output_shape)
            calls = counts[one.name] = counts.get(one.name, 0) + 1
            name = one.name if calls == 1 else f"{one.name}#{calls}"
            kind, groups = type(one.module).__name__, (1, 1)
        if layer is not None:
            kind = layer.kind()
        if not one.outputs:
            continue
        yield Step(
            name,
            kind,
            tuple(_name_of(*origin) for origin in zip(one.inputs, one.takes, strict=True)),
            one.input_shapes,
            tuple((_name_of(number, place), shape) for place, shape in enumerate(one.outputs)),
            layer,
            0 if layer is None else layer.cost(one.input_shapes, one.output_shape).macs,
            groups,
        )


def _groups(one: Wired) -> tuple[int, int]:
    """The groups of a convolution that is a kernel, and its input channels."""
    if one.name != "aten.convolution" or not one.values or not isinstance(one.values[-1], int):
        return 1, 1
    return one.values[-1], one.input_shapes[0][1]


def _item_bytes(dtype: str) -> int:
    """Indices are int32."""
    return 4 if dtype in ("int64", "int32") else 1
