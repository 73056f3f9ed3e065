"""The format for the log of a GitHub job: annotations, anchored to the line of a spec.

GitHub shows ten errors, ten warnings and ten notices of a step, and drops the others without a word.
So at most that many are written, the worst first, and the last one says how many there are besides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from convstat.render.base import Options, Renderer, Result
from convstat.render.findings import LEVELS, Finding, findings, repository_path
from convstat.text.printable import printable

MOST = 10
"""The annotations of one level that GitHub shows for a step."""

LONGEST = 4_000
"""The characters of one message, after which details are left out; GitHub takes 64 KiB."""

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


class GithubRenderer(Renderer):
    """Workflow commands, one a line, and a last line that counts them."""

    name = "github"
    suffixes = (".github",)
    about = "for the log of a GitHub job: annotations at the lines of the specs"
    expresses = ("check", "diff", "comparison", "report")
    is_view = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Write the annotations; without any, the last line says so."""
        found = findings(results)
        lines = workflow_commands(found)
        counts = [(sum(finding.level == level for finding in found), level) for level in LEVELS]
        words = ", ".join(f"{count:,} {level}{'s' if count != 1 else ''}" for count, level in counts if count)
        return "".join(f"{line}\n" for line in [*lines, f"convstat: {words or 'nothing to annotate'}"])


def workflow_commands(found: Sequence[Finding], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Write findings as workflow commands: at most ten of each level."""
    lines = []
    for level in LEVELS:
        of_level = [finding for finding in found if finding.level == level]
        more = len(of_level) - MOST
        for number, finding in enumerate(of_level[:MOST], 1):
            also = f"and {more:,} more {level}s: see the summary, or the text of this step"
            lines.append(annotation(finding, environment, (also,) if number == MOST and more > 0 else ()))
    return lines


def annotation(finding: Finding, environment: Mapping[str, str], also: tuple[str, ...] = ()) -> str:
    r"""Write one workflow command.

    >>> annotation(Finding("error", "r", "a,b", "50% of x::y", ("next",), "k", "a:b.yaml", 3), {})
    '::error file=a%3Ab.yaml,line=3,title=a%2Cb::50%25 of x::y%0Anext'
    """
    properties = {}
    if finding.file is not None:
        properties = {"file": repository_path(finding.file, environment), "line": str(finding.line)}
    properties["title"] = finding.title
    written = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    lines, length = [finding.text[:LONGEST]], len(finding.text)
    for detail in finding.details:
        length += len(detail) + 1
        if length > LONGEST:
            break
        lines.append(detail)
    return f"::{COMMANDS[finding.level]} {written}::{_message(chr(10).join([*lines, *also]))}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(printable(text)).replace(":", "%3A").replace(",", "%2C")
