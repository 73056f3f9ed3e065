"""``convstat check``."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

LIMITS = "Budgets"

Limits: TypeAlias = list[str] | None


def _limit(metavar: str, help: str) -> Any:
    return typer.Option(metavar=metavar, help=f"{help} Repeatable.", rich_help_panel=LIMITS, show_default=False)


def _policy(help: str, *words: str) -> Any:
    complete = o.complete_words(*words)
    return typer.Option(metavar="|".join(words), help=help, rich_help_panel=LIMITS, autocompletion=complete)


@o.takes(
    f"base input data {o.LANGUAGE} config batch device timeout dtype weights activations fuse "
    "per picture edges worst_case format output quiet verbose width ascii"
)
def check(
    arguments: o.Arguments = None,
    max: Annotated[Limits, _limit("METRIC=LIMIT", "Maximum: --max params=5M.")] = None,
    min: Annotated[Limits, _limit("METRIC=LIMIT", "Minimum: --min macs=1M.")] = None,
    exact: Annotated[Limits, _limit("METRIC=VALUE", "Exact value: --exact params=4231976.")] = None,
    max_growth: Annotated[
        Limits,
        _limit(
            "METRIC=GROWTH",
            "Maximum growth over the base: --max-growth macs=2%, params=0, macs=10k.",
        ),
    ] = None,
    max_layer: Annotated[
        Limits,
        _limit(
            "[LAYERS:]METRIC=LIMIT",
            "Maximum for each layer: --max-layer 'head.**:params=1M'; LAYERS%TYPE for one type.",
        ),
    ] = None,
    missing_baseline: Annotated[
        str | None,
        _policy("How to treat relative budgets without a base (default: error).", "error", "skip"),
    ] = None,
    existing: Annotated[
        str | None,
        _policy(
            "How to treat limits that the base already exceeds by as much or more (default: error).", "error", "warn"
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings too.")] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 if a budget is exceeded; other exit codes are unchanged.")
    ] = False,
    *,
    given: o.Shared,
) -> int:
    """Check budgets; exit with 1 if one is exceeded.

    Budgets from the specs, the settings and the options all apply. Limits are inclusive.
    A limit with a sign is relative to the base: +2%, +10k, +0.
    """
    from convstat.cli.session import Session
    from convstat.commands import check as check_command
    from convstat.grammar import axes

    session = Session(given)
    targets, assignments = axes.split(arguments or ())
    overrides = axes.overrides(assignments, "check")
    session.refuse_saved(targets or session.config.models)
    with session.writing(targets, "check") as outputs:
        result = check_command.check(
            targets,
            session.requests(targets, overrides),
            max=max or (),
            min=min or (),
            exact=exact or (),
            max_growth=max_growth or (),
            max_layer=max_layer or (),
            base=given.base,
            missing_baseline=missing_baseline,
            existing=existing,
            listener=session.listener,
        )
        session.write(outputs, [result])
    code = ExitCode.VIOLATION if strict and result.count("warn") else result.exit_code
    if exit_zero and code == ExitCode.VIOLATION:
        # What could not be judged is not forgiven with what was exceeded.
        return ExitCode.INCOMPLETE if result.is_incomplete else ExitCode.OK
    return code
