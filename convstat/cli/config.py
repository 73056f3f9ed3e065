"""``convstat config``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

ACTIONS = ("show", "path")


@o.takes("format output quiet verbose width ascii")
def config(
    action: Annotated[
        str,
        typer.Argument(
            metavar="|".join(ACTIONS),
            help="show: all settings, their values and sources. path: the settings file.",
            show_default=False,
            autocompletion=o.complete_words(*ACTIONS),
        ),
    ] = "show",
    *,
    given: o.Shared,
) -> int:
    """Show the settings and their sources.

    Reads the nearest convstat.toml, or pyproject.toml with [tool.convstat], from the working directory up to the
    root of the repository. CONVSTAT_CONFIG names another file; CONVSTAT_BASE and CONVSTAT_FORMAT override its values.
    """
    from convstat.cli.session import Session
    from convstat.commands import config as config_command
    from convstat.errors import UsageError, did_you_mean
    from convstat.render.console import standard_output
    from convstat.results.listing import Listing

    if action not in ACTIONS:
        raise UsageError(f"unknown action '{action}'", help=(*did_you_mean(action, ACTIONS), "show or path"))
    session = Session(given)
    if action == "path":
        if session.config.path is None:
            session.note("no settings found: no convstat.toml, and no pyproject.toml with [tool.convstat]")
        else:
            standard_output().write(f"{session.config.path}\n")
        return ExitCode.OK
    listing = Listing(f"settings: {session.config.path or 'no file'}", config_command.entries(session.config))
    for note in config_command.notes(session.config):
        session.note(note)
    with session.writing((), "listing") as outputs:
        session.write(outputs, [listing])
    return ExitCode.OK
