"""``convstat hook``: what pre-commit runs on the files of a commit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

if TYPE_CHECKING:
    from convstat.config.project import Config
    from convstat.spec import Spec

HEAD = re.compile(r"^(?:convstat|'convstat'|\"convstat\")\s*:", re.MULTILINE)
"""What a spec has at the left edge, and other files have not."""


@o.takes("base quiet verbose")
def hook(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE...", help="YAML files; files that are not specs are ignored.", show_default=False),
    ] = None,
    *,
    given: o.Shared,
) -> int:
    """Check the specs among some files, for pre-commit.

    Every spec must be valid and satisfy its budgets, if it has any. Files that are not specs are ignored.
    """
    from convstat.cli.session import Session
    from convstat.commands import check
    from convstat.errors import Together
    from convstat.targets import resolve

    session = Session(given)
    judged: list[str] = []
    problems = Together()
    for name in files or ():
        if not _is_spec(name):
            session.detail(f"{name} is not a spec")
            continue
        with problems:
            spec = resolve(name).load()
            if _has_budget(spec, session.config, name):
                judged.append(name)
            else:
                spec.expand()
                session.detail(f"{name} is valid and has no budget")
    problems.tell()
    if not judged:
        return ExitCode.OK
    with session.writing(judged, "check") as outputs:
        result = check.check(judged, session.requests(judged, {}), base=given.base, listener=session.listener)
        session.write(outputs, [result])
    return result.exit_code


def _is_spec(name: str) -> bool:
    """Whether a file is a spec; one that cannot be read is for the reader to say so."""
    from convstat.spec.load import MAX_BYTES
    from convstat.text.reading import read_file

    if not name.endswith((".yaml", ".yml")):
        return False
    try:
        return HEAD.search(read_file(name, MAX_BYTES).decode("utf-8-sig", "replace")) is not None
    except (OSError, ValueError):
        return True


def _has_budget(spec: Spec, config: Config, name: str) -> bool:
    """Whether a budget of the spec itself or of the settings is for this file."""
    from convstat.grammar.patterns import pattern

    models = [entry.written.get("model") if isinstance(entry.written, Mapping) else None for entry in config.budgets]
    path = os.path.normpath(name)
    return bool(spec.budget) or any(
        model is None or pattern(str(model), "/").fullmatch(path) is not None for model in models
    )
