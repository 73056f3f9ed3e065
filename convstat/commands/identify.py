"""Whose number is it: which counter, figure, unit and rounding give a number that somebody printed.

Every counter's figures are predicted; what is the same for all of them (twice, per pixel) is made of each.
A figure matches where it is the number to all its digits, rounded or cut off, in powers of 1000 or of 1024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from convstat.errors import ConvstatError, UsageError
from convstat.results.identification import Candidate, Identification, Number, Silent
from convstat.targets import analysis
from convstat.targets.request import NOBODY, Listener, Request
from convstat.targets.subject import Subject
from convstat.units import UnitError, parse

if TYPE_CHECKING:
    from convstat.counters import Counter


PREFIXES: Mapping[str, tuple[str, int]] = {
    "": ("", 0), "k": ("k", 1), "K": ("k", 1), "M": ("M", 2), "G": ("G", 3), "B": ("G", 3), "T": ("T", 4),
    "P": ("P", 5),
}  # fmt: skip
"""A prefix as people write it -> as it is written here, and its power of 1000 or 1024. B is billions, of parameters."""

_THINGS: Mapping[str, str] = {
    "mac": "operations", "macs": "operations", "madd": "operations", "madds": "operations", "mult-adds": "operations",
    "multadds": "operations", "mult-add": "operations", "flop": "operations", "flops": "operations",
    "op": "operations", "ops": "operations", "macc": "operations", "maccs": "operations",
    "bop": "bit operations", "bops": "bit operations", "act": "activations", "acts": "activations",
    "activation": "activations", "activations": "activations", "param": "params", "params": "params",
    "parameter": "params", "parameters": "params", "weights": "params", "b": "bytes", "byte": "bytes", "bytes": "bytes",
}  # fmt: skip
"""What somebody calls the number -> the figures that it may be: MACs and FLOPs are taken for each other everywhere."""

_NATIVE_KINDS: Mapping[str, str] = {
    "activations": "activations", "convolutions": "convolutions", "transcendentals": "transcendental functions",
    "bit_operations": "bit operations",
}  # fmt: skip
"""The figures in units of a counter's own that are no operations, and what kind they are of."""

_WRITTEN = (
    r"(?ai)(?P<number>\d[\d.,_]*(?:e[+-]?\d{1,2})?)\s*(?P<prefix>(?!bops?\b)[kmgtpb]?)(?P<binary>i?)"
    rf"\s*(?P<thing>(?:{'|'.join(sorted(_THINGS, key=len, reverse=True))})?)(?P<per>\s*(?:/|per)\s*(?:px|pix|pixel)s?)?"
)

NEAR = Fraction(5, 100)
"""How far off a near miss may be, as a part of the number."""

MOST_NEAR, LEAST_NEAR = 8, 3
"""How many near misses are told, and how many where none is near."""


def read(text: str) -> Number:
    """Read a number as it was printed, with what it is called.

    >>> read("4.13 GMac").value, read("25.56M params").figures, read("8.27 GFLOPs").digits
    (Fraction(4130000000, 1), 'params', 827)
    >>> read("2.93e8 FLOPs").digits, read("2.93 x 10^8").value
    (293, Fraction(293000000, 1))
    >>> read("4,133,742,592").decimals, read("3.81Gi").value == Fraction(381, 100) * 2**30
    (0, True)
    """
    # As papers write it: 2.93 x 10^8.
    written = re.sub(r"\s*[x×*·]\s*10\s*\^?\s*\{?([+-]?\d{1,2})\}?", r"e\1", text.strip(), count=1, flags=re.ASCII)
    match = re.fullmatch(_WRITTEN, written)
    thing = match["thing"].lower() if match else ""
    if match is None or match["prefix"] not in PREFIXES:
        raise UsageError(f"'{text}' is not a count", help="for example 4.13G, 25.56M params or 8.27 GFLOPs")
    number = match["number"]
    if re.fullmatch(r"\d+,\d{1,2}", number):
        raise UsageError(
            f"'{text}' has a comma in it", help=f"for a decimal fraction, write {number.replace(',', '.')}"
        )
    try:
        exact = parse(number, {})
    except UnitError as error:
        raise UsageError(error.message, help=error.help or ()) from None
    mantissa, _, exponent = number.lower().partition("e")
    # An exponent says which digits are known: those of 2.93e8 are three.
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    name, power = PREFIXES[match["prefix"]]
    figures = _THINGS.get(thing, "params" if match["prefix"] == "B" else None)
    return Number(
        text.strip(),
        int(exact * Fraction(10) ** decimals),
        decimals,
        name,
        power,
        bool(match["binary"]),
        figures,
        bool(match["per"]),
    )


