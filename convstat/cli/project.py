"""``convstat schema``, ``convstat init`` and ``convstat docs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import convstat
from convstat.cli import options as o
from convstat.errors import ExitCode
from convstat.targets.examples import STARTERS

SCHEMAS = ("spec", "report", "config")


def _complete_examples(incomplete: str) -> list[str]:
    from convstat.targets import examples

    return [name for name in examples.files() if name.startswith(incomplete)]


def init(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="The file to write (default: net.yaml, or NAME.yaml with --from NAME); - is standard output.",
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            "-t",
            metavar="|".join(STARTERS),
            help="plain (the default): a chain. residual: blocks with shortcuts."
            " mobile: depthwise separable and inverted residual.",
            autocompletion=o.complete_words(*STARTERS),
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="Copy an example instead, such as resnet50; see convstat list configs.",
            autocompletion=_complete_examples,
        ),
    ] = None,
) -> int:
    """Write a starter spec.

    Existing files are not overwritten.
    """
    from convstat.cli.run import show_problems
    from convstat.errors import Diagnostic, OutputError, UsageError
    from convstat.render.console import standard_output
    from convstat.render.formats.expansion import scalar
    from convstat.text.writing import create

    if template is not None and example is not None:
        raise UsageError("--template and --from cannot be combined", help="give one of them")
    text, usual = _text(template, example)
    path = usual if path is None else path
    if path == "-":
        standard_output().write(text)
        return ExitCode.OK
    if not path.endswith((".yaml", ".yml")):
        raise OutputError(f"'{path}' does not end in .yaml", help=f"convstat init {path}.yaml")
    if example is None:
        text = text.replace("name: net\n", f"name: {scalar(Path(path).stem)}\n").replace("net.yaml", Path(path).name)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        create(path, text)
    except FileExistsError:
        raise OutputError(f"'{path}' already exists; it is not overwritten", help="name another file") from None
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror}") from None
    show_problems([Diagnostic(f"{path} is written", severity="note", help=(f"convstat analyze {path}",))])
    return ExitCode.OK


def _text(template: str | None, example: str | None) -> tuple[str, str]:
    """What to write, and the file that it goes to where none is named."""
    from convstat.errors import UsageError, did_you_mean
    from convstat.targets import examples

    if example is not None:
        known = examples.files()
        name = example.removeprefix("configs/").removesuffix(".yaml")
        if name not in known:
            raise UsageError(
                f"unknown example '{example}'", help=(*did_you_mean(name, known), "see: convstat list configs")
            )
        return examples.example(name), f"{name}.yaml"
    template = STARTERS[0] if template is None else template
    if template not in STARTERS:
        raise UsageError(
            f"unknown template '{template}'",
            help=(*did_you_mean(template, STARTERS), f"templates: {', '.join(STARTERS)}"),
        )
    return examples.starter(template), "net.yaml"


def schema(
    what: Annotated[
        str,
        typer.Argument(
            metavar="|".join(SCHEMAS),
            help="spec: YAML specs, for editors. report: the output of -f json. config: the settings.",
            show_default=False,
            autocompletion=o.complete_words(*SCHEMAS),
        ),
    ],
) -> int:
    """Print a JSON Schema."""
    from convstat.errors import UsageError, did_you_mean
    from convstat.render.console import standard_output
    from convstat.render.formats.json import to_json

    if what == "report":
        from convstat.results.documents.schema import report_schema

        document = report_schema()
    elif what == "spec":
        from convstat.spec.schema import spec_schema

        document = spec_schema()
    elif what == "config":
        from convstat.config.schema import config_schema

        document = config_schema()
    else:
        raise UsageError(
            f"unknown schema '{what}'", help=(*did_you_mean(what, SCHEMAS), f"schemas: {', '.join(SCHEMAS)}")
        )
    standard_output().write(to_json(document))
    return ExitCode.OK


def topics() -> dict[str, Path]:
    """The pages of the documentation, by topic."""
    folder = Path(convstat.__file__).parent / "docs"
    return {path.stem: path for path in sorted(folder.glob("*.md"))}


ABOUT = {
    "budgets": "limits on the cost of a model: grammar, bases and settings",
    "language-models": "configs of transformers and diffusers; tokens, caches, training, whose FLOPs, utilisation",
    "memory": "the peak memory of inference and training, and what fits",
    "ci": "convstat check in GitHub, GitLab, pre-commit and pytest",
    "architecture": "the structure of the package, and the path from input to table",
    "cli": "the commands, targets, sweeps, streams and exit codes",
    "closed-forms": "params and MACs in letters, ratios of layers, and conditions",
    "contributing": "how to add a layer kind, a format or a counter",
    "counters": "other counters, what each counts, and why they differ",
    "deployment": "integer weights and fused layers: what a device stores and runs",
    "formats": "output formats of -f and -o, from JSON to plots",
    "how-it-counts": "formulas, terms, pixels, and what is not a MAC",
    "pixels": "MACs/pixel: divisors, blocks with a border, pictures",
    "python": "Python models, model zoos, and the Python API",
    "rules": "rules for custom operators and functions",
    "spec": "the grammar of a spec",
}
"""What each page is about."""


def complete_topic(incomplete: str) -> list[str]:
    """Offer the topics."""
    return [topic for topic in topics() if topic.startswith(incomplete)]


@o.takes("width")
def docs(
    topic: Annotated[
        str | None,
        typer.Argument(metavar="[TOPIC]", help="The topic (default: list the topics).", autocompletion=complete_topic),
    ] = None,
    *,
    given: o.Shared,
) -> int:
    """Show a page of the documentation.

    Formatted on a terminal, otherwise as Markdown.
    """
    from convstat.errors import UsageError, did_you_mean
    from convstat.render.console import standard_output

    pages = topics()
    terminal = standard_output(width=given.width)
    if topic is None:
        widest = max(map(len, pages))
        terminal.write("".join(f"{name:<{widest}}  {ABOUT.get(name, '')}\n" for name in pages))
        return ExitCode.OK
    if topic not in pages:
        raise UsageError(f"unknown topic '{topic}'", help=(*did_you_mean(topic, pages), f"topics: {', '.join(pages)}"))
    terminal.write_markdown(pages[topic].read_text(encoding="utf-8"))
    return ExitCode.OK
