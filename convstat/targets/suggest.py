"""Inputs that a model runs on, found by trying: what is offered to the user has been run.

Shapes come from what was asked for, from the layers that tell the size of their input, and from what pictures, sounds
and tokens usually are. What no ``--input`` can give, a list of tensors, a number, a flag, is written out as a function
that returns the model and its inputs.
"""

from __future__ import annotations

import inspect
import itertools
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from convstat.errors import ConvstatError
from convstat.targets.inputs import InputSpec, parse
from convstat.trace import forward
from convstat.trace.describe import dtype_name
from convstat.trace.recipe import Example, Recipe

SECONDS = 10.0
"""How long one may look."""

MOST = 400
"""How many inputs may be tried."""

Try = Callable[[Example], bool]


class Choice(NamedTuple):
    """One thing to give for one argument: as ``--input`` takes it, if it can, and in Python."""

    option: str | None
    code: str
    make: Callable[[], Any]


def suggestions(
    recipe: Recipe,
    module: nn.Module,
    run: Try,
    asked: Sequence[InputSpec] = (),
    *,
    batch: int = 1,
    overrides: Mapping[str, object] | None = None,
) -> tuple[str, ...]:
    """Give help lines for a model whose inputs are missing or do not fit; none where none was found."""
    parameters = [p for p in forward.parameters_of(module) or () if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    needed = [p for p in parameters if p.default is p.empty]
    # transformers' models take everything by name, and cannot do without the first.
    needed = needed or parameters[:1] or [inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY)]
    hints = _hints(module)
    pools = [_choices(module, p.name, hints.get(p.name), asked, batch, several=len(needed) > 1) for p in needed]
    until = time.monotonic() + SECONDS
    by_name = [p.kind is not p.POSITIONAL_ONLY for p in needed]
    for count, chosen in enumerate(_combined(pools)):
        if count >= MOST or time.monotonic() > until:
            break
        args = tuple(choice.make() for choice, named in zip(chosen, by_name, strict=True) if not named)
        kwargs = {p.name: c.make() for p, c, named in zip(needed, chosen, by_name, strict=True) if named}
        if run(Example(args, kwargs) if len(needed) > 1 else Example((*args, *kwargs.values()))):
            return _found(recipe, [p.name for p in needed], chosen, overrides or {})
    return _function(recipe, [p.name for p in needed], ["..."] * len(needed), overrides or {})


def _found(
    recipe: Recipe, names: Sequence[str], chosen: Sequence[Choice], overrides: Mapping[str, object]
) -> tuple[str, ...]:
    options = [choice.option for choice in chosen]
    if all(option is not None for option in options):
        if len(options) == 1:
            return (f"for example: --input {_quoted(str(options[0]))}",)
        given = (_quoted(f"{name}={option}") for name, option in zip(names, options, strict=True))
        return ("for example: " + " ".join(f"--input {text}" for text in given),)
    return _function(recipe, names, [choice.code for choice in chosen], overrides)


def _function(
    recipe: Recipe, names: Sequence[str], values: Sequence[str], overrides: Mapping[str, object]
) -> tuple[str, ...]:
    """Write out the entry point that returns ``(model, inputs)``, where the model has one to begin with."""
    if recipe.kind != "module" or ":" not in recipe.source:
        return ()
    place, _, name = recipe.source.rpartition(":")
    module = place.removesuffix(".py").replace("/", ".").lstrip(".") if place.endswith(".py") else place
    inputs = ", ".join(f'"{name}": {value}' for name, value in zip(names, values, strict=True))
    fields = any("." in key or key.startswith("-") for key in overrides)
    given = "..." if fields else ", ".join(f"{key}={value!r}" for key, value in overrides.items())
    made = f"{name}({given})" if not recipe.is_made else name
    lines = [
        "import torch",
        f"from {module} import {name.partition('.')[0]}",
        "",
        "def build():",
        f"    return {made}, {{{inputs}}}",
    ]
    text = "\n".join(f"    {line}" if line else "" for line in lines)
    return (
        f"write a function that returns the model and its inputs, and name that function, build.py:build\n\n{text}\n",
    )


def _quoted(text: str) -> str:
    return f"'{text}'" if "[" in text else text


def _hints(module: nn.Module) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(module.forward)
    except Exception:  # an annotation may be anything
        return {}


def _combined(pools: Sequence[Sequence[Choice]]) -> Iterator[tuple[Choice, ...]]:
    """Every combination, those first whose choices are alike: the same place in each pool."""
    most = max(len(pool) for pool in pools)
    alike = [tuple(pool[min(place, len(pool) - 1)] for pool in pools) for place in range(most)]
    yield from alike
    if len(pools) > 1:
        seen = {tuple(map(id, chosen)) for chosen in alike}
        order = sorted(itertools.product(*(range(min(len(pool), 14)) for pool in pools)), key=lambda t: (sum(t), t))
        for places in order:
            chosen = tuple(pool[place] for pool, place in zip(pools, places, strict=True))
            if tuple(map(id, chosen)) not in seen:
                yield chosen


def _choices(
    module: nn.Module, name: str, hint: Any, asked: Sequence[InputSpec], batch: int, *, several: bool
) -> list[Choice]:
    """What one argument could be: what its annotation says, else tensors, then lists of them, numbers and flags."""
    kinds = {kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)}
    origin = typing.get_origin(hint)
    numbers = {bool: ["True", "False"], int: ["2", "1", "8"], float: ["1.0"], str: ['"x"']}
    for kind, texts in numbers.items():
        if kind in kinds and torch.Tensor not in kinds and origin not in (list, tuple, dict):
            return [_plain(text) for text in texts]
    tensors = [_tensor(module, text, batch) for text in _shapes(module, name, asked)]
    found = [choice for choice in tensors if choice is not None]
    lists = [_listed(choice, times) for choice in found[:8] for times in (2, 3, 1)]
    if origin in (list, tuple) or hint in (list, tuple):
        return lists
    others = [_plain(text) for text in ("2", "True")]
    return [*found, *lists, *others] if not several else [*found[:10], *lists[:3], *others]


