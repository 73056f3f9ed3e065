"""``convstat analyze``."""

from __future__ import annotations

from convstat.cli import options as o
from convstat.errors import ExitCode


def analyze(
    arguments: o.Arguments = None,
    input: o.Input = None,
    data: o.Data = None,
    config: o.Config = None,
    batch: o.Batch = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    counters: o.Counters = None,
    predict: o.Predict = False,
    as_: o.As = None,
    timeout: o.Timeout = None,
    in_process: o.InProcess = False,
    per: o.Per = None,
    mode: o.Mode = None,
    format: o.Format = None,
    output: o.Output = None,
    depth: o.Depth = None,
    flat: o.Flat = False,
    sort: o.Sort = None,
    top: o.Top = None,
    strict: o.StrictAnalyze = False,
    quiet: o.Quiet = 0,
    verbose: o.Verbose = 0,
    width: o.Width = None,
    ascii: o.Ascii = False,
) -> int:
    """Count models; explain every difference.

    Other counters really run beside, and each part of their difference gets a name.
    """
    from convstat.cli.session import Session
    from convstat.commands import convention
    from convstat.grammar import axes
    from convstat.targets import analysis, resolve

    session = Session(
        format=format, output=output, width=width, ascii=ascii, depth=depth, flat=flat, sort=sort, top=top,
        per=per, quiet=quiet, verbose=verbose,
    )  # fmt: skip
    named, assignments = axes.split(arguments or ())
    overrides = axes.overrides(assignments, "analyze")
    targets = session.targets(named)
    requests = session.requests(
        named, overrides, o.with_data(input, data), batch=batch, dtype=dtype, per=per, device=device, mode=mode,
        config=config,
    )  # fmt: skip
    session.refuse_saved(
        targets, batch=batch, device=device, dtype=dtype, counters=counters, predict=predict or None,
        timeout=timeout, **{"in-process": in_process or None}, per=per, mode=mode,
    )  # fmt: skip
    if as_ is not None:
        _refuse_beside_as(
            counters=counters, predict=predict, in_process=in_process, strict=strict, mode=mode == "train"
        )
    elif counters is None and session.config.counters:
        from convstat.counters import select

        with session.setting("counters"):
            select(session.config.counters)
    with session.writing(targets, "report") as (outputs, progress):
        asked = [requests.of(resolve(target)) for target in targets]
        if as_ is not None:
            reports = [convention.express(request, as_, progress=progress, warn=session.warn) for request in asked]
        else:
            chosen = session.pick(counters, session.config.counters, analysis.DEFAULT_COUNTERS)
            reports = [
                analysis.analyze(
                    request,
                    chosen,
                    predict=predict,
                    in_process=in_process,
                    progress=progress,
                    warn=session.warn,
                )
                for request in asked
            ]
        session.environment(reports)
        progress.clear()
        session.write(outputs, reports)
    if strict and not all(report.is_explained for report in reports):
        return ExitCode.VIOLATION
    if strict and any(report.status == "incomplete" for report in reports):
        return ExitCode.INCOMPLETE
    return ExitCode.OK


def _refuse_beside_as(**given: object) -> None:
    """Refuse what is about several counters where one is to be shown alone."""
    from convstat.errors import UsageError

    reasons = {
        "counters": "it shows one convention, and the others differ from convstat's",
        "predict": "what it shows is predicted already",
        "in_process": "no counter is run",
        "strict": "no counter is run, so none can be reconciled",
        "mode": "other counters count a forward pass alone",
    }
    for name, value in given.items():
        if value:
            option = "--mode train" if name == "mode" else f"--{name.replace('_', '-')}"
            raise UsageError(f"--as goes without {option}", help=reasons[name])
