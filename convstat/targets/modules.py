"""Analyze Python models: make, trace, count, and ask the peers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convstat.count import traces
from convstat.errors import InputError, UsageError, did_you_mean, torch_is_missing
from convstat.grammar import sizes
from convstat.patches.collection import without_collection
from convstat.patches.guard import in_words
from convstat.patches.room import alone
from convstat.results.report import ROOT, InputInfo, Report
from convstat.targets import named
from convstat.targets.basis import basis_of
from convstat.targets.data import Value
from convstat.targets.huggingface.cache import NAMES as CACHES
from convstat.targets.inputs import InputSpec, parse_all
from convstat.targets.request import NOBODY, Listener, Request
from convstat.targets.subject import Subject
from convstat.trace.foreign import foreign
from convstat.trace.recipe import Example, Recipe

if TYPE_CHECKING:
    import torch

    from convstat.graph import Graph
    from convstat.targets import Target
    from convstat.trace.calls import Trace
    from convstat.trace.run import ExampleOf, Traced

MODES = ("eval", "train")

_NEVER_OF_INPUTS = (NameError, ImportError, ZeroDivisionError, RecursionError)
"""What a model raises whatever it is given."""


@alone
def recipe_of(target: Target, overrides: Mapping[str, Any]) -> Recipe:
    """Say how to make the model that a target names; raises SourceError where there is no torch to make it with."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise torch_is_missing(f"{target.argument} is a Python model: counting it")
    if target.is_config:
        from convstat.targets.huggingface import recipe as huggingface

        if target.kind == "zoo":
            return huggingface.of_type(target.path, overrides)
        return huggingface.of_file(target.argument, target.path, target.variant, overrides)
    if target.kind == "zoo":
        from convstat.targets import zoo

        return zoo.recipe(target.path, target.variant, overrides)
    from convstat.targets import entry

    return entry.recipe(target.path, overrides)


def recipe_of_graph(graph: Graph, target: Target, *, dtype: str) -> Recipe:
    """Say how to make the torch model of a spec, where it is to be traced and not only counted."""

    def make() -> tuple[torch.nn.Module, Example | None]:
        import torch

        from convstat.trace.build import build, example_inputs

        place = torch.get_default_device().type
        inputs = example_inputs(graph, device=place, dtype=dtype)
        return build(graph, device=place, dtype=dtype), Example(args=inputs)

    return Recipe(graph.name, target.argument, target.kind, make)


@alone
def prepare(recipe: Recipe, request: Request, *, listener: Listener = NOBODY) -> Subject:
    """Trace a model and count what ran."""
    from convstat.counters.stages import ModuleStages
    from convstat.targets.trying import suggest
    from convstat.trace.run import FAKE, run

    _check(request.device, request.mode, request.batch)
    sized = sizes.together(request.inputs)
    specs = _loaded([spec for spec in parse_all(request.inputs) if spec.size is None])
    if request.dtype != "float32":
        # The usual one leaves a model as it was made.
        recipe = replace(recipe, dtype=floating(request.dtype))

    def example_of(module: torch.nn.Module, given: Example | None) -> Example:
        if sized.asked or (given is None and not specs and recipe.usual is None):
            given = named.example(recipe.source, module, sized, request.batch, recipe.dtype) or given
        return _example(recipe, specs, request.batch, module, given)

    listener.progress(f"tracing {recipe.name}")
    try:
        traced = run(recipe, example_of, _weigh, device=request.device, train=request.mode == "train")
    except InputError as error:
        if isinstance(error.__cause__, _NEVER_OF_INPUTS):
            raise
        listener.progress(f"looking for inputs that {recipe.name} runs on")
        [problem] = error.diagnostics
        asked = [spec for spec in specs if isinstance(spec, InputSpec)]
        found = suggest(recipe, asked, request.batch, request.overrides)
        raise InputError(replace(problem, help=(*problem.help, *found))) from error.__cause__
    # Inputs are asked what they hold, and rules of somebody else's what something costs.
    with without_collection(), foreign(f"{recipe.source} cannot be counted"):
        report = traces.count(
            traced.trace,
            name=recipe.name,
            source=recipe.source,
            kind=recipe.kind,
            inputs=_infos(traced.module, traced.example),
            batch=request.batch,
            per=basis_of(request, request.overrides),
            mode=request.mode,
            overrides=request.overrides,
            weights=request.weights,
            activations=request.activations,
        )
    if traced.way == FAKE:
        report = replace(report, model=replace(report.model, device="fake"))
    assumed = recipe.explain(report) if recipe.explain is not None else ()
    report = _with_notes(report, *assumed, *traced.notes, *traced.example.notes)
    if traced.rests_on is not None:
        report = _with_notes(report, f"the count is {traced.rests_on}")
    values = traced.values
    if values is None and any(isinstance(spec, Value) for spec in specs):
        values = f"{traced.example.values}; the count does not depend on them"
    model = replace(report.model, rests_on=traced.rests_on, values=values, cache=traced.example.cache)
    report = replace(report, model=model)
    if request.extents:
        listener.progress(f"following the positions of {recipe.name}")
        report = _with_extents(report, recipe, example_of, traced)
    stages = ModuleStages(recipe, example_of, traced)
    if request.language or traced.trace.lookups:
        from convstat.targets.language import Asked, with_language

        report = with_language(report, stages, Asked(request.language, request.checkpoint), listener)
    return Subject(report, stages)


