"""The figures of a model that takes tokens: those of its trace, and those that take further runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from convstat.count.language import attention, figures
from convstat.errors import ConvstatError, UsageError
from convstat.patches.guard import in_words
from convstat.results.language import Language, Scaling, Training
from convstat.results.report import Report
from convstat.targets.memory import chosen
from convstat.targets.request import NOBODY, Listener
from convstat.trace.recipe import Example

if TYPE_CHECKING:
    import torch

    from convstat.counters.stages import ModuleStages
    from convstat.trace import Trace
    from convstat.trace.masks import Following

NO_TOKENS = "it takes no tokens: no input of whole numbers, batch x sequence, is looked up in a table of embeddings"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: the figures that take further runs too, and the patterns of modules to checkpoint."""

    whole: bool = False
    checkpoint: tuple[str, ...] = ()


def with_language(report: Report, stages: ModuleStages, asked: Asked, listener: Listener = NOBODY) -> Report:
    """Add the figures to a report, if the model takes tokens; raises UsageError where they were asked for in vain."""
    trace = stages.traced.trace
    tokens = figures.tokens_of(trace, report.model.inputs, asked=asked.whole)
    if tokens is None:
        if asked.whole:
            raise UsageError(f"--language: {report.model.source} has no figures of a language model: {NO_TOKENS}")
        return report
    found = attention.find(trace)
    masks = None
    if attention.needs_masks(found):
        listener.progress(f"following the masks of {report.model.name}")
        masks = masks_of(stages, [pairs.softmax for pairs in found if pairs.is_causal is None])
    language = figures.find(trace, report, tokens, found, masks)
    if asked.whole:
        language = _further(language, tokens, report, stages, asked, listener)
    return replace(report, language=language)


def masks_of(stages: ModuleStages, needed: Sequence[int | None]) -> tuple[Fraction | None, ...] | None:
    """The part of each softmax that no mask discards, in order; None where the model cannot be followed.

    Where a mask that the constructor made may tell more, the model is made once more, and that is followed too.
    """
    if stages.traced.device != "meta":
        return None
    try:
        from convstat.trace.masks import Following

        found = _followed(stages, stages.traced.module, stages.traced.example, Following())
        unknown = any(number is not None and (number >= len(found) or found[number] is None) for number in needed)
        if unknown and not stages.recipe.is_made and _has_constants(stages.traced.module):
            from convstat.trace.run import make

            following = Following()
            with following:
                module, example = make(stages.recipe, stages.example_of, "meta")
            found = _followed(stages, module, example, following)
    except Exception:
        return None
    return found


def _has_constants(module: torch.nn.Module) -> bool:
    return any(buffer.dim() > 1 for buffer in module.buffers())


def _followed(
    stages: ModuleStages, module: torch.nn.Module, example: Example, following: Following
) -> tuple[Fraction | None, ...]:
    own = type(stages)(stages.recipe, stages.example_of, replace(stages.traced, module=module, example=example))
    before = dict(_constants(module))
    with own.running("meta"):
        after = dict(_constants(module))
        known = [(after[name], value) for name, value in before.items() if name in after and not value.is_meta]
        known += _usual_inputs(example)
        for tensor, values in known:
            following.know(tensor, values)
        with following:
            module(*example.args, **example.kwargs)
    return tuple(following.kept)


