"""The table of the NTIRE challenges on efficient super-resolution: what a model determines of it.

The challenges of 2024 and later count with fvcore on an input of 3 x 256 x 256, and call its MACs FLOPs. Activations
are the output elements of ``Conv2d`` and ``ConvTranspose2d`` alone (Radosavovic et al., arXiv:2003.13678), and #Conv is
the number of their calls. PSNR, runtime and memory are measured on a machine, so they stay empty.

The score of a figure is exp(2 x / x_baseline); the final score weighs those of the runtime, the FLOPs and the
parameters with 0.7, 0.15 and 0.15 in 2024 and 2025. The first model is the baseline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from math import exp, prod

from convstat.errors import UsageError
from convstat.render.base import Options
from convstat.render.templates.form import FormRenderer, Sheet, calls_of
from convstat.results.report import CounterRow, Report
from convstat.text.printable import printable

INPUT = (3, 256, 256)
COUNTER = "ntire"
CONVOLUTIONS = ("Conv2d", "ConvTranspose2d")
SCORED = ("runtime", "flops", "params")
WEIGHTS = (Fraction(7, 10), Fraction(15, 100), Fraction(15, 100))
"""How the runtime, the FLOPs and the parameters are weighed in 2024 and 2025."""

HEADS = (
    "Model", "Val PSNR", "Test PSNR", "Time [ms]", "Params [M]", "FLOPs [G]", "Acts [M]", "Mem [M]", "#Conv",
)  # fmt: skip
SCORES = ("FLOPs score", "Params score", "weighted, without runtime")


def read_score(text: str) -> tuple[Fraction, Fraction, Fraction]:
    """Read the weights of a year: of the runtime, the FLOPs and the parameters.

    >>> read_score("runtime=0.8,flops=0.1,params=0.1") == (Fraction(4, 5), Fraction(1, 10), Fraction(1, 10))
    True
    """
    found = dict(re.findall(r"(?a)(\w+)=(\d+(?:\.\d+)?)", text))
    written = ",".join(f"{name}={value}" for name, value in found.items())
    if written != text.replace(" ", "") or sorted(found) != sorted(SCORED):
        raise UsageError(
            f"--score takes the weights of {', '.join(SCORED)}, not '{text}'",
            help="for example --score runtime=0.7,flops=0.15,params=0.15",
        )
    runtime, flops, params = (Fraction(found[name]) for name in SCORED)
    if runtime + flops + params != 1:
        raise UsageError(f"--score: the weights add up to {float(runtime + flops + params):g}, not to 1")
    return runtime, flops, params


class NtireRenderer(FormRenderer):
    """The table in Markdown."""

    name = "ntire"
    suffixes = (".ntire.md",)
    about = "for NTIRE efficient super-resolution: params, FLOPs, activations and convolutions"
    counters = (COUNTER,)
    inputs = ("x".join(map(str, INPUT)),)

    def sheets(self, reports: Sequence[Report], options: Options) -> Sequence[Sheet]:
        scored = len(reports) > 1
        weights = options.score or WEIGHTS
        rows = tuple((*_row(report), *(_scores(report, reports[0], weights) if scored else ())) for report in reports)
        heads = (*HEADS, *SCORES) if scored else HEADS
        notes = [note for report in reports for note in _notes(report)]
        if scored:
            shown = ", ".join(f"{name} {float(value):g}" for name, value in zip(SCORED, weights, strict=True))
            notes.append(
                f"score: exp(2 x / x_baseline), the baseline is {printable(reports[0].model.name)}; weights: {shown}"
            )
        return (Sheet("Efficient super-resolution", heads, rows, tuple(dict.fromkeys(notes)), len(heads) - 1),)


class NtireCsvRenderer(NtireRenderer):
    """The table in CSV."""

    name = "ntire-csv"
    suffixes = (".ntire.csv",)
    about = "the table of NTIRE efficient super-resolution for spreadsheets"
    syntax = "csv"


class NtireLatexRenderer(NtireRenderer):
    """The table in LaTeX."""

    name = "ntire-latex"
    suffixes = (".ntire.tex",)
    about = "the table of NTIRE efficient super-resolution for papers"
    syntax = "latex"


def _counter(report: Report) -> CounterRow | None:
    return next((row for row in report.counters if row.name == COUNTER and row.shown.macs is not None), None)


def flops(report: Report) -> int | None:
    """What the challenge counts; None where that was not asked for."""
    counter = _counter(report)
    return None if counter is None else counter.shown.macs


def _native(report: Report, name: str) -> int | None:
    """What the challenge prints beside its FLOPs."""
    counter = _counter(report)
    return None if counter is None else (counter.native or {}).get(name)


def activations(report: Report) -> int:
    """The output elements of all calls of two-dimensional convolutions."""
    found = _native(report, "activations")
    calls = calls_of(report, CONVOLUTIONS)
    return sum(row.runs * prod(shape) for row in calls for shape in row.output_shapes) if found is None else found


def convolutions(report: Report) -> int:
    """The calls of two-dimensional convolutions."""
    found = _native(report, "convolutions")
    return sum(row.runs for row in calls_of(report, CONVOLUTIONS)) if found is None else found


def _row(report: Report) -> tuple[str, ...]:
    macs = flops(report)
    return (
        printable(report.model.name),
        "",
        "",
        "",
        f"{report.totals.params / 1e6:.4f}",
        "" if macs is None else f"{macs / 1e9:.4f}",
        f"{activations(report) / 1e6:.4f}",
        "",
        f"{convolutions(report):,}",
    )


def _scores(report: Report, baseline: Report, weights: tuple[Fraction, Fraction, Fraction]) -> tuple[str, ...]:
    """The scores of the FLOPs and the parameters, and their part in the final score."""

    def score(value: int | None, base: int | None) -> float | None:
        # A baseline scores e^2; what is many times as large has no score that fits in a table.
        return exp(min(2 * value / base, 700)) if value is not None and base else None

    found = (score(flops(report), flops(baseline)), score(report.totals.params, baseline.totals.params))
    shown = ["" if value is None else f"{value:.4f}" for value in found]
    if found[0] is None or found[1] is None:
        return (*shown, "")
    return (*shown, f"{float(weights[1]) * found[0] + float(weights[2]) * found[1]:.4f}")


def _notes(report: Report) -> list[str]:
    name = printable(report.model.name)
    shape = report.model.inputs[0].shape if report.model.inputs else ()
    counter = _counter(report)
    notes = []
    if tuple(shape) != (1, *INPUT):
        notes.append(f"{name}: counted on {'x'.join(map(str, shape))}, not on 1x{'x'.join(map(str, INPUT))}")
    if counter is None:
        notes.append(f"{name}: the FLOPs are those of the counter {COUNTER}, which was not asked: --counters {COUNTER}")
    else:
        notes.append("FLOPs: what fvcore counts, in which a multiplication and an addition are one")
    return notes
