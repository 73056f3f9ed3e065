"""What is told to the code host that runs the command: annotations in its log, and the summary of its step.

Both come by themselves on GitHub, where its variables say so, and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from convstat.errors import Diagnostic

if TYPE_CHECKING:
    from convstat.cli.output import Outputs
    from convstat.render.base import Result

SUMMARIZED = ("check", "comparison", "diff")
"""The kinds of results that a summary is written of."""

LARGEST_SUMMARY = 900_000
"""The bytes of one step's summary: GitHub takes 1 MiB, and drops what is larger whole."""

LEAST_ROOM = 2_000
"""With less room than this, nothing is added to a summary."""


def announce(
    results: Sequence[Result], outputs: Outputs, environment: Mapping[str, str] = os.environ
) -> list[Diagnostic]:
    """Tell GitHub where it runs this; give what went wrong, which is no reason to fail."""
    if environment.get("GITHUB_ACTIONS") == "true" and outputs.is_for_people:
        _annotate(results, environment)
    path = environment.get("GITHUB_STEP_SUMMARY")
    told = [result for result in results if result.kind in SUMMARIZED] if path else []
    return _summarize(told, outputs, path) if path and told else []


def _annotate(results: Sequence[Result], environment: Mapping[str, str]) -> None:
    """Write annotations to standard error: GitHub reads them there too, and standard output holds the result alone."""
    from convstat.render.console import standard_error
    from convstat.render.findings import findings
    from convstat.render.formats.github import workflow_commands

    if lines := workflow_commands(findings(results), environment):
        standard_error().write("".join(f"{line}\n" for line in lines))


def _summarize(results: Sequence[Result], outputs: Outputs, path: str) -> list[Diagnostic]:
    """Add to the summary of the step; other commands of the same step may have written some of it."""
    from convstat.render.formats.comment import body

    try:
        there = os.path.getsize(path) if os.path.exists(path) else 0
        room = LARGEST_SUMMARY - there
        if room < LEAST_ROOM:
            return [Diagnostic("the summary of this step is full; nothing was added", severity="warning")]
        with open(path, "a", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            stream.write(body(results, outputs.options, room - 1) + "\n")
    except OSError as error:
        message = f"the summary of this step cannot be written: {error.strerror}"
        return [Diagnostic(message, severity="warning", notes=(f"GITHUB_STEP_SUMMARY is {path}",))]
    return []
