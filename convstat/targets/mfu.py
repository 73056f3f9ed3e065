"""How much of an accelerator's peak a model uses, by convstat's count and by each formula for language models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from convstat.errors import ConvstatError, UsageError
from convstat.grammar.cards import dtype_of, peak_of, with_peak
from convstat.results.mfu import Hardware, Mfu, Speed, Utilisation
from convstat.targets import analysis
from convstat.targets.request import NOBODY, Listener, Request
from convstat.targets.subject import Subject
from convstat.units import UnitError, parse

if TYPE_CHECKING:
    from convstat.trace import Trace

OWN, CAUSAL = "convstat", "convstat, causal"
"""The rows of convstat's own count: of what is multiplied, and without what the masks of attention discard."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a run; of the speeds exactly one is given, in units for each second or seconds for each step."""

    hardware: Hardware
    mode: str = "train"
    tokens_per_second: Fraction | None = None
    samples_per_second: Fraction | None = None
    step_seconds: Fraction | None = None


def asked(
    *,
    on: str | None,
    peak: str | float | None,
    dtype: str,
    gpus: int,
    mode: str,
    tokens_per_second: str | float | None = None,
    samples_per_second: str | float | None = None,
    step_time: str | float | None = None,
) -> Asked:
    """Check what is said of a run and of what it runs on; amounts are numbers, or texts with their units."""
    if mode not in ("train", "infer"):
        raise UsageError(f"unknown --mode '{mode}'", help="it is train or infer")
    if gpus < 1:
        raise UsageError(f"--gpus must be at least 1, not {gpus}")
    if (on is None) == (peak is None):
        said = "both --on and --peak" if on is not None else "neither --on nor --peak"
        raise UsageError(
            f"{said} say what it runs on", help="--on h100 names a card, --peak 989TFLOPS the peak of other hardware"
        )
    kind = dtype_of(dtype)
    if on is not None:
        card, flops = with_peak(on, kind)
        hardware = Hardware(card.name, kind, flops, gpus, card.source)
    else:
        hardware = Hardware("", kind, peak_of(str(peak)), gpus, "")
    given = {
        "--tokens-per-second": tokens_per_second,
        "--samples-per-second": samples_per_second,
        "--step-time": step_time,
    }
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        said = " and ".join(named) or "nothing"
        raise UsageError(f"{said} says how fast it runs: one is needed", help=f"one of {', '.join(given)}")
    speeds = [None if value is None else _positive(name, value) for name, value in given.items()]
    return Asked(hardware, mode, *speeds)


def _positive(name: str, given: str | float) -> Fraction:
    """Read a speed, or a time in seconds."""
    text = str(given)
    seconds = {"ms": Fraction(1, 1000), "s": Fraction(1)} if name == "--step-time" else None
    try:
        if seconds is None:
            value = parse(text)
        else:
            scale = next((unit for unit in seconds if text.strip().endswith(unit)), "")
            value = parse(text.strip().removesuffix(scale), {}) * seconds.get(scale, 1)
    except UnitError as error:
        raise UsageError(f"{name}: {error.message}", help=error.help or ()) from error
    if not value:
        raise UsageError(f"{name} must be more than 0")
    return value


Prepare = Callable[[Request], Subject]
"""Counts a target."""


def mfu(request: Request, run: Asked, *, prepare: Prepare | None = None, listener: Listener = NOBODY) -> Mfu:
    """Count a step, by each way of counting, and line it up with the time that it takes and the peak."""
    prepare = prepare or (lambda one: analysis.prepare(one, listener=listener))
    subject = prepare(replace(request, mode="eval"))
    if not subject.report.is_one_call:
        raise UsageError(
            f"{request.argument} has parts that are called several times: no step of it is counted",
            help="name a model that is called once",
        )
    units, number = _units(subject, run)
    if run.step_seconds is not None:
        seconds = run.step_seconds
    else:
        per_second = run.tokens_per_second or run.samples_per_second
        assert per_second is not None
        seconds = number / per_second
    available = run.hardware.peak_flops * run.hardware.gpus * seconds
    rows = [
        row
        if row.flops is None
        else replace(row, flops_per_unit=Fraction(row.flops, number), utilisation=Fraction(row.flops) / available)
        for row in _rows(subject, request, run, prepare, listener)
    ]
    model = replace(subject.report.model, notes=(*subject.report.model.notes, *_notes(rows)))
    return Mfu(model, run.mode, number, Speed(units, number / seconds, seconds), run.hardware, tuple(rows))