def identify(
    text: str, request: Request, *, counters: str = analysis.EVERY_COUNTER, listener: Listener = NOBODY
) -> Identification:
    """Find what gives a number for a target."""
    number = read(text)
    subject = analysis.prepare(request, listener=listener)
    if not subject.report.is_one_call:
        # Others count one call of each part.
        counters = "none"
    silent: list[Silent] = []
    figures = list(_own(subject))
    if counters != "none":
        from convstat.counters import select
        from convstat.counters.measure import Asking

        asking = Asking(request.device, predict=True)
        for counter in select(counters):
            listener.progress(f"predicting {counter.name}")
            figures += _of_counter(counter, subject, asking, silent, named=counters != analysis.EVERY_COUNTER)
    pixels = subject.report.totals.pixels
    candidates = [
        made
        for figure in figures
        for made in _forms(figure, number, pixels)
        if number.figures is None or number.figures == made.kind
    ]
    matches, near = _compare(number, candidates)
    return Identification(number, subject.report.model, matches, near, tuple(silent), len(candidates))


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure of a counter; ``kind`` is operations, params or bytes."""

    counter: str
    version: str | None
    name: str
    value: Fraction
    kind: str
    factor: int = 1
    note: str | None = None


def _own(subject: Subject) -> Iterator[_Figure]:
    """convstat's own figures, and sums of them that papers print."""
    totals = subject.report.totals

    def figure(name: str, value: int, kind: str) -> _Figure:
        return _Figure("convstat", None, name, Fraction(value), kind)

    yield figure("MACs", totals.macs, "operations")
    yield figure("params", totals.params, "params")
    if totals.trainable_params != totals.params:
        yield figure("trainable params", totals.trainable_params, "params")
    if totals.buffers:
        yield figure("params and buffers", totals.params + totals.buffers, "params")
    yield figure("bytes of params", totals.weight_bytes, "bytes")
    if bias := totals.other.get("bias"):
        yield figure("MACs and bias additions", totals.macs + bias, "operations")
    if others := sum(totals.other.values()):
        yield figure("MACs and all other work", totals.macs + others, "operations")
    for name in ("activations", "conv_activations", "output_elements"):
        if (amount := getattr(totals, name)) is not None:
            # Nobody halves or doubles them, as operations are.
            yield _Figure("convstat", None, name.replace("_", " "), Fraction(amount), "activations", factor=0)


def _of_counter(
    counter: Counter, subject: Subject, asking: Any, silent: list[Silent], *, named: bool
) -> Iterator[_Figure]:
    """What a counter says; where that depends on the device, what it says on each.

    A counter that is not meant for such a model says nothing, unless it was named.
    """
    from convstat.counters.capture import first_line
    from convstat.counters.measure import foresee, version_of

    version = version_of(counter)
    try:
        foreseen = foresee(counter, subject.report, subject.stages, asking)
    except (ConvstatError, KeyboardInterrupt):
        raise
    except Exception as error:
        silent.append(Silent(counter.name, first_line(error)))
        return
    prediction = foreseen.prediction
    if not prediction.applies and not named:
        return
    if prediction.failure is not None:
        silent.append(Silent(counter.name, prediction.failure))
        return
    note = foreseen.note
    if prediction.macs is not None:
        name = "MACs of a step of training" if getattr(counter, "passes", "") == "training" else "MACs"
        yield _Figure(counter.name, version, name, Fraction(prediction.macs), "operations", note=note)
    if prediction.params is not None:
        yield _Figure(counter.name, version, "params", Fraction(prediction.params), "params", note=note)
    for name, value in (prediction.native or {}).items():
        if value not in (prediction.macs, prediction.params, 2 * (prediction.macs or 0)):
            # A sum in a unit of its own is neither halved nor doubled by anybody.
            kind = _NATIVE_KINDS.get(name, "operations")
            yield _Figure(counter.name, version, name.replace("_", " "), Fraction(value), kind, factor=0, note=note)
    for name, amount in (prediction.memory_mib or {}).items():
        bytes_ = Fraction(str(amount)) * 2**20
        yield _Figure(counter.name, version, f"memory: {name.replace('_', '/')}", bytes_, "bytes", note=note)


