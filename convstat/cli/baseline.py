"""``convstat baseline``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

ACTIONS = ("save", "show", "update", "prune")


@o.takes(
    f"input {o.LANGUAGE} config batch device timeout dtype weights activations fuse "
    "per format output quiet verbose width ascii"
)
def baseline(
    action: Annotated[
        str,
        typer.Argument(
            metavar="|".join(ACTIONS),
            help="save: write the file of a model that has none. show: list the files. update: count again and "
            "overwrite the named files, or all. prune: remove the files of models that are not in the settings.",
            show_default=False,
            autocompletion=o.complete_words(*ACTIONS),
        ),
    ],
    arguments: o.Arguments = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Write even if CI is set; CI should compare with baselines, not accept new ones."),
    ] = False,
    *,
    given: o.Shared,
) -> int:
    """Save the cost of a model to a file.

    It is the base for relative budgets of Python models; the base of a spec is its text at the merge-base.
    """
    import os

    from convstat.cli.session import Session
    from convstat.commands import baseline as baseline_command
    from convstat.errors import UsageError, did_you_mean
    from convstat.grammar import axes
    from convstat.history.baseline import Baselines
    from convstat.results.listing import Listing

    if action not in ACTIONS:
        help = (*did_you_mean(action, ACTIONS), f"actions: {', '.join(ACTIONS)}")
        raise UsageError(f"unknown action '{action}'", help=help)
    session = Session(given)
    named, assignments = axes.split(arguments or ())
    overrides = axes.overrides(assignments, "baseline")
    settings = session.config
    requests = session.requests(named, overrides)
    if action != "show" and os.environ.get("CI") and os.environ["CI"] != "false" and not yes:
        raise UsageError(
            f"baseline {action} does nothing if CI is set: a build that updates its own baselines checks nothing",
            help=(f"run convstat baseline {action} by hand and commit the files", "or pass --yes"),
        )
    files = Baselines.of(settings.path)
    with session.writing(named, "listing") as outputs:
        if action == "show":
            entries = baseline_command.show(files, named)
        elif action == "prune":
            entries = baseline_command.prune(files, settings, named)
        else:
            entries = baseline_command.write(
                files, session.targets(named) if named or (action == "save" and settings.models) else (), requests,
                update=action == "update", listener=session.listener,
            )  # fmt: skip
        session.write(outputs, [Listing("baselines", entries, shown=baseline_command.SHOWN)])
    return ExitCode.OK
