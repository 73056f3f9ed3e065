"""The net of a Python model: its modules as layers of the vocabulary, and the tensors that pass between them.

A module is a layer where it is exactly torch's class, and where the layer costs what the module was counted at.
Whatever else runs is a call without a layer, through which no change of a shape goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convstat.advice.finding import Finding
from convstat.advice.gather import Advised, gather, together
from convstat.advice.net import Call, Net
from convstat.advice.unused import UNUSED
from convstat.advice.writing import constructors
from convstat.layers.base import Layer
from convstat.results.advice import TextEdit
from convstat.results.report import NEVER_CALLED, LayerRow, Report, registered

if TYPE_CHECKING:
    from torch import nn

    from convstat.trace.wires import Wired

PREFIX = "nn."
"""What stands before the constructors of torch's modules."""

Written = tuple[Advised, tuple[TextEdit, ...]]


Join = Callable[[Sequence[Advised]], tuple[TextEdit, ...]]
"""Writes the edits that make all of some changes."""


def advised_of(report: Report, stages: Any) -> tuple[Net, list[Written], Join]:
    """The net of a model that was traced, and all that can be advised about it, with the edits.

    ``stages`` are the model's, which know how it is run (:class:`convstat.counters.stages.ModuleStages`).
    """
    from convstat.trace.as_layers import is_layer
    from convstat.trace.wires import wires

    device = "fake" if report.model.device == "fake" else stages.traced.device
    with stages.running(device):
        module, example = stages.traced.module, stages.traced.example
        wired = wires(module, example.args, example.kwargs, is_layer)
        net = Net(_calls(report, module, wired.calls), ())
        names = list(net.calls)
        net = Net(net.calls.values(), [names[number] for number in wired.outputs if number >= 0])
        owners = _owners(module)
    found = [*gather(net), *_never_called(report, net)]
    found.sort(key=lambda one: one.rank)

    def edits(chosen: Sequence[Advised]) -> tuple[TextEdit, ...]:
        removed = [edit for one in chosen if one.finding.held for edit in _removed(report, one.finding)]
        made = constructors(net, together(net, [one.finding for one in chosen]), PREFIX)
        return tuple(_placed(edit, owners) for edit in (*made, *removed))

    return net, [(one, edits([one])) for one in found], edits


def _calls(report: Report, model: nn.Module, wired: Sequence[Wired]) -> Iterator[Call]:
    from convstat.trace.as_layers import layer_of, operator_of

    rows = {row.name: row for row in report.layers}
    tied = _tied(model)
    counts: dict[str, int] = {}
    names: list[str] = []
    for one in wired:
        name = one.name if one.module is not None else f"{one.path or '(root)'}.({one.name})"
        number = counts[name] = counts.get(name, 0) + 1
        names.append(name if number == 1 else f"{name}#{number}")
        sources = tuple(names[source] if source >= 0 else "" for source in one.inputs)
        if one.module is None:
            layer = operator_of(one)
            yield Call(names[-1], layer, sources, one.input_shapes, one.output_shape)
            continue
        first = number == 1
        found = layer_of(one.module, one.input_shapes, one.output_shape)
        if found is not None and not _is_counted_so(found, one, rows.get(names[-1]), holds=first):
            found = None
        place = one.path if found is not None and not tied & {id(p) for p in one.module.parameters()} else None
        yield Call(names[-1], found, sources, one.input_shapes, one.output_shape, place, first)


def _tied(model: nn.Module) -> set[int]:
    """The parameters that several modules hold."""
    seen: set[int] = set()
    tied: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            (tied if id(parameter) in seen else seen).add(id(parameter))
    return tied


def _is_counted_so(layer: Layer, one: Wired, row: LayerRow | None, *, holds: bool) -> bool:
    """Whether a layer costs what the call of the module was counted at."""
    cost = layer.cost(one.input_shapes, one.output_shape)
    params = layer.params() if holds else 0
    if row is None:
        return not (cost.macs or cost.other or params)
    other = {name: amount for name, amount in row.other.items() if amount}
    return (row.macs, row.params, other) == (cost.macs, params, {n: a for n, a in cost.other.items() if a})


def _never_called(report: Report, net: Net) -> Iterator[Advised]:
    """Modules that hold params and were not called, each as the outermost in which nothing was."""
    idle = {row.name for row in report.layers if row.note == NEVER_CALLED}
    used = {registered(row.name) for row in report.layers if row.name not in idle}
    found: dict[str, int] = {}
    for row in report.layers:
        if row.name not in idle or not row.params:
            continue
        path = registered(row.name)
        while "." in path and not any(f"{name}.".startswith(f"{path.rpartition('.')[0]}.") for name in used):
            path = path.rpartition(".")[0]
        found[path] = found.get(path, 0) + row.params
    for path, params in found.items():
        finding = Finding(UNUSED, "never called in this forward pass", (path,), (), params)
        yield Advised(finding, together(net, [finding]), True)


def _removed(report: Report, finding: Finding) -> tuple[TextEdit, ...]:
    path = finding.layers[0]
    row = next((row for row in report.layers if registered(row.name) == path), None)
    return (TextEdit(path, (row.type if row is not None else path,), ()),)


def _owners(model: nn.Module) -> Mapping[str, tuple[str, str | None, int | None]]:
    """The class that makes each module: that of the nearest module around it that is not torch's own."""
    from convstat.trace.recipe import definition

    by_path = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, tuple[str, str | None, int | None]] = {}
    for path in by_path:
        around = path
        while around:
            around = around.rpartition(".")[0]
            kind = type(by_path[around])
            if not kind.__module__.startswith("torch.nn."):
                mark = definition(vars(kind).get("__init__"))
                place = (None, None) if mark is None else (mark.file, mark.line)
                found[path] = (f"{kind.__module__}.{kind.__qualname__}", *place)
                break
    return found


def _placed(edit: TextEdit, owners: Mapping[str, tuple[str, str | None, int | None]]) -> TextEdit:
    if edit.place not in owners:
        return edit
    owner, file, line = owners[edit.place]
    return replace(edit, owner=owner, file=file, line=line, end_line=line)
