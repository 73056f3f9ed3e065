"""One call from a target to its report; the command line does nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convstat.count import graphs
from convstat.errors import Diagnostic, SourceError, UsageError
from convstat.formulas.cost import Shape
from convstat.graph import Graph
from convstat.results import sums
from convstat.results.report import Report
from convstat.targets import Target, resolve
from convstat.targets.inputs import parse_all
from convstat.targets.subject import Subject

if TYPE_CHECKING:
    from convstat.spec import Spec

DEFAULT_COUNTERS = "default"


def input_shapes(spec: Spec, inputs: Sequence[str], argument: str) -> dict[str, Shape]:
    """Give the shapes, without the batch, of the inputs that ``inputs`` names or lists in order."""
    names = list(spec.input_names)
    shapes: dict[str, Shape] = {}
    for position, written in enumerate(parse_all(inputs)):
        key = written.name or (names[position] if position < len(names) else "")
        if key not in names:
            known = ", ".join(names)
            raise UsageError(f"{argument} has no input '{written.name or position + 1}'", help=f"its inputs: {known}")
        if written.data is not None:
            raise UsageError(
                f"{argument} is counted from the shapes of its inputs: it takes no data",
                help="leave --data out: no count of a spec depends on values",
            )
        if key in shapes:
            raise UsageError(f"input '{key}' is given twice")
        if written.is_exact or not written.shape:
            raise UsageError(
                f"--input {written.text} is not one sample of an input of a spec",
                help="write the sizes without the batch: 3x224x224",
            )
        shapes[key] = written.shape
    return shapes


def _unnamed(spec: Spec, inputs: Sequence[str]) -> list[Diagnostic]:
    """Say which inputs the shapes without a name went to, where there are several."""
    names = list(spec.input_names)
    if len(names) < 2:
        return []
    return [
        Diagnostic(
            f"--input {item.text} is for '{names[position]}', as it stands at place {position + 1}",
            severity="note",
            help=(f"the inputs are {', '.join(names)}; to name one: --input {names[position]}={item.text}",),
        )
        for position, item in enumerate(parse_all(inputs))
        if item.name is None
    ]


def graph_of(
    target: Target,
    overrides: Mapping[str, Any],
    *,
    inputs: Sequence[str] = (),
    batch: int = 1,
    spec: Spec | None = None,
) -> Graph:
    """Expand a spec or an inline layer with its overrides, inputs and batch."""
    spec = spec or target.load()
    if batch < 1:
        raise UsageError(f"the batch must be at least 1, not {batch}")
    shapes = input_shapes(spec, inputs, target.argument)
    graph = spec.expand(overrides, variant=target.variant, inputs=shapes, batch=batch)
    declared = {item.name: item.dtype for item in graph.inputs}
    names = list(spec.input_names)
    for position, item in enumerate(parse_all(inputs)):
        key = item.name or names[position]
        if item.dtype is not None and item.dtype != declared[key]:
            raise UsageError(f"input '{key}' is {declared[key]} in {target.argument}, not {item.dtype}")
    return graph


def prepare(
    argument: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    inputs: Sequence[str] = (),
    batch: int = 1,
    device: str = "auto",
    dtype: str = "float32",
    per: str = "input",
    mode: str = "eval",
    progress: Callable[[str], None] | None = None,
    warn: Callable[[Sequence[Diagnostic]], None] | None = None,
) -> Subject:
    """Count a target that is no saved report, and get it ready for counters; a spec without torch."""
    target = resolve(argument)
    if target.needs_torch:
        from convstat.targets import modules

        return modules.prepare(
            modules.recipe_of(target, overrides or {}),
            inputs=inputs,
            batch=batch,
            device=device,
            dtype=None if dtype == "float32" else dtype,
            per=per,
            mode=mode,
            overrides=overrides,
            progress=progress,
        )
    spec = target.load()
    if warn is not None and spec.warnings:
        warn(spec.warnings)
    graph = graph_of(target, overrides or {}, inputs=inputs, batch=batch, spec=spec)
    if warn is not None and (notes := _unnamed(spec, inputs)):
        warn(notes)
    if mode != "eval":
        from convstat.targets import modules

        return modules.prepare(
            modules.recipe_of_graph(graph, target, dtype=dtype),
            batch=batch,
            device=device,
            per=per,
            mode=mode,
            overrides=overrides,
            progress=progress,
        )
    report = graphs.count(
        graph, source=target.argument, kind=target.kind, batch=batch, dtype=dtype, per=per, overrides=overrides
    )
    return Subject(report, _GraphStages(graph, dtype), graph)


class _GraphStages:
    """The stages of a spec, made when they are first asked for: counters are not even imported before."""

    def __init__(self, graph: Graph, dtype: str) -> None:
        self._made: Any = None
        self._of = graph, dtype

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            from convstat.counters.stages import GraphStages

            self._made = GraphStages(*self._of)
        return getattr(self._made, name)


def analyze(
    argument: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    dtype: str = "float32",
    counters: str = DEFAULT_COUNTERS,
    mode: str = "eval",
    predict: bool = False,
    seconds: float | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Report:
    """Count a target, ask the peers, and explain where they differ.

    The other options are those of :func:`prepare`: ``inputs`` are shapes without the batch, as ``--input`` takes them.
    ``counters`` is ``default``, ``all``, ``none`` or names with commas; with ``predict`` none is run, and what each
    would say is told instead. Each may take so many ``seconds`` (None: five minutes, 0: any).
    In ``mode`` ``train``, a forward and a backward pass of the torch model are counted, also of a spec.
    ``progress`` is told in words what is going on, ``warn`` the warnings about a spec.
    """
    target = resolve(argument)
    if target.kind == "report":
        if overrides or options.get("inputs"):
            raise UsageError(f"{argument} is a saved report: it takes no overrides and no --input")
        return load_report(target.path, target.revision)
    subject = prepare(argument, overrides, device=device, dtype=dtype, mode=mode, progress=progress, **options)
    report = subject.report
    if counters == "none":
        return report
    if subject.graph is None:
        from convstat.targets import modules

        return modules.ask(
            subject, counters, device=device, mode=mode, predict=predict, seconds=seconds, progress=progress
        )
    from convstat.counters import check, measure_on, select
    from convstat.counters.measure import Asking

    chosen = select(counters)
    if not chosen:
        return report
    check(device, dtype)
    if progress is not None:
        progress(f"{'predicting' if predict else 'running'} {', '.join(counter.name for counter in chosen)}")
    rows = measure_on(subject.stages, report, chosen, Asking(device, predict, seconds))
    ran_on = dict.fromkeys(row.device for row in rows if row.device and row.status != "predicted")
    return replace(report, counters=rows, model=replace(report.model, device="+".join(ran_on) or "none"))


def load_report(path: str, revision: str | None = None) -> Report:
    """Read a saved report or a baseline file; of a git repository at a revision, where one is given."""
    if revision is not None:
        from convstat.targets import revisions

        return read_report(revisions.read(revision, path), f"{revision}:{path}")
    from convstat.results.documents.reading import MAX_BYTES
    from convstat.text.reading import read_file

    try:
        return read_report(read_file(path, MAX_BYTES), path)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def read_report(data: bytes, name: str) -> Report:
    """Read a saved report or a baseline file from its bytes; ``name`` is what messages call it."""
    from convstat.results import baseline, report
    from convstat.results.documents import reading

    schemas = {report.SCHEMA: reading.report_validator, baseline.SCHEMA: reading.baseline_validator}
    document = reading.read(data, name, schemas, "a saved report")
    try:
        is_report = document["schema"] == report.SCHEMA
        found = Report.from_dict(document) if is_report else baseline.report_of(document)
        sums.check_sums(found)
    except SourceError as error:
        problems = [replace(problem, message=f"{name}: {problem.message}") for problem in error.diagnostics]
        raise SourceError(problems) from None
    return found
