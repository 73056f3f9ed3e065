"""``convstat advise``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode


@o.takes(f"input data {o.LANGUAGE} config batch device timeout dtype per format output top quiet verbose width ascii")
def advise(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET [KEY=VALUE]",
            help="A target as for analyze, except saved reports.",
            show_default=False,
            autocompletion=o.complete_target,
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=LIMIT",
            help="Find the fewest changes that reach a limit: --budget macs=300M. Repeatable; params, macs, flops and "
            "macs_per_pixel, as for check --max.",
            rich_help_panel="Budgets",
            show_default=False,
        ),
    ] = None,
    *,
    given: o.Shared,
) -> int:
    """Find likely mistakes, and what changes would save.

    Each change is shown with the exact amount that it saves, counted and not estimated, its location, and the edit.
    Nothing is said about accuracy. If a budget cannot be reached, the exit code is 1.
    """
    from convstat.cli.session import Session
    from convstat.grammar import axes
    from convstat.targets import advising

    session = Session(given)
    named, assignments = axes.split(arguments or ())
    target = session.target(named, "advise")
    overrides = axes.overrides(assignments, "advise")
    request = session.requests(named, overrides).of(target)
    with session.writing([target.argument], "advice") as outputs:
        result = advising.advise(request, budgets=budget or (), listener=session.listener)
        session.write(outputs, [result])
    return ExitCode.VIOLATION if result.plan is not None and not result.plan.reached else ExitCode.OK
