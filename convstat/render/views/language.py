"""What a report says of a model that takes tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from convstat.render.page import Block, Column, Fields, Heading, Pairs, Row, Table, tabulated
from convstat.results.language import CacheLayer, Language
from convstat.text.printable import counted, exact, printable, share, show_shapes, significant

KNOWN_FROM: Mapping[str, str] = {
    "kernel": "from the arguments of the kernels",
    "mask": "from the values of the masks",
    "module": "from what the modules say of themselves",
}
"""From what it is known what a mask discards."""

LENGTHS = (1024, 8192, 65_536)
"""The lengths at which the share of attention is foretold."""


def blocks(language: Language) -> Iterator[Block]:
    """The figures, and the layers of the cache."""
    yield Heading("language model")
    yield Pairs(tuple(_facts(language)))
    if language.cache is not None:
        yield Heading("cache")
        yield cache_table(language.cache.layers)


def _facts(language: Language) -> Iterator[tuple[str, str]]:
    yield "tokens", f"{language.tokens:,} ({printable(language.basis)})"
    yield "MACs", f"{per_token(language.macs_per_token)} per token, {exact(language.macs)} in all"
    if (attention := language.attention) is not None:
        keys = f"{counted(attention.calls, 'call')} on up to {counted(attention.keys, 'key')}"
        yield "attention", f"{share(attention.macs, language.macs)} of MACs: {exact(attention.macs)}, in {keys}"
        said = KNOWN_FROM[attention.known_from]
        yield "causal", f"{exact(language.macs_causal)} MACs without what masks discard, known {said}"
    yield "params", _params(language)
    yield "embeddings", _embeddings(language)
    if (cache := language.cache) is not None:
        dtypes = ", ".join(f"{exact(size)} in {printable(dtype)}" for dtype, size in cache.by_dtype.items())
        of = f" ({dtypes})" if len(cache.by_dtype) > 1 else f" ({printable(next(iter(cache.by_dtype)))})"
        yield "KV cache", f"{exact(cache.bytes)} bytes{of}, {exact(cache.bytes_per_token)} per further token"
    if (training := language.training) is not None:
        parts = [
            f"forward {_flops(training.forward_macs, language)}",
            f"backward {_flops(training.backward_macs, language)}",
        ]
        if training.recomputed_macs:
            parts.append(f"recomputed {_flops(training.recomputed_macs, language)}")
        per = per_token(language.training_flops_per_token or Fraction(0))
        yield "training", f"{per} FLOPs per token: {', '.join(parts)}"
    if (scaling := language.scaling) is not None:
        linear, quadratic = (per_token(Fraction(term)) for term in (scaling.linear, scaling.quadratic))
        constant = f"{per_token(Fraction(scaling.constant))} + " if scaling.constant else ""
        at = ", ".join(f"{share_of(scaling.share(length))} at {length:,}" for length in LENGTHS)
        yield (
            "growth",
            f"MACs = {constant}{linear} T + {quadratic} T^2 for T tokens; T^2: {at}",
        )
    for note in language.notes:
        yield "note", printable(note)


def _params(language: Language) -> str:
    if language.active_params == language.params:
        return f"{exact(language.params)}, all active"
    routed = "; ".join(
        f"{one.chosen:,} of {one.experts:,} experts in {counted(one.layers, 'layer')}" for one in language.routing
    )
    part = share(language.active_params, language.params)
    return f"{exact(language.params)}, active {exact(language.active_params)} ({part})" + (
        f": {routed}" if routed else ""
    )


def _embeddings(language: Language) -> str:
    found = language.embeddings
    parts = [f"{exact(found.token_params)} params for tokens"]
    if found.is_tied:
        parts[0] += ", tied to the head"
    for size, what in (
        (found.head_params, "in the head"),
        (found.position_params, "for positions"),
        (found.other_params, "in other tables"),
    ):
        if size:
            parts.append(f"{exact(size)} {what}")
    return ", ".join(parts)


def _flops(macs: int, language: Language) -> str:
    return per_token(Fraction(2 * macs, language.tokens))


def per_token(value: Fraction) -> str:
    """Write a quotient: whole where it is, to two decimals where it is not.

    >>> per_token(Fraction(84224)), per_token(Fraction(10, 3))
    ('84,224', '3.33')
    """
    return f"{value.numerator:,}" if value.denominator == 1 else significant(value, 2)


def share_of(part: Fraction) -> str:
    """Write a part of a whole as a percentage."""
    return share(part.numerator, part.denominator)


def cache_table(layers: Sequence[CacheLayer]) -> Table:
    """What is held, layers that are alike in one row."""
    groups: dict[tuple[object, ...], list[CacheLayer]] = {}
    for layer in layers:
        alike = (layer.kind, layer.class_name, layer.shapes, layer.dtype)
        groups.setdefault(alike, []).append(layer)
    fields: Fields[list[CacheLayer]] = [
        (Column("layers", "left"), lambda held: _numbers([layer.layer for layer in held])),
        (Column("holds", "left"), lambda held: held[0].kind),
        (Column("class", "left", 2, shortens=True), lambda held: printable(held[0].class_name)),
        (Column("tensors", "left", 1), lambda held: show_shapes(held[0].shapes)),
        (Column("dtype", "left", 3), lambda held: printable(held[0].dtype)),
        (Column("positions"), lambda held: exact(held[0].length or None)),
        (Column("bytes"), lambda held: exact(sum(layer.bytes for layer in held))),
        (
            Column("per token", priority=1),
            lambda held: exact(sum(one.bytes_per_token for one in held)),
        ),
    ]
    table = tabulated(fields, groups.values())
    whole = sum(layer.bytes for layer in layers)
    grows = exact(sum(layer.bytes_per_token for layer in layers))
    return table._replace(total=Row(("total", "", "", "", "", "", exact(whole), grows), "strong"))


def _numbers(numbers: Sequence[int]) -> str:
    """Write the numbers of layers, those that follow each other as a range.

    >>> _numbers([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
