"""Requests and what they come to, from the words in which a test writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convstat.commands import convention
from convstat.commands import explain as explain_command
from convstat.commands import formula as formula_command
from convstat.commands import identify as identify_command
from convstat.commands.closed import Asked
from convstat.graph import Graph
from convstat.results.explanation import Explanation
from convstat.results.formula import NetworkFormula
from convstat.results.identification import Identification
from convstat.results.report import Report
from convstat.targets import Target, analysis, modules, resolve
from convstat.targets.request import Request
from convstat.targets.subject import Subject
from convstat.trace.recipe import Recipe

HOW = ("counters", "predict", "seconds", "listener", "in_process")


def request(
    argument: str, overrides: Mapping[str, Any] | None = None, *, inputs: Sequence[str] = (), **options: Any
) -> Request:
    """A request for a target."""
    return Request(resolve(argument), overrides or {}, tuple(inputs), **options)


def _parted(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What belongs to the request, and how it is answered."""
    return {k: v for k, v in options.items() if k not in HOW}, {k: v for k, v in options.items() if k in HOW}


def graph_of(argument: str, overrides: Mapping[str, Any] | None = None, **options: Any) -> Graph:
    """Expand a spec or an inline layer."""
    return analysis.graph_of(request(argument, overrides, **options))


def analyze(argument: str, overrides: Mapping[str, Any] | None = None, **options: Any) -> Report:
    """Count a target, ask the peers, and explain where they differ."""
    asked, how = _parted(options)
    return analysis.analyze(request(argument, overrides, **asked), **how)


def prepare(argument: str, overrides: Mapping[str, Any] | None = None, **options: Any) -> Subject:
    """Count a target, and get it ready for counters."""
    asked, how = _parted(options)
    return analysis.prepare(request(argument, overrides, **asked), **how)


def explain(
    argument: str, pattern: str | None = None, overrides: Mapping[str, Any] | None = None, **options: Any
) -> Explanation:
    """Explain layers of a target."""
    asked, how = _parted(options)
    return explain_command.explain(request(argument, overrides, **asked), pattern, **how)


def network(
    argument: str,
    overrides: Mapping[str, Any] | None = None,
    letters: tuple[str, ...] | None = None,
    **options: Any,
) -> NetworkFormula:
    """The formulas of a target; ``letters`` are those of its closed forms."""
    asked, how = _parted(options)
    return formula_command.network(request(argument, overrides, **asked), asked=Asked(letters), **how)


def identify(text: str, argument: str, overrides: Mapping[str, Any] | None = None, **options: Any) -> Identification:
    """Find what gives a number for a target."""
    asked, how = _parted(options)
    return identify_command.identify(text, request(argument, overrides, **asked), **how)


def express(argument: str, name: str, overrides: Mapping[str, Any] | None = None, **options: Any) -> Report:
    """Count a target as a counter would."""
    asked, how = _parted(options)
    return convention.express(request(argument, overrides, **asked), name, **how)


def made(recipe: Recipe, *, inputs: Sequence[str] = (), **options: Any) -> Subject:
    """Trace what a recipe makes."""
    asked, how = _parted(options)
    live = Target(recipe.source, recipe.kind, recipe.source)
    return modules.prepare(recipe, Request(live, inputs=tuple(inputs), **asked), **how)


def traced(recipe: Recipe, *, counters: str = "default", inputs: Sequence[str] = (), **options: Any) -> Report:
    """Trace what a recipe makes, and ask the peers."""
    asked, how = _parted(options)
    progress = {"progress": how["progress"]} if "progress" in how else {}
    request = Request(Target(recipe.source, recipe.kind, recipe.source), inputs=tuple(inputs), **asked)
    return analysis.ask(modules.prepare(recipe, request, **progress), request, counters, **how)
