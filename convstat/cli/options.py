"""The options that several commands share, each written once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

WHAT = "Input and run"
SHOW = "Output"

EXIT_CODES = (
    "Exit codes: 0 all is well · "
    "1 a budget is exceeded, nothing is found, or with --strict a counter is not reconciled · "
    "2 a mistake in the arguments, the spec or the settings · 3 a fault of convstat · "
    "4 incomplete, there is no verdict · 130 interrupted"
)


def examples(*lines: str) -> str:
    """Make the text below a command's options: examples, one in a paragraph, and the exit codes."""
    return "\n\n".join(["Examples:", *lines, EXIT_CODES])


def _allow(context: typer.Context, seconds: int | None) -> int | None:
    """Let what is not convstat's own take so long."""
    from convstat.errors import UsageError
    from convstat.patches.time_limit import allow

    if context.resilient_parsing:
        return seconds
    if seconds is not None and seconds < 0:
        raise UsageError(f"--timeout must not be negative: {seconds}", help="0 sets no limit")
    allow(seconds)
    return seconds


def with_data(input: Sequence[str] | None, data: Sequence[str] | None) -> tuple[str, ...]:
    """What ``--input`` and ``--data`` name together, as ``--input`` writes it: ``mask=@m.npy``.

    >>> with_data(["3x8x8"], ["mask=m.npy", "x.pt"])
    ('3x8x8', 'mask=@m.npy', '@x.pt')
    """
    named = (re.fullmatch(r"(?a:([A-Za-z_]\w*)=)?(.*)", text, re.DOTALL) for text in data or ())
    return (*(input or ()), *(f"{match[1]}=@{match[2]}" if match[1] else f"@{match[2]}" for match in named if match))


def complete_target(incomplete: str) -> list[str]:
    """Offer specs, saved reports, folders, the models in Python files, and the names in model zoos."""
    import os

    path, colon, start = incomplete.rpartition(":")
    if colon and path.endswith(".py"):
        return [f"{path}:{name}" for name in _models_in(path) if name.startswith(start)]
    folder, start = os.path.split(incomplete)
    found = _in_zoos(incomplete)
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return found
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith(start) and not (name.startswith(".") and not start):
            if os.path.isdir(path):
                found.append(f"{path}/")
            elif name.endswith((".yaml", ".yml", ".json")):
                found.append(path)
            elif name.endswith(".py"):
                found.append(f"{path}:")
    return found


def _in_zoos(incomplete: str) -> list[str]:
    """The zoos, and the names in one once it is written; from the list that ships, not from the zoo."""
    from convstat.targets import zoo

    found = []
    for name in zoo.ZOOS:
        if incomplete.startswith(f"{name}/"):
            found += [full for model in zoo.names(name) if (full := f"{name}/{model}").startswith(incomplete)]
        elif f"{name}/".startswith(incomplete):
            found.append(f"{name}/")
    return found


LARGEST_MODULE = 2_000_000
"""The bytes of a Python file up to which its models are offered."""


def _models_in(path: str) -> list[str]:
    """The classes and functions of a Python file, which is read and not run."""
    import ast

    from convstat.text.reading import read_file

    try:
        tree = ast.parse(read_file(path, LARGEST_MODULE))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]


def complete_format(incomplete: str) -> list[str]:
    """Offer the formats."""
    from convstat.render.formats.registry import RENDERERS

    return [name for name in RENDERERS if name.startswith(incomplete)]