def _with_extents(report: Report, recipe: Recipe, example_of: ExampleOf, traced: Traced) -> Report:
    """Add the receptive fields, found in a run without values, else in one with them; a note where neither works."""
    from convstat.count.extents import extent_of
    from convstat.patches.operators import declared_operators
    from convstat.patches.preserve import process_preserved
    from convstat.trace import extents
    from convstat.trace.fusing import on_meta
    from convstat.trace.recipe import quiet
    from convstat.trace.run import make

    reason = ""
    for device in dict.fromkeys(("meta", "cpu" if traced.device == "cpu" else "meta")):
        try:
            module, example = make(recipe, example_of, device)
            module = on_meta(module, copied=recipe.is_made) if device == "meta" else copy.deepcopy(module)
            with (
                process_preserved(),
                foreign(f"{recipe.source} does not run"),
                quiet(),
                declared_operators(),
                recipe.around(),
            ):
                found, axes = extents.extents(module.eval(), example.args, example.kwargs)
        except Exception as error:
            reason = reason or in_words(error)
            continue
        made = {name or ROOT: extent_of(item, axes) for name, item in found.items()}
        rows = tuple(replace(row, extent=made.get(row.name)) for row in report.layers)
        return replace(report, layers=rows, extent=made.get(ROOT))
    return _with_notes(report, f"receptive fields are not known: {reason}")


def _weigh(trace: Trace) -> tuple[int, dict[str, int]]:
    """What a trace costs."""
    totals = traces.count(trace, name="", source="", inputs=()).totals
    return totals.macs, dict(totals.other)


def _with_notes(report: Report, *notes: str) -> Report:
    return replace(report, model=replace(report.model, notes=(*report.model.notes, *notes)))


def _check(device: str, mode: str, batch: int) -> None:
    from convstat.counters.measure import DEVICES

    if device not in DEVICES:
        raise UsageError(f"unknown device '{device}'", help=f"it is one of {', '.join(DEVICES)}")
    if mode not in MODES:
        raise UsageError(f"unknown mode '{mode}'", help=f"it is one of {', '.join(MODES)}")
    if batch < 1:
        raise UsageError(f"the batch must be at least 1, not {batch}")


def floating(name: str) -> torch.dtype:
    """A floating-point dtype by name."""
    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(
            f"unknown floating-point dtype '{name}'", help="it is one of float32, float16, bfloat16, float64"
        )
    return dtype


def _loaded(specs: Sequence[InputSpec]) -> tuple[InputSpec | Value, ...]:
    """Read the files of those that are from one."""
    from convstat.targets.data import load

    return tuple(item for spec in specs for item in ((spec,) if spec.data is None else load(spec)))


def _example(
    recipe: Recipe, specs: Sequence[InputSpec | Value], batch: int, module: torch.nn.Module, given: Example | None
) -> Example:
    """The arguments of the forward pass: those asked for, else the entry point's own, else the zoo's."""
    from convstat.trace import forward

    usual = recipe.usual(batch) if recipe.usual is not None else None
    if not specs:
        return _unasked(recipe, batch, module, given or usual, own=given is not None)
    args: list[Any] = list(given.args) if given is not None else []
    kwargs: dict[str, Any] = dict(given.kwargs) if given is not None else {}
    patterns = given or usual or Example()
    places = forward.argument_names(module)
    known = forward.keyword_names(module)
    position = 0
    for spec in specs:
        name, place = spec.name, places.index(spec.name) if spec.name in places else None
        if name is None:
            place, position = position, position + 1
            if place >= len(args) and place < len(places) and places[place] in kwargs:
                # What comes with the model comes by name.
                name = places[place]
        elif known is not None and name not in known:
            raise UsageError(
                f"the forward of {recipe.source} has no argument '{name}'",
                help=(*did_you_mean(name, known), f"it takes ({forward.signature_text(module)})"),
            )
        if isinstance(spec, Value):
            tensor = _given(spec, recipe.dtype)
            _put(args, kwargs, place, name, tensor)
            continue
        pattern = patterns.args[place] if place is not None and place < len(patterns.args) else None
        if pattern is None and name is not None:
            pattern = patterns.kwargs.get(name)
        _put(args, kwargs, place, name, _tensor(spec, batch, pattern, module, recipe.dtype))
    files = dict.fromkeys(spec.path for spec in specs if isinstance(spec, Value))
    values = f"those in {', '.join(files)}" if files else None
    example = replace(patterns, args=tuple(args), kwargs=kwargs, values=values)
    if files:
        _check_batch(example, batch, module, f"the inputs are in {', '.join(files)}", "omit --batch")
    return example


