"""One model of a comparison at many points: of a spec its expansion, of a Python model a trace, of a report nothing."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from convstat.count.graphs import ITEM_BYTES
from convstat.count.pixels import pixels, positions_read
from convstat.errors import Diagnostic, SourceError, SpecError, UsageError
from convstat.formulas.cost import Shape
from convstat.grammar import sizes
from convstat.grammar.axes import Axis, Value, plain
from convstat.grammar.basis import BasisError
from convstat.grammar.basis import check as check_basis
from convstat.results.comparison import ComparisonRow
from convstat.results.language import Language
from convstat.results.report import CounterRow, PartRow, Totals
from convstat.spec import Spec
from convstat.targets import analysis
from convstat.targets.basis import basis_of
from convstat.targets.pictures import picture_of
from convstat.targets.request import NOBODY, Listener, Request

if TYPE_CHECKING:
    from convstat.trace.recipe import Recipe

_NOT_THERE = r"no (variable|argument) '"
_OF_WRONG_TYPE = r"\S+ must be (?!at (least|most))[^,]+.*, not |cannot compute with the word '"


class Counted(NamedTuple):
    """What a model costs at one point, its parts, and what the counters answered."""

    totals: Totals
    counters: tuple[CounterRow, ...] = ()
    parts: tuple[PartRow, ...] = ()
    language: Language | None = None


class Model(ABC):
    """One model of a comparison, ready to be counted at many points.

    ``shown_inputs`` are the inputs that it was counted on, as ``--input`` takes them, and ``notes`` what holds of all.
    """

    impossible: ClassVar[tuple[type[SpecError | SourceError | BasisError], ...]] = ()
    """What makes a point a row with its reason."""

    def __init__(self, request: Request, axes: Sequence[Axis]) -> None:
        self.request = request
        self.names = [axis.name for axis in axes]
        self.special = [name for name in self.names if self.is_special(name)]
        self.shown_inputs: set[str] = set()
        self.notes: dict[str, None] = {}

    def is_special(self, name: str) -> bool:
        """Whether an axis is that of the batch, the basis or an input, and no parameter of the model is called so."""
        return name in ("batch", "input", "per", "picture") or name.startswith("input.")

    @abstractmethod
    def count(self, point: Mapping[str, Value], counters: str, listener: Listener) -> Counted:
        """Count it at a point, and ask the counters; raises one of ``impossible`` where it cannot be built so."""

    def rows(
        self,
        points: Sequence[tuple[Sequence[Value], Mapping[str, Value]]],
        *,
        base: Totals | None,
        counters: str,
        listener: Listener,
    ) -> list[ComparisonRow]:
        """Count the model at every point, each with the values that its row shows."""
        rows: list[ComparisonRow] = []
        argument = self.request.argument
        error: SpecError | SourceError | BasisError | None = None
        mistakes: dict[str, Diagnostic] = {}
        for number, (point, values) in enumerate(points, 1):
            self.at(number, len(points), listener)
            try:
                found = self.count(pair(self.names, point), counters, listener)
            except self.impossible as caught:
                if wrong := self.mistakes(caught, values):
                    mistakes.update((str(diagnostic), diagnostic) for diagnostic in wrong)
                    continue
                error = error or caught
                rows.append(_invalid(argument, values, caught))
                continue
            base = base or found.totals
            rows.append(
                ComparisonRow(
                    argument,
                    values,
                    "ok",
                    found.totals,
                    base,
                    counters=found.counters,
                    parts=found.parts,
                    language=found.language,
                )
            )
        if mistakes:
            raise UsageError(list(mistakes.values()))
        if error is not None and all(row.status == "invalid" for row in rows):
            self._refuse_own(error)
        return rows

    def at(self, number: int, points: int, listener: Listener) -> None:
        """Say which point is next, where that takes its time."""
        return

    def mistakes(
        self, error: SpecError | SourceError | BasisError, values: Mapping[str, Value]
    ) -> Sequence[Diagnostic]:
        """What is a mistake of the command and not a property of the point."""
        return ()

    def settings(self, point: Mapping[str, Value]) -> Request:
        """Say how the model is counted at a point: what the point leaves open is as asked."""
        overrides = {**self.request.overrides, **point}
        texts, batch, per, picture = self.request.inputs, self.request.batch, self.request.per, self.request.picture
        for name in self.special:
            if name not in overrides:
                continue
            value = overrides.pop(name)
            if name == "batch":
                if type(value) is not int or value < 1:
                    raise UsageError(f"the batch must be an integer of at least 1, not {plain(value)}")
                batch = value
            elif name == "per":
                per = str(value)
                check_basis(per)
            elif name == "picture":
                picture = str(value)
                picture_of(picture)
            elif name in sizes.NAMES:
                text = f"{name} {value}"
                sizes.parse(name, str(value))
                texts = (*(other for other in texts if (sizes.split(other) or ("",))[0] != name), text)
            else:
                shape = "x".join(str(size) for size in value) if isinstance(value, list) else str(value)
                _, _, own = name.partition(".")
                replaced = [text for text in texts if not own or text.startswith(f"{own}=")]
                dtypes = {text.rpartition(":")[2] for text in replaced if ":" in text}
                if ":" not in shape and len(dtypes) == 1:
                    shape = f"{shape}:{dtypes.pop()}"
                texts = (*(text for text in texts if text not in replaced), f"{own}={shape}" if own else shape)
        return replace(self.request, overrides=overrides, inputs=texts, batch=batch, per=per, picture=picture)

    def _refuse_own(self, error: SpecError | SourceError | BasisError) -> None:
        """Raise the error if the model has it by itself, whatever is swept: then no point can be built."""
        try:
            self.count({}, "none", NOBODY)
        except self.impossible as own:
            if own.diagnostics[0].message == error.diagnostics[0].message:
                raise own from None
        except UsageError:
            # It cannot be made at all without what is swept.
            return


class Saved(Model):
    """A saved report, which is the same at every point."""

    def __init__(self, request: Request, axes: Sequence[Axis]) -> None:
        super().__init__(request, axes)
        if axes:
            raise UsageError(f"{request.argument} is a saved report: it takes no overrides and no --input")
        self.report = analysis.count(replace(request, overrides={}))
        self.shown_inputs.add(show_inputs({item.name: item.shape for item in self.report.model.inputs}))

    def count(self, point: Mapping[str, Value], counters: str, listener: Listener) -> Counted:
        report = self.report
        return Counted(report.totals, report.counters if counters != "none" else (), report.parts, report.language)


class Expanded(Model):
    """A spec: it is expanded at every point, and what is the same as before is not counted again."""

    impossible = (SpecError, BasisError)

    def __init__(self, request: Request, axes: Sequence[Axis], shelf: dict[str, Spec]) -> None:
        if request.dtype not in ITEM_BYTES:
            raise UsageError(f"unknown dtype '{request.dtype}'", help=f"it is one of {', '.join(ITEM_BYTES)}")
        check_basis(request.per or request.usual_per)
        target = request.target
        # However many variants of it are compared, a spec is read once.
        self.spec = shelf[target.path] if target.path in shelf else shelf.setdefault(target.path, target.load())
        self._shapes: dict[tuple[str, ...], dict[str, Shape]] = {}
        self._pixels: dict[tuple[str, Shape, Shape], tuple[int, str, int]] = {}
        super().__init__(request, axes)

    def is_special(self, name: str) -> bool:
        """A variable of the spec may have any name."""
        return super().is_special(name) and name not in self.spec.vars

    def count(self, point: Mapping[str, Value], counters: str, listener: Listener) -> Counted:
        """Measure the spec, and build its model where counters are asked."""
        # A request is large, and points are many: where only parameters vary, none is made for each.
        request = self.settings(point) if self.special else self.request
        overrides = request.overrides if self.special else {**request.overrides, **point}
        if request.inputs not in self._shapes:
            self._shapes[request.inputs] = analysis.input_shapes(self.spec, request.inputs, request.argument)
        shapes = self._shapes[request.inputs]
        variant = request.target.variant
        plan = self.spec.plan
        is_whole = request.is_in_blocks or request.fuse or request.language or bool(request.memory or plan.parts)
        if is_whole or request.weights is not None or plan.sets_widths:
            # Bytes in integers are those of each tensor, what is fused or alive is seen in the whole graph, and blocks
            # differ.
            request = replace(request, overrides=overrides)
            report = analysis.count(replace(request, spec=self.spec))
            self.shown_inputs.add(show_inputs({i.name: (1, *i.shape[1:]) for i in report.model.inputs}))
            asked = () if counters == "none" else analysis.analyze(request, counters, listener=listener).counters
            return Counted(report.totals, asked, report.parts, report.language)
        measured = self.spec.measure(overrides, variant=variant, inputs=shapes, batch=request.batch)
        edge = (basis_of(request, measured.values, self.spec), measured.input_shape, measured.output_shape)
        if edge not in self._pixels:
            self._pixels[edge] = (*pixels(*edge), positions_read(*edge[:2]))
            self.shown_inputs.add(self._show_inputs(measured.input_shape, overrides, shapes))
        denominator, words, read = self._pixels[edge]
        totals = Totals(
            measured.params,
            measured.trainable_params,
            measured.buffers,
            measured.macs,
            measured.params * ITEM_BYTES[request.dtype],
            denominator,
            words,
            measured.other,
            read,
            output_elements=measured.made.output_elements,
            activations=measured.made.activations,
            conv_activations=measured.made.conv_activations,
        )
        if counters == "none":
            return Counted(totals)
        asked = analysis.analyze(replace(request, overrides=overrides), counters, listener=listener).counters
        return Counted(totals, asked)

    def mistakes(
        self, error: SpecError | SourceError | BasisError, values: Mapping[str, Value]
    ) -> Sequence[Diagnostic]:
        """A parameter that does not exist, and a value that is wrong at any point."""
        if any(re.match(_NOT_THERE, diagnostic.message) for diagnostic in error.diagnostics):
            raise error
        return [diagnostic for diagnostic in error.diagnostics if _is_of_wrong_type(diagnostic, values)]

    def _show_inputs(self, first: Shape, overrides: Mapping[str, Any], shapes: Mapping[str, Shape]) -> str:
        names = self.spec.input_names
        if len(names) == 1:
            return show_inputs({names[0]: first})
        graph = self.spec.expand(overrides, variant=self.request.target.variant, inputs=shapes)
        return show_inputs({item.name: item.shape for item in graph.inputs})


class Traced(Model):
    """A Python model: it is traced anew at every point.

    It is made anew, too; one that is made from a config only where other fields of that are set than at the points
    before.
    """

    impossible = (SourceError, BasisError)

    def __init__(self, request: Request, axes: Sequence[Axis]) -> None:
        check_basis(request.per or request.usual_per)
        super().__init__(request, axes)
        self._shelf: dict[str, Recipe] = {}

    def is_special(self, name: str) -> bool:
        """The inputs of a model from a config can be swept by what they are: ``tokens=128..8192*2``."""
        return super().is_special(name) or (self.request.target.is_config and name in sizes.NAMES)

    def settings(self, point: Mapping[str, Value]) -> Request:
        """Two options of a model from a config are overrides, by the names that they have there."""
        if self.request.target.is_config and "attn" in point:
            point = {("attn_implementation" if name == "attn" else name): value for name, value in point.items()}
        return super().settings(point)

    def at(self, number: int, points: int, listener: Listener) -> None:
        if points > 1:
            listener.progress(f"tracing {self.request.argument}, {number:,} of {points:,}")

    def count(self, point: Mapping[str, Value], counters: str, listener: Listener) -> Counted:
        request = self.settings(point)
        if request.target.is_config:
            request = replace(request, recipe=self._recipe(request))
        report = analysis.analyze(request, counters, listener=listener if counters != "none" else NOBODY)
        model = report.model
        self.shown_inputs.add(
            show_inputs({i.name: i.shape if i.shape[:1] == (request.batch,) else (1, *i.shape) for i in model.inputs})
        )
        if model.rests_on:
            self.notes[f"the MACs of {request.argument} are {model.rests_on}"] = None
        for item in report.uncounted:
            self.notes[f"the count of {request.argument} is incomplete: {item.op} has no rule"] = None
        return Counted(report.totals, report.counters, language=report.language)

    def _recipe(self, request: Request) -> Recipe:
        """How a model is made, which is made once for all points that set the same fields."""
        from convstat.targets import modules
        from convstat.trace.recipe import made_once

        key = repr(sorted(request.overrides.items()))
        if key not in self._shelf:
            # Points with other fields do not come back, and a large model holds many objects.
            self._shelf = {key: made_once(modules.recipe_of(request.target, request.overrides))}
        return self._shelf[key]


def model_of(request: Request, axes: Sequence[Axis], shelf: dict[str, Spec]) -> Model:
    """Make a model of a comparison; ``shelf`` holds the specs that have been read."""
    if request.target.kind == "report":
        return Saved(request, axes)
    return Traced(request, axes) if request.target.needs_torch else Expanded(request, axes, shelf)


def _is_of_wrong_type(problem: Diagnostic, values: Mapping[str, Value]) -> bool:
    """Whether a value of the command is at fault, and would be at any point: a word for a number and the like.

    What an expression of the spec makes of a right value is a property of the point.
    """
    if not re.match(_OF_WRONG_TYPE, problem.message):
        return False
    if problem.mark is not None and not problem.mark.source.is_file and problem.mark.text.partition("=")[0] in values:
        return True
    return any(f"the word '{value}'" in problem.message for value in values.values() if isinstance(value, str))


def _invalid(argument: str, values: Mapping[str, Value], error: SpecError | SourceError | BasisError) -> ComparisonRow:
    """The row of a point where a model cannot be built: its first problem, and where that is."""
    first = error.diagnostics[0]
    where = f"{first.mark.file}:{first.mark.line}" if first.mark and first.mark.source.is_file else None
    return ComparisonRow(argument, values, "invalid", reason=first.message, help=first.help, where=where)


def with_dtype(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Give every shape of a sweep of an input the dtype that stands behind the last: ``input.ids=128,512:int64``."""
    found = []
    for axis in axes:
        last = axis.values[-1]
        if axis.varies and axis.name.partition(".")[0] == "input" and isinstance(last, str) and ":" in last:
            dtype = last.rpartition(":")[2]
            shapes = ("x".join(map(str, v)) if isinstance(v, list) else str(v) for v in axis.values)
            axis = replace(axis, values=tuple(text if ":" in text else f"{text}:{dtype}" for text in shapes))
        found.append(axis)
    return tuple(found)


