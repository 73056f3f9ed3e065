"""From a request to its report: every command and the API count through here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convstat.count import graphs
from convstat.errors import Diagnostic, SourceError, UsageError
from convstat.formulas.cost import Shape
from convstat.graph import Graph
from convstat.results import fusions, sums
from convstat.results.report import Report
from convstat.targets import pictures
from convstat.targets.basis import basis_of
from convstat.targets.inputs import parse_all
from convstat.targets.request import NOBODY, Listener, Request
from convstat.targets.subject import Subject

if TYPE_CHECKING:
    from convstat.results.baseline import Baseline
    from convstat.spec import Spec

DEFAULT_COUNTERS = "default"

EVERY_COUNTER = "all,conventions,llm"
"""What is asked where no counter is run, and so none costs much."""


def input_shapes(spec: Spec, inputs: Sequence[str], argument: str) -> dict[str, Shape]:
    """Give the shapes, without the batch, of the inputs that ``inputs`` names or lists in order."""
    names = list(spec.input_names)
    shapes: dict[str, Shape] = {}
    for position, written in enumerate(parse_all(inputs)):
        if written.size is not None:
            raise UsageError(
                f"{argument} takes no --{written.size}, which sizes the inputs of a Python model",
                help="write the sizes without the batch: --input 3x224x224",
            )
        key = written.name or (names[position] if position < len(names) else "")
        if key not in names:
            known = ", ".join(names)
            raise UsageError(f"{argument} has no input '{written.name or position + 1}'", help=f"its inputs: {known}")
        if written.data is not None:
            raise UsageError(
                f"{argument} is counted from the shapes of its inputs and takes no data",
                help="omit --data: counts of a spec do not depend on values",
            )
        if key in shapes:
            raise UsageError(f"input '{key}' is given twice")
        if written.is_exact or not written.shape:
            raise UsageError(
                f"--input {written.text} is not the shape of one sample",
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
            f"--input {item.text} is for '{names[position]}', because it is in position {position + 1}",
            severity="note",
            help=(f"the inputs are {', '.join(names)}; to name one: --input {names[position]}={item.text}",),
        )
        for position, item in enumerate(parse_all(inputs))
        if item.name is None
    ]


def graph_of(request: Request) -> Graph:
    """Expand a spec or an inline layer with its overrides, inputs and batch."""
    target, batch = request.target, request.batch
    spec = request.spec or target.load()
    if batch < 1:
        raise UsageError(f"the batch must be at least 1, not {batch}")
    shapes = input_shapes(spec, request.inputs, target.argument)
    graph = spec.expand(request.overrides, variant=target.variant, inputs=shapes, batch=batch)
    declared = {item.name: item.dtype for item in graph.inputs}
    names = list(spec.input_names)
    for position, item in enumerate(parse_all(request.inputs)):
        key = item.name or names[position]
        if item.dtype is not None and item.dtype != declared[key]:
            raise UsageError(f"input '{key}' is {declared[key]} in {target.argument}, not {item.dtype}")
    return graph


def prepare(request: Request, *, listener: Listener = NOBODY) -> Subject:
    """Count a target that is no saved report, and get it ready for counters; a spec without torch.

    ``listener`` is told what is going on, and the warnings about a spec that is read here.
    """
    target = request.target
    if target.kind == "report":
        raise UsageError(
            f"{target.argument} is a saved report: it contains figures, not the model",
            help="name the model that the report was made from",
        )
    if target.needs_torch:
        from convstat.targets import deployed, modules

        recipe = request.recipe or modules.recipe_of(target, request.overrides)
        return deployed.prepare(recipe, request, listener=listener)
    if request.spec is None:
        request = replace(request, spec=target.load())
        assert request.spec is not None
        if request.spec.warnings:
            listener.warn(request.spec.warnings)
    graph = graph_of(request)
    if graph.parts and request.fuse:
        raise UsageError(f"--fuse takes one network, and {target.argument} has parts", help="fuse a part by itself")
    if request.mode != "eval" and any(part.runs > 1 for part in graph.parts):
        raise UsageError(
            f"--mode {request.mode} counts one call, and parts of {target.argument} are called several times"
        )
    if request.spec is not None and (notes := _unnamed(request.spec, request.inputs)):
        listener.warn(notes)
    if request.mode != "eval":
        if request.fuse:
            raise UsageError(
                f"--fuse cannot be combined with --mode {request.mode}", help="the deployed form is not trained"
            )
        from convstat.targets import modules

        request = replace(request, per=basis_of(request, graph.values, request.spec))
        recipe = modules.recipe_of_graph(graph, target, dtype=request.dtype)
        # The graph has its inputs, and is built with its dtype.
        return modules.prepare(recipe, replace(request, inputs=(), dtype="float32"), listener=listener)
    if request.language:
        return Subject(_with_language(graph, request, listener), _GraphStages(graph, request.dtype), graph)
    if request.fuse:
        report, graph = _fused(graph, request)
        return Subject(report, _GraphStages(graph, request.dtype), graph)
    return Subject(_counted(graph, request), _GraphStages(graph, request.dtype), graph)


def _with_language(graph: Graph, request: Request, listener: Listener) -> Report:
    """Count a graph, and add the figures of a language model, for which its torch model is traced."""
    from convstat.targets import modules

    if request.fuse:
        raise UsageError("--fuse cannot be combined with --language", help="the deployed form is not trained")
    recipe = modules.recipe_of_graph(graph, request.target, dtype=request.dtype)
    per = basis_of(request, graph.values, request.spec)
    traced = modules.prepare(recipe, replace(request, inputs=(), dtype="float32", per=per), listener=listener)
    return replace(_counted(graph, request), language=traced.report.language)


def _counted(graph: Graph, request: Request) -> Report:
    target = request.target
    report = graphs.count(
        graph, source=target.argument, kind=target.kind, batch=request.batch, dtype=request.dtype,
        per=basis_of(request, graph.values, request.spec), overrides=request.overrides, weights=request.weights,
        activations=request.activations,
    )  # fmt: skip
    if not request.extents:
        return report
    from convstat.count import extents

    return extents.with_extents(report, graph)


def _fused(graph: Graph, request: Request) -> tuple[Report, Graph]:
    """Count the deployed form of a graph, beside the form that is trained."""
    from convstat.deploy import graphs as deploy

    deployed, changes = deploy.fuse(graph)
    return fusions.beside(_counted(graph, request), _counted(deployed, request), changes), deployed


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


def count(request: Request, *, listener: Listener = NOBODY) -> Report:
    """Count a target, without asking any counter; a saved report is read, and is what it is."""
    target = request.target
    if target.kind != "report" or request.spec is not None:
        if request.is_in_blocks:
            return _in_blocks(request, listener)
        return _measured(prepare(request, listener=listener), request, listener).report
    if request.overrides or request.inputs:
        raise UsageError(f"{target.argument} is a saved report: it takes no overrides and no --input")
    return load_report(target.path, target.revision)


def _measured(subject: Subject, request: Request, listener: Listener) -> Subject:
    """Add the peak memory, and the arena of a microcontroller, where they are asked for."""
    if request.arena:
        from convstat.targets import arena

        deployed = prepare(arena.deployed_as(request), listener=listener)
        subject = arena.with_arena(subject, deployed, listener=listener)
    if not request.memory:
        return subject
    from convstat.targets import memory

    return memory.with_memory(subject, request.memory, listener=listener)


def _in_blocks(request: Request, listener: Listener) -> Report:
    """Count a picture, or the worst of several block sizes."""
    if request.target.is_spec and request.spec is None:
        request = replace(request, spec=request.target.load())
        assert request.spec is not None
        if request.spec.warnings:
            listener.warn(request.spec.warnings)
    quiet = Listener(listener.progress)
    return in_blocks(request, lambda one: prepare(one, listener=quiet).report)


def in_blocks(request: Request, count_one: Callable[[Request], Report]) -> Report:
    """Count a picture, or the worst of several block sizes; ``count_one`` counts the model on one input."""

    def basis() -> str:
        values = graph_of(request).values if request.target.is_spec else request.overrides
        return basis_of(request, values, request.spec)

    return pictures.count(request, basis, count_one)


def analyze(
    request: Request,
    counters: str = DEFAULT_COUNTERS,
    *,
    predict: bool = False,
    in_process: bool = False,
    listener: Listener = NOBODY,
) -> Report:
    """Count a target, ask the peers, and explain where they differ.

    ``counters`` is ``default``, ``all``, ``none`` or names with commas; with ``predict`` none is run, and what each
    would say is told instead. Each runs in a process of its own where this one can be forked
    safely, with ``in_process`` in this one, and may take as long as foreign code may (``time_limit.allowed``).
    In ``mode`` ``train``, a forward and a backward pass of the torch model are counted, also of a spec.
    """
    if counters == "none" or request.target.kind == "report":
        return count(request, listener=listener)
    if request.is_in_blocks:
        if counters != DEFAULT_COUNTERS:
            raise UsageError(
                "other counters count one call of a model, not the blocks of a picture",
                help="omit --counters, or omit --picture and --worst-case",
            )
        report = count(request, listener=listener)
        note = "other counters were not run: they count one call of a model"
        return replace(report, model=replace(report.model, notes=(*report.model.notes, note)))
    subject = _measured(prepare(request, listener=listener), request, listener)
    return ask(subject, request, counters, predict=predict, in_process=in_process, listener=listener)


def ask(
    subject: Subject,
    request: Request,
    counters: str,
    *,
    predict: bool = False,
    in_process: bool = False,
    listener: Listener = NOBODY,
) -> Report:
    """Ask the peers about a target that was counted, and explain where they differ."""
    report = subject.report
    if counters == "none":
        return report
    if request.mode == "train":
        note = "other counters were not run: they count only a forward pass"
        return replace(report, model=replace(report.model, notes=(*report.model.notes, note)))
    if not report.is_one_call:
        note = "other counters were not run: they count one call of each part"
        return replace(report, model=replace(report.model, notes=(*report.model.notes, note)))
    from convstat.counters import check, measure_on, select
    from convstat.counters.measure import Asking

    chosen = select(counters)
    if not chosen:
        return report
    if subject.graph is not None:
        check(request.device, request.dtype)
    listener.progress(f"{'predicting' if predict else 'running'} {', '.join(counter.name for counter in chosen)}")
    rows = measure_on(subject.stages, report, chosen, Asking(request.device, predict, in_process))
    if subject.graph is not None:
        ran_on = dict.fromkeys(row.device for row in rows if row.device and row.status != "predicted")
        report = replace(report, model=replace(report.model, device="+".join(ran_on) or "none"))
    return replace(report, counters=rows)


def load_report(path: str, revision: str | None = None) -> Report:
    """Read a saved report or a baseline file; of a git repository at a revision, where one is given."""
    if revision is not None:
        from convstat.targets import revisions

        return read_report(revisions.read(revision, path), f"{revision}:{path}")
    return read_report(_bytes_of(path), path)


def load_baseline(path: str) -> Baseline:
    """Read a baseline file, with what was asked for when it was written."""
    from convstat.results.baseline import Baseline
    from convstat.results.documents import reading

    return reading.read(_bytes_of(path), path, (Baseline,), "a baseline file")


def _bytes_of(path: str) -> bytes:
    from convstat.results.documents.reading import MAX_BYTES
    from convstat.text.reading import read_file

    try:
        return read_file(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def read_report(data: bytes, name: str) -> Report:
    """Read a saved report or a baseline file from its bytes; ``name`` is what messages call it."""
    from convstat.results.baseline import Baseline
    from convstat.results.documents import reading

    kinds: Sequence[type[Report | Baseline]] = (Report, Baseline)
    saved = reading.read(data, name, kinds, "a saved report")
    try:
        found = saved.report if isinstance(saved, Baseline) else saved
        sums.check_sums(found)
    except SourceError as error:
        problems = [replace(problem, message=f"{name}: {problem.message}") for problem in error.diagnostics]
        raise SourceError(problems) from None
    return found
