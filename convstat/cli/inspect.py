"""``convstat expand`` and ``convstat render``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode


@o.takes("input")
def expand(
    arguments: o.Arguments = None,
    all: Annotated[bool, typer.Option("--all", help="Also write arguments that have torch's defaults.")] = False,
    *,
    given: o.Shared,
) -> int:
    """Write a spec in expanded form.

    Blocks, repeats and expressions are resolved, and every edge is named. The output is a spec.
    """
    from convstat.cli.session import Session, kind_in_words
    from convstat.errors import UsageError
    from convstat.grammar import axes
    from convstat.render.console import standard_output
    from convstat.render.formats.expansion import write_spec
    from convstat.targets import analysis

    session = Session(given)
    named, assignments = axes.split(arguments or ())
    target = session.target(named, "expand")
    if target.kind not in ("spec", "inline"):
        raise UsageError(f"{target.argument} is {kind_in_words(target.kind)}; only a spec can be expanded")
    spec = target.load()
    request = session.requests(named, axes.overrides(assignments, "expand")).of(target)
    graph = analysis.graph_of(replace(request, batch=1, spec=spec))
    source = " ".join([target.argument, *assignments])
    per = spec.per(target.variant, graph.values)
    budget = [limit for limit, _ in spec.budget]
    standard_output().write(write_spec(graph, source=source, defaults=all, note=spec.note, budget=budget, per=per))
    return ExitCode.OK


@o.takes("format output columns units label score depth flat sort top quiet verbose width ascii")
def render(
    reports: Annotated[
        list[str], typer.Argument(metavar="REPORT...", help="Reports saved as JSON.", show_default=False)
    ],
    *,
    given: o.Shared,
) -> int:
    """Render saved reports, in any format.

    Nothing is counted or run.
    """
    from convstat.cli.session import Session
    from convstat.targets import analysis

    session = Session(given, needs_settings=False)
    with session.writing(reports, "report") as outputs:
        session.write(outputs, [analysis.load_report(path) for path in reports])
    return ExitCode.OK
