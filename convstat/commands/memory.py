"""How much memory a target takes, and the largest batch, or size, that fits into a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeGuard

from convstat.errors import ConvstatError, UsageError, did_you_mean
from convstat.grammar.cards import cards, find, spelled
from convstat.results.memory import Fit, Memory, Run
from convstat.targets import analysis
from convstat.targets.memory import of_subject
from convstat.targets.request import NOBODY, Listener, Request
from convstat.units import BYTES, UnitError, parse_whole

LARGEST = 2**30
"""The largest batch or size that is tried."""


def memory(request: Request, run: Run, peers: tuple[str, ...] = (), *, listener: Listener = NOBODY) -> Memory:
    """Run a target without allocating anything, and follow its memory; ``peers`` are other tools that do so too."""
    subject = analysis.prepare(replace(request, mode="eval"), listener=listener)
    return of_subject(subject, run, peers, listener=listener)


def follow(
    request: Request,
    run: Run,
    peers: tuple[str, ...] = (),
    fits: str | None = None,
    over: str = "batch",
    *,
    listener: Listener = NOBODY,
) -> Memory:
    """Follow the memory of a target: as it is asked for, or of the largest of it that ``fits``."""
    if fits is None:
        if over != "batch":
            raise UsageError("--over says what --fits varies", help=f"for example --fits 24GiB --over {over}")
        return memory(request, run, peers, listener=listener)
    if peers:
        raise UsageError("--counters is about one batch, and --fits tries several", help="omit one of them")
    return fit(request, run, fits, over, listener=listener)


def limit_of(text: str) -> tuple[int, str]:
    """Read a limit: bytes with a unit, or the name of a card.

    >>> limit_of("24GiB"), limit_of("H100")
    ((25769803776, ''), (85899345920, 'h100'))
    """
    if (card := find(text)) is not None:
        return card.memory * 2**30, card.name
    try:
        amount = parse_whole(text, BYTES)
    except UnitError as error:
        known = (
            (error.help or "for example 24GiB",)
            if text[:1].isdigit()
            else (*did_you_mean(spelled(text), cards()), HELP)
        )
        raise UsageError(f"--fits takes an amount of memory or a card, not '{text}'", help=known) from None
    if not amount:
        raise UsageError(f"--fits takes more than no memory, not '{text}'", help=HELP)
    if text.strip()[-1:].isdigit():
        raise UsageError(
            f"--fits takes an amount of memory with its unit, not '{text}'", help=f"{text.strip()}GiB, say"
        )
    return amount, ""


HELP = "for example 24GiB, 16GB or h100"


def fit(request: Request, run: Run, limit: str, over: str = "batch", *, listener: Listener = NOBODY) -> Memory:
    """Find the largest batch, or value of a variable, with which the peak stays within a limit.

    Each value that is tried is counted. Memory grows with what is searched over, nearly in proportion: the next value
    is where the line through the last two meets the limit, and the answer is one that fits, whose next one does not.
    """
    most, card = limit_of(limit)
    tried: dict[int, Memory | None] = {}

    def at(value: int) -> Memory | None:
        """The memory at a value; None where it cannot be run."""
        if value not in tried:
            asked = (
                replace(request, batch=value)
                if over == "batch"
                else replace(request, overrides={**request.overrides, over: value})
            )
            try:
                tried[value] = memory(asked, run, listener=listener)
            except ConvstatError:
                if not tried:
                    raise
                tried[value] = None
        return tried[value]

    def runs(value: int, least: int) -> int | None:
        """The largest value down from one and above another that can be run."""
        for candidate in range(value, max(least, value - MOST_REFUSED), -1):
            if at(candidate) is not None:
                return candidate
        return None

    start = request.batch if over == "batch" else _value_of(request, over)
    fits, exceeds = _bracket(at, runs, start, most)
    halves = False
    while fits is not None and exceeds is not None and exceeds - fits > 1:
        # A curve that bends is met by lines from one side alone: so every other time the range is halved.
        middle = runs((fits + exceeds) // 2 if halves else _next(at, fits, exceeds, most), fits)
        middle, halves = middle or runs(exceeds - 1, fits), not halves
        if middle is None:
            break
        if _peak(at, middle) <= most:
            fits = middle
        else:
            exceeds = middle
    shown = at(fits or exceeds or start)
    assert shown is not None
    following = None if exceeds is None or at(exceeds) is None else _peak(at, exceeds)
    return replace(shown, fit=Fit(most, card, over, fits, shown.peak.bytes, following))


MOST_REFUSED = 64
"""How many values in a row may be refused by a model, as sizes that its strides do not divide."""

At = Callable[[int], Memory | None]


def _peak(at: At, value: int) -> int:
    found = at(value)
    assert found is not None
    return found.peak.bytes


def _bracket(at: At, runs: Callable[[int, int], int | None], start: int, most: int) -> tuple[int | None, int | None]:
    """A value that fits, and a larger one that does not; None for what there is not."""
    at(start)
    if _peak(at, start) > most:
        exceeds = start
        while (lower := runs(exceeds // 2, 0)) is not None:
            if _peak(at, lower) <= most:
                return lower, exceeds
            exceeds = lower
        return None, exceeds
    fits = start
    while fits < LARGEST:
        higher = runs(max(2 * fits, _guess(at, start, fits, most)), fits)
        if higher is None:
            return fits, None
        if _peak(at, higher) > most:
            return fits, higher
        fits = higher
    return fits, None


def _guess(at: At, start: int, fits: int, most: int) -> int:
    """Where a line through the first value and the last meets the limit, at most 64 times as far."""
    rise = _peak(at, fits) - _peak(at, start)
    return 0 if rise <= 0 else min(64 * fits, start + (most - _peak(at, start)) * (fits - start) // rise)


def _next(at: At, fits: int, exceeds: int, most: int) -> int:
    """The value between two at which a line through both meets the limit; beside one of them it is the next one."""
    if at(exceeds) is None:
        return (fits + exceeds) // 2
    low, high = _peak(at, fits), _peak(at, exceeds)
    value = fits + (most - low) * (exceeds - fits) // max(1, high - low)
    return min(max(value, fits + 1), exceeds - 1)


def _value_of(request: Request, name: str) -> int:
    """The value that a variable has to begin with."""
    spec = request.spec or (request.target.load() if not request.target.needs_torch else None)
    known = {} if spec is None else {key: value for key, value in spec.vars.items() if _is_size(value)}
    value = request.overrides.get(name, known.get(name))
    if not _is_size(value):
        # Which parameters a Python model takes is known once one of them is given.
        sizes = (f"its whole numbers: {', '.join(known)}",) if known else ()
        raise UsageError(
            f"--over {name}: {request.argument} has no whole number of that name to begin with",
            help=f"give one: {name}=64" if spec is None else (*did_you_mean(name, known), *sizes),
        )
    return value


def _is_size(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
