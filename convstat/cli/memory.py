"""``convstat memory``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

RUN = "Run"


@o.takes(f"input data {o.LANGUAGE} config batch timeout dtype format output sort top quiet verbose width ascii")
def memory(
    arguments: o.Arguments = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="infer|train",
            help="A forward pass without gradients, or a step of training.",
            rich_help_panel=RUN,
            autocompletion=o.complete_words("infer", "train"),
        ),
    ] = "infer",
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="none, sgd, momentum, adam, adamw, lion or adafactor; implies --mode train.",
            rich_help_panel=RUN,
            show_default=False,
        ),
    ] = None,
    amp: Annotated[
        str | None,
        typer.Option(
            metavar="float16|bfloat16",
            help="Run the forward pass under autocast.",
            rich_help_panel=RUN,
            show_default=False,
            autocompletion=o.complete_words("float16", "bfloat16"),
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="Checkpoint the activations of a module, or of all that match a pattern: 'layers.*'. Repeatable.",
            rich_help_panel=RUN,
            show_default=False,
        ),
    ] = None,
    grad_accumulation: Annotated[
        int,
        typer.Option(metavar="N", help="Accumulate gradients over N batches.", rich_help_panel=RUN, min=1),
    ] = 1,
    device: Annotated[
        str,
        typer.Option(
            metavar="cuda|cpu",
            help="The device whose kernels and optimizers are meant.",
            rich_help_panel=RUN,
            autocompletion=o.complete_words("cuda", "cpu"),
        ),
    ] = "cuda",
    target: Annotated[
        str | None,
        typer.Option(
            metavar="tflm",
            help="Plan the arena of a microcontroller instead: tflm is TensorFlow Lite Micro, int8.",
            rich_help_panel=RUN,
            show_default=False,
            autocompletion=o.complete_words("tflm"),
        ),
    ] = None,
    fits: Annotated[
        str | None,
        typer.Option(
            metavar="24GiB|CARD",
            help="Find the largest batch that fits into so much memory, or onto a card: h100, rtx4090.",
            rich_help_panel=RUN,
            show_default=False,
        ),
    ] = None,
    over: Annotated[
        str,
        typer.Option(metavar="NAME", help="With --fits, vary a parameter instead of the batch.", rich_help_panel=RUN),
    ] = "batch",
    counters: Annotated[
        str | None,
        typer.Option(
            metavar="memtracker",
            help="Run torch's own MemTracker too, and explain where it finds another peak.",
            rich_help_panel=RUN,
            show_default=False,
            autocompletion=o.complete_words("memtracker"),
        ),
    ] = None,
    *,
    given: o.Shared,
) -> int:
    """Show the peak memory of a model, in inference or training.

    Nothing is allocated: the model runs on meta tensors, and the lifetime of every storage is followed. If nothing fits
    into what --fits names, the exit code is 1. With --target, it is the arena and the flash of a microcontroller.
    """
    from convstat.cli.session import Session
    from convstat.commands.memory import follow
    from convstat.grammar import axes
    from convstat.targets import resolve
    from convstat.targets.memory import peers_of, run_of

    session = Session(given)
    named, assignments = axes.split(arguments or ())
    if target is not None:
        from convstat.commands.arena import arena
        from convstat.targets.arena import check_target

        others = {
            "--mode": mode != "infer",
            "--optimizer": optimizer is not None,
            "--amp": amp is not None,
            "--checkpoint": bool(checkpoint),
            "--grad-accumulation": grad_accumulation != 1,
            "--device": device != "cuda",
            "--fits": fits is not None,
            "--over": over != "batch",
        }
        check_target(target, [name for name, is_given in others.items() if is_given])
        requests = session.requests(named, axes.overrides(assignments, "memory"))
        chosen = [resolve(name) for name in session.targets(named)]
        with session.writing([one.argument for one in chosen], "arena") as outputs:
            session.write(outputs, [arena(requests.of(one), listener=session.listener) for one in chosen])
        return ExitCode.OK
    run = run_of(mode, device, optimizer, grad_accumulation, amp, tuple(checkpoint or ()))
    peers = peers_of(counters)
    targets = [resolve(name) for name in session.targets(named)]
    overrides = axes.overrides(assignments, "memory")
    requests = session.requests(named, overrides)
    with session.writing([target.argument for target in targets], "memory") as outputs:
        found = [follow(requests.of(target), run, peers, fits, over, listener=session.listener) for target in targets]
        session.write(outputs, found)
    nothing_fits = any(one.fit is not None and one.fit.largest is None for one in found)
    return ExitCode.VIOLATION if nothing_fits else ExitCode.OK
