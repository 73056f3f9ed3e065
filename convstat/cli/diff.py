"""``convstat diff``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode


@o.takes(
    f"base input data {o.LANGUAGE} config batch device timeout dtype weights activations fuse per "
    "format output sort top quiet verbose width ascii"
)
def diff(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BASE] [HEAD] [KEY=VALUE]",
            help="Two targets, including main:net.yaml or report.json; or one target, compared with its base; or a "
            "git revision: all specs that changed since (A..B: between two revisions, A...: since their "
            "merge-base).",
            show_default=False,
            autocompletion=o.complete_target,
        ),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Also show unchanged layers and models.")] = False,
    *,
    given: o.Shared,
) -> int:
    """Show which layers changed, and why.

    Layers are matched by name, then by structure. Unchanged layers are summed in one row, so that rows add up.
    Without HEAD, the working tree is compared. KEY=VALUE applies to both sides. Between two targets it applies to
    the base, and values after the second target to the head; after one target named twice it applies to the head.
    """
    from convstat.cli.session import Session
    from convstat.commands.diff import Sides, all_saved, differences
    from convstat.errors import UsageError
    from convstat.grammar import axes
    from convstat.history.baseline import Baselines

    session = Session(replace(given, flat=all))
    settings = session.config
    named, assignments = axes.split(arguments or ())
    shared, of_base, of_head = axes.sides(arguments or (), "diff")
    requests = session.requests(named, shared)
    if named and all_saved(named):
        if assignments or given.inputs:
            raise UsageError("saved reports take no overrides, --input or --data", help="compare the models themselves")
        session.refuse_saved(named)
    with session.writing(named, "diff") as outputs:
        sides = Sides(
            requests, given.base or settings.base, Baselines.of(settings.path), session.listener, of_base, of_head
        )  # fmt: skip
        found = differences(named, sides, all=all)
        session.progress.clear()
        if not found:
            session.note("no spec changed")
        session.write(outputs, found)
    return ExitCode.OK
