"""Give a counter the pass that it sees, where convstat follows the model further than any counter does.

A forward that is a generator runs when somebody takes what it yields: convstat does, and a counter that calls the model
does not. A module that the pass makes is part of the model once it has run, and most counters look for the parts of a
model, to put hooks on them, before that. What convstat counts and the counter does not see so is a cause of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from convstat.counters.base import Prediction, Term
from convstat.counters.parameters import held
from convstat.counters.products import Work
from convstat.trace import KernelCall, ModuleInfo, ObjectInfo, Trace
from convstat.trace.calls import jagged

Made = Literal["seen", "unseen", "params", "fails"]
"""What a counter makes of modules that its own call of the model makes: their work and parameters, nothing of them,
their parameters alone, or that it fails, which its own prediction says (:attr:`Trace.made`)."""


def as_seen(trace: Trace, made: Made, *, flat: bool = False) -> Trace:
    """The trace as a counter sees it; ``flat``: it asks jagged tensors what it asks others, and they answer."""
    if flat and any(jagged(value) for value in (*trace.root.args, *trace.root.kwargs.values())):
        trace = replace(trace, root=_flat(trace.root))
    if trace.returned is not None:
        root = replace(trace.root, children=trace.root.children[: trace.returned], output=GENERATOR)
        trace = replace(trace, root=root)
    if made != "seen" and any(_is_late(info) for info in trace.modules):
        late = tuple(info for info in trace.modules if info.made)
        trace = replace(trace, modules=tuple(map(_before, trace.modules)), made=late)
        hidden = {info.index for info in late}
        trace = replace(trace, modules=tuple(_without(info, hidden) for info in trace.modules))
    return trace


def _flat(call: Any) -> Any:
    """A call in which jagged tensors stand as what they look like."""
    if isinstance(call, KernelCall):
        return call
    return replace(
        call,
        args=tuple(jagged(value) or value for value in call.args),
        kwargs={name: jagged(value) or value for name, value in call.kwargs.items()},
        output=jagged(call.output) or call.output,
        children=tuple(map(_flat, call.children)),
    )


GENERATOR = ObjectInfo("builtins.generator")


def with_unseen(prediction: Prediction, trace: Trace, seen: Trace, made: Made) -> Prediction:
    """Add what convstat counts of the whole ``trace``, and the counter does not see, with the reason."""
    if prediction.failure is not None or seen is trace:
        return prediction
    terms = list(prediction.terms)
    if prediction.macs is not None:
        terms += _macs(trace, seen)
    more = 0
    if prediction.params is not None:
        known = {one.parameter.key for one in held(seen)}
        for parameter, _, layer in held(trace):
            if parameter.key not in known:
                terms.append(Term(layer, params=parameter.numel))
                if made == "unseen":
                    terms.append(Term(layer, params=-parameter.numel, code="made_later"))
                else:
                    more += parameter.numel
    params = None if prediction.params is None else prediction.params + more
    return replace(prediction, params=params, terms=tuple(terms))


def _macs(trace: Trace, seen: Trace) -> list[Term]:
    """What the layers multiply is lined up with those of the whole pass; what nobody takes is not seen."""
    ours, theirs = products_by_layer(trace), products_by_layer(seen)
    unread = products_by_layer(replace(trace, root=replace(trace.root, children=trace.root.children[trace.returned :])))
    terms = [Term(layer, macs=ours.get(layer, 0) - theirs.get(layer, 0)) for layer in {**ours, **theirs}]
    if trace.returned is not None:
        terms += [Term(layer, macs=-macs, code="generator_unread") for layer, macs in unread.items()]
    return [term for term in terms if term.macs]


def products_by_layer(trace: Trace) -> Mapping[str, int]:
    """What the kernels of a trace multiply, by the layer that they are counted in."""
    found: dict[str, int] = {}
    work = Work.of(trace)
    for kernel in (*work.kernels, *work.derivatives):
        found[kernel.layer] = found.get(kernel.layer, 0) + kernel.products
    return found


def _is_late(info: ModuleInfo) -> bool:
    return info.made or any(parameter.made for parameter in info.parameters)


def _before(info: ModuleInfo) -> ModuleInfo:
    kept = tuple(parameter for parameter in info.parameters if not parameter.made)
    return replace(info, parameters=kept, paths=() if info.made else info.paths)


def _without(info: ModuleInfo, hidden: set[int]) -> ModuleInfo:
    return replace(
        info,
        children=tuple(child for child in info.children if child not in hidden),
        entries=tuple(child for child in info.entries if child not in hidden),
    )
