"""``convstat analyze``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode


@o.takes(
    f"input data {o.LANGUAGE} config batch device dtype weights activations fuse receptive_field memory language "
    "checkpoint counters "
    "predict as_ timeout in_process per picture edges worst_case mode "
    "format output columns units label score depth flat sort top quiet verbose width ascii"
)
def analyze(
    arguments: o.Arguments = None,
    *,
    given: o.Shared,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 1 if a counter is not reconciled: a difference is unexplained, or the counter gives no "
            "answer and this was not predicted (failed, skipped, not installed); with 4 if incomplete.",
        ),
    ] = False,
) -> int:
    """Count models; explain every difference.

    Runs other counters on the same model, and attributes each part of their difference to a named cause.
    """
    from convstat.cli.session import Session
    from convstat.commands import convention
    from convstat.grammar import axes
    from convstat.targets import analysis, resolve

    session = Session(given)
    named, assignments = axes.split(arguments or ())
    overrides = axes.overrides(assignments, "analyze")
    targets = session.targets(named)
    requests = session.requests(named, overrides)
    session.refuse_saved(
        targets,
        "batch device dtype weights activations fuse receptive_field memory language checkpoint counters predict "
        f"timeout in_process per picture edges worst_case mode {o.LANGUAGE}",
    )
    if given.as_ is not None:
        _refuse_beside_as(given, strict=strict)
    elif given.counters is None and session.config.counters:
        from convstat.counters import select

        with session.setting("counters"):
            select(session.config.counters)
    with session.writing(targets, "report") as outputs:
        # A form has counters and an input of its own.
        requests = requests.for_form(outputs.inputs)
        asked = [requests.of(resolve(target)) for target in targets]
        if given.as_ is not None:
            reports = [convention.express(request, given.as_, listener=session.listener) for request in asked]
        else:
            chosen = session.pick(given.counters, outputs.counters, session.config.counters, analysis.DEFAULT_COUNTERS)
            predict = given.predict or chosen == outputs.counters
            reports = [
                analysis.analyze(
                    request, chosen, predict=predict, in_process=given.in_process, listener=session.listener
                )
                for request in asked
            ]
        session.environment(reports)
        session.write(outputs, reports)
    if strict and not all(report.is_explained for report in reports):
        return ExitCode.VIOLATION
    if strict and any(report.status == "incomplete" for report in reports):
        return ExitCode.INCOMPLETE
    return ExitCode.OK


def _refuse_beside_as(given: o.Shared, *, strict: bool) -> None:
    """Refuse what is about several counters where one is to be shown alone."""
    from convstat.errors import UsageError

    for is_given, option, reason in (
        (given.counters, "--counters", "it shows one convention, and other counters are compared with convstat's"),
        (given.predict, "--predict", "its figures are already predicted"),
        (given.in_process, "--in-process", "no counter is run"),
        (given.picture, "--picture", "other counters count one call of a model"),
        (given.worst_case, "--worst-case", "other counters count one call of a model"),
        (strict, "--strict", "no counter is run, so none can be reconciled"),
        (given.mode == "train", "--mode train", "other counters count only a forward pass"),
    ):
        if is_given:
            raise UsageError(f"--as cannot be combined with {option}", help=reason)
