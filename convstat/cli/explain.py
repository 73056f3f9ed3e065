"""``convstat explain`` and ``convstat identify``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "-s",
        "--set",
        metavar="KEY=VALUE",
        help="Set a parameter, like a KEY=VALUE argument. Repeatable.",
        rich_help_panel=o.WHAT,
        show_default=False,
    ),
]


@o.takes(
    f"input data {o.LANGUAGE} config batch device dtype weights activations fuse "
    "counters timeout format output quiet verbose width ascii"
)
def explain(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET [LAYER] [KEY=VALUE]",
            help="A target as for analyze, and the name of a layer or a pattern: conv1, 'layer1.**'. The name can be "
            "omitted for a model of one layer.",
            show_default=False,
            autocompletion=o.complete_target,
        ),
    ] = None,
    set: Settings = None,
    *,
    given: o.Shared,
) -> int:
    """Show how each counter counts a layer.

    Shows the formula with its values, and the count of each counter (default: all). Counts are predicted, not run.
    """
    from convstat.cli.session import Session
    from convstat.commands import explain
    from convstat.errors import UsageError
    from convstat.grammar import axes
    from convstat.targets import analysis, resolve

    session = Session(given)
    named, assignments = axes.split(arguments or ())
    if not named:
        session.targets(named)
        raise UsageError("name the target and the layer", help="convstat explain TARGET LAYER")
    if len(named) > 2:
        raise UsageError(
            f"explain takes one target and one layer, not {len(named)} arguments",
            help="for several layers, use a pattern: 'layer1.**'",
        )
    target, pattern = named[0], named[1] if len(named) > 1 else None
    overrides = axes.overrides((*assignments, *(set or ())), "explain")
    request = session.requests(named, overrides).of(resolve(target))
    with session.writing([target], "explanation") as outputs:
        counters = given.counters or analysis.EVERY_COUNTER
        explanation = explain.explain(request, pattern, counters=counters, listener=session.listener)
        session.write(outputs, [explanation])
    return ExitCode.OK


@o.takes(
    f"input {o.LANGUAGE} config batch device dtype weights activations fuse "
    "counters timeout per format output quiet verbose width ascii"
)
def identify(
    number: Annotated[
        str,
        typer.Argument(
            metavar="NUMBER",
            help="The number as published, with all its digits: 4.13G, 2.93e8, '8.27 GFLOPs', '25.56M params', '81.5 "
            "kMACs/pixel', 97.49MiB.",
            show_default=False,
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET [KEY=VALUE]",
            help="The model that the number is about, as for analyze.",
            show_default=False,
            autocompletion=o.complete_target,
        ),
    ] = None,
    set: Settings = None,
    *,
    given: o.Shared,
) -> int:
    """Find the counter behind a number.

    Also finds the quantity, unit and rounding. The figures are predicted; no counter is run. If nothing matches, the
    exit code is 1.
    """
    from convstat.cli.session import Session
    from convstat.commands import identify
    from convstat.grammar import axes
    from convstat.targets import analysis

    session = Session(given)
    named, assignments = axes.split(arguments or ())
    identify.read(number)
    target = session.target(named, "identify")
    overrides = axes.overrides((*assignments, *(set or ())), "identify")
    request = session.requests(named, overrides).of(target)
    with session.writing([target.argument], "identification") as outputs:
        counters = given.counters or analysis.EVERY_COUNTER
        found = identify.identify(number, request, counters=counters, listener=session.listener)
        session.write(outputs, [found])
    return ExitCode.OK if found.matches else ExitCode.VIOLATION