def _notes(rows: list[Utilisation]) -> Iterator[str]:
    if any(row.utilisation is not None and row.utilisation > 1 for row in rows):
        yield "more than 100 % of the peak: check the speed, the number of GPUs and the type of the operands"


def _units(subject: Subject, run: Asked) -> tuple[str, int]:
    """What the speed is stated in, and how many of them are in the step that is counted."""
    tokens = _tokens(subject)
    if run.tokens_per_second is not None and tokens is None:
        raise UsageError(
            f"--tokens-per-second: {subject.report.model.source} takes no token ids", help="use --samples-per-second"
        )
    if tokens is not None and run.samples_per_second is None:
        return "tokens", tokens
    return "samples", subject.report.model.batch if tokens is None else _sequences(subject)


def _ids(subject: Subject) -> tuple[int, int] | None:
    from convstat.counters.base import Inapplicable
    from convstat.counters.language.hyperparameters import sequences

    try:
        return sequences(subject.stages.foresight()[1].root)
    except Inapplicable:
        return None


def _tokens(subject: Subject) -> int | None:
    found = _ids(subject)
    return None if found is None else found[0] * found[1]


def _sequences(subject: Subject) -> int:
    found = _ids(subject)
    assert found is not None
    return found[0]


def _rows(
    subject: Subject, request: Request, run: Asked, prepare: Prepare, listener: Listener
) -> Iterator[Utilisation]:
    yield from _own(subject, request, run, prepare, listener)
    from convstat.counters import LANGUAGE_MODELS
    from convstat.counters.measure import Asking, foresee

    if _tokens(subject) is None:
        return
    passes = "training" if run.mode == "train" else "forward"
    for name, formula in LANGUAGE_MODELS.items():
        if formula.passes != passes:
            continue
        prediction = foresee(formula, subject.report, subject.stages, Asking(request.device, predict=True)).prediction
        if prediction.macs is None:
            yield Utilisation(name, formula.short, error=prediction.failure or "it has no figure")
        else:
            yield Utilisation(name, formula.short, 2 * prediction.macs)


def _own(subject: Subject, request: Request, run: Asked, prepare: Prepare, listener: Listener) -> Iterator[Utilisation]:
    """convstat's own count, and the same without what masks discard, where they discard something."""
    counted, words = subject, "forward pass, as traced"
    if run.mode == "train":
        words = "forward and backward, as traced"
        listener.progress(f"counting the backward pass of {subject.report.model.name}")
        try:
            counted = prepare(replace(request, mode="train"))
        except ConvstatError as error:
            yield Utilisation(OWN, words, error=error.diagnostics[0].message)
            return
    yield Utilisation(OWN, words, 2 * counted.report.totals.macs)
    language = subject.report.language
    attention = None if language is None else language.attention
    if attention is not None and attention.causal_macs != attention.macs:
        own = attention_macs(counted.stages.foresight()[1])
        discarded = own - own * attention.causal_macs // attention.macs
        words = "without what masks discard"
        yield Utilisation(CAUSAL, words, 2 * (counted.report.totals.macs - discarded))


def attention_macs(trace: Trace) -> int:
    """The products of attention alone, those of its backward pass included."""
    from convstat.counters.language.parts import attended
    from convstat.counters.products import Work

    layers = attended(trace)
    kernels = (kernel for kernel in Work.of(trace).kernels if kernel.layer in layers)
    return sum(kernel.products for kernel in kernels if "bmm" in kernel.call.op or "dot_product" in kernel.call.op)
