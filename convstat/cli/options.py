"""The options that several commands share, each written once; a command names those that it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial, wraps
from inspect import Parameter, signature
from typing import Annotated, Any, get_type_hints

import typer

SIZES = ("tokens", "prefill", "decode", "image", "audio")
"""The options that name an input by what it is: those of ``convstat.grammar.sizes``."""

LANGUAGE = " ".join((*SIZES, "task", "attn"))
"""The options of models that are made from a config of transformers."""

WHAT = "Input and run"
SHOW = "Output"

EXIT_CODES = (
    "Exit codes: 0 success · 1 a budget is exceeded, nothing matches, or with --strict a counter is not reconciled · "
    "2 invalid arguments, spec or settings · 3 internal error · 4 incomplete: no verdict · 130 interrupted"
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


def complete_task(incomplete: str) -> list[str]:
    """Offer the tasks of transformers' classes."""
    return [name for name in TASKS if name.startswith(incomplete)]


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
        "Python models (package.module:build, file.py:Net), zoo models (torchvision/resnet50, timm/NAME, "
        "transformers/TYPE), configs of transformers or diffusers (config.json, or a folder), "
        "saved reports (report.json); and parameter overrides.",
        show_default=False,
        autocompletion=complete_target,
    ),
]
TASKS = (
    "base",
    "causal-lm",
    "masked-lm",
    "seq2seq-lm",
    "speech-seq2seq",
    "image-text-to-text",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "image-classification",
    "object-detection",
    "semantic-segmentation",
    "audio-classification",
    "ctc",
)
"""What ``--task`` completes to, without asking transformers, which takes time to import."""

COUNTER_NAMES = (
    "default",
    "all",
    "conventions",
    "llm",
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
    "sadl",
    "ntire",
    "xla",
    "tflite",
    "stm32",
    "paddle",
    "mmengine",
    "ultralytics",
    "onnx-tool",
    "onnxsim",
    "qonnx",
    "palm",
    "nanogpt",
    "megatron",
    "torchtitan",
    "trl",
    "litgpt",
    "maxtext",
    "hf-trainer",
    "cookbook",
    "vllm",
    "6nd",
)
"""What ``--counters`` completes to, without asking the table of counters, which takes time to import."""


def _option(panel: str, *names: str, words: Sequence[str] = (), **more: Any) -> Any:
    """Describe an option; ``words`` are what it completes to."""
    if words:
        more["autocompletion"] = complete_words(*words)
    return typer.Option(*names, rich_help_panel=panel, show_default=False, **more)


_run, _show = partial(_option, WHAT), partial(_option, SHOW)