def complete_words(*words: str) -> Callable[[str], list[str]]:
    """Offer some fixed words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET|KEY=VALUE",
        help="Specs (net.yaml, net.yaml#variant, - for standard input), inline layers ('Conv2d(4, 8, 3)'), "
        "Python models (package.module:build, file.py:Net), zoo models (torchvision/resnet50, timm/NAME), "
        "saved reports (report.json); and overrides of their parameters.",
        show_default=False,
        autocompletion=complete_target,
    ),
]
Sweeps = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET|KEY=VALUES",
        help="What to compare, as for analyze; net.yaml#* is every variant. "
        "Sweeps: groups=1,2,4, c=16..64:16 or input=3x224x224,3x320x320; several give every combination.",
        show_default=False,
        autocompletion=complete_target,
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "-i",
        "--input",
        metavar="SHAPE",
        help="Sizes without the batch: 3x224x224, mask=1x64x64, ids=128:int64. Repeatable.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]PATH",
        help="Inputs with values, for models that decide by them: a .pt, .npz or .npy file. Repeatable.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="[NAME=]FILE",
        help="A YAML, JSON or TOML file with the fields of a Python model's config object; single ones are set with "
        "NAME.FIELD=VALUE.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option("-b", "--batch", metavar="N", help="The batch (default: 1).", rich_help_panel=WHAT),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="auto|cpu|cuda|meta",
        help="Where the other counters run; meta allocates and computes nothing (default: auto).",
        rich_help_panel=WHAT,
        autocompletion=complete_words("auto", "cpu", "cuda", "meta"),
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE",
        help="float32, float16 or bfloat16 (default: float32).",
        rich_help_panel=WHAT,
        autocompletion=complete_words("float32", "float16", "bfloat16"),
    ),
]
COUNTER_NAMES = (
    "default",
    "all",
    "none",
    "ptflops",
    "ptflops-aten",
    "torchsummary",
    "flopcountermode",
    "torchinfo",
    "ultralytics-thop",
    "thop",
    "torchscan",
    "torchstat",
    "fvcore",
    "torchprofile",
    "calflops",
    "deepspeed",
)
"""What ``--counters`` completes to, without asking the table of counters, which takes time to import."""

Counters = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Other counters to run beside convstat: names with commas, default, all or none; "
        "see convstat list counters.",
        rich_help_panel=WHAT,
        autocompletion=complete_words(*COUNTER_NAMES),
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Give the figures, layer by layer, as another counter would count: predicted, it is not run.",
        rich_help_panel=SHOW,
        autocompletion=complete_words("convstat", *COUNTER_NAMES[3:]),
    ),
]
Predict = Annotated[
    bool,
    typer.Option(
        "--predict",
        help="Run no other counter: show what each would say. They need not be installed, and nothing is allocated.",
        rich_help_panel=WHAT,
    ),
]
Timeout = Annotated[
    int | None,
    typer.Option(
        "--timeout",
        "--counter-timeout",
        metavar="SECONDS",
        callback=_allow,
        help="How long a model's code may take, and each of the other counters; 0 is any time (default: 300).",
        rich_help_panel=WHAT,
    ),
]
InProcess = Annotated[
    bool,
    typer.Option(
        "--in-process",
        help="Run the other counters in this process, as for a debugger: one that crashes ends everything.",
        rich_help_panel=WHAT,
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        metavar="eval|train",
        help="eval counts a forward pass, train a forward and a backward pass (default: eval).",
        rich_help_panel=WHAT,
        autocompletion=complete_words("eval", "train"),
    ),
]
Per = Annotated[
    str | None,
    typer.Option(
        metavar="BASIS",
        help="What MACs/pixel divides by: input, output, luma420, samples420, element, block:128+8 (default: input).",
        rich_help_panel=WHAT,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--format",
        metavar="FORMAT",
        help="table, tree, json, csv, markdown and more: see convstat list formats (default: table). "
        "Also CONVSTAT_FORMAT, or format in the settings.",
        rich_help_panel=SHOW,
        autocompletion=complete_format,
    ),
]
Output = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="Also write a file, in the format of its suffix or of FORMAT=PATH; - is standard output. Repeatable.",
        rich_help_panel=SHOW,
        show_default=False,
    ),
]
Depth = Annotated[
    int | None,
    typer.Option("-d", "--depth", metavar="N", help="Fold blocks below N levels.", rich_help_panel=SHOW),
]
Flat = Annotated[bool, typer.Option("--flat", help="List layers without their blocks.", rich_help_panel=SHOW)]
Sort = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Sort layers by params, macs, flops, name or type.",
        rich_help_panel=SHOW,
        autocompletion=complete_words("params", "macs", "flops", "name", "type"),
    ),
]
Top = Annotated[
    int | None,
    typer.Option(metavar="N", help="Show the N largest layers, the others in one row.", rich_help_panel=SHOW),
]
Width = Annotated[
    int | None,
    typer.Option(
        metavar="COLUMNS",
        help="Lay out for this width (default: the terminal's, else COLUMNS, else 120).",
        rich_help_panel=SHOW,
    ),
]
Ascii = Annotated[bool, typer.Option("--ascii", help="Write ASCII only.", rich_help_panel=SHOW)]
Quiet = Annotated[
    int,
    typer.Option(
        "-q",
        "--quiet",
        count=True,
        help="No notes on standard error; -qq: no result either.",
        rich_help_panel=SHOW,
        show_default=False,
    ),
]
Verbose = Annotated[
    int,
    typer.Option(
        "-v",
        "--verbose",
        count=True,
        help="Say what was resolved to what; -vv: a traceback if convstat itself fails.",
        rich_help_panel=SHOW,
        show_default=False,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="REV|TARGET",
        help="What to compare with: a git revision (its merge-base with HEAD), a saved report, or another model. "
        "Also CONVSTAT_BASE, or base in the settings.",
        rich_help_panel="Base",
    ),
]
StrictAnalyze = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit with 1 if a counter is not reconciled: a difference is not explained, or there is no answer and "
        "that was not predicted (failed, skipped, not installed); with 4 if incomplete.",
    ),
]
StrictCompare = Annotated[bool, typer.Option("--strict", help="Exit with 2 if a point cannot be built.")]
StrictCheck = Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings too.")]
