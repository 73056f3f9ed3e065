"""The sums that a report promises: of its layers, and of the causes of a difference."""

from __future__ import annotations

from collections.abc import Iterable

from convstat.errors import Diagnostic, SourceError
from convstat.results.report import LayerRow, Report, Totals


def total(rows: Iterable[LayerRow], denominator: int, basis: str, read: int = 0) -> Totals:
    """Sum rows up; ``read`` is how many positions are read for the pixels, where they are those of blocks."""
    params = trainable = buffers = macs = weight_bytes = activations = convolved = elements = 0
    other: dict[str, int] = {}
    for row in rows:
        params += row.params
        trainable += row.trainable_params
        buffers += row.buffers
        macs += row.macs
        weight_bytes += row.weight_bytes
        activations += row.activations
        convolved += row.conv_activations
        elements += row.output_elements
        for name, amount in row.other.items():
            other[name] = other.get(name, 0) + amount
    return Totals(
        params,
        trainable,
        buffers,
        macs,
        weight_bytes,
        denominator,
        basis,
        dict(sorted(other.items())),
        read,
        activations,
        convolved,
        elements,
    )


def check_sums(report: Report) -> None:
    """Refuse a report whose layers do not sum up to its totals, or whose causes not to a difference.

    One that was made here cannot be so; a saved one may have been changed by hand. Raises SourceError.
    """
    problems = []
    sums = total(report.layers, report.totals.pixels, report.totals.pixel_basis)
    added = ("activations", "conv_activations", "output_elements")
    for name in ("params", "trainable_params", "buffers", "macs", "weight_bytes", *added):
        said, is_sum = getattr(report.totals, name), getattr(sums, name)
        # Reports that were saved before these were counted have none.
        if said != is_sum and not (said is None and name in added):
            problems.append(Diagnostic(f"totals.{name}: {said}, and that of the layers sums up to {is_sum}"))
    for name in dict.fromkeys([*report.totals.other, *sums.other]):
        said, is_sum = report.totals.other.get(name, 0), sums.other.get(name, 0)
        if said != is_sum:
            problems.append(Diagnostic(f"totals.other: {said} of '{name}', and the layers sum up to {is_sum}"))
    for place, row in enumerate(report.counters):
        for name in ("params", "macs"):
            difference = getattr(row.difference, name)
            explained = sum(getattr(cause, name) for cause in row.causes) + (getattr(row.unexplained, name) or 0)
            if difference is not None and difference != explained:
                where = f"counters[{place}].difference.{name}"
                problems.append(Diagnostic(f"{where}: {difference}, and its causes and the rest sum up to {explained}"))
    if problems:
        raise SourceError(problems)
