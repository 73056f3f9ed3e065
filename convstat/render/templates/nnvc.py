"""The form in which JVET asks for the cost of neural-network video coding tools (NNVC): what a model determines of it.

Which megabyte is meant is not said in public, so both are written. What a training run or a machine determines is left
empty, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from convstat.grammar import widths
from convstat.render.base import Options
from convstat.render.templates.form import CONVOLUTIONS, FormRenderer, Sheet, calls_of
from convstat.results.report import Report
from convstat.text.printable import printable, significant

MANDATORY, OPTIONAL = "mandatory", "optional"
EMPTY = ""

FULLY_CONNECTED = ("Linear", "Bilinear")

BITS = {"float32": 32, "float16": 16, "bfloat16": 16, "float64": 64}

HARDWARE = ("HW environment: GPU type", "HW environment: framework", "HW environment: number of GPUs per task")

TRAINING = (
    (MANDATORY, "GPU type"),
    (MANDATORY, "Framework"),
    (MANDATORY, "Number of GPUs per task"),
    (MANDATORY, "Epoch"),
    (MANDATORY, "Batch size"),
    (MANDATORY, "Training time"),
    (MANDATORY, "Training data information"),
    (MANDATORY, "Training configurations for generating compressed training data"),
    (MANDATORY, "Loss function"),
    (OPTIONAL, "Number of iterations"),
    (OPTIONAL, "Patch size"),
    (OPTIONAL, "Learning rate"),
    (OPTIONAL, "Optimizer"),
    (OPTIONAL, "Preprocessing"),
    (OPTIONAL, "Mini-batch selection process"),
    (OPTIONAL, "Other information"),
)
"""What a training run determines: a model says nothing of it."""

Line = tuple[str, str, str, str]


class NnvcRenderer(FormRenderer):
    """The form in Markdown."""

    name = "nnvc"
    suffixes = (".nnvc.md",)
    about = "for JVET contributions: the NNVC reporting form, as far as a model determines it"
    counters = ("none",)

    def sheets(self, reports: Sequence[Report], options: Options) -> Sequence[Sheet]:
        heads = ("kind", "item", "model", "value")
        training = [(kind, item, EMPTY, EMPTY) for kind, item in TRAINING]
        return (
            Sheet("Network information in the inference stage", heads, tuple(_inference(reports))),
            Sheet("Network information in the training stage", heads, tuple(training)),
        )


class NnvcCsvRenderer(NnvcRenderer):
    """The form in CSV."""

    name = "nnvc-csv"
    suffixes = (".nnvc.csv",)
    about = "the NNVC reporting form for spreadsheets"
    syntax = "csv"


class NnvcLatexRenderer(NnvcRenderer):
    """The form in LaTeX."""

    name = "nnvc-latex"
    suffixes = (".nnvc.tex",)
    about = "the NNVC reporting form for papers"
    syntax = "latex"


def _inference(reports: Sequence[Report]) -> Iterator[Line]:
    names = [printable(report.model.name) for report in reports]

    def each(kind: str, item: str, values: Sequence[str]) -> Iterator[Line]:
        yield from ((kind, item, name, value) for name, value in zip(names, values, strict=True))

    for item in HARDWARE:
        yield MANDATORY, item, EMPTY, EMPTY
    yield from each(MANDATORY, "Number of parameters (each model)", [f"{r.totals.params:,}" for r in reports])
    total = sum(report.totals.params for report in reports)
    yield MANDATORY, "Total number of parameters (all models)", EMPTY, f"{total:,}"
    yield from each(MANDATORY, "Parameter precision (bits)", [precision(report) for report in reports])
    yield from each(MANDATORY, "Memory parameter (MB)", [memory(report.totals.weight_bytes) for report in reports])
    yield from each(MANDATORY, "Multiply accumulate (kMAC/pixel)", [kmacs(report) for report in reports])
    yield from each(OPTIONAL, "Total conv. layers", [f"{len(calls_of(r, CONVOLUTIONS)):,}" for r in reports])
    yield from each(OPTIONAL, "Total FC layers", [f"{len(calls_of(r, FULLY_CONNECTED)):,}" for r in reports])
    yield OPTIONAL, "Total memory (MB)", EMPTY, EMPTY
    yield from each(OPTIONAL, "Batch size", [f"{report.model.batch}" for report in reports])
    yield from each(OPTIONAL, "Patch size", [patch(report) for report in reports])
    yield OPTIONAL, "Changes to network configuration or weights required to generate rate points", EMPTY, EMPTY
    yield OPTIONAL, "Peak memory usage", EMPTY, EMPTY
    yield OPTIONAL, "Other information", EMPTY, EMPTY


def precision(report: Report) -> str:
    """The bits of the parameters: of the width in which they are stored, or of the dtype of the model.

    Layers may set their own, and biases may be wider than weights.
    """
    found: dict[str, None] = {}
    for row in report.layers:
        if not row.params:
            continue
        width = row.weights or report.model.weights
        bits = "+".join(str(BITS.get(dtype, "")) for dtype in report.model.dtype.split("+"))
        if width is not None:
            kinds = widths.parse(width)
            bits = str(widths.bits(kinds.weight))
            if kinds.bias != kinds.weight:
                bits += f" (biases {widths.bits(kinds.bias)})"
        found[bits] = None
    return ", ".join(found)


def memory(weight_bytes: int) -> str:
    """Megabytes of a power of ten and of two.

    >>> memory(259_248)
    '0.2592 (10^6 bytes), 0.2472 (2^20 bytes)'
    """
    tens, twos = Fraction(weight_bytes, 10**6), Fraction(weight_bytes, 2**20)
    return f"{significant(tens, 4)} (10^6 bytes), {significant(twos, 4)} (2^20 bytes)"


def kmacs(report: Report) -> str:
    """The kMAC/pixel, and the pixels that they are divided by."""
    totals = report.totals
    if totals.macs_per_pixel is None:
        return EMPTY
    return f"{significant(totals.macs_per_pixel / 1000, 4)} (MACs / {totals.pixels:,}: {printable(totals.pixel_basis)})"


def patch(report: Report) -> str:
    """What is read at once, and the block that it is for."""
    shape = report.model.inputs[0].shape if report.model.inputs else ()
    if len(shape) != 4:
        return EMPTY
    read = f"{shape[2]}x{shape[3]}"
    if report.blocks is not None:
        size, border = report.blocks.block, report.blocks.border
        return f"{size[0] + 2 * border}x{size[1] + 2 * border} (block {size[0]}x{size[1]}, border {border})"
    return f"{read} ({printable(report.totals.pixel_basis)})" if report.totals.pixels_read else read
