"""The commands, in the order in which ``--help`` shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from convstat.cli.analyze import analyze
from convstat.cli.check import check
from convstat.cli.compare import compare
from convstat.cli.inspect import expand, render
from convstat.cli.listings import list_
from convstat.cli.options import EXIT_CODES, examples
from convstat.cli.plain import PlainCommand, PlainGroup
from convstat.cli.project import docs, init, schema

COUNT = "Count"
LOOK = "Look closer"
PROJECT = "Project"

app = typer.Typer(
    name="convstat",
    cls=PlainGroup,
    help="What a neural network costs: exact params and MACs, beside ptflops and torchsummary, "
    "every difference explained.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from convstat import __version__
        from convstat.render.console import standard_output

        standard_output().write(f"convstat {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version.", show_default=False),
    ] = False,
) -> None:
    """Take what stands before the command."""


app.command(
    cls=PlainCommand,
    rich_help_panel=COUNT,
    epilog=examples(
        "convstat analyze configs/resnet50.yaml --depth 1",
        "convstat analyze 'Conv2d(64, 128, kernel_size=3, groups=4)' -i 64x56x56",
        "convstat analyze net.yaml width=32 --counters none -f json",
    ),
)(analyze)
app.command(
    cls=PlainCommand,
    rich_help_panel=COUNT,
    epilog=examples(
        "convstat compare groups=1,2,4",
        "convstat compare net.yaml width=16..64:16 size=128,224",
        "convstat compare net.yaml 'net.yaml#wide' -o comparison.md",
    ),
)(compare)
app.command(
    cls=PlainCommand,
    rich_help_panel=COUNT,
    epilog=examples(
        "convstat check net.yaml --max params=5M --max macs=600M",
        "convstat check        (what [tool.convstat] of pyproject.toml says)",
    ),
)(check)
app.command(cls=PlainCommand, rich_help_panel=LOOK, epilog=examples("convstat expand net.yaml width=32"))(expand)
app.command(
    cls=PlainCommand, rich_help_panel=LOOK, epilog=examples("convstat render report.json -f markdown --top 10")
)(render)
app.command("list", cls=PlainCommand, rich_help_panel=LOOK, epilog=examples("convstat list layers"))(list_)
app.command(cls=PlainCommand, rich_help_panel=LOOK, epilog=examples("convstat docs spec"))(docs)
app.command(cls=PlainCommand, rich_help_panel=PROJECT, epilog=examples("convstat init net.yaml"))(init)
app.command(cls=PlainCommand, rich_help_panel=PROJECT, epilog=examples("convstat schema spec > spec.schema.json"))(
    schema
)
