"""``convstat formula``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

if TYPE_CHECKING:
    from convstat.cli.session import Session


def complete(incomplete: str) -> list[str]:
    """Offer the kinds of layers and the blocks, then targets."""
    from convstat.layers import NAMES
    from convstat.spec import shipped

    kinds = [name for name in (*NAMES, *shipped.NAMES) if incomplete and name.startswith(incomplete)]
    return [*kinds, *o.complete_target(incomplete)]


@o.takes(
    f"input {o.LANGUAGE} config batch device timeout dtype format output depth flat sort top quiet verbose width ascii"
)
def formula(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET|LAYER [KEY=VALUE]",
            help="A target as for analyze, except saved reports; or a layer or block name without parentheses: "
            "Conv2d, LSTM, ACBlock.",
            show_default=False,
            autocompletion=complete,
        ),
    ] = None,
    in_: Annotated[
        list[str] | None,
        typer.Option(
            "--in",
            metavar="LETTERS",
            help="What stays a letter in the closed forms, comma-separated: variables of the spec, sizes of the input "
            "(H, W, L, C), the batch (N). Everything else is a number (default: the variables of a spec, and N).",
            rich_help_panel=o.WHAT,
            show_default=False,
        ),
    ] = None,
    ratio: Annotated[
        bool,
        typer.Option(
            "--ratio",
            help="The ratio of two layers, blocks or specs, in letters and in numbers. In a layer, names are letters: "
            "'DepthwiseSeparableConv(N, K)' 'Conv2d(M, N, K)'; KEY=VALUE sets one for the numbers, -i the input.",
            rich_help_panel=o.WHAT,
        ),
    ] = False,
    *,
    given: o.Shared,
) -> int:
    """Show the formulas of a network or a layer kind.

    Shows MACs and params in symbols and with values, and of a spec also as closed forms in its free variables.
    For a layer kind without sizes, derives the general formula.
    """
    from convstat.cli.session import Session
    from convstat.commands.kind_formula import kind_formula, name_of, refuse_unknown
    from convstat.errors import UsageError
    from convstat.grammar import axes

    session = Session(given)
    named, assignments = axes.split(arguments or ())
    if ratio:
        return _ratio(session, named, assignments, in_)
    if len(named) > 1:
        raise UsageError(f"formula takes one target or one kind of layer, not {len(named)}: {', '.join(named)}")
    if named and (kind := name_of(named[0])) is not None:
        found = kind_formula(kind)
        options = session.given_of("input batch device dtype depth flat sort top")
        _refuse_sizes(kind, assignments, [*options, *(["--in"] if in_ else [])], found.use)
        with session.writing((), "formula") as outputs:
            session.write(outputs, [found])
        return ExitCode.OK
    if named:
        refuse_unknown(named[0])
    target = session.target(named, "formula")
    overrides = axes.overrides(assignments, "formula")
    requests = session.requests(named, overrides)
    with session.writing([target.argument], "formula") as outputs:
        from convstat.commands.closed import Asked
        from convstat.commands.formula import network

        request = requests.of(target)
        names = tuple(name.strip() for text in in_ for name in text.split(",") if name.strip()) if in_ else None
        asked = Asked(names, batch_is_given=given.batch is not None or request.batch != 1, always=outputs.has("python"))
        result = network(request, asked=asked, listener=session.listener)
        session.write(outputs, [result])
    return ExitCode.OK


def _ratio(session: Session, named: Sequence[str], assignments: Sequence[str], in_: list[str] | None) -> int:
    """Show the ratio of two targets."""
    from convstat.commands.ratio import ratio
    from convstat.errors import UsageError
    from convstat.grammar import axes

    given = session.given_of("batch config device dtype depth flat sort top")
    if unfit := [*given, *(["--in"] if in_ else [])]:
        raise UsageError(f"--ratio takes no {unfit[0]}", help="it is of one sample, and all sizes are letters")
    values = axes.overrides(assignments, "formula --ratio")
    with session.writing((), "formula") as outputs:
        session.write(outputs, [ratio(named, values, session.given.input or (), listener=session.listener)])
    return ExitCode.OK


def _refuse_sizes(kind: str, assignments: Sequence[object], options: Sequence[str], use: str) -> None:
    """Refuse sizes of a kind of layer in general."""
    from convstat.errors import UsageError

    if not assignments and not options:
        return
    what = "values" if assignments else options[0]
    raise UsageError(
        f"{kind} without parentheses is the layer in general: it takes no {what}",
        help=f"with sizes: {use}" if use else "with sizes, it is a layer of a spec: see convstat docs spec",
    )