def _put(args: list[Any], kwargs: dict[str, Any], place: int | None, name: str | None, value: Any) -> None:
    if place is not None and (name is None or place < len(args)):
        args[place : place + 1] = [value]
    elif name is not None:
        kwargs[name] = value


def _given(item: Value, floating: torch.dtype | None) -> Any:
    """A value from a file; where the model is cast, what is floating is cast with it."""
    import torch
    from torch.utils._pytree import tree_map

    def cast(value: Any) -> Any:
        return value.to(floating) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return item.value if floating is None else tree_map(cast, item.value)


def _unasked(recipe: Recipe, batch: int, module: torch.nn.Module, example: Example | None, *, own: bool) -> Example:
    """The inputs where none were asked for: those that come with the model."""
    from convstat.trace import forward

    if example is None and not forward.needs_inputs(module):
        return Example()
    if example is None:
        raise InputError(
            f"{recipe.source} provides no inputs, and none are given",
            help=f"its forward takes ({forward.signature_text(module)})",
        )
    if own:
        help = "omit --batch, or give the inputs with --input"
        _check_batch(example, batch, module, f"{recipe.source} provides its own inputs", help)
    return example


def _check_batch(example: Example, batch: int, module: torch.nn.Module, which: str, help: str) -> None:
    from convstat.trace import forward

    tensors = forward.named_tensors(module, example.args, example.kwargs).values()
    if batch != 1 and not any(tensor.dim() and tensor.size(0) == batch for tensor in tensors):
        raise UsageError(f"{which}, and none has a batch of {batch}", help=help)


def _tensor(spec: InputSpec, batch: int, pattern: Any, module: torch.nn.Module, floating: torch.dtype | None) -> Any:
    import torch

    if isinstance(pattern, (list, tuple)):
        # Detectors take a list with one picture for each sample.
        return [zeros(spec.shape, spec, module, floating) for _ in range(batch)]
    usual = tuple(pattern.shape) if isinstance(pattern, torch.Tensor) else None
    if usual is not None and not pattern.is_floating_point():
        floating = pattern.dtype
    return zeros(spec.with_batch(batch, usual), spec, module, floating)


def zeros(
    shape: Sequence[int], spec: InputSpec, module: torch.nn.Module, usual: torch.dtype | None = None
) -> torch.Tensor:
    """Make an input of a shape: of the dtype that is written, else the usual one, else the first real weight's."""
    import torch

    dtype = getattr(torch, spec.dtype, None) if spec.dtype else None
    if spec.dtype and not isinstance(dtype, torch.dtype):
        raise UsageError(
            f"unknown dtype '{spec.dtype}' in --input {spec.text}",
            help="for example float32, float16, bfloat16, int64 or bool",
        )
    if dtype is None:
        # Complex weights may multiply what a Fourier transform made of a real input: so they say nothing of it.
        weights = (p.dtype for p in module.parameters() if p.is_floating_point())
        dtype = usual or next(weights, torch.float32)
    return torch.zeros(tuple(shape), dtype=dtype)


def _infos(module: torch.nn.Module, example: Example) -> tuple[InputInfo, ...]:
    """Name every tensor that went in: by its parameter, and by its place inside it."""
    from convstat.trace.forward import named_infos

    kwargs = example.kwargs
    if example.cache is not None:
        # Of two tensors in each layer, the whole says more.
        kwargs = {name: value for name, value in kwargs.items() if name not in CACHES}
    return tuple(
        InputInfo(name, tensor.shape, tensor.dtype)
        for name, tensor in named_infos(module, example.args, kwargs).items()
    )
