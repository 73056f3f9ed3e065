"""The commands, in the order in which ``--help`` shows them.

Typer prepares every option of every command that it is given, so a run prepares only the command that it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Annotated, NamedTuple

import typer

from convstat.cli.options import EXIT_CODES, examples
from convstat.cli.plain import PlainCommand, PlainGroup

COUNT = "Count"
LOOK = "Inspect"
PROJECT = "Project"


class Entry(NamedTuple):
    """One command: where its function is, the panel of the help that it is in, and examples."""

    place: str
    panel: str
    examples: tuple[str, ...]


COMMANDS: Mapping[str, Entry] = {
    "analyze": Entry(
        "analyze:analyze",
        COUNT,
        (
            "convstat analyze configs/resnet50.yaml --depth 1",
            "convstat analyze 'Conv2d(64, 128, kernel_size=3, groups=4)' -i 64x56x56",
            "convstat analyze net.yaml width=32 --counters none -f json",
        ),
    ),
    "compare": Entry(
        "compare:compare",
        COUNT,
        (
            "convstat compare groups=1,2,4",
            "convstat compare net.yaml width=16..64:16 size=128,224",
            "convstat compare net.yaml 'net.yaml#wide' -o comparison.md",
        ),
    ),
    "check": Entry(
        "check:check",
        COUNT,
        (
            "convstat check net.yaml --max params=5M --max macs=600M",
            "convstat check net.yaml --base origin/main --max-growth macs=2%",
            "convstat check        (the models in pyproject.toml)",
        ),
    ),
    "explain": Entry(
        "explain:explain",
        LOOK,
        (
            "convstat explain torchvision/resnet50 layer1.0.conv2",
            "convstat explain 'Conv2d(64, 128, kernel_size=3, groups=4)' -i 64x56x56",
            "convstat explain net.yaml 'stage.*' width=32 --counters ptflops,thop",
        ),
    ),
    "formula": Entry(
        "formula:formula",
        LOOK,
        (
            "convstat formula configs/resnet50.yaml --depth 2",
            "convstat formula 'Conv2d(64, 128, kernel_size=3, groups=4)' -i 64x56x56 -f latex",
            "convstat formula configs/mobilenet_v1.yaml --in H,W -f python",
            "convstat formula ConvTranspose2d        (the general formula)",
            "convstat formula --ratio DepthwiseSeparableConv Conv2d",
        ),
    ),
    "identify": Entry(
        "explain:identify",
        LOOK,
        ("convstat identify 4.13G torchvision/resnet50", "convstat identify '25.56M params' configs/resnet50.yaml"),
    ),
    "advise": Entry(
        "advise:advise",
        LOOK,
        (
            "convstat advise configs/mobilenet_v2.yaml#dense",
            "convstat advise configs/resnet50.yaml --budget macs=2G",
            "convstat advise torchvision/resnet18 --top 5 -f markdown",
        ),
    ),
    "memory": Entry(
        "memory:memory",
        COUNT,
        (
            "convstat memory torchvision/resnet50 --batch 32 --optimizer adamw --amp bfloat16",
            "convstat memory net.yaml --fits 24GiB --optimizer sgd",
            "convstat memory net.yaml --fits rtx4090 --over H",
            "convstat memory net.yaml --target tflm",
        ),
    ),
    "mfu": Entry(
        "mfu:mfu",
        COUNT,
        (
            "convstat mfu transformers/gpt2 --tokens 1024 --tokens-per-second 130k --on a100",
            "convstat mfu train.py:build --step-time 755ms --batch 100 --on h100 --gpus 8",
            "convstat mfu torchvision/resnet50 --samples-per-second 2500 --on a100 --dtype tf32",
        ),
    ),
    "diff": Entry(
        "diff:diff",
        COUNT,
        (
            "convstat diff main:configs/net.yaml configs/net.yaml",
            "convstat diff report.json torchvision/resnet50",
            "convstat diff main        (all specs that changed since)",
        ),
    ),
    "expand": Entry("inspect:expand", LOOK, ("convstat expand net.yaml width=32",)),
    "render": Entry("inspect:render", LOOK, ("convstat render report.json -f markdown --top 10",)),
    "list": Entry("listings:list_", LOOK, ("convstat list layers", "convstat list zoo resnet")),
    "docs": Entry("project:docs", LOOK, ("convstat docs spec",)),
    "hook": Entry("hook:hook", PROJECT, ("convstat hook configs/*.yaml    (as run by pre-commit)",)),
    "init": Entry("project:init", PROJECT, ("convstat init net.yaml", "convstat init --from resnet50")),
    "baseline": Entry(
        "baseline:baseline",
        PROJECT,
        ("convstat baseline save torchvision/resnet18", "convstat baseline show", "convstat baseline update"),
    ),
    "config": Entry("config:config", PROJECT, ("convstat config show",)),
    "schema": Entry("project:schema", PROJECT, ("convstat schema spec > spec.schema.json",)),
}
"""Every command by its name."""


def _version(asked: bool) -> None:
    if asked:
        from convstat import __version__
        from convstat.render.console import standard_output

        standard_output().write(f"convstat {__version__}\n")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version.", show_default=False),
    ] = False,
) -> None:
    """Take what stands before the command."""


def make_app(names: Iterable[str] = COMMANDS, *, styled: bool = True) -> typer.Typer:
    """Make the application with some of its commands; without ``styled``, its help has no escape sequences."""
    app = typer.Typer(
        name="convstat",
        cls=PlainGroup,
        help="Count the params and MACs of a neural network exactly, and explain why ptflops, torchsummary and other "
        "counters differ.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if styled else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in names:
        entry = COMMANDS[name]
        module, _, function = entry.place.partition(":")
        command = getattr(import_module(f"convstat.cli.{module}"), function)
        app.command(name, cls=PlainCommand, rich_help_panel=entry.panel, epilog=examples(*entry.examples))(command)
    return app


def app_for(arguments: Sequence[str], environment: Mapping[str, str]) -> typer.Typer:
    """Make the application that these arguments need: one command, or all where help or completion may want them."""
    first = arguments[0] if arguments else ""
    one = first in COMMANDS and "_CONVSTAT_COMPLETE" not in environment
    styled = not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
    return make_app([first] if one else COMMANDS, styled=styled)