def refuse_doubtful(inputs: Sequence[str]) -> None:
    """Refuse a comma in a shape where values are swept: it could part sizes or shapes."""
    for text in inputs:
        name, mark, shape = text.rpartition("=")
        if "," in shape and "[" not in shape:
            sizes, colon, dtype = shape.partition(":")
            listed = sizes.replace(" ", "").replace(",", "x")
            key = f"input.{name}" if mark else "input"
            raise UsageError(
                f"--input {text} is ambiguous: one shape or several",
                help=(
                    f"one shape: --input {name}{mark}{listed}{colon}{dtype}",
                    f"to sweep the input, omit --input and write: {key}={shape.replace(' ', '')}",
                ),
            )


def show_inputs(inputs: Mapping[str, Shape]) -> str:
    """Write shapes without the batch, the way ``--input`` takes them.

    >>> show_inputs({"x": (1, 3, 224, 224)}), show_inputs({"x": (1, 3, 8, 8), "mask": (1, 8, 8)})
    ('3x224x224', 'x=3x8x8, mask=8x8')

    What is inside of another input is none of its own there.

    >>> show_inputs({"cond.noise": (1, 3, 8, 8), "cond.text": (1, 8)})
    'cond.noise 3x8x8, cond.text 8'
    """
    shown = {name: "x".join(map(str, shape[1:])) for name, shape in inputs.items()}
    if len(shown) == 1:
        return next(iter(shown.values()))
    return ", ".join(f"{name}{'=' if name.isidentifier() else ' '}{shape}" for name, shape in shown.items())


def pair(names: Sequence[str], values: Sequence[Value]) -> dict[str, Value]:
    """Put the values of a point under the names of their axes."""
    # In compare, zip is an option.
    return dict(zip(names, values, strict=True))
