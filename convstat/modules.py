"""Analyze Python models: make, trace, count, and ask the peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convstat import tally
from convstat.errors import SourceError, UsageError, did_you_mean
from convstat.inputs import InputSpec, parse_all
from convstat.report import InputInfo, Report
from convstat.sources.recipe import Example, Recipe

if TYPE_CHECKING:
    import torch

    from convstat.sources import Target

MODES = ("eval", "train")


def recipe_of(target: Target, overrides: Mapping[str, Any]) -> Recipe:
    """Say how to make the model that a target names."""
    if target.kind == "zoo":
        from convstat.sources import zoo

        return zoo.recipe(target.path, target.variant, overrides)
    from convstat.sources import entry

    return entry.recipe(target.path, overrides)


def analyze(
    recipe: Recipe,
    *,
    inputs: Sequence[str] = (),
    batch: int = 1,
    device: str = "auto",
    dtype: str | None = None,
    counters: str = "default",
    per: str = "input",
    mode: str = "eval",
    overrides: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Trace a model, count what ran, and explain how the peers differ."""
    from convstat.trace.run import run

    _check(device, mode, batch)
    specs = parse_all(inputs)
    say = progress or (lambda text: None)

    def example_of(module: torch.nn.Module, given: Example | None) -> Example:
        return _example(recipe, specs, batch, module, given)

    say(f"tracing {recipe.name}")
    traced = run(_cast(recipe, dtype), example_of, device=device, train=mode == "train")
    report = tally.count(
        traced.trace,
        name=recipe.name,
        source=recipe.source,
        kind=recipe.kind,
        inputs=_infos(traced.module, traced.example),
        batch=batch,
        per=per,
        mode=mode,
        overrides=overrides,
    )
    report = replace(report, model=replace(report.model, notes=(*_way(traced.way), *traced.notes)))
    if mode == "train" or counters == "none":
        return report

    from convstat.counters import measure_on, select
    from convstat.counters.stages import ModuleStages

    chosen = select(counters)
    if chosen:
        say(f"running {', '.join(counter.name for counter in chosen)}")
        stages = ModuleStages(_cast(recipe, dtype), example_of, traced)
        report = replace(report, counters=measure_on(stages, report, chosen, device=device))
    return report


def _check(device: str, mode: str, batch: int) -> None:
    from convstat.counters.measure import DEVICES

    if device not in DEVICES:
        raise UsageError(f"unknown device '{device}'", help=f"it is one of {', '.join(DEVICES)}")
    if mode not in MODES:
        raise UsageError(f"unknown mode '{mode}'", help=f"it is one of {', '.join(MODES)}")
    if batch < 1:
        raise UsageError(f"the batch must be at least 1, not {batch}")


def _way(way: str) -> tuple[str, ...]:
    return () if way == "meta" else (f"traced with {way}",)


def _cast(recipe: Recipe, dtype: str | None) -> Recipe:
    """Make the model in another floating-point type, where one is asked for."""
    if dtype is None:
        return recipe

    def make() -> tuple[torch.nn.Module, Example | None]:
        import torch

        module, given = recipe.make()
        return module.to(getattr(torch, dtype)), given

    return replace(recipe, make=make)


def _example(
    recipe: Recipe, specs: Sequence[InputSpec], batch: int, module: torch.nn.Module, given: Example | None
) -> Example:
    """The arguments of the forward pass: those asked for, else the entry point's own, else the zoo's."""
    usual = recipe.usual(batch) if recipe.usual is not None else None
    if not specs:
        if (example := given or usual) is not None:
            return example
        raise SourceError(
            f"{recipe.source} gives no inputs, and none were named",
            help=(f"its forward takes ({_signature(module)})", f"for example: --input {_guess(module)}"),
        )
    names = _forward_names(module)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for spec in specs:
        pattern = usual.args[len(args)] if usual is not None and not spec.name and len(args) < len(usual.args) else None
        tensor = _tensor(spec, batch, pattern, module)
        if spec.name is None:
            args.append(tensor)
            continue
        if names is not None and spec.name not in names:
            raise UsageError(
                f"the forward of {recipe.source} has no argument '{spec.name}'",
                help=(*did_you_mean(spec.name, names), f"it takes ({_signature(module)})"),
            )
        kwargs[spec.name] = tensor
    return Example(tuple(args), kwargs)


def _tensor(spec: InputSpec, batch: int, pattern: Any, module: torch.nn.Module) -> Any:
    import torch

    dtype = getattr(torch, spec.dtype, None) if spec.dtype else None
    if spec.dtype and not isinstance(dtype, torch.dtype):
        raise UsageError(
            f"unknown dtype '{spec.dtype}' in --input {spec.text}",
            help="for example float32, float16, bfloat16, int64 or bool",
        )
    if dtype is None:
        floating = (p.dtype for p in module.parameters() if p.is_floating_point())
        dtype = next(floating, torch.float32)
    if isinstance(pattern, (list, tuple)):
        # Detectors take a list with one picture for each sample.
        return [torch.zeros(spec.shape, dtype=dtype) for _ in range(batch)]
    shape = spec.with_batch(batch, tuple(pattern.shape) if isinstance(pattern, torch.Tensor) else None)
    return torch.zeros(shape, dtype=dtype)


def _forward_names(module: torch.nn.Module) -> list[str] | None:
    """The names that forward takes, None where it takes any."""
    from inspect import Parameter, signature

    parameters = signature(module.forward).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return [name for name, parameter in parameters.items() if parameter.kind is not Parameter.VAR_POSITIONAL]


def _signature(module: torch.nn.Module) -> str:
    from inspect import signature

    return ", ".join(
        name if parameter.default is parameter.empty else f"{name}={parameter.default!r}"
        for name, parameter in signature(module.forward).parameters.items()
    )


def _guess(module: torch.nn.Module) -> str:
    """A shape to begin with, from the first layer that tells the size of its input."""
    for part in module.modules():
        kind = type(part).__name__
        if kind in ("Conv1d", "Conv2d", "Conv3d"):
            sizes = {"Conv1d": ("1000",), "Conv2d": ("224", "224"), "Conv3d": ("16", "112", "112")}[kind]
            return "x".join((f"{part.in_channels}", *sizes))
        if kind in ("Embedding", "EmbeddingBag"):
            return "1x128:int64"
        if kind == "Linear":
            return str(part.in_features)
    return "3x224x224"


def _infos(module: torch.nn.Module, example: Example) -> tuple[InputInfo, ...]:
    """Name every tensor that went in: by its parameter, and by its place inside it."""
    import torch
    from torch.utils._pytree import keystr, tree_leaves_with_path

    names = _forward_names(module) or []
    found: list[InputInfo] = []
    positional = ((names[i] if i < len(names) else f"input{i}", value) for i, value in enumerate(example.args))
    for name, value in (*positional, *example.kwargs.items()):
        for path, leaf in tree_leaves_with_path(value):
            if isinstance(leaf, torch.Tensor):
                dtype = str(leaf.dtype).removeprefix("torch.")
                found.append(InputInfo(f"{name}{keystr(path)}", tuple(leaf.shape), dtype))
    return tuple(found)
