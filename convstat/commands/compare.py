"""Compare models and sweep their parameters: ``groups=1,2,4`` and the like.

An impossible point is a row with its reason, not a failure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from convstat.commands.points import invalid, is_special, pair, refuse_doubtful, settings, show_inputs, with_dtype
from convstat.commands.traced import Traced
from convstat.config.asking import CONFIG, Asking
from convstat.config.project import Config
from convstat.count.graphs import ITEM_BYTES
from convstat.count.pixels import BasisError, pixels
from convstat.count.pixels import check as check_basis
from convstat.errors import Diagnostic, SpecError, UsageError
from convstat.formulas.cost import Shape
from convstat.grammar.axes import Axis, Value, combine, parse_all, split
from convstat.patches.collection import without_collection
from convstat.results.comparison import METRICS, SCHEMA, Comparison, ComparisonRow
from convstat.results.report import CounterRow, Totals
from convstat.targets import Target, analysis, resolve
from convstat.targets.request import Asked
from convstat.targets.selection import select

__all__ = ["METRICS", "SCHEMA", "Axis", "Comparison", "ComparisonRow", "compare", "split"]

if TYPE_CHECKING:
    from convstat.spec import Spec

REFERENCE = "Conv2d(4, 8, kernel_size=3, padding=1, bias=False)"
REFERENCE_INPUT = "4x64x64"
"""What is swept where nothing is named and no settings name a model."""

_NOT_THERE = r"no (variable|argument) '"
_OF_WRONG_TYPE = r"\S+ must be (?!at (least|most))[^,]+.*, not |cannot calculate with the word '"


def compare(
    targets: Sequence[str],
    arguments: Sequence[str] = (),
    *,
    zip: bool = False,
    inputs: Sequence[str] = (),
    config_file: str | None = None,
    batch: int | None = None,
    per: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    counters: str = "none",
    config: Config | None = None,
    progress: Callable[[str], None] | None = None,
    warn: Callable[[Sequence[Diagnostic]], None] | None = None,
) -> Comparison:
    """Put models side by side, at every combination of the arguments' values.

    ``arguments`` are overrides and sweeps; ``batch`` and ``input`` can be swept as a parameter can.
    What is not said here is as the settings say: of that model, or else of all.
    Without a target it is the model of the settings, or else the reference layer, and the result says which.
    ``config_file`` holds the fields of a Python model's config object, as ``--config`` names it.
    With ``counters``, every row also holds what they answer.
    ``warn`` is told the warnings about each spec.
    """
    axes = with_dtype(parse_all(arguments))
    refuse_doubtful(inputs)
    config = config or Config()
    default = None
    is_default = not targets
    if not targets:
        targets, inputs, default = _default(config, inputs)
    given = {} if config_file is None else {CONFIG: config_file}
    asking = Asking(given, tuple(inputs), batch, dtype, per, device, config, is_default)
    shelf: dict[str, Spec] = {}
    models = [resolve(argument) for argument in select(targets)]
    points = list(combine(axes, zipped=zip, models=len(models)))
    names = [axis.name for axis in axes]
    key = "model" if "model" not in names else "target"
    subjects = [_subject(target, axes, shelf, asking.of(target)) for target in models]
    rows: list[ComparisonRow] = []
    # What a counter leaves behind may be large and in cycles; what is only counted is neither.
    with nullcontext() if counters != "none" else without_collection():
        for subject in subjects:
            label: dict[str, Value] = {key: subject.target.argument} if len(models) > 1 else {}
            rows += subject.rows(
                [(point, {**label, **pair(names, point)}) for point in points],
                base=next((row.totals for row in rows if row.totals), None),
                counters=counters,
                progress=progress,
            )
    if warn is not None and (found := [warning for spec in shelf.values() for warning in spec.warnings]):
        warn(found)
    impossible = sum(row.status == "invalid" for row in rows)
    incomplete = [note for subject in subjects for note in getattr(subject, "notes", ())]
    return Comparison(
        rows=tuple(rows),
        axes=axes,
        models=tuple(target.argument for target in models),
        varying=(*([key] if len(models) > 1 else []), *(axis.name for axis in axes if axis.varies)),
        constants=_constants(subjects, axes, [row.totals for row in rows if row.totals]),
        zipped=zip,
        default=default,
        notes=(*([f"{impossible:,} of {len(rows):,} points cannot be built"] if impossible else []), *incomplete),
    )


def _subject(target: Target, axes: Sequence[Axis], shelf: dict[str, Spec], asked: Asked) -> _Subject | Traced:
    if target.needs_torch:
        return Traced(target, axes, asked)
    return _Subject(target, axes, shelf, asked)


class _Subject:
    """One model of a comparison, ready to be counted at many points."""

    def __init__(self, target: Target, axes: Sequence[Axis], shelf: dict[str, Spec], asked: Asked) -> None:
        self.target = target
        self.asked = asked
        if asked.dtype not in ITEM_BYTES:
            raise UsageError(f"unknown dtype '{asked.dtype}'", help=f"it is one of {', '.join(ITEM_BYTES)}")
        check_basis(asked.per)
        self.item_bytes = ITEM_BYTES[asked.dtype]
        self.shown_inputs: set[str] = set()
        self.saved: Totals | None = None
        self._shapes: dict[tuple[str, ...], dict[str, Shape]] = {}
        self._pixels: dict[tuple[str, Shape, Shape], tuple[int, str]] = {}
        self.names = [axis.name for axis in axes]
        self.special: list[str] = []
        if target.kind == "report":
            if axes or asked.inputs:
                raise UsageError(f"{target.argument} is a saved report: it takes no overrides and no --input")
            report = analysis.load_report(target.path)
            self.saved = report.totals
            self.shown_inputs.add(show_inputs({item.name: item.shape for item in report.model.inputs}))
            return
        self.spec = _load(target, shelf)
        self._input_names = self.spec.input_names
        variables = self.spec.vars
        self.special = [name for name in self.names if is_special(name) and name not in variables]

    def rows(
        self,
        points: Sequence[tuple[Sequence[Value], Mapping[str, Value]]],
        *,
        base: Totals | None,
        counters: str,
        progress: Callable[[str], None] | None,
    ) -> list[ComparisonRow]:
        """Count the model at every point, each with the values that its row shows."""
        rows: list[ComparisonRow] = []
        argument = self.target.argument
        error: SpecError | BasisError | None = None
        mistakes: dict[str, Diagnostic] = {}
        for point, values in points:
            try:
                totals = self.totals(point)
            except (SpecError, BasisError) as caught:
                # A parameter that does not exist is a mistake of the command, not a property of the point.
                if any(re.match(_NOT_THERE, diagnostic.message) for diagnostic in caught.diagnostics):
                    raise
                if found := [diagnostic for diagnostic in caught.diagnostics if _is_of_wrong_type(diagnostic, values)]:
                    mistakes.update((str(diagnostic), diagnostic) for diagnostic in found)
                    continue
                error = error or caught
                rows.append(invalid(self.target, values, caught))
                continue
            base = base or totals
            answers: tuple[CounterRow, ...] = ()
            if counters != "none":
                answers = self.ask(point, counters, progress=progress)
            rows.append(ComparisonRow(argument, values, "ok", totals, base, counters=answers))
        if mistakes:
            raise UsageError(list(mistakes.values()))
        if error is not None and all(row.status == "invalid" for row in rows):
            self.refuse_own(error)
        return rows

    def totals(self, point: Sequence[Value]) -> Totals:
        """Count the model at one point; raises SpecError where it cannot be built."""
        if self.saved is not None:
            return self.saved
        asked = self._settings(point)
        shapes = self._shapes_of(asked.inputs)
        measured = self.spec.measure(asked.overrides, variant=self.target.variant, inputs=shapes, batch=asked.batch)
        edge = (asked.per, measured.input_shape, measured.output_shape)
        basis = self._pixels.get(edge)
        if basis is None:
            basis = self._pixels[edge] = pixels(*edge)
            self.shown_inputs.add(self._show_inputs(measured.input_shape, asked.overrides, shapes))
        return Totals(
            measured.params,
            measured.trainable_params,
            measured.buffers,
            measured.macs,
            measured.params * self.item_bytes,
            *basis,
            measured.other,
        )

    def refuse_own(self, error: SpecError | BasisError) -> None:
        """Raise the error if the model has it by itself, whatever is swept: then no point can be built."""
        asked = self.asked
        try:
            shapes = self._shapes_of(asked.inputs)
            made = self.spec.measure(asked.overrides, variant=self.target.variant, inputs=shapes, batch=asked.batch)
            pixels(asked.per, made.input_shape, made.output_shape)
        except (SpecError, BasisError) as own:
            if own.diagnostics[0].message == error.diagnostics[0].message:
                raise own from None

    def _shapes_of(self, texts: tuple[str, ...]) -> dict[str, Shape]:
        if texts not in self._shapes:
            self._shapes[texts] = analysis.input_shapes(self.spec, texts, self.target.argument)
        return self._shapes[texts]

    def _show_inputs(self, first: Shape, overrides: Mapping[str, Value], shapes: Mapping[str, Shape]) -> str:
        if len(self._input_names) == 1:
            return show_inputs({self._input_names[0]: first})
        graph = self.spec.expand(overrides, variant=self.target.variant, inputs=shapes)
        return show_inputs({item.name: item.shape for item in graph.inputs})

    def ask(
        self, point: Sequence[Value], counters: str, *, progress: Callable[[str], None] | None
    ) -> tuple[CounterRow, ...]:
        """Run the counters on the model at one point."""
        if self.saved is not None:
            return analysis.load_report(self.target.path).counters
        asked = self._settings(point)
        return analysis.analyze(
            self.target.argument,
            asked.overrides,
            inputs=asked.inputs,
            batch=asked.batch,
            device=asked.device,
            dtype=asked.dtype,
            counters=counters,
            per=asked.per,
            progress=progress,
        ).counters

    def _settings(self, point: Sequence[Value]) -> Asked:
        return settings(pair(self.names, point), self.special, self.asked)


def _is_of_wrong_type(problem: Diagnostic, values: Mapping[str, Value]) -> bool:
    """Whether a value of the command is at fault, and would be at any point: a word for a number and the like.

    What an expression of the spec makes of a right value is a property of the point.
    """
    if not re.match(_OF_WRONG_TYPE, problem.message):
        return False
    if problem.mark is not None and not problem.mark.source.is_file and problem.mark.text.partition("=")[0] in values:
        return True
    return any(f"the word '{value}'" in problem.message for value in values.values() if isinstance(value, str))


def _load(target: Target, shelf: dict[str, Spec]) -> Spec:
    """Read a spec once, however many variants of it are compared."""
    if target.path not in shelf:
        shelf[target.path] = target.load()
    return shelf[target.path]


def _default(config: Config, inputs: Sequence[str]) -> tuple[Sequence[str], Sequence[str], str]:
    """Say what is compared where nothing is named, and why it is that."""
    if config.models:
        place = f"{config.models_mark.file}:{config.models_mark.line}" if config.models_mark else config.path
        return config.models, inputs or config.inputs, f"no target named: {', '.join(config.models)}, from {place}"
    shapes = inputs or (REFERENCE_INPUT,)
    return (REFERENCE,), shapes, f"no target named: the reference layer {REFERENCE} on {', '.join(shapes)}"


def _constants(subjects: Sequence[_Subject | Traced], axes: Sequence[Axis], totals: Sequence[Totals]) -> dict[str, Any]:
    """Give what is the same for all rows, in the order in which one would say it."""
    names = [axis.name for axis in axes]
    shown = {text for subject in subjects for text in subject.shown_inputs}
    constants: dict[str, Any] = {}
    if len(subjects) == 1:
        constants["model"] = subjects[0].target.argument
    if len(shown) == 1:
        constants["input"] = shown.pop()
    batches, dtypes = ({getattr(subject.asked, name) for subject in subjects} for name in ("batch", "dtype"))
    if "batch" not in names and len(batches) == 1:
        constants["batch"] = batches.pop()
    if len(dtypes) == 1 and dtypes != {"float32"}:
        constants["dtype"] = dtypes.pop()
    bases = {item.pixel_basis for item in totals}
    if len(bases) == 1 and totals[0].pixels:
        constants["pixels"] = bases.pop()
    if len(subjects) == 1:
        constants.update((name, value) for name, value in subjects[0].asked.overrides.items() if name not in names)
    constants.update((axis.name, axis.values[0]) for axis in axes if not axis.varies)
    return constants
