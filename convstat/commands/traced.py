"""Python models in a comparison: made and traced anew at every point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from convstat.commands.points import invalid, is_special, pair, settings, show_inputs
from convstat.count.pixels import BasisError
from convstat.count.pixels import check as check_basis
from convstat.errors import SourceError, UsageError
from convstat.grammar.axes import Axis, Value
from convstat.results.comparison import ComparisonRow
from convstat.results.report import Report, Totals
from convstat.targets import Target, analysis
from convstat.targets.request import Asked


class Traced:
    """One Python model of a comparison, ready to be traced at many points."""

    def __init__(self, target: Target, axes: Sequence[Axis], asked: Asked) -> None:
        self.target = target
        self.asked = asked
        check_basis(asked.per)
        self.names = [axis.name for axis in axes]
        self.special = [name for name in self.names if is_special(name)]
        self.shown_inputs: set[str] = set()
        self.notes: dict[str, None] = {}

    def rows(
        self,
        points: Sequence[tuple[Sequence[Value], Mapping[str, Value]]],
        *,
        base: Totals | None,
        counters: str,
        progress: Callable[[str], None] | None,
    ) -> list[ComparisonRow]:
        """Trace the model at every point; one that it cannot be made at is a row with the reason."""
        argument = self.target.argument
        rows: list[ComparisonRow] = []
        error: SourceError | BasisError | None = None
        for number, (point, values) in enumerate(points, 1):
            if progress is not None and len(points) > 1:
                progress(f"tracing {argument}, {number:,} of {len(points):,}")
            try:
                report = self._report(pair(self.names, point), counters, progress)
            except (SourceError, BasisError) as caught:
                error = error or caught
                rows.append(invalid(self.target, values, caught))
                continue
            base = base or report.totals
            rows.append(ComparisonRow(argument, values, "ok", report.totals, base, counters=report.counters))
        if error is not None and all(row.status == "invalid" for row in rows):
            self._refuse_own(error)
        return rows

    def _report(self, overrides: dict[str, Value], counters: str, progress: Callable[[str], None] | None) -> Report:
        asked = settings(overrides, self.special, self.asked)
        report = analysis.analyze(
            self.target.argument,
            asked.overrides,
            inputs=asked.inputs,
            batch=asked.batch,
            device=asked.device,
            dtype=asked.dtype,
            counters=counters,
            per=asked.per,
            progress=progress if counters != "none" else None,
        )
        model = report.model
        self.shown_inputs.add(
            show_inputs({i.name: i.shape if i.shape[:1] == (asked.batch,) else (1, *i.shape) for i in model.inputs})
        )
        if model.rests_on:
            self.notes[f"the MACs of {self.target.argument} are {model.rests_on}"] = None
        for item in report.uncounted:
            self.notes[f"the count of {self.target.argument} is incomplete: {item.op} has no rule"] = None
        return report

    def _refuse_own(self, error: SourceError | BasisError) -> None:
        """Raise the error if the model has it by itself, whatever is swept: then no point can be made."""
        try:
            self._report({}, "none", None)
        except (SourceError, BasisError) as own:
            if own.diagnostics[0].message == error.diagnostics[0].message:
                raise own from None
        except UsageError:
            # It cannot be made at all without what is swept.
            return
