"""Compare models and sweep their parameters: ``groups=1,2,4`` and the like.

An impossible point is a row with its reason, not a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convstat.commands.points import Model, model_of, pair, refuse_doubtful, with_dtype
from convstat.config.project import Config
from convstat.config.requests import Requests
from convstat.grammar.axes import Axis, Value, combine, parse_all
from convstat.patches.collection import without_collection
from convstat.results.comparison import Comparison, ComparisonRow
from convstat.results.report import Totals
from convstat.targets import resolve
from convstat.targets.request import NOBODY, Listener
from convstat.targets.selection import select

if TYPE_CHECKING:
    from convstat.spec import Spec

REFERENCE = "Conv2d(4, 8, kernel_size=3, padding=1, bias=False)"
REFERENCE_INPUT = "4x64x64"
"""What is swept where nothing is named and no settings name a model."""


def compare(
    targets: Sequence[str],
    arguments: Sequence[str] = (),
    requests: Requests | None = None,
    *,
    zip: bool = False,
    counters: str = "none",
    listener: Listener = NOBODY,
) -> Comparison:
    """Put models side by side, at every combination of the arguments' values.

    ``arguments`` are overrides and sweeps; ``batch`` and ``input`` can be swept as a parameter can.
    What is not said here is as the settings say: of that model, or else of all.
    Without a target it is the model of the settings, or else the reference layer, and the result says which.
    ``requests`` is how each target is counted where no argument says otherwise.
    With ``counters``, every row also holds what they answer.
    ``listener`` is told the warnings about each spec.
    """
    axes = with_dtype(parse_all(arguments))
    requests = replace(requests or Requests(), from_settings=not targets)
    refuse_doubtful(requests.inputs)
    default = None
    if not targets:
        targets, inputs, default = _default(requests.config, requests.inputs)
        requests = replace(requests, inputs=tuple(inputs))
    shelf: dict[str, Spec] = {}
    asked = [requests.of(resolve(argument)) for argument in select(targets)]
    points = list(combine(axes, zipped=zip, models=len(asked)))
    names = [axis.name for axis in axes]
    key = "model" if "model" not in names else "target"
    models = [model_of(request, axes, shelf) for request in asked]
    rows: list[ComparisonRow] = []
    # What a counter leaves behind may be large and in cycles; what is only counted is neither.
    with nullcontext() if counters != "none" else without_collection():
        for model in models:
            label: dict[str, Value] = {key: model.request.argument} if len(models) > 1 else {}
            rows += model.rows(
                [(point, {**label, **pair(names, point)}) for point in points],
                base=next((row.totals for row in rows if row.totals), None),
                counters=counters,
                listener=Listener(listener.progress),
            )
    if found := [warning for spec in shelf.values() for warning in spec.warnings]:
        listener.warn(found)
    impossible = sum(row.status == "invalid" for row in rows)
    incomplete = [note for model in models for note in model.notes]
    return Comparison(
        rows=tuple(rows),
        axes=axes,
        models=tuple(request.argument for request in asked),
        varying=(*([key] if len(models) > 1 else []), *(axis.name for axis in axes if axis.varies)),
        constants=_constants(models, axes, [row.totals for row in rows if row.totals]),
        zipped=zip,
        default=default,
        notes=(*([f"{impossible:,} of {len(rows):,} points cannot be built"] if impossible else []), *incomplete),
    )


def _default(config: Config, inputs: Sequence[str]) -> tuple[Sequence[str], Sequence[str], str]:
    """Say what is compared where nothing is named, and why it is that."""
    if config.models:
        place = f"{config.models_mark.file}:{config.models_mark.line}" if config.models_mark else config.path
        return config.models, inputs or config.inputs, f"no target given: {', '.join(config.models)}, from {place}"
    shapes = inputs or (REFERENCE_INPUT,)
    return (REFERENCE,), shapes, f"no target given: the reference layer {REFERENCE} on {', '.join(shapes)}"


def _constants(models: Sequence[Model], axes: Sequence[Axis], totals: Sequence[Totals]) -> dict[str, Any]:
    """Give what is the same for all rows, in the order in which one would say it."""
    names = [axis.name for axis in axes]
    shown = {text for model in models for text in model.shown_inputs}
    constants: dict[str, Any] = {}
    if len(models) == 1:
        constants["model"] = models[0].request.argument
    if len(shown) == 1:
        constants["input"] = shown.pop()
    batches, dtypes = ({getattr(model.request, name) for model in models} for name in ("batch", "dtype"))
    if "batch" not in names and len(batches) == 1:
        constants["batch"] = batches.pop()
    if len(dtypes) == 1 and dtypes != {"float32"}:
        constants["dtype"] = dtypes.pop()
    for name in ("weights", "activations"):
        values = {getattr(model.request, name) for model in models}
        if len(values) == 1 and (value := values.pop()) is not None:
            constants[name] = value
    if models and all(model.request.fuse for model in models):
        constants["form"] = "deployed"
    bases = {item.pixel_basis for item in totals}
    if len(bases) == 1 and totals[0].pixels:
        constants["pixels"] = bases.pop()
    if len(models) == 1:
        constants.update((name, value) for name, value in models[0].request.overrides.items() if name not in names)
    constants.update((axis.name, axis.values[0]) for axis in axes if not axis.varies)
    return constants