def _forms(figure: _Figure, number: Number, pixels: int) -> Iterator[_Figure]:
    """A figure, and what is made of it: FLOPs are twice the MACs; some double them again, or halve them."""
    names = [(figure.name, Fraction(1))]
    if figure.kind == "operations" and figure.factor:
        names += [
            (f"FLOPs: 2 x {figure.name}", Fraction(2)),
            (f"{figure.name}, counted twice as FLOPs: 4 x", Fraction(4)),
            (f"{figure.name}, mistaken for FLOPs and halved", Fraction(1, 2)),
        ]
    for name, factor in names:
        if number.per_pixel:
            if pixels and figure.kind == "operations":
                yield replace(figure, name=f"{name}, per pixel", value=figure.value * factor / pixels)
        else:
            yield replace(figure, name=name, value=figure.value * factor)


def _compare(number: Number, figures: Sequence[_Figure]) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """The figures that match, the best reading first, and those that nearly do, the nearest first.

    Where none is near, the nearest few are told all the same.
    """
    matches: list[tuple[tuple[int, int, int], Candidate]] = []
    others: list[Candidate] = []
    for order, figure in enumerate(figures):
        if figure.value <= 0 or not number.value:
            continue
        found = reading_of(number, figure.value)
        meant = number.value if found is None else found.meant
        candidate = Candidate(
            figure.counter,
            figure.version,
            figure.name,
            figure.value,
            (figure.value - meant) / meant,
            found.words if found else "",
            figure.note,
        )
        if found is not None:
            matches.append(((found.rank, _likelihood(figure.name), order), candidate))
        elif _likelihood(figure.name) < 2:
            others.append(candidate)
    matches.sort(key=lambda ranked: ranked[0])
    others.sort(key=lambda candidate: abs(candidate.distance))
    near = [candidate for candidate in others if abs(candidate.distance) <= NEAR][:MOST_NEAR]
    if not near and not matches:
        near = others[:LEAST_NEAR]
    return tuple(candidate for _, candidate in matches), tuple(near)


def _likelihood(name: str) -> int:
    """Plain figures first, then FLOPs, then what is made of a figure by mistake."""
    if "counted twice" in name or "halved" in name:
        return 2
    return 1 if name.startswith("FLOPs") or " and " in name else 0


class Reading(NamedTuple):
    """How a value is read as a number: how good that is (0: exact), in words, and what the number then means."""

    rank: int
    words: str
    meant: Fraction


def reading_of(number: Number, value: Fraction) -> Reading | None:
    """Read a value as a number; None where it is not that.

    >>> reading_of(read("4.13G"), Fraction(4_132_436_968)).words
    'rounded to 2 decimals of G'
    >>> reading_of(read("4.13G"), Fraction(4_139_999_999)).words
    'truncated after 2 decimals of G'
    >>> reading_of(read("3.81G"), Fraction(4_089_184_256)).words
    'rounded to 2 decimals of Gi, powers of 1024'
    >>> reading_of(read("4.13e9"), Fraction(4_132_436_968)).words
    'rounded to 3 digits'
    >>> reading_of(read("4.13G"), Fraction(4_200_000_000)) is None
    True
    """
    if value == number.value:
        return Reading(0, "exact", number.value)
    bases = ((1024,) if number.binary else (1000, 1024)) if number.power else (1000,)
    for base in bases:
        unit = number.unit(base)
        prefix = f"{number.prefix}{'i' if base == 1024 else ''}"
        scale = f"{number.decimals} decimal{'s' if number.decimals != 1 else ''}"
        place = f"{scale} of {prefix}" if prefix else scale
        if number.decimals == 0:
            place = f"whole {prefix}" if prefix else "a whole number"
        elif number.decimals < 0:
            place = f"{len(str(number.digits))} digits"
        aside = ", powers of 1024" if base == 1024 else ""
        rank, meant = 1 if base == bases[0] else 3, number.digits * unit
        if abs(value - meant) * 2 <= unit:
            return Reading(rank, f"rounded to {place}{aside}", meant)
        if meant <= value < meant + unit:
            return Reading(rank + 1, f"truncated after {place}{aside}", meant)
    return None
