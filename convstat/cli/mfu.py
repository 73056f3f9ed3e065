"""``convstat mfu``."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

RUN = "Run"


def complete_card(incomplete: str) -> list[str]:
    """Offer the cards of the table."""
    from convstat.grammar.cards import cards, spelled

    return [name for name in cards() if name.startswith(spelled(incomplete))]


@o.takes(f"input data {o.LANGUAGE} config batch timeout format output quiet verbose width ascii")
def mfu(
    arguments: o.Arguments = None,
    tokens_per_second: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Tokens in a second, of all GPUs together: 3200, 130k.",
            rich_help_panel=RUN,
            show_default=False,
        ),
    ] = None,
    samples_per_second: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Images or sequences in a second, of all GPUs together.",
            rich_help_panel=RUN,
            show_default=False,
        ),
    ] = None,
    step_time: Annotated[
        str | None,
        typer.Option(
            metavar="S",
            help="Seconds for a step on the input and batch that are counted: 0.755, 755ms.",
            rich_help_panel=RUN,
            show_default=False,
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="CARD",
            help="What it runs on: h100, a100, mi300x, tpu-v5e, rtx4090.",
            rich_help_panel=RUN,
            show_default=False,
            autocompletion=complete_card,
        ),
    ] = None,
    peak: Annotated[
        str | None,
        typer.Option(
            metavar="FLOPS",
            help="The peak of other hardware, for each GPU: 989TFLOPS.",
            rich_help_panel=RUN,
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="The type of the operands, whose peak is meant: bf16, fp16, tf32, fp32, fp8 or int8.",
            rich_help_panel=RUN,
            autocompletion=o.complete_words("bf16", "fp16", "tf32", "fp32", "fp8", "int8"),
        ),
    ] = "bf16",
    gpus: Annotated[int, typer.Option(metavar="N", help="How many of them.", rich_help_panel=RUN, min=1)] = 1,
    mode: Annotated[
        str,
        typer.Option(
            metavar="train|infer",
            help="Whether a step of training is counted, or a forward pass.",
            rich_help_panel=RUN,
            autocompletion=o.complete_words("train", "infer"),
        ),
    ] = "train",
    *,
    given: o.Shared,
) -> int:
    """Show the model-FLOPs utilisation by each way of counting FLOPs.

    The FLOPs of a step are counted by convstat, and predicted for each formula for language models. They are divided by
    the time of the step, and by the peak of the hardware for dense products.
    """
    from convstat.cli.session import Session
    from convstat.grammar import axes
    from convstat.targets import mfu as following
    from convstat.targets import resolve

    session = Session(given)
    named, assignments = axes.split(arguments or ())
    run = following.asked(
        on=on,
        peak=peak,
        dtype=dtype,
        gpus=gpus,
        mode=mode,
        tokens_per_second=tokens_per_second,
        samples_per_second=samples_per_second,
        step_time=step_time,
    )
    targets = [resolve(name) for name in session.targets(named)]
    requests = session.requests(named, axes.overrides(assignments, "mfu"))
    with session.writing([target.argument for target in targets], "mfu") as outputs:
        found = [following.mfu(requests.of(target), run, listener=session.listener) for target in targets]
        session.write(outputs, found)
    return ExitCode.OK
