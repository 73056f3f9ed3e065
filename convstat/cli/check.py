"""``convstat check``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

LIMITS = "Budgets"


def check(
    arguments: o.Arguments = None,
    max: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=LIMIT", help="At most: --max params=5M. Repeatable.", rich_help_panel=LIMITS,
            show_default=False,
        ),
    ] = None,
    min: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=LIMIT", help="At least: --min macs=1M. Repeatable.", rich_help_panel=LIMITS,
            show_default=False,
        ),
    ] = None,
    exact: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE", help="Exactly: --exact params=4231976. Repeatable.", rich_help_panel=LIMITS,
            show_default=False,
        ),
    ] = None,
    max_growth: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=GROWTH", help="At most so much more than the base: --max-growth macs=2%, params=0, "
            "macs=10k. Repeatable.", rich_help_panel=LIMITS, show_default=False,
        ),
    ] = None,
    max_layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[LAYERS:]METRIC=LIMIT", help="At most for each layer: --max-layer 'head.**:params=1M'; "
            "LAYERS%TYPE for one type. Repeatable.", rich_help_panel=LIMITS, show_default=False,
        ),
    ] = None,
    base: o.Base = None,
    missing_baseline: Annotated[
        str | None,
        typer.Option(
            metavar="error|skip", help="What becomes of a relative budget without a base (default: error).",
            rich_help_panel=LIMITS, autocompletion=o.complete_words("error", "skip"),
        ),
    ] = None,
    existing: Annotated[
        str | None,
        typer.Option(
            metavar="error|warn", help="What becomes of a limit that the base exceeded already, and no less "
            "(default: error).", rich_help_panel=LIMITS, autocompletion=o.complete_words("error", "warn"),
        ),
    ] = None,
    strict: o.StrictCheck = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 where a budget is exceeded; other codes stay.")
    ] = False,
    input: o.Input = None,
    data: o.Data = None,
    config: o.Config = None,
    batch: o.Batch = None,
    device: o.Device = None,
    timeout: o.Timeout = None,
    dtype: o.Dtype = None,
    per: o.Per = None,
    format: o.Format = None,
    output: o.Output = None,
    quiet: o.Quiet = 0,
    verbose: o.Verbose = 0,
    width: o.Width = None,
    ascii: o.Ascii = False,
) -> int:  # fmt: skip
    """Judge budgets; exit with 1 if exceeded.

    Those of the specs, of the settings and of the options all apply. Limits are inclusive.
    A limit with a sign is relative to the base: +2%, +10k, +0.
    """
    from convstat.cli.session import Session
    from convstat.commands import check as check_command
    from convstat.grammar import axes

    session = Session(format=format, output=output, width=width, ascii=ascii, quiet=quiet, verbose=verbose)
    targets, assignments = axes.split(arguments or ())
    overrides = axes.overrides(assignments, "check")
    session.refuse_saved(targets or session.config.models, batch=batch, dtype=dtype, per=per)
    with session.writing(targets, "check") as (outputs, _):
        result = check_command.check(
            targets,
            session.requests(targets, overrides, config=config).overrides,
            max=max or (),
            min=min or (),
            exact=exact or (),
            max_growth=max_growth or (),
            max_layer=max_layer or (),
            base=base,
            missing_baseline=missing_baseline,
            existing=existing,
            inputs=o.with_data(input, data),
            batch=batch,
            dtype=dtype,
            per=per,
            device=device,
            config=session.config,
            warn=session.warn,
        )
        session.write(outputs, [result])
    code = ExitCode.VIOLATION if strict and result.count("warn") else result.exit_code
    if exit_zero and code == ExitCode.VIOLATION:
        # What could not be judged is not forgiven with what was exceeded.
        return ExitCode.INCOMPLETE if result.is_incomplete else ExitCode.OK
    return code
