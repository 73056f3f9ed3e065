"""From a request to advice: the command and the API advise through here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from convstat.advice.effect import Amount
from convstat.advice.finding import Finding
from convstat.advice.gather import Advised, gather, together
from convstat.advice.graphs import Writer, net_of
from convstat.advice.net import Net
from convstat.advice.shortest import Need, shortest
from convstat.advice.unused import UNUSED, unused
from convstat.advice.writing import constructors
from convstat.budgets.limits import Limit, read_option
from convstat.errors import Diagnostic, SourceText, UsageError
from convstat.results.advice import Advice, Goal, Plan, Savings, Suggestion, TextEdit
from convstat.results.report import Report, Totals
from convstat.spec.edits import Editor, Lines, NoEditError
from convstat.targets import analysis
from convstat.targets.request import NOBODY, Listener, Request

if TYPE_CHECKING:
    from convstat.graph import Graph
    from convstat.spec import Spec
    from convstat.targets.subject import Subject

METRICS = ("params", "macs", "flops", "macs_per_pixel")
"""What a budget of advice can limit."""

Written = tuple[Advised, tuple[TextEdit, ...]]

Join = Callable[[Sequence[Advised]], tuple[TextEdit, ...]]
"""Writes the edits that make all of some changes."""


def advise(request: Request, *, budgets: Sequence[str] = (), listener: Listener = NOBODY) -> Advice:
    """Give advice on a target that is no saved report; ``budgets`` are as ``--budget`` takes them, ``macs=300M``.

    A spec is advised on without torch. Raises UsageError for a budget that advice cannot be given on.
    """
    limits = [read_budget(text) for text in budgets]
    if request.target.needs_torch:
        return of_module(analysis.prepare(request, listener=listener), budgets)
    if request.spec is None and request.target.kind != "report":
        request = replace(request, spec=request.target.load())
        assert request.spec is not None
        if request.spec.warnings:
            listener.warn(request.spec.warnings)
    subject = analysis.prepare(request, listener=listener)
    return _advice(subject.report, *_of_spec(request, subject), limits)


def of_module(subject: Subject, budgets: Sequence[str] = ()) -> Advice:
    """Give advice on a Python model that has been traced."""
    from convstat.advice.modules import advised_of

    limits = [read_budget(text) for text in budgets]
    return _advice(subject.report, *advised_of(subject.report, subject.stages), limits)


def _advice(report: Report, net: Net, written: Sequence[Written], join: Join, limits: Sequence[Limit]) -> Advice:
    totals = report.totals
    suggestions = tuple(
        Suggestion(
            number,
            "mistake" if one.is_mistake else "saving",
            one.finding.kind,
            one.finding.what,
            one.finding.layers,
            edits,
            _savings(one.effect.saves),
        )
        for number, (one, edits) in enumerate(written, start=1)
    )
    plan = _plan(net, [one for one, _ in written], join, limits, totals) if limits else None
    return Advice(report.model, totals, suggestions, plan)


def read_budget(text: str) -> Limit:
    """Read a budget of advice, in the grammar of ``check --max``; raises UsageError."""
    limit = read_option("budget", text)

    def refuse(message: str, help: str) -> UsageError:
        return UsageError(Diagnostic(message, limit.mark, help=(help,)))

    if limit.metric not in METRICS:
        raise refuse(
            f"advice is given on {', '.join(METRICS)}, not on {limit.metric}", "for example --budget macs=300M"
        )
    if limit.scope != "total" or limit.on is not None:
        raise refuse("advice is given on the whole model", f"for example --budget {limit.metric}={limit.amount}")
    if limit.relative is not None:
        raise refuse(
            f"'{limit.amount}' is relative to a base, and advice has none", "write the limit itself: macs=300M"
        )
    return limit


def _savings(saves: Amount) -> Savings:
    return Savings(saves.params, saves.macs, saves.other)


def _of_spec(request: Request, subject: Subject) -> tuple[Net, list[Written], Join]:
    graph, spec = subject.graph, request.spec
    assert graph is not None
    assert spec is not None
    if not spec.source.is_file:
        net = net_of(graph, None)
        written = [(one, constructors(net, one.effect)) for one in gather(net)]
        return net, written, lambda chosen: constructors(net, together(net, [one.finding for one in chosen]))
    editor = Editor(spec.source)
    net = net_of(graph, editor, [key for key in request.overrides if key not in spec.plan.variants[None].variables])
    writer = Writer(net, editor)
    found = [(one, lines) for one in gather(net) if (lines := _lines(writer, one)) is not None]
    found += _unused(spec, net, graph, editor)
    found.sort(key=lambda pair: pair[0].rank)
    written = [(one, tuple(_edit(spec.source, line) for line in lines)) for one, lines in found]
    edits = {id(one): own for one, own in written}

    def join(chosen: Sequence[Advised]) -> tuple[TextEdit, ...]:
        own = [edit for one in chosen for edit in edits[id(one)]]
        lines = [line for edit in own for line in range(edit.line or 0, (edit.end_line or 0) + 1)]
        if len(lines) == len(set(lines)):
            return tuple(own)
        # Two of them change one line.
        others = [one for one in chosen if one.finding.kind != UNUSED]
        unused = [edit for one in chosen if one.finding.kind == UNUSED for edit in edits[id(one)]]
        text = writer.text([edit for one in others for edit in one.finding.edits])
        return (*(_edit(spec.source, lines) for lines in editor.changed(text)), *unused)

    return net, written, join


def _lines(writer: Writer, one: Advised) -> list[Lines] | None:
    """The lines of a spec that a change is made in, None where it cannot be written there."""
    try:
        writer.check_reached(one.effect.reached, [name for edit in one.finding.edits for name in edit.settings])
        splices = writer.splices(one.finding.edits)
        writer.editor.apply(splices)
        return [writer.editor.lines(splice) for splice in splices]
    except NoEditError:
        return None


def _unused(spec: Spec, net: Net, graph: Graph, editor: Editor) -> Iterable[tuple[Advised, list[Lines]]]:
    for finding, items in unused(net, graph, editor):
        try:
            lines = [editor.lines(editor.drop(editor.items[place], frozenset(items))) for place in items]
        except NoEditError:
            continue
        yield Advised(finding, together(net, [finding]), True), lines
    for name, mark in spec.plan.unused_blocks:
        try:
            line = editor.lines(editor.drop_block(mark))
        except NoEditError:
            continue
        block = Finding(UNUSED, f"the block '{name}' is never called", (), ())
        yield Advised(block, together(net, [block]), True), [line]


def _edit(source: SourceText, lines: Lines) -> TextEdit:
    place = f"{source.name}:{lines.first}:{lines.column}"
    return TextEdit(place, lines.before, lines.after, source.name, lines.first, lines.last, lines.column)


def _plan(net: Net, advised: Sequence[Advised], join: Join, limits: Sequence[Limit], totals: Totals) -> Plan:
    need = Need(
        max(0, *(totals.params - int(limit.limit) for limit in limits if limit.metric == "params"), 0),
        max(0, *(totals.macs - _most_macs(limit, totals) for limit in limits if limit.metric != "params"), 0),
    )
    found = shortest(net, advised, need)
    after = replace(totals, params=totals.params - found.saves.params, macs=totals.macs - found.saves.macs)
    goals = tuple(
        Goal(str(limit), limit.metric, limit.limit, _value(limit, totals), _value(limit, after)) for limit in limits
    )
    edits = join([advised[n] for n in found.changes])
    return Plan(goals, tuple(n + 1 for n in found.changes), _savings(found.saves), after, edits, found.is_shortest)


def _most_macs(limit: Limit, totals: Totals) -> int:
    """The most MACs that keep within a limit of MACs, of FLOPs, or of MACs/pixel."""
    if limit.metric == "macs_per_pixel":
        return int(limit.limit * totals.pixels // 1)
    return int(limit.limit // (2 if limit.metric == "flops" else 1))


def _value(limit: Limit, totals: Totals) -> int | Fraction:
    value: int | Fraction | None = getattr(totals, limit.metric)
    if value is None:
        raise UsageError(Diagnostic("this model has no pixels to divide by", limit.mark))
    return value
