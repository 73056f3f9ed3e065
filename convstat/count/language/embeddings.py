"""Which parameters are embeddings: tables that something is looked up in, and projections to the vocabulary."""

from __future__ import annotations

from convstat.results.language import Embeddings
from convstat.trace.calls import Lookup, ModuleInfo, ParameterInfo, Trace


def find(trace: Trace, sequence: int) -> Embeddings:
    """Sort the tables: those that an input looks up in are of tokens, those with a row for each position of positions.

    ``sequence`` is the length that there must at least be rows for. A learned parameter that is added to all tokens is
    a table of positions where its name says so.
    """
    parameters = {p.key: p for module in trace.modules if module.registered for p in module.parameters}
    tokens: dict[int, int] = {}
    positions: dict[int, int] = {}
    others: dict[int, int] = {}
    vocabulary: set[int] = set()
    largest = _tokens_by_size(trace)
    for lookup in trace.lookups:
        table = parameters.get(-1 if lookup.key is None else lookup.key)
        if table is None:
            continue
        if (lookup.of_input and not _is_of_positions(lookup, trace)) or lookup is largest:
            tokens[table.key] = table.numel
            vocabulary.add(lookup.table[0])
        elif lookup.table[0] >= sequence or (len(set(lookup.indices)) == 1 and len(lookup.indices) == 2):
            positions[table.key] = table.numel
        else:
            others[table.key] = table.numel
    for module in trace.modules:
        for parameter in module.parameters if module.registered else ():
            if parameter.key not in tokens and _is_added(parameter, module):
                positions[parameter.key] = parameter.numel
    kept = {key: size for key, size in positions.items() if key not in tokens}
    rest = {key: size for key, size in others.items() if key not in tokens and key not in kept}
    head, is_tied = _head(trace, vocabulary, tokens)
    return Embeddings(sum(tokens.values()), sum(kept.values()), sum(rest.values()), head, is_tied)


def _tokens_by_size(trace: Trace) -> Lookup | None:
    """The lookup in the largest table, where none is of an input as it is: the model made its own numbers of it."""
    if any(lookup.of_input for lookup in trace.lookups):
        return None
    return max(trace.lookups, key=lambda lookup: lookup.table[0], default=None)


def _is_of_positions(lookup: Lookup, trace: Trace) -> bool:
    """Whether an input that is looked up is one of positions or of segments, by the name of the table."""
    path = trace.modules[lookup.module].path.rpartition(".")[2].lower()
    return "pos" in path or "type" in path or "segment" in path


def _is_added(parameter: ParameterInfo, module: ModuleInfo) -> bool:
    """Whether a parameter that no lookup reads is one of positions: named so, and not a layer's weight."""
    return "pos" in parameter.name.lower() and parameter.name not in ("weight", "bias") and len(parameter.shape) > 1


def _head(trace: Trace, vocabulary: set[int], tokens: dict[int, int]) -> tuple[int, bool]:
    """The weights of projections to a vocabulary, and whether one is the table of tokens itself."""
    heads: dict[int, int] = {}
    reads_table = False
    looked_up = {lookup.module for lookup in trace.lookups}
    for module in trace.modules:
        for parameter in module.parameters if module.registered else ():
            if len(parameter.shape) != 2 or not vocabulary & set(parameter.shape):
                continue
            if parameter.key in tokens:
                reads_table |= module.index not in looked_up
            elif parameter.shape[0] in vocabulary and parameter.name == "weight" and module.index not in looked_up:
                heads[parameter.key] = parameter.numel
    is_tied = not heads and (reads_table or _ends_in(trace, vocabulary))
    return sum(heads.values()), is_tied


def _ends_in(trace: Trace, vocabulary: set[int]) -> bool:
    """Whether the pass ends in a product with as many columns as there are words, of whatever weight."""
    from convstat.count.ops.base import tensors

    outputs = [tensor.shape for tensor in tensors(trace.root.output) if tensor.shape]
    if not outputs:
        outputs = [shape for call, _ in trace.kernels() if call.op in _PRODUCTS for shape in _shapes(call.output)]
        outputs = outputs[-1:]
    return any(shape[-1] in vocabulary for shape in outputs)


_PRODUCTS = ("aten.mm", "aten.addmm", "aten.bmm")


def _shapes(value: object) -> list[tuple[int, ...]]:
    from convstat.count.ops.base import tensors

    return [tensor.shape for tensor in tensors(value)]  # type: ignore[arg-type]
