"""The figures of a model that takes tokens, from its trace and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from convstat.count import ops
from convstat.count.language import attention, cache, embeddings, experts
from convstat.results.language import Attention, Language, Training
from convstat.results.report import InputInfo, Report
from convstat.trace.calls import Call, FunctionCall, KernelCall, Trace


@dataclass(frozen=True, slots=True)
class Tokens:
    """The input whose elements are the tokens, and how many there are; ``sequence`` is how many a sample has."""

    input: InputInfo
    count: int
    sequence: int

    @property
    def basis(self) -> str:
        """In words: ``1 x 128 of input_ids``."""
        shape = self.input.shape[: -1 if self.input.dtype.startswith(("float", "bfloat")) else None]
        return f"{' x '.join(f'{size:,}' for size in shape)} of {self.input.name}"


MAIN = ("input_ids", "ids", "idx", "tokens", "input", "x")
"""What the main input is called where several are looked up in tables."""


def tokens_of(trace: Trace, inputs: Sequence[InputInfo], *, asked: bool = False) -> Tokens | None:
    """The tokens: an input of whole numbers, batch x sequence, that is looked up in a table of embeddings.

    Where the figures were ``asked`` for and there is none, the positions of the first input of two dimensions or more:
    its last dimension is that of the features.
    """
    looked_up = {lookup.indices for lookup in trace.lookups if lookup.of_input}
    looked_up = looked_up or {lookup.indices for lookup in trace.lookups}
    sizes = {prod(shape) for shape in looked_up} - {0}
    whole = [
        item
        for item in inputs
        if prod(item.shape) in sizes and item.dtype in ("int64", "int32") and len(item.shape) == 2
    ]
    named = sorted(whole, key=lambda item: MAIN.index(item.name) if item.name in MAIN else len(MAIN))
    if named:
        return Tokens(named[0], prod(named[0].shape), named[0].shape[1])
    if not asked:
        return None
    floating = [item for item in inputs if item.dtype.startswith(("float", "bfloat")) and len(item.shape) > 1]
    main = floating[0] if floating else None
    if main is None or not prod(main.shape[:-1]):
        return None
    return Tokens(main, prod(main.shape[:-1]), max(main.shape[:-1]))


def find(
    trace: Trace,
    report: Report,
    tokens: Tokens,
    found: Sequence[attention.Pairs],
    masks: Sequence[Fraction | None] | None = None,
) -> Language:
    """Compute all that one trace says, with the attention that was ``found`` in it."""
    routed = experts.find(trace)
    causal, known_from = attention.causal(found, masks, trace)
    seen = max((pairs.keys for pairs in found), default=tokens.sequence)
    routing = experts.routing(routed)
    idle = _idle(trace, {key for layer in routed for key in layer.params})
    active = report.totals.params - idle - sum(one.params - one.active_params for one in routing)
    step = split(trace)
    lengths = tuple(dict.fromkeys((seen, tokens.sequence, *(pairs.keys for pairs in found))))
    return Language(
        tokens.count,
        tokens.basis,
        step.forward_macs,
        report.totals.params,
        active,
        embeddings.find(trace, tokens.sequence),
        routing,
        Attention(len(found), seen, sum(pairs.macs for pairs in found), causal, known_from) if found else None,
        cache.measure(trace.state, report.model.batch, lengths),
        step if trace.forward is not None else None,
        notes=tuple(_notes(idle)),
    )


def _notes(idle: int) -> list[str]:
    return [f"{idle:,} params that this pass does not read are not active"] if idle else []


def _idle(trace: Trace, routed: set[int]) -> int:
    """The parameters, besides those of routed experts, whose module is not called and that no kernel reads."""
    called = {call.module for call in trace.module_calls()}
    seen: dict[int, tuple[int, bool]] = {}
    for module in trace.modules:
        for parameter in module.parameters if module.registered else ():
            is_read = module.index in called or parameter.key in trace.uses
            size, before = seen.get(parameter.key, (parameter.numel, False))
            seen[parameter.key] = size, before or is_read
    return sum(size for key, (size, is_read) in seen.items() if not is_read and key not in routed)


def split(trace: Trace) -> Training:
    """The MACs of a trace: of the forward pass, of the backward pass, and of what is computed again for that."""
    pricing = ops.Pricing()
    sums = {"forward": 0, "backward": 0, "again": 0}
    forward = len(trace.root.children) if trace.forward is None else trace.forward
    for part, children in (("forward", trace.root.children[:forward]), ("again", trace.root.children[forward:])):
        stack: list[Call] = [*children]
        while stack:
            call = stack.pop()
            if isinstance(call, KernelCall):
                cost = pricing.price(call)
                sums["backward" if call.backward else part] += 0 if cost is None else cost.macs
                continue
            if isinstance(call, FunctionCall) and call.has_rule:
                cost = pricing.price_function(call)
                sums[part] += 0 if cost is None else cost.macs
                continue
            stack += call.children
    return Training(sums["forward"], sums["backward"], sums["again"])
