"""What ``convstat explain`` says: a layer, how its counts come about, and what every counter makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from convstat.render.base import Options
from convstat.render.page import Block, Fields, Heading, Item, Items, Line, Pairs, Row, tabulated
from convstat.render.views.report import CONVENTION, amount, figures, input_fact, label, set_facts, show_value, title
from convstat.results.explanation import Derived, ExplainedLayer, Explanation, Step, View, words_for
from convstat.text.printable import exact, printable, show_shapes


def blocks(explanation: Explanation, options: Options) -> Iterator[Block]:
    """What the page of an explanation says."""
    model = explanation.model
    yield Heading(title(model.name, model.source), 1)
    yield Pairs((("input", input_fact(model)), *set_facts(model), ("counts", CONVENTION)))
    for layer in explanation.layers:
        yield from _layer(layer)


def _layer(layer: ExplainedLayer) -> Iterator[Block]:
    yield Heading(f"{printable(layer.name)}: {printable(_call(layer))}")
    yield Pairs(tuple(_facts(layer)))
    if not layer.views:
        return
    # The units of other counters are not MACs alone, which their causes say.
    fields: Fields[View] = figures(lambda view: view.counts)
    table = tabulated(fields, [view for view in layer.views if not view.error])
    own = Row(("convstat", exact(layer.params.value), "", exact(layer.macs.value), ""), "strong")
    yield table._replace(rows=(own, *table.rows))
    for view in layer.views:
        if view.error:
            yield Line(f"{label(view)}: {printable(view.error)}", "warn")
        elif view.note:
            yield Line(f"{label(view)}: {printable(view.note)}", "warn")
    if items := tuple(_reasons(layer)):
        yield Heading("why they differ here")
        yield Items(items, "left")


def _reasons(layer: ExplainedLayer) -> Iterator[Item]:
    """The causes of each counter; its name stands at the first."""
    for view in layer.views:
        lead = label(view)
        for cause in view.causes:
            text = printable(cause.text)
            yield Item(lead, f"{amount(cause.macs, cause.params)}: {text} [{cause.verdict}]")
            lead = ""


def _call(layer: ExplainedLayer) -> str:
    arguments = ", ".join(f"{name}={show_value(value)}" for name, value in layer.calls[0].arguments.items())
    return f"{layer.type}({arguments})" if arguments else layer.type


def _facts(layer: ExplainedLayer) -> Iterator[tuple[str, str]]:
    for row in layer.calls:
        name = "shape" if len(layer.calls) == 1 else printable(row.name)
        yield name, f"{show_shapes(row.input_shapes)} -> {show_shapes(row.output_shapes)}"
    yield from _steps("MACs", layer.macs)
    yield from _steps("params", layer.params)
    for entry, derived in layer.other.items():
        # Each of them is about the entry, which is said once.
        steps = tuple(replace(step, about="") for step in derived.steps)
        (lead, first), *rest = _steps("other", Derived(derived.value, steps))
        yield lead, f"{printable(entry)}: {first}  ({words_for(entry)})" if words_for(entry) else f"{entry}: {first}"
        yield from rest


def _steps(lead: str, derived: Derived) -> Iterator[tuple[str, str]]:
    """The sum on the first line where there are several parts, and each of them on its own line."""
    steps = derived.steps
    if len(steps) == 1 and steps[0].times == 1:
        yield lead, _step(steps[0])
        return
    yield lead, exact(derived.value)
    for step in steps if derived.value else ():
        yield "", _step(step)


def _step(step: Step) -> str:
    about = f"{printable(step.about)}: " if step.about else ""
    times = f"{step.times} x " if step.times > 1 else ""
    if step.formula is None:
        return f"{about}{times}{exact(step.value)}"
    # The sizes of a parameter have no names of their own.
    names = "" if step.formula.symbols == "elements" else step.formula.symbols
    if not times:
        return f"{about}{names} = {step.formula.worked_out}" if names else f"{about}{step.formula.worked_out}"
    lead = f"{times}({names}) = " if names else ""
    return f"{about}{lead}{times}({step.formula.numbers}) = {exact(step.value * step.times)}"