def _constants(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The buffers and the plain tensors of all modules, by name."""
    import torch

    for path, part in module.named_modules():
        for name, value in (*part._buffers.items(), *vars(part).items()):
            if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
                yield f"{path}.{name}", value


def _usual_inputs(example: Example) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What inputs hold whose values are no data: masks of padding keep all, and positions are counted."""
    import torch

    found = []
    for name, value in example.kwargs.items():
        if isinstance(value, torch.Tensor) and value.dim() and value.numel() <= 2**24:
            if name.endswith("attention_mask"):
                found.append((value, torch.ones(value.shape, dtype=value.dtype)))
            elif name.endswith(("position_ids", "cache_position")):
                found.append((value, torch.arange(value.shape[-1]).to(value.dtype).expand(value.shape)))
    return found


def _further(
    language: Language,
    tokens: figures.Tokens,
    report: Report,
    stages: ModuleStages,
    asked: Asked,
    listener: Listener,
) -> Language:
    """Add what takes further runs; what cannot be found out is noted with the reason."""
    notes = list(language.notes)
    if language.training is None:
        listener.progress(f"training {report.model.name}")
        try:
            language = replace(language, training=training(stages, asked.checkpoint))
        except UsageError:
            raise
        except Exception as error:
            notes.append(f"training FLOPs are not known: {_why(error)}")
    if language.cache is None:
        listener.progress(f"looking for the cache of {report.model.name}")
        try:
            language = replace(language, cache=_cache(language, report, stages))
        except Exception as error:
            notes.append(f"the cache is not known: {_why(error)}")
    listener.progress(f"tracing {report.model.name} at other lengths")
    scaling, reason = _scaling(language, tokens, stages)
    if reason:
        notes.append(reason)
    return replace(language, scaling=scaling, notes=tuple(notes))


def _why(error: Exception) -> str:
    return error.diagnostics[0].message if isinstance(error, ConvstatError) else in_words(error)


def training(stages: ModuleStages, checkpoint: Sequence[str] = ()) -> Training:
    """Trace one forward and backward pass in train mode; modules that match ``checkpoint`` are run again there."""
    from contextlib import nullcontext

    from convstat.counters.inputs import keywords_of
    from convstat.patches.checkpoint import checkpointed
    from convstat.trace.record import record

    place, _ = stages.foresight()
    model, inputs = stages.model(place)
    names = chosen(model, checkpoint)
    with stages.running(place), ExitStack() as stack:
        for name, module in model.named_modules():
            if name in names:
                stack.enter_context(checkpointed(module, nullcontext))
        trace = record(model, tuple(inputs), keywords_of(inputs), train=True)
    return replace(figures.split(trace), checkpoint=tuple(checkpoint))


def _traced(stages: ModuleStages, kwargs: Mapping[str, Any], args: tuple[Any, ...] | None = None) -> Trace:
    """A trace of the same model with other arguments."""
    from convstat.trace.record import record

    place, _ = stages.foresight()
    model, inputs = stages.model(place)
    with stages.running(place):
        return record(model, tuple(inputs) if args is None else args, kwargs)


def _cache(language: Language, report: Report, stages: ModuleStages) -> Any:
    """Ask the model for its cache by name, where it gives none of its own accord."""
    from convstat.count.language import cache
    from convstat.counters.inputs import keywords_of
    from convstat.trace import forward

    model, inputs = stages.model(stages.foresight()[0])
    if "use_cache" not in (forward.keyword_names(model) or ("use_cache",)):
        return None
    if "use_cache" not in {parameter.name for parameter in forward.parameters_of(model) or ()}:
        return None
    trace = _traced(stages, {**keywords_of(inputs), "use_cache": True})
    found = attention.find(trace)
    lengths = tuple(dict.fromkeys(pairs.keys for pairs in found))
    return cache.measure(trace.state, report.model.batch, lengths)


def _scaling(language: Language, tokens: figures.Tokens, stages: ModuleStages) -> tuple[Scaling | None, str | None]:
    """Trace at other lengths too: three points give the terms, and the fourth confirms that there are no others."""
    length = tokens.sequence
    if length < 4 or length % 4 or language.attention is None:
        return None, None
    lengths = (length // 4, length // 2, 3 * length // 4, length)
    macs = {length: language.macs}
    try:
        for shorter in lengths[:-1]:
            args, kwargs = _cut(stages, length, shorter)
            macs[shorter] = figures.split(_traced(stages, kwargs, args)).forward_macs
    except Exception as error:
        return None, f"how MACs grow with the length is not known: {_why(error)}"
    first, second, third, last = (macs[one] for one in lengths)
    step = length // 4
    quadratic = Fraction(first - 2 * second + third, 2 * step**2)
    linear = Fraction(second - first, step) - 3 * step * quadratic
    constant = first - linear * step - quadratic * step**2
    if constant + linear * length + quadratic * length**2 != last or min(constant, linear, quadratic) < 0:
        at = ", ".join(f"{macs[one]:,} at {one:,}" for one in lengths)
        return None, f"MACs are no polynomial of second degree in the length: {at}"
    return Scaling(constant, linear, quadratic, lengths), None


def _cut(stages: ModuleStages, length: int, shorter: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs with shorter sequences: every tensor of whole numbers, batch x length, is cut."""
    import torch
    from torch.utils._pytree import tree_map

    from convstat.counters.inputs import keywords_of

    def cut(value: Any) -> Any:
        is_sequence = isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape[1] == length
        return value[:, :shorter] if is_sequence and not value.is_floating_point() else value

    _, inputs = stages.model(stages.foresight()[0])
    return tuple(tree_map(cut, tuple(inputs))), dict(tree_map(cut, dict(keywords_of(inputs))))
