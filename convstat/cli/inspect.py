"""``convstat expand`` and ``convstat render``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode


def expand(
    arguments: o.Arguments = None,
    input: o.Input = None,
    all: Annotated[bool, typer.Option("--all", help="Write arguments that are torch's defaults too.")] = False,
) -> int:
    """Write what a spec stands for.

    Every block, repeat and expression is worked out, every edge named. It is a spec again.
    """
    from convstat.cli.session import Session, kind_in_words
    from convstat.errors import UsageError
    from convstat.grammar import axes
    from convstat.render.console import standard_output
    from convstat.render.formats.expansion import write_spec
    from convstat.targets import analysis

    session = Session()
    named, assignments = axes.split(arguments or ())
    target = session.target(named, "expand")
    if target.kind not in ("spec", "inline"):
        raise UsageError(f"{target.argument} is {kind_in_words(target.kind)}, and only a spec can be expanded")
    spec = target.load()
    request = session.requests(named, axes.overrides(assignments, "expand"), input).of(target)
    graph = analysis.graph_of(replace(request, batch=1, spec=spec))
    source = " ".join([target.argument, *assignments])
    standard_output().write(
        write_spec(graph, source=source, defaults=all, note=spec.note, budget=[limit for limit, _ in spec.budget])
    )
    return ExitCode.OK


def render(
    reports: Annotated[
        list[str], typer.Argument(metavar="REPORT...", help="Reports that were saved as JSON.", show_default=False)
    ],
    format: o.Format = None,
    output: o.Output = None,
    depth: o.Depth = None,
    flat: o.Flat = False,
    sort: o.Sort = None,
    top: o.Top = None,
    quiet: o.Quiet = 0,
    verbose: o.Verbose = 0,
    width: o.Width = None,
    ascii: o.Ascii = False,
) -> int:
    """Show saved reports again, in any format.

    Nothing is counted or run.
    """
    from convstat.cli.session import Session
    from convstat.targets import analysis

    session = Session(
        format=format, output=output, width=width, ascii=ascii, depth=depth, flat=flat, sort=sort, top=top,
        quiet=quiet, verbose=verbose, needs_settings=False,
    )  # fmt: skip
    with session.writing(reports, "report") as (outputs, _):
        session.write(outputs, [analysis.load_report(path) for path in reports])
    return ExitCode.OK
