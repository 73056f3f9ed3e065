"""``convstat compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode


@o.takes(
    f"input data {o.LANGUAGE} config batch device timeout dtype weights activations fuse memory language checkpoint "
    "counters per "
    "picture edges worst_case format output columns units label quiet verbose width ascii"
)
def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET|KEY=VALUES",
            help="What to compare, as for analyze; net.yaml#* is all variants. Sweeps: groups=1,2,4, c=16..64:16 or "
            "input=3x224x224,3x320x320; several sweeps give all combinations.",
            show_default=False,
            autocompletion=o.complete_target,
        ),
    ] = None,
    zip: Annotated[
        bool, typer.Option("--zip", help="Pair the values of several sweeps instead of combining them.")
    ] = False,
    *,
    given: o.Shared,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 if any point is invalid.")] = False,
) -> int:
    """Compare models; sweep parameters.

    The first row is the base. An invalid point is a row with the reason; if all are invalid, the exit code is 2.
    """
    from convstat.cli.session import Session
    from convstat.commands import compare as compare_command
    from convstat.grammar import axes

    session = Session(given)
    targets, assignments = axes.split(arguments or ())
    session.refuse_saved(targets or session.config.models)
    with session.writing(targets, "comparison") as outputs:
        comparison = compare_command.compare(
            targets,
            assignments,
            session.requests(targets, {}),
            zip=zip,
            counters=given.counters or "none",
            listener=session.listener,
        )
        session.write(outputs, [comparison])
    # Without one point that can be built, nothing was compared.
    failed = comparison.base is None or (strict and comparison.invalid)
    return ExitCode.USAGE if failed else ExitCode.OK
