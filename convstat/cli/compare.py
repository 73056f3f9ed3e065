"""``convstat compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode


def compare(
    arguments: o.Sweeps = None,
    zip: Annotated[
        bool, typer.Option("--zip", help="Pair the values of several sweeps instead of combining them.")
    ] = False,
    input: o.Input = None,
    data: o.Data = None,
    config: o.Config = None,
    batch: o.Batch = None,
    device: o.Device = None,
    timeout: o.Timeout = None,
    dtype: o.Dtype = None,
    counters: o.Counters = None,
    per: o.Per = None,
    format: o.Format = None,
    output: o.Output = None,
    strict: o.StrictCompare = False,
    quiet: o.Quiet = 0,
    verbose: o.Verbose = 0,
    width: o.Width = None,
    ascii: o.Ascii = False,
) -> int:
    """Sweep parameters; set models side by side.

    The first row is the base. A point that cannot be built is a row with the reason; if none can, the exit code is 2.
    """
    from convstat.cli.session import Session
    from convstat.commands import compare as compare_command
    from convstat.grammar import axes

    session = Session(format=format, output=output, width=width, ascii=ascii, per=per, quiet=quiet, verbose=verbose)
    targets, assignments = axes.split(arguments or ())
    session.refuse_saved(targets or session.config.models, batch=batch, dtype=dtype, per=per)
    with session.writing(targets, "comparison") as (outputs, progress):
        comparison = compare_command.compare(
            targets,
            assignments,
            zip=zip,
            inputs=o.with_data(input, data),
            config_file=config,
            batch=batch,
            per=per,
            dtype=dtype,
            device=device,
            counters=counters or "none",
            config=session.config,
            warn=session.warn,
            progress=progress,
        )
        progress.clear()
        session.write(outputs, [comparison])
    # Without one point that can be built, nothing was compared.
    failed = comparison.base is None or (strict and comparison.invalid)
    return ExitCode.USAGE if failed else ExitCode.OK