def _plain(text: str) -> Choice:
    return Choice(None, text, lambda: {"True": True, "False": False, '"x"': "x"}.get(text, _number(text)))


def _number(text: str) -> Any:
    return float(text) if "." in text else int(text) if text.isdigit() else text


def _listed(choice: Choice, times: int) -> Choice:
    return Choice(None, f"[{choice.code}] * {times}", lambda: [choice.make() for _ in range(times)])


def _tensor(module: nn.Module, text: str, batch: int) -> Choice | None:
    """A tensor by the text that ``--input`` takes."""
    spec = parse(text)
    try:
        shape = spec.with_batch(batch)
    except ConvstatError:
        return None
    weights = (p.dtype for p in module.parameters() if p.is_floating_point())
    dtype = getattr(torch, spec.dtype) if spec.dtype else next(weights, torch.float32)
    said = f", dtype={dtype}" if dtype != torch.float32 else ""
    return Choice(text, f"torch.zeros({', '.join(map(str, shape))}{said})", lambda: torch.zeros(shape, dtype=dtype))


def _shapes(module: nn.Module, name: str, asked: Sequence[InputSpec]) -> list[str]:
    """Shapes to try for one argument, the likeliest first, as ``--input`` takes them."""
    own = list(_by_layers(module, name))
    given: list[str] = []
    for spec in asked:
        if spec.name not in (None, name):
            continue
        given.append(spec.text.partition("=")[2] or spec.text)
        if spec.shape and not spec.is_exact and not spec.says_batch:
            sizes = "x".join(map(str, spec.shape))
            # The batch may be missing, or the sizes may be a whole shape.
            given += [f"{text}{f':{spec.dtype}' if spec.dtype else ''}" for text in (f"Nx{sizes}", f"[{sizes}]")]
            given += [f"Nx{channels}x{sizes}" for channels in (1, 3)]
            given += [f"Nx{sizes}:int64", f"[{sizes}]:int64"]
    usual = ["3x224x224", "1x28x28", "Nx128:int64", "Nx16000", "Nx1x16000", "Nx3x16x112x112", "1x224x224", "Nx10", "N"]
    mask = ["Nx128:bool", "Nx128"] if "mask" in name.lower() else []
    ids = ["Nx128:int64", "128:int64"] if any(w in name.lower() for w in ("ids", "token", "index", "idx")) else []
    return list(dict.fromkeys([*given, *mask, *ids, *own, *usual]))


def _by_layers(module: nn.Module, name: str) -> Iterator[str]:
    """Shapes that the layers which tell the size of their input would take, in the order of the layers."""
    for number, part in enumerate(p for p in module.modules() if not list(p.children()) or hasattr(p, "kdim")):
        if number > 12:
            return
        weight = getattr(part, "weight", None)
        # Signals are real unless one says otherwise, whatever the weights are.
        dtype = f":{dtype_name(weight.dtype)}" if isinstance(weight, torch.Tensor) and weight.is_complex() else ""
        yield from (text + dtype for text in _of_layer(part, name))


def _of_layer(part: Any, name: str) -> Iterator[str]:
    kind = type(part).__name__
    sizes = {"Conv1d": ("1000", "16000"), "Conv2d": ("224x224", "32x32"), "Conv3d": ("16x112x112", "16x32x32")}
    transposed = kind.replace("ConvTranspose", "Conv").removeprefix("Lazy")
    if transposed in sizes and hasattr(part, "in_channels"):
        lead = "" if transposed == "Conv2d" else "Nx"
        for size in sizes[transposed]:
            yield f"{lead}{part.in_channels or 3}x{size}"
    elif kind in ("Embedding", "EmbeddingBag"):
        yield from ("Nx128:int64", "Nx16:int64", "128:int64")
    elif hasattr(part, "kdim") and hasattr(part, "embed_dim"):
        width = {"k": part.kdim, "v": part.vdim}.get(name.lower()[:1], part.embed_dim)
        yield from (f"Nx100x{width}", f"Nx100x{part.embed_dim}", f"Nx100x{part.kdim}", f"Nx100x{part.vdim}")
    elif kind in ("LSTM", "GRU", "RNN"):
        yield f"Nx100x{part.input_size}" if part.batch_first else f"[100x1x{part.input_size}]"
    elif hasattr(part, "input_size") and isinstance(part.input_size, int):
        yield f"{part.input_size}"
    elif isinstance(getattr(part, "in_features", None), int) and part.in_features:
        yield from (f"{part.in_features}", f"Nx100x{part.in_features}")
        side = int(part.in_features**0.5)
        if side * side == part.in_features:
            yield f"1x{side}x{side}"
    elif isinstance(getattr(part, "num_features", None), int) and part.num_features:
        dims = {"1d": f"Nx{part.num_features}x100", "3d": f"Nx{part.num_features}x16x32x32"}
        yield dims.get(kind[-2:], f"{part.num_features}x32x32")
    elif isinstance(getattr(part, "normalized_shape", None), tuple):
        yield f"Nx100x{'x'.join(map(str, part.normalized_shape))}"