@dataclass(frozen=True)
class Shared:
    """What was given of the shared options; one that a command does not take is as if it was not given."""

    input: Annotated[
        list[str] | None,
        _run(
            "-i",
            "--input",
            metavar="SHAPE",
            help="Sizes without the batch: 3x224x224, mask=1x64x64, ids=128:int64. Repeatable.",
        ),
    ] = None
    data: Annotated[
        list[str] | None,
        _run(
            metavar="[NAME=]PATH",
            help="Input values, for models whose operations depend on them: a .pt, .npz or .npy file. Repeatable.",
        ),
    ] = None
    config: Annotated[
        str | None,
        _run(
            metavar="[NAME=]FILE",
            help="A YAML, JSON or TOML file with the fields of a Python model's config object; NAME.FIELD=VALUE sets "
            "a single field.",
        ),
    ] = None
    tokens: Annotated[
        str | None,
        _run(metavar="N", help="Number of tokens, for language models; of a model with two sides, of both."),
    ] = None
    prefill: Annotated[
        str | None,
        _run(metavar="N", help="As --tokens, for the first pass of generation: only the last token gets logits."),
    ] = None
    decode: Annotated[
        str | None,
        _run(metavar="N@LENGTH", help="A step of generation: N new tokens, with a cache of so many before them."),
    ] = None
    image: Annotated[
        str | None,
        _run(metavar="HEIGHTxWIDTH", help="Size of the picture (default: that of a transformers model's config)."),
    ] = None
    audio: Annotated[
        str | None, _run(metavar="SECONDS|SAMPLES", help="Length of the sound: 30s, or 480000 samples.")
    ] = None
    task: Annotated[
        str | None,
        _run(
            metavar="TASK",
            help="Which class of a model type is built, such as causal-lm or base (transformers only).",
            autocompletion=complete_task,
        ),
    ] = None
    attn: Annotated[
        str | None,
        _run(metavar="eager|sdpa", help="How attention is computed (transformers only).", words=("eager", "sdpa")),
    ] = None
    batch: Annotated[int | None, _run("-b", "--batch", metavar="N", help="The batch size (default: 1).")] = None
    device: Annotated[
        str | None,
        _run(
            metavar="auto|cpu|cuda|meta",
            help="Where the other counters run; meta allocates and computes nothing (default: auto).",
            words=("auto", "cpu", "cuda", "meta"),
        ),
    ] = None
    dtype: Annotated[
        str | None,
        _run(
            metavar="DTYPE",
            help="float32, float16 or bfloat16 (default: float32).",
            words=("float32", "float16", "bfloat16"),
        ),
    ] = None
    weights: Annotated[
        str | None,
        _run(
            metavar="WIDTH",
            help="Width of stored weights: int16, int8 (biases: int32), int4; int8+int16 sets that of the biases "
            "(default: that of --dtype).",
            words=("int16", "int8", "int4"),
        ),
    ] = None
    activations: Annotated[
        str | None,
        _run(
            metavar="WIDTH",
            help="Width of activations: int8; recorded, and used by conventions that depend on it.",
            words=("int16", "int8", "int4"),
        ),
    ] = None
    fuse: Annotated[
        bool,
        _run(
            "--fuse",
            help="Count the deployed form: batch norms folded into the layers before them, parallel branches merged, "
            "reparameterisation methods of the model called.",
        ),
    ] = False
    memory: Annotated[
        bool,
        _run(
            "--memory",
            help="Also find the peak memory of inference, and of a step of training with AdamW: see convstat docs "
            "memory.",
        ),
    ] = False
    language: Annotated[
        bool,
        _run(
            "--language",
            help="Also find the figures of a language model that take further runs: training FLOPs per token, the KV "
            "cache, and how MACs grow with the length; see convstat docs language-models.",
        ),
    ] = False
    checkpoint: Annotated[
        list[str] | None,
        _run(
            metavar="MODULE",
            help="With --language, checkpoint a module, or all that match a pattern: 'layers.*'; their forward pass is "
            "then counted again in training. Repeatable.",
        ),
    ] = None
    receptive_field: Annotated[
        bool,
        _run(
            "--receptive-field",
            help="Add columns: the receptive field of each layer in the first input, its jump, and the halo that exact "
            "processing by blocks needs.",
        ),
    ] = False
    counters: Annotated[
        str | None,
        _run(
            metavar="NAMES",
            help="Other counters to run: comma-separated names, default, all, conventions (predicted only), llm "
            "(formulas for language models) or none; "
            "see convstat list counters.",
            words=COUNTER_NAMES,
        ),
    ] = None
    as_: Annotated[
        str | None,
        _show(
            "--as",
            metavar="NAME",
            help="Report totals and layers in the convention of another counter (predicted, not run).",
            words=("convstat", *COUNTER_NAMES[5:]),
        ),
    ] = None
    predict: Annotated[
        bool,
        _run(
            "--predict",
            help="Predict what each counter reports instead of running it. Counters need not be installed, and "
            "nothing is allocated.",
        ),
    ] = False
    timeout: Annotated[
        int | None,
        _run(
            "--timeout",
            "--counter-timeout",
            metavar="SECONDS",
            callback=_allow,
            help="Time limit for the model's code and for each counter; 0 disables it (default: 300).",
        ),
    ] = None
    in_process: Annotated[
        bool,
        _run(
            "--in-process",
            help="Run the other counters in this process, for debugging; a counter that crashes then ends convstat.",
        ),
    ] = False
    mode: Annotated[
        str | None,
        _run(
            metavar="eval|train",
            help="eval counts a forward pass, train also the backward pass (default: eval).",
            words=("eval", "train"),
        ),
    ] = None
    per: Annotated[
        str | None,
        _run(
            metavar="BASIS",
            help="Divisor of MACs/pixel: input, output, luma420, samples420, element, block:128+8, or block:{B}+8 with "
            "the value of a variable (default: what the spec says, else input).",
        ),
    ] = None
    picture: Annotated[
        str | None,
        _run(
            metavar="WIDTHxHEIGHT",
            help="Count a picture: block by block if --per or the spec says block:B+E, else as a whole.",
        ),
    ] = None
    edges: Annotated[
        str | None,
        _run(
            metavar="pad|clip",
            help="What blocks at the edges of the picture read: their whole border, padded, or what is inside "
            "(default: pad).",
            words=("pad", "clip"),
        ),
    ] = None
    worst_case: Annotated[
        list[str] | None,
        _run(
            metavar="SIZES",
            help="Block sizes, 8,16x32,64+8 (height first): the one that costs most per pixel is counted.",
        ),
    ] = None
    base: Annotated[
        str | None,
        typer.Option(
            metavar="REV|TARGET",
            help="Base of the comparison: a git revision (its merge-base with HEAD), a saved report, or another "
            "model. Also CONVSTAT_BASE, or base in the settings.",
            rich_help_panel="Base",
        ),
    ] = None
    format: Annotated[
        str | None,
        _show(
            "-f",
            "--format",
            metavar="FORMAT",
            help="table, tree, json, csv, markdown and more: see convstat list formats (default: table). "
            "Also CONVSTAT_FORMAT, or format in the settings.",
            autocompletion=complete_format,
        ),
    ] = None
    output: Annotated[
        list[str] | None,
        _show(
            "-o",
            "--output",
            metavar="PATH",
            help="Also write a file, in the format of its suffix, or FORMAT=PATH; - is standard output. Repeatable.",
        ),
    ] = None
    columns: Annotated[
        str | None,
        _show(
            metavar="NAMES",
            help="Columns of tables, in this order: layer,output,params,MACs; the name of a row is always shown.",
        ),
    ] = None
    units: Annotated[
        str | None,
        _show(
            metavar="auto|k|M|G|T",
            help="Write counts to four digits in this unit, 278.3 M (latex only).",
            words=("auto", "k", "M", "G", "T"),
        ),
    ] = None
    label: Annotated[
        list[str] | None,
        _show(metavar="NAME=LATEX", help="What a row is called in a paper (latex only). Repeatable."),
    ] = None
    score: Annotated[
        str | None,
        _show(
            metavar="WEIGHTS",
            help="Weights of the year's NTIRE score, for -f ntire (default: runtime=0.7,flops=0.15,params=0.15, as in "
            "2024 and 2025).",
        ),
    ] = None
    depth: Annotated[int | None, _show("-d", "--depth", metavar="N", help="Fold blocks below N levels.")] = None
    flat: Annotated[bool, _show("--flat", help="List layers without their blocks.")] = False
    sort: Annotated[
        str | None,
        _show(
            metavar="KEY",
            help="Sort layers by params, macs, flops, name or type.",
            words=("params", "macs", "flops", "name", "type"),
        ),
    ] = None
    top: Annotated[int | None, _show(metavar="N", help="Show the N largest layers, and the others in one row.")] = None
    quiet: Annotated[
        int, _show("-q", "--quiet", count=True, help="Suppress notes on standard error; -qq: suppress the result too.")
    ] = 0
    verbose: Annotated[
        int,
        _show(
            "-v",
            "--verbose",
            count=True,
            help="Show how arguments are resolved; -vv: show a traceback on internal errors.",
        ),
    ] = 0
    width: Annotated[
        int | None,
        _show(metavar="COLUMNS", help="Width of the output (default: the terminal, else COLUMNS, else 120)."),
    ] = None
    ascii: Annotated[bool, _show("--ascii", help="Write ASCII only.")] = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """What ``--input``, ``--data`` and ``--tokens`` and its like name, as ``--input`` writes it: ``mask=@m.npy``.

        >>> Shared(input=["3x8x8"], data=["mask=m.npy", "x.pt"], decode="1@64").inputs
        ('3x8x8', 'mask=@m.npy', '@x.pt', 'decode 1@64')
        """
        named = (re.fullmatch(r"(?a:([A-Za-z_]\w*)=)?(.*)", text, re.DOTALL) for text in self.data or ())
        data = (f"{match[1]}=@{match[2]}" if match[1] else f"@{match[2]}" for match in named if match)
        sized = (f"{name} {text}" for name in SIZES if (text := getattr(self, name)) is not None)
        return (*(self.input or ()), *data, *sized)


Command = Callable[..., int]


def takes(names: str) -> Callable[[Command], Command]:
    """Let a command take some of the shared options, which reach it as ``given``; the names are parted by blanks."""

    def decorate(command: Command) -> Command:
        own, hints = signature(command, eval_str=True), _annotations()
        taken = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=getattr(Shared, name), annotation=hints[name])
            for name in names.split()
        ]
        parameters = [
            parameter
            for known in own.parameters.values()
            for parameter in (taken if known.name == "given" else [known])
        ]

        @wraps(command)
        def call(**values: Any) -> int:
            given = Shared(**{name: values.pop(name) for name in names.split()})
            return command(**values, given=given)

        # What Typer reads.
        call.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate


@cache
def _annotations() -> dict[str, Any]:
    return get_type_hints(Shared, include_extras=True)
